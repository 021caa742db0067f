//! What Kafka's own performance tool produces.

use std::process::Command;

use anyhow::{Context as _, Result};
use aqueduct_tests::kafka::{text_of, tuned_java};

/// One run of the Java producer.
pub struct Load<'a> {
    pub bootstrap: String,
    pub topic: &'a str,
    pub records: u64,
    /// Bytes of a record.
    pub record: u64,
    pub batch_kib: u64,
    pub acks: &'a str,
    pub codec: &'a str,
    /// At most so many; as fast as it can without.
    pub mib_per_second: Option<f64>,
}

impl Load<'_> {
    pub fn command(&self) -> Result<Command> {
        let mut command = tuned_java("512m", "org.apache.kafka.tools.ProducerPerformance")?;
        let per_second = |mib: f64| (mib * f64::from(1 << 20) / self.record as f64) as i64;
        command.args(["--topic", self.topic, "--throughput"]);
        command.arg(self.mib_per_second.map_or(-1, per_second).to_string());
        command.args(["--num-records", &self.records.to_string(), "--record-size", &self.record.to_string()]);
        command.args(["--bootstrap-server", &self.bootstrap, "--command-property"]);
        command.arg(format!("acks={}", self.acks)).arg(format!("batch.size={}", self.batch_kib << 10));
        command.arg("linger.ms=5").arg(format!("compression.type={}", self.codec));
        Ok(command)
    }

    /// Runs it to its end; gives how many MiB a second it reached.
    pub fn run(&self) -> Result<f64> {
        let text = text_of("ProducerPerformance", &self.command()?.output()?)?;
        // The last line: "N records sent, R records/sec (M MB/sec), …"
        let last =
            text.lines().rfind(|l| l.contains("MB/sec")).with_context(|| format!("no result in:\n{text}"))?;
        let figure = last.split(" MB/sec").next().and_then(|l| l.rsplit('(').next()).context("no figure")?;
        Ok(figure.trim().parse()?)
    }
}
