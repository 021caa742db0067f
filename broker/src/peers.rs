//! Connections to the other brokers of the cluster, by their listener for brokers (`inter.broker.listener.name` or
//! `security.inter.broker.protocol`), with TLS and SASL as that listener has them.

mod dialer;

use std::sync::Arc;

use aqueduct_client::Connection;
use aqueduct_protocol::ids::BrokerId;

use crate::config::{ConfigError, Listener, LiveSettings};
use crate::metadata::MetadataBackend;

pub(crate) use dialer::{Dialer, Purpose, address};

/// Why another broker was not reached, or did not answer.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum PeerError {
    /// The image does not say where it is.
    #[error("broker {broker} is not registered with a listener {listener}")]
    Unknown { broker: BrokerId, listener: String },
    /// Settings of this node that no connection can be made with.
    #[error("listener {listener}: {why}")]
    Settings { listener: String, why: String },
    #[error(transparent)]
    Client(#[from] aqueduct_client::Error),
}

/// How to reach the other brokers; cheap to clone.
#[derive(Clone)]
pub(crate) struct Peers {
    inner: Arc<Inner>,
}

struct Inner {
    metadata: Arc<dyn MetadataBackend>,
    dialer: Dialer,
    listener: String,
}

impl Peers {
    /// Makes no connection yet.
    pub fn new(metadata: Arc<dyn MetadataBackend>, live: Arc<LiveSettings>) -> Self {
        let listeners = &live.current().listeners;
        let listener = listeners.inter_broker.clone();
        let found = listeners.advertised.iter().find(|advertised| advertised.name == listener);
        let to = found.cloned().unwrap_or_else(|| Listener::unbound(&listener));
        Self { inner: Arc::new(Inner { metadata, dialer: Dialer::new(live, to, Purpose::Broker), listener }) }
    }

    /// Reads all that connections need, so that what is wrong with it is known at the start.
    ///
    /// # Errors
    /// Settings or files that cannot be used.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.inner.dialer.pool().map(drop).map_err(|error| ConfigError::Conflict(error.to_string()))
    }

    /// A connection to a broker that nobody else has: it answers one request after the other, some of which wait there.
    /// Closed when its last clone is dropped.
    pub async fn dedicated(&self, to: BrokerId) -> Result<Connection, PeerError> {
        self.inner.dialer.dedicated(&self.address(to)?).await
    }

    fn address(&self, to: BrokerId) -> Result<String, PeerError> {
        let Inner { metadata, listener, .. } = &*self.inner;
        let image = metadata.image();
        let endpoint = image.brokers.get(&to).and_then(|broker| broker.endpoint(listener));
        let endpoint =
            endpoint.ok_or_else(|| PeerError::Unknown { broker: to, listener: listener.clone() })?;
        Ok(dialer::address(&endpoint.host, endpoint.port))
    }
}
