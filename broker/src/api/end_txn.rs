//! EndTxn (KIP-98, KIP-890), versions 0 to 5: commits or aborts. Since version 5 every end raises the producer's epoch.

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{ProducerEpoch, ProducerId};
use aqueduct_protocol::messages::{EndTxnRequest, EndTxnResponse};

use super::Context;
use crate::coordinator::{End, NO_EPOCH, NO_ID, Speaker};
use crate::security::{Operation, ResourceType};

/// Versions whose clients know that they are fenced.
const FENCED_SINCE: i16 = 2;
/// Versions whose clients take a new epoch from the answer.
const RAISES_SINCE: i16 = 5;

pub(crate) async fn handle(context: Context, request: EndTxnRequest) -> EndTxnResponse {
    let raises = context.version >= RAISES_SINCE;
    let (code, (id, epoch)) = match end(&context, &request).await {
        Ok(producer) if raises => (ErrorCode::None, producer),
        Ok(_) => (ErrorCode::None, (NO_ID, NO_EPOCH)),
        Err(ErrorCode::ProducerFenced) if context.version < FENCED_SINCE => {
            (ErrorCode::InvalidProducerEpoch, (NO_ID, NO_EPOCH))
        }
        Err(code) => (code, (NO_ID, NO_EPOCH)),
    };
    EndTxnResponse {
        error_code: code.code(),
        producer_id: id.0,
        producer_epoch: epoch.0,
        ..Default::default()
    }
}

async fn end(context: &Context, request: &EndTxnRequest) -> Result<(ProducerId, ProducerEpoch), ErrorCode> {
    if !context.allows(Operation::Write, ResourceType::TransactionalId, &request.transactional_id) {
        return Err(ErrorCode::TransactionalIdAuthorizationFailed);
    }
    let who = Speaker {
        id: (&*request.transactional_id).into(),
        producer: ProducerId(request.producer_id),
        epoch: ProducerEpoch(request.producer_epoch),
    };
    let client_version = if context.version >= RAISES_SINCE { 2 } else { 0 };
    let end = End { who, commit: request.committed, client_version, fresh: None };
    context.node.transactions.end(end).await
}
