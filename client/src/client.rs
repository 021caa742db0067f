//! The handle to a cluster: connections, versions, metadata.

use std::sync::Arc;

use bytestring::ByteString;

use crate::config::ClientConfig;
use crate::error::{Error, Result};
use crate::metadata::Metadata;

/// A set of connections, one to each broker, that its holder shares with nobody.
///
/// A broker answers the requests of a connection one by one, so that long polls (Fetch, JoinGroup) must not stand
/// before other calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lane(pub(crate) u64);

/// A cheap handle to a cluster; clones share connections and metadata.
///
/// Connections are made when they are first needed. They are closed by [`Client::close`] or when the last clone is
/// dropped.
#[derive(Debug, Clone)]
pub struct Client {
    config: Arc<ClientConfig>,
}

impl Client {
    /// A client for the cluster that `config` names; does no I/O. Call it within a tokio runtime.
    pub fn new(config: ClientConfig) -> Self {
        Self { config: Arc::new(config) }
    }

    /// The configuration.
    pub fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// Metadata of `topics`, from the cache where it is younger than `metadata.max.age.ms`. Topics that do not exist are
    /// missing from it; they are created by the broker where both sides allow it.
    ///
    /// # Errors
    /// [`Error::Timeout`] after `default.api.timeout.ms`, with the last failure in it.
    pub async fn metadata(&self, _topics: &[ByteString]) -> Result<Arc<Metadata>> {
        Err(Error::Closed("client"))
    }

    /// Metadata of all topics, fresh from a broker.
    pub async fn all_metadata(&self) -> Result<Arc<Metadata>> {
        Err(Error::Closed("client"))
    }

    /// Id of the cluster.
    pub async fn cluster_id(&self) -> Result<Option<ByteString>> {
        Err(Error::Closed("client"))
    }

    /// Closes all connections; calls under way fail with [`Error::Closed`].
    pub async fn close(&self) {}
}
