//! What the tests against a real cluster share.

// Each test binary uses a part of it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use aqueduct_client::{Client, ClientConfig, ConsumerRecord, PartitionConsumer};
use aqueduct_tests::kafka::Kafka;

/// A node of Apache Kafka that all tests of one binary that run at the same time share; it ends with the last of them.
pub fn kafka() -> Arc<Kafka> {
    static SHARED: Mutex<Weak<Kafka>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().expect("no test panics while it starts the node");
    if let Some(running) = shared.upgrade() {
        return running;
    }
    let started = Arc::new(Kafka::start().unwrap_or_else(|error| panic!("{error:#}")));
    *shared = Arc::downgrade(&started);
    started
}

/// A configuration for the cluster at `bootstrap`.
pub fn config(bootstrap: &str, settings: &[(&str, &str)]) -> ClientConfig {
    let all = [("bootstrap.servers", bootstrap), ("auto.offset.reset", "earliest")];
    let merged: BTreeMap<&str, &str> = all.into_iter().chain(settings.iter().copied()).collect();
    let (config, unknown) = ClientConfig::from_properties(merged).expect("valid settings");
    assert_eq!(unknown, Vec::<String>::new());
    config
}

/// A client for the cluster at `bootstrap`.
pub fn client(bootstrap: &str, settings: &[(&str, &str)]) -> Client {
    Client::new(config(bootstrap, settings))
}

/// All records of a topic, in the order of their offsets within each partition.
pub async fn read_all(client: &Client, topic: &str) -> Vec<ConsumerRecord> {
    let mut consumer = PartitionConsumer::new(client.clone());
    consumer.assign_topic(topic).await.expect("the topic exists");
    let mut records = Vec::new();
    let read = consumer.read_to_end(|record| records.push(record));
    tokio::time::timeout(Duration::from_secs(120), read).await.expect("in time").expect("readable");
    records
}
