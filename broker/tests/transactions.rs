//! Transactions of both versions, over the wire.
#![allow(clippy::unwrap_used)]

mod common;

use aqueduct_broker::Handle;
use aqueduct_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use aqueduct_protocol::messages::describe_producers_request::TopicRequest;
use aqueduct_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use aqueduct_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use aqueduct_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use aqueduct_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, ApiVersionsRequest, DescribeProducersRequest,
    DescribeTransactionsRequest, EndTxnRequest, FetchRequest, FindCoordinatorRequest, InitProducerIdRequest,
    InitProducerIdResponse, ListOffsetsRequest, ListTransactionsRequest, OffsetFetchRequest, ProduceRequest,
    ProduceResponse, TxnOffsetCommitRequest, WriteTxnMarkersRequest,
    list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
};
use aqueduct_protocol::records::{BatchBuilder, Compression};
use aqueduct_protocol::{ErrorCode, Request};
use bytes::Bytes;
use common::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Producer {
    id: i64,
    epoch: i16,
}

async fn find(client: &mut Client, key: &str, key_type: i8) {
    let request =
        FindCoordinatorRequest { coordinator_keys: vec![key.into()], key_type, ..Default::default() };
    let found = coordinator(client, &request).await;
    assert_eq!(found.error_code, 0, "{:?}", found.error_message);
}

async fn try_init(client: &mut Client, id: &str) -> InitProducerIdResponse {
    let request = InitProducerIdRequest {
        transactional_id: Some(id.into()),
        transaction_timeout_ms: 60_000,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    client.call(&request, 4).await
}

async fn init(client: &mut Client, id: &str) -> Producer {
    find(client, id, 1).await;
    loop {
        let answer = try_init(client, id).await;
        match ErrorCode::from_code(answer.error_code) {
            ErrorCode::None => return Producer { id: answer.producer_id, epoch: answer.producer_epoch },
            ErrorCode::ConcurrentTransactions | ErrorCode::CoordinatorLoadInProgress => {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await
            }
            code => panic!("{code:?}"),
        }
    }
}

async fn add(client: &mut Client, id: &str, who: Producer, topic: &str, index: i32) -> ErrorCode {
    let request = AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: id.into(),
        v3_and_below_producer_id: who.id,
        v3_and_below_producer_epoch: who.epoch,
        v3_and_below_topics: vec![AddPartitionsToTxnTopic { name: topic.into(), partitions: vec![index] }],
        ..Default::default()
    };
    let answer = client.call(&request, 3).await;
    let result = &answer.results_by_topic_v3_and_below[0].results_by_partition[0];
    ErrorCode::from_code(result.partition_error_code)
}

async fn end(
    client: &mut Client,
    id: &str,
    who: Producer,
    committed: bool,
    version: i16,
) -> Result<Producer, ErrorCode> {
    let request = EndTxnRequest {
        transactional_id: id.into(),
        producer_id: who.id,
        producer_epoch: who.epoch,
        committed,
    };
    loop {
        let answer = client.call(&request, version).await;
        match ErrorCode::from_code(answer.error_code) {
            ErrorCode::None => return Ok(Producer { id: answer.producer_id, epoch: answer.producer_epoch }),
            // The log of a coordinator is read in parts, after a start.
            ErrorCode::ConcurrentTransactions | ErrorCode::CoordinatorLoadInProgress => {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await
            }
            code => return Err(code),
        }
    }
}

fn records(who: Producer, sequence: i32, values: &[&str]) -> Bytes {
    let builder = BatchBuilder::new(Compression::None)
        .producer(
            aqueduct_protocol::ids::ProducerId(who.id),
            aqueduct_protocol::ids::ProducerEpoch(who.epoch),
            sequence,
        )
        .transactional(true);
    build(builder, values)
}

async fn send(client: &mut Client, id: &str, topic: &str, batch: Bytes, version: i16) -> ErrorCode {
    let mut request = produce_request(topic, Default::default(), 0, Some(batch), -1);
    request.transactional_id = Some(id.into());
    let answer = client.call(&request, version).await;
    ErrorCode::from_code(answer.responses[0].partition_responses[0].error_code)
}

/// What a consumer of committed records gets: values of all records, aborted producers, last stable offset.
async fn committed(client: &mut Client, topic: &str) -> (Vec<String>, Vec<(i64, i64)>, i64) {
    let request = FetchRequest { isolation_level: 1, ..fetch_request(topic, Default::default(), 0, 0) };
    let mut answer = client.call(&request, 12).await;
    let partition = answer.responses.remove(0).partitions.remove(0);
    assert_eq!(partition.error_code, 0);
    let aborted = partition.aborted_transactions.unwrap();
    let aborted = aborted.iter().map(|a| (a.producer_id, a.first_offset)).collect();
    let mut values = Vec::new();
    for batch in aqueduct_protocol::records::Batches::new(partition.records.unwrap_or_default()) {
        let batch = batch.unwrap();
        if !batch.header.attributes.is_control() {
            let text = |record: aqueduct_protocol::records::Record| {
                String::from_utf8(record.value.unwrap().to_vec()).unwrap()
            };
            values.extend(batch.records().unwrap().map(|record| text(record.unwrap())));
        }
    }
    (values, aborted, partition.last_stable_offset)
}

async fn settled(client: &mut Client, id: &str) -> String {
    loop {
        let request = DescribeTransactionsRequest { transactional_ids: vec![id.into()] };
        let found = client.call(&request, 0).await.transaction_states.remove(0);
        assert_eq!(found.error_code, 0);
        if !found.transaction_state.starts_with("Prepare") {
            return found.transaction_state.to_string();
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

async fn ready(dir: &std::path::Path, settings: &[(&str, &str)]) -> (Handle, Client) {
    let broker = start_with(dir, settings).await;
    let client = Client::connect(&broker).await;
    (broker, client)
}

#[tokio::test]
async fn a_transaction_of_the_first_version_is_seen_when_it_is_committed() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, mut client) = ready(dir.path(), &[]).await;
    let client = &mut client;
    client.create_topic("t", 1, &[]).await;
    let who = init(client, "x").await;
    let batch = records(who, 0, &["a", "b"]);
    assert_eq!(send(client, "x", "t", batch.clone(), 10).await, ErrorCode::InvalidTxnState, "not added");
    assert_eq!(send(client, "x", "t", batch.clone(), 11).await, ErrorCode::TransactionAbortable);
    assert_eq!(add(client, "x", who, "none", 0).await, ErrorCode::UnknownTopicOrPartition);
    assert_eq!(add(client, "x", who, "t", 0).await, ErrorCode::None);
    assert_eq!(send(client, "x", "t", batch.clone(), 11).await, ErrorCode::None);
    assert_eq!(send(client, "x", "t", batch, 11).await, ErrorCode::None, "sent again");
    let plain = idempotent(&["c"], who.id, who.epoch, 2);
    assert_eq!(client.produce("t", 0, plain).await.error_code, ErrorCode::InvalidTxnState.code());
    assert_eq!(committed(client, "t").await, (vec![], vec![], 0));
    let latest = ListOffsetsPartition { partition_index: 0, timestamp: -1, ..Default::default() };
    let topics = vec![ListOffsetsTopic { name: "t".into(), partitions: vec![latest] }];
    let mut offsets = ListOffsetsRequest { replica_id: -1, isolation_level: 1, topics, ..Default::default() };
    assert_eq!(client.call(&offsets, 4).await.topics[0].partitions[0].offset, 0);
    offsets.isolation_level = 0;
    assert_eq!(client.call(&offsets, 4).await.topics[0].partitions[0].offset, 2);
    assert_eq!(end(client, "x", who, true, 3).await, Ok(Producer { id: -1, epoch: -1 }));
    assert_eq!(settled(client, "x").await, "CompleteCommit");
    assert_eq!(committed(client, "t").await, (vec!["a".into(), "b".into()], vec![], 3));

    assert_eq!(add(client, "x", who, "t", 0).await, ErrorCode::None);
    assert_eq!(send(client, "x", "t", records(who, 2, &["c"]), 11).await, ErrorCode::None);
    end(client, "x", who, false, 3).await.unwrap();
    assert_eq!(settled(client, "x").await, "CompleteAbort");
    assert_eq!(committed(client, "t").await.1, [(who.id, 3)]);
    let next = init(client, "x").await;
    assert_eq!(next, Producer { epoch: who.epoch + 1, ..who });
    assert_eq!(add(client, "x", who, "t", 0).await, ErrorCode::ProducerFenced);
    assert_eq!(send(client, "x", "t", records(who, 3, &["d"]), 11).await, ErrorCode::InvalidProducerEpoch);
    broker.shutdown().await;
}

#[tokio::test]
async fn a_transaction_of_the_second_version_adds_its_partitions_by_writing_to_them() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, mut client) = ready(dir.path(), &[]).await;
    let client = &mut client;
    client.create_topic("t", 1, &[]).await;
    let mut who = init(client, "x").await;
    for round in 0..3 {
        assert_eq!(send(client, "x", "t", records(who, 0, &["a"]), 12).await, ErrorCode::None);
        assert_eq!(send(client, "x", "t", records(who, 1, &["b"]), 12).await, ErrorCode::None);
        let next = end(client, "x", who, round != 1, 5).await.unwrap();
        assert_eq!(next, Producer { epoch: who.epoch + 1, ..who });
        assert_eq!(end(client, "x", who, round != 1, 5).await, Ok(next), "sent again");
        assert_eq!(
            send(client, "x", "t", records(who, 2, &["late"]), 12).await,
            ErrorCode::InvalidProducerEpoch
        );
        who = next;
    }
    assert_eq!(end(client, "x", who, true, 5).await, Err(ErrorCode::InvalidTxnState));
    settled(client, "x").await;
    let (values, aborted, stable) = committed(client, "t").await;
    assert_eq!((values.len(), aborted, stable), (6, vec![(who.id, 3)], 9));
    let gap = records(who, 5, &["gap"]);
    assert_eq!(send(client, "x", "t", gap, 12).await, ErrorCode::OutOfOrderSequenceNumber);
    broker.shutdown().await;
}

fn codes_of(mut answer: ProduceResponse) -> Vec<ErrorCode> {
    let partitions = answer.responses.remove(0).partition_responses;
    partitions.iter().map(|at| ErrorCode::from_code(at.error_code)).collect()
}

/// Markers of one transaction are written while the next one begins, in the same partitions.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_begins_before_the_last_markers_of_the_one_before_is_taken() {
    const PARTITIONS: i32 = 40;
    let dir = tempfile::tempdir().unwrap();
    let (broker, mut client) = ready(dir.path(), &[]).await;
    let client = &mut client;
    client.create_topic("t", PARTITIONS, &[]).await;
    let mut who = init(client, "x").await;
    let everywhere = |who| {
        let mut request = produce_request("t", Default::default(), 0, Some(records(who, 0, &["a"])), -1);
        request.transactional_id = Some("x".into());
        let mut first = request.topic_data[0].partition_data[0].clone();
        for index in 1..PARTITIONS {
            first.index = index;
            request.topic_data[0].partition_data.push(first.clone());
        }
        request
    };
    let sent = client.send(&everywhere(who), 12).await;
    client.receive::<ProduceRequest>(12, sent).await;
    for round in 0..100 {
        let request = EndTxnRequest {
            transactional_id: "x".into(),
            producer_id: who.id,
            producer_epoch: who.epoch,
            committed: round % 3 != 0,
        };
        // The next one does not wait for the answer: its epoch is known beforehand.
        let ending = client.send(&request, 5).await;
        let next = Producer { epoch: who.epoch + 1, ..who };
        let sending = client.send(&everywhere(next), 12).await;
        let ended = client.receive::<EndTxnRequest>(5, ending).await;
        assert_eq!((ended.error_code, ended.producer_epoch), (0, next.epoch));
        let mut codes = codes_of(client.receive::<ProduceRequest>(12, sending).await);
        // A machine that takes its time with the markers has the client come again.
        while codes.iter().all(|code| *code == ErrorCode::ConcurrentTransactions) {
            codes = codes_of(client.call(&everywhere(next), 12).await);
        }
        assert_eq!(codes, [ErrorCode::None; PARTITIONS as usize], "round {round}");
        who = next;
    }
    broker.shutdown().await;
}

fn offsets(who: Producer, group: &str, offset: i64) -> TxnOffsetCommitRequest {
    let partition = TxnOffsetCommitRequestPartition {
        partition_index: 0,
        committed_offset: offset,
        committed_leader_epoch: -1,
        committed_metadata: None,
    };
    let topic =
        TxnOffsetCommitRequestTopic { name: "t".into(), partitions: vec![partition], ..Default::default() };
    TxnOffsetCommitRequest {
        transactional_id: "x".into(),
        group_id: group.into(),
        producer_id: who.id,
        producer_epoch: who.epoch,
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    }
}

async fn commit_offset(client: &mut Client, request: &TxnOffsetCommitRequest, version: i16) -> ErrorCode {
    loop {
        let answer = client.call(request, version).await;
        match ErrorCode::from_code(answer.topics[0].partitions[0].error_code) {
            ErrorCode::CoordinatorLoadInProgress => {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await
            }
            code => return code,
        }
    }
}

/// Offset and error of the group's partition, for a consumer that wants what is stable.
async fn stable_offset(client: &mut Client, group: &str) -> (i64, ErrorCode) {
    let topic =
        OffsetFetchRequestTopics { name: "t".into(), partition_indexes: vec![0], ..Default::default() };
    let group =
        OffsetFetchRequestGroup { group_id: group.into(), topics: Some(vec![topic]), ..Default::default() };
    let request = OffsetFetchRequest { groups: vec![group], require_stable: true, ..Default::default() };
    let mut answer = client.call(&request, 9).await;
    while answer.groups[0].error_code == ErrorCode::CoordinatorLoadInProgress.code() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        answer = client.call(&request, 9).await;
    }
    let partition = &answer.groups[0].topics[0].partitions[0];
    (partition.committed_offset, ErrorCode::from_code(partition.error_code))
}

#[tokio::test]
async fn offsets_count_with_their_transaction_and_survive_a_restart_in_between() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [("offsets.topic.num.partitions", "3"), ("transaction.state.log.num.partitions", "3")];
    let (broker, mut client) = ready(dir.path(), &settings).await;
    client.create_topic("t", 1, &[]).await;
    find(&mut client, "g", 0).await;
    let who = init(&mut client, "x").await;
    let refused = commit_offset(&mut client, &offsets(who, "g", 5), 3).await;
    assert_eq!(refused, ErrorCode::InvalidTxnState, "not added");
    let add = AddOffsetsToTxnRequest {
        transactional_id: "x".into(),
        producer_id: who.id,
        producer_epoch: who.epoch,
        group_id: "g".into(),
    };
    assert_eq!(client.call(&add, 3).await.error_code, 0);
    assert_eq!(commit_offset(&mut client, &offsets(who, "g", 5), 3).await, ErrorCode::None);
    assert_eq!(stable_offset(&mut client, "g").await, (-1, ErrorCode::UnstableOffsetCommit));
    broker.shutdown().await;

    let (broker, mut client) = ready(dir.path(), &settings).await;
    assert_eq!(stable_offset(&mut client, "g").await, (-1, ErrorCode::UnstableOffsetCommit));
    end(&mut client, "x", who, true, 3).await.unwrap();
    settled(&mut client, "x").await;
    assert_eq!(stable_offset(&mut client, "g").await, (5, ErrorCode::None));

    let who = init(&mut client, "x").await;
    assert_eq!(commit_offset(&mut client, &offsets(who, "g", 9), 5).await, ErrorCode::None, "adds the group");
    let next = end(&mut client, "x", who, false, 5).await.unwrap();
    settled(&mut client, "x").await;
    assert_eq!(stable_offset(&mut client, "g").await, (5, ErrorCode::None));
    assert_eq!(commit_offset(&mut client, &offsets(who, "g", 9), 5).await, ErrorCode::InvalidProducerEpoch);
    assert_eq!(commit_offset(&mut client, &offsets(next, "", 9), 5).await, ErrorCode::InvalidGroupId);
    broker.shutdown().await;
}

#[tokio::test]
async fn a_hanging_transaction_is_found_and_ended_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [("transaction.partition.verification.enable", "false")];
    let (broker, mut client) = ready(dir.path(), &settings).await;
    let client = &mut client;
    client.create_topic("t", 1, &[]).await;
    let who = Producer { id: 4711, epoch: 3 };
    assert_eq!(send(client, "x", "t", records(who, 0, &["a"]), 11).await, ErrorCode::None);
    let topic = TopicRequest { name: "t".into(), partition_indexes: vec![0, 1] };
    let request = DescribeProducersRequest { topics: vec![topic] };
    let answer = client.call(&request, 0).await;
    let [found, missing] = &answer.topics[0].partitions[..] else { panic!("{answer:?}") };
    assert_eq!(missing.error_code, ErrorCode::UnknownTopicOrPartition.code());
    let producer = &found.active_producers[0];
    assert_eq!((producer.producer_id, producer.producer_epoch, producer.last_sequence), (4711, 3, 0));
    assert_eq!((producer.coordinator_epoch, producer.current_txn_start_offset), (-1, 0));
    let marker = |epoch, coordinator_epoch| WriteTxnMarkersRequest {
        markers: vec![WritableTxnMarker {
            producer_id: 4711,
            producer_epoch: epoch,
            transaction_result: false,
            topics: vec![WritableTxnMarkerTopic { name: "t".into(), partition_indexes: vec![0] }],
            coordinator_epoch,
            transaction_version: 0,
        }],
    };
    let mut write = async |epoch, coordinator_epoch| {
        let answer = client.call(&marker(epoch, coordinator_epoch), 1).await;
        ErrorCode::from_code(answer.markers[0].topics[0].partitions[0].error_code)
    };
    assert_eq!(write(2, 0).await, ErrorCode::InvalidProducerEpoch);
    assert_eq!(write(3, 7).await, ErrorCode::None);
    assert_eq!(write(3, 6).await, ErrorCode::TransactionCoordinatorFenced);
    assert_eq!(committed(client, "t").await.1, [(4711, 0)]);
    assert_eq!(
        client.call(&request, 0).await.topics[0].partitions[0].active_producers[0].coordinator_epoch,
        7
    );
    broker.shutdown().await;
}

async fn sweep<R: Request>(client: &mut Client, make: impl Fn(i16) -> R) {
    let request = ApiVersionsRequest {
        client_software_name: "t".into(),
        client_software_version: "1".into(),
        ..Default::default()
    };
    let versions = client.call(&request, 3).await;
    let api = versions.api_keys.iter().find(|api| api.api_key == R::API_KEY).unwrap();
    for version in api.min_version..=api.max_version {
        client.call(&make(version), version).await;
    }
}

#[tokio::test]
async fn every_version_answers_what_it_can_say() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, mut client) = ready(dir.path(), &[]).await;
    let client = &mut client;
    client.create_topic("t", 1, &[]).await;
    find(client, "g", 0).await;
    let who = init(client, "x").await;
    for id in ["x", "y", ""] {
        let topics = || vec![AddPartitionsToTxnTopic { name: "t".into(), partitions: vec![0, 7] }];
        sweep(client, |version| match version {
            4.. => AddPartitionsToTxnRequest {
                transactions: vec![AddPartitionsToTxnTransaction {
                    transactional_id: id.into(),
                    producer_id: who.id,
                    producer_epoch: who.epoch,
                    verify_only: id == "x",
                    topics: topics(),
                }],
                ..Default::default()
            },
            _ => AddPartitionsToTxnRequest {
                v3_and_below_transactional_id: id.into(),
                v3_and_below_topics: topics(),
                ..Default::default()
            },
        })
        .await;
        sweep(client, |_| AddOffsetsToTxnRequest {
            transactional_id: id.into(),
            group_id: "g".into(),
            ..Default::default()
        })
        .await;
        sweep(client, |_| EndTxnRequest { transactional_id: id.into(), ..Default::default() }).await;
        sweep(client, |version| {
            let mut request = offsets(who, "g", 1);
            if version < 3 {
                request.generation_id_or_member_epoch = -1;
            }
            request
        })
        .await;
        sweep(client, |_| DescribeTransactionsRequest { transactional_ids: vec![id.into()] }).await;
    }
    sweep(client, |version| ListTransactionsRequest {
        state_filters: vec!["Empty".into(), "Nonsense".into()],
        duration_filter: -1,
        transactional_id_pattern: (version >= 2).then(|| "x.*".into()),
        ..Default::default()
    })
    .await;
    let bad = ListTransactionsRequest {
        duration_filter: -1,
        transactional_id_pattern: Some("(".into()),
        ..Default::default()
    };
    let code = client.call(&bad, 2).await.error_code;
    assert_eq!(ErrorCode::from_code(code), ErrorCode::InvalidRegularExpression);
    sweep(client, |_| DescribeProducersRequest::default()).await;
    sweep(client, |_| WriteTxnMarkersRequest::default()).await;
    broker.shutdown().await;
}
