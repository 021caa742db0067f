//! What follows from an event: the shell carries it out, in order.

use std::sync::Arc;

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::ids::{ProducerEpoch, ProducerId};
use aqueduct_storage::VerificationGuard;
use bytes::Bytes;

use super::consumer::request::{ConsumerHeartbeatReply, Refusal};
use super::ids::{Generation, InstanceId, MemberId};
use super::record::Record;

/// Names a request that waits for its answer. Every token is answered exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Names an append; [`super::Groups::on_appended`] is called with it when the append is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Answer a request.
    Reply(Token, Reply),
    /// Append the records to the shard's partition, after those of earlier effects.
    Append(WriteId, Arc<[Record]>),
    /// The same, as part of a producer's transaction.
    AppendTransactional(WriteId, TransactionalProducer, Arc<[Record]>),
    /// Append the end of a producer's transaction.
    AppendMarker(WriteId, Marker),
}

/// Whose transaction offsets belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionalProducer {
    /// Its id.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// That the transaction coordinator knows of this partition.
    pub guard: Option<VerificationGuard>,
}

/// The end of a producer's transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Whose transaction.
    pub producer: ProducerId,
    /// Of the marker; from transaction version 2 on newer than that of the records.
    pub epoch: ProducerEpoch,
    /// Committed or aborted.
    pub committed: bool,
    /// Reign of the transaction coordinator that decided.
    pub coordinator_epoch: i32,
    /// Version of the transaction.
    pub transaction_version: i16,
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// To JoinGroup.
    Join(JoinReply),
    /// To SyncGroup.
    Sync(SyncReply),
    /// To Heartbeat.
    Heartbeat(ErrorCode),
    /// To LeaveGroup: one code for each member, in their order, or one for all.
    Leave(Result<Vec<ErrorCode>, ErrorCode>),
    /// To OffsetCommit and OffsetDelete: one code for each partition, in their order, or one for all.
    Partitions(Result<Vec<ErrorCode>, ErrorCode>),
    /// To DeleteGroups: one group's result.
    Delete(ErrorCode),
    /// To a transaction's marker.
    Marker(ErrorCode),
    /// To ConsumerGroupHeartbeat.
    ConsumerHeartbeat(Result<ConsumerHeartbeatReply, Refusal>),
}

impl Reply {
    /// The answer to the same request where what it tells of could not be written.
    pub fn failed(self, error: ErrorCode) -> Self {
        match self {
            Self::Join(_) => Self::Join(JoinReply::error(error, MemberId::default())),
            Self::Sync(_) => Self::Sync(SyncReply::error(error)),
            Self::Heartbeat(_) => Self::Heartbeat(error),
            Self::Leave(_) => Self::Leave(Err(error)),
            Self::Partitions(_) => Self::Partitions(Err(error)),
            Self::Delete(_) => Self::Delete(error),
            Self::Marker(_) => Self::Marker(error),
            Self::ConsumerHeartbeat(_) => Self::ConsumerHeartbeat(Err(error.into())),
        }
    }
}

/// The answer to JoinGroup.
#[derive(Clone, Debug, PartialEq)]
pub struct JoinReply {
    /// Zero where the member is in.
    pub error: ErrorCode,
    /// [`Generation::NONE`] on error.
    pub generation: Generation,
    /// The group's, where it has one.
    pub protocol_type: Option<Arc<str>>,
    /// The protocol that was chosen.
    pub protocol: Option<Arc<str>>,
    /// Who assigns; empty on error.
    pub leader: MemberId,
    /// Tells the leader to keep the assignment that there is.
    pub skip_assignment: bool,
    /// The caller's id, which may be new.
    pub member_id: MemberId,
    /// For the leader: everyone in the group.
    pub members: Vec<JoinMember>,
}

/// What the leader is told about a member.
#[derive(Clone, Debug, PartialEq)]
pub struct JoinMember {
    /// Its id.
    pub member_id: MemberId,
    /// Set for static members.
    pub instance_id: Option<InstanceId>,
    /// Its metadata for the protocol that was chosen.
    pub metadata: Bytes,
}

impl JoinReply {
    /// An answer with an error.
    pub fn error(error: ErrorCode, member_id: MemberId) -> Self {
        Self {
            error,
            generation: Generation::NONE,
            protocol_type: None,
            protocol: None,
            leader: MemberId::default(),
            skip_assignment: false,
            member_id,
            members: Vec::new(),
        }
    }
}

/// The answer to SyncGroup.
#[derive(Clone, Debug, PartialEq)]
pub struct SyncReply {
    /// Zero where the assignment is valid.
    pub error: ErrorCode,
    /// The group's.
    pub protocol_type: Option<Arc<str>>,
    /// The protocol that was chosen.
    pub protocol: Option<Arc<str>>,
    /// What the leader gave to this member; empty where nothing.
    pub assignment: Bytes,
}

impl SyncReply {
    /// An answer with an error.
    pub fn error(error: ErrorCode) -> Self {
        Self { error, protocol_type: None, protocol: None, assignment: Bytes::new() }
    }
}
