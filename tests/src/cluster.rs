//! Several nodes of ours that are one cluster, each a broker and a voter of the metadata quorum, on loopback.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::aqueduct::binary;
use crate::process::{Process, accepts, free_port};

/// How long a node may take until it listens: it waits for a controller before.
const START: Duration = Duration::from_secs(120);

/// A node of the cluster.
struct Node {
    process: Process,
    port: u16,
    controller: u16,
}

/// Running nodes, numbered from 1.
pub struct Cluster {
    nodes: BTreeMap<i32, Node>,
    dir: TempDir,
}

impl Cluster {
    /// Starts `count` nodes with empty directories and waits until all of them listen. Brokers that die are noticed after
    /// nine seconds; `settings` are more lines of each `server.properties`, in which
    /// `{id}` stands for the node.
    ///
    /// # Errors
    /// With the end of a node's log, where one does not start.
    pub fn start(count: i32, settings: &[(&str, &str)]) -> Result<Self> {
        Self::start_build(&binary()?, count, settings)
    }

    /// The same with another build of the binary.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_build(program: &Path, count: i32, settings: &[(&str, &str)]) -> Result<Self> {
        let dir = TempDir::with_prefix("aqueduct-cluster-")?;
        let mut ports = BTreeMap::new();
        for id in 1..=count {
            ports.insert(id, (free_port()?, free_port()?));
        }
        let voters: Vec<String> =
            ports.iter().map(|(id, (_, controller))| format!("{id}@127.0.0.1:{controller}")).collect();
        let voters = voters.join(",");
        let mut nodes = BTreeMap::new();
        for (id, (port, controller)) in &ports {
            let home = dir.path().join(id.to_string());
            std::fs::create_dir(&home)?;
            let all = [&[("controller.quorum.voters", voters.as_str())], settings].concat();
            write(&home, *id, (*port, *controller), &all)?;
            let process = launch(program, &home, *id)?;
            nodes.insert(*id, Node { process, port: *port, controller: *controller });
        }
        let mut cluster = Self { nodes, dir };
        for id in 1..=count {
            cluster.wait(id)?;
        }
        Ok(cluster)
    }

    fn node(&mut self, id: i32) -> Result<&mut Node> {
        self.nodes.get_mut(&id).with_context(|| format!("no node {id}"))
    }

    fn wait(&mut self, id: i32) -> Result<()> {
        let Node { process, port, .. } = self.node(id)?;
        process.wait_until(START, || accepts(*port))
    }

    /// Starts one more node, which asks the others to let it follow the quorum, and waits until it listens. It has no vote.
    ///
    /// # Errors
    /// With the end of its log, where it does not start.
    pub fn join(&mut self, id: i32, settings: &[(&str, &str)]) -> Result<()> {
        let (port, controller) = (free_port()?, free_port()?);
        let home = self.dir.path().join(id.to_string());
        std::fs::create_dir(&home)?;
        let others: Vec<_> =
            self.nodes.values().map(|node| format!("127.0.0.1:{}", node.controller)).collect();
        let others = others.join(",");
        let bootstrap = [&[("controller.quorum.bootstrap.servers", others.as_str())], settings].concat();
        write(&home, id, (port, controller), &bootstrap)?;
        self.nodes.insert(id, Node { process: launch(&binary()?, &home, id)?, port, controller });
        self.wait(id)
    }

    /// The numbers of all nodes.
    pub fn ids(&self) -> Vec<i32> {
        self.nodes.keys().copied().collect()
    }

    /// The `server.properties` of a node.
    pub fn properties(&self, id: i32) -> PathBuf {
        self.dir.path().join(id.to_string()).join("server.properties")
    }

    /// `host:port` of every node, for clients.
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<_> = self.nodes.values().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        addresses.join(",")
    }

    /// `host:port` of every node but one.
    pub fn bootstrap_without(&self, id: i32) -> String {
        let others = self.nodes.iter().filter(|(other, _)| **other != id);
        let addresses: Vec<_> = others.map(|(_, node)| format!("127.0.0.1:{}", node.port)).collect();
        addresses.join(",")
    }

    /// Ends a node with SIGKILL.
    ///
    /// # Errors
    /// Where there is no such node.
    pub fn kill(&mut self, id: i32) -> Result<()> {
        self.node(id)?.process.kill();
        Ok(())
    }

    /// Ends a node with SIGTERM.
    ///
    /// # Errors
    /// Where it does not end.
    pub fn stop(&mut self, id: i32) -> Result<()> {
        self.node(id)?.process.terminate(START)
    }

    /// Starts a node again, with its data and on its ports, and waits until it listens.
    ///
    /// # Errors
    /// With the end of its log, where it does not.
    pub fn restart(&mut self, id: i32) -> Result<()> {
        self.restart_build(&binary()?, id)
    }

    /// The same with another build of the binary.
    ///
    /// # Errors
    /// As [`Self::restart`].
    pub fn restart_build(&mut self, program: &Path, id: i32) -> Result<()> {
        self.node(id)?.process.kill();
        let process = launch(program, &self.dir.path().join(id.to_string()), id)?;
        self.node(id)?.process = process;
        self.wait(id)
    }

    /// The end of what every node has logged, for the message of a test that fails.
    pub fn logs(&self) -> String {
        let tail = |(id, node): (&i32, &Node)| format!("--- node {id}\n{}\n", node.process.log_tail());
        self.nodes.iter().map(tail).collect()
    }

    /// Asks again until there is an answer, which must come within `limit`.
    ///
    /// # Errors
    /// With what was wrong the last time, and the ends of the logs.
    pub fn eventually<T>(
        &self,
        what: &str,
        limit: Duration,
        mut ask: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        let from = Instant::now();
        loop {
            match ask() {
                Ok(answer) => return Ok(answer),
                Err(error) if from.elapsed() > limit => bail!("{what}: {error:#}\n{}", self.logs()),
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }
}

/// Writes the `server.properties` of a node with its ports for clients and controllers.
fn write(home: &Path, id: i32, (port, controller): (u16, u16), settings: &[(&str, &str)]) -> Result<()> {
    let mut lines = format!(
        "process.roles=broker,controller\nnode.id={id}\nlog.dirs={}\n\
         controller.listener.names=CONTROLLER\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         aqueduct.cluster.id=ClusterOfTheSystemTest\n\
         broker.session.timeout.ms=9000\nbroker.heartbeat.interval.ms=500\n\
         offsets.topic.num.partitions=4\ntransaction.state.log.num.partitions=4\n\
         group.initial.rebalance.delay.ms=0\n",
        home.join("data").display(),
    );
    for (key, value) in settings {
        lines.push_str(&format!("{key}={}\n", value.replace("{id}", &id.to_string())));
    }
    Ok(std::fs::write(home.join("server.properties"), lines)?)
}

fn launch(program: &Path, home: &Path, id: i32) -> Result<Process> {
    let mut command = Command::new(program);
    command.arg("broker").arg("--config").arg(home.join("server.properties"));
    Process::start(&format!("node {id}"), &mut command, &home.join("log"))
}
