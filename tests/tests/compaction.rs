//! Our broker is killed again and again while it compacts a topic that is being written to: of each key the newest
//! acknowledged record is there afterwards, and none twice.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aqueduct_client::{Admin, Client, ClientConfig, NewTopic, PartitionConsumer, Producer, ProducerRecord};
use aqueduct_tests::server::{Kind, Server};

const TOPIC: &str = "compacted";
const KEYS: u64 = 40;
const KILLS: u64 = 5;

const SETTINGS: &[(&str, &str)] = &[
    ("log.cleaner.backoff.ms", "1"),
    ("log.cleaner.min.cleanable.ratio", "0.01"),
    ("log.segment.delete.delay.ms", "0"),
    // Slow enough to be killed in the midst of it.
    ("log.cleaner.io.max.bytes.per.second", "8000000"),
    ("log.cleaner.io.buffer.size", "65536"),
];

fn client(server: &Server) -> Result<Client> {
    let bootstrap = server.bootstrap();
    let settings = [
        ("bootstrap.servers", bootstrap.as_str()),
        ("compression.type", "none"),
        ("batch.size", "16384"),
        ("auto.offset.reset", "earliest"),
    ];
    Ok(Client::new(ClientConfig::from_properties(settings)?.0))
}

fn record(n: u64) -> ProducerRecord {
    // The key is not the same sequence in each round, so that batches keep some of their records.
    let key = format!("key-{}", (n * n + n / 7) % KEYS);
    ProducerRecord::keyed(TOPIC, key, Some(format!("{n:0>600}").into()))
}

/// Writes until told to stop; returns the newest number of each key that was acknowledged, and the last number of all.
async fn write(client: Client, stop: Arc<AtomicBool>) -> Result<(BTreeMap<String, u64>, u64)> {
    let producer = Producer::new(client);
    let (mut newest, mut n) = (BTreeMap::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        let numbers: Vec<u64> = (n..n + 200).collect();
        n += 200;
        let sent = producer.send_all(numbers.iter().map(|n| record(*n)).collect()).await?;
        sent.all().await?;
        for n in numbers {
            newest.insert(format!("key-{}", (n * n + n / 7) % KEYS), n);
        }
        // At half of what the cleaner is allowed, so that it gets to the end in time, however long the kills took.
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    producer.close().await;
    Ok((newest, n))
}

fn has_file(dir: &Path, kinds: &[&str]) -> bool {
    let names = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.into_iter().any(|name| kinds.iter().any(|kind| name.to_string_lossy().ends_with(kind)))
}

fn log_bytes(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let logs = files.filter(|file| file.path().extension().is_some_and(|kind| kind == "log"));
    logs.filter_map(|log| log.metadata().ok()).map(|log| log.len()).sum()
}

fn await_that(what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
    let from = Instant::now();
    while !holds() {
        ensure!(from.elapsed() < Duration::from_secs(180), "{what} does not come about");
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

#[test]
fn a_kill_in_the_midst_of_compaction_loses_nothing() -> Result<()> {
    let mut server = Server::start_with(Kind::Aqueduct, SETTINGS)?;
    let dir = server.data().join(format!("{TOPIC}-0"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let _inside = runtime.enter();
    let client = client(&server)?;
    let topic =
        NewTopic::new(TOPIC, 1, 1).config("cleanup.policy", "compact").config("segment.bytes", "1048576");
    runtime.block_on(Admin::new(client.clone()).ensure_topic(&topic))?;
    let stop = Arc::new(AtomicBool::new(false));
    let writing = runtime.spawn(write(client.clone(), stop.clone()));
    let mut interrupted = 0;
    for kill in 0..KILLS {
        await_that("a cleaning", || has_file(&dir, &[".cleaned", ".swap"]))?;
        std::thread::sleep(Duration::from_millis(kill * 230 % 700));
        server.kill();
        interrupted += u64::from(has_file(&dir, &[".cleaned", ".swap"]));
        server.restart()?;
        await_that("the start", || !has_file(&dir, &[".swap"]))?;
    }
    ensure!(interrupted > 0, "no kill met a cleaning");
    stop.store(true, Ordering::Relaxed);
    let (newest, sent) = runtime.block_on(writing).context("the writer ends")??;

    // In peace it comes to its end.
    await_that("a short log", || log_bytes(&dir) < sent * 300)?;
    let mut read: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut count = 0;
    runtime.block_on(async {
        let mut consumer = PartitionConsumer::new(client.clone());
        consumer.assign_topic(TOPIC).await?;
        consumer
            .read_to_end(|record| {
                let text = |bytes: Option<bytes::Bytes>| {
                    String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
                };
                let number = text(record.value).trim_start_matches('0').parse().unwrap_or(0);
                read.entry(text(record.key)).or_default().push(number);
                count += 1;
            })
            .await?;
        anyhow::Ok(())
    })?;
    for (key, last) in &newest {
        let found = read.get(key).with_context(|| format!("{key} is gone"))?;
        assert_eq!(found.last(), Some(last), "{key}");
        assert!(found.is_sorted_by(|a, b| a < b), "{key}: {found:?}");
    }
    assert!(count < sent / 2, "{count} of {sent} records are left");
    let log = server.log_tail();
    assert!(!log.contains("cannot be cleaned"), "{log}");
    server.stop()
}
