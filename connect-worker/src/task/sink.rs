//! A sink task: fetch, convert, transform, put in batches; offsets follow what the sink confirms.

mod convert;
mod positions;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aqueduct_client::{
    ConsumerEvent, ConsumerRecord, GroupConsumer, Subscription, TopicPartition as RawPartition,
};
use aqueduct_connect_api::{
    Error as PluginError, Plugin, Result as PluginResult, SinkRecord, SinkTask, SinkTaskContext,
    TopicPartition,
};
use aqueduct_protocol::ids::Offset;
use bytestring::ByteString;

use self::convert::RecentRaw;
use self::positions::Positions;
use super::conversion::Conversion;
use super::dead_letters::DeadLetters;
use super::errors::{ErrorPolicy, Failure, Stage};
use super::progress::{Activity, PartitionLag};
use super::runner::TaskStart;
use super::sink_context::Context;
use crate::config::ClientKind;
use crate::ids::{RunState, TargetState};
use crate::metrics::{TaskPlugins, count};

/// Longest wait for records; a task gets an empty put at least this often.
const MAX_WAIT: Duration = Duration::from_secs(1);
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(10);

pub(super) struct SinkRunner {
    start: TaskStart,
    plugin: &'static Plugin,
    task: Box<dyn SinkTask>,
    context: Arc<Context>,
    convert: Conversion,
    errors: ErrorPolicy,
    dead_letters: Option<DeadLetters>,
    recent: RecentRaw,
    consumer: GroupConsumer,
    positions: Positions,
    /// Converted records that the task has not taken yet.
    batch: Vec<SinkRecord>,
    /// How long to wait before the batch is put again; `None` while the last put succeeded.
    backoff: Option<Duration>,
    retry_at: Instant,
    last_commit: Instant,
    paused: bool,
    lag_told: Option<Instant>,
    known_topics: Vec<ByteString>,
}

fn raw(partition: &TopicPartition) -> RawPartition {
    RawPartition::new(partition.topic.clone(), partition.partition)
}

fn ours(partition: &RawPartition) -> TopicPartition {
    TopicPartition { topic: partition.topic.clone(), partition: partition.partition.0 }
}

impl SinkRunner {
    pub async fn open(
        start: TaskStart,
        plugin: &'static Plugin,
        task: Box<dyn SinkTask>,
    ) -> PluginResult<Self> {
        let settings = start.connector_settings(plugin)?;
        start.metrics.note_plugins(TaskPlugins::read(plugin, start.task_class(), &settings));
        let errors = settings.errors();
        let config = start.client_config(ClientKind::SinkConsumer)?;
        let consumer =
            GroupConsumer::new(aqueduct_client::Client::new(config), subscription(settings.config())?)
                .map_err(|e| PluginError::connect(format!("task {}: no consumer", start.id)).caused_by(e))?;
        let dead_letters =
            DeadLetters::open(&start.id, &errors, || start.client_config(ClientKind::DeadLetterProducer))
                .await?;
        Ok(Self {
            convert: Conversion::new(&settings)?,
            context: Arc::new(Context::new(&errors)),
            errors: ErrorPolicy::new(start.id.clone(), errors),
            recent: RecentRaw::new(dead_letters.is_some()),
            dead_letters,
            consumer,
            positions: Positions::new(),
            batch: Vec::new(),
            backoff: None,
            retry_at: Instant::now(),
            last_commit: Instant::now(),
            paused: false,
            lag_told: None,
            known_topics: Vec::new(),
            plugin,
            task,
            start,
        })
    }

    pub async fn run(mut self) -> PluginResult<()> {
        let mut result = self.work().await;
        // Also after a failure: what the sink has confirmed need not come again.
        let closed = self.give_up(self.positions.partitions()).await;
        match (&result, closed) {
            (Ok(()), closed) => result = closed,
            (Err(_), Err(error)) => {
                tracing::debug!(task = %self.start.id, %error, "closing the failed task failed, too");
            }
            (Err(_), Ok(())) => {}
        }
        self.task.stop().await;
        if let Some(dead_letters) = self.dead_letters.take() {
            dead_letters.close().await;
        }
        if let Err(error) = self.consumer.close().await {
            tracing::debug!(task = %self.start.id, %error, "leaving the group failed");
        }
        result
    }

    async fn work(&mut self) -> PluginResult<()> {
        let stop = self.start.stop.clone();
        let context = SinkTaskContext {
            connector: self.start.id.connector.clone(),
            task: self.start.id.task,
            shutdown: stop.clone(),
            sink: self.context.clone(),
            notice: self.start.metrics.notice.clone(),
        };
        let config = (self.plugin.config)().parse(&self.start.settings)?;
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            started = self.task.start(context, &config) => started?,
        }
        self.paused = *self.start.target.borrow_and_update() != TargetState::Started;
        self.report_state().await;
        while !stop.is_cancelled() {
            self.follow_target().await;
            self.follow_pauses();
            if self.context.take_commit() || self.last_commit.elapsed() >= self.commit_interval() {
                self.commit(self.positions.partitions(), false).await?;
            }
            let context = self.context.clone();
            let wait = self.wait();
            self.tell_waiting();
            let event = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = self.start.target.changed() => continue,
                () = context.asked() => continue,
                event = self.consumer.poll(wait) => event,
            };
            match event {
                Ok(event) => self.on_event(event).await?,
                Err(error) => self.on_poll_error(error).await?,
            }
        }
        Ok(())
    }

    /// Says that the task waits, and how far it has got.
    fn tell_waiting(&mut self) {
        const BETWEEN: Duration = Duration::from_secs(1);
        let activity = match (self.paused, self.backoff) {
            (true, _) => Activity::Paused,
            (false, Some(_)) => Activity::BackingOff,
            (false, None) => Activity::WaitingForRecords,
        };
        let told = Instant::now();
        let lag = (self.lag_told.is_none_or(|last| told.duration_since(last) >= BETWEEN)).then(|| self.lag());
        if lag.is_some() {
            self.lag_told = Some(told);
        }
        self.start.metrics.progress(|progress, now| {
            if let Some(lag) = lag {
                progress.note_lag(now, lag);
            }
            progress.enter(now, activity);
        });
    }

    fn lag(&self) -> Vec<PartitionLag> {
        let lag = |partition: TopicPartition| {
            let read = raw(&partition);
            let position = self.consumer.position(&read)?.0;
            Some(PartitionLag { position, end: self.consumer.end(&read).map(|end| end.0), partition })
        };
        self.positions.partitions().into_iter().filter_map(lag).collect()
    }

    fn commit_interval(&self) -> Duration {
        self.start.environment.config.offset_flush_interval()
    }

    fn wait(&self) -> Duration {
        let until_commit = self.commit_interval().saturating_sub(self.last_commit.elapsed());
        let until_retry = match self.backoff {
            Some(_) => self.retry_at.saturating_duration_since(Instant::now()),
            None => MAX_WAIT,
        };
        MAX_WAIT.min(until_commit).min(until_retry).max(Duration::from_millis(1))
    }

    async fn report_state(&mut self) {
        let state = if self.paused { RunState::Paused } else { RunState::Running };
        self.start.report(state, self.plugin).await;
    }

    async fn follow_target(&mut self) {
        let paused = *self.start.target.borrow_and_update() != TargetState::Started;
        if paused != self.paused {
            self.paused = paused;
            self.apply_pauses();
            self.report_state().await;
        }
    }

    fn follow_pauses(&mut self) {
        if self.context.take_pauses().is_some() {
            self.apply_pauses();
        }
    }

    /// Tells the consumer what to hold back: everything while the task is paused or a batch waits, else what the task asked.
    fn apply_pauses(&mut self) {
        let all: Vec<RawPartition> = self.positions.partitions().iter().map(raw).collect();
        if self.paused || self.backoff.is_some() {
            self.consumer.pause(&all);
            return;
        }
        self.consumer.resume(&all);
        let held: Vec<RawPartition> = self.context.paused().iter().map(raw).collect();
        self.consumer.pause(&held);
    }

    async fn on_event(&mut self, event: ConsumerEvent) -> PluginResult<()> {
        match event {
            ConsumerEvent::Records(records) => {
                self.take(records).await?;
                self.put().await
            }
            ConsumerEvent::Idle if self.paused => Ok(()),
            ConsumerEvent::Idle if self.backoff.is_some() && Instant::now() < self.retry_at => Ok(()),
            ConsumerEvent::Idle => self.put().await,
            ConsumerEvent::Assigned(partitions) => self.open_partitions(partitions).await,
            ConsumerEvent::Revoked(partitions) => self.give_up(partitions.iter().map(ours).collect()).await,
            ConsumerEvent::Lost(partitions) => {
                tracing::warn!(task = %self.start.id, count = partitions.len(), "partitions were lost without notice");
                self.close(&partitions.iter().map(ours).collect::<Vec<_>>()).await
            }
        }
    }

    async fn on_poll_error(&mut self, error: aqueduct_client::Error) -> PluginResult<()> {
        use aqueduct_client::Error as E;
        match error {
            E::NoOffset { .. } | E::OffsetOutOfRange { .. } | E::BadBatch { .. } | E::Closed(_) => {
                Err(PluginError::connect(format!("task {}: reading failed", self.start.id)).caused_by(error))
            }
            refused if refused.is_refused() => {
                Err(PluginError::connect(format!("task {}: the cluster does not let it read", self.start.id))
                    .caused_by(refused))
            }
            other => {
                tracing::warn!(task = %self.start.id, error = %other, "reading failed, trying again");
                tokio::select! {
                    () = self.start.stop.cancelled() => {}
                    () = tokio::time::sleep(MAX_WAIT) => {}
                }
                Ok(())
            }
        }
    }

    async fn open_partitions(&mut self, partitions: Vec<RawPartition>) -> PluginResult<()> {
        let opened: Vec<TopicPartition> = partitions.iter().map(ours).collect();
        for (partition, raw) in opened.iter().zip(&partitions) {
            self.positions.open(partition.clone(), self.consumer.position(raw).map(|o| o.0));
        }
        self.apply_pauses();
        self.task.open(&opened).await
    }

    /// Converts records; those that cannot be are handled as the settings say.
    async fn take(&mut self, records: Vec<ConsumerRecord>) -> PluginResult<()> {
        count(&self.start.metrics.records_in, records.len());
        self.start.doing(Activity::Converting(records.len()));
        let same = |a: &ConsumerRecord, b: &ConsumerRecord| a.partition == b.partition && a.topic == b.topic;
        for run in records.chunk_by(same) {
            let (first, last) = (&run[0], &run[run.len() - 1]);
            if !self.known_topics.contains(&first.topic) {
                self.known_topics.push(first.topic.clone());
                self.start.note_topic(&first.topic).await;
            }
            self.positions.read(&first.topic, first.partition.0, first.offset.0, last.offset.0);
        }
        self.batch.reserve(records.len());
        for record in &records {
            let converted = match self.convert.for_sink(record) {
                Err(failure) => self.convert_again(record, failure).await,
                converted => converted,
            };
            match converted {
                Ok(Some(converted)) => self.batch.push(converted),
                Ok(None) => {}
                Err(failure) => self.refuse(record, failure).await?,
            }
        }
        self.recent.keep(records);
        Ok(())
    }

    /// After a failure: tries again where that may help.
    async fn convert_again(
        &mut self,
        record: &ConsumerRecord,
        failure: Failure,
    ) -> Result<Option<SinkRecord>, Failure> {
        let mut retries = self.errors.begin();
        let mut result = Err(failure);
        loop {
            match result {
                Err(failure) if failure.error.is_retriable() && self.errors.retries() => {
                    let Some(delay) = self.errors.next_delay(&mut retries, rand::random()) else {
                        return Err(failure);
                    };
                    self.start.tries_again(&failure.error, delay);
                    tokio::select! {
                        () = self.start.stop.cancelled() => return Err(failure),
                        () = tokio::time::sleep(delay) => {}
                    }
                    self.start.metrics.progress(|progress, now| {
                        progress.enter(now, Activity::Converting(1));
                    });
                    result = self.convert.for_sink(record);
                }
                result => {
                    if retries.any() {
                        self.start.metrics.progress(|progress, _| progress.succeeded());
                    }
                    return result;
                }
            }
        }
    }

    async fn refuse(&mut self, record: &ConsumerRecord, failure: Failure) -> PluginResult<()> {
        let failure = match self.errors.explains() {
            true => self.convert.explained(record, failure),
            false => failure,
        };
        self.start.note_failure(&self.errors, &failure, &convert::Shown(record));
        let failure = self.errors.tolerate(failure, &convert::Shown(record))?;
        if let Some(dead_letters) = &mut self.dead_letters {
            if let Err(error) = dead_letters.send(record, &failure).await {
                count(&self.start.metrics.dead_letter_failures, 1);
                return Err(error);
            }
            count(&self.start.metrics.dead_letters, 1);
        }
        count(&self.start.metrics.records_skipped, 1);
        Ok(())
    }

    /// Gives the batch to the task. A retriable failure keeps it.
    async fn put(&mut self) -> PluginResult<()> {
        self.start.doing(Activity::Putting(self.batch.len()));
        let result = self.task.put(&self.batch).await;
        self.take_reports().await?;
        match result {
            Ok(()) => {
                count(&self.start.metrics.records_out, self.batch.len());
                self.batch.clear();
                self.positions.taken();
                if self.backoff.take().is_some() {
                    self.apply_pauses();
                    self.start.metrics.progress(|progress, _| progress.succeeded());
                }
                Ok(())
            }
            Err(error) if error.is_retriable() => {
                count(&self.start.metrics.retries, 1);
                let delay = self.backoff.map_or(FIRST_BACKOFF, |last| (last * 2).min(MAX_BACKOFF));
                tracing::warn!(task = %self.start.id, %error, ?delay, "the sink cannot take records now, trying again");
                self.start.metrics.progress(|progress, now| {
                    let from = self.batch.first().map_or_else(String::new, |r| {
                        format!("{}-{}@{}: ", r.original_topic, r.original_partition, r.offset)
                    });
                    progress.failed(now, &format!("{from}{error}"), delay);
                });
                self.retry_at = Instant::now() + delay;
                if self.backoff.replace(delay).is_none() {
                    self.apply_pauses();
                }
                Ok(())
            }
            Err(error) => {
                let from = self.batch.first().map_or_else(String::new, |r| {
                    format!(" in a batch from {}-{}@{}", r.original_topic, r.original_partition, r.offset)
                });
                Err(PluginError::connect(format!(
                    "Exiting WorkerSinkTask due to unrecoverable exception: task {}{from}",
                    self.start.id
                ))
                .caused_by(error))
            }
        }
    }

    /// Sends what the task refused to the dead-letter topic.
    async fn take_reports(&mut self) -> PluginResult<()> {
        for reported in self.context.take_reported() {
            let raw = match self.recent.find(&reported.record) {
                Some(raw) => raw,
                None => self.convert.back(&reported.record)?,
            };
            self.refuse(&raw, Failure::new(Stage::TaskPut, self.plugin.class, reported.error)).await?;
        }
        Ok(())
    }

    /// Commits what the sink confirms of these partitions. While closing, failures only cost a second delivery.
    async fn commit(&mut self, partitions: Vec<TopicPartition>, closing: bool) -> PluginResult<()> {
        self.last_commit = Instant::now();
        let taken = self.positions.of(&partitions);
        if taken.is_empty() {
            return Ok(());
        }
        self.start.doing(Activity::Committing);
        let confirmed = self.task.pre_commit(&taken).await;
        self.take_reports().await?;
        let confirmed = match confirmed {
            Ok(confirmed) => confirmed,
            Err(error) => {
                count(&self.start.metrics.commit_failures, 1);
                tracing::warn!(task = %self.start.id, %error, "the sink could not make sure of its records, going back to the last commit");
                if !closing {
                    self.rewind(&partitions);
                }
                return Ok(());
            }
        };
        if let Some(dead_letters) = &mut self.dead_letters {
            dead_letters.settle().await?;
        }
        let offsets: HashMap<RawPartition, _> = self
            .positions
            .to_commit(&partitions, &confirmed)
            .into_iter()
            .map(|(partition, offset)| (raw(&partition), Offset(offset).into()))
            .collect();
        if offsets.is_empty() || self.start.lifeline.is_cut() {
            return Ok(());
        }
        match self.consumer.commit(offsets).await {
            Ok(()) => {
                count(&self.start.metrics.commits, 1);
                self.positions.committed(&confirmed);
            }
            Err(error) => {
                count(&self.start.metrics.commit_failures, 1);
                tracing::warn!(task = %self.start.id, %error, "committing offsets failed, trying again with the next commit");
            }
        }
        Ok(())
    }

    /// Reads again from the last commit.
    fn rewind(&mut self, partitions: &[TopicPartition]) {
        for (partition, offset) in self.positions.rewind(partitions) {
            self.batch.retain(|r| {
                (&r.original_topic, r.original_partition) != (&partition.topic, partition.partition)
            });
            if let Err(error) = self.consumer.seek(&raw(&partition), Offset(offset)) {
                tracing::debug!(task = %self.start.id, %error, "a partition to go back in is not assigned any more");
            }
        }
    }

    /// Commits and closes partitions that are about to be somebody else's.
    async fn give_up(&mut self, partitions: Vec<TopicPartition>) -> PluginResult<()> {
        if partitions.is_empty() {
            return Ok(());
        }
        self.commit(partitions.clone(), true).await?;
        self.close(&partitions).await
    }

    async fn close(&mut self, partitions: &[TopicPartition]) -> PluginResult<()> {
        self.positions.close(partitions);
        self.context.forget(partitions);
        self.batch.retain(|r| {
            !partitions.iter().any(|p| p.topic == r.original_topic && p.partition == r.original_partition)
        });
        if self.batch.is_empty() && self.backoff.take().is_some() {
            self.apply_pauses();
            self.start.metrics.progress(|progress, _| progress.succeeded());
        }
        self.task.close(partitions).await
    }
}

fn subscription(config: &aqueduct_connect_api::Config) -> PluginResult<Subscription> {
    let pattern = config.text("topics.regex");
    if pattern.is_empty() {
        return Ok(Subscription::Topics(config.list("topics").iter().map(|t| t.as_str().into()).collect()));
    }
    regex::Regex::new(&format!("^(?:{pattern})$"))
        .map(Subscription::Pattern)
        .map_err(|e| PluginError::config("topics.regex", pattern, e.to_string()))
}
