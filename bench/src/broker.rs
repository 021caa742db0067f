//! One broker node: produce and consume with stock clients, start-up and memory.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aqueduct_tests::install::{find, workspace};
use aqueduct_tests::kafka::{text_of, tool, tuned_java};

use crate::measure::{cpu_seconds, memory_mib};
use crate::peer::Broker;
use crate::report::Report;

#[derive(clap::Args)]
pub struct Args {
    /// Runs of each peer.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// MiB that each scenario moves.
    #[arg(long, default_value_t = 1024)]
    mib: u64,
}

/// A way to produce: name, record size, and the producer's settings.
const SCENARIOS: &[(&str, u64, &[&str])] = &[
    ("1 KiB, acks 1, 64 KiB batches", 1024, &["acks=1", "batch.size=65536", "linger.ms=5"]),
    ("1 KiB, acks all, 64 KiB batches", 1024, &["acks=all", "batch.size=65536", "linger.ms=5"]),
    ("1 KiB, acks all, 16 KiB batches", 1024, &["acks=all", "batch.size=16384", "linger.ms=5"]),
    ("100 B, acks all, lz4", 100, &["acks=all", "batch.size=65536", "linger.ms=5", "compression.type=lz4"]),
];

/// Runs every scenario against both peers, in turn.
pub fn run(args: &Args) -> Result<()> {
    let mut report = Report::new("broker");
    for round in 1..=args.rounds {
        for start in [Broker::ours, Broker::kafka] {
            let broker = start()?;
            eprintln!("round {round} of {}: {}", args.rounds, broker.name);
            one(&broker, args, &mut report)?;
        }
    }
    report.finish()
}

fn one(broker: &Broker, args: &Args, report: &mut Report) -> Result<()> {
    let name = broker.name;
    report.add("start", "first metadata, ms", name, broker.start_ms);
    std::thread::sleep(Duration::from_secs(3));
    report.add("idle", "resident, MiB", name, memory_mib(broker.id())?.0);
    for (index, (scenario, size, settings)) in SCENARIOS.iter().enumerate() {
        let topic = format!("perf-{index}");
        create(broker, &topic)?;
        let records = args.mib * 1024 * 1024 / size / if *size < 1024 { 2 } else { 1 };
        let gib = (records * size) as f64 / f64::from(1 << 30);
        let measure = |kind: &str, report: &mut Report, work: &dyn Fn() -> Result<f64>| -> Result<()> {
            let before = cpu_seconds(broker.id())?;
            let mib_per_second = work()?;
            let cpu = cpu_seconds(broker.id())? - before;
            report.add(&format!("{kind}: {scenario}"), "client, MiB/s", name, mib_per_second);
            report.add(&format!("{kind}: {scenario}"), "broker CPU s/GiB", name, cpu / gib);
            Ok(())
        };
        measure("produce", report, &|| produce(broker, &topic, records, *size, settings))?;
        measure("consume", report, &|| consume(broker, &topic, records))?;
    }
    librdkafka(broker, args, report)?;
    report.add("load", "peak resident, MiB", name, memory_mib(broker.id())?.1);
    Ok(())
}

fn create(broker: &Broker, topic: &str) -> Result<()> {
    let bootstrap = broker.bootstrap();
    let args = ["--bootstrap-server", &bootstrap, "--create", "--topic", topic, "--partitions", "3"];
    tool("org.apache.kafka.tools.TopicCommand", &args).map(|_| ())
}

/// MiB a second that the Java producer reached.
fn produce(broker: &Broker, topic: &str, records: u64, size: u64, settings: &[&str]) -> Result<f64> {
    let mut command = tuned_java("512m", "org.apache.kafka.tools.ProducerPerformance")?;
    command.args(["--topic", topic, "--throughput", "-1"]);
    command.arg("--num-records").arg(records.to_string()).arg("--record-size").arg(size.to_string());
    command.arg("--bootstrap-server").arg(broker.bootstrap()).arg("--command-property").args(settings);
    let text = text_of("ProducerPerformance", &command.output()?)?;
    // The last line: "N records sent, R records/sec (M MB/sec), …"
    let last =
        text.lines().rfind(|l| l.contains("MB/sec")).with_context(|| format!("no result in:\n{text}"))?;
    let figure = last.split(" MB/sec").next().and_then(|l| l.rsplit('(').next()).context("no figure")?;
    Ok(figure.trim().parse()?)
}

/// MiB a second that the Java consumer reached.
fn consume(broker: &Broker, topic: &str, records: u64) -> Result<f64> {
    let mut command = tuned_java("512m", "org.apache.kafka.tools.ConsumerPerformance")?;
    command.args([
        "--topic",
        topic,
        "--timeout",
        "60000",
        "--hide-header",
        "--bootstrap-server",
        &broker.bootstrap(),
    ]);
    command.arg("--num-records").arg(records.to_string());
    let text = text_of("ConsumerPerformance", &command.output()?)?;
    // "start, end, MB, MB/sec, records, records/sec, rebalance ms, fetch ms, fetch MB/sec, fetch records/sec"
    let last = text
        .lines()
        .rfind(|l| l.matches(',').count() >= 9)
        .with_context(|| format!("no result in:\n{text}"))?;
    let fields: Vec<&str> = last.split(',').map(str::trim).collect();
    Ok(fields[8].parse()?)
}

/// The same bytes through librdkafka, by way of its Python binding.
fn librdkafka(broker: &Broker, args: &Args, report: &mut Report) -> Result<()> {
    let python = find("AQUEDUCT_PYTHON", "python", "bin/python3")?.join("bin/python3");
    create(broker, "perf-librdkafka")?;
    let records = args.mib * 1024 / 2;
    let gib = (records * 1024) as f64 / f64::from(1 << 30);
    for verb in ["produce", "consume"] {
        let mut command = Command::new(&python);
        command.arg(workspace().join("bench/clients/librdkafka.py"));
        command.args([verb, &broker.bootstrap(), "perf-librdkafka", &records.to_string()]);
        let before = cpu_seconds(broker.id())?;
        let text = text_of("librdkafka", &command.output()?)?;
        let cpu = cpu_seconds(broker.id())? - before;
        let scenario = format!("{verb}: librdkafka, 1 KiB, acks all");
        report.add(&scenario, "client, MiB/s", broker.name, text.trim().parse()?);
        report.add(&scenario, "broker CPU s/GiB", broker.name, cpu / gib);
    }
    Ok(())
}
