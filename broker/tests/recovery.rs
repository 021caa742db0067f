//! What a node finds when it starts after a crash. A copy of the directory of a running node is what a crash leaves.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::Write;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::Uuid;
use aqueduct_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use aqueduct_protocol::messages::{DeleteRecordsRequest, DeleteTopicsRequest};
use common::*;

async fn read_all(client: &mut Client, topic: &str) -> Vec<String> {
    let response = client.call(&fetch_request(topic, Uuid::ZERO, 0, 0), 12).await;
    let partition = &response.responses[0].partitions[0];
    assert_eq!(partition.error_code, 0);
    values(partition.records.clone())
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_crash() {
    let (dir, crashed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let broker = start(dir.path()).await;
    let mut client = Client::connect(&broker).await;
    let id = client.create_topic("t", 1, &[("retention.ms", "-1")]).await;
    for i in 0..20 {
        let response = client.produce("t", 0, idempotent(&[&i.to_string()], 7, 0, i)).await;
        assert_eq!(response.error_code, 0);
    }
    copy(dir.path(), crashed.path());
    broker.shutdown().await;

    let broker = start(crashed.path()).await;
    let mut client = Client::connect(&broker).await;
    assert_eq!(client.metadata(&["t"]).await.topics[0].topic_id, id);
    assert_eq!(read_all(&mut client, "t").await.len(), 20);
    // The producer's state is rebuilt from the log: a repetition is known, the next one goes on.
    let again = client.produce("t", 0, idempotent(&["19"], 7, 0, 19)).await;
    assert_eq!((again.error_code, again.base_offset), (0, 19));
    let gap = client.produce("t", 0, idempotent(&["x"], 7, 0, 25)).await;
    assert_eq!(gap.error_code, ErrorCode::OutOfOrderSequenceNumber.code());
    let next = client.produce("t", 0, idempotent(&["20"], 7, 0, 20)).await;
    assert_eq!((next.error_code, next.base_offset), (0, 20));
    broker.shutdown().await;
    assert!(crashed.path().join(".kafka_cleanshutdown").exists());
}

#[tokio::test]
async fn a_torn_tail_is_cut_off_and_a_flipped_bit_ends_the_log() {
    let (dir, crashed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let broker = start(dir.path()).await;
    let mut client = Client::connect(&broker).await;
    for topic in ["torn", "flipped"] {
        client.create_topic(topic, 1, &[]).await;
        for value in ["a", "b", "c"] {
            client.produce(topic, 0, batch(&[value])).await;
        }
    }
    copy(dir.path(), crashed.path());
    broker.shutdown().await;

    let log = |topic: &str| crashed.path().join(format!("{topic}-0/00000000000000000000.log"));
    let torn = batch(&["d"]);
    let mut file = fs::OpenOptions::new().append(true).open(log("torn")).unwrap();
    file.write_all(&torn[..torn.len() / 2]).unwrap();
    let mut bytes = fs::read(log("flipped")).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(log("flipped"), bytes).unwrap();

    let broker = start(crashed.path()).await;
    let mut client = Client::connect(&broker).await;
    assert_eq!(read_all(&mut client, "torn").await, ["a", "b", "c"]);
    assert_eq!(read_all(&mut client, "flipped").await, ["a", "b"]);
    for (topic, offset) in [("torn", 3), ("flipped", 2)] {
        assert_eq!(client.produce(topic, 0, batch(&["e"])).await.base_offset, offset);
    }
    broker.shutdown().await;
}

#[tokio::test]
async fn a_deletion_that_a_crash_cut_short_does_not_come_back() {
    let (dir, crashed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let broker = start(dir.path()).await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("t", 1, &[]).await;
    client.produce("t", 0, batch(&["old"])).await;
    copy(dir.path(), crashed.path());
    let state = aqueduct_protocol::messages::delete_topics_request::DeleteTopicState {
        name: Some("t".into()),
        ..Default::default()
    };
    let delete =
        aqueduct_protocol::messages::DeleteTopicsRequest { topics: vec![state], ..Default::default() };
    assert_eq!(client.call(&delete, 6).await.responses[0].error_code, 0);
    broker.shutdown().await;
    // The metadata knows of the deletion, the directory is still there.
    let journal = "aqueduct-metadata.journal";
    fs::copy(dir.path().join(journal), crashed.path().join(journal)).unwrap();

    let broker = start(crashed.path()).await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("t", 1, &[]).await;
    assert_eq!(client.produce("t", 0, batch(&["new"])).await.base_offset, 0);
    assert_eq!(read_all(&mut client, "t").await, ["new"]);
    broker.shutdown().await;
    let names =
        fs::read_dir(crashed.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.ends_with("-stray")).count(), 1);
}

#[tokio::test]
async fn logs_without_their_metadata_are_refused_and_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("t", 1, &[]).await;
    client.produce("t", 0, batch(&["a"])).await;
    broker.shutdown().await;
    let journal = dir.path().join("aqueduct-metadata.journal");
    let kept = fs::read(&journal).unwrap();
    fs::remove_file(&journal).unwrap();
    let options = aqueduct_broker::Options::embedded(dir.path(), 0);
    let error = aqueduct_broker::Broker::start(options).await.err().unwrap().to_string();
    assert!(error.contains("t-0") && error.contains("metadata.log.dir"), "{error}");
    assert!(dir.path().join(".kafka_cleanshutdown").exists());

    fs::write(&journal, kept).unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(&broker).await;
    assert_eq!(read_all(&mut client, "t").await, ["a"]);
    broker.shutdown().await;
}

#[tokio::test]
async fn a_topic_made_anew_does_not_begin_where_the_deleted_one_of_its_name_did() {
    let (dir, crashed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let broker = start(dir.path()).await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("t", 1, &[]).await;
    assert_eq!(client.produce("t", 0, batch(&["a", "b", "c", "d"])).await.error_code, 0);
    let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset: 4 }];
    let topics = vec![DeleteRecordsTopic { name: "t".into(), partitions }];
    let deleted = client.call(&DeleteRecordsRequest { topics, timeout_ms: 30_000 }, 2).await;
    assert_eq!(deleted.topics[0].partitions[0].low_watermark, 4);
    let names = vec!["t".into()];
    let request = DeleteTopicsRequest { topic_names: names, timeout_ms: 30_000, ..Default::default() };
    assert_eq!(client.call(&request, 5).await.responses[0].error_code, 0);
    client.create_topic("t", 1, &[]).await;
    assert_eq!(client.produce("t", 0, batch(&["new", "newer"])).await.error_code, 0);
    copy(dir.path(), crashed.path());
    broker.shutdown().await;

    let broker = start(crashed.path()).await;
    let mut client = Client::connect(&broker).await;
    assert_eq!(read_all(&mut client, "t").await, ["new", "newer"]);
    broker.shutdown().await;
}
