//! Offsets of one connector: in the worker's topic, or in one of its own, which then has precedence.

use std::time::Duration;

use aqueduct_client::{Client, ClientConfig, ProducerRecord};
use aqueduct_connect_api::{ConfigMap, Error as PluginError, OffsetMap, OffsetStore, Result as PluginResult};
use async_trait::async_trait;
use bytestring::ByteString;

use super::log::LogClients;
use super::{OffsetsStore, TopicSpec};
use crate::config::{ClientKind, Mode, WorkerConfig, client_properties, own_offsets_topic};
use crate::error::{Error, Result};
use crate::ids::{ConnectorName, TaskId};

/// A source partition and its offset; `None` forgets it.
pub type OffsetPair<'a> = (&'a OffsetMap, Option<&'a OffsetMap>);

/// Offsets of one connector: what its tasks see.
#[derive(Clone)]
pub struct ConnectorOffsets {
    /// The connector's own topic, or the worker's in the cluster that the connector writes to.
    own: Option<OffsetsStore>,
    worker: OffsetsStore,
    connector: ConnectorName,
}

/// How long the copy in the worker's topic may take.
const COPY: Duration = Duration::from_secs(5);

impl ConnectorOffsets {
    /// Those of `connector`, with these settings; opens its own topic where it has one.
    ///
    /// # Errors
    /// A client setting that is wrong, or a topic that cannot be used.
    pub async fn open(
        config: &WorkerConfig,
        worker: &OffsetsStore,
        connector: ConnectorName,
        settings: &ConfigMap,
    ) -> Result<Self> {
        let own = match own_topic(config, &connector, settings) {
            Some(topic) => Some(open_own(config, &connector, settings, topic).await?),
            None => None,
        };
        Ok(Self { own, worker: worker.clone(), connector })
    }

    fn primary(&self) -> &OffsetsStore {
        self.own.as_ref().unwrap_or(&self.worker)
    }

    /// The topic that transactions store offsets in; `None` for a worker that keeps them in a file.
    pub fn topic(&self) -> Option<&ByteString> {
        self.primary().topic()
    }

    /// The records that store offsets, for a transaction.
    pub fn records(&self, offsets: &[OffsetPair<'_>]) -> Vec<ProducerRecord> {
        let Some(topic) = self.topic() else { return Vec::new() };
        let pairs = self.primary().pairs(&self.connector, offsets);
        pairs.into_iter().map(|(key, value)| ProducerRecord::keyed(topic.clone(), key, value)).collect()
    }

    /// Before offsets are forgotten in the connector's own topic they are in the worker's, or they would come back.
    ///
    /// # Errors
    /// As for [`OffsetsStore::store`].
    pub async fn forget_first(&self, offsets: &[OffsetPair<'_>]) -> Result<()> {
        let gone: Vec<OffsetPair<'_>> =
            offsets.iter().filter(|(_, offset)| offset.is_none()).copied().collect();
        if self.own.is_none() || gone.is_empty() {
            return Ok(());
        }
        self.worker.store(&self.connector, &gone).await
    }

    /// Copies what is stored in the connector's own topic to the worker's, as well as that is possible.
    pub async fn copy(&self, offsets: &[OffsetPair<'_>]) {
        let kept: Vec<OffsetPair<'_>> =
            offsets.iter().filter(|(_, offset)| offset.is_some()).copied().collect();
        if self.own.is_none() || kept.is_empty() {
            return;
        }
        match tokio::time::timeout(COPY, self.worker.store(&self.connector, &kept)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(connector = &*self.connector, %error, "offsets could not be copied to the worker's topic");
            }
            Err(_) => tracing::warn!(connector = &*self.connector, "offsets could not be copied in time"),
        }
    }

    /// Stores offsets and waits until they are durable.
    ///
    /// # Errors
    /// As for [`OffsetsStore::store`].
    pub async fn commit(&self, offsets: &[OffsetPair<'_>]) -> Result<()> {
        self.forget_first(offsets).await?;
        self.primary().store(&self.connector, offsets).await?;
        self.copy(offsets).await;
        Ok(())
    }

    /// All partitions and their offsets; those in the connector's own topic count more.
    ///
    /// # Errors
    /// [`Error::Kafka`] where the cluster does not answer.
    pub async fn list(&self) -> Result<Vec<(OffsetMap, OffsetMap)>> {
        let mut found = self.worker.of_connector(&self.connector).await?;
        if let Some(own) = &self.own {
            let own = own.of_connector(&self.connector).await?;
            found.retain(|(partition, _)| own.iter().all(|(known, _)| known != partition));
            found.extend(own);
        }
        Ok(found)
    }

    /// Closes the connector's own topic.
    pub async fn close(&self) {
        if let Some(own) = &self.own {
            own.close().await;
        }
    }
}

/// The connector's own topic, where it is not the one that the worker follows anyway.
fn own_topic<'a>(
    config: &'a WorkerConfig,
    connector: &ConnectorName,
    settings: &'a ConfigMap,
) -> Option<&'a str> {
    if config.mode() == Mode::Standalone {
        return None;
    }
    let of_worker = config.text("offset.storage.topic");
    let producer = producer_properties(config, connector, settings);
    let elsewhere = producer.get("bootstrap.servers").is_some_and(|s| s.trim() != config.bootstrap_servers());
    match own_offsets_topic(settings) {
        Some(own) if own != of_worker || elsewhere => Some(own),
        // Offsets have to be in the cluster that the transactions are in.
        None if elsewhere && config.exactly_once_enabled() => Some(of_worker),
        _ => None,
    }
}

fn producer_properties(
    config: &WorkerConfig,
    connector: &ConnectorName,
    settings: &ConfigMap,
) -> std::collections::BTreeMap<String, String> {
    let id = TaskId { connector: connector.clone(), task: 0 };
    let mut properties = client_properties(config, ClientKind::SourceProducer, &id, settings);
    properties.remove("transactional.id");
    properties
}

async fn open_own(
    config: &WorkerConfig,
    connector: &ConnectorName,
    settings: &ConfigMap,
    topic: &str,
) -> Result<OffsetsStore> {
    let id = TaskId { connector: connector.clone(), task: 0 };
    let client = |mut properties: std::collections::BTreeMap<String, String>| {
        properties.insert("allow.auto.create.topics".to_owned(), "false".to_owned());
        let read = ClientConfig::from_properties(&properties);
        read.map(|(config, _)| Client::new(config))
            .map_err(|e| Error::invalid(format!("offsets topic {topic} of connector {connector}: {e}")))
    };
    let mut consumer = client_properties(config, ClientKind::OffsetsConsumer, &id, settings);
    if config.exactly_once_enabled() {
        consumer.insert("isolation.level".to_owned(), "read_committed".to_owned());
    }
    let clients = LogClients {
        admin: client(client_properties(config, ClientKind::Admin, &id, settings))?,
        consumer: client(consumer)?,
        producer: client(producer_properties(config, connector, settings))?,
    };
    let spec =
        TopicSpec { name: topic.to_owned(), setting: "offsets.storage.topic", ..TopicSpec::offsets(config) };
    OffsetsStore::open_with(clients, &spec).await
}

fn plugin_error(what: &str, error: Error) -> PluginError {
    PluginError::retriable(what).caused_by(error)
}

#[async_trait]
impl OffsetStore for ConnectorOffsets {
    async fn read(&self, partitions: &[OffsetMap]) -> PluginResult<Vec<Option<OffsetMap>>> {
        let failed = |e| plugin_error("reading the offsets of the source failed", e);
        let mut found = self.worker.get(&self.connector, partitions).await.map_err(failed)?;
        if let Some(own) = &self.own {
            let own = own.get(&self.connector, partitions).await.map_err(failed)?;
            for (found, own) in found.iter_mut().zip(own) {
                *found = own.or_else(|| found.take());
            }
        }
        Ok(found)
    }

    async fn store(&self, partition: &OffsetMap, offset: &OffsetMap) -> PluginResult<()> {
        self.commit(&[(partition, Some(offset))])
            .await
            .map_err(|e| plugin_error("storing an offset of the source failed", e))
    }
}
