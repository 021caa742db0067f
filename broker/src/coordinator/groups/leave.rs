//! LeaveGroup: members go, or an administrator sends static members away.

use aqueduct_protocol::ErrorCode;
use tracing::info;

use super::Groups;
use crate::coordinator::context::Context;
use crate::coordinator::effect::{Effect, Reply, Token};
use crate::coordinator::group::Group;
use crate::coordinator::ids::{InstanceId, MemberId};
use crate::coordinator::request::{Leave, Now};
use crate::coordinator::timers::TimerKey;

impl Groups {
    /// Answers at once, one code for each member.
    pub fn on_leave(&mut self, now: Now, token: Token, leave: &Leave) -> Vec<Effect> {
        if leave.group.as_str().is_empty() {
            return vec![Effect::Reply(token, Reply::Leave(Err(ErrorCode::InvalidGroupId)))];
        }
        let missing = || Reply::Leave(Ok(vec![ErrorCode::UnknownMemberId; leave.members.len()]));
        self.ask(now, &leave.group, token, missing, |group, cx| {
            if group.is_live_consumer() {
                group.consumer_classic_leave(cx, token, leave);
                return;
            }
            let mut codes = Vec::with_capacity(leave.members.len());
            for (id, instance_id) in &leave.members {
                codes.push(group.on_leave(cx, id, instance_id.as_ref()).err().unwrap_or(ErrorCode::None));
            }
            let anyone = codes.contains(&ErrorCode::None);
            cx.reply(token, Reply::Leave(Ok(codes)));
            if anyone {
                group.after_removal(cx, "members leave");
            }
        })
    }
}

impl Group {
    fn on_leave(
        &mut self,
        cx: &mut Context<'_>,
        id: &MemberId,
        instance_id: Option<&InstanceId>,
    ) -> Result<(), ErrorCode> {
        if self.pending_join.remove(id) {
            cx.timers.cancel(&TimerKey::Session(self.id.clone(), id.clone()));
            return Ok(());
        }
        // An administrator knows the instance only.
        let id = match instance_id {
            Some(instance_id) if id.as_str().is_empty() => {
                self.static_member(instance_id).ok_or(ErrorCode::UnknownMemberId)?.clone()
            }
            _ => {
                self.check_member(id, instance_id)?;
                id.clone()
            }
        };
        info!(group = %self.id, member = %id, "member leaves");
        self.remove_member(cx, &id);
        Ok(())
    }
}
