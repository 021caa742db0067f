//! From producer to consumer under load: half of what the slower of the peers can take, the same for both.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use aqueduct_protocol::messages::ProduceRequest;
use aqueduct_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use aqueduct_protocol::records::{BatchBuilder, Compression};
use aqueduct_tests::process::Process;
use tokio::sync::mpsc;

use super::{Args, PEERS, create};
use crate::load::Load;
use crate::measure::{Percentiles, cpu_seconds};
use crate::peer::Broker;
use crate::report::Report;
use crate::wire::{self, Connection};

pub const NAMES: [&str; 2] =
    ["latency at half of saturation", "latency at half of saturation, with compaction and retention"];

/// Records of the load, in bytes.
const RECORD: u64 = 1024;
/// Between two records whose way is timed.
const PACE: Duration = Duration::from_millis(5);

pub fn measure(args: &Args, names: &[&str], report: &mut Report) -> Result<()> {
    let mut lowest = f64::MAX;
    for start in PEERS {
        let broker = start(&[])?;
        create(&broker, "load", 3, &[])?;
        let records = (args.mib() << 20) / RECORD;
        // The first run warms up.
        loading(&broker, records / 4, None).run()?;
        let saturation = loading(&broker, records, None).run()?;
        report.add("latency: saturation", "MiB/s", broker.name, saturation);
        lowest = lowest.min(saturation);
    }
    for name in names {
        for start in PEERS {
            one(start, args, name, lowest / 2.0, report)?;
        }
    }
    Ok(())
}

fn loading(broker: &Broker, records: u64, mib_per_second: Option<f64>) -> Load<'static> {
    let bootstrap = broker.bootstrap();
    Load {
        bootstrap,
        topic: "load",
        records,
        record: RECORD,
        batch_kib: 64,
        acks: "all",
        codec: "none",
        mib_per_second,
    }
}

fn one(
    start: fn(&[(&str, &str)]) -> Result<Broker>,
    args: &Args,
    name: &str,
    mib_per_second: f64,
    report: &mut Report,
) -> Result<()> {
    let is_cleaning = name == NAMES[1];
    let settings = [("log.retention.check.interval.ms", "1000"), ("log.cleaner.backoff.ms", "1000")];
    let broker = start(if is_cleaning { &settings } else { &[] })?;
    let retention = ["retention.bytes=67108864", "segment.bytes=16777216"];
    create(&broker, "load", 3, if is_cleaning { &retention } else { &[] })?;
    create(&broker, "probe", 1, &[])?;
    create(
        &broker,
        "compacted",
        1,
        &["cleanup.policy=compact", "segment.bytes=4194304", "min.cleanable.dirty.ratio=0.01"],
    )?;
    let seconds = args.duration().as_secs_f64() + 6.0;
    let records = (mib_per_second * 1024.0 * seconds) as u64;
    let dir = tempfile::TempDir::with_prefix("bench-latency-")?;
    let mut loader = Process::start(
        "load",
        &mut loading(&broker, records, Some(mib_per_second)).command()?,
        &dir.path().join("log"),
    )?;
    // The producer starts, and its first seconds are those of its compiler.
    std::thread::sleep(Duration::from_secs(5));
    let cpu = cpu_seconds(broker.id())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let times = runtime.block_on(async {
        let stop = Arc::new(AtomicBool::new(false));
        let keyed = is_cleaning.then(|| tokio::spawn(compacted(broker.port, stop.clone())));
        let times = timed(broker.port, args.duration()).await;
        stop.store(true, Ordering::Relaxed);
        if let Some(keyed) = keyed {
            keyed.await??;
        }
        times
    })?;
    report.add(name, "load, MiB/s", broker.name, mib_per_second);
    for (measure, percent) in [("p50, ms", 50.0), ("p99, ms", 99.0), ("p99.9, ms", 99.9)] {
        report.add(name, measure, broker.name, times.at(percent));
    }
    report.add(
        name,
        "broker CPU %",
        broker.name,
        (cpu_seconds(broker.id())? - cpu) * 100.0 / args.duration().as_secs_f64(),
    );
    loader.kill();
    Ok(())
}

/// Sends a record now and then, acknowledged by all, and notes when the waiting consumer has it.
pub async fn timed(port: u16, duration: Duration) -> Result<Percentiles> {
    let (told, mut sent) = mpsc::channel::<Instant>(1024);
    let mut consumer = Connection::open(port).await?;
    let mut offset = consumer.ends("probe", 1).await?[0];
    let producer = tokio::spawn(async move {
        let mut connection = Connection::open(port).await?;
        let mut ticks = tokio::time::interval(PACE);
        let from = Instant::now();
        while from.elapsed() < duration {
            ticks.tick().await;
            told.send(Instant::now()).await?;
            connection.produce("probe", 1).await?;
        }
        Ok::<_, anyhow::Error>(())
    });
    let mut times = Percentiles::new();
    while let Some(at) = sent.recv().await {
        loop {
            let answer = consumer.call(&wire::fetch("probe", &[offset], 5000), wire::FETCH).await?;
            let records =
                answer.responses.first().and_then(|topic| topic.partitions.first()?.records.clone());
            let came = aqueduct_protocol::records::Batches::new(records.unwrap_or_default()).count() as i64;
            if came > 0 {
                times.add(at.elapsed());
                // Those that came together were sent one after the other.
                for _ in 1..came {
                    if let Some(at) = sent.recv().await {
                        times.add(at.elapsed());
                    }
                }
                offset += came;
                break;
            }
        }
    }
    producer.await??;
    Ok(times)
}

/// Overwrites the same keys at some MiB a second, so that there is always something to compact.
async fn compacted(port: u16, stop: Arc<AtomicBool>) -> Result<()> {
    let mut connection = Connection::open(port).await?;
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    let mut number = 0u32;
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis() as i64;
        let mut builder = BatchBuilder::new(Compression::None);
        for _ in 0..50 {
            number = number.wrapping_add(1);
            let key = (number % 10_000).to_be_bytes();
            builder.append(now, Some(&key), Some(&[b'v'; 1000]), &[])?;
        }
        let partition_data = vec![PartitionProduceData { index: 0, records: Some(builder.finish()?) }];
        let topic = TopicProduceData { name: "compacted".into(), partition_data, ..Default::default() };
        let request =
            ProduceRequest { acks: 1, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() };
        connection.call(&request, wire::PRODUCE).await?;
    }
    Ok(())
}
