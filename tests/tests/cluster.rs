//! Three nodes of ours as one cluster, under Kafka's own tools: topics with three replicas, a group and a transactional
//! producer that go on when the broker that coordinates them is killed, elections, reassignments, the quorum.

mod cluster {
    pub mod operations;
}

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use aqueduct_tests::cluster::Cluster;
use aqueduct_tests::kafka::{java, text_of};
use aqueduct_tests::process::Process;
use aqueduct_tests::rolling::Load;
use aqueduct_tests::tools::Driver;
use tempfile::NamedTempFile;

/// For what takes a second or two on an idle machine.
pub const LIMIT: Duration = Duration::from_secs(180);

pub const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
const PRODUCER: &str = "org.apache.kafka.tools.ConsoleProducer";
const CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";
const ELECTION: &str = "org.apache.kafka.tools.LeaderElectionCommand";
pub const REASSIGN: &str = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand";
pub const QUORUM: &str = "org.apache.kafka.tools.MetadataQuorumCommand";
pub const CLUSTER: &str = "org.apache.kafka.tools.ClusterTool";

/// The console producer gives a request 1.5 s and tries three times, if it is not told otherwise.
const PATIENT: [&str; 6] = [
    "--producer-property",
    "acks=all",
    "--producer-property",
    "request.timeout.ms=30000",
    "--producer-property",
    "retries=1000",
];

/// Records of the producer that goes through the loss of a node.
const RECORDS: usize = 1_500;

#[test]
fn three_nodes_serve_stock_tools_and_lose_one() -> Result<()> {
    // Small pieces, so that a move that is to be slow is.
    let mut cluster = Cluster::start(3, &[("replica.fetch.max.bytes", "131072")])?;
    let mut tools = Driver::start()?;
    topics_with_three_replicas(&cluster, &mut tools)?;
    records_and_a_group(&cluster, &mut tools)?;
    let dead = coordinator(&cluster, &mut tools, "readers")?;
    a_transactional_producer_and_a_group_go_on(&mut cluster, dead)?;
    the_others_lead_what_it_led(&cluster, &mut tools, dead)?;
    cluster.restart(dead)?;
    all_replicas_are_in_sync_again(&cluster, &mut tools)?;
    preferred_leaders_come_back(&cluster, &mut tools)?;
    nobody_notices_restarts_in_turn(&mut cluster)?;
    a_partition_moves(&cluster, &mut tools)?;
    the_quorum_and_the_brokers_are_described(&cluster, &mut tools)?;
    cluster::operations::replicas_move_within_limits(&cluster, &mut tools)?;
    cluster::operations::leaders_are_elected_and_moved_away(&cluster)?;
    cluster::operations::replicas_are_found_equal(&cluster)?;
    cluster::operations::a_fourth_node_takes_over_and_gets_a_vote(&mut cluster, &mut tools)
}

/// A line of `kafka-topics --describe` for a partition.
#[derive(Debug, PartialEq)]
pub struct Described {
    pub leader: String,
    pub replicas: Vec<String>,
    pub isr: Vec<String>,
}

pub fn describe(cluster: &Cluster, tools: &mut Driver, topic: &str) -> Result<Vec<Described>> {
    let printed =
        tools.tool(TOPICS, &["--bootstrap-server", &cluster.bootstrap(), "--describe", "--topic", topic])?;
    let lines = printed.lines().filter(|line| line.contains("\tPartition: "));
    let partition = |line: &str| {
        let field = |name: &str| {
            let at = line.split('\t').find_map(|part| part.trim().strip_prefix(name))?;
            Some(at.trim_start_matches(':').trim().to_owned())
        };
        let list = |name: &str| {
            let text = field(name)?;
            Some(text.split(',').filter(|id| !id.is_empty()).map(str::to_owned).collect())
        };
        Some(Described { leader: field("Leader")?, replicas: list("Replicas")?, isr: list("Isr")? })
    };
    lines.map(|line| partition(line).with_context(|| format!("a partition: {line}"))).collect()
}

fn topics_with_three_replicas(cluster: &Cluster, tools: &mut Driver) -> Result<()> {
    let bootstrap = cluster.bootstrap();
    for (topic, partitions) in [("orders", "6"), ("ledger", "3")] {
        // It is refused until all three are registered.
        let args = ["--bootstrap-server", &bootstrap, "--create", "--if-not-exists", "--topic", topic];
        let args = [&args[..], &["--partitions", partitions, "--replication-factor", "3"]].concat();
        cluster.eventually("a topic with three replicas", LIMIT, || tools.tool(TOPICS, &args))?;
    }
    cluster.eventually("all replicas in sync", LIMIT, || {
        let partitions = describe(cluster, tools, "orders")?;
        let whole = |p: &Described| p.replicas.len() == 3 && p.isr.len() == 3;
        ensure!(partitions.len() == 6 && partitions.iter().all(whole), "{partitions:?}");
        let mut leaders: Vec<_> = partitions.iter().map(|p| &p.leader).collect();
        leaders.sort();
        leaders.dedup();
        ensure!(leaders.len() == 3, "leaders are not spread: {partitions:?}");
        Ok(())
    })
}

fn records_and_a_group(cluster: &Cluster, tools: &mut Driver) -> Result<()> {
    let bootstrap = cluster.bootstrap();
    let lines: String = (0..200).map(|n| format!("order {n}\n")).collect();
    let args = ["--bootstrap-server", &bootstrap, "--topic", "orders"];
    tools.tool_with_input(PRODUCER, &[&args[..], &PATIENT].concat(), &lines)?;
    let more = ["--group", "readers", "--from-beginning", "--max-messages", "200", "--timeout-ms", "50000"];
    let printed = tools.tool(CONSUMER, &[&args[..], &more].concat())?;
    let mut read: Vec<&str> = printed.lines().filter(|line| line.starts_with("order ")).collect();
    read.sort_unstable();
    read.dedup();
    ensure!(read.len() == 200, "{} of 200 records: {printed}", read.len());
    Ok(())
}

/// The broker that coordinates a group.
fn coordinator(cluster: &Cluster, tools: &mut Driver, group: &str) -> Result<i32> {
    let bootstrap = cluster.bootstrap();
    let args = ["--bootstrap-server", &bootstrap, "--describe", "--group", group, "--state"];
    cluster.eventually("the coordinator of a group", LIMIT, || {
        let printed = tools.tool(GROUPS, &args)?;
        let line = printed.lines().find(|line| line.starts_with(group)).context("no such group")?;
        let id = line.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map(|(id, _)| id);
        id.and_then(|id| id.parse().ok()).with_context(|| printed.clone())
    })
}

/// A process of Kafka's that works while the test goes on; what it prints goes to a file.
struct Work {
    process: Process,
    log: NamedTempFile,
}

impl Work {
    fn start(name: &'static str, command: &mut Command) -> Result<Self> {
        let log = NamedTempFile::new()?;
        Ok(Self { process: Process::start(name, command, log.path())?, log })
    }

    /// What it printed, when it has ended well.
    fn end(mut self, limit: Duration) -> Result<String> {
        let from = Instant::now();
        while self.process.is_running() {
            if from.elapsed() > limit {
                bail!("no end within {limit:?}: {}", self.process.log_tail());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let printed = std::fs::read_to_string(self.log.path())?;
        ensure!(self.process.exit_code() == Some(0), "{printed}");
        Ok(printed)
    }
}

/// The records of transactions are all there, once, and the group that reads them gets them all, though its coordinator
/// dies while both work.
fn a_transactional_producer_and_a_group_go_on(cluster: &mut Cluster, dead: i32) -> Result<()> {
    // Clients must find the cluster after the node is gone.
    let bootstrap = cluster.bootstrap_without(dead);
    let records = RECORDS.to_string();
    let mut producer = java("128m", "org.apache.kafka.tools.ProducerPerformance")?;
    producer.args(["--topic", "ledger", "--num-records", &records, "--record-size", "50"]);
    producer.args([
        "--throughput",
        "200",
        "--transactional-id",
        "ledger",
        "--transaction-duration-ms",
        "200",
    ]);
    producer.args(["--producer-props", &format!("bootstrap.servers={bootstrap}"), "acks=all"]);
    let mut consumer = java("128m", CONSUMER)?;
    consumer.args(["--bootstrap-server", &bootstrap, "--topic", "ledger", "--group", "readers"]);
    consumer.args(["--from-beginning", "--isolation-level", "read_committed", "--max-messages", &records]);
    consumer.args(["--timeout-ms", "60000"]);
    let producer = Work::start("producer", &mut producer)?;
    let consumer = Work::start("consumer", &mut consumer)?;
    // Both have begun when some records are committed.
    let limit = LIMIT;
    cluster.eventually("records of transactions", limit, || {
        let offsets = end_offsets(&bootstrap)?;
        ensure!(offsets > 100, "{offsets} records");
        Ok(())
    })?;
    cluster.kill(dead)?;
    let produced = producer.end(limit).map_err(|error| error.context(cluster.logs()))?;
    ensure!(produced.contains(&format!("{records} records sent")), "{produced}");
    let consumed = consumer.end(limit).map_err(|error| error.context(cluster.logs()))?;
    let lines = consumed.lines().filter(|line| line.len() == 50).count();
    ensure!(lines == RECORDS, "{lines} of {RECORDS} records were read");
    Ok(())
}

/// The sum of the offsets at the ends of the partitions.
fn end_offsets(bootstrap: &str) -> Result<i64> {
    let binary = aqueduct_tests::aqueduct::binary()?;
    let output = Command::new(binary)
        .args(["topics", "offsets", "ledger", "--json", "--bootstrap-server", bootstrap])
        .output()?;
    let printed = text_of("aqueduct topics offsets", &output)?;
    let rows: serde_json::Value = serde_json::from_str(&printed).with_context(|| printed.clone())?;
    let rows = rows.as_array().with_context(|| printed.clone())?;
    rows.iter().map(|row| row["offset"].as_i64().with_context(|| printed.clone())).sum()
}

fn the_others_lead_what_it_led(cluster: &Cluster, tools: &mut Driver, dead: i32) -> Result<()> {
    let dead = dead.to_string();
    cluster.eventually("other leaders", LIMIT, || {
        let partitions = describe(cluster, tools, "orders")?;
        let moved = |p: &Described| p.leader != dead && p.leader != "none" && !p.isr.contains(&dead);
        ensure!(partitions.len() == 6 && partitions.iter().all(moved), "{partitions:?}");
        Ok(())
    })
}

fn all_replicas_are_in_sync_again(cluster: &Cluster, tools: &mut Driver) -> Result<()> {
    let bootstrap = cluster.bootstrap();
    let args = ["--bootstrap-server", &bootstrap, "--describe", "--under-replicated-partitions"];
    cluster.eventually("all replicas in sync", LIMIT, || {
        let printed = tools.tool(TOPICS, &args)?;
        ensure!(!printed.contains("Partition:"), "{printed}");
        let partitions = describe(cluster, tools, "orders")?;
        ensure!(partitions.iter().all(|p| p.isr.len() == 3), "{partitions:?}");
        Ok(())
    })
}

fn preferred_leaders_come_back(cluster: &Cluster, tools: &mut Driver) -> Result<()> {
    let bootstrap = cluster.bootstrap();
    let args = ["--bootstrap-server", &bootstrap, "--election-type", "preferred", "--all-topic-partitions"];
    cluster.eventually("the preferred leaders", LIMIT, || {
        tools.tool(ELECTION, &args)?;
        let partitions = describe(cluster, tools, "orders")?;
        ensure!(partitions.iter().all(|p| Some(&p.leader) == p.replicas.first()), "{partitions:?}");
        Ok(())
    })
}

/// Each node is stopped in order and started again under load: no error, no record lost or doubled.
fn nobody_notices_restarts_in_turn(cluster: &mut Cluster) -> Result<()> {
    let load = Load::start(cluster, "rolling", None)?;
    load.roll(cluster, Cluster::restart)?;
    let outcome = load.end(cluster)?;
    ensure!(outcome.acknowledged > 0, "{outcome:?}");
    Ok(())
}

fn a_partition_moves(cluster: &Cluster, tools: &mut Driver) -> Result<()> {
    let bootstrap = cluster.bootstrap();
    let create = ["--bootstrap-server", &bootstrap, "--create", "--topic", "moving"];
    tools.tool(TOPICS, &[&create[..], &["--replica-assignment", "1:2"]].concat())?;
    let lines: String = (0..100).map(|n| format!("record {n}\n")).collect();
    let produce = ["--bootstrap-server", &bootstrap, "--topic", "moving"];
    tools.tool_with_input(PRODUCER, &[&produce[..], &PATIENT].concat(), &lines)?;
    let plan = r#"{"version":1,"partitions":[{"topic":"moving","partition":0,"replicas":[3,2]}]}"#;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("plan.json");
    std::fs::write(&path, plan)?;
    let path = path.display().to_string();
    let args = ["--bootstrap-server", &bootstrap, "--reassignment-json-file", &path];
    tools.tool(REASSIGN, &[&args[..], &["--execute"]].concat())?;
    cluster.eventually("the end of a reassignment", LIMIT, || {
        let printed = tools.tool(REASSIGN, &[&args[..], &["--verify"]].concat())?;
        ensure!(printed.contains("moving-0 is completed"), "{printed}");
        let partitions = describe(cluster, tools, "moving")?;
        ensure!(partitions[0].replicas == ["3", "2"] && partitions[0].isr.len() == 2, "{partitions:?}");
        Ok(())
    })?;
    let consume = ["--bootstrap-server", &bootstrap, "--topic", "moving", "--from-beginning"];
    let more = ["--max-messages", "100", "--timeout-ms", "50000"];
    let printed = tools.tool(CONSUMER, &[&consume[..], &more].concat())?;
    let read = printed.lines().filter(|line| line.starts_with("record ")).count();
    ensure!(read == 100, "{read} of 100 records: {printed}");
    Ok(())
}

fn the_quorum_and_the_brokers_are_described(cluster: &Cluster, tools: &mut Driver) -> Result<()> {
    let bootstrap = cluster.bootstrap();
    let status = tools.tool(QUORUM, &["--bootstrap-server", &bootstrap, "describe", "--status"])?;
    ensure!(status.contains("LeaderId:") && status.contains("CurrentVoters:"), "{status}");
    let replication = tools.tool(QUORUM, &["--bootstrap-server", &bootstrap, "describe", "--replication"])?;
    let voters = replication.lines().filter(|line| line.contains("Leader") || line.contains("Follower"));
    ensure!(voters.count() >= 3, "{replication}");
    let id = tools.tool(CLUSTER, &["cluster-id", "--bootstrap-server", &bootstrap])?;
    ensure!(id.contains("Cluster ID: "), "{id}");
    let args = ["list-endpoints", "--include-fenced-brokers", "--bootstrap-server", &bootstrap];
    cluster.eventually("three brokers that serve", LIMIT, || {
        let endpoints = tools.tool(CLUSTER, &args)?;
        let unfenced = endpoints.lines().filter(|line| line.contains("unfenced")).count();
        ensure!(unfenced == 3, "{endpoints}");
        Ok(())
    })
}
