//! Producing and reading back, against Apache Kafka.

mod common;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use aqueduct_client::{
    Admin, Client, Error, Header, NewTopic, OffsetSpec, PartitionConsumer, Producer, ProducerRecord,
    TopicPartition,
};
use aqueduct_protocol::ids::{Offset, PartitionIndex};
use aqueduct_tests::kafka;
use bytes::Bytes;

use common::{client, config, read_all};

#[tokio::test]
async fn ten_thousand_records_come_back_whatever_the_codec() {
    let kafka = common::kafka();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let client = client(&kafka.bootstrap(), &[("compression.type", codec)]);
        let topic = format!("codec-{codec}");
        Admin::new(client.clone()).ensure_topic(&NewTopic::new(topic.as_str(), 3, 1)).await.expect("created");
        let producer = Producer::new(client.clone());
        let record = |n: u32| {
            let value = format!("value {n} {}", "x".repeat((n % 100) as usize));
            ProducerRecord::keyed(topic.as_str(), format!("key {n}"), Some(value.into()))
                .with_timestamp(1_700_000_000_000 + i64::from(n))
                .with_header(Header { key: "twice".into(), value: Some("a".into()) })
                .with_header(Header { key: "twice".into(), value: None })
        };
        let sent: Vec<ProducerRecord> = (0..10_000).map(record).collect();
        let placed = producer.send_all(sent.clone()).await.expect("buffered").all().await.expect("written");
        let read = read_all(&client, &topic).await;
        assert_eq!(read.len(), sent.len(), "{codec}");
        let by_place: BTreeMap<_, _> = read.iter().map(|r| ((r.partition, r.offset), r)).collect();
        for (sent, at) in sent.iter().zip(placed) {
            let read = by_place[&(at.partition, at.offset)];
            assert_eq!((&read.key, &read.value, &read.headers), (&sent.key, &sent.value, &sent.headers));
            assert_eq!((Some(read.timestamp), at.timestamp), (sent.timestamp, read.timestamp));
        }
        producer.close().await;
    }
}

#[tokio::test]
async fn keys_go_where_java_sends_them() {
    let kafka = common::kafka();
    let client = client(&kafka.bootstrap(), &[]);
    Admin::new(client.clone()).ensure_topic(&NewTopic::new("keys", 7, 1)).await.expect("created");
    let input = tempfile::NamedTempFile::new().expect("a file");
    let lines: Vec<String> = (0..200).map(|n| format!("key-{n}:{n}")).collect();
    std::fs::write(input.path(), lines.join("\n")).expect("written");
    let mut java = kafka::java("256m", "org.apache.kafka.tools.ConsoleProducer").expect("jars");
    java.args(["--bootstrap-server", &kafka.bootstrap(), "--topic", "keys"]);
    java.args(["--property", "parse.key=true", "--property", "key.separator=:"]);
    // By itself it gives a request 1.5 s and tries three times.
    java.args(["--producer-property", "request.timeout.ms=30000", "--producer-property", "retries=1000"]);
    let ran = java.stdin(std::fs::File::open(input.path()).expect("there")).output().expect("java runs");
    assert!(ran.status.success(), "{ran:?}");
    let read = read_all(&client, "keys").await;
    let theirs: BTreeMap<_, _> = read.iter().map(|r| (r.key.clone(), r.partition)).collect();
    assert_eq!(theirs.len(), 200);
    let producer = Producer::new(client);
    let records = theirs.keys().map(|key| ProducerRecord::keyed("keys", key.clone().expect("keyed"), None));
    let ours = producer.send_all(records.collect()).await.expect("buffered").all().await.expect("written");
    let ours: Vec<PartitionIndex> = ours.iter().map(|at| at.partition).collect();
    assert_eq!(ours, theirs.values().copied().collect::<Vec<_>>());
}

#[tokio::test]
async fn whole_batches_are_copied_as_they_are() {
    let kafka = common::kafka();
    let client = client(&kafka.bootstrap(), &[("compression.type", "zstd")]);
    let admin = Admin::new(client.clone());
    for topic in ["raw-from", "raw-to"] {
        admin.ensure_topic(&NewTopic::new(topic, 1, 1)).await.expect("created");
    }
    let producer = Producer::new(client.clone());
    let records = (0..1000).map(|n| ProducerRecord::new("raw-from", format!("{n}")));
    producer.send_all(records.collect()).await.expect("buffered").all().await.expect("written");
    let mut consumer = PartitionConsumer::new(client.clone());
    consumer.assign_topic("raw-from").await.expect("there");
    let mut next = Offset(0);
    while next < Offset(1000) {
        let fetched = consumer.poll_batches(Duration::from_secs(60)).await.expect("readable").expect("data");
        assert_eq!(fetched.fetch_offset, next);
        next = fetched.next_offset;
        let mut at = fetched.batches;
        while !at.is_empty() {
            let size = 12 + i32::from_be_bytes(at[8..12].try_into().expect("four bytes")) as usize;
            let batch = reset_offset(at.split_to(size));
            let delivery =
                producer.produce_raw(TopicPartition::new("raw-to", 0), batch).await.expect("buffered");
            delivery.await.expect("written");
        }
    }
    let values = |records: Vec<aqueduct_client::ConsumerRecord>| -> Vec<_> {
        records.into_iter().map(|r| (r.offset, r.value, r.timestamp)).collect()
    };
    assert_eq!(values(read_all(&client, "raw-to").await), values(read_all(&client, "raw-from").await));
}

/// Brokers want batches that begin at offset 0.
fn reset_offset(batch: Bytes) -> Bytes {
    let mut batch = Vec::from(batch);
    batch[..8].fill(0);
    batch.into()
}

#[tokio::test]
async fn little_memory_slows_down_but_loses_nothing() {
    let kafka = common::kafka();
    let settings = [("buffer.memory", "65536"), ("batch.size", "4096"), ("linger.ms", "1000")];
    let client = client(&kafka.bootstrap(), &settings);
    let producer = Producer::new(client.clone());
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..4 {
        let producer = producer.clone();
        tasks.spawn(async move {
            for n in 0..250 {
                let value = format!("{task}/{n}/{}", "x".repeat(1000));
                let _flushed_below =
                    producer.send(ProducerRecord::new("memory", value)).await.expect("buffered");
            }
        });
    }
    tasks.join_all().await;
    producer.flush().await;
    let values: HashSet<_> =
        read_all(&client, "memory").await.into_iter().map(|record| record.value).collect();
    assert_eq!(values.len(), 1000);
}

#[tokio::test]
async fn offsets_are_found_by_time_and_reset_when_out_of_range() {
    let kafka = common::kafka();
    let client = client(&kafka.bootstrap(), &[]);
    let producer = Producer::new(client.clone());
    for n in 0..10 {
        let record =
            ProducerRecord::new("times", format!("{n}")).with_timestamp(1_700_000_000_000 + n * 1000);
        producer.send(record).await.expect("buffered").await.expect("written");
    }
    let partition = TopicPartition::new("times", 0);
    let mut consumer = PartitionConsumer::new(client);
    consumer.assign([partition.clone()]).expect("assigned");
    let at = OffsetSpec::Timestamp(1_700_000_003_500);
    consumer.seek_to(&partition, at).expect("assigned");
    let records = consumer.poll(Duration::from_secs(60)).await.expect("readable");
    assert_eq!(records[0].offset, Offset(4));
    consumer.seek(&partition, Offset(1_000_000)).expect("assigned");
    let records = consumer.poll(Duration::from_secs(60)).await.expect("readable");
    assert_eq!(records[0].offset, Offset(0), "auto.offset.reset=earliest");
    consumer.pause(std::slice::from_ref(&partition));
    consumer.seek(&partition, Offset(5)).expect("assigned");
    assert!(consumer.poll(Duration::from_millis(300)).await.expect("nothing wrong").is_empty());
    consumer.resume(std::slice::from_ref(&partition));
    assert_eq!(consumer.poll(Duration::from_secs(60)).await.expect("readable").len(), 5);
    assert_eq!(consumer.position(&partition), Some(Offset(10)));
}

#[tokio::test]
async fn records_that_are_too_large_say_what_to_change() {
    let kafka = common::kafka();
    let client = client(&kafka.bootstrap(), &[]);
    let producer = Producer::new(client.clone());
    let huge = || ProducerRecord::new("huge", vec![0; 2 << 20]);
    let error = producer.send(huge()).await.expect_err("refused").to_string();
    assert!(
        error.starts_with("record of 2097179 bytes for topic huge is larger than max.request.size=1048576"),
        "{error}"
    );
    assert!(error.contains("raise it"), "{error}");
    let producer = Producer::new(Client::new(config(&kafka.bootstrap(), &[("max.request.size", "4194304")])));
    let error = producer.send(huge()).await.expect("buffered").await.expect_err("refused").to_string();
    assert!(error.contains("Produce of huge-0: MESSAGE_TOO_LARGE"), "{error}");
    assert!(error.contains("raise the topic's max.message.bytes or lower batch.size"), "{error}");
    // The partition is as good as before.
    producer.send(ProducerRecord::new("huge", "x")).await.expect("buffered").await.expect("written");
}

#[tokio::test]
async fn nobody_there_says_where() {
    let port = aqueduct_tests::process::free_port().expect("a port");
    let address = format!("127.0.0.1:{port}");
    let client = client(&address, &[("default.api.timeout.ms", "3000"), ("max.block.ms", "3000")]);
    let error = Admin::new(client.clone()).list_topics().await.expect_err("nobody").to_string();
    let refused = format!(
        "no broker answers at bootstrap.servers={address}: {address}: cannot connect: Connection refused"
    );
    assert!(error.contains(&refused), "{error}");
    assert!(error.contains("check that a broker listens there"), "{error}");
    let producer = Producer::new(client);
    let error = producer.send(ProducerRecord::new("t", "x")).await.expect_err("nobody");
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    assert!(error.to_string().starts_with("metadata of topic t: not done within 3s: "), "{error}");
}

#[tokio::test]
async fn acks_of_one_and_none_work_too() {
    let kafka = common::kafka();
    for acks in ["0", "1"] {
        let client = client(&kafka.bootstrap(), &[("acks", acks)]);
        let topic = format!("acks-{acks}");
        let producer = Producer::new(client.clone());
        let records = (0..1000).map(|n| ProducerRecord::new(topic.as_str(), format!("{n}")));
        let placed = producer.send_all(records.collect()).await.expect("buffered").all().await.expect("sent");
        assert_eq!(placed[0].offset, Offset(if acks == "0" { -1 } else { 0 }));
        producer.close().await;
        let mut tries = 0;
        while read_all(&client, &topic).await.len() < 1000 && tries < 600 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            tries += 1;
        }
        assert_eq!(read_all(&client, &topic).await.len(), 1000);
        let closed = producer.send(ProducerRecord::new(topic.as_str(), "x")).await.expect_err("closed");
        assert_eq!(closed.to_string(), "producer is closed");
    }
}
