//! Records through three replicas.

use std::time::Duration;

use anyhow::Result;
use aqueduct_tests::process::Process;
use tempfile::TempDir;

use super::nodes::Cluster;
use super::{Args, create};
use crate::broker::timed;
use crate::load::Load;
use crate::measure::Percentiles;
use crate::report::{Demand, Report};
use crate::wire::Connection;

pub const THROUGHPUT: &str = "produce, 3 replicas, acks all";
pub const LATENCY: &str = "latency at half of saturation, 3 replicas";

const RECORD: u64 = 1024;
const PARTITIONS: i32 = 6;

/// As fast as the Java producer can.
pub fn throughput(args: &Args, report: &mut Report) -> Result<()> {
    for batch_kib in [64, 16] {
        let name = format!("{THROUGHPUT}, {batch_kib} KiB batches");
        report.demand(&name, "client, MiB/s", Demand::Times(1.5));
        for peer in args.peers().iter().copied() {
            let cluster = Cluster::start(peer)?;
            create(&cluster, "load", PARTITIONS)?;
            let records = (args.mib() << 20) / RECORD;
            // The first run warms up.
            load(&cluster, records / 4, batch_kib, None).run()?;
            let cpu = cluster.cpu()?;
            let reached = load(&cluster, records, batch_kib, None).run()?;
            let gib = (records * RECORD) as f64 / f64::from(1 << 30);
            report.add(&name, "client, MiB/s", peer, reached);
            report.add(&name, "brokers' CPU s/GiB", peer, (cluster.cpu()? - cpu) / gib);
            report.add(&name, "peak resident, MiB", peer, cluster.memory()?.1);
        }
    }
    Ok(())
}

/// From producer to consumer while half of what the slower of the peers can take is written.
pub fn latency(args: &Args, report: &mut Report) -> Result<()> {
    let mut lowest = f64::MAX;
    for peer in args.peers().iter().copied() {
        let cluster = Cluster::start(peer)?;
        create(&cluster, "load", PARTITIONS)?;
        let records = (args.mib() << 20) / RECORD;
        load(&cluster, records / 4, 64, None).run()?;
        lowest = lowest.min(load(&cluster, records, 64, None).run()?);
    }
    for peer in args.peers().iter().copied() {
        let cluster = Cluster::start(peer)?;
        create(&cluster, "load", PARTITIONS)?;
        create(&cluster, "probe", 1)?;
        let times = probe(&cluster, args.duration(), lowest / 2.0)?;
        report.add(LATENCY, "load, MiB/s", peer, lowest / 2.0);
        for (measure, percent) in [("p50, ms", 50.0), ("p99, ms", 99.0), ("p99.9, ms", 99.9)] {
            report.add(LATENCY, measure, peer, times.at(percent));
        }
    }
    Ok(())
}

fn probe(cluster: &Cluster, duration: Duration, mib_per_second: f64) -> Result<Percentiles> {
    let records = (mib_per_second * 1024.0 * (duration.as_secs_f64() + 6.0)) as u64;
    let dir = TempDir::with_prefix("bench-latency-")?;
    let mut command = load(cluster, records, 64, Some(mib_per_second)).command()?;
    let mut loader = Process::start("load", &mut command, &dir.path().join("log"))?;
    // The producer starts, and its first seconds are those of its compiler.
    std::thread::sleep(Duration::from_secs(5));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let times = runtime.block_on(async {
        let leader = Connection::open(cluster.ports[0]).await?.leader_port("probe").await?;
        timed(leader, duration).await
    });
    loader.kill();
    times
}

/// What the Java producer writes to the topic `load`.
pub fn load(cluster: &Cluster, records: u64, batch_kib: u64, mib_per_second: Option<f64>) -> Load<'static> {
    let bootstrap = cluster.bootstrap();
    Load {
        bootstrap,
        topic: "load",
        records,
        record: RECORD,
        batch_kib,
        acks: "all",
        codec: "none",
        mib_per_second,
    }
}
