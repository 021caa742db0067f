//! DescribeTransactions (KIP-664), version 0: where transactions stand.

use std::collections::BTreeMap;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::messages::describe_transactions_response::{TopicData, TransactionState};
use aqueduct_protocol::messages::{DescribeTransactionsRequest, DescribeTransactionsResponse};
use bytestring::ByteString;

use super::{Context, own};
use crate::coordinator::Described;
use crate::security::{Operation, ResourceType};

pub(crate) async fn handle(
    context: Context,
    request: DescribeTransactionsRequest,
) -> DescribeTransactionsResponse {
    let mut transaction_states = Vec::with_capacity(request.transactional_ids.len());
    for id in request.transactional_ids {
        transaction_states.push(describe(&context, id).await);
    }
    DescribeTransactionsResponse { transaction_states, ..Default::default() }
}

async fn describe(context: &Context, transactional_id: ByteString) -> TransactionState {
    let failed = |transactional_id: ByteString, code: ErrorCode| TransactionState {
        error_code: code.code(),
        transactional_id,
        ..Default::default()
    };
    if !context.allows(Operation::Describe, ResourceType::TransactionalId, &transactional_id) {
        return failed(transactional_id, ErrorCode::TransactionalIdAuthorizationFailed);
    }
    if transactional_id.is_empty() {
        return failed(transactional_id, ErrorCode::InvalidRequest);
    }
    let found = context.node.transactions.describe(&transactional_id).await;
    let found = match found.and_then(|found| found.ok_or(ErrorCode::TransactionalIdNotFound)) {
        Ok(found) => found,
        Err(code) => return failed(transactional_id, code),
    };
    TransactionState {
        error_code: 0,
        transactional_id,
        transaction_state: found.state.name().into(),
        transaction_timeout_ms: found.timeout_ms,
        transaction_start_time_ms: found.start_ms,
        producer_id: found.producer.0,
        producer_epoch: found.epoch.0,
        topics: topics(context, &found),
    }
}

/// The partitions in it, but for those of topics that the client may not see.
fn topics(context: &Context, found: &Described) -> Vec<TopicData> {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (topic, index) in &found.partitions {
        topics.entry(topic).or_default().push(*index);
    }
    let shown = topics
        .into_iter()
        .filter(|(name, _)| context.would_allow(Operation::Describe, ResourceType::Topic, name));
    shown.map(|(name, partitions)| TopicData { topic: own(name), partitions }).collect()
}
