//! The coordinators of groups and of transactions ([`transactions`]).
//!
//! The group coordinator: classic groups (consumers, Connect workers and any other protocol type), groups of the consumer
//! protocol, and committed offsets.
//!
//! A group belongs to one partition of `__consumer_offsets`; whoever leads the partition coordinates the group.
//! [`Groups`] is all groups of one partition: a synchronous state machine, events in and effects out. Around it a shard
//! (one task a partition) carries out effects and keeps time, and [`Coordinator`] finds the shard of a group.

mod consumer;
mod context;
mod effect;
mod group;
mod groups;
mod ids;
mod journal;
mod member;
mod offsets;
mod options;
mod pending;
mod record;
mod reigns;
mod request;
mod service;
mod shard;
mod subscription;
mod timers;
mod transactions;

pub(crate) use consumer::assignor::Assignor;
pub(crate) use consumer::embedded;
pub(crate) use consumer::options::{ConsumerOptions, Migration};
pub(crate) use consumer::partitions::Partitions as AssignedPartitions;
pub(crate) use consumer::request::{ConsumerHeartbeat, ConsumerHeartbeatReply, Refusal, Visible};
pub(crate) use effect::{JoinReply, Marker, Reply, SyncReply, TransactionalProducer};
pub(crate) use group::GroupState;
pub(crate) use groups::{
    DescribedConsumerGroup, DescribedConsumerMember, DescribedGroup, DescribedMember, FetchedTopic, Groups,
    ListedGroup,
};
pub(crate) use ids::{Generation, GroupId, MemberId, partition_of};
pub(crate) use offsets::Committed;
pub(crate) use record::Record;
pub(crate) use request::{
    Caller, Commit, CommitOffset, FetchTopic, Join, Leave, Protocol, Sync, TransactionalCommit,
};
pub(crate) use service::Coordinator;
pub(crate) use subscription::topics as subscribed_topics;
pub(crate) use transactions::{
    Add, Admission, Described, End, Entrance, Filter, Init, Lines, Listed, MarkerWriter, NO_EPOCH, NO_ID,
    Place, ProducerIds, Record as TransactionRecord, Speaker, Support, TransactionCoordinator,
    TransactionState,
};

#[cfg(test)]
pub(crate) use effect::{Effect, JoinMember, Token, WriteId};
#[cfg(test)]
pub(crate) use groups::GroupKind;
#[cfg(test)]
pub(crate) use options::GroupOptions;
#[cfg(test)]
pub(crate) use request::Now;
