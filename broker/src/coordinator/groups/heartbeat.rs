//! Heartbeat: a member says that it lives, and hears whether it must rejoin.

use aqueduct_protocol::ErrorCode;

use super::Groups;
use crate::coordinator::context::Context;
use crate::coordinator::effect::{Effect, Reply, Token};
use crate::coordinator::group::{Group, GroupState};
use crate::coordinator::ids::GroupId;
use crate::coordinator::request::{Caller, Now};

impl Groups {
    /// Answers at once.
    pub fn on_heartbeat(&mut self, now: Now, token: Token, group: &GroupId, caller: &Caller) -> Vec<Effect> {
        if group.as_str().is_empty() {
            return vec![Effect::Reply(token, Reply::Heartbeat(ErrorCode::InvalidGroupId))];
        }
        let missing = || Reply::Heartbeat(ErrorCode::UnknownMemberId);
        self.ask(now, group, token, missing, |group, cx| {
            let done = if group.is_live_consumer() {
                group.consumer_classic_heartbeat(cx, caller)
            } else {
                group.on_heartbeat(cx, caller)
            };
            let code = done.err().unwrap_or(ErrorCode::None);
            cx.reply(token, Reply::Heartbeat(code));
        })
    }
}

impl Group {
    fn on_heartbeat(&mut self, cx: &mut Context<'_>, caller: &Caller) -> Result<(), ErrorCode> {
        self.check_member(&caller.member_id, caller.instance_id.as_ref())?;
        if caller.generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        match self.state() {
            GroupState::Empty | GroupState::Dead => Err(ErrorCode::UnknownMemberId),
            GroupState::PreparingRebalance => {
                self.renew_session(cx, &caller.member_id);
                Err(ErrorCode::RebalanceInProgress)
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                self.renew_session(cx, &caller.member_id);
                Ok(())
            }
        }
    }
}
