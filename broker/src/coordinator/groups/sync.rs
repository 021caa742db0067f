//! SyncGroup: the leader brings the assignment, the others wait for theirs.

use std::collections::HashMap;
use std::sync::Arc;

use aqueduct_protocol::ErrorCode;
use bytes::Bytes;
use tracing::{info, warn};

use super::Groups;
use crate::coordinator::context::{Context, Then};
use crate::coordinator::effect::{Effect, Reply, SyncReply, Token};
use crate::coordinator::group::{Group, GroupState};
use crate::coordinator::ids::{Generation, MemberId};
use crate::coordinator::request::{Now, Sync};
use crate::coordinator::timers::TimerKey;

impl Groups {
    /// Answers now, or when the leader's assignment is in the log.
    pub fn on_sync(&mut self, now: Now, token: Token, sync: &Sync) -> Vec<Effect> {
        if sync.group.as_str().is_empty() {
            return vec![refusal(token, ErrorCode::InvalidGroupId)];
        }
        let missing = || Reply::Sync(SyncReply::error(ErrorCode::UnknownMemberId));
        self.ask(now, &sync.group, token, missing, |group, cx| {
            if group.is_live_consumer() {
                group.consumer_sync(cx, token, sync);
                return;
            }
            if let Err(error) = group.on_sync(cx, token, sync) {
                cx.effects.push(refusal(token, error));
            }
        })
    }
}

fn refusal(token: Token, error: ErrorCode) -> Effect {
    Effect::Reply(token, Reply::Sync(SyncReply::error(error)))
}

fn differs(asked: &Option<Arc<str>>, ours: &Option<Arc<str>>) -> bool {
    matches!((asked, ours), (Some(asked), Some(ours)) if asked != ours)
}

impl Group {
    fn on_sync(&mut self, cx: &mut Context<'_>, token: Token, sync: &Sync) -> Result<(), ErrorCode> {
        let id = &sync.caller.member_id;
        self.check_member(id, sync.caller.instance_id.as_ref())?;
        if sync.caller.generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        if differs(&sync.protocol_type, &self.protocol_type) || differs(&sync.protocol, &self.protocol) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        match self.state() {
            GroupState::Empty | GroupState::Dead => Err(ErrorCode::UnknownMemberId),
            GroupState::PreparingRebalance => Err(ErrorCode::RebalanceInProgress),
            GroupState::CompletingRebalance => {
                self.has_synced(cx, id);
                self.park_sync(cx, token, id);
                if self.is_leader(id) && !self.assigning {
                    self.assign(cx, &sync.assignments);
                }
                Ok(())
            }
            GroupState::Stable => {
                self.has_synced(cx, id);
                cx.reply(token, Reply::Sync(self.assigned(id)));
                self.renew_session(cx, id);
                Ok(())
            }
        }
    }

    fn has_synced(&mut self, cx: &mut Context<'_>, id: &MemberId) {
        self.pending_sync.remove(id);
        if self.pending_sync.is_empty() {
            cx.timers.cancel(&TimerKey::Sync(self.id.clone()));
        }
    }

    fn park_sync(&mut self, cx: &mut Context<'_>, token: Token, id: &MemberId) {
        let old = self.member_mut(id).and_then(|member| member.syncing.replace(token));
        if let Some(old) = old {
            cx.effects.push(refusal(old, ErrorCode::RebalanceInProgress));
        }
    }

    /// Writes down what the leader has decided; members that it left out get nothing.
    fn assign(&mut self, cx: &mut Context<'_>, given: &[(MemberId, Bytes)]) {
        let mut assignments: HashMap<_, _> =
            self.member_ids().into_iter().map(|id| (id, Bytes::new())).collect();
        for (id, assignment) in given {
            match assignments.get_mut(id) {
                Some(slot) => *slot = assignment.clone(),
                None => warn!(group = %self.id, member = %id, "leader assigns to someone who is no member"),
            }
        }
        self.assigning = true;
        let record = self.record_with(|member| assignments.get(&member.id).cloned().unwrap_or_default());
        let (group, generation) = (self.id.clone(), self.generation);
        self.last_write = Some(cx.append(vec![record], Then::Assign { group, generation, assignments }));
    }

    /// The assignment is in the log, or could not be written.
    pub(super) fn on_assigned(
        &mut self,
        cx: &mut Context<'_>,
        generation: Generation,
        mut assignments: HashMap<MemberId, Bytes>,
        result: Result<(), ErrorCode>,
    ) {
        if self.state() != GroupState::CompletingRebalance || self.generation != generation {
            // Another rebalance has begun meanwhile, and has answered everyone.
            return;
        }
        self.assigning = false;
        if let Err(error) = result {
            warn!(group = %self.id, ?error, "assignment could not be written");
            self.fail_syncs(cx, error);
            self.prepare_rebalance(cx, "the assignment could not be written");
            return;
        }
        self.enter(GroupState::Stable, cx.now.wall_ms);
        info!(group = %self.id, %generation, members = self.members().len(), "group is stable");
        for id in self.member_ids() {
            let Some(member) = self.member_mut(&id) else { continue };
            member.assignment = assignments.remove(&id).unwrap_or_default();
            if let Some(token) = member.syncing.take() {
                cx.reply(token, Reply::Sync(self.assigned(&id)));
                self.renew_session(cx, &id);
            }
        }
    }

    fn assigned(&self, id: &MemberId) -> SyncReply {
        SyncReply {
            error: ErrorCode::None,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self.member(id).map(|member| member.assignment.clone()).unwrap_or_default(),
        }
    }
}
