//! Membership in a classic group of any protocol type.

use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;

use crate::client::Client;
use crate::error::{Error, Result};

/// What a member brings along.
#[derive(Debug, Clone)]
pub struct GroupMemberOptions {
    /// `group.id`.
    pub group_id: ByteString,
    /// `consumer`, `connect` or another.
    pub protocol_type: ByteString,
    /// `group.instance.id`, for static membership.
    pub instance_id: Option<ByteString>,
    /// After this long without heartbeat the coordinator removes the member.
    pub session_timeout: Duration,
    /// How long the coordinator waits for members to rejoin.
    pub rebalance_timeout: Duration,
    /// Time between heartbeats.
    pub heartbeat_interval: Duration,
    /// Leave the group when [`GroupMember::touch`] was not called for this long; `None` for never.
    pub max_poll_interval: Option<Duration>,
}

/// A completed round of JoinGroup.
#[derive(Debug, Clone)]
pub struct JoinOutcome {
    pub generation: i32,
    pub member_id: ByteString,
    /// Member id of the leader.
    pub leader_id: ByteString,
    /// The protocol that the coordinator chose.
    pub protocol: ByteString,
    /// All members and their metadata for the chosen protocol; empty unless this member leads.
    pub members: Vec<JoinedMember>,
    /// The leader is to keep the assignment as it is (KIP-814, static members).
    pub skip_assignment: bool,
}

impl JoinOutcome {
    /// Whether this member has to compute the assignment.
    pub fn is_leader(&self) -> bool {
        self.member_id == self.leader_id
    }
}

/// A member as the leader sees it.
#[derive(Debug, Clone)]
pub struct JoinedMember {
    pub member_id: ByteString,
    pub instance_id: Option<ByteString>,
    pub metadata: Bytes,
}

/// How a round of SyncGroup ended.
#[derive(Debug, Clone)]
pub enum SyncOutcome {
    /// The generation stands; these are this member's assignment bytes.
    Assigned(Bytes),
    /// Another rebalance began, or the member was removed: join again.
    Rejoin,
}

/// What the heartbeats tell.
#[derive(Debug, Clone)]
pub enum MemberSignal {
    /// Not a member.
    Unjoined,
    /// A member, and the generation stands.
    Stable,
    /// A rebalance has begun: join again within the rebalance timeout. Everything assigned is still owned.
    RebalanceNeeded,
    /// The coordinator no longer knows the member (session expired, generation passed): what was assigned may belong to
    /// others by now. Join again; a new member id is used.
    Lost(Error),
    /// Another process took over this `group.instance.id`, or the group may not be used: joining again is of no use.
    Fatal(Error),
}

/// Membership in a group, driven by its owner: `join`, `sync`, then wait for a signal and join again.
///
/// ```text
/// join ──► JoinOutcome ──► (leader computes assignments) ──► sync ──► Assigned ──► changed() ─┐
///   ▲                                                         │ Rejoin                        │ RebalanceNeeded, Lost
///   └─────────────────────────────────────────────────────────┴───────────────────────────────┘
/// ```
/// Heartbeats are sent in the background from a successful join on until the next join, `leave` or drop. Clones are the
/// same member.
#[derive(Debug, Clone)]
pub struct GroupMember {}

impl GroupMember {
    /// A member-to-be; nothing is sent yet.
    pub fn new(_client: Client, _options: GroupMemberOptions) -> Self {
        Self {}
    }

    /// Joins, or joins again, offering `protocols` (name, metadata) in order of preference. Returns when the coordinator
    /// ends the round. Coordinator changes and retriable errors are handled inside, without a limit in time: drop the
    /// future to give up; joining again afterwards is safe.
    ///
    /// # Errors
    /// Fatal ones only: fenced instance, not authorised, inconsistent protocol, invalid session timeout, group full.
    pub async fn join(&self, _protocols: Vec<(ByteString, Bytes)>) -> Result<JoinOutcome> {
        Err(Error::Closed("group member"))
    }

    /// Hands in the leader's assignments (member id, bytes; empty for followers) and gets this member's own.
    pub async fn sync(&self, _assignments: Vec<(ByteString, Bytes)>) -> Result<SyncOutcome> {
        Err(Error::Closed("group member"))
    }

    /// The latest signal.
    pub fn signal(&self) -> MemberSignal {
        MemberSignal::Unjoined
    }

    /// Waits until the signal is other than `Stable`, and returns it. Cancel-safe.
    pub async fn changed(&self) -> MemberSignal {
        MemberSignal::Unjoined
    }

    /// Tells that the owner is alive, for `max_poll_interval`.
    pub fn touch(&self) {}

    /// Generation and member id of the current membership.
    pub fn generation(&self) -> Option<(i32, ByteString)> {
        None
    }

    /// Leaves the group, so that others need not wait for the session to expire. Static members stay. `reason` appears in
    /// the coordinator's log.
    pub async fn leave(&self, _reason: &str) -> Result<()> {
        Err(Error::Closed("group member"))
    }
}
