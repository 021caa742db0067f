//! A static member comes back without its id: it takes its old place, and whoever still uses the old id is fenced.

use aqueduct_protocol::ErrorCode;
use tracing::info;

use crate::coordinator::context::{Context, Replacement, Then};
use crate::coordinator::effect::{JoinReply, Reply, SyncReply, Token};
use crate::coordinator::group::{Group, GroupState};
use crate::coordinator::ids::MemberId;
use crate::coordinator::request::Join;
use crate::coordinator::timers::TimerKey;

impl Group {
    pub(super) fn replace_static(
        &mut self,
        cx: &mut Context<'_>,
        token: Token,
        join: &Join,
        old_id: &MemberId,
        new_id: MemberId,
    ) {
        let Some(old) = self.member(old_id).cloned() else { return };
        let leader = self.leader.clone().unwrap_or_default();
        info!(group = %self.id, old = %old_id, new = %new_id, "static member takes its place again");
        self.fence(cx, old_id, &new_id);
        self.update(&new_id, join);
        self.park(cx, token, &new_id);
        if old.is_new {
            self.start_waiting(cx, &new_id);
        } else {
            self.renew_session(cx, &new_id);
        }
        match self.state() {
            GroupState::Stable if self.vote() == self.protocol => {
                // Nothing changes for the others, so there is no reason to stop them.
                let record = self.record();
                let may_skip_assignment = join.may_skip_assignment;
                let group = self.id.clone();
                let replacement = Replacement { group, token, new_id, old, leader, may_skip_assignment };
                self.last_write = Some(cx.append(vec![record], Then::Replace(Box::new(replacement))));
            }
            // In CompletingRebalance the leader may already assign to the old id.
            GroupState::Stable | GroupState::CompletingRebalance => {
                self.prepare_rebalance(cx, "a static member rejoins");
            }
            GroupState::Empty | GroupState::PreparingRebalance | GroupState::Dead => {
                self.complete_if_all_joined(cx);
            }
        }
    }

    /// Gives the place to `new_id`; requests parked under the old id are refused.
    fn fence(&mut self, cx: &mut Context<'_>, old_id: &MemberId, new_id: &MemberId) {
        cx.timers.cancel(&TimerKey::Session(self.id.clone(), old_id.clone()));
        let Some((joining, syncing)) = self.rename(old_id, new_id) else { return };
        if let Some(token) = joining {
            let reply = JoinReply::error(ErrorCode::FencedInstanceId, old_id.clone());
            cx.reply(token, Reply::Join(reply));
        }
        if let Some(token) = syncing {
            cx.reply(token, Reply::Sync(SyncReply::error(ErrorCode::FencedInstanceId)));
        }
    }

    /// The new id is in the log, or could not be written.
    pub(super) fn on_replaced(
        &mut self,
        cx: &mut Context<'_>,
        replacement: Replacement,
        result: Result<(), ErrorCode>,
    ) {
        let Replacement { token, new_id, old, leader, may_skip_assignment, .. } = replacement;
        let waits = self.member(&new_id).is_some_and(|member| member.joining == Some(token));
        if !waits {
            // A rebalance has answered it, or the instance has come back once more.
            return;
        }
        if self.state() != GroupState::Stable {
            // A rebalance is under way and answers it.
            return;
        }
        self.unpark_join(&new_id);
        if let Err(error) = result {
            self.rename(&new_id, &old.id);
            self.set_terms(&old.id, old.protocols, old.session_timeout_ms, old.rebalance_timeout_ms);
            cx.timers.cancel(&TimerKey::Session(self.id.clone(), new_id));
            self.renew_session(cx, &old.id);
            cx.reply(token, Reply::Join(JoinReply::error(error, MemberId::default())));
            return;
        }
        let mut reply = self.joined(&new_id);
        if may_skip_assignment {
            reply.skip_assignment = self.is_leader(&new_id);
        } else {
            // An old client that learns that it leads would assign anew, and a stable group would not hear of it. So it
            // is told the leader's former id, even if that was its own.
            reply.leader = leader;
            reply.members.clear();
        }
        cx.reply(token, Reply::Join(reply));
        self.renew_session(cx, &new_id);
    }
}
