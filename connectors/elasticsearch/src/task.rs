//! The task: batches, requests under way, and confirmed offsets.

use std::sync::Arc;
use std::time::Duration;

use aqueduct_connect_api::{
    Config, Error, Result, SinkRecord, SinkTask, SinkTaskContext, TopicPartition, Value,
};
use async_trait::async_trait;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::answer::ItemError;
use crate::bulk::{Action, Batch, Item, Target};
use crate::client::Client;
use crate::config::{FLUSH_TIMEOUT, ON_MALFORMED, ON_NULL, OnMalformed, OnNull, Settings};
use crate::document;
use crate::id;
use crate::index::Indices;
use crate::request::{self, Outcome};
use crate::tracker::Tracker;

/// A `linger.ms` that is not worth a wait: the next `put` may be a second away.
const SHORT_LINGER: Duration = Duration::from_millis(10);

/// Writes records as documents.
#[derive(Default)]
pub struct ElasticsearchSinkTask {
    running: Option<Running>,
}

struct Running {
    context: SinkTaskContext,
    settings: Arc<Settings>,
    client: Client,
    indices: Indices,
    tracker: Tracker,
    batch: Batch,
    /// When the first operation of the batch came.
    batch_since: Instant,
    requests: JoinSet<Outcome>,
    /// Requests that may be under way at once.
    most_requests: usize,
    /// Whether records may have to be reported later, and are kept until then.
    keeps_records: bool,
}

#[async_trait]
impl SinkTask for ElasticsearchSinkTask {
    async fn start(&mut self, context: SinkTaskContext, config: &Config) -> Result<()> {
        let settings = Arc::new(Settings::read(config)?);
        let client = Client::new(&settings, context.notice.clone())?;
        // Updates carry no version: only one request after the other keeps their order.
        let most_requests = if settings.upsert { 1 } else { settings.max_in_flight };
        self.running = Some(Running {
            keeps_records: context.sink.can_report(),
            context,
            settings,
            client,
            indices: Indices::default(),
            tracker: Tracker::default(),
            batch: Batch::default(),
            batch_since: Instant::now(),
            requests: JoinSet::new(),
            most_requests,
        });
        Ok(())
    }

    async fn open(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        let running = self.running()?;
        partitions.iter().for_each(|p| running.tracker.forget(p));
        Ok(())
    }

    async fn put(&mut self, records: &[SinkRecord]) -> Result<()> {
        let running = self.running()?;
        running.reap()?;
        for record in records {
            running.take(record).await?;
        }
        running.send_what_is_due().await
    }

    async fn pre_commit(&mut self, taken: &[(TopicPartition, i64)]) -> Result<Vec<(TopicPartition, i64)>> {
        let running = self.running()?;
        running.reap()?;
        running.send_batch().await?;
        if running.settings.flush_synchronously {
            running.wait_for_all().await?;
        }
        Ok(taken.iter().map(|(p, next)| (p.clone(), running.tracker.safe(p, *next))).collect())
    }

    async fn close(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        let running = self.running()?;
        // Whoever has the partitions next must not be overtaken by a request of ours.
        running.send_batch().await?;
        running.wait_for_all().await?;
        partitions.iter().for_each(|p| running.tracker.forget(p));
        Ok(())
    }

    async fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.requests.shutdown().await;
        }
    }
}

impl ElasticsearchSinkTask {
    fn running(&mut self) -> Result<&mut Running> {
        self.running
            .as_mut()
            .ok_or_else(|| Error::connect("the Elasticsearch sink task was used before it was started"))
    }
}

impl Running {
    /// Adds a record to the batch, and sends the batch when it is full.
    async fn take(&mut self, record: &SinkRecord) -> Result<()> {
        let partition =
            TopicPartition { topic: record.original_topic.clone(), partition: record.original_partition };
        self.tracker.take(&partition, record.offset);
        match self.add(record, &partition).await {
            Ok(true) => {}
            Ok(false) => self.tracker.done(&partition, record.offset),
            Err(error @ Error::Data { .. }) => {
                self.invalid(record, error)?;
                self.tracker.done(&partition, record.offset);
            }
            Err(error) => return Err(error),
        }
        if self.batch.count() >= self.settings.batch_size || self.batch.size() >= self.settings.bulk_size {
            self.send_batch().await?;
        }
        Ok(())
    }

    /// Says whether there was an operation to add.
    async fn add(&mut self, record: &SinkRecord, partition: &TopicPartition) -> Result<bool> {
        let settings = Arc::clone(&self.settings);
        let topic = &record.record.topic;
        let (key, value) = (&record.record.key.value, &record.record.value);
        let action = match (&value.value, settings.on_null) {
            (Value::Null, OnNull::Ignore) => return Ok(false),
            (Value::Null, OnNull::Fail) => {
                return Err(Error::data(format!(
                    "the record has no value; say with {ON_NULL} whether that means ignore or delete"
                )));
            }
            (Value::Null, OnNull::Delete) if key.is_null() => return Ok(false),
            (Value::Null, OnNull::Delete) => Action::Delete,
            _ if settings.upsert => Action::Update,
            _ => Action::Index,
        };
        if action != Action::Delete && !matches!(value.value, Value::Struct(_) | Value::Map(_)) {
            return Err(Error::data(format!(
                "a value of type {} is no document: it must be a struct or a map; use the JSON converter for JSON text, or \
                 put the value into a field with the transform HoistField$Value",
                value.value.class_name()
            )));
        }
        let uses_key = !settings.ignores_key(topic);
        let id = match (settings.autogenerated_ids && action != Action::Delete, uses_key) {
            (true, _) => None,
            (false, true) => Some(id::of_key(key)?),
            (false, false) => Some(id::of_place(record)),
        };
        let version = match (&settings.version_header, uses_key && id.is_some() && !settings.upsert) {
            (Some(header), true) => Some(id::version_in_header(record, header)?),
            (None, true) => Some(record.offset),
            (_, false) => None,
        };
        let index = self.indices.prepare(&self.client, &settings, record).await?;
        if self.batch.is_empty() {
            self.batch_since = Instant::now();
        }
        let target = Target { action, index: &index, id: id.as_deref(), version };
        let form = settings.form(topic);
        self.batch.add(target, partition.clone(), record.offset, |out| {
            document::write(out, value.schema.as_deref(), &value.value, form)
        })?;
        if self.keeps_records {
            self.batch.keep_record(record);
        }
        Ok(true)
    }

    /// A record that makes no document: a dead letter, or left out if that is wanted.
    fn invalid(&self, record: &SinkRecord, error: Error) -> Result<()> {
        let place = format!("{}-{}@{}", record.original_topic, record.original_partition, record.offset);
        let error = Error::data(format!("{place}: {error}"));
        if self.context.sink.can_report() {
            return self.context.sink.report(record, error);
        }
        if self.settings.drop_invalid {
            tracing::warn!(place, %error, "record left out (drop.invalid.message)");
            return Ok(());
        }
        Err(error)
    }

    /// After a `put`: the rest waits until it lingers no more, or until there is a request to spare.
    async fn send_what_is_due(&mut self) -> Result<()> {
        // What lingers this shortly would wait much longer for the next call.
        let linger = self.settings.linger;
        let lingered = linger <= SHORT_LINGER || self.batch_since.elapsed() >= linger;
        let has_room = self.requests.len() < self.most_requests;
        if !self.batch.is_empty() && lingered && has_room {
            self.send_batch().await?;
        }
        Ok(())
    }

    /// Sends the batch, once there is room for a request more.
    async fn send_batch(&mut self) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        while self.requests.len() >= self.most_requests {
            self.wait_for_one().await?;
        }
        let batch = std::mem::take(&mut self.batch);
        let versioned = !self.settings.upsert;
        let patience = self.settings.flush_timeout;
        self.requests.spawn(request::send(self.client.clone(), batch, versioned, patience));
        Ok(())
    }

    /// Takes in the requests that have ended.
    fn reap(&mut self) -> Result<()> {
        while let Some(ended) = self.requests.try_join_next() {
            self.settle(ended)?;
        }
        Ok(())
    }

    async fn wait_for_all(&mut self) -> Result<()> {
        let limit = self.settings.flush_timeout;
        let until = Instant::now() + limit;
        while !self.requests.is_empty() {
            tokio::time::timeout_at(until, self.wait_for_one()).await.map_err(|_| {
                Error::connect(format!(
                    "{} requests are still under way after {} ms ({FLUSH_TIMEOUT}); what they carry is not committed and \
                     comes again after a restart",
                    self.requests.len(),
                    limit.as_millis()
                ))
            })??;
        }
        Ok(())
    }

    /// Every request ends by itself: its attempts are counted and timed.
    async fn wait_for_one(&mut self) -> Result<()> {
        match self.requests.join_next().await {
            Some(ended) => self.settle(ended),
            None => Ok(()),
        }
    }

    fn settle(&mut self, ended: Result<Outcome, tokio::task::JoinError>) -> Result<()> {
        let outcome = ended.map_err(|e| Error::connect(format!("a request's task ended early: {e}")))?;
        for item in &outcome.done {
            self.tracker.done(&item.partition, item.offset);
        }
        for (item, error) in outcome.refused {
            self.refused(&item, &error)?;
            self.tracker.done(&item.partition, item.offset);
        }
        outcome.failure.map_or(Ok(()), Err)
    }

    /// A document that the index does not take: a dead letter, and what the settings say.
    fn refused(&self, item: &Item, error: &ItemError) -> Result<()> {
        let place = format!("{}-{}@{}", item.partition.topic, item.partition.partition, item.offset);
        let why = format!("{place}: the index does not take the document: {error}");
        let reported = match &item.record {
            Some(record) => self.context.sink.report(record, Error::data(why.clone())),
            None => Err(Error::connect(format!(
                "{why}; correct the record or the mapping, or set {ON_MALFORMED} to warn or ignore, or errors.tolerance=all"
            ))),
        };
        match (self.settings.on_malformed, reported) {
            (OnMalformed::Ignore, _) | (OnMalformed::Fail, Ok(())) => Ok(()),
            (OnMalformed::Warn, _) => {
                tracing::warn!(place, %error, "document refused");
                Ok(())
            }
            (OnMalformed::Fail, Err(error)) => Err(error),
        }
    }
}
