//! What a node knows of the quorum.

use openraft::{RaftMetrics, ServerState};

use crate::types::{NodeId, Peer};

/// A leader that no majority has confirmed for so long does not decide: another may lead by now. As KRaft's, which resigns
/// after one and a half times its fetch timeout of two seconds.
const MAJORITY_LOST_MS: u64 = 3_000;

/// What a node is in the quorum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Follows without a vote, or has not heard of a quorum yet.
    Observer,
    Follower,
    Candidate,
    Leader,
    /// Cannot go on: see [`Status::failure`].
    Stopped,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub id: NodeId,
    pub peer: Peer,
    pub votes: bool,
    /// The last entry that the leader knows the member to have; on other nodes than the leader, `None`.
    pub replicated: Option<u64>,
}

/// The quorum as one node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub id: NodeId,
    pub role: Role,
    /// The newest epoch that this node has seen (raft's term).
    pub epoch: u64,
    pub leader: Option<NodeId>,
    /// The epoch in which this node leads and has applied everything of the epochs before: who decides on entries begins
    /// now, with the state as it is, and proposes them for this epoch. `None` while a leader has no majority, though it may
    /// have it again in the same epoch: what was proposed and not agreed on then may still be.
    pub active_epoch: Option<u64>,
    /// By id; empty before there is a quorum.
    pub members: Vec<Member>,
    /// Index of the last entry in the log, and of the last that was agreed on and applied.
    pub last: u64,
    pub applied: u64,
    /// Index of the last entry in the newest snapshot, and of the last that is not in the log any more.
    pub snapshot: Option<u64>,
    pub purged: Option<u64>,
    /// For a leader: how long ago a majority has last confirmed it.
    pub since_majority_ms: Option<u64>,
    /// Why the node has stopped.
    pub failure: Option<String>,
}

impl Status {
    /// The ids of those who vote.
    pub fn voters(&self) -> Vec<NodeId> {
        self.members.iter().filter(|member| member.votes).map(|member| member.id).collect()
    }

    pub(crate) fn of(metrics: &RaftMetrics<NodeId, Peer>) -> Self {
        let membership = metrics.membership_config.membership();
        let voters: Vec<NodeId> = membership.voter_ids().collect();
        let replicated = |id: &NodeId| {
            let known = metrics.replication.as_ref()?.get(id)?;
            known.map(|log_id| log_id.index)
        };
        let member = |(id, peer): (&NodeId, &Peer)| Member {
            id: *id,
            peer: peer.clone(),
            votes: voters.contains(id),
            replicated: replicated(id),
        };
        let leads = metrics.state == ServerState::Leader && metrics.current_leader == Some(metrics.id);
        let caught_up = metrics.last_applied.is_some_and(|id| id.leader_id.term == metrics.current_term);
        let has_majority = metrics.millis_since_quorum_ack.is_none_or(|ms| ms < MAJORITY_LOST_MS);
        let decides = leads && caught_up && has_majority;
        let failure = metrics.running_state.as_ref().err().map(ToString::to_string);
        Self {
            id: metrics.id,
            role: match metrics.state {
                _ if failure.is_some() => Role::Stopped,
                ServerState::Learner => Role::Observer,
                ServerState::Follower => Role::Follower,
                ServerState::Candidate => Role::Candidate,
                ServerState::Leader => Role::Leader,
                ServerState::Shutdown => Role::Stopped,
            },
            epoch: metrics.current_term,
            leader: metrics.current_leader,
            active_epoch: (decides && failure.is_none()).then_some(metrics.current_term),
            members: membership.nodes().map(member).collect(),
            last: metrics.last_log_index.unwrap_or(0),
            applied: metrics.last_applied.map_or(0, |id| id.index),
            snapshot: metrics.snapshot.map(|id| id.index),
            purged: metrics.purged.map(|id| id.index),
            since_majority_ms: metrics.millis_since_quorum_ack,
            failure,
        }
    }
}
