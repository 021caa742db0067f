//! One consumer reads what is not in memory; the others must not notice.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use aqueduct_tests::kafka::{text_of, tuned_java};

use super::latency::timed;
use super::{Args, PEERS, create};
use crate::peer::Broker;
use crate::report::Report;
use crate::wire::{self, Connection};

pub const NAME: &str = "isolation of a cold consumer";

pub fn measure(args: &Args, report: &mut Report) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    for start in PEERS {
        let broker = start(&[])?;
        create(&broker, "probe", 1, &[])?;
        create(&broker, "cold", 1, &[])?;
        fill(&broker, args.mib())?;
        for is_cold in [false, true] {
            let (times, bytes) = runtime.block_on(beside(&broker, args.duration(), is_cold))?;
            let name = format!("{NAME}: {}", if is_cold { "beside it" } else { "without it" });
            for (measure, percent) in [("p50, ms", 50.0), ("p99, ms", 99.0), ("p99.9, ms", 99.9)] {
                report.add(&name, measure, broker.name, times.at(percent));
            }
            if is_cold {
                let rate = bytes as f64 / f64::from(1 << 20) / args.duration().as_secs_f64();
                report.add(&name, "cold reads, MiB/s", broker.name, rate);
            }
        }
    }
    Ok(())
}

fn fill(broker: &Broker, mib: u64) -> Result<()> {
    let mut command = tuned_java("512m", "org.apache.kafka.tools.ProducerPerformance")?;
    command.args(["--topic", "cold", "--throughput", "-1", "--record-size", "1024"]);
    command.args(["--num-records", &(mib << 10).to_string(), "--bootstrap-server", &broker.bootstrap()]);
    command.args(["--command-property", "acks=1", "batch.size=65536"]);
    text_of("ProducerPerformance", &command.output()?).map(|_| ())
}

async fn beside(
    broker: &Broker,
    duration: Duration,
    is_cold: bool,
) -> Result<(crate::measure::Percentiles, u64)> {
    let (stop, bytes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let dir = broker.data().join("cold-0");
    let reader = is_cold.then(|| {
        let (port, stop, bytes) = (broker.port, stop.clone(), bytes.clone());
        tokio::spawn(async move { read(port, &dir, &stop, &bytes).await })
    });
    let times = timed(broker.port, duration).await?;
    stop.store(true, Ordering::Relaxed);
    if let Some(reader) = reader {
        reader.await??;
    }
    Ok((times, bytes.load(Ordering::Relaxed)))
}

/// Reads the topic again and again, each time from a disk that has it in no cache.
async fn read(port: u16, dir: &Path, stop: &AtomicBool, bytes: &AtomicU64) -> Result<()> {
    let mut connection = Connection::open(port).await?;
    let end = connection.ends("cold", 1).await?[0];
    let mut offset = end;
    while !stop.load(Ordering::Relaxed) {
        if offset >= end {
            drop_cache(dir)?;
            offset = 0;
        }
        let answer = connection.call(&wire::fetch("cold", &[offset], 500), wire::FETCH).await?;
        let records = answer.responses.first().and_then(|topic| topic.partitions.first()?.records.clone());
        let records = records.context("no records")?;
        bytes.fetch_add(records.len() as u64, Ordering::Relaxed);
        for batch in aqueduct_protocol::records::Batches::new(records).flatten() {
            offset = batch.header.next_offset().0;
        }
    }
    Ok(())
}

/// Has the kernel forget what it holds of the files in a directory, which it does once they are on the disk.
fn drop_cache(dir: &Path) -> Result<()> {
    for entry in std::fs::read_dir(dir)?.flatten() {
        let Ok(file) = File::open(entry.path()) else { continue };
        file.sync_all()?;
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    }
    Ok(())
}
