//! Three nodes of ours or of Apache Kafka's on loopback, each a broker and a controller.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aqueduct_client::{Admin, Client, ClientConfig};
use aqueduct_tests::kafka::{stock_java, tool};
use aqueduct_tests::process::{Process, accepts, free_port};
use tempfile::TempDir;

use crate::measure::{cpu_seconds, memory_mib};
use crate::peer::aqueduct;
use crate::report::OURS;
use crate::wire::Connection;

pub const NODES: usize = 3;
/// Both kinds, in the order in which they run.
pub const PEERS: [&str; 2] = [OURS, "kafka"];
const CLUSTER: &str = "AqueductBenchAAAAAAAAA";
/// After so long without a heartbeat a broker counts as dead, with both kinds.
pub const SESSION: Duration = Duration::from_millis(3000);

/// For a start.
const LIMIT: Duration = Duration::from_secs(120);

/// What a node goes by in the cluster.
pub fn node_id(node: usize) -> i32 {
    node as i32 + 1
}

/// Files of clusters that have ended. To remove many slows the file system down for minutes, for who is measured next.
static ENDED: Mutex<Vec<TempDir>> = Mutex::new(Vec::new());

/// Removes them.
pub fn clear() {
    ENDED.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

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
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(cluster.all_live())?;
        Ok(cluster)
    }

    /// Waits until each node knows that all are there, so that all get their share of what is created.
    async fn all_live(&self) -> Result<()> {
        let from = Instant::now();
        for port in &self.ports {
            let mut connection = Connection::open(*port).await?;
            while connection.brokers().await? < NODES {
                ensure!(from.elapsed() < LIMIT, "not all {NODES} brokers take part");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// An admin of the whole cluster.
    pub fn admin(&self) -> Result<Admin> {
        let bootstrap = BTreeMap::from([("bootstrap.servers".to_owned(), self.bootstrap())]);
        Ok(Admin::new(Client::new(ClientConfig::from_properties(&bootstrap)?.0)))
    }

    /// Which node is the active controller.
    pub async fn active_controller(&self) -> Result<usize> {
        let id = self.admin()?.describe_quorum().await?.leader;
        (0..NODES).find(|node| node_id(*node) == id).with_context(|| format!("no node {id}"))
    }

    fn folder(&self, node: usize) -> PathBuf {
        self.dir.path().join(node.to_string())
    }

    fn wait(&mut self, node: usize) -> Result<()> {
        let port = self.ports[node];
        self.processes[node].wait_until(LIMIT, || accepts(port))
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

    /// Ends it, and keeps its files until [`clear`].
    pub fn end(self) {
        let Self { processes, dir, .. } = self;
        drop(processes);
        ENDED.lock().unwrap_or_else(PoisonError::into_inner).push(dir);
    }

    pub fn kill(&mut self, node: usize) {
        self.processes[node].kill();
    }

    /// Stops a node cleanly.
    pub fn stop(&mut self, node: usize) -> Result<()> {
        self.processes[node].terminate(LIMIT)
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
        node_id(node),
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
