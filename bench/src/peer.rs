//! Ours and theirs as processes.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use aqueduct_tests::kafka::Kafka;
use aqueduct_tests::process::{Process, free_port};
use tempfile::TempDir;

use crate::measure::first_metadata;

/// The release build of our binary, which stands beside this one.
pub fn aqueduct() -> Result<PathBuf> {
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
    Ours { process: Process, _dir: TempDir },
    Kafka(Box<Kafka>),
}

impl Broker {
    /// Starts our broker with an empty data directory.
    pub fn ours() -> Result<Self> {
        let dir = TempDir::with_prefix("bench-aqueduct-")?;
        let port = free_port()?;
        let config = dir.path().join("server.properties");
        let lines = format!(
            "process.roles=broker,controller\nnode.id=1\nlisteners=PLAINTEXT://127.0.0.1:{port}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\nlog.dirs={}\noffsets.topic.replication.factor=1\n\
             offsets.topic.num.partitions=5\ngroup.initial.rebalance.delay.ms=0\n",
            dir.path().join("data").display()
        );
        std::fs::write(&config, lines)?;
        let from = Instant::now();
        let mut command = Command::new(aqueduct()?);
        command.arg("broker").arg("--config").arg(&config);
        let process = Process::start("aqueduct", &mut command, &dir.path().join("log"))?;
        let start_ms = first_metadata(port, from, Duration::from_secs(20))?;
        Ok(Self { name: crate::report::OURS, port, start_ms, server: Server::Ours { process, _dir: dir } })
    }

    /// Starts Apache Kafka with an empty data directory, formatted beforehand.
    pub fn kafka() -> Result<Self> {
        let mut kafka = Kafka::start_tuned()?;
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

    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}
