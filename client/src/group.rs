//! Membership in a classic group of any protocol type.

mod beats;
mod calls;
mod heartbeat;
mod member;
pub(crate) mod offsets;

use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;

pub use self::beats::Heartbeats;
pub(crate) use self::calls::Identity;
pub use self::member::GroupMember;
use crate::error::Error;

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
    /// The coordinator had forgotten the member, which is a new one now: what was assigned before is lost.
    pub was_lost: bool,
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
    /// Joined, but not yet synced.
    Joined,
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
