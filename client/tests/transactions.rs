//! Transactions against Apache Kafka: seen as a whole or not at all, and fenced producers write nothing.

mod common;

use std::time::Duration;

use aqueduct_client::{Admin, Client, Error, NewTopic, PartitionConsumer, Producer, ProducerRecord};
use aqueduct_protocol::error_code::ErrorCode;
use bytestring::ByteString;

use common::{client, read_all};

async fn topic(client: &Client, name: &str) {
    Admin::new(client.clone()).ensure_topic(&NewTopic::new(name, 2, 1)).await.expect("created");
}

fn producer(bootstrap: &str, id: &str) -> Producer {
    Producer::new(client(bootstrap, &[("transactional.id", id), ("linger.ms", "1")]))
}

/// Sends one record to each of two partitions.
async fn send(producer: &Producer, topic: &str, value: &str) {
    for partition in 0..2 {
        let record = ProducerRecord::new(topic, value.to_owned()).with_partition(partition);
        drop(producer.send(record).await.expect("buffered"));
    }
}

async fn committed(bootstrap: &str, topic: &str) -> Vec<String> {
    let reader = client(bootstrap, &[("isolation.level", "read_committed")]);
    let mut seen: Vec<(i32, String)> = read_all(&reader, topic)
        .await
        .iter()
        .map(|r| {
            (r.partition.0, String::from_utf8_lossy(r.value.as_deref().unwrap_or_default()).into_owned())
        })
        .collect();
    seen.sort_by_key(|(partition, _)| *partition);
    let (first, second): (Vec<_>, Vec<_>) = seen.into_iter().partition(|(partition, _)| *partition == 0);
    let values = |all: Vec<(i32, String)>| all.into_iter().map(|(_, value)| value).collect::<Vec<_>>();
    let (first, second) = (values(first), values(second));
    assert_eq!(first, second, "both partitions hold the same transactions");
    first
}

#[tokio::test]
async fn what_is_committed_is_seen_and_what_is_aborted_is_not() {
    let kafka = common::kafka();
    let bootstrap = kafka.bootstrap();
    topic(&client(&bootstrap, &[]), "seen").await;
    let producer = producer(&bootstrap, "seen");
    assert!(matches!(producer.begin_transaction(), Err(Error::Invalid(_))), "not initialized");
    producer.init_transactions().await.expect("initialized");
    let mut expected = Vec::new();
    for n in 0..20 {
        producer.begin_transaction().expect("ready");
        send(&producer, "seen", &format!("{n}")).await;
        if n % 3 == 1 {
            producer.abort_transaction().await.expect("aborted");
        } else {
            producer.commit_transaction().await.expect("committed");
            expected.push(n.to_string());
        }
    }
    producer.begin_transaction().expect("ready");
    producer.commit_transaction().await.expect("an empty transaction");
    let outside = producer.send(ProducerRecord::new("seen", "x")).await;
    assert!(matches!(outside, Err(Error::Invalid(_))), "{outside:?}");
    producer.begin_transaction().expect("ready");
    send(&producer, "seen", "open").await;
    producer.close().await;
    assert_eq!(committed(&bootstrap, "seen").await, expected);

    // Where the log goes on with what nobody sees, and nobody writes any more, that holds up no one.
    let mut reader = PartitionConsumer::new(client(&bootstrap, &[("isolation.level", "read_committed")]));
    reader.assign_topic("seen").await.expect("assigned");
    let mut seen = 0;
    reader.read_to_end(|_| seen += 1).await.expect("to the end");
    let again = self::producer(&bootstrap, "again");
    again.init_transactions().await.expect("initialized");
    again.begin_transaction().expect("ready");
    send(&again, "seen", "aborted").await;
    again.flush().await;
    again.abort_transaction().await.expect("aborted");
    let read = tokio::time::timeout(Duration::from_secs(60), reader.read_to_end(|_| seen += 1)).await;
    read.expect("in time").expect("to the end");
    assert_eq!(seen, 2 * expected.len());
}

#[tokio::test]
async fn a_record_that_is_refused_fails_its_transaction_alone() {
    let kafka = common::kafka();
    let bootstrap = kafka.bootstrap();
    let plain = client(&bootstrap, &[]);
    let small = NewTopic::new("refused", 2, 1).config("max.message.bytes", "1000");
    Admin::new(plain.clone()).ensure_topic(&small).await.expect("created");
    let producer = producer(&bootstrap, "refused");
    producer.init_transactions().await.expect("initialized");
    producer.begin_transaction().expect("ready");
    send(&producer, "refused", "lost").await;
    drop(
        producer
            .send(ProducerRecord::new("refused", "x".repeat(5000)).with_partition(0))
            .await
            .expect("buffered"),
    );
    let failed = producer.commit_transaction().await.expect_err("a record is missing");
    assert_eq!(failed.code(), Some(ErrorCode::MessageTooLarge), "{failed}");
    assert!(producer.send(ProducerRecord::new("refused", "x")).await.is_err(), "it has to be aborted");
    producer.abort_transaction().await.expect("aborted");
    for n in 0..3 {
        producer.begin_transaction().expect("ready");
        send(&producer, "refused", &format!("{n}")).await;
        producer.commit_transaction().await.expect("committed");
    }
    assert_eq!(committed(&bootstrap, "refused").await, ["0", "1", "2"]);
}

#[tokio::test]
async fn a_producer_that_is_replaced_or_fenced_writes_nothing_more() {
    let kafka = common::kafka();
    let bootstrap = kafka.bootstrap();
    let plain = client(&bootstrap, &[]);
    topic(&plain, "fenced").await;
    let old = producer(&bootstrap, "fenced");
    old.init_transactions().await.expect("initialized");
    old.begin_transaction().expect("ready");
    send(&old, "fenced", "zombie").await;
    old.flush().await;
    let new = producer(&bootstrap, "fenced");
    new.init_transactions().await.expect("the old one is fenced");
    new.begin_transaction().expect("ready");
    send(&new, "fenced", "new").await;
    new.commit_transaction().await.expect("committed");
    let error = old.commit_transaction().await.expect_err("fenced");
    assert!(error.is_fenced(), "{error}");
    assert!(old.begin_transaction().expect_err("for good").is_fenced());

    let id = ByteString::from("fenced");
    let fenced = Admin::new(plain.clone()).fence_producers(std::slice::from_ref(&id)).await;
    fenced[&id].as_ref().expect("fenced");
    new.begin_transaction().expect("it does not know yet");
    send(&new, "fenced", "zombie").await;
    let error = new.commit_transaction().await.expect_err("fenced");
    assert!(error.is_fenced(), "{error}");
    assert_eq!(committed(&bootstrap, "fenced").await, ["new"]);
}

#[tokio::test]
async fn an_abandoned_producer_sends_nothing_that_was_waiting() {
    let kafka = common::kafka();
    let plain = client(&kafka.bootstrap(), &[("linger.ms", "60000")]);
    topic(&plain, "abandoned").await;
    let producer = Producer::new(plain.clone());
    let waiting = producer.send(ProducerRecord::new("abandoned", "x")).await.expect("buffered");
    producer.abandon();
    assert!(matches!(waiting.await, Err(Error::Closed(_))));
    assert!(matches!(producer.send(ProducerRecord::new("abandoned", "y")).await, Err(Error::Closed(_))));
    assert!(read_all(&plain, "abandoned").await.is_empty());
}
