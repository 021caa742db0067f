//! ListPartitionReassignments (KIP-455), version 0: which partitions are being moved between brokers. A replica set changes
//! in one step here, so none ever is.

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::messages::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};

use super::Context;
use crate::security::Operation;

pub(crate) async fn handle(
    context: Context,
    _request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    let allowed = context.allows_cluster(Operation::Describe);
    let code = if allowed { ErrorCode::None } else { ErrorCode::ClusterAuthorizationFailed };
    ListPartitionReassignmentsResponse { error_code: code.code(), ..Default::default() }
}
