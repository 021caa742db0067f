//! Three nodes, each with a network, a disk and a clock of its own, that can be killed, stopped, restarted and cut off from each
//! other, and whose disks, clocks and lines fail.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aqueduct_tests::aqueduct::binary;
use aqueduct_tests::kafka;
use aqueduct_tests::process::{Process, signal};
use aqueduct_tests::random::Random;
use aqueduct_tests::server::Kind;
use aqueduct_tests::switch::Switch;
use tempfile::TempDir;

use crate::clock::{self, Clock};
use crate::damage::{Damage, damage};
use crate::disk::Disk;

pub const NODES: usize = 3;
const PORT: u16 = 9092;
const CLUSTER: &str = "AqueductTestsAAAAAAAAA";

/// A running cluster. Its processes end and its files go when it is dropped.
pub struct Cluster {
    kind: Kind,
    // Dropped in this order: a disk that is in use stays, and so does a folder that one is mounted in.
    processes: Vec<Process>,
    disks: Vec<Disk>,
    clocks: Vec<Clock>,
    switch: Switch,
    dir: TempDir,
}

impl Cluster {
    /// Starts all nodes on empty disks of so many KiB and waits until each accepts connections.
    pub fn start(kind: Kind, kib: u64) -> Result<Self> {
        let (switch, dir) = (Switch::create(NODES)?, TempDir::with_prefix("aqueduct-cluster-")?);
        let library = clock::build(dir.path())?;
        let (mut processes, mut disks, mut clocks) = (Vec::new(), Vec::new(), Vec::new());
        for node in 0..NODES {
            let folder = dir.path().join(node.to_string());
            fs::create_dir(&folder)?;
            disks.push(Disk::mount(&folder.join("data"), kib)?);
            let clock = Clock::new(&library, &folder)?;
            let config = folder.join("server.properties");
            let mut settings = lines(&switch, node, &folder);
            if kind == Kind::Aqueduct {
                settings.push_str(&format!("aqueduct.cluster.id={CLUSTER}\n"));
            }
            fs::write(&config, settings)?;
            if kind == Kind::ApacheKafka {
                let config = config.to_string_lossy().into_owned();
                kafka::tool("kafka.tools.StorageTool", &["format", "-t", CLUSTER, "-c", &config])?;
            }
            processes.push(launch(kind, &switch, &clock, node, &folder)?);
            clocks.push(clock);
        }
        let mut cluster = Self { kind, processes, disks, clocks, switch, dir };
        (0..NODES).try_for_each(|node| cluster.wait(node))?;
        Ok(cluster)
    }

    /// Where clients begin.
    pub fn bootstrap(&self) -> String {
        let servers = (0..NODES).map(|node| self.address(node));
        servers.collect::<Vec<_>>().join(",")
    }

    /// The address of a node for clients.
    pub fn address(&self, node: usize) -> String {
        format!("{}:{PORT}", self.switch.address(node))
    }

    fn folder(&self, node: usize) -> PathBuf {
        self.dir.path().join(node.to_string())
    }

    fn wait(&mut self, node: usize) -> Result<()> {
        let address: SocketAddr = format!("{}:{PORT}", self.switch.address(node)).parse()?;
        let accepts = || TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok();
        self.processes[node].wait_until(Duration::from_secs(90), accepts)
    }

    pub fn kill(&mut self, node: usize) {
        self.processes[node].kill();
    }

    /// Tells a node to stop, and waits until it has.
    pub fn stop(&mut self, node: usize) -> Result<()> {
        self.processes[node].terminate(Duration::from_secs(120))
    }

    /// Starts a node that has ended; does not wait for it.
    pub fn launch(&mut self, node: usize) -> Result<()> {
        self.processes[node] = launch(self.kind, &self.switch, &self.clocks[node], node, &self.folder(node))?;
        Ok(())
    }

    /// Has a process stand still, or go on.
    pub fn freeze(&self, node: usize, frozen: bool) -> Result<()> {
        signal(self.processes[node].id(), if frozen { "STOP" } else { "CONT" })
    }

    /// Loses what one node sends to another.
    pub fn cut(&self, from: usize, to: usize, is_cut: bool) -> Result<()> {
        self.switch.cut(from, to, is_cut)
    }

    /// Makes the line of a node slow both ways, so many kbit/s, or as fast as it was.
    pub fn slow(&self, node: usize, kbit: Option<u64>) -> Result<()> {
        self.switch.slow(node, kbit)
    }

    /// Sets the clock of a node so many milliseconds off.
    pub fn step_clock(&self, node: usize, millis: i64) -> Result<()> {
        self.clocks[node].step(millis)
    }

    /// Fills the disk of a node.
    pub fn fill(&self, node: usize) -> Result<()> {
        self.disks[node].fill()
    }

    /// Makes room on the disk of a node.
    pub fn free(&self, node: usize) -> Result<()> {
        self.disks[node].free()
    }

    /// Damages the logs of a node that has ended; returns in how many partitions.
    pub fn damage(&self, node: usize, what: Damage, random: &mut Random) -> Result<u32> {
        damage(self.disks[node].path(), what, random)
    }

    /// Ends the nodes and leaves their files behind.
    pub fn keep(self) -> Result<PathBuf> {
        let Self { dir, processes, disks, .. } = self;
        drop(processes);
        for disk in &disks {
            let copy = Command::new("cp")
                .arg("-a")
                .arg(disk.path())
                .arg(disk.path().with_extension("kept"))
                .status()?;
            ensure!(copy.success(), "cannot copy {}", disk.path().display());
        }
        drop(disks);
        Ok(dir.keep())
    }

    /// The end of each node's log.
    pub fn logs(&self) -> String {
        let tail =
            |(node, process): (usize, &Process)| format!("--- node {}\n{}", node + 1, process.log_tail());
        self.processes.iter().enumerate().map(tail).collect()
    }
}

fn lines(switch: &Switch, node: usize, folder: &Path) -> String {
    let address = switch.address(node);
    let voter = |node| format!("{}@{}:{}", node + 1, switch.address(node), PORT + 1);
    let voters = (0..NODES).map(voter).collect::<Vec<_>>().join(",");
    format!(
        "process.roles=broker,controller\nnode.id={}\nbroker.rack=rack-{node}\ncontroller.quorum.voters={voters}\n\
         listeners=PLAINTEXT://{address}:{PORT},CONTROLLER://{address}:{}\nadvertised.listeners=PLAINTEXT://{address}:{PORT}\n\
         controller.listener.names=CONTROLLER\ninter.broker.listener.name=PLAINTEXT\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\nlog.dirs={}\n\
         default.replication.factor=3\nmin.insync.replicas=2\noffsets.topic.replication.factor=3\n\
         offsets.topic.num.partitions=5\ntransaction.state.log.replication.factor=3\ntransaction.state.log.min.isr=2\n\
         transaction.state.log.num.partitions=5\ngroup.initial.rebalance.delay.ms=0\nunclean.leader.election.enable=false\n\
         replica.lag.time.max.ms=4000\nbroker.session.timeout.ms=3000\nbroker.heartbeat.interval.ms=500\n\
         controlled.shutdown.enable=true\nlog.segment.bytes=1048576\n",
        node + 1,
        PORT + 1,
        folder.join("data").display()
    )
}

fn launch(kind: Kind, switch: &Switch, clock: &Clock, node: usize, folder: &Path) -> Result<Process> {
    let config = folder.join("server.properties");
    let mut command = match kind {
        Kind::Aqueduct => {
            let mut command = switch.command(node, &binary()?);
            command.arg("broker").arg("--config").arg(config);
            command
        }
        Kind::ApacheKafka => {
            let java = kafka::java("400m", "kafka.Kafka")?;
            let mut command = switch.command(node, Path::new("java"));
            command.args(java.get_args()).arg(config);
            command
        }
    };
    clock.apply(&mut command);
    Process::start("node", &mut command, &folder.join("log")).context("a node of the cluster")
}
