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

/// Connections to a broker for each purpose.
const WIDTH: u64 = 4;

/// What a connection is for. A broker answers the requests of one in order, and all of these wait for replicas: transactions
/// share few connections, but not one, and markers never wait for questions, as they may be what these wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Line {
    Markers(u64),
    Partitions(u64),
}

impl Line {
    fn of_markers(request: &WriteTxnMarkersRequest) -> Self {
        let producer = request.markers.first().map_or(0, |marker| marker.producer_id);
        Self::Markers(producer.unsigned_abs() % WIDTH)
    }

    fn of_partitions(request: &AddPartitionsToTxnRequest) -> Self {
        let producer = request.transactions.first().map_or(0, |transaction| transaction.producer_id);
        Self::Partitions(producer.unsigned_abs() % WIDTH)
    }
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
        self.call(to, Line::of_markers(&request), MARKERS_VERSION, request).await
    }

    async fn add_partitions(
        &self,
        to: BrokerId,
        request: AddPartitionsToTxnRequest,
    ) -> Result<AddPartitionsToTxnResponse, PeerError> {
        self.call(to, Line::of_partitions(&request), PARTITIONS_VERSION, request).await
    }
}
