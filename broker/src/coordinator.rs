//! The group coordinator: classic groups (consumers, Connect workers and any other protocol type) and committed offsets.
//!
//! A group belongs to one partition of `__consumer_offsets`; whoever leads the partition coordinates the group.
//! [`Groups`] is all groups of one partition: a synchronous state machine, events in and effects out. Around it a shard
//! (one task a partition) carries out effects and keeps time, and [`Coordinator`] finds the shard of a group.

mod context;
mod effect;
mod group;
mod groups;
mod ids;
mod member;
mod offsets;
mod options;
mod record;
mod request;
mod subscription;
mod timers;

pub use effect::{Effect, JoinMember, JoinReply, Reply, SyncReply, Token, WriteId};
pub use group::GroupState;
pub use groups::{DescribedGroup, DescribedMember, FetchedTopic, Groups, ListedGroup};
pub use ids::{Generation, GroupId, InstanceId, MemberId, partition_of};
pub use offsets::Committed;
pub use options::GroupOptions;
pub use record::{GroupValue, MemberValue, Record};
pub use request::{Caller, Commit, CommitOffset, FetchTopic, Join, Leave, Now, Protocol, Sync};
