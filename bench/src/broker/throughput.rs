//! Produce and consume as fast as stock clients can: the issue of who is the bottleneck is told by the CPU beside.

use std::process::Command;

use anyhow::{Context as _, Result};
use aqueduct_tests::install::{find, workspace};
use aqueduct_tests::kafka::{text_of, tuned_java};

use super::{Args, create};
use crate::load::Load;
use crate::measure::cpu_seconds;
use crate::peer::Broker;
use crate::report::Report;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Client {
    Java,
    Librdkafka,
}

/// One way to produce, and to consume what was produced.
pub struct Scenario {
    client: Client,
    record: u64,
    acks: &'static str,
    codec: &'static str,
    pub batch_kib: u64,
}

/// All of them.
pub fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for client in [Client::Java, Client::Librdkafka] {
        for record in [1024, 100] {
            for batch_kib in [64, 16] {
                for codec in ["none", "lz4", "zstd"] {
                    for acks in ["all", "1"] {
                        all.push(Scenario { client, record, acks, codec, batch_kib });
                    }
                }
            }
        }
    }
    all
}

impl Scenario {
    pub fn name(&self) -> String {
        let client = match self.client {
            Client::Java => "java",
            Client::Librdkafka => "librdkafka",
        };
        let Self { record, acks, codec, batch_kib, .. } = self;
        format!("throughput {client}, {record} B, {batch_kib} KiB batches, {codec}, acks {acks}")
    }

    /// What consuming depends on; acknowledgements are over by then.
    pub fn consumed(&self) -> Option<String> {
        (self.acks == "all").then(|| self.name().replace(", acks all", ""))
    }

    /// Whether the bytes on the wire are those of the records.
    pub fn is_plain(&self) -> bool {
        self.codec == "none" && self.record == 1024
    }

    /// Small records are slow on the clients' side, and compressed ones slower: half the bytes tell as much.
    fn records(&self, mib: u64) -> u64 {
        let bytes = if self.is_plain() { mib << 20 } else { mib << 19 };
        bytes / self.record
    }
}

pub fn measure(broker: &Broker, args: &Args, scenarios: &[Scenario], report: &mut Report) -> Result<()> {
    for (number, scenario) in scenarios.iter().enumerate() {
        let topic = format!("perf-{number}");
        create(broker, &topic, 3, &[])?;
        let records = scenario.records(args.mib());
        let gib = (records * scenario.record) as f64 / f64::from(1 << 30);
        let mut timed = |name: &str, work: &dyn Fn() -> Result<f64>| -> Result<()> {
            let before = cpu_seconds(broker.id())?;
            let mib_per_second = work()?;
            let cpu = cpu_seconds(broker.id())? - before;
            report.add(name, "client, MiB/s", broker.name, mib_per_second);
            report.add(name, "broker CPU s/GiB", broker.name, cpu / gib);
            Ok(())
        };
        let produced = format!("produce: {}", scenario.name());
        timed(&produced, &|| match scenario.client {
            Client::Java => produce(broker, &topic, records, scenario),
            Client::Librdkafka => librdkafka("produce", broker, &topic, records, scenario),
        })?;
        if let Some(name) = scenario.consumed() {
            timed(&format!("consume: {name}"), &|| match scenario.client {
                Client::Java => consume(broker, &topic, records),
                Client::Librdkafka => librdkafka("consume", broker, &topic, records, scenario),
            })?;
        }
    }
    Ok(())
}

/// MiB a second that the Java producer reached.
fn produce(broker: &Broker, topic: &str, records: u64, scenario: &Scenario) -> Result<f64> {
    let Scenario { record, acks, codec, batch_kib, .. } = *scenario;
    let bootstrap = broker.bootstrap();
    Load { bootstrap, topic, records, record, batch_kib, acks, codec, mib_per_second: None }.run()
}

/// MiB a second that the Java consumer reached.
fn consume(broker: &Broker, topic: &str, records: u64) -> Result<f64> {
    let mut command = tuned_java("512m", "org.apache.kafka.tools.ConsumerPerformance")?;
    command.args(["--topic", topic, "--timeout", "60000", "--hide-header"]);
    command.args(["--bootstrap-server", &broker.bootstrap()]);
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

/// The same through librdkafka, by way of its Python binding.
fn librdkafka(verb: &str, broker: &Broker, topic: &str, records: u64, scenario: &Scenario) -> Result<f64> {
    let python = find("AQUEDUCT_PYTHON", "python", "bin/python3")?.join("bin/python3");
    let mut command = Command::new(&python);
    command.arg(workspace().join("bench/clients/librdkafka.py"));
    command.args([verb, &broker.bootstrap(), topic, &records.to_string(), &scenario.record.to_string()]);
    command.args([scenario.acks, scenario.codec, &(scenario.batch_kib << 10).to_string()]);
    Ok(text_of("librdkafka", &command.output()?)?.trim().parse()?)
}
