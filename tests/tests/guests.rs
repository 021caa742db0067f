//! Apache Kafka's own applications on three nodes of ours that are killed one after the other: a Streams application and a
//! Connect worker's source exactly once, a sink, and MirrorMaker 2. All of them go on while a node is away, and in the end each
//! result is exact and nothing is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write as _;
use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aqueduct_client::{
    Admin, Client, ClientConfig, OffsetSpec, PartitionConsumer, Producer, ProducerRecord, TopicPartition,
};
use aqueduct_tests::cluster::Cluster;
use aqueduct_tests::jvm_connect::JvmWorker;
use aqueduct_tests::kafka::java;
use aqueduct_tests::process::Process;
use aqueduct_tests::streams::{App, call, results_are_exact};
use serde_json::json;
use tempfile::TempDir;

const NODES: i32 = 3;
/// Clicks, lines and records before the first node is killed and with each of them.
const CLICKS: u32 = 700;
const LINES: u32 = 300;
const MIRRORED: u32 = 200;
const ROUNDS: u32 = NODES as u32 + 1;
/// On a busy machine, with a fail-over on the way.
const LIMIT: Duration = Duration::from_secs(180);

const SETTINGS: &[(&str, &str)] = &[
    ("default.replication.factor", "3"),
    ("min.insync.replicas", "2"),
    ("offsets.topic.replication.factor", "3"),
    ("transaction.state.log.replication.factor", "3"),
    ("transaction.state.log.min.isr", "2"),
    ("replica.lag.time.max.ms", "10000"),
];

#[test]
fn go_on_while_nodes_are_killed() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut cluster = Cluster::start(NODES, SETTINGS)?;
    let bootstrap = cluster.bootstrap();
    let dir = TempDir::with_prefix("guests-")?;
    let _inside = runtime.enter();
    let client = Client::new(
        ClientConfig::from_properties(&BTreeMap::from([
            ("bootstrap.servers".to_owned(), bootstrap.clone()),
            ("isolation.level".to_owned(), "read_committed".to_owned()),
            ("auto.offset.reset".to_owned(), "earliest".to_owned()),
        ]))?
        .0,
    );

    // It is refused until all three are registered.
    let create = || runtime.block_on(create_mirrored(&client));
    cluster.eventually("a topic with three replicas", LIMIT, create)?;
    call(3, &["create", &bootstrap])?;
    runtime.block_on(send(&client, 0..MIRRORED))?;
    // Each takes seconds to start: all at once.
    let mut mirror = mirror_maker(&bootstrap, &dir)?;
    let mut app = App::start(&bootstrap, &dir.path().join("streams"), 3)?;
    let mut connect = Files::start(&bootstrap, &dir)?;
    for round in 0..ROUNDS {
        let node = round as i32;
        // What is under way when the node goes, and what begins without it.
        connect.write()?;
        if node > 0 {
            call(3, &["feed", &bootstrap, &(round * CLICKS).to_string(), &CLICKS.to_string()])?;
            cluster.kill(node)?;
            runtime.block_on(send(&client, round * MIRRORED..(round + 1) * MIRRORED))?;
        } else {
            call(3, &["feed", &bootstrap, "0", &CLICKS.to_string()])?;
        }
        cluster.eventually("lines of this round", LIMIT, || connect.has_all())?;
        if node > 0 {
            cluster.restart(node)?;
            cluster.eventually("all replicas in sync", LIMIT, || runtime.block_on(in_sync(&client)))?;
        }
    }

    app.wait(&bootstrap, "regions", (ROUNDS * CLICKS) as usize).with_context(|| cluster.logs())?;
    results_are_exact(&bootstrap, ROUNDS * CLICKS)?;
    let lines = runtime.block_on(read(&client, "lines", 1))?;
    ensure!(lines == connect.lines(), "{} lines are in the topic, of {}", lines.len(), connect.written);
    let mirrored = cluster.eventually("the copies", LIMIT, || {
        let copies = runtime.block_on(read(&client, "a.mirrored", 3))?;
        ensure!(mirror.is_running(), "MirrorMaker has ended");
        let distinct = copies.iter().collect::<BTreeSet<_>>().len();
        ensure!(
            distinct == (ROUNDS * MIRRORED) as usize,
            "{distinct} of {} records are mirrored",
            ROUNDS * MIRRORED
        );
        Ok(copies)
    });
    let mirrored = mirrored.with_context(|| mirror.log_tail())?;
    // Delivered at least once: what came again is left out, and the rest is in order.
    let mut seen = BTreeSet::new();
    let firsts: Vec<String> = mirrored.into_iter().filter(|value| seen.insert(value.clone())).collect();
    ensure!(firsts == runtime.block_on(read(&client, "mirrored", 3))?, "the copies are in another order");
    Ok(())
}

/// A connector that reads a file into the topic `lines`, exactly once, and one that writes it to another file.
struct Files {
    worker: JvmWorker,
    input: File,
    output: PathBuf,
    written: u32,
}

impl Files {
    fn start(bootstrap: &str, dir: &TempDir) -> Result<Self> {
        let (input, output) = (dir.path().join("in.txt"), dir.path().join("out.txt"));
        let file = File::create(&input)?;
        let settings = [
            ("exactly.once.source.support", "enabled"),
            ("config.storage.topic", "c-configs"),
            ("offset.storage.topic", "c-offsets"),
            ("status.storage.topic", "c-status"),
            ("config.storage.replication.factor", "3"),
            ("offset.storage.replication.factor", "3"),
            ("status.storage.replication.factor", "3"),
            ("offset.storage.partitions", "3"),
            ("session.timeout.ms", "10000"),
            ("heartbeat.interval.ms", "1000"),
            ("scheduled.rebalance.max.delay.ms", "0"),
        ];
        let worker = JvmWorker::start(bootstrap, &settings)?;
        let text = "org.apache.kafka.connect.storage.StringConverter";
        let source = json!({
            "connector.class": "org.apache.kafka.connect.file.FileStreamSourceConnector", "file": input,
            "topic": "lines", "value.converter": text, "exactly.once.support": "required",
            "topic.creation.default.replication.factor": 3, "topic.creation.default.partitions": 1,
        });
        let sink = json!({
            "connector.class": "org.apache.kafka.connect.file.FileStreamSinkConnector", "file": output,
            "topics": "lines", "value.converter": text, "consumer.override.isolation.level": "read_committed",
        });
        let api = worker.api();
        api.put("lines-in", &source)?;
        api.put("lines-out", &sink)?;
        Ok(Self { worker, input: file, output, written: 0 })
    }

    fn write(&mut self) -> Result<()> {
        let lines: String =
            (self.written..self.written + LINES).map(|number| format!("line {number}\n")).collect();
        self.input.write_all(lines.as_bytes())?;
        self.written += LINES;
        Ok(())
    }

    fn lines(&self) -> Vec<String> {
        (0..self.written).map(|number| format!("line {number}")).collect()
    }

    /// Whether the sink has written every line; some may be there twice.
    fn has_all(&mut self) -> Result<()> {
        let text = fs::read_to_string(&self.output).unwrap_or_default();
        let seen: BTreeSet<&str> = text.lines().collect();
        if seen.len() < self.written as usize {
            let states =
                ["lines-in", "lines-out"].map(|name| self.worker.api().states(name).unwrap_or_default());
            anyhow::bail!(
                "{} of {} lines, {states:?}\n{}",
                seen.len(),
                self.written,
                self.worker.process().log_tail()
            );
        }
        Ok(())
    }
}

/// From the cluster to itself, so that no other is needed: `mirrored` is copied to `a.mirrored`.
fn mirror_maker(bootstrap: &str, dir: &TempDir) -> Result<Process> {
    let mut lines = format!(
        "clusters=a,b\na.bootstrap.servers={bootstrap}\nb.bootstrap.servers={bootstrap}\n\
         a->b.enabled=true\na->b.topics=mirrored\nb->a.enabled=false\n"
    );
    let replicated = [
        "",
        "checkpoints.topic.",
        "heartbeats.topic.",
        "offset-syncs.topic.",
        "offset.storage.",
        "status.storage.",
        "config.storage.",
    ];
    lines.extend(replicated.map(|topic| format!("{topic}replication.factor=3\n")));
    for (key, value) in [
        ("offset.storage.partitions", "2"),
        ("status.storage.partitions", "2"),
        ("sync.topic.acls.enabled", "false"),
        ("emit.checkpoints.enabled", "false"),
        ("refresh.topics.interval.seconds", "5"),
        ("tasks.max", "1"),
        ("dedicated.mode.enable.internal.rest", "false"),
    ] {
        lines.push_str(&format!("{key}={value}\n"));
    }
    let properties = dir.path().join("mm2.properties");
    fs::write(&properties, lines)?;
    let mut command: Command = java("384m", "org.apache.kafka.connect.mirror.MirrorMaker")?;
    Process::start("MirrorMaker 2", command.arg(&properties), &dir.path().join("mm2.log"))
}

async fn create_mirrored(client: &Client) -> Result<()> {
    let topic = aqueduct_client::NewTopic::new("mirrored", 3, 3);
    Admin::new(client.clone()).ensure_topic(&topic).await?;
    Ok(())
}

/// Sends the numbers of a range to the topic that is mirrored, and waits until all are acknowledged.
async fn send(client: &Client, range: Range<u32>) -> Result<()> {
    let producer = Producer::new(client.clone());
    let mut deliveries = Vec::new();
    for number in range {
        let record = ProducerRecord::new("mirrored", format!("{number}")).with_partition((number % 3) as i32);
        deliveries.push(producer.send(record).await?);
    }
    for delivery in deliveries {
        delivery.await?;
    }
    producer.close().await;
    Ok(())
}

/// What is committed in a topic, partition by partition.
async fn read(client: &Client, topic: &str, partitions: i32) -> Result<Vec<String>> {
    let mut values: BTreeMap<i32, Vec<String>> = BTreeMap::new();
    let all: Vec<TopicPartition> =
        (0..partitions).map(|partition| TopicPartition::new(topic, partition)).collect();
    let mut consumer = PartitionConsumer::new(client.clone());
    consumer.assign(all.iter().cloned())?;
    for partition in &all {
        consumer.seek_to(partition, OffsetSpec::Earliest)?;
    }
    let each = |record: aqueduct_client::ConsumerRecord| {
        let value = String::from_utf8_lossy(&record.value.unwrap_or_default()).into_owned();
        values.entry(record.partition.0).or_default().push(value);
    };
    consumer.read_to_end(each).await?;
    Ok(values.into_values().flatten().collect())
}

/// That the next node can be killed: `min.insync.replicas` is two.
async fn in_sync(client: &Client) -> Result<()> {
    let admin = Admin::new(client.clone());
    let topics: Vec<_> = admin.list_topics().await?.into_iter().collect();
    for (topic, described) in admin.describe_topics(&topics).await? {
        for partition in described?.partitions {
            ensure!(partition.isr.len() == partition.replicas.len(), "{topic} {partition:?}");
        }
    }
    Ok(())
}
