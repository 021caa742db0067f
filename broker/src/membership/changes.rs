//! Members that come, go, and get or lose a vote: what the leader of the quorum does for them.

use std::time::Duration;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{BrokerId, Uuid};
use aqueduct_quorum::{ChangeError, DirectoryId, MetadataQuorum, NodeId, Peer};
use tokio::time::timeout;

use super::Member;
use crate::controller::another_runs;
use crate::metadata::{MetadataBackend as _, Rejection};

/// How long a change of members may take.
const CHANGE: Duration = Duration::from_secs(9);
/// A voter that lags by no more than this is taken to be running.
const SMALL_LAG: u64 = 100;

impl Member {
    /// Lets a node follow; one that comes back with another address or disk takes the place of what it was. While a broker
    /// runs, no process with another disk gets its place: the broker would hear nothing any more.
    pub(super) async fn observe(&self, node: NodeId, peer: Peer) -> Result<(), Failed> {
        let known = self.status.borrow().members.iter().find(|member| member.id == node).cloned();
        if let Some(known) = known {
            if known.peer == peer || known.votes {
                return Ok(());
            }
            let broker = i32::try_from(node).map(BrokerId).unwrap_or(BrokerId(-1));
            if known.peer.directory != peer.directory && self.metadata.image().is_unfenced(broker) {
                return Err(Failed::Refused(another_runs(broker)));
            }
            changed(timeout(CHANGE, self.quorum.remove(node)).await)?;
        }
        tracing::info!(node, host = peer.host, port = peer.port, "a node follows the metadata quorum");
        changed(timeout(CHANGE, self.quorum.add_observer(node, peer)).await)
    }

    pub(super) async fn add_voter(&self, node: NodeId, directory: DirectoryId) -> Result<(), Failed> {
        let known = self.status.borrow().members.iter().find(|member| member.id == node).cloned();
        let refused = |code, why: String| Err(Failed::Refused(Rejection::new(code, why)));
        match known {
            Some(known) if known.votes => refused(
                ErrorCode::DuplicateVoter,
                format!("The voter id for node {node} is already part of the set of voters."),
            ),
            None => refused(
                ErrorCode::InvalidRequest,
                format!(
                    "Node {node} does not follow the quorum yet: start it with the role controller first"
                ),
            ),
            Some(known) if known.peer.directory != directory => refused(
                ErrorCode::InvalidVoterKey,
                format!(
                    "Node {node} follows with the directory {}, not {}",
                    Uuid(known.peer.directory.0),
                    Uuid(directory.0)
                ),
            ),
            Some(known) if known.peer.listener != self.settings.controller_listener.name => refused(
                ErrorCode::InvalidRequest,
                format!("Node {node} is no controller: its process.roles has no controller"),
            ),
            Some(_) => changed(timeout(CHANGE, self.quorum.add_voter(node)).await),
        }
    }

    pub(super) async fn remove_voter(&self, node: NodeId, directory: DirectoryId) -> Result<(), Failed> {
        let (known, voters, last) = {
            let status = self.status.borrow();
            let known = status.members.iter().find(|member| member.id == node).cloned();
            (known, status.voters().len(), status.last)
        };
        let end = known.as_ref().and_then(|known| known.replicated).unwrap_or(0);
        let is_there = last.saturating_sub(end) <= SMALL_LAG;
        let refused = |code, why: String| Err(Failed::Refused(Rejection::new(code, why)));
        match known {
            Some(known) if known.votes && known.peer.directory == directory => match voters {
                1 => refused(ErrorCode::InvalidRequest, "The last voter cannot be removed.".into()),
                // One that is there goes on following, one that is gone is forgotten.
                _ if is_there => changed(timeout(CHANGE, self.quorum.demote(node)).await),
                _ => changed(timeout(CHANGE, self.quorum.remove(node)).await),
            },
            _ => refused(
                ErrorCode::VoterNotFound,
                format!("No voter {node} with the directory {} is part of the quorum.", Uuid(directory.0)),
            ),
        }
    }
}

/// Why the members stayed as they were.
pub(super) enum Failed {
    NotLeader,
    Refused(Rejection),
}

fn changed(done: Result<Result<(), ChangeError>, tokio::time::error::Elapsed>) -> Result<(), Failed> {
    match done {
        Ok(Ok(())) => Ok(()),
        Ok(Err(ChangeError::NotLeader { .. })) => Err(Failed::NotLeader),
        Ok(Err(error @ ChangeError::InProgress)) => {
            Err(Failed::Refused(Rejection::new(ErrorCode::RequestTimedOut, error.to_string())))
        }
        Ok(Err(error)) => Err(Failed::Refused(Rejection::new(ErrorCode::InvalidRequest, error.to_string()))),
        Err(_) => {
            let why = "the change of members was not agreed on in time";
            Err(Failed::Refused(Rejection::new(ErrorCode::RequestTimedOut, why)))
        }
    }
}
