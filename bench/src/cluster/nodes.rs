//! Three nodes of ours or of Apache Kafka's on loopback, each a broker and a controller.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use aqueduct_tests::kafka::{stock_java, tool};
use aqueduct_tests::process::{Process, accepts, free_port};
use tempfile::TempDir;

use crate::measure::{cpu_seconds, memory_mib};
use crate::peer::aqueduct;
use crate::report::OURS;

pub const NODES: usize = 3;
/// Both kinds, in the order in which they run.
pub const PEERS: [&str; 2] = [OURS, "kafka"];
const CLUSTER: &str = "AqueductBenchAAAAAAAAA";
/// After so long without a heartbeat a broker counts as dead, with both kinds.
pub const SESSION: Duration = Duration::from_millis(3000);

/// A running cluster. Its processes end and its files go when it is dropped.
pub struct Cluster {
    pub peer: &'static str,
    pub ports: Vec<u16>,
    processes: Vec<Process>,
    dir: TempDir,
}

impl Cluster {
    /// Starts three nodes on empty directories and waits until all of them accept connections.
    pub fn start(peer: &'static str) -> Result<Self> {
        let dir = TempDir::with_prefix("bench-cluster-")?;
        let free = |_| free_port();
        let ports = (0..NODES).map(free).collect::<Result<Vec<u16>>>()?;
        let controllers = (0..NODES).map(free).collect::<Result<Vec<u16>>>()?;
        let voter = |(node, port): (usize, &u16)| format!("{}@127.0.0.1:{port}", node + 1);
        let voters: Vec<String> = controllers.iter().enumerate().map(voter).collect();
        for node in 0..NODES {
            let folder = dir.path().join(node.to_string());
            fs::create_dir(&folder)?;
            let config = folder.join("server.properties");
            let mut settings = lines(node, ports[node], controllers[node], &voters.join(","), &folder);
            if peer == OURS {
                settings.push_str(&format!("aqueduct.cluster.id={CLUSTER}\n"));
            }
            fs::write(&config, settings)?;
            if peer != OURS {
                let config = config.to_string_lossy();
                tool("kafka.tools.StorageTool", &["format", "-t", CLUSTER, "-c", &config])?;
            }
        }
        let start = |node: usize| launch(peer, &dir.path().join(node.to_string()));
        let processes = (0..NODES).map(start).collect::<Result<Vec<Process>>>()?;
        let mut cluster = Self { peer, ports, processes, dir };
        (0..NODES).try_for_each(|node| cluster.wait(node))?;
        Ok(cluster)
    }

    fn folder(&self, node: usize) -> PathBuf {
        self.dir.path().join(node.to_string())
    }

    fn wait(&mut self, node: usize) -> Result<()> {
        let port = self.ports[node];
        self.processes[node].wait_until(Duration::from_secs(120), || accepts(port))
    }

    pub fn bootstrap(&self) -> String {
        self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",")
    }

    /// CPU seconds of all nodes so far.
    pub fn cpu(&self) -> Result<f64> {
        self.processes.iter().map(|process| cpu_seconds(process.id())).sum()
    }

    /// MiB of all nodes now, and at their peaks.
    pub fn memory(&self) -> Result<(f64, f64)> {
        self.processes.iter().try_fold((0.0, 0.0), |(now, peak), process| {
            let (one, most) = memory_mib(process.id())?;
            Ok((now + one, peak + most))
        })
    }

    pub fn kill(&mut self, node: usize) {
        self.processes[node].kill();
    }

    /// Stops a node cleanly.
    pub fn stop(&mut self, node: usize) -> Result<()> {
        self.processes[node].terminate(Duration::from_secs(120))
    }

    /// Starts nodes again that have ended, and waits until they accept connections; gives when they were started.
    pub fn restart(&mut self, nodes: &[usize]) -> Result<Instant> {
        let from = Instant::now();
        for node in nodes {
            ensure!(!self.processes[*node].is_running(), "node {node} still runs");
            self.processes[*node] = launch(self.peer, &self.folder(*node))?;
        }
        nodes.iter().try_for_each(|node| self.wait(*node))?;
        Ok(from)
    }
}

fn lines(node: usize, port: u16, controller: u16, voters: &str, folder: &Path) -> String {
    format!(
        "process.roles=broker,controller\nnode.id={}\ncontroller.quorum.voters={voters}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\ncontroller.listener.names=CONTROLLER\n\
         inter.broker.listener.name=PLAINTEXT\nlistener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         log.dirs={}\ndefault.replication.factor=3\nmin.insync.replicas=2\noffsets.topic.replication.factor=3\n\
         offsets.topic.num.partitions=5\ngroup.initial.rebalance.delay.ms=0\nbroker.session.timeout.ms={}\n\
         broker.heartbeat.interval.ms=500\n",
        node + 1,
        folder.join("data").display(),
        SESSION.as_millis(),
    )
}

fn launch(peer: &str, folder: &Path) -> Result<Process> {
    let mut command = if peer == OURS {
        let mut command = Command::new(aqueduct()?);
        command.args(["broker", "--config"]);
        command
    } else {
        // As kafka-server-start.sh does.
        stock_java("1g", "1g", "kafka.Kafka")?
    };
    command.arg(folder.join("server.properties"));
    Process::start(peer, &mut command, &folder.join("log"))
}
