//! AddOffsetsToTxn (KIP-98), versions 0 to 4: a group's offsets join a transaction.

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{ProducerEpoch, ProducerId};
use aqueduct_protocol::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};

use super::Context;
use crate::coordinator::{Add, Speaker};
use crate::node::OFFSETS_TOPIC;
use crate::security::{Operation, ResourceType};

/// Versions whose clients know that they are fenced.
const FENCED_SINCE: i16 = 2;

pub(crate) async fn handle(context: Context, request: AddOffsetsToTxnRequest) -> AddOffsetsToTxnResponse {
    let code = match add(&context, &request).await {
        ErrorCode::ProducerFenced if context.version < FENCED_SINCE => ErrorCode::InvalidProducerEpoch,
        code => code,
    };
    AddOffsetsToTxnResponse { error_code: code.code(), ..Default::default() }
}

async fn add(context: &Context, request: &AddOffsetsToTxnRequest) -> ErrorCode {
    if !context.allows(Operation::Write, ResourceType::TransactionalId, &request.transactional_id) {
        return ErrorCode::TransactionalIdAuthorizationFailed;
    }
    if !context.allows_group(Operation::Read, &request.group_id) {
        return ErrorCode::GroupAuthorizationFailed;
    }
    let Some(index) = context.node.groups.partition_of(&request.group_id) else {
        // The client has not looked for the group's coordinator yet.
        context.node.create_missing_topics(&[OFFSETS_TOPIC]).await;
        return ErrorCode::CoordinatorNotAvailable;
    };
    let who = Speaker {
        id: (&*request.transactional_id).into(),
        producer: ProducerId(request.producer_id),
        epoch: ProducerEpoch(request.producer_epoch),
    };
    let partitions = vec![(OFFSETS_TOPIC.into(), index)];
    context.node.transactions.add(Add { who, partitions, client_version: 0 }).await
}
