//! What is asked of a consumer group, and what it answers, free of API versions.

use std::fmt;
use std::sync::Arc;

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::ids::Uuid;

use super::partitions::Partitions;
use crate::coordinator::ids::{GroupId, InstanceId, MemberId};

/// The epoch with which a member joins.
pub const JOIN: i32 = 0;
/// The epoch with which a member leaves.
pub const LEAVE: i32 = -1;
/// The epoch with which a static member goes away for a while.
pub const AWAY: i32 = -2;

/// ConsumerGroupHeartbeat. What has not changed since the last one may be left out.
#[derive(Clone, Debug, Default)]
pub struct ConsumerHeartbeat {
    pub group: GroupId,
    /// Given by the client since version 1.
    pub member_id: MemberId,
    pub epoch: i32,
    pub instance_id: Option<InstanceId>,
    pub rack: Option<Arc<str>>,
    /// -1 where it has not changed.
    pub rebalance_timeout_ms: i32,
    /// From the request's header.
    pub client_id: Arc<str>,
    /// Address of the peer.
    pub client_host: Arc<str>,
    pub topics: Option<Vec<Arc<str>>>,
    pub pattern: Option<Arc<str>>,
    pub assignor: Option<Arc<str>>,
    /// What the member has at present.
    pub owned: Option<Vec<(Uuid, Vec<i32>)>>,
    /// Whether the client names itself (version 1 and up).
    pub names_itself: bool,
    /// An id for a member that has none.
    pub fresh: String,
    /// Topics that the member may know of.
    pub visible: Visible,
}

/// Topics that a client may know of: regular expressions find no others.
#[derive(Clone, Default)]
pub struct Visible(pub Option<Arc<Shows>>);

/// Whether a topic may be known.
type Shows = dyn Fn(&str) -> bool + Send + Sync;

impl Visible {
    pub fn shows(&self, topic: &str) -> bool {
        self.0.as_ref().is_none_or(|shows| shows(topic))
    }
}

impl fmt::Debug for Visible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Visible(some)" } else { "Visible(all)" })
    }
}

/// The answer to ConsumerGroupHeartbeat.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsumerHeartbeatReply {
    pub member_id: MemberId,
    /// To be sent with the next heartbeat.
    pub epoch: i32,
    /// When to send it; 0 for a member that leaves.
    pub heartbeat_interval_ms: i32,
    /// Where it has changed or all was asked for: what the member may read.
    pub assignment: Option<Partitions>,
}

/// A request that is turned down, in the terms of the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: ErrorCode,
    /// `None` where the code says it all.
    pub message: Option<String>,
}

impl Refusal {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: Some(message.into()) }
    }
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self { code, message: None }
    }
}
