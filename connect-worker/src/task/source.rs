//! A source task: poll, transform, convert, produce; offsets follow the acknowledgements, or travel with the records.

mod at_least_once;
mod boundary;
mod exactly_once;

use std::sync::Arc;

use aqueduct_client::{Admin, Header as RawHeader, Producer, ProducerRecord};
use aqueduct_connect_api::{
    Error as PluginError, OffsetMap, Plugin, Record, Result as PluginResult, SchemaAndValue, SourceRecord,
    SourceTask, SourceTaskContext,
};
use aqueduct_protocol::ids::PartitionIndex;
use bytestring::ByteString;

use self::at_least_once::AtLeastOnce;
use self::boundary::{End, Marks};
use self::exactly_once::ExactlyOnce;
use super::conversion::Conversion;
use super::errors::{ErrorPolicy, Failure, Stage};
use super::in_flight::BatchOffsets;
use super::progress::Activity;
use super::runner::TaskStart;
use super::topics::{CreationRules, TopicTracker};
use crate::config::{ClientKind, Tolerance, TransactionBoundary};
use crate::converters::explain::{Part, explain_unwritable};
use crate::ids::{RunState, TargetState};
use crate::metrics::{TaskPlugins, count};
use crate::store::ConnectorOffsets;

pub(super) struct SourceRunner {
    start: TaskStart,
    plugin: &'static Plugin,
    task: Box<dyn SourceTask>,
    convert: Conversion,
    errors: ErrorPolicy,
    topics: TopicTracker,
    outbox: Outbox,
    offsets: ConnectorOffsets,
}

/// How records and offsets get into the cluster.
enum Outbox {
    AtLeastOnce(AtLeastOnce),
    ExactlyOnce(ExactlyOnce),
}

/// What came out of a poll, ready for the cluster, or the part of it up to the end of a transaction.
struct Batch {
    records: Vec<ProducerRecord>,
    offsets: BatchOffsets,
    /// Records of the source; some of them may have been dropped.
    polled: usize,
}

impl Batch {
    fn with_room_for(records: usize) -> Self {
        Self { records: Vec::with_capacity(records), offsets: BatchOffsets::default(), polled: 0 }
    }
}

/// What sending needs to know of its task.
struct Sending<'a> {
    start: &'a TaskStart,
    errors: &'a ErrorPolicy,
}

impl Sending<'_> {
    /// Passes over a record that could not be produced. One of a task that was given up counts as not sent.
    fn skip(&self, error: aqueduct_client::Error) -> PluginResult<()> {
        if matches!(error, aqueduct_client::Error::Closed(_)) {
            return Err(self.produce_error(error));
        }
        self.start.metrics.note_failure(&error.to_string());
        count(&self.start.metrics.records_skipped, 1);
        if self.errors.settings().log {
            tracing::error!(task = %self.start.id, %error, "a record could not be produced and is skipped");
        }
        Ok(())
    }

    fn produce_error(&self, error: aqueduct_client::Error) -> PluginError {
        let id = &self.start.id;
        PluginError::connect(format!(
            "task {id}: a record could not be produced (stage {})",
            Stage::KafkaProduce.name()
        ))
        .caused_by(error)
    }

    /// Judges the failures of a batch, each with how many records it has met.
    fn check(&self, failures: Vec<(aqueduct_client::Error, usize)>) -> PluginResult<()> {
        for (error, records) in failures {
            match self.errors.settings().tolerance {
                Tolerance::All => (0..records).try_for_each(|_| self.skip(error.clone()))?,
                Tolerance::None => return Err(self.produce_error(error)),
            }
        }
        Ok(())
    }
}

impl Outbox {
    /// Where transactions end within the batch that was polled, and after it.
    fn marks(&mut self, polled: usize) -> Marks {
        match self {
            Self::AtLeastOnce(_) => Marks::default(),
            Self::ExactlyOnce(outbox) => outbox.marks(polled),
        }
    }

    /// Sends a batch; `end` says how the transaction ends after it, if it does.
    async fn send(
        &mut self,
        with: &Sending<'_>,
        task: &mut dyn SourceTask,
        batch: Batch,
        end: Option<End>,
    ) -> PluginResult<()> {
        match self {
            Self::AtLeastOnce(outbox) => {
                if batch.polled > 0 {
                    outbox.send(with, batch).await?;
                }
                outbox.after_poll(with, task).await
            }
            Self::ExactlyOnce(outbox) => outbox.send(with, task, batch, end).await,
        }
    }

    /// The task pauses.
    async fn rest(&mut self, with: &Sending<'_>, task: &mut dyn SourceTask) -> PluginResult<()> {
        match self {
            Self::AtLeastOnce(outbox) => outbox.rest(with, task).await,
            Self::ExactlyOnce(outbox) => outbox.rest(with, task).await,
        }
    }

    /// The task ends.
    async fn finish(
        &mut self,
        with: &Sending<'_>,
        task: &mut dyn SourceTask,
        failed: bool,
    ) -> PluginResult<()> {
        match self {
            Self::AtLeastOnce(outbox) => outbox.finish(with, task, failed).await,
            Self::ExactlyOnce(outbox) => outbox.finish(with, task, failed).await,
        }
    }
}

impl Conversion {
    /// From a record of the source to one of a topic; `None` where a transform drops it.
    fn for_topic(&mut self, record: Record) -> Result<Option<ProducerRecord>, Failure> {
        let Some(record) = self.transforms.apply(record)? else { return Ok(None) };
        let topic = &record.topic;
        let mut headers = Vec::with_capacity(record.headers.len());
        for header in &record.headers {
            let value = self
                .headers
                .encode(topic, &header.key, header.value.schema.as_deref(), &header.value.value)
                .map_err(|e| Failure::new(Stage::HeaderConverter, &self.header_class, e))?;
            headers.push(RawHeader { key: header.key.clone(), value });
        }
        let key = self
            .key
            .encode(topic, &record.headers, record.key.schema.as_ref(), &record.key.value)
            .map_err(|e| {
                let why = unwritable(topic, Part::Key, &self.key_class, &record.key);
                Failure::new(Stage::KeyConverter, &self.key_class, e).explained(why)
            })?;
        let value = self
            .value
            .encode(topic, &record.headers, record.value.schema.as_ref(), &record.value.value)
            .map_err(|e| {
                let why = unwritable(topic, Part::Value, &self.value_class, &record.value);
                Failure::new(Stage::ValueConverter, &self.value_class, e).explained(why)
            })?;
        let partition = record.partition.map(PartitionIndex);
        Ok(Some(ProducerRecord {
            topic: record.topic,
            partition,
            key,
            value,
            timestamp: record.timestamp,
            headers,
        }))
    }
}

fn unwritable(topic: &str, part: Part<'_>, converter: &str, data: &SchemaAndValue) -> String {
    explain_unwritable(topic, part, converter, data.schema.as_deref(), &data.value)
}

/// A source record in messages: where it came from, never what is in it.
struct Shown<'a>(&'a OffsetMap, &'a OffsetMap, &'a str);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let json = |map: &OffsetMap| serde_json::to_string(map).unwrap_or_default();
        write!(f, "of source partition {} at {} for topic {}", json(self.0), json(self.1), self.2)
    }
}

impl SourceRunner {
    pub async fn open(
        start: TaskStart,
        plugin: &'static Plugin,
        task: Box<dyn SourceTask>,
    ) -> PluginResult<Self> {
        let settings = start.connector_settings(plugin)?;
        let convert = Conversion::new(&settings)?;
        start.metrics.note_plugins(TaskPlugins::read(plugin, start.task_class(), &settings));
        let exactly_once = start.environment.config.exactly_once_enabled();
        let flush = start.environment.config.offset_flush_interval();
        let boundary = TransactionBoundary::read(settings.config(), flush);
        let producer = Producer::new(start.source_producer(exactly_once.then_some(boundary))?);
        start.lifeline.hold(&producer);
        let rules = match start.environment.config.flag("topic.creation.enable") {
            true => CreationRules::read(&start.connector)?,
            false => None,
        };
        let rules = match rules {
            Some(rules) => Some((rules, Admin::new(start.client(ClientKind::Admin)?))),
            None => None,
        };
        let offsets = start.environment.connector_offsets(&start.id.connector, &start.connector).await?;
        let outbox = if exactly_once {
            Outbox::ExactlyOnce(ExactlyOnce::new(producer, offsets.clone(), boundary))
        } else {
            Outbox::AtLeastOnce(AtLeastOnce::new(producer, offsets.clone()))
        };
        Ok(Self {
            errors: ErrorPolicy::new(start.id.clone(), settings.errors()),
            convert,
            topics: TopicTracker::new(rules),
            outbox,
            offsets,
            plugin,
            task,
            start,
        })
    }

    pub async fn run(mut self) -> PluginResult<()> {
        let result = self.work().await;
        let with = Sending { start: &self.start, errors: &self.errors };
        let finished = self.outbox.finish(&with, &mut *self.task, result.is_err()).await;
        self.task.stop().await;
        result.and(finished)
    }

    async fn work(&mut self) -> PluginResult<()> {
        let stop = self.start.stop.clone();
        self.wait_while_paused().await?;
        let context = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            context = self.context() => context?,
        };
        let config = (self.plugin.config)().parse(&self.start.settings)?;
        self.start.doing(Activity::Starting);
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            started = self.task.start(context, &config) => started?,
        }
        self.start.report(RunState::Running, self.plugin).await;
        let mut poll_retries = self.errors.begin();
        while !stop.is_cancelled() {
            if *self.start.target.borrow() == TargetState::Paused {
                let with = Sending { start: &self.start, errors: &self.errors };
                self.outbox.rest(&with, &mut *self.task).await?;
                self.wait_while_paused().await?;
                if !stop.is_cancelled() {
                    self.start.report(RunState::Running, self.plugin).await;
                }
                continue;
            }
            self.start.doing(Activity::Polling);
            let polled = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                polled = self.task.poll() => polled,
            };
            match polled {
                Ok(records) => {
                    self.start.metrics.progress(|progress, now| progress.polled(now, records.len()));
                    if !records.is_empty() {
                        poll_retries = self.errors.begin();
                    }
                    self.send(records).await?;
                }
                Err(error) if error.is_retriable() => {
                    let Some(delay) = self.errors.next_delay(&mut poll_retries, rand::random()) else {
                        return Err(error);
                    };
                    tracing::warn!(task = %self.start.id, %error, ?delay, "polling the source failed, trying again");
                    self.start.tries_again(&error, delay);
                    tokio::select! {
                        () = stop.cancelled() => break,
                        () = tokio::time::sleep(delay) => {}
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// What the task gets to start with; earlier tasks that could still write are fenced by then.
    async fn context(&mut self) -> PluginResult<SourceTaskContext> {
        let with = Sending { start: &self.start, errors: &self.errors };
        let (offsets, transactions) = match &self.outbox {
            Outbox::AtLeastOnce(_) => (Arc::new(self.offsets.clone()) as _, None),
            Outbox::ExactlyOnce(outbox) => {
                outbox.take_over(&with).await?;
                (outbox.offsets(), outbox.context())
            }
        };
        Ok(SourceTaskContext {
            connector: self.start.id.connector.clone(),
            task: self.start.id.task,
            shutdown: self.start.stop.clone(),
            offsets,
            transactions,
            notice: self.start.metrics.notice.clone(),
        })
    }

    /// Returns when the task is to run, or to stop.
    async fn wait_while_paused(&mut self) -> PluginResult<()> {
        let mut reported = false;
        let stop = self.start.stop.clone();
        while *self.start.target.borrow_and_update() != TargetState::Started && !stop.is_cancelled() {
            if !std::mem::replace(&mut reported, true) {
                self.start.doing(Activity::Paused);
                self.start.report(RunState::Paused, self.plugin).await;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                changed = self.start.target.changed() => {
                    changed.map_err(|_| PluginError::connect("the worker is gone"))?;
                }
            }
        }
        Ok(())
    }

    /// Converts a batch and hands it on.
    async fn send(&mut self, records: Vec<SourceRecord>) -> PluginResult<()> {
        let polled = records.len();
        count(&self.start.metrics.records_in, polled);
        if polled > 0 {
            self.start.doing(Activity::Converting(polled));
        }
        let mut marks = self.outbox.marks(polled);
        let mut batch = Batch::with_room_for(polled);
        let mut last: Option<ByteString> = None;
        for (at, SourceRecord { record, source_partition, source_offset }) in records.into_iter().enumerate()
        {
            let topic = record.topic.clone();
            let spare = self.errors.retries().then(|| record.clone());
            let converted = match self.convert.for_topic(record) {
                Ok(converted) => converted,
                Err(failure) => {
                    let place = Shown(&source_partition, &source_offset, &topic);
                    self.convert_again(Failed { failure, spare, place }).await?
                }
            };
            if let Some(record) = converted {
                // The topic of the record before is almost always the same.
                if last.as_ref() != Some(&record.topic) {
                    if self.topics.meet(&record.topic).await? {
                        self.start.note_topic(&record.topic).await;
                    }
                    last = Some(record.topic.clone());
                }
                batch.records.push(record);
            }
            batch.polled += 1;
            batch.offsets.push(source_partition, source_offset);
            if let Some(end) = marks.records.remove(&at) {
                let part = std::mem::replace(&mut batch, Batch::with_room_for(polled - at - 1));
                let with = Sending { start: &self.start, errors: &self.errors };
                self.outbox.send(&with, &mut *self.task, part, Some(end)).await?;
            }
        }
        let with = Sending { start: &self.start, errors: &self.errors };
        self.outbox.send(&with, &mut *self.task, batch, marks.batch).await
    }

    /// Tries a record again, where that may help, and does with it what the settings say.
    async fn convert_again(&mut self, failed: Failed<'_>) -> PluginResult<Option<ProducerRecord>> {
        let Failed { failure, spare, place } = failed;
        let mut result = Err(failure);
        let mut retries = self.errors.begin();
        while let (Err(failure), Some(record)) = (&result, &spare) {
            if !failure.error.is_retriable() {
                break;
            }
            let Some(delay) = self.errors.next_delay(&mut retries, rand::random()) else { break };
            self.start.tries_again(&failure.error, delay);
            tokio::select! {
                () = self.start.stop.cancelled() => break,
                () = tokio::time::sleep(delay) => {}
            }
            result = self.convert.for_topic(record.clone());
        }
        match result {
            Ok(converted) => Ok(converted),
            Err(failure) => {
                self.start.note_failure(&self.errors, &failure, &place);
                self.errors.tolerate(failure, &place)?;
                count(&self.start.metrics.records_skipped, 1);
                Ok(None)
            }
        }
    }
}

/// A record that could not be converted at once.
struct Failed<'a> {
    failure: Failure,
    /// The record, where it may be tried again.
    spare: Option<Record>,
    place: Shown<'a>,
}
