//! Other brokers, on behalf of transactions: leaders that markers go to, and coordinators that are asked for transactions.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_client::Connection;
use aqueduct_protocol::Request;
use aqueduct_protocol::ids::BrokerId;
use aqueduct_protocol::messages::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};
use async_trait::async_trait;
use parking_lot::Mutex;

use crate::peers::{PeerError, Peers};

/// For an answer; who has lost the lead is given up before.
const LIMIT: Duration = Duration::from_secs(30);
/// Newest versions whose meaning is known.
const MARKERS_VERSION: i16 = 2;
const PARTITIONS_VERSION: i16 = 5;

/// Reaches the other brokers of the cluster.
#[async_trait]
pub(crate) trait Others: Send + Sync + 'static {
    /// Has markers written by the leader of their partitions.
    async fn write_markers(
        &self,
        to: BrokerId,
        request: WriteTxnMarkersRequest,
    ) -> Result<WriteTxnMarkersResponse, PeerError>;

    /// Asks a transaction's coordinator for its partitions.
    async fn add_partitions(
        &self,
        to: BrokerId,
        request: AddPartitionsToTxnRequest,
    ) -> Result<AddPartitionsToTxnResponse, PeerError>;
}

/// What a connection is for. A broker answers the requests of one in order, and both wait for replicas: neither is to wait
/// for the other, as the one may be what the other waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Line {
    Markers,
    Partitions,
}

/// Connections of their own to the brokers that are asked.
pub(crate) struct Lines {
    peers: Peers,
    open: Mutex<HashMap<(BrokerId, Line), Connection>>,
}

impl Lines {
    /// Makes no connection yet.
    pub fn new(peers: Peers) -> Arc<Self> {
        Arc::new(Self { peers, open: Mutex::default() })
    }

    async fn call<Q: Request>(
        &self,
        to: BrokerId,
        line: Line,
        version: i16,
        request: Q,
    ) -> Result<Q::Response, PeerError> {
        let found = self.open.lock().get(&(to, line)).filter(|connection| !connection.is_closed()).cloned();
        let connection = match found {
            Some(connection) => connection,
            None => {
                let connection = self.peers.dedicated(to).await?;
                self.open.lock().insert((to, line), connection.clone());
                connection
            }
        };
        Ok(connection.call(version, |_| request, LIMIT).await?)
    }
}

#[async_trait]
impl Others for Lines {
    async fn write_markers(
        &self,
        to: BrokerId,
        request: WriteTxnMarkersRequest,
    ) -> Result<WriteTxnMarkersResponse, PeerError> {
        self.call(to, Line::Markers, MARKERS_VERSION, request).await
    }

    async fn add_partitions(
        &self,
        to: BrokerId,
        request: AddPartitionsToTxnRequest,
    ) -> Result<AddPartitionsToTxnResponse, PeerError> {
        self.call(to, Line::Partitions, PARTITIONS_VERSION, request).await
    }
}
