//! Our own client on our own broker: what worker, registry and mirror will do all day.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::time::{Duration, Instant};

use aqueduct_broker::{Broker, Handle, Options};
use aqueduct_client::{
    Admin, Client, ClientConfig, ConsumerEvent, GroupConsumer, NewTopic, OffsetAndMetadata,
    PartitionConsumer, Producer, ProducerRecord, Subscription, TopicPartition,
};
use aqueduct_protocol::ids::Offset;
use bytestring::ByteString;

const LIMIT: Duration = Duration::from_secs(60);

async fn start(dir: &Path, port: u16) -> Handle {
    Broker::start(Options::embedded(dir, port)).await.expect("a broker")
}

fn client(broker: &Handle, settings: &[(&str, &str)]) -> Client {
    let bootstrap = broker.advertised();
    let all = [("bootstrap.servers", bootstrap.as_str()), ("auto.offset.reset", "earliest")];
    let (config, _) =
        ClientConfig::from_properties(all.iter().chain(settings).copied()).expect("good settings");
    Client::new(config)
}

fn records(topic: &str, numbers: std::ops::Range<u32>) -> Vec<ProducerRecord> {
    numbers
        .map(|n| ProducerRecord::keyed(topic, format!("k{}", n % 17), Some(n.to_string().into())))
        .collect()
}

async fn read_all(client: &Client, topic: &str) -> Vec<u32> {
    let mut consumer = PartitionConsumer::new(client.clone());
    consumer.assign_topic(topic).await.expect("assigned");
    let mut seen = Vec::new();
    let number = |value: &[u8]| std::str::from_utf8(value).expect("text").parse().expect("a number");
    consumer.read_to_end(|r| seen.push(number(&r.value.expect("a value")))).await.expect("read");
    seen.sort_unstable();
    seen
}

#[tokio::test]
async fn records_of_every_codec_come_back_even_over_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let broker = start(dir.path(), 0).await;
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let client = client(&broker, &[("compression.type", codec)]);
        let topic = format!("codec-{codec}");
        Admin::new(client.clone()).ensure_topic(&NewTopic::new(topic.as_str(), 3, 1)).await.expect("created");
        let producer = Producer::new(client.clone());
        let sent = producer.send_all(records(&topic, 0..5000)).await.expect("buffered");
        sent.all().await.expect("acknowledged");
        producer.close().await;
        assert!(read_all(&client, &topic).await.into_iter().eq(0..5000), "{codec}");
        client.close().await;
    }
    // A producer goes on where the broker comes back on the same port.
    let client = client(&broker, &[]);
    let producer = Producer::new(client.clone());
    let first = producer.send_all(records("codec-none", 5000..6000)).await.expect("buffered");
    first.all().await.expect("acknowledged");
    let port = broker.address().port();
    broker.shutdown().await;
    let second = producer.send_all(records("codec-none", 6000..7000)).await.expect("buffered");
    let broker = start(dir.path(), port).await;
    second.all().await.expect("acknowledged after the restart");
    producer.close().await;
    assert!(read_all(&client, "codec-none").await.into_iter().eq(0..7000));
    client.close().await;
    broker.shutdown().await;
}

#[tokio::test]
async fn members_of_a_group_share_and_commit() {
    let dir = tempfile::tempdir().expect("a folder");
    let broker = start(dir.path(), 0).await;
    let writer = client(&broker, &[]);
    Admin::new(writer.clone()).ensure_topic(&NewTopic::new("shared", 4, 1)).await.expect("created");
    let producer = Producer::new(writer.clone());
    producer.send_all(records("shared", 0..1000)).await.expect("buffered").all().await.expect("acknowledged");

    let settings = [("group.id", "g"), ("heartbeat.interval.ms", "200")];
    let member = || {
        let client = client(&broker, &settings);
        GroupConsumer::new(client, Subscription::Topics(["shared".into()].into())).expect("a group id")
    };
    let (mut one, mut two) = (member(), member());
    let mut seen = BTreeSet::new();
    let from = Instant::now();
    // Both at the end of two partitions each.
    let read = |member: &GroupConsumer| -> i64 {
        member.assignment().iter().filter_map(|p| member.position(p)).map(|at| at.0).sum()
    };
    while seen.len() < 1000 || read(&one) + read(&two) != 1000 || one.assignment().len() != 2 {
        assert!(from.elapsed() < LIMIT, "{} seen, {} and {} read", seen.len(), read(&one), read(&two));
        for consumer in [&mut one, &mut two] {
            if let ConsumerEvent::Records(records) =
                consumer.poll(Duration::from_millis(50)).await.expect("healthy")
            {
                seen.extend(records.into_iter().map(|r| (r.partition, r.offset)));
            }
        }
    }
    for consumer in [&mut one, &mut two] {
        let position = |p: TopicPartition| Some((p.clone(), OffsetAndMetadata::from(consumer.position(&p)?)));
        let offsets: HashMap<_, _> = consumer.assignment().into_iter().filter_map(position).collect();
        consumer.commit(offsets).await.expect("committed");
    }
    one.close().await.expect("left");
    two.close().await.expect("left");
    let group: ByteString = "g".into();
    let committed = Admin::new(writer.clone()).list_consumer_group_offsets(&group).await.expect("listed");
    let total: i64 = committed.values().map(|o| o.offset.0).sum();
    assert_eq!(total, 1000, "{committed:?}");
    writer.close().await;
    broker.shutdown().await;
}

#[tokio::test]
async fn topics_are_administered() {
    let dir = tempfile::tempdir().expect("a folder");
    let broker = start(dir.path(), 0).await;
    let client = client(&broker, &[]);
    let admin = Admin::new(client.clone());
    let topic: ByteString = "t".into();
    let new = NewTopic::new(topic.clone(), 2, 1).config("retention.ms", "1000");
    assert!(admin.ensure_topic(&new).await.expect("created"));
    assert!(!admin.ensure_topic(&new).await.expect("there already"));
    let error = admin
        .create_topics(&[new], false)
        .await
        .expect("answered")
        .remove(&topic)
        .expect("one")
        .expect_err("exists");
    assert!(error.to_string().contains('t'), "{error}");
    assert!(admin.list_topics().await.expect("listed").contains(&topic));
    let producer = Producer::new(client.clone());
    producer.send_all(records("t", 0..100)).await.expect("buffered").all().await.expect("acknowledged");
    let all: HashMap<_, _> = (0..2).map(|p| (TopicPartition::new("t", p), Offset(-1))).collect();
    for (partition, start) in admin.delete_records(&all).await.expect("answered") {
        assert!(start.expect("deleted").0 > 0, "{partition:?}");
    }
    assert_eq!(read_all(&client, "t").await, Vec::<u32>::new());
    admin
        .delete_topics(std::slice::from_ref(&topic))
        .await
        .expect("answered")
        .remove(&topic)
        .expect("one")
        .expect("deleted");
    assert!(!admin.list_topics().await.expect("listed").contains(&topic));
    client.close().await;
    broker.shutdown().await;
}
