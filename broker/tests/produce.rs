//! What a producer meets.
#![allow(clippy::unwrap_used)]

mod common;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::Uuid;
use aqueduct_protocol::messages::{InitProducerIdRequest, ProduceRequest};
use aqueduct_protocol::records::{BatchBuilder, Compression};
use bytes::{Bytes, BytesMut};
use common::*;

#[tokio::test]
async fn every_version_appends_and_answers() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(&broker).await;
    let id = client.create_topic("t", 1, &[]).await;
    for (count, version) in (3..=13).enumerate() {
        for acks in [-1, 1] {
            let response = client.produce_as("t", id, 0, Some(batch(&["a"])), version, acks).await;
            assert_eq!(response.error_code, 0, "version {version}: {:?}", response.error_message);
            let expected = count as i64 * 2 + i64::from(acks == 1);
            assert_eq!((response.base_offset, response.log_append_time_ms), (expected, -1));
        }
    }
    broker.shutdown().await;
}

#[tokio::test]
async fn refused_batches_get_kafkas_codes() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("t", 1, &[("max.message.bytes", "2000")]).await;
    client.create_topic("compacted", 1, &[("cleanup.policy", "compact")]).await;
    let good = batch(&["a"]);
    let two = [&good[..], &good[..]].concat();
    let mut flipped = good.to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    let mut old_magic = good.to_vec();
    old_magic[16] = 1;
    let cases: Vec<(&str, Vec<u8>, ErrorCode)> = vec![
        ("empty", vec![], ErrorCode::InvalidRecord),
        ("two batches", two, ErrorCode::InvalidRecord),
        ("cut", good[..good.len() - 1].to_vec(), ErrorCode::InvalidRecord),
        ("flipped bit", flipped, ErrorCode::CorruptMessage),
        ("old magic", old_magic, ErrorCode::InvalidRecord),
        ("too large", batch(&[&"x".repeat(3000)]).to_vec(), ErrorCode::MessageTooLarge),
    ];
    for (name, records, code) in cases {
        let response = client.produce("t", 0, Bytes::from(records)).await;
        assert_eq!(ErrorCode::from_code(response.error_code), code, "{name}");
        assert_eq!(response.base_offset, -1);
    }
    let code = |response: aqueduct_protocol::messages::produce_response::PartitionProduceResponse| {
        ErrorCode::from_code(response.error_code)
    };
    assert_eq!(code(client.produce("nope", 0, good.clone()).await), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(code(client.produce("t", 7, good.clone()).await), ErrorCode::UnknownTopicOrPartition);
    let by_id = client.produce_as("", Uuid([9; 16]), 0, Some(good.clone()), 13, 1).await;
    assert_eq!(code(by_id), ErrorCode::UnknownTopicId);
    let acks = client.produce_as("t", Uuid::ZERO, 0, Some(good.clone()), 9, 2).await;
    assert_eq!(code(acks), ErrorCode::InvalidRequiredAcks);
    let zstd = build(BatchBuilder::new(Compression::Zstd), &["a"]);
    let old = client.produce_as("t", Uuid::ZERO, 0, Some(zstd.clone()), 6, 1).await;
    assert_eq!(code(old), ErrorCode::UnsupportedCompressionType);
    assert_eq!(code(client.produce("t", 0, zstd).await), ErrorCode::None);
    let mut keyless = BatchBuilder::new(Compression::None);
    keyless.append(now_ms(), None, Some(b"v"), &[]).unwrap();
    let response = client.produce("compacted", 0, keyless.finish().unwrap()).await;
    assert_eq!(response.record_errors.len(), 1);
    assert_eq!(code(response), ErrorCode::InvalidRecord);
    let mut ahead = BatchBuilder::new(Compression::None);
    ahead.append(now_ms() + 7_200_000, Some(b"k"), Some(b"v"), &[]).unwrap();
    assert_eq!(code(client.produce("t", 0, ahead.finish().unwrap()).await), ErrorCode::InvalidTimestamp);
    broker.shutdown().await;
}

#[tokio::test]
async fn an_idempotent_producer_is_neither_repeated_nor_cut_short() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("t", 1, &[]).await;
    let init = InitProducerIdRequest {
        transactional_id: None,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    let first = client.call(&init, 4).await;
    let second = client.call(&init, 4).await;
    assert_eq!((first.error_code, first.producer_epoch), (0, 0));
    assert_ne!(first.producer_id, second.producer_id);
    let id = first.producer_id;
    let mut send = async |sequence, epoch| {
        let response = client.produce("t", 0, idempotent(&["a", "b"], id, epoch, sequence)).await;
        (ErrorCode::from_code(response.error_code), response.base_offset)
    };
    assert_eq!(send(0, 0).await, (ErrorCode::None, 0));
    assert_eq!(send(0, 0).await, (ErrorCode::None, 0));
    assert_eq!(send(2, 0).await, (ErrorCode::None, 2));
    assert_eq!(send(6, 0).await, (ErrorCode::OutOfOrderSequenceNumber, -1));
    assert_eq!(send(0, 1).await, (ErrorCode::None, 4));
    assert_eq!(send(4, 0).await, (ErrorCode::InvalidProducerEpoch, -1));
    broker.shutdown().await;

    // What a producer sent is known after a restart, and ids are not given out twice.
    let broker = start(dir.path()).await;
    let mut client = Client::connect(&broker).await;
    let again = client.produce("t", 0, idempotent(&["a", "b"], id, 1, 0)).await;
    assert_eq!((again.error_code, again.base_offset), (0, 4));
    assert!(client.call(&init, 4).await.producer_id > second.producer_id);
    let transactional = InitProducerIdRequest { transactional_id: Some("x".into()), ..init };
    let code = client.call(&transactional, 4).await.error_code;
    assert_eq!(code, ErrorCode::NotCoordinator.code(), "nobody has asked where its coordinator is");
    broker.shutdown().await;
}

#[tokio::test]
async fn without_acks_there_is_no_answer_and_an_error_closes() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("t", 1, &[]).await;
    client.send(&produce_request("t", Uuid::ZERO, 0, Some(batch(&["a"])), 0), 9).await;
    let next = client.produce("t", 0, batch(&["b"])).await;
    assert_eq!(next.base_offset, 1);
    client.send(&produce_request("nope", Uuid::ZERO, 0, Some(batch(&["a"])), 0), 9).await;
    assert!(client.is_closed().await);
    broker.shutdown().await;
}

#[tokio::test]
async fn log_append_time_and_a_codec_of_the_topic_are_applied() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(&broker).await;
    let configs = [("message.timestamp.type", "LogAppendTime"), ("compression.type", "lz4")];
    client.create_topic("t", 1, &configs).await;
    let before = now_ms();
    let response = client.produce("t", 0, batch(&["a", "b"])).await;
    assert!(response.log_append_time_ms >= before);
    let fetched = client.call(&fetch_request("t", Uuid::ZERO, 0, 0), 12).await;
    let records = fetched.responses[0].partitions[0].records.clone().unwrap();
    let header = aqueduct_protocol::records::BatchHeader::parse(&records).unwrap();
    assert_eq!(header.attributes.compression().unwrap(), Compression::Lz4);
    assert_eq!(header.max_timestamp, response.log_append_time_ms);
    assert_eq!(values(Some(records)), ["a", "b"]);
    broker.shutdown().await;
}

#[tokio::test]
async fn requests_of_one_connection_are_answered_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("t", 1, &[]).await;
    let mut ids = Vec::new();
    for i in 0..100 {
        let request = produce_request("t", Uuid::ZERO, 0, Some(batch(&[&i.to_string()])), 1);
        ids.push(client.send(&request, 9).await);
    }
    for (offset, id) in ids.into_iter().enumerate() {
        let response = client.receive::<ProduceRequest>(9, id).await;
        assert_eq!(response.responses[0].partition_responses[0].base_offset, offset as i64);
    }
    let fetched = client.call(&fetch_request("t", Uuid::ZERO, 0, 0), 11).await;
    let found = values(fetched.responses[0].partitions[0].records.clone());
    assert_eq!(found, (0..100).map(|i| i.to_string()).collect::<Vec<_>>());
    broker.shutdown().await;
}

#[tokio::test]
async fn any_bytes_close_the_connection_and_hurt_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut seed = 0x2545_f491_4f6c_dd1du64;
    for key in 0..80i16 {
        let mut client = Client::connect(&broker).await;
        let mut frame = BytesMut::new();
        frame.extend_from_slice(&key.to_be_bytes());
        frame.extend_from_slice(&(key % 12).to_be_bytes());
        frame.extend_from_slice(&[0, 0, 0, 1, 0xff, 0xff]);
        for _ in 0..40 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            frame.extend_from_slice(&seed.to_be_bytes());
        }
        let mut out = BytesMut::from(&(frame.len() as i32).to_be_bytes()[..]);
        out.extend_from_slice(&frame);
        tokio::io::AsyncWriteExt::write_all(&mut client.stream, &out).await.unwrap();
        tokio::io::AsyncWriteExt::shutdown(&mut client.stream).await.unwrap();
        while client.frame().await.is_some() {}
    }
    let mut client = Client::connect(&broker).await;
    assert_eq!(client.metadata(&[]).await.brokers.len(), 1);
    broker.shutdown().await;
}
