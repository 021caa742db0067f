//! Ours and theirs as processes.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use aqueduct_tests::kafka::Kafka;
use aqueduct_tests::process::{Process, free_port};
use tempfile::TempDir;

use crate::measure::first_metadata;

/// The release build of our binary, which stands beside this one; or what `AQUEDUCT_BENCH_BINARY` names.
pub fn aqueduct() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("AQUEDUCT_BENCH_BINARY") {
        return Ok(path.into());
    }
    let path = std::env::current_exe()?.with_file_name("aqueduct");
    ensure!(path.exists(), "{} is not there: run `cargo build --release -p aqueduct-cli`", path.display());
    Ok(path)
}

/// A broker under test.
pub struct Broker {
    pub name: &'static str,
    pub port: u16,
    /// Milliseconds from process start to the first metadata answer.
    pub start_ms: f64,
    server: Server,
}

enum Server {
    Ours { process: Process, dir: TempDir },
    Kafka(Box<Kafka>),
}

impl Broker {
    /// Starts our broker with an empty data directory.
    pub fn ours() -> Result<Self> {
        Self::ours_with(&[])
    }

    /// The same with more lines in `server.properties`.
    pub fn ours_with(settings: &[(&str, &str)]) -> Result<Self> {
        let dir = TempDir::with_prefix("bench-aqueduct-")?;
        let port = free_port()?;
        let mut lines = format!(
            "process.roles=broker,controller\nnode.id=1\nlisteners=PLAINTEXT://127.0.0.1:{port}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\nlog.dirs={}\noffsets.topic.replication.factor=1\n\
             offsets.topic.num.partitions=5\ngroup.initial.rebalance.delay.ms=0\n",
            dir.path().join("data").display()
        );
        for (key, value) in settings {
            lines.push_str(&format!("{key}={value}\n"));
        }
        std::fs::write(dir.path().join("server.properties"), lines)?;
        let from = Instant::now();
        let process = launch(&dir)?;
        let start_ms = first_metadata(port, from, Duration::from_secs(20))?;
        Ok(Self { name: crate::report::OURS, port, start_ms, server: Server::Ours { process, dir } })
    }

    /// Stops the node cleanly.
    pub fn stop(&mut self) -> Result<()> {
        match &mut self.server {
            Server::Ours { process, .. } => process.terminate(Duration::from_secs(120)),
            Server::Kafka(kafka) => kafka.stop(),
        }
    }

    /// Starts the node again on the same port and data, and waits for its first answer.
    pub fn restart(&mut self) -> Result<()> {
        let from = Instant::now();
        match &mut self.server {
            Server::Ours { process, dir } => *process = launch(dir)?,
            Server::Kafka(kafka) => kafka.restart()?,
        }
        self.start_ms = first_metadata(self.port, from, Duration::from_secs(180))?;
        Ok(())
    }

    /// Starts Apache Kafka with an empty data directory, formatted beforehand.
    pub fn kafka() -> Result<Self> {
        Self::kafka_with(&[])
    }

    /// The same with more lines in `server.properties`.
    pub fn kafka_with(settings: &[(&str, &str)]) -> Result<Self> {
        let mut kafka = Kafka::start_tuned_with(settings)?;
        // The first start made topics of its own and warmed the disk's caches; the second is the one that counts.
        kafka.stop()?;
        let from = Instant::now();
        kafka.restart()?;
        let start_ms = first_metadata(kafka.port(), from, Duration::from_secs(60))?;
        Ok(Self { name: "kafka", port: kafka.port(), start_ms, server: Server::Kafka(Box::new(kafka)) })
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        match &self.server {
            Server::Ours { process, .. } => process.id(),
            Server::Kafka(kafka) => kafka.process().id(),
        }
    }

    /// Folder of the logs.
    pub fn data(&self) -> PathBuf {
        match &self.server {
            Server::Ours { dir, .. } => dir.path().join("data"),
            Server::Kafka(kafka) => kafka.data(),
        }
    }

    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

fn launch(dir: &TempDir) -> Result<Process> {
    let mut command = Command::new(aqueduct()?);
    command.arg("broker").arg("--config").arg(dir.path().join("server.properties"));
    Process::start("aqueduct", &mut command, &dir.path().join("log"))
}
