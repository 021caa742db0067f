//! What another broker is asked for about the partitions of a transaction that it coordinates: AddPartitionsToTxn as leaders
//! speak it among themselves.

use std::collections::HashMap;

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use aqueduct_protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};
use bytestring::ByteString;

use super::request::Speaker;
use super::transaction::Place;

/// Asks whether partitions are in a transaction, or adds them to it.
pub(super) fn request(who: &Speaker, places: &[Place], verify_only: bool) -> AddPartitionsToTxnRequest {
    let mut topics: Vec<AddPartitionsToTxnTopic> = Vec::new();
    for (topic, index) in places {
        match topics.iter_mut().find(|found| *found.name == **topic) {
            Some(found) => found.partitions.push(*index),
            None => topics
                .push(AddPartitionsToTxnTopic { name: ByteString::from(&**topic), partitions: vec![*index] }),
        }
    }
    let transaction = AddPartitionsToTxnTransaction {
        transactional_id: ByteString::from(who.id.as_str()),
        producer_id: who.producer.0,
        producer_epoch: who.epoch.0,
        verify_only,
        topics,
    };
    AddPartitionsToTxnRequest { transactions: vec![transaction], ..Default::default() }
}

/// One code for each partition, in their order.
pub(super) fn read(places: &[Place], answer: &AddPartitionsToTxnResponse) -> Vec<ErrorCode> {
    match ErrorCode::from_code(answer.error_code) {
        ErrorCode::None => {}
        ErrorCode::ClusterAuthorizationFailed => {
            tracing::error!(
                "the transaction's coordinator does not know this broker: its principal needs CLUSTER_ACTION, or to be in super.users"
            );
            return vec![ErrorCode::InvalidTxnState; places.len()];
        }
        code => return vec![code; places.len()],
    }
    let topics = answer.results_by_transaction.iter().flat_map(|result| &result.topic_results);
    let codes: HashMap<(&str, i32), i16> = topics
        .flat_map(|topic| {
            let codes = topic.results_by_partition.iter();
            codes.map(|at| ((&*topic.name, at.partition_index), at.partition_error_code))
        })
        .collect();
    let code = |(topic, index): &Place| match codes.get(&(&**topic, *index)) {
        Some(code) => ErrorCode::from_code(*code),
        None => ErrorCode::UnknownServerError,
    };
    places.iter().map(code).collect()
}

#[cfg(test)]
mod tests {
    use aqueduct_protocol::ids::{ProducerEpoch, ProducerId};
    use aqueduct_protocol::messages::add_partitions_to_txn_response::{
        AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
    };

    use super::*;

    #[test]
    fn answers_are_given_in_the_order_of_the_partitions() {
        let places: Vec<Place> = vec![("a".into(), 1), ("b".into(), 0), ("a".into(), 0)];
        let who = Speaker { id: "x".into(), producer: ProducerId(3), epoch: ProducerEpoch(1) };
        let asked = request(&who, &places, true);
        let topics = &asked.transactions[0].topics;
        assert_eq!((topics.len(), &topics[0].partitions[..]), (2, &[1, 0][..]));
        let partition = |partition_index, code: ErrorCode| AddPartitionsToTxnPartitionResult {
            partition_index,
            partition_error_code: code.code(),
        };
        let results_by_partition =
            vec![partition(0, ErrorCode::TransactionAbortable), partition(1, ErrorCode::None)];
        let topic = AddPartitionsToTxnTopicResult { name: "a".into(), results_by_partition };
        let result = AddPartitionsToTxnResult { transactional_id: "x".into(), topic_results: vec![topic] };
        let answer =
            AddPartitionsToTxnResponse { results_by_transaction: vec![result], ..Default::default() };
        let codes = [ErrorCode::None, ErrorCode::UnknownServerError, ErrorCode::TransactionAbortable];
        assert_eq!(read(&places, &answer), codes);
        let error_code = ErrorCode::ClusterAuthorizationFailed.code();
        let refused = AddPartitionsToTxnResponse { error_code, ..Default::default() };
        assert_eq!(read(&places, &refused), [ErrorCode::InvalidTxnState; 3]);
    }
}
