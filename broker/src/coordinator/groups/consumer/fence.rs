//! Members of a consumer group go: by their own will, or because they were silent or too slow.

use aqueduct_protocol::ErrorCode;
use tracing::info;

use super::heartbeat::{fenced_instance, remove, unknown_instance, unknown_member};
use super::subscription::Look;
use super::write::Undo;
use crate::coordinator::consumer::entry::{Entry, MemberState, Standing};
use crate::coordinator::consumer::request::{AWAY, ConsumerHeartbeat, ConsumerHeartbeatReply, Refusal};
use crate::coordinator::context::Context;
use crate::coordinator::effect::{Reply, Token};
use crate::coordinator::group::Group;
use crate::coordinator::ids::MemberId;
use crate::coordinator::timers::TimerKey;

impl Group {
    pub(super) fn on_consumer_leave(
        &mut self,
        cx: &mut Context<'_>,
        token: Token,
        asked: &ConsumerHeartbeat,
    ) -> Result<(), Refusal> {
        let Some(consumer) = self.as_consumer() else {
            let message = format!("Group {} is not a consumer group.", asked.group);
            return Err(Refusal::new(ErrorCode::GroupIdNotFound, message));
        };
        let id = &asked.member_id;
        match &asked.instance_id {
            None if consumer.state.member(id).is_none() => return Err(unknown_member(asked, id)),
            None => {}
            Some(instance) => match consumer.state.static_member(instance) {
                None => return Err(unknown_instance(instance)),
                Some(holder) if holder != id => return Err(fenced_instance(id, instance, holder)),
                Some(_) => {}
            },
        }
        info!(group = %self.id, member = %id, epoch = asked.epoch, "member leaves");
        let reply = Reply::ConsumerHeartbeat(Ok(ConsumerHeartbeatReply {
            member_id: id.clone(),
            epoch: asked.epoch,
            heartbeat_interval_ms: 0,
            assignment: None,
        }));
        if asked.epoch == AWAY {
            self.go_away(cx, id, (token, reply))
        } else {
            self.drop_members(cx, std::slice::from_ref(id), Some((token, reply)));
            Ok(())
        }
    }

    /// A static member is expected back: its partitions stay reserved until its session ends. What it may still commit
    /// late counts as out of date.
    fn go_away(
        &mut self,
        cx: &mut Context<'_>,
        id: &MemberId,
        answer: (Token, Reply),
    ) -> Result<(), Refusal> {
        let ((), entries, undo) = self.draft(|draft| {
            let member = draft.state.member(id).cloned().unwrap_or_default();
            let mut away =
                Standing { epoch: AWAY, revoking: Default::default(), ..(*member.standing).clone() };
            away.assigned.values_mut().flat_map(|parts| parts.values_mut()).for_each(|epoch| *epoch = 0);
            draft.put(Entry::Standing(id.clone(), Some(away.into())));
            Ok::<_, Refusal>(())
        })?;
        cx.timers.cancel(&TimerKey::Rebalance(self.id.clone(), id.clone()));
        let records = self.records(entries);
        self.write(cx, records, Undo::Entries(undo), Some(answer));
        Ok(())
    }

    /// Takes members out, and answers when that is in the log. The group turns classic if only members of the classic
    /// protocol are left.
    pub(super) fn drop_members(
        &mut self,
        cx: &mut Context<'_>,
        ids: &[MemberId],
        answer: Option<(Token, Reply)>,
    ) {
        for id in ids {
            for key in [TimerKey::Session, TimerKey::Rebalance, TimerKey::ClassicJoin, TimerKey::ClassicSync]
            {
                cx.timers.cancel(&key(self.id.clone(), id.clone()));
            }
        }
        if self.may_downgrade(cx, ids) {
            self.downgrade(cx, ids, answer);
            self.prepare_rebalance(cx, "the last member of the consumer protocol has left");
            return;
        }
        let look = Look { group: &self.id.clone(), image: cx.image, now: cx.now };
        let drafted = self.draft(|draft| {
            ids.iter().for_each(|id| remove(draft, id));
            Look::drop_unused_patterns(draft);
            look.raise_epoch(draft, true);
            Ok::<_, ErrorCode>(())
        });
        if let Ok(((), entries, undo)) = drafted {
            let records = self.records(entries);
            self.write(cx, records, Undo::Entries(undo), answer);
        }
    }

    /// A member has been silent for too long.
    pub(in crate::coordinator) fn on_consumer_session_deadline(
        &mut self,
        cx: &mut Context<'_>,
        id: &MemberId,
    ) {
        self.fence_for(cx, id, "its session has expired");
    }

    /// A member has not given up partitions in time.
    pub(in crate::coordinator) fn on_rebalance_deadline(&mut self, cx: &mut Context<'_>, id: &MemberId) {
        let member = self.as_consumer().and_then(|consumer| consumer.state.member(id));
        if member.is_some_and(|member| member.standing.state == MemberState::Unrevoked) {
            self.fence_for(cx, id, "it did not give partitions up in time");
        }
    }

    /// A member of the classic protocol has not joined or synced in time.
    pub(in crate::coordinator) fn on_classic_deadline(&mut self, cx: &mut Context<'_>, id: &MemberId) {
        self.fence_for(cx, id, "it did not join or sync in time");
    }

    fn fence_for(&mut self, cx: &mut Context<'_>, id: &MemberId, why: &str) {
        if self.as_consumer().is_some_and(|consumer| consumer.state.member(id).is_some()) {
            info!(group = %self.id, member = %id, "member dropped: {why}");
            self.drop_members(cx, std::slice::from_ref(id), None);
        }
    }
}
