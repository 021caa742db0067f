//! What administrators do with a running cluster, with Kafka's tools and with our own commands: replicas moved within
//! limits and called off, brokers drained, leaders elected, the voters of the quorum changed.

use std::fmt::Debug;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use aqueduct_tests::aqueduct::binary;
use aqueduct_tests::cluster::Cluster;
use aqueduct_tests::kafka::java;
use aqueduct_tests::process::Process;
use aqueduct_tests::tools::Driver;
use serde_json::Value;
use tempfile::TempDir;

use crate::{CLUSTER, Described, LIMIT, QUORUM, REASSIGN, TOPICS, describe};

const CONFIGS: &str = "kafka.admin.ConfigCommand";
const VERIFICATION: &str = "org.apache.kafka.tools.ReplicaVerificationTool";

/// The size of the partition that is moved.
const RECORDS: usize = 600;
const RECORD_BYTES: usize = 10_000;

/// What our binary prints, whether it succeeds or not.
struct Printed {
    is_success: bool,
    out: String,
    err: String,
}

fn ask(cluster: &Cluster, args: &[&str]) -> Result<Printed> {
    let output = Command::new("timeout")
        .arg("120")
        .arg(binary()?)
        .args(args)
        .args(["--bootstrap-server", &cluster.bootstrap()])
        .output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Printed { is_success: output.status.success(), out: text(&output.stdout), err: text(&output.stderr) })
}

fn aqueduct(cluster: &Cluster, args: &[&str]) -> Result<String> {
    let printed = ask(cluster, args)?;
    ensure!(printed.is_success, "aqueduct {args:?}: {}{}", printed.out, printed.err);
    Ok(printed.out)
}

fn json(cluster: &Cluster, args: &[&str]) -> Result<Value> {
    let printed = aqueduct(cluster, &[args, &["--json"]].concat())?;
    serde_json::from_str(&printed).with_context(|| printed.clone())
}

fn replicas(cluster: &Cluster, topic: &str) -> Result<Vec<Vec<i64>>> {
    let described = json(cluster, &["topics", "describe", topic])?;
    let partitions = described[0]["partitions"].as_array().context("partitions")?;
    let ids =
        |one: &Value| one["replicas"].as_array().into_iter().flatten().filter_map(Value::as_i64).collect();
    Ok(partitions.iter().map(ids).collect())
}

/// The settings that limit how fast replicas are copied, of a topic and of all brokers.
fn throttles(cluster: &Cluster, tools: &mut Driver, topic: &str) -> Result<Vec<String>> {
    let bootstrap = cluster.bootstrap();
    let mut found = Vec::new();
    for entity in
        [["--entity-type", "topics", "--entity-name", topic].as_slice(), &["--entity-type", "brokers"]]
    {
        let args = [&["--bootstrap-server", &bootstrap, "--describe"], entity].concat();
        let printed = tools.tool(CONFIGS, &args)?;
        let lines = printed.lines().map(str::trim).filter(|line| line.contains(".replication.throttled."));
        found.extend(lines.map(str::to_owned));
    }
    Ok(found)
}

/// Waits until the broker that is asked shows it: each hears of a change in its own time.
fn shown<T: Debug>(
    cluster: &Cluster,
    what: &str,
    mut ask: impl FnMut() -> Result<T>,
    is_right: impl Fn(&T) -> bool,
) -> Result<()> {
    cluster.eventually(what, LIMIT, || {
        let found = ask()?;
        ensure!(is_right(&found), "{found:?}");
        Ok(())
    })
}

fn no_throttles(cluster: &Cluster, tools: &mut Driver, topic: &str) -> Result<()> {
    shown(cluster, "no limits", || throttles(cluster, tools, topic), Vec::is_empty)
}

fn replicas_are(cluster: &Cluster, topic: &str, wanted: &[[i64; 2]]) -> Result<()> {
    shown(cluster, "the replicas", || replicas(cluster, topic), |found| found == wanted)
}

/// A partition of some megabytes is moved so slowly that it can be watched and called off, then fast; by Kafka's tool and by ours.
pub fn replicas_move_within_limits(cluster: &Cluster, tools: &mut Driver) -> Result<()> {
    let bootstrap = cluster.bootstrap();
    let create = ["--bootstrap-server", &bootstrap, "--create", "--topic", "large"];
    tools.tool(TOPICS, &[&create[..], &["--replica-assignment", "1:2"]].concat())?;
    let (records, size) = (RECORDS.to_string(), RECORD_BYTES.to_string());
    aqueduct(cluster, &["perf", "produce", "large", "--num-records", &records, "--record-size", &size])?;
    let dir = TempDir::new()?;
    let path = dir.path().join("plan.json");
    std::fs::write(
        &path,
        r#"{"version":1,"partitions":[{"topic":"large","partition":0,"replicas":[3,2]}]}"#,
    )?;
    let path = path.display().to_string();

    let args = ["--bootstrap-server", &bootstrap, "--reassignment-json-file", &path];
    tools.tool(REASSIGN, &[&args[..], &["--execute", "--throttle", "20000"]].concat())?;
    let has = |limits: &[String], text: &str| limits.iter().any(|line| line.contains(text));
    let is_limited = |limits: &Vec<String>| {
        has(limits, "leader.replication.throttled.replicas=0:1,0:2")
            && has(limits, "follower.replication.throttled.replicas=0:3")
    };
    shown(cluster, "the limits", || throttles(cluster, tools, "large"), is_limited)?;
    let is_on_its_way = |listed: &Value| {
        let (copied, of) = (listed[0]["copied"].as_u64(), listed[0]["of"].as_u64());
        let is_large = of > Some((RECORDS * RECORD_BYTES) as u64) && copied < of;
        listed[0]["topic"] == "large" && listed[0]["adding"] == 3 && is_large
    };
    shown(cluster, "the move", || json(cluster, &["reassign", "list"]), is_on_its_way)?;
    let verified = tools.tool(REASSIGN, &[&args[..], &["--verify"]].concat())?;
    ensure!(verified.contains("large-0 is still in progress"), "{verified}");
    let second = ask(cluster, &["reassign", "execute", &path])?;
    ensure!(!second.is_success && second.err.contains("being reassigned already"), "{}", second.err);
    tools.tool(REASSIGN, &[&args[..], &["--cancel"]].concat())?;
    // As in Apache Kafka those that were wanted come first.
    replicas_are(cluster, "large", &[[2, 1]])?;
    no_throttles(cluster, tools, "large")?;

    let printed = aqueduct(cluster, &["reassign", "execute", &path, "--throttle", "20000", "--no-wait"])?;
    ensure!(printed.contains(r#""replicas":[2,1]"#), "the way back: {printed}");
    shown(cluster, "limits", || throttles(cluster, tools, "large"), |limits| !limits.is_empty())?;
    let verified = ask(cluster, &["reassign", "verify", &path])?;
    ensure!(
        !verified.is_success && verified.err.contains("still moving"),
        "{}{}",
        verified.out,
        verified.err
    );
    aqueduct(cluster, &["reassign", "cancel", &path])?;
    no_throttles(cluster, tools, "large")?;
    replicas_are(cluster, "large", &[[2, 1]])?;
    let printed = ask(cluster, &["reassign", "execute", &path, "--throttle", "100000000"])?;
    ensure!(printed.is_success, "{}{}", printed.out, printed.err);
    ensure!(printed.err.contains("(100.0 %), 1 of 1 partitions done"), "{}", printed.err);
    replicas_are(cluster, "large", &[[3, 2]])?;
    no_throttles(cluster, tools, "large")?;

    let unknown = r#"{"version":1,"partitions":[{"topic":"large","partition":0,"replicas":[3,9]}]}"#;
    std::fs::write(&path, unknown)?;
    let refused = ask(cluster, &["reassign", "execute", &path])?;
    ensure!(!refused.is_success && refused.err.contains("broker 9, which does not run"), "{}", refused.err);
    Ok(())
}

/// Which brokers lead partitions.
fn leaders(cluster: &Cluster) -> Result<Vec<i64>> {
    let described = json(cluster, &["topics", "describe"])?;
    let topics = described.as_array().context("topics")?.iter();
    let partitions = topics.flat_map(|topic| topic["partitions"].as_array().into_iter().flatten());
    Ok(partitions.map(|one| one["leader"].as_i64().unwrap_or(-1)).collect())
}

pub fn leaders_are_elected_and_moved_away(cluster: &Cluster) -> Result<()> {
    ensure!(leaders(cluster)?.contains(&2));
    aqueduct(cluster, &["drain", "2", "--leaders-only"])?;
    shown(cluster, "other leaders", || leaders(cluster), |leaders| !leaders.contains(&2))?;
    aqueduct(cluster, &["elect", "preferred", "orders:0,1", "ledger"])?;
    let printed = aqueduct(cluster, &["elect", "preferred", "orders:0,1", "ledger"])?;
    ensure!(printed.contains("5 needed none"), "{printed}");
    aqueduct(cluster, &["elect", "preferred", "--all"])?;
    let refused = ask(cluster, &["elect", "unclean", "orders:77"])?;
    ensure!(!refused.is_success && refused.err.contains("orders-77"), "{}", refused.err);
    // Three replicas of each do not fit on two brokers.
    let refused = ask(cluster, &["drain", "2"])?;
    ensure!(!refused.is_success && refused.err.contains("is to have 3 replicas"), "{}", refused.err);
    for args in [&["drain", "9"][..], &["drain", "9", "--leaders-only"]] {
        let refused = ask(cluster, args)?;
        let says = |part: &str| refused.err.contains(part);
        ensure!(!refused.is_success && says("no broker 9") && says("1, 2"), "{}", refused.err);
    }
    Ok(())
}

/// `kafka-replica-verification` compares what all replicas have; it goes on until it is ended.
pub fn replicas_are_found_equal(cluster: &Cluster) -> Result<()> {
    let dir = TempDir::new()?;
    let mut command = java("128m", VERIFICATION)?;
    command.args(["--broker-list", &cluster.bootstrap(), "--topics-include", "orders|large"]);
    command.args(["--report-interval-ms", "500"]);
    let process = Process::start("replica verification", &mut command, &dir.path().join("log"))?;
    cluster.eventually("the same in all replicas", LIMIT, || {
        let printed = process.log();
        ensure!(printed.contains("max lag is 0 for partition"), "{printed}");
        Ok(())
    })
}

fn voters_are(cluster: &Cluster, wanted: &[i64]) -> Result<()> {
    let voters = || -> Result<Vec<i64>> {
        let status = json(cluster, &["quorum", "status"])?;
        Ok(status["voters"].as_array().into_iter().flatten().filter_map(Value::as_i64).collect())
    };
    shown(cluster, "the voters", voters, |found| found == wanted)
}

/// A node is added, takes over all that another has, gets a vote and loses it again, and leaves.
pub fn a_fourth_node_takes_over_and_gets_a_vote(cluster: &mut Cluster, tools: &mut Driver) -> Result<()> {
    cluster.join(4, &[])?;
    cluster.eventually("the fourth broker", LIMIT, || {
        let printed = aqueduct(cluster, &["drain", "2", "--dry-run"])?;
        ensure!(printed.contains("orders"), "{printed}");
        Ok(())
    })?;
    let printed = aqueduct(cluster, &["drain", "2", "--throttle", "50000000"])?;
    ensure!(printed.contains("Broker 2 has no replicas."), "{printed}");
    for topic in ["orders", "ledger", "large", "__consumer_offsets", "__transaction_state"] {
        let is_left = |all: &Vec<Vec<i64>>| all.iter().all(|ids| !ids.contains(&2));
        shown(cluster, topic, || replicas(cluster, topic), is_left)?;
    }
    no_throttles(cluster, tools, "orders")?;
    let is_whole = |p: &Described| p.isr.len() == 3 && p.leader != "2";
    let are_whole = |all: &Vec<Described>| all.iter().all(is_whole);
    shown(cluster, "all in sync", || describe(cluster, tools, "orders"), are_whole)?;

    let bootstrap = cluster.bootstrap();
    voters_are(cluster, &[1, 2, 3])?;
    let properties = cluster.properties(4).display().to_string();
    let command = ["--bootstrap-server", &bootstrap, "--command-config", &properties, "add-controller"];
    tools.tool(QUORUM, &command)?;
    voters_are(cluster, &[1, 2, 3, 4])?;
    let directory = cluster.eventually("the fourth voter", LIMIT, || {
        let replication = json(cluster, &["quorum", "replication"])?;
        let fourth = replication.as_array().into_iter().flatten().find(|row| row["node"] == 4);
        let directory = fourth.and_then(|row| row["directory"].as_str());
        directory.map(str::to_owned).with_context(|| replication.to_string())
    })?;
    let remove = ["--bootstrap-server", &bootstrap, "remove-controller", "--controller-id", "4"];
    tools.tool(QUORUM, &[&remove[..], &["--controller-directory-id", &directory]].concat())?;
    voters_are(cluster, &[1, 2, 3])?;
    aqueduct(cluster, &["quorum", "add", "4"])?;
    voters_are(cluster, &[1, 2, 3, 4])?;
    let again = ask(cluster, &["quorum", "add", "4"])?;
    ensure!(!again.is_success && again.err.contains("votes already"), "{}", again.err);
    aqueduct(cluster, &["quorum", "remove", "2"])?;
    voters_are(cluster, &[1, 3, 4])?;

    cluster.stop(2)?;
    tools.tool(CLUSTER, &["unregister", "--bootstrap-server", &cluster.bootstrap_without(2), "--id", "2"])?;
    let args = ["list-endpoints", "--include-fenced-brokers", "--bootstrap-server"];
    // Each of the others hears of it in its own time.
    cluster.eventually("the broker is forgotten", LIMIT, || {
        let endpoints = tools.tool(CLUSTER, &[&args[..], &[&cluster.bootstrap_without(2)]].concat())?;
        ensure!(!endpoints.lines().any(|line| line.starts_with("2 ")), "{endpoints}");
        Ok(())
    })
}
