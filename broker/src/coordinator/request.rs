//! What is asked of a group, free of API versions: the handlers translate.

use std::sync::Arc;

use aqueduct_protocol::ids::Uuid;
use bytes::Bytes;

use super::effect::TransactionalProducer;
use super::ids::{Generation, GroupId, InstanceId, MemberId};

/// A moment by two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a clock that never jumps; deadlines are measured on it.
    pub tick_ms: i64,
    /// Milliseconds since 1970; what is written beside offsets and group states.
    pub wall_ms: i64,
}

/// Who speaks: the triple that nearly every request carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Empty where the client has none.
    pub member_id: MemberId,
    /// Set for static members only.
    pub instance_id: Option<InstanceId>,
    /// [`Generation::NONE`] outside a group.
    pub generation: Generation,
}

/// One way of assigning that a member can take part in, such as `range` or `sessioned`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// Its name; members agree on one by name.
    pub name: Arc<str>,
    /// What the member tells the leader: opaque here.
    pub metadata: Bytes,
}

/// JoinGroup.
#[derive(Clone, Debug)]
pub struct Join {
    /// The group to enter.
    pub group: GroupId,
    /// Empty for a client that has no id yet.
    pub member_id: MemberId,
    /// Set for static members only.
    pub instance_id: Option<InstanceId>,
    /// From the request's header.
    pub client_id: Arc<str>,
    /// Address of the peer.
    pub client_host: Arc<str>,
    /// `consumer`, `connect` or any other.
    pub protocol_type: Arc<str>,
    /// In the member's order of preference.
    pub protocols: Vec<Protocol>,
    /// After which silence the member is dropped.
    pub session_timeout_ms: i32,
    /// How long a rebalance may wait for the member.
    pub rebalance_timeout_ms: i32,
    /// Whether a dynamic member must come back with the id that it is given (version 4 and up).
    pub needs_member_id: bool,
    /// Whether the client knows the field SkipAssignment (version 9 and up).
    pub may_skip_assignment: bool,
    /// Random text that makes a new member id unique.
    pub fresh: String,
}

/// SyncGroup.
#[derive(Clone, Debug)]
pub struct Sync {
    /// The group.
    pub group: GroupId,
    /// The member that asks.
    pub caller: Caller,
    /// Checked where given (version 5 and up).
    pub protocol_type: Option<Arc<str>>,
    /// Checked where given (version 5 and up).
    pub protocol: Option<Arc<str>>,
    /// From the leader: what each member gets.
    pub assignments: Vec<(MemberId, Bytes)>,
}

/// LeaveGroup: the members that shall go.
#[derive(Clone, Debug)]
pub struct Leave {
    /// The group.
    pub group: GroupId,
    /// By id, by instance id, or both.
    pub members: Vec<(MemberId, Option<InstanceId>)>,
}

/// OffsetCommit.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The group.
    pub group: GroupId,
    /// A member, or nobody for offsets that are kept without a group.
    pub caller: Caller,
    /// How long to keep the offsets, where the request says (versions 2 to 4).
    pub retention_ms: Option<i64>,
    /// Whether an unknown group is answered as such (version 9 and up) rather than as a wrong generation.
    pub knows_unknown_group: bool,
    /// The offsets.
    pub offsets: Vec<CommitOffset>,
}

/// TxnOffsetCommit.
#[derive(Clone, Debug)]
pub struct TransactionalCommit {
    /// The group.
    pub group: GroupId,
    /// A member, or nobody where the client is too old to say.
    pub caller: Caller,
    /// Whose transaction.
    pub producer: TransactionalProducer,
    /// The offsets.
    pub offsets: Vec<CommitOffset>,
}

/// One partition's offset in an OffsetCommit.
#[derive(Clone, Debug)]
pub struct CommitOffset {
    /// Topic name.
    pub topic: Arc<str>,
    /// Topic id.
    pub topic_id: Uuid,
    /// Partition index.
    pub partition: i32,
    /// Next offset to read.
    pub offset: i64,
    /// Of the last record read; -1 where unknown.
    pub leader_epoch: i32,
    /// Free text of the client.
    pub metadata: Option<Box<str>>,
}

/// OffsetFetch for the named partitions of one topic.
#[derive(Clone, Debug)]
pub struct FetchTopic {
    /// Topic name.
    pub name: Arc<str>,
    /// Zero where any topic of that name is meant.
    pub id: Uuid,
    /// Partition indexes.
    pub partitions: Vec<i32>,
}
