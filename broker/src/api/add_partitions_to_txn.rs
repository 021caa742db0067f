//! AddPartitionsToTxn (KIP-98, KIP-890), versions 0 to 5: partitions join a transaction. Clients speak versions 0 to 3;
//! since version 4 leaders ask for many transactions at once, or only whether the partitions are in them.

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{PartitionIndex, ProducerEpoch, ProducerId};
use aqueduct_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use aqueduct_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use aqueduct_protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};

use super::Context;
use crate::coordinator::{Add, Place, Speaker};
use crate::metadata::is_internal;
use crate::security::{Operation, ResourceType};

/// Versions that leaders speak among themselves.
const LEADERS_SINCE: i16 = 4;
/// Versions whose clients know that they are fenced.
const FENCED_SINCE: i16 = 2;

pub(crate) async fn handle(
    context: Context,
    request: AddPartitionsToTxnRequest,
) -> AddPartitionsToTxnResponse {
    if context.version < LEADERS_SINCE {
        let transaction = AddPartitionsToTxnTransaction {
            transactional_id: request.v3_and_below_transactional_id,
            producer_id: request.v3_and_below_producer_id,
            producer_epoch: request.v3_and_below_producer_epoch,
            verify_only: false,
            topics: request.v3_and_below_topics,
        };
        let results = of_transaction(&context, &transaction).await;
        return AddPartitionsToTxnResponse { results_by_topic_v3_and_below: results, ..Default::default() };
    }
    if !context.allows_cluster(Operation::ClusterAction) {
        let error_code = ErrorCode::ClusterAuthorizationFailed.code();
        return AddPartitionsToTxnResponse { error_code, ..Default::default() };
    }
    let mut results = Vec::with_capacity(request.transactions.len());
    for transaction in request.transactions {
        results.push(AddPartitionsToTxnResult {
            topic_results: of_transaction(&context, &transaction).await,
            transactional_id: transaction.transactional_id,
        });
    }
    AddPartitionsToTxnResponse { results_by_transaction: results, ..Default::default() }
}

async fn of_transaction(
    context: &Context,
    transaction: &AddPartitionsToTxnTransaction,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let by_client = context.version < LEADERS_SINCE;
    let id = &transaction.transactional_id;
    if by_client && !context.allows(Operation::Write, ResourceType::TransactionalId, id) {
        return results(&transaction.topics, |_, _| ErrorCode::TransactionalIdAuthorizationFailed);
    }
    let image = context.node.metadata.image();
    let denied =
        |name: &str| by_client && (is_internal(name) || !context.allows_topic(Operation::Write, name));
    let denied: Vec<bool> = transaction.topics.iter().map(|topic| denied(&topic.name)).collect();
    let refusal = |at: usize, index: i32| {
        let topic = image.topic(&transaction.topics[at].name);
        match topic.and_then(|topic| topic.partition(PartitionIndex(index))) {
            _ if denied[at] => Some(ErrorCode::TopicAuthorizationFailed),
            None => Some(ErrorCode::UnknownTopicOrPartition),
            Some(_) => None,
        }
    };
    let mut topics = transaction.topics.iter().enumerate();
    if topics.any(|(at, topic)| topic.partitions.iter().any(|index| refusal(at, *index).is_some())) {
        let code = |at, index| refusal(at, index).unwrap_or(ErrorCode::OperationNotAttempted);
        return results(&transaction.topics, code);
    }
    let codes = ask(context, transaction).await;
    let mut codes = codes.into_iter();
    results(&transaction.topics, |_, _| match codes.next().unwrap_or_default() {
        ErrorCode::ProducerFenced if context.version < FENCED_SINCE => ErrorCode::InvalidProducerEpoch,
        code => code,
    })
}

/// One code for each partition, in their order.
async fn ask(context: &Context, transaction: &AddPartitionsToTxnTransaction) -> Vec<ErrorCode> {
    let who = Speaker {
        id: (&*transaction.transactional_id).into(),
        producer: ProducerId(transaction.producer_id),
        epoch: ProducerEpoch(transaction.producer_epoch),
    };
    let partitions: Vec<Place> = transaction
        .topics
        .iter()
        .flat_map(|topic| {
            let name: std::sync::Arc<str> = (&*topic.name).into();
            topic.partitions.iter().map(move |index| (name.clone(), *index))
        })
        .collect();
    let count = partitions.len();
    let coordinator = &context.node.transactions;
    if transaction.verify_only {
        return coordinator.verify(&who, &partitions).await.unwrap_or_else(|code| vec![code; count]);
    }
    let client_version = if context.version > LEADERS_SINCE { 2 } else { 0 };
    vec![coordinator.add(Add { who, partitions, client_version }).await; count]
}

fn results(
    topics: &[AddPartitionsToTxnTopic],
    mut code: impl FnMut(usize, i32) -> ErrorCode,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let mut results = Vec::with_capacity(topics.len());
    for (at, topic) in topics.iter().enumerate() {
        let result = |index: &i32| AddPartitionsToTxnPartitionResult {
            partition_index: *index,
            partition_error_code: code(at, *index).code(),
        };
        let results_by_partition = topic.partitions.iter().map(result).collect();
        results.push(AddPartitionsToTxnTopicResult { name: topic.name.clone(), results_by_partition });
    }
    results
}
