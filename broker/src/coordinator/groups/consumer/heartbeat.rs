//! ConsumerGroupHeartbeat: a member joins, says what it reads and has, and hears what it may read; or it leaves.

use std::sync::Arc;

use aqueduct_protocol::ErrorCode;
use tracing::info;

use super::subscription::Look;
use super::write::Undo;
use crate::coordinator::consumer::assignor::Assignor;
use crate::coordinator::consumer::draft::Draft;
use crate::coordinator::consumer::entry::{Entry, MemberState, Standing, Terms};
use crate::coordinator::consumer::partitions::without_epochs;
use crate::coordinator::consumer::reconcile::{self, Surroundings};
use crate::coordinator::consumer::request::{
    AWAY, ConsumerHeartbeat, ConsumerHeartbeatReply, JOIN, LEAVE, Refusal,
};
use crate::coordinator::consumer::state::Member;
use crate::coordinator::context::Context;
use crate::coordinator::effect::{Effect, Reply, Token};
use crate::coordinator::group::{Group, GroupState};
use crate::coordinator::groups::Groups;
use crate::coordinator::ids::{InstanceId, MemberId};
use crate::coordinator::request::Now;
use crate::coordinator::timers::TimerKey;

/// Ids are the keys of records, where text has no more bytes than this.
pub(super) const ID_MAX: usize = i16::MAX as usize;

/// After a change of the topics, patterns are looked at again no sooner than this.
const PATTERN_PAUSE_MS: i64 = 10_000;

impl Groups {
    /// Answers when what it changes is in the log.
    pub fn on_consumer_heartbeat(
        &mut self,
        now: Now,
        token: Token,
        asked: &ConsumerHeartbeat,
    ) -> Vec<Effect> {
        if let Err(refusal) = self.check_consumer_heartbeat(asked) {
            return vec![Effect::Reply(token, Reply::ConsumerHeartbeat(Err(refusal)))];
        }
        let mut effects = Vec::new();
        if asked.epoch == JOIN {
            self.groups.entry(asked.group.clone()).or_insert_with(|| Group::new(asked.group.clone()));
        }
        let missing = || {
            let kind = if asked.epoch < JOIN { "Group" } else { "Consumer group" };
            let message = format!("{kind} {} not found.", asked.group);
            Reply::ConsumerHeartbeat(Err(Refusal::new(ErrorCode::GroupIdNotFound, message)))
        };
        effects.extend(self.ask(now, &asked.group, token, missing, |group, cx| {
            let done = match asked.epoch {
                LEAVE | AWAY => group.on_consumer_leave(cx, token, asked),
                _ => group.on_consumer_heartbeat(cx, token, asked),
            };
            if let Err(refusal) = done {
                cx.reply(token, Reply::ConsumerHeartbeat(Err(refusal)));
            }
        }));
        effects
    }

    fn check_consumer_heartbeat(&self, asked: &ConsumerHeartbeat) -> Result<(), Refusal> {
        let invalid = |why: &str| Err(Refusal::new(ErrorCode::InvalidRequest, why));
        let is_empty = |text: Option<&str>| text == Some("");
        if asked.group.as_str().is_empty() {
            return invalid("GroupId can't be empty.");
        }
        // Who goes away for a while may have no name of its own before version 1.
        let needs_name = asked.names_itself || !matches!(asked.epoch, JOIN | AWAY);
        if asked.member_id.as_str().is_empty() && needs_name {
            return invalid("MemberId can't be empty.");
        }
        if asked.member_id.as_str().len() > ID_MAX {
            return invalid("MemberId is too long.");
        }
        if is_empty(asked.instance_id.as_ref().map(InstanceId::as_str)) {
            return invalid("InstanceId can't be empty.");
        }
        if is_empty(asked.rack.as_deref()) {
            return invalid("RackId can't be empty.");
        }
        match asked.epoch {
            JOIN if asked.rebalance_timeout_ms == -1 => {
                return invalid("RebalanceTimeoutMs must be provided in first request.");
            }
            JOIN if asked.owned.as_ref().is_none_or(|owned| !owned.is_empty()) => {
                return invalid("TopicPartitions must be empty when (re-)joining.");
            }
            JOIN if asked.topics.is_none() && asked.pattern.is_none() => {
                return invalid(
                    "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
                );
            }
            AWAY if asked.instance_id.is_none() => return invalid("InstanceId can't be null."),
            epoch if epoch < AWAY => return invalid("MemberEpoch is invalid."),
            _ => {}
        }
        if let Some(name) = &asked.assignor
            && !Assignor::find(name).is_some_and(|found| {
                found.name() == &**name && self.options.consumer.assignors.contains(&found)
            })
        {
            let message = format!(
                "ServerAssignor {name} is not supported. Supported assignors: {}.",
                self.options.consumer.assignor_names()
            );
            return Err(Refusal::new(ErrorCode::UnsupportedAssignor, message));
        }
        Ok(())
    }
}

/// What a heartbeat led to, while it is being decided.
struct Decided {
    id: MemberId,
    before: Arc<Standing>,
    standing: Arc<Standing>,
}

impl Group {
    fn on_consumer_heartbeat(
        &mut self,
        cx: &mut Context<'_>,
        token: Token,
        asked: &ConsumerHeartbeat,
    ) -> Result<(), Refusal> {
        let mut converted = None;
        if self.as_consumer().is_none() {
            converted = Some(self.prepare_consumer(cx, asked)?);
        }
        match self.decide_heartbeat(cx, asked) {
            Ok((decided, mut records, undo)) => {
                let mut undo = Undo::Entries(undo);
                if let Some((before, mut first)) = converted {
                    first.append(&mut records);
                    records = first;
                    undo = Undo::Protocol(Box::new(before));
                    self.take_over_members(cx, &mut undo);
                }
                let reply = self.consumer_reply(cx, asked, &decided);
                self.after_step(cx, &decided.id, decided.before != decided.standing);
                self.renew_consumer_session(cx, &decided.id);
                self.write(cx, records, undo, Some((token, reply)));
                Ok(())
            }
            Err(refusal) => {
                if let Some((before, _)) = converted {
                    self.become_group(before);
                }
                Err(refusal)
            }
        }
    }

    fn decide_heartbeat(
        &mut self,
        cx: &Context<'_>,
        asked: &ConsumerHeartbeat,
    ) -> Result<(Decided, Vec<crate::coordinator::record::Record>, Vec<Entry>), Refusal> {
        let look = Look { group: &self.id.clone(), image: cx.image, now: cx.now };
        let effective = cx.options.consumer.effective(cx.image, self.id.as_str());
        let default = cx.options.consumer.assignors.first().copied().unwrap_or(Assignor::Uniform);
        let (max_size, pattern_refresh_ms) =
            (cx.options.consumer.max_size, cx.options.consumer.pattern_refresh_ms);
        let Some(consumer) = self.as_consumer() else { return Err(ErrorCode::GroupIdNotFound.into()) };
        let stale = consumer.stale;
        let resolve = match consumer.patterns_at {
            None => true,
            Some(at) => {
                let age = cx.now.tick_ms.saturating_sub(at);
                age >= pattern_refresh_ms || consumer.patterns_stale && age >= PATTERN_PAUSE_MS
            }
        };
        let mut resolved = false;
        let (decided, entries, undo) = self.draft(|draft| {
            let (id, before) = enter(draft, asked, max_size)?;
            let terms = Arc::new(describe(&before.terms, asked));
            let resubscribed =
                terms.topics != before.terms.topics || terms.pattern() != before.terms.pattern();
            if let Some(pattern) = terms.pattern()
                && terms.pattern() != before.terms.pattern()
            {
                look.resolve_new(draft, pattern, &asked.visible)?;
            }
            if terms != before.terms || draft.state.member(&id).is_none() {
                draft.put(Entry::Member(id.clone(), Some(terms.clone())));
            }
            Look::drop_unused_patterns(draft);
            if resolve && draft.state.used_patterns().next().is_some() {
                look.refresh(draft, &asked.visible);
                resolved = true;
            }
            if resubscribed || stale || resolved {
                look.raise_epoch(draft, resubscribed);
            }
            look.assign(draft, default, effective.assignment_interval_ms);
            let owned = asked.owned.as_deref();
            let standing = advance(draft, &look, &id, resubscribed, owned)?;
            Ok::<_, Refusal>(Decided { id, before: before.standing, standing })
        })?;
        if let Some(consumer) = self.consumer.as_deref_mut() {
            consumer.stale = false;
            if resolved {
                consumer.patterns_stale = false;
                consumer.patterns_at = Some(cx.now.tick_ms);
            }
        }
        Ok((decided, self.records(entries), undo))
    }

    fn consumer_reply(&self, cx: &Context<'_>, asked: &ConsumerHeartbeat, decided: &Decided) -> Reply {
        // A full request is one that a member sends when it joins, or when it does not know what became of the last.
        let full = asked.epoch == JOIN
            || asked.rebalance_timeout_ms != -1
                && (asked.topics.is_some() || asked.pattern.is_some())
                && asked.owned.is_some();
        let changed = decided.standing.assigned != decided.before.assigned;
        let assignment = (full || changed).then(|| without_epochs(&decided.standing.assigned));
        Reply::ConsumerHeartbeat(Ok(ConsumerHeartbeatReply {
            member_id: decided.id.clone(),
            epoch: decided.standing.epoch,
            heartbeat_interval_ms: cx
                .options
                .consumer
                .effective(cx.image, self.id.as_str())
                .heartbeat_interval_ms,
            assignment,
        }))
    }

    /// Watches over a member that has to give partitions up.
    pub(super) fn after_step(&mut self, cx: &mut Context<'_>, id: &MemberId, moved: bool) {
        let Some(member) = self.as_consumer().and_then(|consumer| consumer.state.member(id)) else { return };
        let key = TimerKey::Rebalance(self.id.clone(), id.clone());
        if member.standing.state == MemberState::Unrevoked && !member.is_classic() {
            if moved || !cx.timers.is_set(&key) {
                let limit = i64::from(member.terms.rebalance_timeout_ms.max(0));
                cx.timers.set(key, cx.after(limit));
            }
        } else {
            cx.timers.cancel(&key);
        }
    }

    /// After a reload: members that were giving partitions up have their whole time for it again.
    pub(in crate::coordinator::groups) fn expect_revocations(&mut self, cx: &mut Context<'_>) {
        let Some(consumer) = self.as_consumer() else { return };
        let ids: Vec<MemberId> = consumer.state.members().map(|(id, _)| id.clone()).collect();
        ids.iter().for_each(|id| self.after_step(cx, id, true));
    }

    /// Starts a member's session anew.
    pub(in crate::coordinator) fn renew_consumer_session(&self, cx: &mut Context<'_>, id: &MemberId) {
        let Some(member) = self.as_consumer().and_then(|consumer| consumer.state.member(id)) else { return };
        let timeout_ms = match &member.terms.classic {
            Some(classic) => classic.session_timeout_ms,
            None => cx.options.consumer.effective(cx.image, self.id.as_str()).session_timeout_ms,
        };
        let deadline = cx.after(i64::from(timeout_ms));
        cx.timers.set(TimerKey::Session(self.id.clone(), id.clone()), deadline);
    }

    /// Makes an empty or missing group, or a classic one that may be upgraded, one of the consumer protocol. Gives back
    /// what it was, and the records that say so.
    fn prepare_consumer(
        &mut self,
        cx: &Context<'_>,
        asked: &ConsumerHeartbeat,
    ) -> Result<(Group, Vec<crate::coordinator::record::Record>), Refusal> {
        if asked.epoch != JOIN {
            let message = format!("Group {} is not a consumer group.", asked.group);
            return Err(Refusal::new(ErrorCode::GroupIdNotFound, message));
        }
        if self.state() == GroupState::Empty {
            return Ok(self.make_empty_consumer());
        }
        self.upgrade(cx)
    }
}

/// The member that a heartbeat is of: known, new, or a static one that takes its place again.
fn enter(
    draft: &mut Draft<'_>,
    asked: &ConsumerHeartbeat,
    max_size: usize,
) -> Result<(MemberId, Member), Refusal> {
    let joins = asked.epoch == JOIN;
    let id = if asked.member_id.as_str().is_empty() {
        MemberId::from(asked.fresh.as_str())
    } else {
        asked.member_id.clone()
    };
    if draft.state.len() >= max_size && draft.state.member(&id).is_none() {
        let message = format!("The consumer group has reached its maximum capacity of {max_size} members.");
        return Err(Refusal::new(ErrorCode::GroupMaxSizeReached, message));
    }
    let Some(instance) = &asked.instance_id else {
        return match draft.state.member(&id) {
            Some(member) => {
                check_epoch(member, asked)?;
                Ok((id, member.clone()))
            }
            None if joins => {
                info!(group = %asked.group, member = %id, client = %asked.client_id, host = %asked.client_host, "member joins");
                Ok((id, Member::default()))
            }
            None => Err(unknown_member(asked, &id)),
        };
    };
    let holder = draft.state.static_member(instance).cloned();
    match holder {
        None if joins => {
            info!(group = %asked.group, member = %id, %instance, "static member joins");
            let known = draft.state.member(&id).cloned().unwrap_or_default();
            Ok((id, known))
        }
        None => Err(unknown_instance(instance)),
        Some(holder) if joins => {
            let member = draft.state.member(&holder).cloned().unwrap_or_default();
            if !member.is_classic() && member.standing.epoch != AWAY {
                let message = format!(
                    "Static member {id} with instance id {instance} cannot join the group because the instance id is owned by {holder} member."
                );
                return Err(Refusal::new(ErrorCode::UnreleasedInstanceId, message));
            }
            info!(group = %asked.group, old = %holder, new = %id, %instance, "static member takes its place again");
            Ok((id.clone(), replace(draft, &holder, id, member)))
        }
        Some(holder) if holder != id => Err(fenced_instance(&id, instance, &holder)),
        Some(_) => {
            let member = draft.state.member(&id).cloned().unwrap_or_default();
            check_epoch(&member, asked)?;
            Ok((id, member))
        }
    }
}

/// Gives a static member's place to its new id.
pub(super) fn replace(draft: &mut Draft<'_>, old: &MemberId, new: MemberId, member: Member) -> Member {
    let target = draft.state.target(old);
    let standing = Standing { epoch: 0, previous_epoch: 0, ..(*member.standing).clone() };
    let member = Member { terms: member.terms, standing: Arc::new(standing) };
    remove(draft, old);
    draft.put(Entry::Member(new.clone(), Some(member.terms.clone())));
    draft.put(Entry::Target(new.clone(), Some(target)));
    draft.put(Entry::Standing(new, Some(member.standing.clone())));
    member
}

/// Takes a member out.
pub(super) fn remove(draft: &mut Draft<'_>, id: &MemberId) {
    draft.put(Entry::Standing(id.clone(), None));
    draft.put(Entry::Target(id.clone(), None));
    draft.put(Entry::Member(id.clone(), None));
}

/// A member's description with what the heartbeat says anew.
fn describe(before: &Terms, asked: &ConsumerHeartbeat) -> Terms {
    Terms {
        instance_id: asked.instance_id.clone().or_else(|| before.instance_id.clone()),
        rack: asked.rack.clone().or_else(|| before.rack.clone()),
        client_id: asked.client_id.clone(),
        client_host: asked.client_host.clone(),
        topics: asked
            .topics
            .as_ref()
            .map_or_else(|| before.topics.clone(), |names| names.iter().cloned().collect()),
        pattern: asked.pattern.clone().or_else(|| before.pattern.clone()),
        rebalance_timeout_ms: match asked.rebalance_timeout_ms {
            -1 => before.rebalance_timeout_ms,
            given => given,
        },
        assignor: asked.assignor.clone().or_else(|| before.assignor.clone()),
        classic: None,
    }
}

/// Leads a member one step on.
pub(super) fn advance(
    draft: &mut Draft<'_>,
    look: &Look<'_>,
    id: &MemberId,
    resubscribed: bool,
    owned: Option<&[(aqueduct_protocol::ids::Uuid, Vec<i32>)]>,
) -> Result<Arc<Standing>, Refusal> {
    let member = draft.state.member(id).cloned().unwrap_or_default();
    let target_epoch = draft.state.target_epoch().epoch;
    if !resubscribed && member.standing.is_reconciled_to(target_epoch) {
        return Ok(member.standing);
    }
    let next = {
        let around = Surroundings {
            target_epoch,
            target: &draft.state.target(id),
            subscribed: &look.topic_ids(draft, &member.terms),
            resubscribed,
            owned,
            is_free: &|topic, index| draft.state.is_free(topic, index),
        };
        reconcile::step(&member.standing, &around)
    };
    let next = next.map_err(|_| {
        let message = "The consumer group member is in a unknown state. The member must abandon all its partitions and rejoin.";
        Refusal::new(ErrorCode::FencedMemberEpoch, message)
    })?;
    if next == *member.standing {
        return Ok(member.standing);
    }
    let next = Arc::new(next);
    draft.put(Entry::Standing(id.clone(), Some(next.clone())));
    Ok(next)
}

/// Refuses a member that is not where the group thinks. Its last epoch is accepted where it has no more than it should:
/// the answer with the new one may have been lost.
fn check_epoch(member: &Member, asked: &ConsumerHeartbeat) -> Result<(), Refusal> {
    let (received, standing) = (asked.epoch, &member.standing);
    let has_no_more = |owned: &Vec<(aqueduct_protocol::ids::Uuid, Vec<i32>)>| {
        owned.iter().all(|(topic, indexes)| {
            standing
                .assigned
                .get(topic)
                .is_some_and(|own| indexes.iter().all(|index| own.contains_key(index)))
        })
    };
    let how = if received == JOIN || received == standing.epoch {
        return Ok(());
    } else if received > standing.epoch {
        "greater"
    } else if received == standing.previous_epoch && asked.owned.as_ref().is_some_and(has_no_more) {
        return Ok(());
    } else {
        "smaller"
    };
    let message = format!(
        "The consumer group member has a {how} member epoch ({received}) than the one known by the group coordinator ({}). The member must abandon all its partitions and rejoin.",
        standing.epoch
    );
    Err(Refusal::new(ErrorCode::FencedMemberEpoch, message))
}

pub(super) fn unknown_member(asked: &ConsumerHeartbeat, id: &MemberId) -> Refusal {
    let message = format!("Member {id} is not a member of group {}.", asked.group);
    Refusal::new(ErrorCode::UnknownMemberId, message)
}

pub(super) fn unknown_instance(instance: &InstanceId) -> Refusal {
    Refusal::new(ErrorCode::UnknownMemberId, format!("Instance id {instance} is unknown."))
}

pub(super) fn fenced_instance(id: &MemberId, instance: &InstanceId, holder: &MemberId) -> Refusal {
    let message = format!("Static member {id} with instance id {instance} was fenced by member {holder}.");
    Refusal::new(ErrorCode::FencedInstanceId, message)
}
