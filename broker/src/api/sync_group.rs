//! SyncGroup (KIP-345, KIP-559), versions 0 to 5: the leader brings the assignment, everyone gets their part. The answer
//! waits for the leader.

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use bytes::Bytes;

use super::Context;
use super::shared::own;
use crate::coordinator::{Caller, Generation, Reply, Sync, SyncReply};
use crate::security::Operation;

pub(crate) async fn handle(context: Context, request: SyncGroupRequest) -> SyncGroupResponse {
    // Asked for before anything else since it must be there.
    if context.version >= 5 && (request.protocol_type.is_none() || request.protocol_name.is_none()) {
        let error_code = ErrorCode::InconsistentGroupProtocol.code();
        return SyncGroupResponse { error_code, ..Default::default() };
    }
    let allowed = context.allows_group(Operation::Read, &request.group_id);
    let sync = read(request);
    let parked = context.node.metrics.rebalances_parked.park();
    let reply = match context.node.groups.shard(sync.group.as_str()) {
        _ if !allowed => Err(ErrorCode::GroupAuthorizationFailed),
        Ok(shard) => shard.ask(move |groups, now, token| groups.on_sync(now, token, &sync)).await,
        Err(code) => Err(code),
    };
    drop(parked);
    let reply = match reply {
        Ok(Reply::Sync(reply)) => reply,
        Ok(_) => SyncReply::error(ErrorCode::UnknownServerError),
        Err(code) => SyncReply::error(code),
    };
    SyncGroupResponse {
        throttle_time_ms: 0,
        error_code: reply.error.code(),
        protocol_type: reply.protocol_type.as_deref().map(own),
        protocol_name: reply.protocol.as_deref().map(own),
        assignment: reply.assignment,
    }
}

fn read(request: SyncGroupRequest) -> Sync {
    let assignments = request
        .assignments
        .iter()
        .map(|given| ((&*given.member_id).into(), Bytes::copy_from_slice(&given.assignment)))
        .collect();
    Sync {
        group: (&*request.group_id).into(),
        caller: Caller {
            member_id: (&*request.member_id).into(),
            instance_id: request.group_instance_id.as_deref().map(Into::into),
            generation: Generation(request.generation_id),
        },
        protocol_type: request.protocol_type.as_deref().map(Into::into),
        protocol: request.protocol_name.as_deref().map(Into::into),
        assignments,
    }
}
