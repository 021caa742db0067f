//! One member of a classic group.

use std::sync::Arc;

use bytes::Bytes;

use super::effect::Token;
use super::ids::{InstanceId, MemberId};
use super::request::{Join, Protocol};

/// A member, from its first JoinGroup that was let in.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Member {
    pub id: MemberId,
    pub instance_id: Option<InstanceId>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
    pub protocols: Vec<Protocol>,
    pub assignment: Bytes,
    /// Whether it waits in its first JoinGroup and so cannot send heartbeats.
    pub is_new: bool,
    /// Its place in the order of arrival: the first leads.
    pub arrival: u64,
    /// Its JoinGroup, while parked.
    pub joining: Option<Token>,
    /// Its SyncGroup, while parked.
    pub syncing: Option<Token>,
}

impl Member {
    pub fn new(id: MemberId, join: &Join) -> Self {
        Self {
            id,
            instance_id: join.instance_id.clone(),
            client_id: join.client_id.clone(),
            client_host: join.client_host.clone(),
            session_timeout_ms: join.session_timeout_ms,
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            protocols: join.protocols.clone(),
            assignment: Bytes::new(),
            is_new: true,
            arrival: 0,
            joining: None,
            syncing: None,
        }
    }

    pub fn is_static(&self) -> bool {
        self.instance_id.is_some()
    }

    /// Whether the member's silence is explained: it waits for us.
    pub fn is_waiting(&self) -> bool {
        self.joining.is_some() || self.syncing.is_some()
    }

    /// What the member says about itself for `protocol`; empty where it does not know it.
    pub fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols.iter().find(|p| &*p.name == protocol).map(|p| p.metadata.clone()).unwrap_or_default()
    }

    /// The first of the member's protocols that `candidate` accepts.
    pub fn vote(&self, candidate: impl Fn(&str) -> bool) -> Option<&Arc<str>> {
        self.protocols.iter().map(|p| &p.name).find(|name| candidate(name))
    }
}
