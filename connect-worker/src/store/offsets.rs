//! The offsets of sources, read and written.

use std::path::Path;
use std::sync::Arc;

use aqueduct_client::ClientConfig;
use aqueduct_connect_api::{Error as PluginError, OffsetMap, OffsetStore, Result as PluginResult};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::RwLock;

use super::offsets_file::OffsetsFile;
use super::{TopicLog, TopicSpec, report_skipped};
use crate::error::{Error, Result};
use crate::offsets::{OffsetState, offset_value};

/// Where all sources are.
#[derive(Clone)]
pub struct OffsetsStore {
    state: Arc<RwLock<OffsetState>>,
    backend: Arc<Backend>,
}

enum Backend {
    Topic(TopicLog),
    File(OffsetsFile),
}

impl OffsetsStore {
    /// Reads the topic.
    ///
    /// # Errors
    /// As for [`TopicLog::open`].
    pub async fn open(config: ClientConfig, spec: &TopicSpec) -> Result<Self> {
        let state = Arc::new(RwLock::new(OffsetState::new()));
        let target = state.clone();
        let log = TopicLog::open(config, spec, move |record| {
            let key = record.key.clone().unwrap_or_default();
            let applied = target.write().apply(&key, record.value.as_deref());
            report_skipped(&record, applied);
        })
        .await?;
        Ok(Self { state, backend: Arc::new(Backend::Topic(log)) })
    }

    /// Reads a file of our own format; it is made with the first commit.
    ///
    /// # Errors
    /// [`Error::BadRequest`] where it cannot be read.
    pub fn in_file(path: &Path) -> Result<Self> {
        let mut state = OffsetState::new();
        let file = OffsetsFile::open(path, &mut state).map_err(|why| {
            Error::invalid(format!("offset.storage.file.filename={}: {why}", path.display()))
        })?;
        Ok(Self { state: Arc::new(RwLock::new(state)), backend: Arc::new(Backend::File(file)) })
    }

    /// Stores offsets of a connector, `None` to forget a partition, and waits until they are durable.
    ///
    /// # Errors
    /// [`Error::Kafka`] or [`Error::Internal`]: some may have been stored, in order.
    pub async fn store(&self, connector: &str, offsets: &[(&OffsetMap, Option<&OffsetMap>)]) -> Result<()> {
        let records: Vec<(Bytes, Option<Bytes>)> = {
            let state = self.state.read();
            offsets
                .iter()
                .map(|(partition, offset)| (state.key_for(connector, partition), offset.map(offset_value)))
                .collect()
        };
        match &*self.backend {
            Backend::Topic(log) => log.write(records).await,
            Backend::File(file) => {
                for (key, value) in &records {
                    self.state.write().apply(key, value.as_deref()).map_err(Error::internal)?;
                }
                file.append(&records).await.map_err(Error::internal)
            }
        }
    }

    /// All partitions of a connector and their offsets.
    ///
    /// # Errors
    /// [`Error::Kafka`] where the cluster does not answer.
    pub async fn of_connector(&self, connector: &str) -> Result<Vec<(OffsetMap, OffsetMap)>> {
        self.read_to_end().await?;
        Ok(self.state.read().of_connector(connector))
    }

    async fn read_to_end(&self) -> Result<()> {
        match &*self.backend {
            Backend::Topic(log) => log.read_to_end().await,
            Backend::File(_) => Ok(()),
        }
    }

    pub async fn close(&self) {
        if let Backend::Topic(log) = &*self.backend {
            log.close().await;
        }
    }

    /// The part that belongs to one connector.
    pub fn for_connector(&self, connector: impl Into<Arc<str>>) -> ConnectorOffsets {
        ConnectorOffsets { store: self.clone(), connector: connector.into() }
    }
}

/// Offsets of one connector: what its tasks see.
#[derive(Clone)]
pub struct ConnectorOffsets {
    store: OffsetsStore,
    connector: Arc<str>,
}

impl ConnectorOffsets {
    /// Stores offsets and waits until they are durable.
    ///
    /// # Errors
    /// As for [`OffsetsStore::store`].
    pub async fn commit(&self, offsets: &[(&OffsetMap, Option<&OffsetMap>)]) -> Result<()> {
        self.store.store(&self.connector, offsets).await
    }
}

fn plugin_error(what: &str, error: Error) -> PluginError {
    PluginError::retriable(what).caused_by(error)
}

#[async_trait]
impl OffsetStore for ConnectorOffsets {
    async fn read(&self, partitions: &[OffsetMap]) -> PluginResult<Vec<Option<OffsetMap>>> {
        self.store
            .read_to_end()
            .await
            .map_err(|e| plugin_error("reading the offsets of the source failed", e))?;
        let state = self.store.state.read();
        Ok(partitions.iter().map(|p| state.get(&self.connector, p).cloned()).collect())
    }

    async fn store(&self, partition: &OffsetMap, offset: &OffsetMap) -> PluginResult<()> {
        self.commit(&[(partition, Some(offset))])
            .await
            .map_err(|e| plugin_error("storing an offset of the source failed", e))
    }
}
