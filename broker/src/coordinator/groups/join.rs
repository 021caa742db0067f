//! JoinGroup: a client asks to be a member of the next generation.

use aqueduct_protocol::ErrorCode;
use tracing::info;

use super::Groups;
use crate::coordinator::context::Context;
use crate::coordinator::effect::{Effect, JoinReply, Reply, Token};
use crate::coordinator::group::{Group, GroupState};
use crate::coordinator::ids::MemberId;
use crate::coordinator::member::Member;
use crate::coordinator::request::{Join, Now};
use crate::coordinator::timers::TimerKey;

impl Groups {
    /// Answers now, or when the joining phase is over.
    pub fn on_join(&mut self, now: Now, token: Token, join: &Join) -> Vec<Effect> {
        let limits = self.options.min_session_timeout_ms..=self.options.max_session_timeout_ms;
        let refusal = if join.group.as_str().is_empty() {
            Some(ErrorCode::InvalidGroupId)
        } else if !limits.contains(&join.session_timeout_ms) {
            Some(ErrorCode::InvalidSessionTimeout)
        } else if !join.member_id.as_str().is_empty() && !self.groups.contains_key(&join.group) {
            Some(ErrorCode::UnknownMemberId)
        } else {
            None
        };
        if let Some(error) = refusal {
            let reply = JoinReply::error(error, join.member_id.clone());
            return vec![Effect::Reply(token, Reply::Join(reply))];
        }
        let mut effects = Vec::new();
        self.groups.entry(join.group.clone()).or_insert_with(|| Group::new(join.group.clone()));
        self.with(now, &mut effects, &join.group, |group, cx| {
            if group.is_live_consumer() && group.consumer_join(cx, token, join) {
                return;
            }
            group.make_empty_classic(cx);
            group.on_join(cx, token, join);
        });
        effects
    }
}

impl Group {
    fn on_join(&mut self, cx: &mut Context<'_>, token: Token, join: &Join) {
        if !self.has_room_for(&join.member_id, cx.options.max_size) {
            let reply = JoinReply::error(ErrorCode::GroupMaxSizeReached, MemberId::default());
            cx.reply(token, Reply::Join(reply));
            self.pending_join.remove(&join.member_id);
            if self.remove_member(cx, &join.member_id).is_some() {
                self.after_removal(cx, "the group is full");
            }
        } else if !self.accepts_protocols(&join.protocol_type, &join.protocols) {
            refuse(cx, token, join, ErrorCode::InconsistentGroupProtocol);
        } else if join.member_id.as_str().is_empty() {
            self.join_new(cx, token, join);
        } else if self.pending_join.contains(&join.member_id) {
            self.admit(cx, token, join, join.member_id.clone());
        } else {
            match self.check_member(&join.member_id, join.instance_id.as_ref()) {
                Ok(()) => self.rejoin(cx, token, join),
                Err(error) => refuse(cx, token, join, error),
            }
        }
    }

    /// A client without an id.
    fn join_new(&mut self, cx: &mut Context<'_>, token: Token, join: &Join) {
        let prefix = join.instance_id.as_ref().map_or(&*join.client_id, |instance| instance.as_str());
        let id = MemberId::from(format!("{prefix}-{}", join.fresh));
        let known = join.instance_id.as_ref().and_then(|instance| self.static_member(instance).cloned());
        if let Some(old) = known {
            self.replace_static(cx, token, join, &old, id);
        } else if join.instance_id.is_none() && join.needs_member_id {
            // A client whose first answer is lost comes back as someone else. With an id in hand before it enters, no
            // ghost of it is left in the group.
            self.pending_join.insert(id.clone());
            let deadline = cx.after(i64::from(join.session_timeout_ms));
            cx.timers.set(TimerKey::Session(self.id.clone(), id.clone()), deadline);
            cx.reply(token, Reply::Join(JoinReply::error(ErrorCode::MemberIdRequired, id)));
        } else {
            self.admit(cx, token, join, id);
        }
    }

    /// A new member enters.
    fn admit(&mut self, cx: &mut Context<'_>, token: Token, join: &Join, id: MemberId) {
        info!(group = %self.id, member = %id, client = %join.client_id, host = %join.client_host, "member joins");
        self.newcomer |= self.initial_left_ms.is_some();
        self.add(Member::new(id.clone(), join), &join.protocol_type);
        self.park(cx, token, &id);
        self.start_waiting(cx, &id);
        self.rebalance_or_complete(cx, "a member joins");
    }

    /// Limits how long a new member is kept that cannot send heartbeats yet, as it waits for its first answer.
    pub(super) fn start_waiting(&mut self, cx: &mut Context<'_>, id: &MemberId) {
        let deadline = cx.after(cx.options.new_member_join_timeout_ms);
        cx.timers.set(TimerKey::Session(self.id.clone(), id.clone()), deadline);
    }

    /// A member comes back under its id.
    fn rejoin(&mut self, cx: &mut Context<'_>, token: Token, join: &Join) {
        let id = &join.member_id;
        let unchanged = self.member(id).is_some_and(|member| member.protocols == join.protocols);
        let may_stay = match self.state() {
            // Its first answer may have been lost.
            GroupState::CompletingRebalance => unchanged,
            // The leader asks when it sees that topics have changed.
            GroupState::Stable => unchanged && !self.is_leader(id),
            GroupState::PreparingRebalance => false,
            GroupState::Empty | GroupState::Dead => {
                refuse(cx, token, join, ErrorCode::UnknownMemberId);
                return;
            }
        };
        if may_stay {
            let reply = self.joined(id);
            cx.reply(token, Reply::Join(reply));
            self.renew_session(cx, id);
        } else {
            self.update(id, join);
            self.park(cx, token, id);
            self.rebalance_or_complete(cx, "a member rejoins");
        }
    }

    /// Parks a member's JoinGroup. One that it sent before, over a connection that is gone, is answered.
    pub(super) fn park(&mut self, cx: &mut Context<'_>, token: Token, id: &MemberId) {
        if let Some(old) = self.park_join(id, token) {
            let reply = JoinReply::error(ErrorCode::RebalanceInProgress, id.clone());
            cx.reply(old, Reply::Join(reply));
        }
    }
}

fn refuse(cx: &mut Context<'_>, token: Token, join: &Join, error: ErrorCode) {
    cx.reply(token, Reply::Join(JoinReply::error(error, join.member_id.clone())));
}
