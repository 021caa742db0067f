//! From someone's wish to rebalance to the next generation.

use std::time::Duration;

use aqueduct_protocol::ErrorCode;
use tracing::{debug, info};

use crate::coordinator::context::{Context, Then};
use crate::coordinator::effect::{JoinReply, Reply, SyncReply};
use crate::coordinator::group::{Group, GroupState};
use crate::coordinator::ids::MemberId;
use crate::coordinator::member::Member;
use crate::coordinator::timers::TimerKey;

impl Group {
    /// After members or their protocols changed: starts a rebalance, or sees whether the one under way is complete.
    pub(super) fn rebalance_or_complete(&mut self, cx: &mut Context<'_>, why: &str) {
        match self.state() {
            GroupState::Empty | GroupState::CompletingRebalance | GroupState::Stable => {
                self.prepare_rebalance(cx, why);
            }
            GroupState::PreparingRebalance => self.complete_if_all_joined(cx),
            GroupState::Dead => {}
        }
    }

    pub(super) fn prepare_rebalance(&mut self, cx: &mut Context<'_>, why: &str) {
        info!(group = %self.id, generation = %self.generation, state = %self.state(), why, "rebalancing");
        if self.state() == GroupState::CompletingRebalance {
            self.fail_syncs(cx, ErrorCode::RebalanceInProgress);
        }
        cx.timers.cancel(&TimerKey::Sync(self.id.clone()));
        self.pending_sync.clear();
        self.assigning = false;
        let initial = self.state() == GroupState::Empty;
        self.enter(GroupState::PreparingRebalance, cx.now.wall_ms);
        if initial {
            // A group that starts is given time for its other members, or each would cause a rebalance of its own.
            let delay = cx.options.initial_rebalance_delay_ms;
            self.newcomer = false;
            self.initial_left_ms = Some((self.rebalance_timeout_ms() - delay).max(0));
            cx.timers.set(TimerKey::Join(self.id.clone()), cx.after(delay));
        } else if self.all_joined() {
            self.complete_join(cx);
        } else {
            cx.timers.set(TimerKey::Join(self.id.clone()), cx.after(self.rebalance_timeout_ms()));
        }
    }

    /// Ends the joining phase early once nobody is missing; not while the first rebalance waits for newcomers.
    pub(super) fn complete_if_all_joined(&mut self, cx: &mut Context<'_>) {
        let joining = self.state() == GroupState::PreparingRebalance && self.initial_left_ms.is_none();
        if joining && self.all_joined() {
            self.complete_join(cx);
        }
    }

    /// The joining phase has lasted long enough.
    pub(super) fn on_join_deadline(&mut self, cx: &mut Context<'_>) {
        if self.state() != GroupState::PreparingRebalance {
            return;
        }
        if let Some(left) = self.initial_left_ms.filter(|left| self.newcomer && *left > 0) {
            let delay = cx.options.initial_rebalance_delay_ms.min(left);
            self.newcomer = false;
            self.initial_left_ms = Some(left - delay);
            cx.timers.set(TimerKey::Join(self.id.clone()), cx.after(delay));
        } else {
            self.complete_join(cx);
        }
    }

    /// Starts the next generation with those who are there.
    fn complete_join(&mut self, cx: &mut Context<'_>) {
        cx.timers.cancel(&TimerKey::Join(self.id.clone()));
        self.initial_left_ms = None;
        self.newcomer = false;
        // A static member keeps its place until its session ends: it is expected back.
        let late: Vec<_> =
            self.members().filter(|m| m.joining.is_none() && !m.is_static()).map(|m| m.id.clone()).collect();
        for id in &late {
            info!(group = %self.id, member = %id, "member dropped: it did not rejoin in time");
            self.remove_member(cx, id);
        }
        if !self.elect_joined_leader() && self.members().len() > 0 {
            // Only absent static members are left; their sessions decide.
            cx.timers.set(TimerKey::Join(self.id.clone()), cx.after(self.rebalance_timeout_ms()));
            return;
        }
        self.generation = self.generation.next();
        self.assigning = false;
        self.protocol = self.vote();
        self.find_subscribed();
        if self.members().len() == 0 {
            self.enter(GroupState::Empty, cx.now.wall_ms);
            info!(group = %self.id, generation = %self.generation, "group is empty");
            let record = self.record();
            self.last_write = Some(cx.append(vec![record], Then::Nothing));
        } else {
            self.enter(GroupState::CompletingRebalance, cx.now.wall_ms);
            info!(group = %self.id, generation = %self.generation, members = self.members().len(), "members have joined");
            self.answer_joins(cx);
            cx.timers.set(TimerKey::Sync(self.id.clone()), cx.after(self.rebalance_timeout_ms()));
        }
    }

    fn answer_joins(&mut self, cx: &mut Context<'_>) {
        for id in self.member_ids() {
            if let Some(token) = self.unpark_join(&id) {
                let reply = self.joined(&id);
                cx.reply(token, Reply::Join(reply));
            }
            if let Some(member) = self.member_mut(&id) {
                member.is_new = false;
            }
            self.pending_sync.insert(id.clone());
            self.renew_session(cx, &id);
        }
    }

    /// What a member is told about the current generation.
    pub(super) fn joined(&self, id: &MemberId) -> JoinReply {
        JoinReply {
            error: ErrorCode::None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member_id: id.clone(),
            members: if self.is_leader(id) { self.roster() } else { Vec::new() },
        }
    }

    /// Some members have not asked for their assignment: they go.
    pub(super) fn on_sync_deadline(&mut self, cx: &mut Context<'_>) {
        if !matches!(self.state(), GroupState::CompletingRebalance | GroupState::Stable) {
            return;
        }
        let mut late: Vec<_> = self.pending_sync.drain().collect();
        if late.is_empty() {
            return;
        }
        late.sort_unstable();
        for id in &late {
            info!(group = %self.id, member = %id, "member dropped: it did not sync in time");
            self.remove_member(cx, id);
        }
        self.prepare_rebalance(cx, "members did not sync in time");
    }

    /// A member, or someone who was about to become one, has been silent for too long.
    pub(super) fn on_session_deadline(&mut self, cx: &mut Context<'_>, id: &MemberId) {
        if self.pending_join.remove(id) {
            self.complete_if_all_joined(cx);
            return;
        }
        let Some(member) = self.member(id) else { return };
        // Whoever waits for us cannot send heartbeats. Their session starts again when they are answered; only a new
        // member has a deadline while it waits, as its client may be gone without anyone noticing.
        if member.is_waiting() && !member.is_new {
            return;
        }
        let silence = Duration::from_millis(member.session_timeout_ms.max(0) as u64);
        info!(group = %self.id, member = %id, ?silence, "member dropped: its session has expired");
        self.remove_member(cx, id);
        self.after_removal(cx, "a session has expired");
    }

    /// Takes a member out and answers what it waits for.
    pub(super) fn remove_member(&mut self, cx: &mut Context<'_>, id: &MemberId) -> Option<Member> {
        let member = self.remove(id)?;
        cx.timers.cancel(&TimerKey::Session(self.id.clone(), id.clone()));
        if let Some(token) = member.joining {
            let reply = JoinReply::error(ErrorCode::UnknownMemberId, MemberId::default());
            cx.reply(token, Reply::Join(reply));
        }
        if let Some(token) = member.syncing {
            cx.reply(token, Reply::Sync(SyncReply::error(ErrorCode::UnknownMemberId)));
        }
        Some(member)
    }

    /// Goes on after members were taken out.
    pub(super) fn after_removal(&mut self, cx: &mut Context<'_>, why: &str) {
        match self.state() {
            GroupState::CompletingRebalance | GroupState::Stable => self.prepare_rebalance(cx, why),
            GroupState::PreparingRebalance => self.complete_if_all_joined(cx),
            GroupState::Empty | GroupState::Dead => {}
        }
    }

    /// Starts a member's session anew.
    pub(super) fn renew_session(&mut self, cx: &mut Context<'_>, id: &MemberId) {
        let Some(member) = self.member(id) else { return };
        let deadline = cx.after(i64::from(member.session_timeout_ms));
        cx.timers.set(TimerKey::Session(self.id.clone(), id.clone()), deadline);
    }

    /// Answers every parked SyncGroup with an error; there is no assignment then.
    pub(super) fn fail_syncs(&mut self, cx: &mut Context<'_>, error: ErrorCode) {
        for id in self.member_ids() {
            let Some(member) = self.member_mut(&id) else { continue };
            member.assignment.clear();
            if let Some(token) = member.syncing.take() {
                debug!(group = %self.id, member = %id, ?error, "sync refused");
                cx.reply(token, Reply::Sync(SyncReply::error(error)));
                self.renew_session(cx, &id);
            }
        }
    }
}
