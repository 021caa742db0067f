//! A worker of either kind as a process.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use aqueduct_tests::kafka::{plugins, stock_java};
use aqueduct_tests::process::{Process, free_port};

use super::rest::Rest;
use crate::measure::cpu_seconds;
use crate::peer::{Broker, aqueduct};
use crate::report::OURS;

/// The peer.
pub const JVM: &str = "jvm worker";
/// Both workers, in the order in which they run.
pub const PEERS: [&str; 2] = [OURS, JVM];

/// A distributed worker on the broker of the run.
pub struct Worker {
    pub peer: &'static str,
    pub rest: Rest,
    /// Milliseconds from the start of the process to the first list of connectors.
    pub ready_ms: f64,
    /// The same to the first good answer of `/health`: it is a member of its group.
    pub healthy_ms: f64,
    process: Process,
}

impl Worker {
    /// Starts a worker of the group `group` with text in its topics, and waits until it is ready.
    pub fn start(peer: &'static str, group: &str, broker: &Broker, dir: &Path) -> Result<Self> {
        let port = free_port()?;
        let config = dir.join(format!("{group}-{port}.properties"));
        fs::write(&config, lines(group, port, &broker.bootstrap())?)?;
        let mut command = if peer == OURS {
            let mut command = Command::new(aqueduct()?);
            command.arg("connect").arg("--config").arg(&config);
            command
        } else {
            // As `connect-distributed.sh` starts it.
            let mut command = stock_java("256m", "2g", "org.apache.kafka.connect.cli.ConnectDistributed")?;
            command.arg(&config);
            command
        };
        let from = Instant::now();
        let mut process = Process::start(peer, &mut command, &dir.join(format!("{group}-{port}.log")))?;
        let rest = Rest { port };
        let mut answers = |path: &str| -> Result<f64> {
            while !rest.call("GET", path, None).is_ok_and(|(status, _)| status == 200) {
                if !process.is_running() || from.elapsed() > Duration::from_secs(120) {
                    bail!("{peer} does not start:\n{}", process.log_tail());
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            Ok(from.elapsed().as_secs_f64() * 1000.0)
        };
        let (ready_ms, healthy_ms) = (answers("/connectors")?, answers("/health")?);
        Ok(Self { peer, rest, ready_ms, healthy_ms, process })
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// CPU seconds so far.
    pub fn cpu(&self) -> Result<f64> {
        cpu_seconds(self.id())
    }

    /// Stops it cleanly.
    pub fn stop(mut self) -> Result<()> {
        self.process.terminate(Duration::from_secs(60))
    }
}

/// The worker's properties: Kafka's defaults but for one replica and offsets stored each second.
fn lines(group: &str, port: u16, bootstrap: &str) -> Result<String> {
    let string = "org.apache.kafka.connect.storage.StringConverter";
    Ok(format!(
        "bootstrap.servers={bootstrap}\ngroup.id={group}\nlisteners=http://127.0.0.1:{port}\nkey.converter={string}\n\
         value.converter={string}\nconfig.storage.topic={group}-configs\noffset.storage.topic={group}-offsets\n\
         status.storage.topic={group}-status\nconfig.storage.replication.factor=1\n\
         offset.storage.replication.factor=1\nstatus.storage.replication.factor=1\noffset.flush.interval.ms=1000\n\
         plugin.path={}\n",
        plugins()?.display()
    ))
}

/// Waits until `ready` says so.
pub fn until(what: &str, every: Duration, mut ready: impl FnMut() -> Result<bool>) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(600);
    let from = Instant::now();
    while !ready()? {
        if from.elapsed() > LIMIT {
            bail!("{what} took more than {LIMIT:?}");
        }
        std::thread::sleep(every);
    }
    Ok(())
}
