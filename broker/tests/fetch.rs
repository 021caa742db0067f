//! What a consumer meets.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::Uuid;
use aqueduct_protocol::messages::delete_topics_request::DeleteTopicState;
use aqueduct_protocol::messages::fetch_request::ForgottenTopic;
use aqueduct_protocol::messages::{DeleteTopicsRequest, FetchRequest, FetchResponse};
use common::*;

fn indexes(response: &FetchResponse) -> Vec<i32> {
    response.responses.iter().flat_map(|topic| topic.partitions.iter().map(|p| p.partition_index)).collect()
}

#[tokio::test]
async fn every_version_reads_by_name_or_id() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(&broker).await;
    let id = client.create_topic("t", 1, &[]).await;
    client.produce("t", 0, batch(&["a", "b"])).await;
    client.produce("t", 0, batch(&[&"x".repeat(100_000)])).await;
    for version in 4..=18 {
        for isolation_level in [0, 1] {
            let request = FetchRequest { isolation_level, ..fetch_request("t", id, 0, 0) };
            let response = client.call(&request, version).await;
            let partition = &response.responses[0].partitions[0];
            assert_eq!((partition.error_code, partition.high_watermark), (0, 3), "version {version}");
            assert_eq!(partition.aborted_transactions.is_some(), isolation_level == 1);
            let found = values(partition.records.clone());
            assert_eq!((found.len(), found[0].as_str()), (3, "a"));
        }
    }
    broker.shutdown().await;
}

#[tokio::test]
async fn bounds_and_errors_are_kafkas() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("t", 1, &[]).await;
    client.produce("t", 0, batch(&["a", "b"])).await;
    let at_end = client.call(&fetch_request("t", Uuid::ZERO, 0, 2), 11).await;
    let partition = &at_end.responses[0].partitions[0];
    assert_eq!((partition.error_code, partition.records.as_ref().unwrap().len()), (0, 0));
    let beyond = client.call(&fetch_request("t", Uuid::ZERO, 0, 3), 11).await;
    let partition = &beyond.responses[0].partitions[0];
    assert_eq!(partition.error_code, ErrorCode::OffsetOutOfRange.code());
    assert_eq!(
        (partition.high_watermark, partition.last_stable_offset, partition.log_start_offset),
        (-1, -1, -1)
    );
    let unknown = client.call(&fetch_request("", Uuid([5; 16]), 0, 0), 16).await;
    assert_eq!(unknown.responses[0].partitions[0].error_code, ErrorCode::UnknownTopicId.code());
    let mut fenced = fetch_request("t", Uuid::ZERO, 0, 0);
    fenced.topics[0].partitions[0].current_leader_epoch = 99;
    let response = client.call(&fenced, 11).await;
    assert_eq!(response.responses[0].partitions[0].error_code, ErrorCode::UnknownLeaderEpoch.code());
    broker.shutdown().await;
}

#[tokio::test]
async fn limits_leave_the_first_batch_whole_and_others_out() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("t", 2, &[]).await;
    let large = "x".repeat(3000);
    let size = batch(&[&large]).len();
    for index in [0, 1] {
        client.produce("t", index, batch(&[&large])).await;
        client.produce("t", index, batch(&[&large])).await;
    }
    let request = |max_bytes| FetchRequest {
        max_bytes,
        topics: vec![fetch_topic("t", Uuid::ZERO, &[(0, 0), (1, 0)])],
        ..fetch_request("t", Uuid::ZERO, 0, 0)
    };
    let mut lengths = async |max_bytes| {
        let response = client.call(&request(max_bytes), 11).await;
        let partitions = response.responses.into_iter().flat_map(|topic| topic.partitions);
        partitions.map(|p| p.records.unwrap_or_default().len()).collect::<Vec<_>>()
    };
    assert_eq!(lengths(10).await, [size, 0]);
    assert_eq!(lengths(4000).await, [4000, 0]);
    assert_eq!(lengths(2 * size as i32 + 100).await, [2 * size, 0]);
    assert_eq!(lengths(3 * size as i32).await, [2 * size, size]);
    broker.shutdown().await;
}

#[tokio::test]
async fn a_waiting_fetch_is_woken_by_the_append() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut consumer = Client::connect(&broker).await;
    let mut producer = Client::connect(&broker).await;
    producer.create_topic("t", 1, &[]).await;
    let size = batch(&["a"]).len() as i32;
    let wait = |min_bytes, max_wait_ms, offset| FetchRequest {
        min_bytes,
        max_wait_ms,
        ..fetch_request("t", Uuid::ZERO, 0, offset)
    };
    let started = Instant::now();
    let id = consumer.send(&wait(size + 1, 50_000, 0), 11).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    producer.produce("t", 0, batch(&["a"])).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    producer.produce("t", 0, batch(&["b"])).await;
    let response = consumer.receive::<FetchRequest>(11, id).await;
    assert!(started.elapsed() < Duration::from_secs(40));
    assert_eq!(values(response.responses[0].partitions[0].records.clone()), ["a", "b"]);
    let started = Instant::now();
    let response = consumer.call(&wait(1, 200, 2), 11).await;
    assert!(started.elapsed() >= Duration::from_millis(190));
    assert!(values(response.responses[0].partitions[0].records.clone()).is_empty());
    broker.shutdown().await;
}

#[tokio::test]
async fn a_session_tells_only_news() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(&broker).await;
    let id = client.create_topic("t", 3, &[]).await;
    let ask = |session_id, session_epoch, partitions: &[(i32, i64)]| FetchRequest {
        session_id,
        session_epoch,
        topics: if partitions.is_empty() { vec![] } else { vec![fetch_topic("t", id, partitions)] },
        ..fetch_request("t", id, 0, 0)
    };
    let full = client.call(&ask(0, 0, &[(0, 0), (1, 0), (2, 0)]), 13).await;
    let session = full.session_id;
    assert!(session > 0);
    assert_eq!(indexes(&full), [0, 1, 2]);
    assert!(indexes(&client.call(&ask(session, 1, &[]), 13).await).is_empty());
    client.produce("t", 1, batch(&["a"])).await;
    client.produce("t", 0, batch(&["b"])).await;
    let news = client.call(&ask(session, 2, &[]), 13).await;
    assert_eq!((indexes(&news), news.session_id), (vec![0, 1], session));
    // Offsets that do not move bring the same records again; served partitions have gone to the end.
    assert_eq!(indexes(&client.call(&ask(session, 3, &[(0, 1)]), 13).await), [1]);
    let mut forget = ask(session, 4, &[]);
    forget.forgotten_topics_data =
        vec![ForgottenTopic { topic: "t".into(), topic_id: id, partitions: vec![1] }];
    assert!(indexes(&client.call(&forget, 13).await).is_empty());
    let wrong = client.call(&ask(session, 9, &[]), 13).await;
    assert_eq!(wrong.error_code, ErrorCode::InvalidFetchSessionEpoch.code());
    assert_eq!((wrong.session_id, wrong.responses.len()), (0, 0));
    let named = client.call(&ask(session, 5, &[]), 12).await;
    assert_eq!(named.error_code, ErrorCode::FetchSessionTopicIdError.code());
    let closed = client.call(&ask(session, -1, &[(0, 1)]), 13).await;
    assert_eq!((closed.error_code, closed.session_id), (0, 0));
    let gone = client.call(&ask(session, 5, &[]), 13).await;
    assert_eq!(gone.error_code, ErrorCode::FetchSessionIdNotFound.code());
    broker.shutdown().await;
}

#[tokio::test]
async fn a_topic_made_anew_is_another_topic() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(&broker).await;
    let old = client.create_topic("t", 1, &[]).await;
    client.produce("t", 0, batch(&["old"])).await;
    let mut waiting = Client::connect(&broker).await;
    let wait = FetchRequest { max_wait_ms: 50_000, ..fetch_request("t", old, 0, 1) };
    let id = waiting.send(&wait, 13).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let state = DeleteTopicState { name: Some("t".into()), ..Default::default() };
    let delete = DeleteTopicsRequest { topics: vec![state], timeout_ms: 1000, ..Default::default() };
    assert_eq!(client.call(&delete, 6).await.responses[0].error_code, 0);
    let woken = waiting.receive::<FetchRequest>(13, id).await;
    assert_eq!(woken.responses[0].partitions[0].error_code, ErrorCode::UnknownTopicId.code());
    let new = client.create_topic("t", 1, &[]).await;
    assert_ne!(old, new);
    let stale = client.call(&fetch_request("t", old, 0, 0), 13).await;
    assert_eq!(stale.responses[0].partitions[0].error_code, ErrorCode::UnknownTopicId.code());
    let stale = client.produce_as("t", old, 0, Some(batch(&["x"])), 13, 1).await;
    assert_eq!(stale.error_code, ErrorCode::UnknownTopicId.code());
    assert_eq!(client.produce("t", 0, batch(&["new"])).await.base_offset, 0);
    let fresh = client.call(&fetch_request("t", new, 0, 0), 13).await;
    assert_eq!(values(fresh.responses[0].partitions[0].records.clone()), ["new"]);
    broker.shutdown().await;
}

#[tokio::test]
async fn an_epoch_to_come_is_not_known() {
    use aqueduct_protocol::messages::OffsetForLeaderEpochRequest;
    use aqueduct_protocol::messages::offset_for_leader_epoch_request::{
        OffsetForLeaderPartition, OffsetForLeaderTopic,
    };
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("t", 1, &[]).await;
    client.produce("t", 0, batch(&["a"])).await;
    let mut end_of = async |leader_epoch| {
        let partition = OffsetForLeaderPartition { partition: 0, current_leader_epoch: -1, leader_epoch };
        let topic = OffsetForLeaderTopic { topic: "t".into(), partitions: vec![partition] };
        let request = OffsetForLeaderEpochRequest { replica_id: -1, topics: vec![topic] };
        let found = client.call(&request, 4).await.topics.remove(0).partitions.remove(0);
        (found.leader_epoch, found.end_offset)
    };
    assert_eq!(end_of(0).await, (0, 1));
    assert_eq!(end_of(1).await, (-1, -1));
    let mut request = fetch_request("t", Uuid::ZERO, 0, 1);
    request.topics[0].partitions[0].last_fetched_epoch = 7;
    let response = client.call(&request, 12).await;
    assert_eq!(response.responses[0].partitions[0].error_code, ErrorCode::OffsetOutOfRange.code());
    request.topics[0].partitions[0].last_fetched_epoch = 0;
    request.topics[0].partitions[0].fetch_offset = 5;
    let response = client.call(&request, 12).await;
    let partition = &response.responses[0].partitions[0];
    assert_eq!((partition.error_code, partition.diverging_epoch.end_offset), (0, 1));
    broker.shutdown().await;
}
