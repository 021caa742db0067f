//! Brokers that die while they are written to.

mod common;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aqueduct_client::{Admin, NewTopic, Producer, ProducerRecord};
use aqueduct_tests::kafka::Kafka;

use common::{client, read_all};

/// Kills the broker with -9 twice while four tasks produce: every acknowledged record is there, where it was said to be,
/// nothing is there twice, and each task's records are in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_or_doubled_when_the_broker_is_killed() {
    let mut kafka = Kafka::start().unwrap_or_else(|error| panic!("{error:#}"));
    // However long the broker takes to come back.
    let settings = [
        ("linger.ms", "1"),
        ("batch.size", "4096"),
        ("delivery.timeout.ms", "600000"),
        ("max.block.ms", "600000"),
    ];
    let client = client(&kafka.bootstrap(), &settings);
    Admin::new(client.clone()).ensure_topic(&NewTopic::new("killed", 3, 1)).await.expect("created");
    let producer = Producer::new(client.clone());
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..4 {
        let (producer, stop) = (producer.clone(), stop.clone());
        tasks.spawn(async move {
            let mut sent = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let value = format!("{task}/{}", sent.len());
                let record = ProducerRecord::new("killed", value.clone()).with_partition(task % 3);
                sent.push((value, producer.send(record).await.expect("buffered")));
                if sent.len() % 20 == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            sent
        });
    }
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        kafka.kill();
        tokio::time::sleep(Duration::from_millis(300)).await;
        kafka = tokio::task::spawn_blocking(move || kafka.restart().map(|()| kafka))
            .await
            .expect("no panic")
            .unwrap_or_else(|error| panic!("{error:#}"));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    stop.store(true, Ordering::Relaxed);
    let sent: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    let total = sent.len();
    let mut acknowledged = HashMap::new();
    for (value, delivery) in sent {
        let at = delivery.await.expect("delivered within delivery.timeout.ms");
        acknowledged.insert(value, (at.partition, at.offset));
    }
    assert_eq!(acknowledged.len(), total);
    let read = read_all(&client, "killed").await;
    assert_eq!(read.len(), total, "each record once");
    let mut last: BTreeMap<String, i64> = BTreeMap::new();
    for record in read {
        let value = String::from_utf8(record.value.expect("a value").to_vec()).expect("text");
        assert_eq!(acknowledged.remove(&value), Some((record.partition, record.offset)), "{value}");
        let (task, n) = value.split_once('/').expect("task/n");
        let n: i64 = n.parse().expect("a number");
        let before = last.insert(task.to_owned(), n).unwrap_or(-1);
        assert_eq!(n, before + 1, "task {task} in order");
    }
    producer.close().await;
}
