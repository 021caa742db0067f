//! Workers and brokers that die without warning: no record is lost.

mod plugins;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use aqueduct_connect_worker::{Handle, Mode, NewConnector, Worker, WorkerConfig};
use aqueduct_tests::kafka::Kafka;
use tokio::runtime::Runtime;

const COUNT: usize = 600;

fn config(bootstrap: &str) -> Result<WorkerConfig> {
    let settings = [
        ("bootstrap.servers", bootstrap),
        ("group.id", "faults"),
        ("config.storage.topic", "f-configs"),
        ("offset.storage.topic", "f-offsets"),
        ("status.storage.topic", "f-status"),
        ("config.storage.replication.factor", "1"),
        ("offset.storage.replication.factor", "1"),
        ("status.storage.replication.factor", "1"),
        ("key.converter", "org.apache.kafka.connect.storage.StringConverter"),
        ("value.converter", "org.apache.kafka.connect.storage.StringConverter"),
        ("offset.flush.interval.ms", "300"),
        ("session.timeout.ms", "6000"),
        ("heartbeat.interval.ms", "1000"),
        ("consumer.session.timeout.ms", "6000"),
        ("consumer.heartbeat.interval.ms", "1000"),
    ];
    let settings = settings.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    Ok(WorkerConfig::from_properties(&settings, Mode::Distributed)?)
}

/// A worker in a runtime of its own, so that it can vanish between two instructions.
fn start(bootstrap: &str) -> Result<(Runtime, Handle)> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let handle = runtime.block_on(Worker::start(config(bootstrap)?, ("127.0.0.1", 8083)))?;
    Ok((runtime, handle))
}

fn create(runtime: &Runtime, handle: &Handle, name: &str, config: &[(&str, &str)]) -> Result<()> {
    let config = config.iter().map(|(k, v)| ((*k).to_owned(), Some((*v).to_owned()))).collect();
    let new = NewConnector { name: name.to_owned(), config, initial_state: None };
    runtime.block_on(handle.herder().create(new))?;
    Ok(())
}

fn numbers(path: &Path) -> BTreeSet<usize> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn wait_for(path: &Path, count: usize) -> Result<()> {
    let from = Instant::now();
    while numbers(path).len() < count {
        if from.elapsed() > Duration::from_secs(120) {
            let found = numbers(path);
            let missing: Vec<usize> = (0..count).filter(|n| !found.contains(n)).take(10).collect();
            bail!("{} of {count} numbers arrived; the first missing ones are {missing:?}", found.len());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

#[test]
fn every_record_arrives_though_workers_and_brokers_die() -> Result<()> {
    let (mut kafka, dir) = (Kafka::start()?, tempfile::tempdir()?);
    let bootstrap = kafka.bootstrap();
    let out = dir.path().join("out");
    let (mut runtime, mut handle) = start(&bootstrap)?;
    let count = COUNT.to_string();
    let source =
        [("connector.class", "test.Numbers"), ("topic", "faults"), ("count", &count), ("pace.ms", "10")];
    create(&runtime, &handle, "source", &source)?;
    let file = out.to_string_lossy().into_owned();
    create(
        &runtime,
        &handle,
        "sink",
        &[("connector.class", "test.Picky"), ("topics", "faults"), ("file", &file)],
    )?;

    wait_for(&out, COUNT / 6)?;
    std::mem::forget(handle);
    runtime.shutdown_background();
    (runtime, handle) = start(&bootstrap)?;
    wait_for(&out, COUNT * 2 / 6)?;
    kafka.kill();
    std::thread::sleep(Duration::from_secs(1));
    kafka.restart()?;
    wait_for(&out, COUNT * 4 / 6)?;
    kafka.kill();
    std::mem::forget(handle);
    runtime.shutdown_background();
    kafka.restart()?;
    (runtime, handle) = start(&bootstrap)?;
    wait_for(&out, COUNT)?;
    runtime.block_on(handle.shutdown());
    assert_eq!(numbers(&out), (0..COUNT).collect());
    Ok(())
}
