//! Messages of the quorum over the listeners of its members.

use std::sync::Arc;
use std::time::Duration;

use aqueduct_client::Lane;
use aqueduct_protocol::ids::BrokerId;
use aqueduct_quorum::{NodeId, Peer, Transport, TransportError};
use async_trait::async_trait;
use bytes::Bytes;

use super::message::{self, QuorumMessage};
use crate::config::{ClusterSettings, Listener, LiveSettings};
use crate::peers::{Dialer, PeerError, Purpose, address};

/// A connection on which nothing was answered for so long is given up.
const LIMIT: Duration = Duration::from_secs(10);

/// Connections to controllers, and to brokers that only follow, which have no listener of controllers.
pub(super) struct Dialers {
    controllers: Dialer,
    brokers: Dialer,
    controller_listener: String,
}

impl Dialers {
    pub fn new(live: &Arc<LiveSettings>, settings: &ClusterSettings) -> Self {
        let listeners = &live.current().listeners;
        let inter_broker = Listener {
            protocol: listeners.inter_broker_protocol,
            ..Listener::unbound(&listeners.inter_broker)
        };
        let controller = settings.controller_listener.clone();
        Self {
            controller_listener: controller.name.clone(),
            controllers: Dialer::new(live.clone(), controller, Purpose::Controller),
            brokers: Dialer::new(live.clone(), inter_broker, Purpose::Broker),
        }
    }

    /// Reads all that connections to controllers need.
    pub fn check(&self) -> Result<(), PeerError> {
        self.controllers.pool().map(drop)
    }

    fn of(&self, listener: &str) -> &Dialer {
        match listener == self.controller_listener {
            true => &self.controllers,
            false => &self.brokers,
        }
    }

    /// Sends a request to a member, which `key` stands for in the pool.
    pub async fn call<Q: aqueduct_protocol::Request>(
        &self,
        key: BrokerId,
        peer: &Peer,
        request: Q,
        limit: Duration,
    ) -> Result<Q::Response, PeerError> {
        let dialer = self.of(&peer.listener);
        let connection = dialer.connection(Lane::SHARED, key, &address(&peer.host, peer.port)).await?;
        Ok(connection.call(0, |_| request, limit).await?)
    }
}

/// What the quorum sends with.
pub(super) struct Wires(pub Dialers);

#[async_trait]
impl Transport for Wires {
    async fn call(&self, to: NodeId, peer: &Peer, request: Bytes) -> Result<Bytes, TransportError> {
        let failed = |why: String| TransportError::new(to, peer, why);
        let key = BrokerId(i32::try_from(to).map_err(|_| failed("its number is none of a node".into()))?);
        let answer = self.0.call(key, peer, QuorumMessage(request), LIMIT).await;
        let answer = answer.map_err(|error| failed(error.to_string()))?;
        match message::open(answer.0) {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(code)) => Err(failed(format!("it refuses messages of the quorum: {code}"))),
            None => Err(failed("its answer cannot be read".into())),
        }
    }
}
