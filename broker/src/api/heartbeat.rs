//! Heartbeat (KIP-345), versions 0 to 4: a member says that it lives, and hears of rebalances.

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use super::Context;
use crate::coordinator::{Caller, Generation, GroupId, Reply};
use crate::security::Operation;

pub(crate) async fn handle(context: Context, request: HeartbeatRequest) -> HeartbeatResponse {
    if !context.allows_group(Operation::Read, &request.group_id) {
        let error_code = ErrorCode::GroupAuthorizationFailed.code();
        return HeartbeatResponse { throttle_time_ms: 0, error_code };
    }
    let group = GroupId::from(&*request.group_id);
    let caller = Caller {
        member_id: (&*request.member_id).into(),
        instance_id: request.group_instance_id.as_deref().map(Into::into),
        generation: Generation(request.generation_id),
    };
    let reply = match context.node.groups.shard(group.as_str()) {
        Ok(shard) => {
            shard.ask(move |groups, now, token| groups.on_heartbeat(now, token, &group, &caller)).await
        }
        Err(code) => Err(code),
    };
    let code = match reply {
        Ok(Reply::Heartbeat(code)) | Err(code) => code,
        Ok(_) => ErrorCode::UnknownServerError,
    };
    HeartbeatResponse { throttle_time_ms: 0, error_code: code.code() }
}
