//! Exactly-once sources on a real cluster: boundaries, offsets of their own, fencing, and tasks that do not stop.

mod plugins;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use aqueduct_client::{Client, ClientConfig, ConsumerRecord, PartitionConsumer};
use aqueduct_connect_api::ConfigMap;
use aqueduct_connect_worker::{Handle, Herder, Mode, NewConnector, TargetState, Worker, WorkerConfig};
use aqueduct_tests::kafka::Kafka;
use serde_json::json;

async fn worker(bootstrap: &str) -> Result<Handle> {
    let settings: ConfigMap = [
        ("bootstrap.servers", bootstrap),
        ("group.id", "eos"),
        ("config.storage.topic", "e-configs"),
        ("offset.storage.topic", "e-offsets"),
        ("status.storage.topic", "e-status"),
        ("config.storage.replication.factor", "1"),
        ("offset.storage.replication.factor", "1"),
        ("status.storage.replication.factor", "1"),
        ("offset.storage.partitions", "1"),
        ("status.storage.partitions", "1"),
        ("key.converter", "org.apache.kafka.connect.storage.StringConverter"),
        ("value.converter", "org.apache.kafka.connect.storage.StringConverter"),
        ("exactly.once.source.support", "enabled"),
        // A commit at the end has its time; a task that hangs is given up after it.
        ("task.shutdown.graceful.timeout.ms", "10000"),
        ("aqueduct.task.restart.enabled", "false"),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .collect();
    let config = WorkerConfig::from_properties(&settings, Mode::Distributed)?;
    Ok(Worker::start(config, ("127.0.0.1", 8083)).await?)
}

fn config(settings: &[(&str, &str)]) -> std::collections::BTreeMap<String, Option<String>> {
    settings.iter().map(|(k, v)| ((*k).to_owned(), Some((*v).to_owned()))).collect()
}

async fn create(herder: &Herder, name: &str, settings: &[(&str, &str)]) -> Result<()> {
    let all =
        [&[("connector.class", "test.Numbers"), ("topic", name), ("count", "12")][..], settings].concat();
    let new = NewConnector { name: name.to_owned(), config: config(&all), initial_state: None };
    herder.create(new).await?;
    Ok(())
}

async fn wait_state(herder: &Herder, name: &str, wanted: &str) -> Result<String> {
    for _ in 0..1200 {
        if let Ok(state) = herder.status(name)
            && state.tasks.first().is_some_and(|task| task.state.state == wanted)
        {
            return Ok(state.tasks[0].state.trace.clone().unwrap_or_default());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("{name} is {:?}", herder.status(name))
}

/// All records of a topic, as far as they are committed.
async fn read(bootstrap: &str, topic: &str, isolation: &str) -> Result<Vec<ConsumerRecord>> {
    let (config, _) = ClientConfig::from_properties([
        ("bootstrap.servers", bootstrap),
        ("auto.offset.reset", "earliest"),
        ("isolation.level", isolation),
    ])?;
    let mut consumer = PartitionConsumer::new(Client::new(config));
    consumer.assign_topic(topic).await?;
    let mut records = Vec::new();
    consumer.read_to_stable_end(|record| records.push(record)).await?;
    Ok(records)
}

/// Asks again and again until the answer fits; gives the last one.
async fn settled<T>(mut ask: impl AsyncFnMut() -> Result<T>, fits: impl Fn(&T) -> bool) -> Result<T> {
    let from = Instant::now();
    loop {
        let found = ask().await?;
        if fits(&found) || from.elapsed() > Duration::from_secs(60) {
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn numbers(bootstrap: &str, topic: &str) -> Result<Vec<i64>> {
    let records = read(bootstrap, topic, "read_committed").await?;
    let number =
        |r: &ConsumerRecord| Ok(std::str::from_utf8(r.value.as_deref().unwrap_or_default())?.parse()?);
    records.iter().map(number).collect()
}

async fn wait_position(herder: &Herder, name: &str, next: i64) -> Result<()> {
    for _ in 0..1200 {
        let offsets = herder.offsets(name).await?;
        if offsets.first().is_some_and(|o| o.offset["next"] == next) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("{name} is at {:?}, not {next}: {:?}", herder.offsets(name).await?, herder.status(name))
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_once_on_a_cluster() -> Result<()> {
    let kafka = Kafka::start()?;
    let bootstrap = kafka.bootstrap();
    let handle = worker(&bootstrap).await?;
    let herder = handle.herder();
    boundaries(&bootstrap, &herder).await.context("boundaries")?;
    own_offsets(&bootstrap, &herder).await.context("offsets of its own")?;
    generations(&bootstrap, &herder).await.context("generations")?;
    refusals(&herder).await.context("refusals")?;
    given_up(&bootstrap, &herder).await.context("a task that does not stop")?;
    handle.shutdown().await;
    Ok(())
}

async fn boundaries(bootstrap: &str, herder: &Herder) -> Result<()> {
    create(herder, "poll", &[("exactly.once.support", "required")]).await?;
    wait_position(herder, "poll", 12).await?;
    assert_eq!(numbers(bootstrap, "poll").await?, (0..12).collect::<Vec<_>>());

    // An hour is not over; a pause ends the transaction.
    let hour = [("transaction.boundary", "interval"), ("transaction.boundary.interval.ms", "3600000")];
    create(herder, "interval", &hour).await?;
    wait_state(herder, "interval", "RUNNING").await?;
    let written = async || anyhow::Ok(read(bootstrap, "interval", "read_uncommitted").await?.len());
    assert_eq!(settled(written, |count: &usize| *count == 12).await?, 12);
    assert_eq!(numbers(bootstrap, "interval").await?, Vec::<i64>::new(), "nothing is committed yet");
    assert!(herder.delete("interval").await.is_ok(), "stopping commits as well");
    let committed = async || numbers(bootstrap, "interval").await;
    let committed = settled(committed, |found: &Vec<i64>| found.len() == 12).await?;
    assert_eq!(committed, (0..12).collect::<Vec<_>>());

    // The task commits after each fifth number and drops those from 5 to 7.
    create(herder, "said", &[("transaction.boundary", "connector"), ("exactly.once.support", "required")])
        .await?;
    wait_position(herder, "said", 10).await?;
    assert_eq!(numbers(bootstrap, "said").await?, [0, 1, 2, 3, 4, 8, 9], "10 and 11 are open");
    herder.set_target("said", TargetState::Stopped).await?;

    // What a failed task had not committed comes again from its successor.
    let doomed = [("fail.at", "7"), ("transaction.boundary", "interval")];
    create(herder, "doomed", &doomed).await?;
    wait_state(herder, "doomed", "FAILED").await?;
    assert_eq!(numbers(bootstrap, "doomed").await?, Vec::<i64>::new());
    herder.patch_config("doomed", [("fail.at".to_owned(), None)].into()).await?;
    herder.patch_config("doomed", config(&[("transaction.boundary", "poll")])).await?;
    wait_position(herder, "doomed", 12).await?;
    assert_eq!(numbers(bootstrap, "doomed").await?, (0..12).collect::<Vec<_>>());
    Ok(())
}

/// Offsets in a topic of the connector's own, which has precedence over the worker's; altered and reset there.
async fn own_offsets(bootstrap: &str, herder: &Herder) -> Result<()> {
    create(herder, "own", &[("offsets.storage.topic", "own-offsets")]).await?;
    wait_position(herder, "own", 12).await?;
    let own = read(bootstrap, "own-offsets", "read_committed").await?;
    let last = own.last().context("offsets")?;
    assert_eq!(last.key.as_deref(), Some(&br#"["own",{"source":"numbers"}]"#[..]));
    assert_eq!(last.value.as_deref(), Some(&br#"{"next":12}"#[..]));
    let is_copied =
        |all: &Vec<ConsumerRecord>| all.iter().any(|r| r.key == last.key && r.value == last.value);
    let copied = async || read(bootstrap, "e-offsets", "read_committed").await;
    let copied = settled(copied, is_copied).await?;
    assert!(is_copied(&copied), "copied to the worker's topic");

    herder.set_target("own", TargetState::Stopped).await?;
    let map = |value: serde_json::Value| value.as_object().cloned().expect("an object");
    let wanted = vec![(map(json!({"source": "numbers"})), Some(map(json!({"next": 9}))))];
    for _ in 0..1200 {
        match herder.alter_offsets("own", wanted.clone()).await {
            Ok(_) => break,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    wait_position(herder, "own", 9).await?;
    let record = read(bootstrap, "own-offsets", "read_committed").await?;
    assert_eq!(record.last().and_then(|r| r.value.clone()).as_deref(), Some(&br#"{"next":9}"#[..]));
    herder.set_target("own", TargetState::Started).await?;
    wait_position(herder, "own", 12).await?;
    let expected: Vec<i64> = (0..12).chain(9..12).collect();
    assert_eq!(numbers(bootstrap, "own").await?, expected);

    herder.set_target("own", TargetState::Stopped).await?;
    for _ in 0..1200 {
        match herder.reset_offsets("own").await {
            Ok(_) => break,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    assert!(herder.offsets("own").await?.is_empty(), "neither topic knows it any more");
    for topic in ["own-offsets", "e-offsets"] {
        let newest = async || {
            let records = read(bootstrap, topic, "read_committed").await?;
            let newest = records.into_iter().rev().find(|r| r.key == last.key);
            anyhow::Ok(newest.context("a record")?.value)
        };
        assert_eq!(settled(newest, Option::is_none).await?, None, "{topic}");
    }
    Ok(())
}

/// Each generation of tasks is recorded, and those before it are fenced.
async fn generations(bootstrap: &str, herder: &Herder) -> Result<()> {
    create(herder, "grown", &[("tasks", "2"), ("tasks.max", "2")]).await?;
    wait_state(herder, "grown", "RUNNING").await?;
    herder.patch_config("grown", config(&[("tasks", "1")])).await?;
    let counts = async || {
        let records = read(bootstrap, "e-configs", "read_committed").await?;
        let fencing = records.iter().filter(|r| r.key.as_deref() == Some(b"tasks-fencing-grown"));
        let text =
            |r: &ConsumerRecord| String::from_utf8_lossy(r.value.as_deref().unwrap_or_default()).into_owned();
        anyhow::Ok(fencing.map(text).collect::<Vec<String>>())
    };
    let counts = settled(counts, |counts: &Vec<String>| counts.len() == 2).await?;
    assert_eq!(counts, [r#"{"task-count":2}"#, r#"{"task-count":1}"#]);
    Ok(())
}

async fn refusals(herder: &Herder) -> Result<()> {
    let refused = async |settings: &[(&str, &str)]| {
        create(herder, "refused", settings).await.err().map(|e| e.to_string()).unwrap_or_default()
    };
    let error = refused(&[("exactly.once.support", "required"), ("can", "no")]).await;
    assert!(
        error.contains("The connector does not support exactly-once semantics with the provided"),
        "{error}"
    );
    let error = refused(&[("transaction.boundary", "connector"), ("can", "no")]).await;
    assert!(error.contains("does not support connector-defined transaction boundaries"), "{error}");
    create(herder, "inward", &[("topic", "e-offsets")]).await?;
    let trace = wait_state(herder, "inward", "FAILED").await?;
    assert!(trace.contains("Source tasks may not produce to their own offsets topics"), "{trace}");
    Ok(())
}

/// A task that hangs is given up, and what it does later reaches nobody.
async fn given_up(bootstrap: &str, herder: &Herder) -> Result<()> {
    create(herder, "hanging", &[("hang.at", "5")]).await?;
    wait_position(herder, "hanging", 5).await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    herder.patch_config("hanging", config(&[("hang.at", "-1")])).await?;
    wait_position(herder, "hanging", 12).await?;
    plugins::LET_GO.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(numbers(bootstrap, "hanging").await?, (0..12).collect::<Vec<_>>());
    wait_state(herder, "hanging", "RUNNING").await?;
    Ok(())
}
