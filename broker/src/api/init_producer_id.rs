//! InitProducerId (KIP-98, KIP-360), versions 0 to 5: an id for an idempotent producer. Transactions are not served.

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

use super::Context;
use crate::security::{Operation, ResourceType};

pub(crate) async fn handle(context: Context, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let failed = |code: ErrorCode| InitProducerIdResponse {
        error_code: code.code(),
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    if request.transactional_id.is_some() {
        // Whatever is answered here must not be retriable: no retry would end differently.
        return failed(ErrorCode::InvalidRequest);
    }
    let allowed = context.would_allow_cluster(Operation::IdempotentWrite)
        || context.allows_any(Operation::Write, ResourceType::Topic);
    if !allowed {
        return failed(ErrorCode::ClusterAuthorizationFailed);
    }
    match context.node.producer_ids.next(&*context.node.metadata).await {
        Ok(id) => InitProducerIdResponse { producer_id: id.0, producer_epoch: 0, ..Default::default() },
        Err(error) => {
            tracing::warn!(%error, "no producer id can be given out");
            failed(ErrorCode::CoordinatorNotAvailable)
        }
    }
}
