//! DeleteGroups (KIP-229), versions 0 to 2: groups without members go, and their offsets with them.

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::messages::delete_groups_response::DeletableGroupResult;
use aqueduct_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};
use indexmap::IndexSet;

use super::Context;
use crate::coordinator::{GroupId, Reply};
use crate::security::Operation;

pub(crate) async fn handle(context: Context, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let names: IndexSet<_> = request.groups_names.into_iter().collect();
    let mut results = Vec::with_capacity(names.len());
    for group_id in names {
        let group = GroupId::from(&*group_id);
        let reply = match context.node.groups.shard(group.as_str()) {
            _ if !context.allows_group(Operation::Delete, &group_id) => {
                Err(ErrorCode::GroupAuthorizationFailed)
            }
            Ok(shard) => shard.ask(move |groups, now, token| groups.on_delete(now, token, &group)).await,
            Err(code) => Err(code),
        };
        let code = match reply {
            Ok(Reply::Delete(code)) | Err(code) => code,
            Ok(_) => ErrorCode::UnknownServerError,
        };
        results.push(DeletableGroupResult { group_id, error_code: code.code(), ..Default::default() });
    }
    DeleteGroupsResponse { throttle_time_ms: 0, results }
}
