//! `aqueduct perf`: how much goes through a cluster, and how long it takes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aqueduct_client::{Admin, Delivery, OffsetSpec, PartitionConsumer, Producer, ProducerRecord};
use bytes::Bytes;
use hdrhistogram::Histogram;
use serde_json::json;
use tokio::sync::mpsc;

use super::connect::Cluster;
use super::output::print_json;
use super::topics::partitions_of;

/// Records whose answers are still to be waited for.
const WAITING: usize = 1 << 20;
/// Longest time that is told apart, in microseconds.
const LONGEST: u64 = 600_000_000;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    cluster: Cluster,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Write records and time each from the call to its acknowledgement. Settings of the producer go into --property,
    /// such as --property acks=1.
    Produce {
        topic: String,
        #[arg(long)]
        num_records: u64,
        /// Bytes of each value.
        #[arg(long, default_value_t = 100)]
        record_size: usize,
        /// Records a second at most; -1 for as many as go.
        #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
        throughput: i64,
        /// Values that cannot be compressed, instead of text.
        #[arg(long)]
        random: bool,
    },
    /// Read records from the start, and time each from its timestamp to here.
    Consume {
        topic: String,
        /// Stop after so many; without it at the end.
        #[arg(long, visible_alias = "messages")]
        num_records: Option<u64>,
        /// Stop when none came for so long.
        #[arg(long, default_value_t = 10_000)]
        timeout_ms: u64,
    },
}

pub async fn run(args: Args) -> Result<()> {
    match args.command {
        Command::Produce { topic, num_records, record_size, throughput, random } => {
            let load = Load { topic, count: num_records, size: record_size, throughput, random };
            produce(&args.cluster, load, args.json).await
        }
        Command::Consume { topic, num_records, timeout_ms } => {
            consume(&args.cluster, &topic, num_records, Duration::from_millis(timeout_ms), args.json).await
        }
    }
}

struct Load {
    topic: String,
    count: u64,
    size: usize,
    throughput: i64,
    random: bool,
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, 3).expect("bounds that a histogram can have")
}

fn values(load: &Load) -> Vec<Bytes> {
    let letter = |at: usize| b'A' + (at % 26) as u8;
    let value = |seed: usize| -> Bytes {
        match load.random {
            true => (0..load.size).map(|_| rand::random::<u8>()).collect(),
            false => (0..load.size).map(|at| letter(at * 7 + seed)).collect(),
        }
    };
    (0..64).map(value).collect()
}

async fn produce(cluster: &Cluster, load: Load, json: bool) -> Result<()> {
    let producer = Producer::new(cluster.client(&[])?);
    producer.partitions_for(&load.topic.as_str().into()).await?;
    let (sent, mut answers) = mpsc::channel::<(Instant, Delivery)>(WAITING);
    let times = tokio::spawn(async move {
        let (mut times, mut failed, mut why) = (histogram(), 0u64, None);
        while let Some((at, delivery)) = answers.recv().await {
            match delivery.await {
                Ok(_) => times.saturating_record(at.elapsed().as_micros() as u64),
                Err(error) => {
                    failed += 1;
                    why.get_or_insert(error);
                }
            }
        }
        (times, failed, why)
    });
    let values = values(&load);
    let started = Instant::now();
    for at in 0..load.count {
        if load.throughput > 0 {
            let due = started + Duration::from_secs_f64(at as f64 / load.throughput as f64);
            if due > Instant::now() {
                tokio::time::sleep_until(due.into()).await;
            }
        }
        let record =
            ProducerRecord::new(load.topic.as_str(), values[(at % values.len() as u64) as usize].clone());
        let now = Instant::now();
        let delivery = producer.send(record).await.with_context(|| format!("record {at}"))?;
        sent.send((now, delivery)).await.context("the producer has stopped")?;
    }
    drop(sent);
    producer.flush().await;
    let (times, failed, why) = times.await.context("latencies are lost")?;
    let elapsed = started.elapsed();
    producer.close().await;
    report("sent", load.count - failed, (load.count - failed) * load.size as u64, elapsed, &times, json)?;
    match why {
        Some(error) => Err(anyhow::anyhow!("{failed} records were not written; the first because: {error}")),
        None => Ok(()),
    }
}

async fn consume(
    cluster: &Cluster,
    topic: &str,
    count: Option<u64>,
    quiet: Duration,
    json: bool,
) -> Result<()> {
    let client = cluster.client(&[("max.poll.records", "10000")])?;
    let partitions = partitions_of(&Admin::new(client.clone()), &[topic.to_owned()]).await?;
    let mut consumer = PartitionConsumer::new(client);
    consumer.assign(partitions.iter().cloned())?;
    for partition in &partitions {
        consumer.seek_to(partition, OffsetSpec::Earliest)?;
    }
    let mut ends = consumer.offsets(&partitions, OffsetSpec::Latest).await?;
    ends.retain(|_, end| end.0 > 0);
    let mut times = histogram();
    let (mut records, mut bytes) = (0u64, 0u64);
    let started = Instant::now();
    let (mut last, mut finished) = (started, started);
    let most = count.unwrap_or(u64::MAX);
    while records < most && last.elapsed() < quiet {
        if count.is_none() {
            ends.retain(|partition, end| consumer.position(partition).is_none_or(|at| at < *end));
            if ends.is_empty() {
                break;
            }
        }
        let found = consumer.poll(Duration::from_millis(200)).await?;
        if found.is_empty() {
            continue;
        }
        (last, finished) = (Instant::now(), Instant::now());
        let now_ms = chrono::Utc::now().timestamp_millis();
        for record in found.iter().take(usize::try_from(most - records).unwrap_or(usize::MAX)) {
            records += 1;
            bytes += (record.key.as_ref().map_or(0, Bytes::len) + record.value.as_ref().map_or(0, Bytes::len))
                as u64;
            times.saturating_record((now_ms - record.timestamp).max(0) as u64 * 1000);
        }
    }
    report("read", records, bytes, finished - started, &times, json)
}

fn report(
    what: &str,
    records: u64,
    bytes: u64,
    elapsed: Duration,
    times: &Histogram<u64>,
    as_json: bool,
) -> Result<()> {
    let seconds = elapsed.as_secs_f64().max(1e-9);
    let (rate, megabytes) = (records as f64 / seconds, bytes as f64 / seconds / 1048576.0);
    let ms = |micros: u64| micros as f64 / 1000.0;
    let at = |quantile: f64| ms(times.value_at_quantile(quantile));
    let max = ms(if times.is_empty() { 0 } else { times.max() });
    if as_json {
        return print_json(&json!({
            "records": records,
            "bytes": bytes,
            "seconds": seconds,
            "records_per_second": rate,
            "mebibytes_per_second": megabytes,
            "latency_ms": {
                "mean": ms(times.mean() as u64), "p50": at(0.5), "p95": at(0.95), "p99": at(0.99), "p999": at(0.999), "max": max,
            },
        }));
    }
    println!("{records} records {what} in {seconds:.2} s: {rate:.0} records/s ({megabytes:.2} MiB/s)");
    println!(
        "latency in ms: mean {:.2}, 50th {:.2}, 95th {:.2}, 99th {:.2}, 99.9th {:.2}, max {max:.2}",
        ms(times.mean() as u64),
        at(0.5),
        at(0.95),
        at(0.99),
        at(0.999),
    );
    Ok(())
}
