//! One peer, as openraft reaches it through a transport.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use openraft::error::{
    InstallSnapshotError, NetworkError, PayloadTooLarge, RPCError, RaftError, RemoteError, SnapshotMismatch,
    Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};

use crate::identity::Identity;
use crate::message::{Envelope, Request, Response};
use crate::types::{MAX_ENTRY_BYTES, NodeId, Peer, Types};

/// A peer that did not answer is left alone for so long.
const RETRY: Duration = Duration::from_millis(100);

/// Why a message brought no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("node {to} at {host}:{port}: {why}")]
pub struct TransportError {
    pub to: NodeId,
    pub host: String,
    pub port: u16,
    pub why: String,
}

impl TransportError {
    pub fn new(to: NodeId, peer: &Peer, why: impl Into<String>) -> Self {
        Self { to, host: peer.host.clone(), port: peer.port, why: why.into() }
    }
}

/// Brings messages to other nodes, whose [`Quorum::serve`](crate::MetadataQuorum::serve) answers them.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Sends a request and waits for the answer, however long that takes: the caller gives up by dropping the future.
    async fn call(&self, to: NodeId, peer: &Peer, request: Bytes) -> Result<Bytes, TransportError>;
}

/// What a node needs to talk to others.
#[derive(Clone)]
pub(crate) struct Network {
    pub identity: Identity,
    pub transport: Arc<dyn Transport>,
}

impl Network {
    pub(crate) async fn ask(
        &self,
        to: NodeId,
        peer: &Peer,
        request: &Request,
    ) -> Result<Response, TransportError> {
        let envelope = Envelope {
            cluster_id: self.identity.cluster_id.clone(),
            from: self.identity.node,
            from_directory: self.identity.directory,
            to,
            to_directory: peer.directory,
        };
        let answer = self.transport.call(to, peer, envelope.encode(request)).await?;
        match Response::decode(answer) {
            Some(Response::Refused(why) | Response::Failed(why)) => Err(TransportError::new(to, peer, why)),
            Some(response) => Ok(response),
            None => Err(TransportError::new(to, peer, "its answer cannot be read")),
        }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: NodeId, node: &Peer) -> Link {
        Link { network: self.clone(), to: target, peer: node.clone(), told: None }
    }
}

/// One peer.
pub(crate) struct Link {
    network: Network,
    to: NodeId,
    peer: Peer,
    /// The failure that was logged last: it is tried again many times a second.
    told: Option<String>,
}

type Failure<E> = RPCError<NodeId, Peer, RaftError<NodeId, E>>;

impl Link {
    async fn ask<E: std::error::Error>(
        &mut self,
        request: Request,
        option: &RPCOption,
    ) -> Result<Response, Failure<E>> {
        let answer = tokio::time::timeout(option.hard_ttl(), self.network.ask(self.to, &self.peer, &request));
        let error = match answer.await {
            Ok(Ok(response)) => {
                self.told = None;
                return Ok(response);
            }
            Ok(Err(error)) => error,
            Err(_) => TransportError::new(self.to, &self.peer, "no answer in time"),
        };
        if self.told.as_ref() != Some(&error.why) {
            tracing::warn!(%error, "a member of the metadata quorum does not answer");
            self.told = Some(error.why.clone());
        }
        Err(RPCError::Unreachable(Unreachable::new(&error)))
    }

    fn unexpected<E: std::error::Error>(&self) -> Failure<E> {
        let error = TransportError::new(self.to, &self.peer, "its answer does not fit the request");
        RPCError::Network(NetworkError::new(&error))
    }
}

impl RaftNetwork<Types> for Link {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<NodeId>, RPCError<NodeId, Peer, RaftError<NodeId>>> {
        // A few large entries must not make a message that the receiver turns down.
        let mut size = 0;
        let size_of = |entry: &crate::types::Entry| match &entry.payload {
            openraft::EntryPayload::Normal(proposal) => proposal.data.len(),
            _ => 0,
        };
        let fits = rpc.entries.iter().take_while(|entry| {
            size += size_of(entry);
            size <= MAX_ENTRY_BYTES
        });
        let fits = fits.count() as u64;
        if fits < rpc.entries.len() as u64 && rpc.entries.len() > 1 {
            return Err(PayloadTooLarge::new_entries_hint(fits.max(1)).into());
        }
        match self.ask(Request::Append(rpc), &option).await? {
            Response::Append(response) => Ok(response),
            _ => Err(self.unexpected()),
        }
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<Types>,
        option: RPCOption,
    ) -> Result<
        InstallSnapshotResponse<NodeId>,
        RPCError<NodeId, Peer, RaftError<NodeId, InstallSnapshotError>>,
    > {
        match self.ask(Request::Snapshot(rpc), &option).await? {
            Response::Snapshot(vote) => Ok(InstallSnapshotResponse { vote }),
            Response::SnapshotMismatch { expected, got } => {
                let mismatch = SnapshotMismatch { expect: expected.into(), got: got.into() };
                let error = RaftError::APIError(InstallSnapshotError::SnapshotMismatch(mismatch));
                Err(RPCError::RemoteError(RemoteError::new(self.to, error)))
            }
            _ => Err(self.unexpected()),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<NodeId>,
        option: RPCOption,
    ) -> Result<VoteResponse<NodeId>, RPCError<NodeId, Peer, RaftError<NodeId>>> {
        match self.ask(Request::Vote(rpc), &option).await? {
            Response::Vote(response) => Ok(response),
            _ => Err(self.unexpected()),
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(RETRY))
    }
}
