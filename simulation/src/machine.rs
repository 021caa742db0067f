//! One machine: its clock, its disk, and the node that runs on it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aqueduct_broker::{Broker, Handle, Options};
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::calls;
use crate::disk::{self, Loss};
use crate::net::{Fabric, HOSTS, Host, ip};
use crate::random::Random;

const CLUSTER_ID: &str = "4L6g3nShT-eMCtK--X86sw";
pub const CLIENT_PORT: u16 = 9092;
const CONTROLLER_PORT: u16 = 9093;

/// A runtime whose time moves as it is told.
pub struct Stage {
    runtime: Runtime,
    origin: Instant,
    born_ms: u64,
    reached_ms: u64,
}

impl Stage {
    pub fn new(now_ms: u64) -> Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
        let origin = runtime.block_on(async { Instant::now() });
        Ok(Self { runtime, origin, born_ms: now_ms, reached_ms: now_ms })
    }

    pub fn spawn<F: Future<Output = ()> + Send + 'static>(&self, task: F) {
        self.runtime.spawn(task);
    }

    /// Runs until `now_ms`. Who did not run for a while finds that the time has passed all at once.
    pub fn run_until(&mut self, now_ms: u64, step_ms: u64) {
        let missed = now_ms.saturating_sub(self.reached_ms + step_ms);
        let until = self.origin + Duration::from_millis(now_ms - self.born_ms);
        self.runtime.block_on(async {
            if missed > 0 {
                tokio::time::advance(Duration::from_millis(missed)).await;
            }
            tokio::time::sleep_until(until).await;
        });
        self.reached_ms = now_ms;
    }
}

/// What has become of a node.
#[derive(Default)]
struct Life {
    handle: Option<Handle>,
    /// It ended by itself, or never started.
    ended: Option<String>,
    is_stopped: bool,
}

/// A machine and its node.
pub struct Machine {
    pub host: Host,
    dir: PathBuf,
    fabric: Fabric,
    stage: Option<Stage>,
    life: Arc<Mutex<Life>>,
    pub is_paused: bool,
    pub wrong_by_ms: i64,
    lives: u32,
}

impl Machine {
    /// A machine whose disk is formatted.
    pub fn new(host: Host, fabric: Fabric) -> Result<Self> {
        let dir = PathBuf::from(format!("node-{host}"));
        std::fs::create_dir_all(&dir)?;
        let text = format!(
            "cluster.id={CLUSTER_ID}\ndirectory.id=AAAAAAAAAAAAAAAAAA{host:03}A\nnode.id={host}\nversion=1\n"
        );
        std::fs::write(dir.join("meta.properties"), text)?;
        disk::settle(&dir)?;
        let life = Arc::default();
        Ok(Self { host, dir, fabric, stage: None, life, is_paused: false, wrong_by_ms: 0, lives: 0 })
    }

    fn enter(&self) {
        self.fabric.enter(self.host);
        calls::set_wrong_by(self.wrong_by_ms);
    }

    /// Starts the node.
    pub fn start(&mut self, now_ms: u64) -> Result<()> {
        self.enter();
        self.fabric.power_on(self.host);
        self.lives += 1;
        self.life = Arc::default();
        self.is_paused = false;
        let stage = Stage::new(now_ms)?;
        let (options, life) = (options(self.host, &self.dir), self.life.clone());
        stage.spawn(async move {
            match Broker::start(options).await {
                Ok(handle) => {
                    life.lock().handle = Some(handle.clone());
                    handle.failed().await;
                    life.lock().ended = Some("the node cannot go on".to_owned());
                }
                Err(error) => life.lock().ended = Some(error.to_string()),
            }
        });
        self.stage = Some(stage);
        Ok(())
    }

    /// Runs the node until `now_ms`.
    pub fn run_until(&mut self, now_ms: u64, step_ms: u64) {
        if self.is_paused {
            return;
        }
        self.enter();
        if let Some(stage) = &mut self.stage {
            stage.run_until(now_ms, step_ms);
        }
    }

    pub fn is_running(&self) -> bool {
        self.stage.is_some()
    }

    /// Why it ended by itself, if it did.
    pub fn ended(&self) -> Option<String> {
        self.life.lock().ended.clone()
    }

    /// The node, when it serves clients.
    pub fn handle(&self) -> Option<Handle> {
        self.life.lock().handle.clone()
    }

    /// Ends the process: what it wrote is there.
    pub fn kill(&mut self) -> Result<()> {
        self.end(None).map(drop)
    }

    /// Takes the power away: what was not durable is gone, and nobody is told.
    pub fn power_off(&mut self, chance: &mut Random) -> Result<Loss> {
        self.fabric.power_off(self.host);
        self.end(Some(chance))
    }

    fn end(&mut self, chance: Option<&mut Random>) -> Result<Loss> {
        self.enter();
        let grave = PathBuf::from(format!("grave-{}-{}", self.host, self.lives));
        let loss = disk::reincarnate(&self.dir, &grave, chance).context("the disk of a node that ends")?;
        self.life = Arc::default();
        self.stage = None;
        std::fs::remove_dir_all(&grave)?;
        Ok(loss)
    }

    /// Asks the node to stop in order.
    pub fn stop(&mut self) {
        self.enter();
        let life = self.life.clone();
        if let (Some(stage), Some(handle)) = (&self.stage, self.handle()) {
            stage.spawn(async move {
                handle.shutdown().await;
                life.lock().is_stopped = true;
            });
        }
    }

    /// Whether the node has stopped in order; then its machine is free for another life.
    pub fn has_stopped(&mut self) -> Result<bool> {
        if !self.life.lock().is_stopped {
            return Ok(false);
        }
        // A stop in order ends with everything on disk.
        disk::settle(&self.dir)?;
        self.kill()?;
        Ok(true)
    }
}

fn options(host: Host, dir: &Path) -> Options {
    let voters: Vec<String> =
        (1..HOSTS).map(|voter| format!("{voter}@{}:{CONTROLLER_PORT}", ip(voter))).collect();
    let own = ip(host);
    let mut options = Options::default();
    let settings = [
        ("node.id", host.to_string()),
        ("log.dirs", dir.display().to_string()),
        ("process.roles", "broker,controller".to_owned()),
        ("controller.listener.names", "CONTROLLER".to_owned()),
        ("controller.quorum.voters", voters.join(",")),
        ("listeners", format!("PLAINTEXT://{own}:{CLIENT_PORT},CONTROLLER://{own}:{CONTROLLER_PORT}")),
        ("broker.heartbeat.interval.ms", "200".to_owned()),
        ("broker.session.timeout.ms", "1500".to_owned()),
        ("replica.lag.time.max.ms", "1500".to_owned()),
        ("group.initial.rebalance.delay.ms", "0".to_owned()),
        ("group.min.session.timeout.ms", "1000".to_owned()),
        ("offsets.topic.num.partitions", "2".to_owned()),
        ("offsets.topic.replication.factor", "3".to_owned()),
        ("transaction.state.log.num.partitions", "2".to_owned()),
        ("transaction.state.log.replication.factor", "3".to_owned()),
        ("transaction.state.log.min.isr", "2".to_owned()),
        ("min.insync.replicas", "2".to_owned()),
        ("transaction.abort.timed.out.transaction.cleanup.interval.ms", "1000".to_owned()),
        ("log.roll.ms", "2000".to_owned()),
        // Its threads are no part of the simulation.
        ("log.cleaner.enable", "false".to_owned()),
    ];
    for (key, value) in settings {
        options.set(key, &value);
    }
    options
}
