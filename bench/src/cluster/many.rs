//! Ten thousand partitions on three nodes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::Args;
use super::nodes::{Cluster, NODES};
use crate::report::{Demand, OURS, Report};
use crate::wire::Connection;

pub const NAME: &str = "many partitions, 3 replicas";

const OF_A_TOPIC: i32 = 500;
const LIMIT: Duration = Duration::from_secs(300);

pub fn measure(args: &Args, report: &mut Report) -> Result<()> {
    report.demand(NAME, "created and led, s", Demand::Below(15.0));
    report.demand(NAME, "led after a cold start, s", Demand::Below(3.0));
    for peer in args.peers().iter().copied() {
        let (count, quick) = match peer {
            OURS => (args.partitions.unwrap_or(10_000), 1000),
            _ => (args.peer_partitions.unwrap_or(2000), 500),
        };
        let count = if args.choice.quick { quick } else { count };
        let mut cluster = Cluster::start(peer)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let created = runtime.block_on(create(&cluster, count))?;
        report.add(NAME, "partitions", peer, f64::from(count));
        report.add(NAME, "created and led, s", peer, created.as_secs_f64());
        report.add(NAME, "resident, MiB", peer, cluster.memory()?.0);
        let nodes: Vec<usize> = (0..NODES).collect();
        // The last one has no quorum that would relieve it: Apache Kafka then waits for minutes.
        let (last, others) = nodes.split_last().context("there are nodes")?;
        others.iter().try_for_each(|node| cluster.stop(*node))?;
        cluster.kill(*last);
        let from = cluster.restart(&nodes)?;
        runtime.block_on(all_led(&cluster, count))?;
        report.add(NAME, "led after a cold start, s", peer, from.elapsed().as_secs_f64());
        cluster.end();
    }
    Ok(())
}

async fn create(cluster: &Cluster, count: i32) -> Result<Duration> {
    let mut connection = Connection::open(cluster.ports[0]).await?;
    let from = Instant::now();
    // Nodes that have just started are not all counted yet.
    while let Err(error) = connection.create_replicated("warm", 1, 3).await {
        ensure!(from.elapsed() < LIMIT, "{error:#}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let from = Instant::now();
    for topic in 0..count / OF_A_TOPIC {
        connection.create_replicated(&format!("many-{topic}"), OF_A_TOPIC, 3).await?;
    }
    all_led(cluster, count).await?;
    Ok(from.elapsed())
}

/// Waits until every node says that all partitions are led.
async fn all_led(cluster: &Cluster, count: i32) -> Result<()> {
    let from = Instant::now();
    for port in &cluster.ports {
        let mut connection = Connection::open(*port).await?;
        while connection.led().await? < count as usize {
            ensure!(from.elapsed() < LIMIT, "not all of {count} partitions are led");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}
