//! Apache Kafka's own services on our broker: the Connect worker in distributed mode with exactly-once sources, and
//! MirrorMaker 2 between our broker and Apache Kafka's, both ways.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use aqueduct_tests::connect::Api;
use aqueduct_tests::console::{read_committed, read_topic};
use aqueduct_tests::jvm_connect::JvmWorker;
use aqueduct_tests::kafka::java;
use aqueduct_tests::process::Process;
use aqueduct_tests::server::{Kind, Server};
use aqueduct_tests::tools::Driver;
use serde_json::json;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(180);
const SETTINGS: &[(&str, &str)] = &[("transaction.state.log.num.partitions", "5")];

fn wait(what: &str, mut ready: impl FnMut() -> Result<bool>) -> Result<()> {
    let from = Instant::now();
    while !ready()? {
        if from.elapsed() > LIMIT {
            bail!("{what}: not within {LIMIT:?}");
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

mod connect_worker {
    use super::*;

    #[test]
    fn aqueduct() -> Result<()> {
        files_exactly_once(Kind::Aqueduct)
    }

    #[test]
    fn apache_kafka() -> Result<()> {
        files_exactly_once(Kind::ApacheKafka)
    }
}

/// Lines of a file go through a topic to another file, once each, while the worker is killed.
fn files_exactly_once(kind: Kind) -> Result<()> {
    let server = Server::start_with(kind, SETTINGS)?;
    let dir = TempDir::with_prefix("jvm-connect-files-")?;
    let (input, output) = (dir.path().join("in.txt"), dir.path().join("out.txt"));
    let mut file = File::create(&input)?;
    let settings = [
        ("exactly.once.source.support", "enabled"),
        ("config.storage.topic", "c-configs"),
        ("offset.storage.topic", "c-offsets"),
        ("status.storage.topic", "c-status"),
        ("offset.storage.partitions", "5"),
        ("session.timeout.ms", "6000"),
        ("heartbeat.interval.ms", "1000"),
        ("scheduled.rebalance.max.delay.ms", "0"),
    ];
    let mut worker = JvmWorker::start(&server.bootstrap(), &settings)?;
    let api = worker.api();
    let text = "org.apache.kafka.connect.storage.StringConverter";
    let source = json!({
        "connector.class": "org.apache.kafka.connect.file.FileStreamSourceConnector", "file": input,
        "topic": "c-lines", "value.converter": text, "exactly.once.support": "required",
    });
    let sink = json!({
        "connector.class": "org.apache.kafka.connect.file.FileStreamSinkConnector", "file": output,
        "topics": "c-lines", "value.converter": text, "consumer.override.isolation.level": "read_committed",
    });
    api.put("lines-in", &source)?;
    let line = |number: u32| format!("line {number}\n");
    write!(file, "{}", (0..500).map(line).collect::<String>())?;
    api.wait_states("lines-in", "RUNNING RUNNING", LIMIT)?;
    api.put("lines-out", &sink)?;
    let lines = || Ok::<_, anyhow::Error>(fs::read_to_string(&output).unwrap_or_default().lines().count());
    let reached = wait("500 lines", || Ok(lines()? >= 500));
    reached.with_context(|| {
        let read = read_topic(&server.bootstrap(), "c-lines").map(|records| records.len());
        let states = ["lines-in", "lines-out"].map(|name| api.states(name).unwrap_or_default());
        format!(
            "{states:?}, {read:?} lines in the topic, {:?} in the file\n{}",
            lines(),
            worker.process().log()
        )
    })?;

    write!(file, "{}", (500..3000).map(line).collect::<String>())?;
    std::thread::sleep(Duration::from_millis(1200));
    worker.process().kill();
    worker.restart()?;
    running(&api, &["lines-in", "lines-out"])?;
    write!(file, "{}", (3000..3100).map(line).collect::<String>())?;
    wait("the last line", || Ok(fs::read_to_string(&output)?.ends_with("line 3099\n")))?;
    worker.stop()?;

    let records = read_committed(&server.bootstrap(), "c-lines")?;
    let seen: Vec<&str> = records.iter().map(|record| &*record.value).collect();
    let expected: Vec<String> = (0..3100).map(|number| line(number).trim().to_owned()).collect();
    ensure!(seen == expected, "{} lines are in the topic, of 3100", seen.len());
    Ok(())
}

fn running(api: &Api, names: &[&str]) -> Result<()> {
    names.iter().try_for_each(|name| api.wait_states(name, "RUNNING RUNNING", LIMIT))
}

/// Records, topics with their settings, checkpoints and offsets of groups go from either cluster to the other.
#[test]
fn mirror_maker_both_ways() -> Result<()> {
    let ours = Server::start_with(Kind::Aqueduct, SETTINGS)?;
    let theirs = Server::start_with(Kind::ApacheKafka, SETTINGS)?;
    let tools = &mut Driver::start()?;
    let sides = [("ours", &ours), ("theirs", &theirs)];
    for (name, server) in sides {
        let topic = format!("m-{name}");
        let create = ["--create", "--topic", &topic, "--partitions", "3", "--config", "retention.ms=7200000"];
        on(tools, server, "org.apache.kafka.tools.TopicCommand", &create)?;
        produce(tools, server, &topic, 0..200)?;
        // A group that has read half of it.
        let read = ["--topic", &topic, "--from-beginning", "--max-messages", "100", "--timeout-ms", "50000"];
        let group = format!("m-group-{name}");
        let consumer = "org.apache.kafka.tools.consumer.ConsoleConsumer";
        on(tools, server, consumer, &[&read[..], &["--group", &group]].concat())?;
    }

    let dir = TempDir::with_prefix("mirror-maker-")?;
    let properties = dir.path().join("mm2.properties");
    fs::write(&properties, mirror_settings(&ours.bootstrap(), &theirs.bootstrap()))?;
    let mut command = java("512m", "org.apache.kafka.connect.mirror.MirrorMaker")?;
    let mut mirror = Process::start("MirrorMaker 2", command.arg(&properties), &dir.path().join("log"))?;

    for (name, from, to) in [("ours", &ours, &theirs), ("theirs", &theirs, &ours)] {
        let (source, copy) = (format!("m-{name}"), format!("{name}.m-{name}"));
        wait_end(tools, &mut mirror, to, &copy, 200)?;
        produce(tools, from, &source, 200..260)?;
        wait_end(tools, &mut mirror, to, &copy, 260)?;
        ensure!(by_partition(from, &source)? == by_partition(to, &copy)?, "{copy} is not a copy");
        let described =
            on(tools, to, "org.apache.kafka.tools.TopicCommand", &["--describe", "--topic", &copy])?;
        ensure!(described.contains("PartitionCount: 3"), "{described}");
        ensure!(described.contains("retention.ms=7200000"), "{described}");

        let group = format!("m-group-{name}");
        let offsets = ["--describe", "--group", &group, "--offsets"];
        let mut shown = String::new();
        let synced = wait("offsets of the group", || {
            let groups = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
            shown = on(tools, to, groups, &offsets).unwrap_or_default();
            // A checkpoint is never ahead of what the group has read.
            let read: Vec<u64> = shown
                .lines()
                .filter(|line| line.contains(&copy))
                .filter_map(|line| line.split_whitespace().nth(3)?.parse().ok())
                .collect();
            Ok(!read.is_empty() && read.iter().sum::<u64>() <= 100)
        });
        synced.with_context(|| format!("{shown}\n{}", mirror.log_tail()))?;
        let internal = [format!("{name}.checkpoints.internal"), format!("{name}.heartbeats")];
        wait(&format!("{internal:?}"), || {
            let topics = on(tools, to, "org.apache.kafka.tools.TopicCommand", &["--list"])?;
            Ok(internal.iter().all(|internal| topics.lines().any(|line| line == internal)))
        })?;
    }
    mirror.terminate(LIMIT)
}

fn mirror_settings(ours: &str, theirs: &str) -> String {
    let mut lines = format!(
        "clusters=ours,theirs\nours.bootstrap.servers={ours}\ntheirs.bootstrap.servers={theirs}\n\
         ours->theirs.enabled=true\nours->theirs.topics=m-ours\nours->theirs.groups=m-group-.*\n\
         theirs->ours.enabled=true\ntheirs->ours.topics=m-theirs\ntheirs->ours.groups=m-group-.*\n"
    );
    for (key, value) in [
        ("replication.factor", "1"),
        ("checkpoints.topic.replication.factor", "1"),
        ("heartbeats.topic.replication.factor", "1"),
        ("offset-syncs.topic.replication.factor", "1"),
        ("offset.storage.replication.factor", "1"),
        ("status.storage.replication.factor", "1"),
        ("config.storage.replication.factor", "1"),
        ("offset.storage.partitions", "2"),
        ("status.storage.partitions", "2"),
        ("sync.topic.acls.enabled", "false"),
        ("sync.group.offsets.enabled", "true"),
        ("sync.group.offsets.interval.seconds", "1"),
        ("emit.checkpoints.interval.seconds", "1"),
        ("refresh.topics.interval.seconds", "5"),
        ("refresh.groups.interval.seconds", "2"),
        ("sync.topic.configs.interval.seconds", "5"),
        ("offset.lag.max", "0"),
        ("tasks.max", "1"),
        ("dedicated.mode.enable.internal.rest", "false"),
    ] {
        lines.push_str(&format!("{key}={value}\n"));
    }
    lines
}

fn on(tools: &mut Driver, server: &Server, class: &str, args: &[&str]) -> Result<String> {
    tools.tool(class, &[&["--bootstrap-server", &server.bootstrap()], args].concat())
}

/// Sends the numbers of a range, each with itself as its key.
fn produce(tools: &mut Driver, server: &Server, topic: &str, range: std::ops::Range<u32>) -> Result<()> {
    let bootstrap = server.bootstrap();
    let to = ["--bootstrap-server", &bootstrap, "--topic", topic];
    let keys = ["--reader-property", "parse.key=true", "--reader-property", "key.separator=:"];
    let lines: String = range.map(|number| format!("{number}:v{number}\n")).collect();
    let class = "org.apache.kafka.tools.ConsoleProducer";
    tools.tool_with_input(class, &[&to[..], &keys].concat(), &lines).map(drop)
}

/// Waits until a topic has this many records.
fn wait_end(
    tools: &mut Driver,
    mirror: &mut Process,
    server: &Server,
    topic: &str,
    records: u64,
) -> Result<()> {
    let mut seen = 0;
    let reached = wait(topic, || {
        if let Some(code) = mirror.exit_code() {
            bail!("MirrorMaker ended with {code}");
        }
        // The topic may not be there yet.
        let text = on(tools, server, "org.apache.kafka.tools.GetOffsetShell", &["--topic", topic])
            .unwrap_or_default();
        seen = text.lines().filter_map(|line| line.rsplit_once(':')?.1.parse::<u64>().ok()).sum();
        Ok(seen >= records)
    });
    reached.with_context(|| format!("{seen} of {records} records\n{}", mirror.log_tail()))?;
    ensure!(seen == records, "{topic} has {seen} records instead of {records}");
    Ok(())
}

fn by_partition(server: &Server, topic: &str) -> Result<BTreeMap<String, Vec<String>>> {
    let mut partitions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in read_topic(&server.bootstrap(), topic)? {
        partitions.entry(record.partition).or_default().push(format!("{}={}", record.key, record.value));
    }
    Ok(partitions)
}
