//! DescribeGroups, ListGroups and DeleteGroups.

use std::sync::Arc;

use aqueduct_protocol::ErrorCode;
use bytes::Bytes;
use tracing::info;

use super::Groups;
use crate::coordinator::context::{Context, Then};
use crate::coordinator::effect::{Effect, Reply, Token};
use crate::coordinator::group::{Group, GroupState};
use crate::coordinator::ids::{GroupId, InstanceId, MemberId};
use crate::coordinator::record::Record;
use crate::coordinator::request::Now;
use crate::coordinator::subscription::CONSUMER;

/// A group as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    /// `group.id`
    pub id: GroupId,
    /// Empty for a group that never had members.
    pub protocol_type: Arc<str>,
    /// Kafka's name for where it stands.
    pub state: &'static str,
    /// `classic` or `consumer`.
    pub kind: GroupKind,
}

/// The protocol of a group's members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupKind {
    /// JoinGroup and SyncGroup; a member assigns.
    Classic,
    /// ConsumerGroupHeartbeat; the coordinator assigns.
    Consumer,
}

impl GroupKind {
    /// Kafka's name for the kind.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
        }
    }
}

/// A classic group in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedGroup {
    /// Where it stands.
    pub state: GroupState,
    /// Empty for a group that never had members.
    pub protocol_type: Arc<str>,
    /// What was chosen; empty unless the group is stable.
    pub protocol: Arc<str>,
    /// Everyone in it.
    pub members: Vec<DescribedMember>,
}

/// A member in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedMember {
    /// Its id.
    pub id: MemberId,
    /// Set for static members.
    pub instance_id: Option<InstanceId>,
    /// `client.id`
    pub client_id: Arc<str>,
    /// Address of the peer.
    pub client_host: Arc<str>,
    /// For the group's protocol; empty unless the group is stable.
    pub metadata: Bytes,
    /// What the leader gave to it.
    pub assignment: Bytes,
}

impl Groups {
    /// Every group, in no order.
    pub fn list(&self) -> impl Iterator<Item = ListedGroup> {
        self.groups.values().map(|group| match &group.consumer {
            None => ListedGroup {
                id: group.id.clone(),
                protocol_type: group.protocol_type.clone().unwrap_or_default(),
                state: group.state().name(),
                kind: GroupKind::Classic,
            },
            Some(consumer) => ListedGroup {
                id: group.id.clone(),
                protocol_type: CONSUMER.into(),
                state: consumer.state.state().name(),
                kind: GroupKind::Consumer,
            },
        })
    }

    /// Whether there is a group of that name, of whatever kind.
    pub fn contains(&self, id: &str) -> bool {
        self.groups.contains_key(id)
    }

    /// One classic group; `None` where there is none of that name.
    pub fn describe(&self, id: &str) -> Option<DescribedGroup> {
        self.groups.get(id).filter(|group| group.consumer.is_none()).map(Group::describe)
    }

    /// Ends a group without members, and its offsets; answers when that is in the log.
    pub fn on_delete(&mut self, now: Now, token: Token, id: &GroupId) -> Vec<Effect> {
        let missing = || Reply::Delete(ErrorCode::GroupIdNotFound);
        self.ask(now, id, token, missing, |group, cx| {
            if group.has_no_members() {
                group.delete(cx, token);
            } else {
                cx.reply(token, Reply::Delete(ErrorCode::NonEmptyGroup));
            }
        })
    }
}

impl Group {
    /// Whether nobody is in the group.
    pub(in crate::coordinator) fn has_no_members(&self) -> bool {
        match &self.consumer {
            None => self.state() == GroupState::Empty,
            Some(consumer) => consumer.state.is_empty(),
        }
    }

    /// The records that end the group.
    pub(super) fn end(&self) -> Vec<Record> {
        match &self.consumer {
            None => vec![Record::Group { group: self.id.clone(), value: None }],
            Some(consumer) => {
                let record = |entry| Record::Consumer { group: self.id.clone(), entry };
                consumer.state.tombstones().into_iter().map(record).collect()
            }
        }
    }

    fn describe(&self) -> DescribedGroup {
        let stable = self.state() == GroupState::Stable;
        let protocol = self.protocol.clone().filter(|_| stable).unwrap_or_default();
        let members = self
            .members()
            .map(|member| DescribedMember {
                id: member.id.clone(),
                instance_id: member.instance_id.clone(),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                metadata: if stable { member.metadata(&protocol) } else { Bytes::new() },
                assignment: member.assignment.clone(),
            })
            .collect();
        let protocol_type = self.protocol_type.clone().unwrap_or_default();
        DescribedGroup { state: self.state(), protocol_type, protocol, members }
    }

    fn delete(&mut self, cx: &mut Context<'_>, token: Token) {
        info!(group = %self.id, "group is deleted");
        let mut records: Vec<_> =
            self.offsets.iter().map(|(topic, index, _)| self.tombstone(topic, index)).collect();
        records.extend(self.end());
        self.last_write = Some(cx.append(records, Then::Delete { group: self.id.clone(), token }));
    }
}
