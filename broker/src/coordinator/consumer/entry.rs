//! What is kept of a consumer group, key by key, as the records of `__consumer_offsets` keep it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::partitions::{Owned, Partitions};
use crate::coordinator::ids::{InstanceId, MemberId};
use crate::coordinator::request::Protocol;

/// One key of a group's state and what it is set to; `None` where it is removed.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// The group itself.
    Epoch(Option<GroupEpoch>),
    /// What a broker before 4.1 knew of the topics: read over, and removed when the group changes.
    TopicMetadata(bool),
    /// A member as it describes itself.
    Member(MemberId, Option<Arc<Terms>>),
    /// Of which group epoch the target assignment is.
    TargetEpoch(Option<TargetEpoch>),
    /// A member's part of the target assignment.
    Target(MemberId, Option<Arc<Partitions>>),
    /// How far a member has come.
    Standing(MemberId, Option<Arc<Standing>>),
    /// The topics that match a regular expression of the subscriptions.
    Pattern(Arc<str>, Option<Arc<Resolved>>),
}

impl Entry {
    /// Whether it takes something away.
    pub fn removes(&self) -> bool {
        matches!(
            self,
            Self::Epoch(None)
                | Self::TopicMetadata(false)
                | Self::Member(_, None)
                | Self::TargetEpoch(None)
                | Self::Target(_, None)
                | Self::Standing(_, None)
                | Self::Pattern(_, None)
        )
    }
}

/// The group's epoch rises with every change that asks for a new assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupEpoch {
    /// 1 before the first change.
    pub epoch: i32,
    /// Of the topics that the group reads, as they were in this epoch.
    pub topics_hash: i64,
}

impl Default for GroupEpoch {
    fn default() -> Self {
        Self { epoch: 1, topics_hash: 0 }
    }
}

/// The group epoch that the target assignment is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetEpoch {
    /// 1 before the first assignment.
    pub epoch: i32,
    /// When it was computed, in milliseconds since 1970; 0 where unknown.
    pub at_ms: i64,
}

impl Default for TargetEpoch {
    fn default() -> Self {
        Self { epoch: 1, at_ms: 0 }
    }
}

/// A member as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Set for static members.
    pub instance_id: Option<InstanceId>,
    /// `client.rack`
    pub rack: Option<Arc<str>>,
    /// `client.id`
    pub client_id: Arc<str>,
    /// Address of the peer.
    pub client_host: Arc<str>,
    /// Topics that are subscribed to by name.
    pub topics: BTreeSet<Arc<str>>,
    /// Topics that are subscribed to by a regular expression; empty means none.
    pub pattern: Option<Arc<str>>,
    /// How long the member may take to give partitions up; -1 where it has not said.
    pub rebalance_timeout_ms: i32,
    /// The assignor that it prefers.
    pub assignor: Option<Arc<str>>,
    /// Set for a member that speaks the classic protocol.
    pub classic: Option<ClassicTerms>,
}

/// What only a member of the classic protocol says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassicTerms {
    /// After which silence it is dropped.
    pub session_timeout_ms: i32,
    /// The embedded protocol with its subscription, by name.
    pub protocols: Vec<Protocol>,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            instance_id: None,
            rack: None,
            client_id: "".into(),
            client_host: "".into(),
            topics: BTreeSet::new(),
            pattern: Some("".into()),
            rebalance_timeout_ms: -1,
            assignor: None,
            classic: None,
        }
    }
}

impl Terms {
    /// The pattern, where there is one.
    pub fn pattern(&self) -> Option<&Arc<str>> {
        self.pattern.as_ref().filter(|pattern| !pattern.is_empty())
    }
}

/// Where a member stands on its way to the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemberState {
    /// It has what the target of its epoch gives to it.
    #[default]
    Stable,
    /// It must give partitions up.
    Unrevoked,
    /// It waits for partitions that others still hold.
    Unreleased,
    /// Written by a later version.
    Unknown,
}

impl MemberState {
    /// As records number it.
    pub fn code(self) -> i8 {
        match self {
            Self::Stable => 0,
            Self::Unrevoked => 1,
            Self::Unreleased => 2,
            Self::Unknown => 127,
        }
    }

    /// The state of a number.
    pub fn from_code(code: i8) -> Self {
        match code {
            0 => Self::Stable,
            1 => Self::Unrevoked,
            2 => Self::Unreleased,
            _ => Self::Unknown,
        }
    }
}

/// How far a member has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What the member must send with its next heartbeat; -2 for a static member that is away.
    pub epoch: i32,
    /// The epoch before, which is accepted where the answer with the new one may have been lost.
    pub previous_epoch: i32,
    pub state: MemberState,
    /// What the member may read.
    pub assigned: Owned,
    /// What it still has to give up.
    pub revoking: Owned,
}

impl Default for Standing {
    fn default() -> Self {
        Self {
            epoch: 0,
            previous_epoch: 0,
            state: MemberState::Stable,
            assigned: Owned::new(),
            revoking: Owned::new(),
        }
    }
}

impl Standing {
    /// Whether the member has all of the target of `epoch`.
    pub fn is_reconciled_to(&self, epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == epoch
    }
}

/// The topics that match a pattern.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// By name.
    pub topics: BTreeSet<Arc<str>>,
    /// Of the metadata that was looked through.
    pub version: i64,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
}
