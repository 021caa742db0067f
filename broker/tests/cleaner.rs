//! Compaction in a running broker.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use aqueduct_broker::Handle;
use aqueduct_protocol::ids::Uuid;
use aqueduct_protocol::messages::DeleteTopicsRequest;
use aqueduct_protocol::records::{BatchBuilder, Batches, Compression};
use common::*;

const SETTINGS: &[(&str, &str)] =
    &[("log.cleaner.backoff.ms", "50"), ("log.cleaner.min.cleanable.ratio", "0.1")];
const CONFIGS: &[(&str, &str)] =
    &[("cleanup.policy", "compact"), ("segment.bytes", "1048576"), ("file.delete.delay.ms", "0")];

/// Batches of 100 records each, with twenty keys in all; returns the newest value of each.
async fn fill(client: &mut Client, topic: &str, batches: usize) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut newest = BTreeMap::new();
    for n in 0..batches {
        let mut builder = BatchBuilder::new(if n % 2 == 0 { Compression::None } else { Compression::Lz4 });
        for i in 0..100 {
            let (key, mut value) = (format!("key-{}", (n + i) % 20), format!("{n}-{i}-").into_bytes());
            value.extend((0..400usize).map(|at| (at * 31 + n * 7 + i * at) as u8));
            builder.append(now_ms(), Some(key.as_bytes()), Some(&value), &[]).unwrap();
            newest.insert(key.into_bytes(), value);
        }
        assert_eq!(client.produce(topic, 0, builder.finish().unwrap()).await.error_code, 0);
    }
    newest
}

/// Every record from the beginning: the newest values by key, and how many records there are.
async fn read(client: &mut Client, topic: &str) -> (BTreeMap<Vec<u8>, Vec<u8>>, usize) {
    let (mut newest, mut count, mut next) = (BTreeMap::new(), 0, 0);
    loop {
        let request = fetch_request(topic, Uuid::ZERO, 0, next);
        let mut response = client.call(&request, 12).await;
        let partition = response.responses.remove(0).partitions.remove(0);
        assert_eq!(partition.error_code, 0);
        let before = next;
        for batch in Batches::new(partition.records.unwrap_or_default()) {
            let batch = batch.unwrap();
            batch.check_crc().unwrap();
            next = batch.header.next_offset().0;
            for record in batch.records().unwrap().map(Result::unwrap) {
                newest.insert(record.key.unwrap().to_vec(), record.value.unwrap().to_vec());
                count += 1;
            }
        }
        if next >= partition.high_watermark || next == before {
            return (newest, count);
        }
    }
}

fn log_bytes(dir: &Path, partition: &str) -> u64 {
    let path = dir.join(partition);
    let files = std::fs::read_dir(path).unwrap().flatten();
    files
        .filter(|f| f.path().extension().is_some_and(|e| e == "log"))
        .map(|f| f.metadata().unwrap().len())
        .sum()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let from = Instant::now();
    while !holds() {
        assert!(from.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn metric(broker: &Handle, name: &str) -> i64 {
    let text = broker.metrics();
    let values =
        text.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.rsplit(' ').next());
    values.map(|value| value.parse::<i64>().unwrap()).sum()
}

#[tokio::test]
async fn a_compacted_topic_stays_short_and_keeps_the_newest_of_each_key() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start_with(dir.path(), SETTINGS).await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("compacted", 1, CONFIGS).await;
    let newest = fill(&mut client, "compacted", 200).await;
    until("the log is cleaned", || log_bytes(dir.path(), "compacted-0") < 2 << 20).await;
    let (found, count) = read(&mut client, "compacted").await;
    assert!(found == newest, "of {} keys {} are found", newest.len(), found.len());
    assert!(count < 10_000, "{count}");
    assert_eq!(metric(&broker, "kafka_log_logcleanermanager_uncleanable_partitions_count"), 0);
    assert!(metric(&broker, "kafka_log_logcleaner_cleaner_recopy_percent") < 60);
    until("where it ended is written down", || {
        let path = dir.path().join("cleaner-offset-checkpoint");
        std::fs::read_to_string(path).is_ok_and(|text| text.contains("compacted 0 "))
    })
    .await;
    broker.shutdown().await;

    let broker = start_with(dir.path(), SETTINGS).await;
    let mut client = Client::connect(&broker).await;
    // It may have been cleaned once more since.
    let (again, left) = read(&mut client, "compacted").await;
    assert!(again == found && left <= count, "{left} records of {count}");
    let newest = fill(&mut client, "compacted", 100).await;
    until("it is cleaned again", || log_bytes(dir.path(), "compacted-0") < 2 << 20).await;
    assert!(read(&mut client, "compacted").await.0 == newest, "another record of a key than the newest");
    broker.shutdown().await;
}

#[tokio::test]
async fn a_damaged_log_is_left_alone_and_counted_and_others_are_cleaned() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start_with(dir.path(), &[("log.cleaner.enable", "false")]).await;
    let mut client = Client::connect(&broker).await;
    for topic in ["damaged", "sound"] {
        client.create_topic(topic, 1, CONFIGS).await;
        fill(&mut client, topic, 100).await;
    }
    broker.shutdown().await;
    let first = dir.path().join("damaged-0/00000000000000000000.log");
    let mut bytes = std::fs::read(&first).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&first, &bytes).unwrap();
    let before = log_bytes(dir.path(), "damaged-0");

    let broker = start_with(dir.path(), SETTINGS).await;
    until("the other log is cleaned", || log_bytes(dir.path(), "sound-0") < 2 << 20).await;
    let name = "kafka_log_logcleanermanager_uncleanable_partitions_count";
    until("the damaged one is counted", || metric(&broker, name) == 1).await;
    assert!(metric(&broker, "kafka_log_logcleanermanager_uncleanable_bytes") > 1 << 20);
    assert_eq!(log_bytes(dir.path(), "damaged-0"), before);
    broker.shutdown().await;
}

#[tokio::test]
async fn a_topic_that_is_deleted_while_it_is_cleaned_may_be_made_again() {
    let dir = tempfile::tempdir().unwrap();
    // Slow enough to be met in the middle.
    let slow = [SETTINGS, &[("log.cleaner.io.max.bytes.per.second", "300000")]].concat();
    let broker = start_with(dir.path(), &slow).await;
    let mut client = Client::connect(&broker).await;
    for _ in 0..2 {
        client.create_topic("again", 1, CONFIGS).await;
        let newest = fill(&mut client, "again", 100).await;
        until("a cleaning goes on", || {
            let files = std::fs::read_dir(dir.path().join("again-0")).unwrap().flatten();
            files.into_iter().any(|file| file.path().extension().is_some_and(|kind| kind == "cleaned"))
        })
        .await;
        assert_eq!(read(&mut client, "again").await.0, newest);
        let request =
            DeleteTopicsRequest { topic_names: vec!["again".into()], timeout_ms: 1000, ..Default::default() };
        assert_eq!(client.call(&request, 5).await.responses[0].error_code, 0);
    }
    client.create_topic("again", 1, CONFIGS).await;
    assert_eq!(read(&mut client, "again").await.1, 0);
    let from = Instant::now();
    broker.shutdown().await;
    assert!(from.elapsed() < Duration::from_secs(10));
}
