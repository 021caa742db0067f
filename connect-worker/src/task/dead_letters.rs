//! The dead-letter topic of a sink.

use aqueduct_client::{
    Admin, Client, ClientConfig, ConsumerRecord, Delivery, Header, NewTopic, Producer, ProducerRecord,
};
use aqueduct_connect_api::{Error as PluginError, Result as PluginResult};
use bytestring::ByteString;

use super::errors::Failure;
use crate::config::ErrorSettings;
use crate::ids::TaskId;

const PREFIX: &str = "__connect.errors.";

/// Writes records that could not be handled, as they were read, to a topic of their own.
pub struct DeadLetters {
    id: TaskId,
    topic: ByteString,
    headers: bool,
    producer: Producer,
    /// Written, but not known to be durable.
    pending: Vec<Delivery>,
}

impl DeadLetters {
    /// Creates the topic where it is missing; `None` where the sink has none.
    ///
    /// # Errors
    /// Where the cluster refuses.
    pub async fn open(
        id: &TaskId,
        settings: &ErrorSettings,
        config: impl FnOnce() -> PluginResult<ClientConfig>,
    ) -> PluginResult<Option<Self>> {
        let Some(name) = &settings.dead_letter_topic else { return Ok(None) };
        let client = Client::new(config()?);
        let topic = NewTopic::new(name.as_str(), 1, settings.dead_letter_replication);
        Admin::new(client.clone()).ensure_topic(&topic).await.map_err(|e| {
            PluginError::connect(format!(
                "creating dead-letter topic {name} with errors.deadletterqueue.topic.replication.factor={} failed",
                settings.dead_letter_replication
            ))
            .caused_by(e)
        })?;
        Ok(Some(Self {
            id: id.clone(),
            topic: name.as_str().into(),
            headers: settings.dead_letter_headers,
            producer: Producer::new(client),
            pending: Vec::new(),
        }))
    }

    /// Buffers a record; it is durable once [`DeadLetters::settle`] has returned.
    ///
    /// # Errors
    /// Where it cannot be buffered.
    pub async fn send(&mut self, raw: &ConsumerRecord, failure: &Failure) -> PluginResult<()> {
        let mut record = ProducerRecord {
            topic: self.topic.clone(),
            partition: None,
            key: raw.key.clone(),
            value: raw.value.clone(),
            timestamp: (raw.timestamp >= 0).then_some(raw.timestamp),
            headers: raw.headers.clone(),
        };
        if self.headers {
            record.headers.extend(context_headers(&self.id, raw, failure));
        }
        let delivery = self.producer.send(record).await.map_err(|e| self.failed(raw).caused_by(e))?;
        self.pending.push(delivery);
        Ok(())
    }

    /// Waits until everything sent is durable.
    ///
    /// # Errors
    /// The first record that was not written.
    pub async fn settle(&mut self) -> PluginResult<()> {
        for delivery in std::mem::take(&mut self.pending) {
            delivery.await.map_err(|e| {
                PluginError::connect(format!("writing to dead-letter topic {} failed", self.topic))
                    .caused_by(e)
            })?;
        }
        Ok(())
    }

    fn failed(&self, raw: &ConsumerRecord) -> PluginError {
        PluginError::connect(format!(
            "record {}-{}@{} could not be written to dead-letter topic {}",
            raw.topic, raw.partition, raw.offset, self.topic
        ))
    }

    pub async fn close(self) {
        self.producer.close().await;
    }
}

/// What went wrong, as headers.
fn context_headers(id: &TaskId, raw: &ConsumerRecord, failure: &Failure) -> Vec<Header> {
    let header = |name: &str, value: String| Header {
        key: format!("{PREFIX}{name}").into(),
        value: Some(value.into_bytes().into()),
    };
    vec![
        header("topic", raw.topic.to_string()),
        header("partition", raw.partition.to_string()),
        header("offset", raw.offset.to_string()),
        header("connector.name", id.connector.to_string()),
        header("task.id", id.task.to_string()),
        header("stage", failure.stage.name().to_owned()),
        header("class.name", failure.class.clone()),
        header("exception.class.name", failure.error.class_name().to_owned()),
        header("exception.message", failure.error.to_string()),
        header("exception.stacktrace", failure.trace()),
    ]
}
