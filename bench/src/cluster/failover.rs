//! A node goes: how long its partitions take no records.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aqueduct_client::{Client, ClientConfig, Producer, ProducerRecord};

use super::nodes::{Cluster, PEERS, SESSION};
use super::{Args, create};
use crate::report::{Demand, Report};

pub const KILLED: &str = "fail-over after kill -9, 1,000 partitions";
pub const STOPPED: &str = "fail-over after a controlled stop, 1,000 partitions";

const PARTITIONS: i32 = 1000;
/// Of the partitions so many are written to, which lie with all leaders.
const SAMPLE: i32 = 60;
/// Between two records for one partition.
const PACE: Duration = Duration::from_millis(20);

pub fn killed(_: &Args, report: &mut Report) -> Result<()> {
    report.demand(KILLED, "beyond detection, ms", Demand::Below(500.0));
    for peer in PEERS {
        let mut cluster = Cluster::start(peer)?;
        let longest = longest_pause(&mut cluster, |cluster| {
            cluster.kill(1);
            Ok(())
        })?;
        report.add(KILLED, "longest pause, ms", peer, millis(longest));
        report.add(KILLED, "beyond detection, ms", peer, millis(longest.saturating_sub(SESSION)));
    }
    Ok(())
}

pub fn stopped(_: &Args, report: &mut Report) -> Result<()> {
    report.demand(STOPPED, "longest pause, ms", Demand::Below(200.0));
    for peer in PEERS {
        let mut cluster = Cluster::start(peer)?;
        let longest = longest_pause(&mut cluster, |cluster| cluster.stop(1))?;
        report.add(STOPPED, "longest pause, ms", peer, millis(longest));
    }
    Ok(())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Writes to a sample of the partitions all the time while something happens; gives the longest time that any of them was
/// without an acknowledgement.
fn longest_pause(
    cluster: &mut Cluster,
    happens: impl FnOnce(&mut Cluster) -> Result<()>,
) -> Result<Duration> {
    create(cluster, "many", PARTITIONS)?;
    let settings = [
        ("bootstrap.servers", cluster.bootstrap()),
        ("acks", "all".to_owned()),
        ("retry.backoff.ms", "10".to_owned()),
        ("retry.backoff.max.ms", "50".to_owned()),
        ("request.timeout.ms", "3000".to_owned()),
        ("delivery.timeout.ms", "10000".to_owned()),
    ];
    let settings: BTreeMap<String, String> =
        settings.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let stop = Arc::new(AtomicBool::new(false));
    let inside = runtime.enter();
    let client = Client::new(ClientConfig::from_properties(&settings)?.0);
    let writers: Vec<_> = (0..SAMPLE)
        .map(|writer| {
            let (producer, stop) = (Producer::new(client.clone()), stop.clone());
            runtime.spawn(write(producer, writer * PARTITIONS / SAMPLE, stop))
        })
        .collect();
    // All are warm, and a moment is for what happens to be seen.
    std::thread::sleep(Duration::from_secs(5));
    happens(cluster)?;
    std::thread::sleep(SESSION + Duration::from_secs(12));
    stop.store(true, Ordering::Relaxed);
    let longest = runtime.block_on(async {
        let mut longest = Duration::ZERO;
        for writer in writers {
            longest = longest.max(writer.await.context("a writer panicked")??);
        }
        client.close().await;
        Ok::<_, anyhow::Error>(longest)
    });
    drop(inside);
    runtime.shutdown_timeout(Duration::from_secs(5));
    longest
}

/// One record after the other; gives the longest time between two acknowledgements.
async fn write(producer: Producer, partition: i32, stop: Arc<AtomicBool>) -> Result<Duration> {
    let mut last: Option<Instant> = None;
    let mut longest = Duration::ZERO;
    let warm = Instant::now() + Duration::from_secs(3);
    while !stop.load(Ordering::Relaxed) {
        let record =
            ProducerRecord::new("many", "a record to see whether it goes through").with_partition(partition);
        let done = producer.send(record).await?.await;
        let now = Instant::now();
        if done.is_ok()
            && let Some(last) = last.replace(now).filter(|last| *last > warm)
        {
            longest = longest.max(now - last);
        }
        tokio::time::sleep(PACE).await;
    }
    // It may have been without one to the end.
    if let Some(last) = last.filter(|last| *last > warm) {
        longest = longest.max(last.elapsed());
    }
    producer.abandon();
    Ok(longest)
}
