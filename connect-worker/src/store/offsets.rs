//! The offsets of sources, read and written.

use std::path::Path;
use std::sync::Arc;

use aqueduct_client::ClientConfig;
use aqueduct_connect_api::OffsetMap;
use bytes::Bytes;
use bytestring::ByteString;
use parking_lot::RwLock;

use super::log::LogClients;
use super::offsets_file::OffsetsFile;
use super::{OffsetPair, TopicLog, TopicSpec, report_skipped};
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
        Self::open_with(config.into(), spec).await
    }

    /// The same with clients of their own for reading, writing and creating.
    ///
    /// # Errors
    /// As for [`TopicLog::open`].
    pub async fn open_with(clients: LogClients, spec: &TopicSpec) -> Result<Self> {
        let state = Arc::new(RwLock::new(OffsetState::new()));
        let target = state.clone();
        let log = TopicLog::open(clients, spec, move |record| {
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
    pub async fn store(&self, connector: &str, offsets: &[OffsetPair<'_>]) -> Result<()> {
        let records = self.pairs(connector, offsets);
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

    /// Keys and values of the records that store offsets.
    pub fn pairs(&self, connector: &str, offsets: &[OffsetPair<'_>]) -> Vec<(Bytes, Option<Bytes>)> {
        let state = self.state.read();
        let pair = |(partition, offset): &OffsetPair<'_>| {
            (state.key_for(connector, partition), offset.map(offset_value))
        };
        offsets.iter().map(pair).collect()
    }

    /// The topic; `None` for a file.
    pub fn topic(&self) -> Option<&ByteString> {
        match &*self.backend {
            Backend::Topic(log) => Some(log.topic()),
            Backend::File(_) => None,
        }
    }

    /// The offset last stored for each of `partitions`.
    ///
    /// # Errors
    /// [`Error::Kafka`] where the cluster does not answer.
    pub async fn get(&self, connector: &str, partitions: &[OffsetMap]) -> Result<Vec<Option<OffsetMap>>> {
        self.read_to_end().await?;
        let state = self.state.read();
        Ok(partitions.iter().map(|p| state.get(connector, p).cloned()).collect())
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
}
