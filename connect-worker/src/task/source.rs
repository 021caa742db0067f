//! A source task: poll, transform, convert, produce; offsets follow the acknowledgements.

use std::sync::Arc;
use std::time::Instant;

use aqueduct_client::{Admin, Deliveries, Header as RawHeader, Producer, ProducerRecord};
use aqueduct_connect_api::{
    Error as PluginError, OffsetMap, Plugin, Record, Result as PluginResult, SchemaAndValue, SourceRecord,
    SourceTask, SourceTaskContext,
};
use aqueduct_protocol::ids::PartitionIndex;
use futures_util::FutureExt as _;

use super::conversion::Conversion;
use super::errors::{ErrorPolicy, Failure, Stage};
use super::in_flight::{BatchOffsets, InFlight, SourcePosition};
use super::progress::Activity;
use super::runner::TaskStart;
use super::topics::{CreationRules, TopicTracker};
use crate::config::{ClientKind, Tolerance};
use crate::converters::explain::{Part, explain_unwritable};
use crate::ids::{RunState, TargetState};
use crate::metrics::count;
use crate::store::ConnectorOffsets;

/// Batches that may wait for their acknowledgement; the producer's `buffer.memory` bounds the bytes.
const MAX_BATCHES_IN_FLIGHT: usize = 64;

pub(super) struct SourceRunner {
    start: TaskStart,
    plugin: &'static Plugin,
    task: Box<dyn SourceTask>,
    convert: Conversion,
    errors: ErrorPolicy,
    producer: Producer,
    topics: TopicTracker,
    offsets: ConnectorOffsets,
    in_flight: InFlight<Deliveries>,
    last_flush: Instant,
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
        let producer = Producer::new(start.client(ClientKind::SourceProducer)?);
        let rules = match start.environment.config.flag("topic.creation.enable") {
            true => CreationRules::read(&start.connector)?,
            false => None,
        };
        let rules = match rules {
            Some(rules) => Some((rules, Admin::new(start.client(ClientKind::Admin)?))),
            None => None,
        };
        let offsets = start.environment.offsets.for_connector(start.id.connector.clone());
        Ok(Self {
            errors: ErrorPolicy::new(start.id.clone(), settings.errors()),
            convert,
            producer,
            topics: TopicTracker::new(rules),
            offsets,
            in_flight: InFlight::new(),
            last_flush: Instant::now(),
            plugin,
            task,
            start,
        })
    }

    pub async fn run(mut self) -> PluginResult<()> {
        let result = self.work().await;
        // What the cluster has got is not to be read again, however the task ended.
        let limit = self.start.environment.config.offset_flush_timeout();
        let flushed = match &result {
            Ok(()) => self.settle().await,
            Err(_) => tokio::time::timeout(limit, self.settle()).await.unwrap_or(Ok(())),
        };
        self.store_offsets().await;
        self.task.stop().await;
        match result {
            Ok(()) => {
                self.producer.close().await;
                flushed
            }
            failed => failed,
        }
    }

    async fn work(&mut self) -> PluginResult<()> {
        let context = SourceTaskContext {
            connector: self.start.id.connector.clone(),
            task: self.start.id.task,
            shutdown: self.start.stop.clone(),
            offsets: Arc::new(self.offsets.clone()),
        };
        let stop = self.start.stop.clone();
        self.wait_while_paused().await?;
        if stop.is_cancelled() {
            return Ok(());
        }
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
                self.settle().await?;
                self.store_offsets().await;
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
                        self.send(records).await?;
                    }
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
            self.reap()?;
            if self.last_flush.elapsed() >= self.start.environment.config.offset_flush_interval() {
                self.store_offsets().await;
            }
        }
        Ok(())
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

    /// Converts and buffers a batch.
    async fn send(&mut self, records: Vec<SourceRecord>) -> PluginResult<()> {
        count(&self.start.metrics.records_in, records.len());
        let polled = records.len();
        self.start.doing(Activity::Converting(polled));
        let mut offsets = BatchOffsets::default();
        let mut batch: Vec<ProducerRecord> = Vec::with_capacity(records.len());
        for SourceRecord { record, source_partition, source_offset } in records {
            let converted = self.convert(record, &source_partition, &source_offset).await?;
            if let Some(record) = converted {
                // The topic of the record before is almost always the same.
                if batch.last().is_none_or(|last| last.topic != record.topic)
                    && self.topics.meet(&record.topic).await?
                {
                    self.start.note_topic(&record.topic).await;
                }
                batch.push(record);
            }
            offsets.push(source_partition, source_offset);
        }
        if batch.is_empty() {
            self.in_flight.push_empty(offsets);
            return Ok(());
        }
        self.start.doing(Activity::Sending(batch.len()));
        while self.in_flight.len() >= MAX_BATCHES_IN_FLIGHT {
            self.finish_oldest().await?;
        }
        count(&self.start.metrics.records_out, batch.len());
        let spare = (self.errors.settings().tolerance == Tolerance::All).then(|| batch.clone());
        match self.producer.send_all(batch).await {
            Ok(deliveries) => {
                self.in_flight.push(deliveries, offsets);
                self.start.metrics.progress(|progress, now| progress.sent(now, polled));
            }
            Err(error) => match spare {
                Some(batch) => {
                    self.send_one_by_one(batch).await?;
                    self.in_flight.push_empty(offsets);
                }
                None => return Err(self.produce_error(error)),
            },
        }
        Ok(())
    }

    async fn convert(
        &mut self,
        record: Record,
        partition: &OffsetMap,
        offset: &OffsetMap,
    ) -> PluginResult<Option<ProducerRecord>> {
        let topic = record.topic.clone();
        let spare = self.errors.retries().then(|| record.clone());
        let mut result = self.convert.for_topic(record);
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
                self.start.note_failure(&self.errors, &failure, &Shown(partition, offset, &topic));
                self.errors.tolerate(failure, &Shown(partition, offset, &topic))?;
                count(&self.start.metrics.records_skipped, 1);
                Ok(None)
            }
        }
    }

    /// Some record of the batch was refused at once: the others still have to go out.
    async fn send_one_by_one(&mut self, batch: Vec<ProducerRecord>) -> PluginResult<()> {
        let mut deliveries = Vec::with_capacity(batch.len());
        for record in batch {
            match self.producer.send(record).await {
                Ok(delivery) => deliveries.push(delivery),
                Err(error) => self.skip(error),
            }
        }
        for delivery in deliveries {
            if let Err(error) = delivery.await {
                self.skip(error);
            }
        }
        Ok(())
    }

    fn skip(&self, error: aqueduct_client::Error) {
        self.start.metrics.note_failure(&error.to_string());
        count(&self.start.metrics.records_skipped, 1);
        if self.errors.settings().log {
            tracing::error!(task = %self.start.id, %error, "a record could not be produced and is skipped");
        }
    }

    fn produce_error(&self, error: aqueduct_client::Error) -> PluginError {
        let id = &self.start.id;
        PluginError::connect(format!(
            "task {id}: a record could not be produced (stage {})",
            Stage::KafkaProduce.name()
        ))
        .caused_by(error)
    }

    /// Notes what has been acknowledged up to now.
    fn reap(&mut self) -> PluginResult<()> {
        while let Some(deliveries) = self.in_flight.front() {
            let Some(results) = deliveries.now_or_never() else { break };
            self.check(results)?;
            self.in_flight.front_done();
            self.start.metrics.progress(|progress, now| progress.acknowledged(now));
        }
        Ok(())
    }

    async fn finish_oldest(&mut self) -> PluginResult<()> {
        if let Some(deliveries) = self.in_flight.front() {
            let results = deliveries.await;
            self.check(results)?;
            self.in_flight.front_done();
            self.start.metrics.progress(|progress, now| progress.acknowledged(now));
        }
        Ok(())
    }

    /// Waits until everything sent is acknowledged.
    async fn settle(&mut self) -> PluginResult<()> {
        self.start.doing(Activity::Sending(0));
        self.producer.flush().await;
        while self.in_flight.len() > 0 {
            self.finish_oldest().await?;
        }
        Ok(())
    }

    fn check(
        &self,
        results: Vec<aqueduct_client::Result<aqueduct_client::RecordMetadata>>,
    ) -> PluginResult<()> {
        for result in results {
            if let Err(error) = result {
                match self.errors.settings().tolerance {
                    Tolerance::All => self.skip(error),
                    Tolerance::None => return Err(self.produce_error(error)),
                }
            }
        }
        Ok(())
    }

    /// Stores the offsets of what has been acknowledged; a failure is tried again with the next flush.
    async fn store_offsets(&mut self) {
        self.last_flush = Instant::now();
        let done = self.in_flight.take_done();
        if done.is_empty() {
            return;
        }
        let pairs: Vec<(&OffsetMap, Option<&OffsetMap>)> =
            done.iter().map(|(p, o)| (&**p, Some(&**o))).collect();
        let limit = self.start.environment.config.offset_flush_timeout();
        self.start.doing(Activity::Committing);
        let stored = tokio::time::timeout(limit, self.offsets.commit(&pairs)).await;
        match stored {
            Ok(Ok(())) => {
                count(&self.start.metrics.commits, 1);
                self.tell_task(done).await;
            }
            failed => {
                count(&self.start.metrics.commit_failures, 1);
                let why = match failed {
                    Ok(Err(error)) => error.to_string(),
                    _ => "not done within offset.flush.timeout.ms".to_owned(),
                };
                tracing::warn!(task = %self.start.id, why, "storing offsets failed, trying again with the next flush");
                self.in_flight.put_back(done);
            }
        }
    }

    async fn tell_task(&mut self, done: Vec<SourcePosition>) {
        for (partition, offset) in done {
            if let Err(error) = self.task.commit(&partition, &offset).await {
                tracing::warn!(task = %self.start.id, %error, "the source could not note that offsets were stored");
            }
        }
    }
}
