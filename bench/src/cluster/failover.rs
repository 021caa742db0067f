//! A node goes: how long its partitions take no records.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aqueduct_client::{Client, ClientConfig, Producer, ProducerRecord};

use super::nodes::{Cluster, SESSION, node_id};
use super::{Args, create};
use crate::report::{Demand, Report};
use crate::wire::Connection;

pub const KILLED: &str = "fail-over after kill -9, 1,000 partitions";
pub const STOPPED: &str = "fail-over after a controlled stop, 1,000 partitions";
pub const CONTROLLER: &str = "fail-over of the active controller";

const PARTITIONS: i32 = 1000;
/// So many of the partitions that the node leads are written to.
const SAMPLE: usize = 60;
/// Between two records for one partition.
const PACE: Duration = Duration::from_millis(20);
/// In this time everything has to go on again.
const LIMIT: Duration = Duration::from_secs(60);
/// A partition is at work when it takes so many records a second.
const RATE: u64 = 5;
/// All are for so long before anything happens, twice.
const STEADY: Duration = Duration::from_secs(3);
/// The longest pause until it happens: what is to be seen has to stand out from it.
const PAUSE_BEFORE: &str = "longest pause before, ms";
const PAUSE: &str = "longest pause, ms";
/// What comes later than the first acknowledgement of all is seen for so long.
const LATE: Duration = Duration::from_secs(2);

pub fn killed(args: &Args, report: &mut Report) -> Result<()> {
    report.demand(KILLED, "beyond detection, ms", Demand::Below(500.0));
    for peer in args.peers().iter().copied() {
        let mut cluster = Cluster::start(peer)?;
        let pauses = longest_pauses(&mut cluster, |cluster, node| {
            cluster.kill(node);
            Ok(())
        })?;
        cluster.end();
        report.add(KILLED, PAUSE_BEFORE, peer, millis(pauses[BEFORE]));
        report.add(KILLED, PAUSE, peer, millis(pauses[AFTER]));
        report.add(KILLED, "beyond detection, ms", peer, millis(pauses[AFTER].saturating_sub(SESSION)));
    }
    Ok(())
}

pub fn stopped(args: &Args, report: &mut Report) -> Result<()> {
    report.demand(STOPPED, PAUSE, Demand::Below(200.0));
    for peer in args.peers().iter().copied() {
        let mut cluster = Cluster::start(peer)?;
        let pauses = longest_pauses(&mut cluster, |cluster, node| cluster.stop(node))?;
        cluster.end();
        report.add(STOPPED, PAUSE_BEFORE, peer, millis(pauses[BEFORE]));
        report.add(STOPPED, PAUSE, peer, millis(pauses[AFTER]));
    }
    Ok(())
}

/// How long no topic can be created, the killed node's part as a broker aside.
pub fn controller(args: &Args, report: &mut Report) -> Result<()> {
    report.demand(CONTROLLER, "no change of metadata for, ms", Demand::Below(1000.0));
    for peer in args.peers().iter().copied() {
        let mut cluster = Cluster::start(peer)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let longest = runtime.block_on(async {
            let active = cluster.active_controller().await?;
            let other = cluster.ports[(active + 1) % cluster.ports.len()];
            let mut connection = Connection::open(other).await?;
            let (mut longest, mut last, mut killed) = (Duration::ZERO, Instant::now(), None);
            for topic in 0.. {
                if let Err(error) = connection.create_replicated(&format!("topic-{topic}"), 1, 1).await {
                    ensure!(last.elapsed() < LIMIT, "{error:#}");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
                let now = Instant::now();
                if killed.is_some() {
                    longest = longest.max(now - last);
                }
                if killed.is_some_and(|at| now - at > LATE) {
                    break;
                }
                last = now;
                if topic == 20 {
                    cluster.kill(active);
                    killed = Some(now);
                }
                tokio::time::sleep(PACE).await;
            }
            Ok::<_, anyhow::Error>(longest)
        })?;
        cluster.end();
        report.add(CONTROLLER, "no change of metadata for, ms", peer, millis(longest));
    }
    Ok(())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The parts of a measurement.
const WARMING: usize = 0;
const BEFORE: usize = 1;
const AFTER: usize = 2;
const OVER: usize = 3;

/// The longest time that any of the partitions was without an acknowledgement, for each part by where it ended.
type Pauses = [Duration; OVER];

/// Writes to partitions that a node leads which is not the active controller, while something happens to it.
fn longest_pauses(
    cluster: &mut Cluster,
    happens: impl FnOnce(&mut Cluster, usize) -> Result<()>,
) -> Result<Pauses> {
    create(cluster, "many", PARTITIONS)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (node, sample) = runtime.block_on(async {
        let node = (cluster.active_controller().await? + 1) % cluster.ports.len();
        let leaders = Connection::open(cluster.ports[node]).await?.leaders("many").await?;
        let led = leaders.iter().filter(|(_, leader)| **leader == node_id(node)).map(|(index, _)| *index);
        let led: Vec<i32> = led.collect();
        ensure!(led.len() >= SAMPLE, "node {} leads only {} partitions", node_id(node), led.len());
        let step = led.len() / SAMPLE;
        Ok((node, led.into_iter().step_by(step).take(SAMPLE).collect::<Vec<_>>()))
    })?;
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
    let phase = Arc::new(AtomicUsize::new(WARMING));
    let inside = runtime.enter();
    let client = Client::new(ClientConfig::from_properties(&settings)?.0);
    let acknowledged: Vec<_> = sample.iter().map(|_| Arc::new(AtomicU64::new(0))).collect();
    let writers: Vec<_> = std::iter::zip(&sample, &acknowledged)
        .map(|(partition, acknowledged)| {
            let writer = Writer {
                producer: Producer::new(client.clone()),
                partition: *partition,
                acknowledged: acknowledged.clone(),
                phase: phase.clone(),
            };
            runtime.spawn(writer.write())
        })
        .collect();
    wait_until_warm(&acknowledged)?;
    phase.store(BEFORE, Ordering::Relaxed);
    std::thread::sleep(STEADY);
    phase.store(AFTER, Ordering::Relaxed);
    happens(cluster, node)?;
    // The first may have been on its way before.
    let enough: Vec<u64> = acknowledged.iter().map(|count| count.load(Ordering::Relaxed) + 2).collect();
    let from = Instant::now();
    while std::iter::zip(&acknowledged, &enough)
        .any(|(count, enough)| count.load(Ordering::Relaxed) < *enough)
    {
        ensure!(from.elapsed() < LIMIT, "not all partitions of node {} take records again", node_id(node));
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(LATE);
    phase.store(OVER, Ordering::Relaxed);
    let pauses = runtime.block_on(async {
        let mut all = Pauses::default();
        for writer in writers {
            let one = writer.await.context("a writer panicked")??;
            all = std::array::from_fn(|phase| all[phase].max(one[phase]));
        }
        client.close().await;
        Ok::<_, anyhow::Error>(all)
    });
    drop(inside);
    runtime.shutdown_timeout(Duration::from_secs(5));
    pauses
}

/// Waits until all partitions are at work. A cluster says who leads new partitions before those have made their logs, which
/// can take it many seconds: what happens meanwhile is seen by no writer.
fn wait_until_warm(acknowledged: &[Arc<AtomicU64>]) -> Result<()> {
    let from = Instant::now();
    let counts = || acknowledged.iter().map(|count| count.load(Ordering::Relaxed)).collect::<Vec<u64>>();
    let (mut before, mut steady) = (counts(), Instant::now());
    while steady.elapsed() < STEADY {
        ensure!(from.elapsed() < LIMIT * 2, "not all partitions take {RATE} records a second: {before:?}");
        std::thread::sleep(Duration::from_secs(1));
        let now = counts();
        if std::iter::zip(&before, &now).any(|(before, now)| now - before < RATE) {
            steady = Instant::now();
        }
        before = now;
    }
    Ok(())
}

/// Writes one record after the other to a partition.
struct Writer {
    producer: Producer,
    partition: i32,
    acknowledged: Arc<AtomicU64>,
    phase: Arc<AtomicUsize>,
}

impl Writer {
    async fn write(self) -> Result<Pauses> {
        const VALUE: &str = "a record to see whether it goes through";
        let (mut last, mut longest): (Option<Instant>, _) = (None, Pauses::default());
        loop {
            let record = ProducerRecord::new("many", VALUE).with_partition(self.partition);
            let is_done = self.producer.send(record).await?.await.is_ok();
            let phase = self.phase.load(Ordering::Relaxed);
            if phase == OVER {
                break;
            }
            if is_done {
                let now = Instant::now();
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
                if let Some(last) = last.replace(now) {
                    longest[phase] = longest[phase].max(now - last);
                }
            }
            tokio::time::sleep(PACE).await;
        }
        self.producer.abandon();
        Ok(longest)
    }
}
