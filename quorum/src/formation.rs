//! The first start of a cluster: when its first voters agree that there is none yet.
//!
//! A disk that is empty does not tell whether its node is new or was wiped. A node that was wiped has forgotten its votes
//! and what it acknowledged, so it must not count as a voter. Hence a quorum is formed only when *all* voters of the
//! configuration say that they are new; the one with the lowest id then writes them down, with the identities of their
//! directories. From then on a voter is its id and its directory, and a wiped one is nobody until it is added anew.
//!
//! Where the administrator formatted the directories of the first voters there is nothing to ask: they are known with their
//! directories, and a wiped one has another, as long as it is not formatted with the same by hand.

use std::collections::BTreeMap;
use std::time::Duration;

use openraft::error::{InitializeError, RaftError};

use crate::link::Network;
use crate::message::{Request, Response};
use crate::types::{NodeId, Peer, Raft};

/// Forms the quorum of the voters that this node's directory was formatted with. Each of them begins the log with the same
/// entry, and a majority elects; one that hears of the others' first is told of it by them.
pub(crate) async fn begin(raft: Raft, voters: BTreeMap<NodeId, Peer>) {
    let ids: Vec<_> = voters.keys().copied().collect();
    match raft.initialize(voters).await {
        Ok(()) => tracing::info!(voters = ?ids, "the metadata quorum is formed"),
        Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
        Err(error) => tracing::error!(%error, "the metadata quorum was not formed"),
    }
}

/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(50);
/// For an answer.
const PATIENCE: Duration = Duration::from_millis(1_000);

/// What one round of asking showed.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    /// All are new: these are the first members.
    AllNew(BTreeMap<NodeId, Peer>),
    /// This voter is part of a quorum.
    Formed(NodeId),
    /// This voter has not answered.
    Missing(NodeId),
}

/// Forms the quorum, if this node is the one to do it; ends when this node is part of one.
pub(crate) async fn run(raft: Raft, network: Network, voters: BTreeMap<NodeId, Peer>) {
    let me = network.identity.node;
    if voters.keys().next() != Some(&me) {
        // Another one writes the members down, and this node hears of it.
        return;
    }
    let mut told = false;
    loop {
        match raft.is_initialized().await {
            Ok(false) => {}
            Ok(true) | Err(_) => return,
        }
        match ask_all(&network, &voters).await {
            Finding::AllNew(members) => match raft.initialize(members).await {
                Ok(()) => {
                    tracing::info!(voters = ?voters.keys().collect::<Vec<_>>(), "the metadata quorum is formed");
                    return;
                }
                Err(error) => tracing::warn!(%error, "the metadata quorum was not formed"),
            },
            Finding::Formed(id) if !told => {
                told = true;
                tracing::warn!(
                    node = id,
                    "this node's directory is empty, but a voter is part of a quorum: if the directory was wiped, remove this node from the quorum and add it again"
                );
            }
            Finding::Formed(_) => {}
            Finding::Missing(id) => tracing::debug!(node = id, "waiting for a voter"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn ask_all(network: &Network, voters: &BTreeMap<NodeId, Peer>) -> Finding {
    let mut members = BTreeMap::new();
    for (id, peer) in voters {
        let mut peer = peer.clone();
        if *id == network.identity.node {
            peer.directory = network.identity.directory;
        } else {
            match tokio::time::timeout(PATIENCE, network.ask(*id, &peer, &Request::Hello)).await {
                Ok(Ok(Response::Hello { directory, is_new: true })) => peer.directory = directory,
                Ok(Ok(Response::Hello { is_new: false, .. })) => return Finding::Formed(*id),
                _ => return Finding::Missing(*id),
            }
        }
        members.insert(*id, peer);
    }
    Finding::AllNew(members)
}
