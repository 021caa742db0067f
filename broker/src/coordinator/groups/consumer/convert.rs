//! Groups turn from one protocol to the other: empty ones whenever someone of the other kind comes, live ones when the
//! first member of the consumer protocol comes or the last one leaves (KIP-848's online migration).

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::ids::Uuid;
use bytes::Bytes;
use tracing::{info, warn};

use super::write::Undo;
use crate::coordinator::consumer::embedded;
use crate::coordinator::consumer::entry::{ClassicTerms, Entry, GroupEpoch, Standing, TargetEpoch, Terms};
use crate::coordinator::consumer::group::ConsumerGroup;
use crate::coordinator::consumer::partitions::{Owned, Partitions, give, without_epochs};
use crate::coordinator::consumer::request::Refusal;
use crate::coordinator::consumer::state::State;
use crate::coordinator::context::Context;
use crate::coordinator::effect::{JoinReply, Reply, SyncReply, Token};
use crate::coordinator::group::{Group, GroupState};
use crate::coordinator::ids::{Generation, MemberId};
use crate::coordinator::member::Member;
use crate::coordinator::record::Record;
use crate::coordinator::subscription::CONSUMER;
use crate::coordinator::timers::TimerKey;

impl Group {
    /// Makes a classic group without members one of the consumer protocol. Gives back what it was, and the record that
    /// ends it where there was anything.
    pub(super) fn make_empty_consumer(&mut self) -> (Group, Vec<Record>) {
        let known = !self.is_forgettable();
        let before = self.become_consumer(State::default());
        let end = Record::Group { group: self.id.clone(), value: None };
        (before, if known { vec![end] } else { Vec::new() })
    }

    fn become_consumer(&mut self, state: State) -> Group {
        let mut group = Group::new(self.id.clone());
        group.consumer = Some(Box::new(ConsumerGroup::new(state)));
        self.become_group(group)
    }

    /// Makes a consumer group without members a classic one, for someone of the classic protocol.
    pub(in crate::coordinator::groups) fn make_empty_classic(&mut self, cx: &mut Context<'_>) {
        let Some(consumer) = self.as_consumer() else { return };
        let records = self.records(consumer.state.tombstones());
        let before = self.become_group(Group::new(self.id.clone()));
        self.write(cx, records, Undo::Protocol(Box::new(before)), None);
    }

    /// Makes a classic group with members one of the consumer protocol, where that is allowed and possible. The members
    /// stay, with what they have.
    pub(super) fn upgrade(&mut self, cx: &Context<'_>) -> Result<(Group, Vec<Record>), Refusal> {
        let refuse = |why: &str| {
            info!(group = %self.id, why, "classic group is not upgraded");
            let message =
                format!("Cannot upgrade classic group {} to consumer group because {why}.", self.id);
            Err(Refusal::new(ErrorCode::GroupIdNotFound, message))
        };
        let options = &cx.options.consumer;
        if !options.migration.upgrades() {
            return refuse("online upgrade is disabled");
        }
        if !self.is_consumer_group() {
            return refuse("the group does not use the consumer embedded protocol");
        }
        if self.members().len() > options.max_size {
            return refuse("the group size exceeds the consumer group maximum size");
        }
        let Some(entries) = self.as_entries(cx) else {
            return refuse("the embedded consumer protocol is malformed");
        };
        let mut state = State::default();
        entries.iter().for_each(|entry| state.apply(entry.clone(), &mut Vec::new()));
        info!(group = %self.id, members = state.len(), "classic group becomes a consumer group");
        let mut records = vec![Record::Group { group: self.id.clone(), value: None }];
        records.extend(self.records(entries));
        Ok((self.become_consumer(state), records))
    }

    /// The members of a classic group as a consumer group keeps them.
    fn as_entries(&self, cx: &Context<'_>) -> Option<Vec<Entry>> {
        let epoch = self.generation.0.max(1);
        let (mut terms, mut targets, mut standings) = (Vec::new(), Vec::new(), Vec::new());
        let mut given: HashSet<(Uuid, i32)> = HashSet::new();
        for member in self.members() {
            let known = |p: &&crate::coordinator::request::Protocol| Some(&p.name) == self.protocol.as_ref();
            let protocol = member.protocols.iter().find(known).or(member.protocols.first())?;
            let subscription = embedded::read_subscription(&protocol.metadata)?;
            let mut assigned = Owned::new();
            for (name, index) in embedded::read_assignment(&member.assignment)? {
                // Two members with one partition would be the doing of a strange client; one of them keeps it.
                let topic = cx.image.topic(&name).map(|topic| topic.id);
                if let Some(topic) = topic.filter(|topic| given.insert((*topic, index))) {
                    give(&mut assigned, topic, index, epoch);
                }
            }
            let id = &member.id;
            targets.push(Entry::Target(id.clone(), Some(Arc::new(without_epochs(&assigned)))));
            let standing = Standing { epoch, previous_epoch: epoch, assigned, ..Standing::default() };
            standings.push(Entry::Standing(id.clone(), Some(Arc::new(standing))));
            terms.push(Entry::Member(id.clone(), Some(Arc::new(classic_terms(member, subscription)))));
        }
        let mut all = terms;
        all.push(Entry::Epoch(Some(GroupEpoch { epoch, topics_hash: 0 })));
        all.extend(targets);
        all.push(Entry::TargetEpoch(Some(TargetEpoch { epoch, at_ms: 0 })));
        all.extend(standings);
        Some(all)
    }

    /// After an upgrade: members that wait are told to rejoin, and everyone has a session.
    pub(super) fn take_over_members(&mut self, cx: &mut Context<'_>, undo: &mut Undo) {
        let Undo::Protocol(before) = undo else { return };
        cx.timers.cancel(&TimerKey::Join(self.id.clone()));
        cx.timers.cancel(&TimerKey::Sync(self.id.clone()));
        for id in before.pending_join.drain() {
            cx.timers.cancel(&TimerKey::Session(self.id.clone(), id));
        }
        for id in before.member_ids() {
            if let Some(token) = before.unpark_join(&id) {
                cx.reply(token, Reply::Join(JoinReply::error(ErrorCode::RebalanceInProgress, id.clone())));
            }
            if let Some(token) = before.member_mut(&id).and_then(|member| member.syncing.take()) {
                cx.reply(token, Reply::Sync(SyncReply::error(ErrorCode::RebalanceInProgress)));
            }
            if let Some(member) = before.member_mut(&id) {
                member.is_new = false;
            }
        }
        self.restart_sessions(cx);
    }

    /// Whether the group may turn classic when these members are gone.
    pub(super) fn may_downgrade(&self, cx: &Context<'_>, leaving: &[MemberId]) -> bool {
        let Some(consumer) = self.as_consumer() else { return false };
        let state = &consumer.state;
        let leaves = |id: &MemberId| leaving.contains(id);
        let stay = state.len().saturating_sub(leaving.len());
        let speakers = state.members().filter(|(id, member)| !member.is_classic() && leaves(id)).count();
        let all_classic = state.classic_members() == stay && speakers == leaving.len();
        if !all_classic || stay == 0 || speakers == 0 {
            return false;
        }
        if !cx.options.consumer.migration.downgrades() {
            info!(group = %self.id, "consumer group stays one: online downgrade is disabled");
            return false;
        }
        if stay > cx.options.max_size {
            info!(group = %self.id, "consumer group stays one: it is larger than group.max.size");
            return false;
        }
        true
    }

    /// Makes the group a classic one of the members that stay, which are all of the classic protocol.
    pub(super) fn downgrade(
        &mut self,
        cx: &mut Context<'_>,
        leaving: &[MemberId],
        answer: Option<(Token, Reply)>,
    ) {
        let Some(consumer) = self.as_consumer() else { return };
        let classic = self.as_classic(cx, &consumer.state, leaving);
        let mut records = self.records(consumer.state.tombstones());
        let ids: Vec<MemberId> = consumer.state.members().map(|(id, _)| id.clone()).collect();
        for id in ids {
            for key in [TimerKey::Rebalance, TimerKey::ClassicJoin, TimerKey::ClassicSync] {
                cx.timers.cancel(&key(self.id.clone(), id.clone()));
            }
        }
        let before = self.become_group(classic);
        info!(group = %self.id, members = self.members().len(), "consumer group becomes a classic group");
        records.push(self.record());
        self.write(cx, records, Undo::Protocol(Box::new(before)), answer);
        self.restart_sessions(cx);
    }

    fn as_classic(&self, cx: &Context<'_>, state: &State, leaving: &[MemberId]) -> Group {
        let mut group = Group::new(self.id.clone());
        group.generation = Generation(state.epoch());
        for (id, member) in state.members().filter(|(id, _)| !leaving.contains(id)) {
            let Some(classic) = &member.terms.classic else {
                warn!(group = %self.id, member = %id, "member does not speak the classic protocol and is left out");
                continue;
            };
            let assignment = self.embedded_assignment(cx, classic, &state.target(id));
            let member = Member {
                id: id.clone(),
                instance_id: member.terms.instance_id.clone(),
                client_id: member.terms.client_id.clone(),
                client_host: member.terms.client_host.clone(),
                session_timeout_ms: classic.session_timeout_ms,
                rebalance_timeout_ms: member.terms.rebalance_timeout_ms,
                protocols: classic.protocols.clone(),
                assignment,
                is_new: false,
                arrival: 0,
                joining: None,
                syncing: None,
            };
            group.add(member, &CONSUMER.into());
        }
        group.protocol = group.vote();
        group.enter(GroupState::Stable, cx.now.wall_ms);
        group.find_subscribed();
        group
    }

    /// An assignment in the form that a member of the classic protocol understands.
    pub(super) fn embedded_assignment(
        &self,
        cx: &Context<'_>,
        classic: &ClassicTerms,
        partitions: &Partitions,
    ) -> Bytes {
        let version = classic.protocols.first().map_or(0, |protocol| embedded::version(&protocol.metadata));
        let mut named = BTreeMap::new();
        for (topic, parts) in partitions {
            if let Some(topic) = cx.image.topic_by_id(*topic) {
                named.insert(&*topic.name, parts.iter().copied().collect());
            }
        }
        embedded::write_assignment(version, &named)
    }
}

/// How a classic member describes itself in a consumer group.
pub(super) fn classic_terms(member: &Member, subscription: embedded::Subscription) -> Terms {
    Terms {
        instance_id: member.instance_id.clone(),
        rack: subscription.rack,
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        topics: subscription.topics,
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        classic: Some(ClassicTerms {
            session_timeout_ms: member.session_timeout_ms,
            protocols: member.protocols.clone(),
        }),
        ..Terms::default()
    }
}
