//! Tasks on a real cluster: errors and where they end, retries, restarts, panics, a worker alone.

mod plugins;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use aqueduct_client::{Client, ClientConfig, ConsumerRecord, PartitionConsumer, Producer, ProducerRecord};
use aqueduct_connect_worker::entities::ConnectorState;
use aqueduct_connect_worker::{Handle, Herder, Mode, NewConnector, Worker, WorkerConfig};
use aqueduct_tests::kafka::Kafka;

fn settings(bootstrap: &str, more: &[(&str, &str)]) -> aqueduct_connect_api::ConfigMap {
    let mut settings: aqueduct_connect_api::ConfigMap = [
        ("bootstrap.servers", bootstrap),
        ("group.id", "tasks"),
        ("config.storage.topic", "t-configs"),
        ("offset.storage.topic", "t-offsets"),
        ("status.storage.topic", "t-status"),
        ("config.storage.replication.factor", "1"),
        ("offset.storage.replication.factor", "1"),
        ("status.storage.replication.factor", "1"),
        ("offset.storage.partitions", "1"),
        ("status.storage.partitions", "1"),
        ("key.converter", "org.apache.kafka.connect.storage.StringConverter"),
        ("value.converter", "org.apache.kafka.connect.storage.StringConverter"),
        ("offset.flush.interval.ms", "500"),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .collect();
    settings.extend(more.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    settings
}

async fn worker(bootstrap: &str) -> Result<Handle> {
    let config = WorkerConfig::from_properties(&settings(bootstrap, &[]), Mode::Distributed)?;
    Ok(Worker::start(config, ("127.0.0.1", 8083)).await?)
}

async fn create(herder: &Herder, name: &str, config: &[(&str, &str)]) -> Result<()> {
    let config = config.iter().map(|(k, v)| ((*k).to_owned(), Some((*v).to_owned()))).collect();
    herder.create(NewConnector { name: name.to_owned(), config, initial_state: None }).await?;
    Ok(())
}

async fn wait_for(
    herder: &Herder,
    name: &str,
    fits: impl Fn(&ConnectorState) -> bool,
) -> Result<ConnectorState> {
    for _ in 0..600 {
        if let Ok(state) = herder.status(name)
            && fits(&state)
        {
            return Ok(state);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("{name} is {:?}", herder.status(name))
}

fn task_is(state: &'static str) -> impl Fn(&ConnectorState) -> bool {
    move |s| s.tasks.first().is_some_and(|t| t.state.state == state)
}

async fn produce(bootstrap: &str, topic: &str, values: &[&str]) -> Result<()> {
    let producer = Producer::new(Client::new(ClientConfig::new(bootstrap)?));
    for value in values {
        let record = ProducerRecord::keyed(topic.to_owned(), "k", Some((*value).to_owned().into()));
        producer.send(record).await?.await?;
    }
    producer.close().await;
    Ok(())
}

/// All records of a topic, once there are at least so many.
async fn read(bootstrap: &str, topic: &str, least: usize) -> Result<Vec<ConsumerRecord>> {
    let (config, _) =
        ClientConfig::from_properties([("bootstrap.servers", bootstrap), ("auto.offset.reset", "earliest")])?;
    let mut consumer = PartitionConsumer::new(Client::new(config));
    consumer.assign_topic(topic).await?;
    let (from, mut records) = (Instant::now(), Vec::new());
    loop {
        consumer.read_to_stable_end(|record| records.push(record)).await?;
        if records.len() >= least || from.elapsed() > Duration::from_secs(60) {
            return Ok(records);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn text(record: &ConsumerRecord) -> String {
    String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned()
}

fn header<'a>(record: &'a ConsumerRecord, name: &str) -> Option<std::borrow::Cow<'a, str>> {
    let header = record.headers.iter().find(|h| h.key == format!("__connect.errors.{name}").as_str())?;
    Some(String::from_utf8_lossy(header.value.as_deref()?))
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

async fn wait_lines(path: &Path, count: usize) -> Result<Vec<String>> {
    for _ in 0..600 {
        let found = lines(path);
        if found.len() >= count {
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("{} has {:?}", path.display(), lines(path))
}

const JSON: (&str, &str) = ("value.converter", "org.apache.kafka.connect.json.JsonConverter");
const NO_SCHEMAS: (&str, &str) = ("value.converter.schemas.enable", "false");

#[tokio::test(flavor = "multi_thread")]
async fn tasks_on_a_cluster() -> Result<()> {
    let (kafka, dir) = (Kafka::start()?, tempfile::tempdir()?);
    let bootstrap = kafka.bootstrap();
    let handle = worker(&bootstrap).await?;
    let herder = handle.herder();

    let doomed =
        [("connector.class", "test.Numbers"), ("topic", "doomed"), ("count", "10"), ("fail.at", "5")];
    create(&herder, "doomed", &doomed).await?;
    poison_records_end_in_the_dead_letter_topic(&bootstrap, &herder, dir.path()).await?;
    without_tolerance_the_task_fails_and_says_where(&herder, dir.path()).await?;
    a_sink_that_is_away_gets_the_same_batch_again(&bootstrap, &herder, dir.path()).await?;
    a_panic_fails_the_task_alone(&bootstrap, &herder, dir.path()).await?;
    a_failed_task_is_started_again(&herder).await?;
    a_source_goes_on_after_a_failure(&bootstrap, &herder).await?;
    too_many_tasks_fail_the_connector(&herder).await?;
    topics_are_created_by_rules(&bootstrap, &herder).await?;
    handle.shutdown().await;
    Ok(())
}

async fn poison_records_end_in_the_dead_letter_topic(
    bootstrap: &str,
    herder: &Herder,
    dir: &Path,
) -> Result<()> {
    produce(bootstrap, "poison", &["\"good\"", "{bad", "\"refuse\"", "\"last\""]).await?;
    let file = dir.join("poison.out");
    let config = [
        ("connector.class", "test.Picky"),
        ("topics", "poison"),
        ("file", &*file.to_string_lossy()),
        JSON,
        NO_SCHEMAS,
        ("errors.tolerance", "all"),
        ("errors.deadletterqueue.topic.name", "dead"),
        ("errors.deadletterqueue.topic.replication.factor", "1"),
        ("errors.deadletterqueue.context.headers.enable", "true"),
    ];
    create(herder, "picky", &config).await?;
    assert_eq!(wait_lines(&file, 2).await?, ["good", "last"]);
    let mut dead = read(bootstrap, "dead", 2).await?;
    dead.sort_by_key(|r| header(r, "offset").map(std::borrow::Cow::into_owned));
    assert_eq!(dead.iter().map(text).collect::<Vec<_>>(), ["{bad", "\"refuse\""]);
    let stages: Vec<_> = dead.iter().map(|r| header(r, "stage").unwrap_or_default()).collect();
    assert_eq!(stages, ["VALUE_CONVERTER", "TASK_PUT"]);
    for (name, value) in [
        ("topic", "poison"),
        ("partition", "0"),
        ("offset", "1"),
        ("connector.name", "picky"),
        ("task.id", "0"),
        ("class.name", "org.apache.kafka.connect.json.JsonConverter"),
        ("exception.class.name", "org.apache.kafka.connect.errors.DataException"),
    ] {
        assert_eq!(header(&dead[0], name).as_deref(), Some(value), "{name}");
    }
    assert!(header(&dead[0], "exception.stacktrace").is_some());
    for _ in 0..600 {
        let offsets = herder.offsets("picky").await?;
        if offsets.first().is_some_and(|o| o.offset["kafka_offset"] == 4) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("the offsets are {:?}", herder.offsets("picky").await?)
}

async fn without_tolerance_the_task_fails_and_says_where(herder: &Herder, dir: &Path) -> Result<()> {
    let file = dir.join("strict.out");
    let config = [
        ("connector.class", "test.Picky"),
        ("topics", "poison"),
        ("file", &*file.to_string_lossy()),
        JSON,
        NO_SCHEMAS,
    ];
    create(herder, "strict", &config).await?;
    let state = wait_for(herder, "strict", task_is("FAILED")).await?;
    let trace = state.tasks[0].state.trace.clone().context("a trace")?;
    for part in [
        "Tolerance exceeded in error handler",
        "strict-0",
        "poison-0@1",
        "VALUE_CONVERTER",
        "errors.tolerance=all",
    ] {
        assert!(trace.contains(part), "{part} in {trace}");
    }
    assert_eq!(state.connector.state, "RUNNING", "the connector itself is well");
    Ok(())
}

async fn a_sink_that_is_away_gets_the_same_batch_again(
    bootstrap: &str,
    herder: &Herder,
    dir: &Path,
) -> Result<()> {
    produce(bootstrap, "away", &["a", "b", "c"]).await?;
    let file = dir.join("away.out");
    let config = [
        ("connector.class", "test.Picky"),
        ("topics", "away"),
        ("file", &*file.to_string_lossy()),
        ("away.times", "3"),
    ];
    create(herder, "away", &config).await?;
    assert_eq!(wait_lines(&file, 3).await?, ["a", "b", "c"]);
    assert!(task_is("RUNNING")(&herder.status("away")?));
    produce(bootstrap, "away", &["d"]).await?;
    assert_eq!(wait_lines(&file, 4).await?, ["a", "b", "c", "d"], "reading goes on");
    Ok(())
}

async fn a_panic_fails_the_task_alone(bootstrap: &str, herder: &Herder, dir: &Path) -> Result<()> {
    produce(bootstrap, "panics", &["x", "panic"]).await?;
    let file = dir.join("panics.out");
    let config =
        [("connector.class", "test.Picky"), ("topics", "panics"), ("file", &*file.to_string_lossy())];
    create(herder, "panics", &config).await?;
    let state = wait_for(herder, "panics", task_is("FAILED")).await?;
    let trace = state.tasks[0].state.trace.clone().context("a trace")?;
    assert!(trace.contains("panics-0") && trace.contains("no taste for this"), "{trace}");
    assert!(task_is("RUNNING")(&herder.status("away")?), "others go on");
    herder.delete("panics").await?;
    Ok(())
}

/// One that failed at the start of the test, while the others ran.
async fn a_failed_task_is_started_again(herder: &Herder) -> Result<()> {
    let again = |state: &ConnectorState| {
        let trace = state.tasks.first().and_then(|task| task.state.trace.as_deref()).unwrap_or_default();
        // The third time may have come where all else took long.
        let planned = ["20s, time 2", "40s, time 3", "80s, time 4"]
            .map(|planned| format!("starts it again in {planned} in a row"));
        planned.iter().any(|planned| trace.contains(planned)) && trace.contains("doomed")
    };
    wait_for(herder, "doomed", again).await?;
    herder.delete("doomed").await?;
    Ok(())
}

async fn a_source_goes_on_after_a_failure(bootstrap: &str, herder: &Herder) -> Result<()> {
    let config =
        [("connector.class", "test.Numbers"), ("topic", "numbers"), ("count", "10"), ("fail.at", "5")];
    create(herder, "numbers", &config).await?;
    let state = wait_for(herder, "numbers", task_is("FAILED")).await?;
    let trace = state.tasks[0].state.trace.clone().context("a trace")?;
    assert!(trace.contains("five is right out"), "{trace}");
    herder.patch_config("numbers", [("fail.at".to_owned(), None)].into()).await?;
    wait_for(herder, "numbers", task_is("RUNNING")).await?;
    let values: Vec<String> = read(bootstrap, "numbers", 10).await?.iter().map(text).collect();
    let wanted: Vec<String> = (0..10).map(|n| n.to_string()).collect();
    assert_eq!(values, wanted, "what was acknowledged before the failure is not sent again");
    Ok(())
}

async fn too_many_tasks_fail_the_connector(herder: &Herder) -> Result<()> {
    let config = [
        ("connector.class", "test.Numbers"),
        ("topic", "many"),
        ("count", "1"),
        ("tasks", "3"),
        ("tasks.max", "2"),
    ];
    create(herder, "many", &config).await?;
    let state = wait_for(herder, "many", |s| s.connector.state == "FAILED").await?;
    assert!(state.connector.trace.is_some_and(|t| t.contains("has generated 3 tasks")));
    let error = herder.restart_connector("many").await;
    // It starts well; what it makes of itself afterwards is too much again.
    assert!(error.is_ok(), "{error:?}");
    Ok(())
}

async fn topics_are_created_by_rules(bootstrap: &str, herder: &Herder) -> Result<()> {
    let config = [
        ("connector.class", "test.Numbers"),
        ("topic", "ruled"),
        ("count", "3"),
        ("topic.creation.default.partitions", "4"),
        ("topic.creation.default.replication.factor", "1"),
    ];
    create(herder, "ruled", &config).await?;
    // Reading it earlier would have the broker create it.
    while herder.topics("ruled")?.is_empty() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    read(bootstrap, "ruled", 3).await?;
    let admin = aqueduct_client::Admin::new(Client::new(ClientConfig::new(bootstrap)?));
    let found = admin.describe_topics(&["ruled".into()]).await?;
    let topic = found.values().next().context("an answer")?.as_ref().map_err(Clone::clone)?;
    assert_eq!(topic.partitions.len(), 4);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_alone_keeps_offsets_in_its_file() -> Result<()> {
    let (kafka, dir) = (Kafka::start()?, tempfile::tempdir()?);
    let bootstrap = kafka.bootstrap();
    let file = dir.path().join("offsets.json");
    let offsets = file.to_string_lossy().into_owned();
    let config = [("connector.class", "test.Numbers"), ("topic", "alone"), ("count", "5")];
    for count in ["5", "8"] {
        let settings = settings(&bootstrap, &[("offset.storage.file.filename", &offsets)]);
        let handle =
            Worker::start(WorkerConfig::from_properties(&settings, Mode::Standalone)?, ("h", 1)).await?;
        let herder = handle.herder();
        let config: Vec<_> =
            config.iter().map(|(k, v)| (*k, if *k == "count" { count } else { v })).collect();
        create(&herder, "alone", &config).await?;
        wait_for(&herder, "alone", task_is("RUNNING")).await?;
        read(&bootstrap, "alone", count.parse()?).await?;
        handle.shutdown().await;
    }
    let values: Vec<String> = read(&bootstrap, "alone", 8).await?.iter().map(text).collect();
    assert_eq!(values, ["0", "1", "2", "3", "4", "5", "6", "7"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn internal_topics_that_would_forget_are_refused() -> Result<()> {
    let kafka = Kafka::start()?;
    let bootstrap = kafka.bootstrap();
    let admin = aqueduct_client::Admin::new(Client::new(ClientConfig::new(&bootstrap)?));
    admin.ensure_topic(&aqueduct_client::NewTopic::new("t-status", 1, 1)).await?;
    let compacted = aqueduct_client::NewTopic::new("wide", 2, 1).config("cleanup.policy", "compact");
    admin.ensure_topic(&compacted).await?;
    for (more, part) in [
        (vec![], "cleanup.policy=compact"),
        (vec![("status.storage.topic", "good"), ("config.storage.topic", "wide")], "single partition"),
    ] {
        let config = WorkerConfig::from_properties(&settings(&bootstrap, &more), Mode::Distributed)?;
        let Err(error) = Worker::start(config, ("h", 1)).await else { bail!("{more:?} is accepted") };
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(error.status_code(), 400);
    }
    Ok(())
}
