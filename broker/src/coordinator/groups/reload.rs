//! Groups from the log, and into it.

use bytes::Bytes;
use tracing::info;

use super::Groups;
use crate::coordinator::consumer::entry::Entry;
use crate::coordinator::effect::Effect;
use crate::coordinator::group::{Group, GroupState};
use crate::coordinator::ids::GroupId;
use crate::coordinator::member::Member;
use crate::coordinator::record::{GroupValue, MemberValue, Record};
use crate::coordinator::request::{Now, Protocol};
use crate::coordinator::timers::TimerKey;

impl Groups {
    /// Takes a record of the log, in order; before anything else happens here.
    pub fn replay(&mut self, record: Record) {
        match record {
            // A group that had an offset stays until it ends, even without any.
            Record::Offset { .. } => self.apply_offset(record),
            Record::Consumer { group, entry } => self.replay_entry(group, entry),
            // The end of a classic group that has become a consumer group since.
            Record::Group { group, value: None }
                if self.groups.get(&group).is_some_and(|group| group.consumer.is_some()) => {}
            Record::Group { group, value } => {
                let offsets = self.groups.remove(&group).map(|old| old.offsets).unwrap_or_default();
                let pending = self.open.holds_any(group.as_str());
                if value.is_none() && offsets.is_empty() && !pending {
                    return;
                }
                let mut restored = value.map_or_else(|| Group::new(group.clone()), |v| restore(&group, v));
                restored.offsets = offsets;
                restored.logged |= pending;
                self.groups.insert(group, restored);
            }
        }
    }

    fn replay_entry(&mut self, id: GroupId, entry: Entry) {
        let is_consumer = self.groups.get(&id).is_some_and(|group| group.consumer.is_some());
        match entry {
            Entry::Epoch(None) if is_consumer => {
                let mut group = Group::new(id.clone());
                if let Some(old) = self.groups.remove(&id) {
                    group.logged = old.logged;
                    group.offsets = old.offsets;
                }
                if !group.is_blank() {
                    self.groups.insert(id, group);
                }
            }
            entry if entry.removes() && !is_consumer => {}
            entry => {
                let group = self.groups.entry(id.clone()).or_insert_with(|| Group::new(id.clone()));
                if group.consumer.is_none() {
                    let mut consumer = Group::new(id);
                    consumer.logged = true;
                    consumer.consumer = Some(Box::default());
                    consumer.offsets = std::mem::take(&mut group.offsets);
                    *group = consumer;
                }
                if let Some(consumer) = group.consumer.as_deref_mut() {
                    consumer.state.apply(entry, &mut Vec::new());
                }
            }
        }
    }

    /// The log has been read to its end: members have a whole session from now to be heard of.
    pub fn on_loaded(&mut self, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        let ids: Vec<GroupId> = self.groups.keys().cloned().collect();
        for id in ids {
            self.with(now, &mut effects, &id, |group, cx| {
                group.restart_sessions(cx);
                group.expect_revocations(cx);
                if group.members().len() > cx.options.max_size {
                    group.prepare_rebalance(cx, "the group is larger than group.max.size allows");
                }
            });
        }
        self.timers
            .set(TimerKey::Expiry, now.tick_ms.saturating_add(self.options.retention_check_interval_ms));
        info!(groups = self.groups.len(), "groups are loaded");
        effects
    }

    /// An offset that is in the log.
    pub(super) fn apply_offset(&mut self, record: Record) {
        let Record::Offset { group: id, topic, partition, value } = record else { return };
        self.open.supersede(&id, &topic, partition);
        match value {
            Some(committed) => {
                let group = self.groups.entry(id.clone()).or_insert_with(|| Group::new(id));
                group.logged = true;
                group.offsets.insert(&topic, partition, committed);
            }
            None => {
                if let Some(group) = self.groups.get_mut(&id) {
                    group.offsets.remove(&topic, partition);
                }
            }
        }
    }
}

fn restore(id: &GroupId, value: GroupValue) -> Group {
    let mut group = Group::new(id.clone());
    let protocol_type = value.protocol_type;
    group.generation = value.generation;
    let state = if value.members.is_empty() { GroupState::Empty } else { GroupState::Stable };
    for member in value.members {
        let protocol = value.protocol.clone().unwrap_or_default();
        group.add(restore_member(member, protocol), &protocol_type);
    }
    group.protocol_type = Some(protocol_type).filter(|kind| !kind.is_empty());
    group.protocol = value.protocol;
    group.leader = value.leader.filter(|leader| group.member(leader).is_some()).or(group.leader);
    group.restore(state, value.state_since_ms);
    group.find_subscribed();
    group
}

fn restore_member(value: MemberValue, protocol: std::sync::Arc<str>) -> Member {
    Member {
        id: value.id,
        instance_id: value.instance_id,
        client_id: value.client_id,
        client_host: value.client_host,
        session_timeout_ms: value.session_timeout_ms,
        rebalance_timeout_ms: value.rebalance_timeout_ms,
        protocols: vec![Protocol { name: protocol, metadata: value.subscription }],
        assignment: value.assignment,
        is_new: false,
        arrival: 0,
        joining: None,
        syncing: None,
    }
}

impl Group {
    /// The group as it is.
    pub(super) fn record(&self) -> Record {
        self.record_with(|member| member.assignment.clone())
    }

    /// The group with the assignments that it is about to have.
    pub(super) fn record_with(&self, assignment: impl Fn(&Member) -> Bytes) -> Record {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self
            .members()
            .map(|member| MemberValue {
                id: member.id.clone(),
                instance_id: member.instance_id.clone(),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                rebalance_timeout_ms: member.rebalance_timeout_ms,
                session_timeout_ms: member.session_timeout_ms,
                subscription: member.metadata(protocol),
                assignment: assignment(member),
            })
            .collect();
        let value = GroupValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_since_ms: self.state_since_ms.unwrap_or(-1),
            members,
        };
        Record::Group { group: self.id.clone(), value: Some(value) }
    }
}
