//! Partitions move to another broker under a throttle, while others are written to.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aqueduct_client::{Admin, ConfigOp, ConfigResource, NewTopic, TopicPartition};
use aqueduct_protocol::ids::BrokerId;
use aqueduct_tests::process::Process;
use tempfile::TempDir;

use super::nodes::{Cluster, node_id};
use super::{Args, create, flow};
use crate::broker::timed;
use crate::report::{Demand, Report};
use crate::wire::Connection;

pub const NAME: &str = "reassignment under a throttle";

/// All of them on the first node, then all on the second.
const PARTITIONS: i32 = 8;
const TOPIC: &str = "big";
const BATCH: usize = 1 << 20;
/// What clients write meanwhile.
const LOAD_MIB: f64 = 8.0;
/// Until the Java producer writes as it does from then on.
const WARM: Duration = Duration::from_secs(8);
const LIMIT: Duration = Duration::from_secs(1800);

pub fn measure(args: &Args, report: &mut Report) -> Result<()> {
    report.demand(NAME, "off the throttle, %", Demand::Below(10.0));
    report.demand(NAME, "p99 moves by, %", Demand::Below(20.0));
    let (mib, throttle_mib) = (args.move_mib(), args.throttle_mib());
    for peer in args.peers().iter().copied() {
        let cluster = Cluster::start(peer)?;
        create(&cluster, "load", 6)?;
        create(&cluster, "probe", 1)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(fill(&cluster, mib))?;
        let expected = Duration::from_secs_f64(mib as f64 / throttle_mib as f64);
        // As long as it moves, the ends aside.
        let window = expected.mul_f64(0.8);
        let seconds = (WARM + window + expected).as_secs_f64() + 60.0;
        let dir = TempDir::with_prefix("bench-load-")?;
        let mut command =
            flow::load(&cluster, (LOAD_MIB * 1024.0 * seconds) as u64, 64, Some(LOAD_MIB)).command()?;
        let mut loader = Process::start("load", &mut command, &dir.path().join("log"))?;
        std::thread::sleep(WARM);
        let (before, during, took) = runtime.block_on(async {
            let leader = Connection::open(cluster.ports[0]).await?.leader_port("probe").await?;
            let before = timed(leader, window).await?;
            let from = Instant::now();
            let admin = cluster.admin()?;
            throttle(&admin, throttle_mib << 20).await?;
            reassign(&admin, 1).await?;
            let (during, took) = tokio::join!(timed(leader, window), moved(&admin, 1, from));
            Ok::<_, anyhow::Error>((before, during?, took?))
        })?;
        loader.kill();
        let rate = mib as f64 / took.as_secs_f64();
        report.add(NAME, "moved, MiB", peer, mib as f64);
        report.add(NAME, "throttle, MiB/s", peer, throttle_mib as f64);
        report.add(NAME, "reached, MiB/s", peer, rate);
        report.add(NAME, "off the throttle, %", peer, (rate / throttle_mib as f64 - 1.0).abs() * 100.0);
        report.add(NAME, "p99 before, ms", peer, before.at(99.0));
        report.add(NAME, "p99 during, ms", peer, during.at(99.0));
        report.add(NAME, "p99 moves by, %", peer, (during.at(99.0) / before.at(99.0) - 1.0) * 100.0);
    }
    Ok(())
}

/// Writes so many MiB to partitions that are on the first node alone.
async fn fill(cluster: &Cluster, mib: u64) -> Result<()> {
    let port = cluster.ports[0];
    let admin = cluster.admin()?;
    admin.ensure_topic(&NewTopic::new(TOPIC, PARTITIONS, 1)).await?;
    reassign(&admin, 0).await?;
    moved(&admin, 0, Instant::now()).await?;
    // Until all of them are ready.
    Connection::open(port).await?.produce(TOPIC, PARTITIONS).await?;
    let each = (mib << 20) / BATCH as u64 / PARTITIONS as u64;
    let writers = (0..PARTITIONS).map(|index| async move {
        let mut connection = Connection::open(port).await?;
        // One record: the batch is made once.
        let values = ["v".repeat(BATCH - 256)];
        for _ in 0..each {
            connection.append(TOPIC, index, &values).await?;
        }
        Ok::<_, anyhow::Error>(())
    });
    futures_util::future::try_join_all(writers).await?;
    Ok(())
}

/// Limits what moves to and from the first two nodes.
async fn throttle(admin: &Admin, bytes_per_second: u64) -> Result<()> {
    const RATES: [&str; 2] = ["leader.replication.throttled.rate", "follower.replication.throttled.rate"];
    const REPLICAS: [&str; 2] =
        ["leader.replication.throttled.replicas", "follower.replication.throttled.replicas"];
    let set = |keys: [&str; 2], value: &str| {
        keys.map(|key| (key.to_owned(), ConfigOp::Set(value.to_owned()))).into()
    };
    let rate = bytes_per_second.to_string();
    for node in [0, 1] {
        alter(admin, ConfigResource::Broker(broker(node)), set(RATES, &rate)).await?;
    }
    alter(admin, ConfigResource::Topic(TOPIC.into()), set(REPLICAS, "*")).await
}

async fn alter(admin: &Admin, resource: ConfigResource, changes: Vec<(String, ConfigOp)>) -> Result<()> {
    let results = admin.incremental_alter_configs(&[(resource, changes)]).await?;
    results.into_values().try_for_each(|result| Ok(result?))
}

fn broker(node: usize) -> BrokerId {
    BrokerId(node_id(node))
}

/// Has all partitions moved to one node.
async fn reassign(admin: &Admin, node: usize) -> Result<()> {
    let wanted = |index| (TopicPartition::new(TOPIC, index), Some(vec![broker(node)]));
    let results = admin.alter_partition_reassignments(&(0..PARTITIONS).map(wanted).collect()).await?;
    results.into_values().try_for_each(|result| Ok(result?))
}

/// Waits until they are there; gives how long that took.
async fn moved(admin: &Admin, node: usize, from: Instant) -> Result<Duration> {
    while !admin.list_partition_reassignments().await?.is_empty() {
        ensure!(from.elapsed() < LIMIT, "the partitions still move");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let took = from.elapsed();
    // What a broker answers about leaders may be a moment old.
    loop {
        let topics = admin.describe_topics(&[TOPIC.into()]).await?;
        let topic = topics.into_values().next().context("the topic is gone")??;
        if topic.partitions.iter().all(|partition| partition.leader == Some(broker(node))) {
            return Ok(took);
        }
        ensure!(from.elapsed() < LIMIT, "broker {} does not lead what has moved to it", node_id(node));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
