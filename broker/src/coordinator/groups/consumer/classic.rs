//! JoinGroup, SyncGroup, Heartbeat and LeaveGroup of members that speak the classic protocol in a consumer group: to
//! them, a member epoch is a generation, nobody leads, and a rebalance is whatever changes their own part.

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::ids::Uuid;
use tracing::info;

use super::heartbeat::{ID_MAX, advance, replace};
use super::subscription::Look;
use super::write::Undo;
use crate::coordinator::consumer::embedded::{self, Subscription};
use crate::coordinator::consumer::entry::{ClassicTerms, Entry, MemberState, Standing, Terms};
use crate::coordinator::consumer::options::Migration;
use crate::coordinator::consumer::state::{Member, State};
use crate::coordinator::context::Context;
use crate::coordinator::effect::{JoinReply, Reply, SyncReply, Token};
use crate::coordinator::group::Group;
use crate::coordinator::ids::{InstanceId, MemberId};
use crate::coordinator::request::{Caller, Join, Leave, Sync};
use crate::coordinator::subscription::CONSUMER;
use crate::coordinator::timers::TimerKey;

impl Group {
    /// Whether this is a consumer group that someone is in: it serves classic requests itself.
    pub(in crate::coordinator::groups) fn is_live_consumer(&self) -> bool {
        self.as_consumer().is_some_and(|consumer| !consumer.state.is_empty())
    }

    /// JoinGroup. `false` where the group has turned classic, and serves it as such.
    pub(in crate::coordinator::groups) fn consumer_join(
        &mut self,
        cx: &mut Context<'_>,
        token: Token,
        join: &Join,
    ) -> bool {
        if self.gives_way_to(cx, join) {
            return false;
        }
        if let Err(error) = self.join_classic_member(cx, token, join) {
            cx.reply(token, Reply::Join(JoinReply::error(error, join.member_id.clone())));
        }
        true
    }

    /// The last member of the consumer protocol comes back as a classic one: the group turns classic without it, and it
    /// joins like anyone.
    fn gives_way_to(&mut self, cx: &mut Context<'_>, join: &Join) -> bool {
        let Some(instance) = join.instance_id.as_ref().filter(|_| join.member_id.as_str().is_empty()) else {
            return false;
        };
        let Some(consumer) = self.as_consumer() else { return true };
        let Some(holder) = consumer.state.static_member(instance).cloned() else { return false };
        let accepted = &*join.protocol_type == CONSUMER
            && consumer.state.supports_any(join.protocols.iter().map(|p| &p.name));
        if !accepted || !self.may_downgrade(cx, std::slice::from_ref(&holder)) {
            return false;
        }
        for key in [TimerKey::Session, TimerKey::Rebalance] {
            cx.timers.cancel(&key(self.id.clone(), holder.clone()));
        }
        self.downgrade(cx, &[holder], None);
        true
    }

    fn join_classic_member(
        &mut self,
        cx: &mut Context<'_>,
        token: Token,
        join: &Join,
    ) -> Result<(), ErrorCode> {
        if join.member_id.as_str().len() > ID_MAX {
            return Err(ErrorCode::UnknownMemberId);
        }
        let options = &cx.options.consumer;
        if options.migration == Migration::Disabled {
            info!(group = %self.id, "classic member is refused: the migration of groups is disabled");
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        let Some(consumer) = self.as_consumer() else { return Err(ErrorCode::UnknownMemberId) };
        let state = &consumer.state;
        if state.len() >= options.max_size && state.member(&join.member_id).is_none() {
            return Err(ErrorCode::GroupMaxSizeReached);
        }
        let names = join.protocols.iter().map(|protocol| &protocol.name);
        if &*join.protocol_type != CONSUMER || !state.supports_any(names) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        let first = join.protocols.first().ok_or(ErrorCode::InconsistentGroupProtocol)?;
        let subscription =
            embedded::read_subscription(&first.metadata).ok_or(ErrorCode::InconsistentGroupProtocol)?;
        let fresh = {
            let prefix = join.instance_id.as_ref().map_or(&*join.client_id, InstanceId::as_str);
            MemberId::from(format!("{prefix}-{}", join.fresh))
        };
        if join.member_id.as_str().is_empty() && join.needs_member_id && join.instance_id.is_none() {
            cx.reply(token, Reply::Join(JoinReply::error(ErrorCode::MemberIdRequired, fresh)));
            return Ok(());
        }
        let look = Look { group: &self.id.clone(), image: cx.image, now: cx.now };
        let effective = options.effective(cx.image, self.id.as_str());
        let assignor = options.assignors.first().copied();
        let stale = consumer.stale;
        let owned: Vec<(Uuid, Vec<i32>)> = subscription
            .owned
            .iter()
            .filter_map(|(name, indexes)| Some((cx.image.topic(name)?.id, indexes.clone())))
            .collect();
        let ((id, standing), entries, undo) = self.draft(|draft| {
            let (id, before) = place_of(draft, join, fresh)?;
            let terms = terms_of(&before.terms, join, &subscription);
            let resubscribed =
                terms.topics != before.terms.topics || terms.pattern() != before.terms.pattern();
            if terms != *before.terms || draft.state.member(&id).is_none() {
                draft.put(Entry::Member(id.clone(), Some(terms.into())));
            }
            Look::drop_unused_patterns(draft);
            if resubscribed || stale {
                look.raise_epoch(draft, resubscribed);
            }
            if let Some(assignor) = assignor {
                look.assign(draft, assignor, effective.assignment_interval_ms);
            }
            let standing =
                advance(draft, &look, &id, resubscribed, Some(&owned)).map_err(|refusal| refusal.code)?;
            Ok::<_, ErrorCode>((id, standing))
        })?;
        if let Some(consumer) = self.consumer.as_deref_mut() {
            consumer.stale = false;
        }
        cx.timers.cancel(&TimerKey::ClassicJoin(self.id.clone(), id.clone()));
        let patience = cx.after(i64::from(join.rebalance_timeout_ms.max(0)));
        cx.timers.set(TimerKey::ClassicSync(self.id.clone(), id.clone()), patience);
        self.renew_consumer_session(cx, &id);
        let reply = JoinReply {
            generation: crate::coordinator::ids::Generation(standing.epoch),
            protocol_type: Some(CONSUMER.into()),
            protocol: Some(first.name.clone()),
            ..JoinReply::error(ErrorCode::None, id)
        };
        let records = self.records(entries);
        self.write(cx, records, Undo::Entries(undo), Some((token, Reply::Join(reply))));
        Ok(())
    }

    /// SyncGroup: what the member has been given.
    pub(in crate::coordinator::groups) fn consumer_sync(
        &mut self,
        cx: &mut Context<'_>,
        token: Token,
        sync: &Sync,
    ) {
        match self.sync_classic_member(cx, sync) {
            Ok(reply) => {
                self.write(cx, Vec::new(), Undo::Entries(Vec::new()), Some((token, Reply::Sync(reply))));
            }
            Err(error) => cx.reply(token, Reply::Sync(SyncReply::error(error))),
        }
    }

    fn sync_classic_member(&mut self, cx: &mut Context<'_>, sync: &Sync) -> Result<SyncReply, ErrorCode> {
        let (member, classic) = self.classic_member(&sync.caller)?;
        let id = &sync.caller.member_id;
        if member.standing.epoch != sync.caller.generation.0 {
            return Err(ErrorCode::IllegalGeneration);
        }
        let protocol = classic.protocols.first().map(|protocol| &protocol.name);
        let other_type = sync.protocol_type.as_deref().is_some_and(|kind| kind != CONSUMER);
        if other_type || sync.protocol.is_some() && sync.protocol.as_ref() != protocol {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        let epoch = self.as_consumer().map_or(0, |consumer| consumer.state.epoch());
        if epoch > member.standing.epoch && member.standing.state != MemberState::Unrevoked {
            self.expect_join(cx, id, &member);
            return Err(ErrorCode::RebalanceInProgress);
        }
        cx.timers.cancel(&TimerKey::ClassicSync(self.id.clone(), id.clone()));
        self.renew_consumer_session(cx, id);
        let partitions = crate::coordinator::consumer::partitions::without_epochs(&member.standing.assigned);
        Ok(SyncReply {
            error: ErrorCode::None,
            protocol_type: Some(CONSUMER.into()),
            protocol: protocol.cloned(),
            assignment: self.embedded_assignment(cx, &classic, &partitions),
        })
    }

    /// Heartbeat: the member is told to rejoin when there is a step for it to take.
    pub(in crate::coordinator::groups) fn consumer_classic_heartbeat(
        &mut self,
        cx: &mut Context<'_>,
        caller: &Caller,
    ) -> Result<(), ErrorCode> {
        let (member, _) = self.classic_member(caller)?;
        if member.standing.epoch != caller.generation.0 {
            return Err(ErrorCode::IllegalGeneration);
        }
        self.renew_consumer_session(cx, &caller.member_id);
        let Some(consumer) = self.as_consumer() else { return Err(ErrorCode::UnknownMemberId) };
        let has_step = member.standing.epoch < consumer.state.epoch()
            || match member.standing.state {
                MemberState::Unrevoked => true,
                MemberState::Unreleased => !waits_for_others(&consumer.state, &caller.member_id, &member),
                MemberState::Stable | MemberState::Unknown => false,
            };
        if has_step {
            self.expect_join(cx, &caller.member_id, &member);
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    /// LeaveGroup: one code for each member. An administrator may send members of the consumer protocol away with it.
    pub(in crate::coordinator::groups) fn consumer_classic_leave(
        &mut self,
        cx: &mut Context<'_>,
        token: Token,
        leave: &Leave,
    ) {
        let (mut codes, mut leaving) = (Vec::with_capacity(leave.members.len()), Vec::new());
        for (id, instance) in &leave.members {
            let found = self.leaver(id, instance.as_ref());
            codes.push(found.as_ref().err().copied().unwrap_or(ErrorCode::None));
            leaving.extend(found.ok().filter(|id| !leaving.contains(id)));
        }
        let reply = Reply::Leave(Ok(codes));
        if leaving.is_empty() {
            cx.reply(token, reply);
        } else {
            info!(group = %self.id, members = leaving.len(), "members leave");
            self.drop_members(cx, &leaving, Some((token, reply)));
        }
    }

    fn leaver(&self, id: &MemberId, instance: Option<&InstanceId>) -> Result<MemberId, ErrorCode> {
        let state = &self.as_consumer().ok_or(ErrorCode::UnknownMemberId)?.state;
        let id = match instance {
            None => id,
            Some(instance) => {
                let holder = state.static_member(instance).ok_or(ErrorCode::UnknownMemberId)?;
                if !id.as_str().is_empty() && holder != id {
                    return Err(ErrorCode::FencedInstanceId);
                }
                holder
            }
        };
        if state.member(id).is_some() { Ok(id.clone()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    fn classic_member(&self, caller: &Caller) -> Result<(Member, ClassicTerms), ErrorCode> {
        let state = &self.as_consumer().ok_or(ErrorCode::UnknownMemberId)?.state;
        if let Some(instance) = &caller.instance_id {
            let holder = state.static_member(instance).ok_or(ErrorCode::UnknownMemberId)?;
            if *holder != caller.member_id {
                return Err(ErrorCode::FencedInstanceId);
            }
        }
        let member = state.member(&caller.member_id).ok_or(ErrorCode::UnknownMemberId)?;
        let classic = member.terms.classic.clone().ok_or(ErrorCode::UnknownMemberId)?;
        Ok((member.clone(), classic))
    }

    /// A member was told to rejoin: it has its rebalance timeout for that.
    fn expect_join(&self, cx: &mut Context<'_>, id: &MemberId, member: &Member) {
        let key = TimerKey::ClassicJoin(self.id.clone(), id.clone());
        if !cx.timers.is_set(&key) {
            let deadline = cx.after(i64::from(member.terms.rebalance_timeout_ms.max(0)));
            cx.timers.set(key, deadline);
        }
    }
}

/// The member that joins: known, new, or a static one that takes its place again.
fn place_of(
    draft: &mut crate::coordinator::consumer::draft::Draft<'_>,
    join: &Join,
    fresh: MemberId,
) -> Result<(MemberId, Member), ErrorCode> {
    let nameless = join.member_id.as_str().is_empty();
    let id = if nameless { fresh } else { join.member_id.clone() };
    let Some(instance) = &join.instance_id else {
        let known = draft.state.member(&id).cloned();
        if known.is_none() {
            info!(group = %join.group, member = %id, client = %join.client_id, host = %join.client_host, "classic member joins");
        }
        return Ok((id, known.unwrap_or_default()));
    };
    match draft.state.static_member(instance).cloned() {
        None if nameless => Ok((id, Member::default())),
        None => Err(ErrorCode::UnknownMemberId),
        Some(holder) if nameless => {
            info!(group = %join.group, old = %holder, new = %id, %instance, "static member takes its place again");
            let member = draft.state.member(&holder).cloned().unwrap_or_default();
            Ok((id.clone(), replace(draft, &holder, id, member)))
        }
        Some(holder) if holder != id => Err(ErrorCode::FencedInstanceId),
        Some(_) => {
            let member = draft.state.member(&id).cloned().unwrap_or_default();
            Ok((id, member))
        }
    }
}

fn terms_of(before: &Terms, join: &Join, subscription: &Subscription) -> Terms {
    Terms {
        instance_id: join.instance_id.clone().or_else(|| before.instance_id.clone()),
        rack: subscription.rack.clone().or_else(|| before.rack.clone()),
        client_id: join.client_id.clone(),
        client_host: join.client_host.clone(),
        topics: subscription.topics.clone(),
        pattern: Terms::default().pattern,
        rebalance_timeout_ms: join.rebalance_timeout_ms,
        assignor: before.assignor.clone(),
        classic: Some(ClassicTerms {
            session_timeout_ms: join.session_timeout_ms,
            protocols: join.protocols.clone(),
        }),
    }
}

/// Whether others still hold what a member waits for.
fn waits_for_others(state: &State, id: &MemberId, member: &Member) -> bool {
    let Standing { assigned, .. } = &*member.standing;
    state.target(id).iter().any(|(topic, parts)| {
        parts.iter().any(|index| {
            assigned.get(topic).is_none_or(|own| !own.contains_key(index)) && !state.is_free(*topic, *index)
        })
    })
}
