//! InitProducerId (KIP-98, KIP-360), versions 0 to 5: an id for an idempotent producer, or possession of a transactional
//! id.

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{ProducerEpoch, ProducerId};
use aqueduct_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

use super::Context;
use crate::coordinator::{Init, NO_EPOCH, NO_ID};
use crate::security::{Operation, ResourceType};

/// Versions whose clients know that they are fenced.
const FENCED_SINCE: i16 = 4;

pub(crate) async fn handle(context: Context, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let (code, (id, epoch)) = match init(&context, &request).await {
        Ok(producer) => (ErrorCode::None, producer),
        Err(ErrorCode::ProducerFenced) if context.version < FENCED_SINCE => {
            (ErrorCode::InvalidProducerEpoch, (NO_ID, NO_EPOCH))
        }
        Err(code) => (code, (NO_ID, NO_EPOCH)),
    };
    InitProducerIdResponse {
        error_code: code.code(),
        producer_id: id.0,
        producer_epoch: epoch.0,
        ..Default::default()
    }
}

async fn init(
    context: &Context,
    request: &InitProducerIdRequest,
) -> Result<(ProducerId, ProducerEpoch), ErrorCode> {
    let coordinator = &context.node.transactions;
    let Some(id) = request.transactional_id.as_deref() else {
        let allowed = context.would_allow_cluster(Operation::IdempotentWrite)
            || context.allows_any(Operation::Write, ResourceType::Topic);
        if !allowed {
            return Err(ErrorCode::ClusterAuthorizationFailed);
        }
        given(context, request)?;
        return Ok((coordinator.fresh().await?, ProducerEpoch(0)));
    };
    if !context.allows(Operation::Write, ResourceType::TransactionalId, id) {
        return Err(ErrorCode::TransactionalIdAuthorizationFailed);
    }
    let expected = given(context, request)?;
    if id.is_empty() {
        return Err(ErrorCode::InvalidRequest);
    }
    let timeout_ms = request.transaction_timeout_ms;
    coordinator.init(Init { id: id.into(), timeout_ms, expected, fresh: None }).await
}

/// The id and epoch that the producer says it has: both, or neither.
fn given(
    context: &Context,
    request: &InitProducerIdRequest,
) -> Result<Option<(ProducerId, ProducerEpoch)>, ErrorCode> {
    let (producer, epoch) = match context.version {
        3.. => (ProducerId(request.producer_id), ProducerEpoch(request.producer_epoch)),
        _ => (NO_ID, NO_EPOCH),
    };
    match (producer == NO_ID, epoch == NO_EPOCH) {
        (true, true) => Ok(None),
        (false, false) => Ok(Some((producer, epoch))),
        _ => Err(ErrorCode::InvalidRequest),
    }
}
