//! Several nodes in this process, over loopback ports: started, asked, stopped and started again.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aqueduct_broker::metadata::MetadataImage;
use aqueduct_broker::{Broker, Error, Handle, Options};
use tokio::time::{Instant, timeout};

use super::Client;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// The cluster that its disks are formatted for.
pub const CLUSTER_ID: &str = "4L6g3nShT-eMCtK--X86sw";

/// How a cluster is made.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Controllers alone: 1 to this.
    pub controllers: i32,
    /// Brokers and controllers in one, with the numbers after those.
    pub combined: i32,
    /// Brokers alone, with the numbers after those.
    pub brokers: i32,
    /// Node 1 is `controller.quorum.bootstrap.servers`, instead of voters that all know.
    pub dynamic: bool,
    /// More settings for all.
    pub settings: Vec<(String, String)>,
}

impl Plan {
    pub fn combined(nodes: i32) -> Self {
        Self { controllers: 0, combined: nodes, brokers: 0, dynamic: false, settings: Vec::new() }
    }

    pub fn controllers(nodes: i32) -> Self {
        Self { controllers: nodes, combined: 0, brokers: 0, dynamic: false, settings: Vec::new() }
    }

    #[must_use]
    pub fn dynamic(mut self) -> Self {
        self.dynamic = true;
        self
    }

    fn voters(&self) -> i32 {
        self.controllers + self.combined
    }

    #[must_use]
    pub fn brokers(mut self, nodes: i32) -> Self {
        self.brokers = nodes;
        self
    }

    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.push((key.to_owned(), value.to_owned()));
        self
    }
}

/// The nodes of one cluster, by their numbers.
pub struct Cluster {
    dir: tempfile::TempDir,
    plan: Plan,
    /// Of the listeners of controllers, and of those for clients.
    ports: BTreeMap<i32, (u16, u16)>,
    nodes: BTreeMap<i32, Handle>,
}

impl Cluster {
    /// Formats all disks and starts all nodes at once; returns when all take part.
    pub async fn start(plan: Plan) -> Self {
        let mut cluster = Self::empty(plan);
        let all: Vec<_> = cluster.ports.keys().copied().collect();
        all.iter().for_each(|id| format(&cluster.dir_of(*id), *id, CLUSTER_ID));
        cluster.start_again(&all).await;
        cluster
    }

    /// Nodes that have no disks and do not run.
    pub fn empty(plan: Plan) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let all = plan.voters() + plan.brokers;
        let free = free_ports(2 * all as usize);
        let ports = (1..=all).zip(free.chunks(2)).map(|(id, pair)| (id, (pair[0], pair[1]))).collect();
        Self { dir, plan, ports, nodes: BTreeMap::new() }
    }

    /// Starts nodes that do not run, all at once.
    pub async fn start_again(&mut self, ids: &[i32]) {
        let starting = ids.iter().map(|id| {
            let (id, options) = (*id, self.options(*id));
            tokio::spawn(async move { (id, timeout(PATIENCE, Broker::start(options)).await) })
        });
        let starting: Vec<_> = starting.collect();
        for started in starting {
            let (id, started) = started.await.unwrap();
            let node = started.unwrap_or_else(|_| panic!("node {id} did not start in time"));
            self.nodes.insert(id, node.unwrap_or_else(|error| panic!("node {id}: {error}")));
        }
    }

    /// What a node is started with.
    pub fn options(&self, id: i32) -> Options {
        let (controller, client) = self.ports[&id];
        let (is_controller, is_broker) = (id <= self.plan.voters(), id > self.plan.controllers);
        let roles = match (is_controller, is_broker) {
            (true, true) => "broker,controller",
            (true, false) => "controller",
            _ => "broker",
        };
        let voters = (1..=self.plan.voters()).map(|id| format!("{id}@127.0.0.1:{}", self.ports[&id].0));
        let mut options = Options::embedded(&self.dir_of(id), client);
        options
            .set("node.id", &id.to_string())
            .set("process.roles", roles)
            .set("controller.listener.names", "CONTROLLER")
            .set("broker.heartbeat.interval.ms", "200")
            .set("broker.session.timeout.ms", "15000");
        match self.plan.dynamic {
            true => options.set("controller.quorum.bootstrap.servers", &self.controller_at(1)),
            false => options.set("controller.quorum.voters", &voters.collect::<Vec<_>>().join(",")),
        };
        let mut listeners = Vec::new();
        if is_broker {
            listeners.push(format!("PLAINTEXT://127.0.0.1:{client}"));
        }
        if is_controller {
            listeners.push(format!("CONTROLLER://127.0.0.1:{controller}"));
        }
        options.set("listeners", &listeners.join(","));
        for (key, value) in &self.plan.settings {
            options.set(key, value);
        }
        options
    }

    /// Where the controller of a node listens.
    pub fn controller_at(&self, id: i32) -> String {
        format!("127.0.0.1:{}", self.ports[&id].0)
    }

    pub fn dir_of(&self, id: i32) -> PathBuf {
        self.dir.path().join(id.to_string())
    }

    /// The nodes that run.
    pub fn ids(&self) -> Vec<i32> {
        self.nodes.keys().copied().collect()
    }

    pub fn node(&self, id: i32) -> &Handle {
        &self.nodes[&id]
    }

    pub fn image(&self, id: i32) -> std::sync::Arc<MetadataImage> {
        self.nodes[&id].image()
    }

    /// A connection to a node's listener for clients.
    pub async fn client(&self, id: i32) -> Client {
        Client::connect(&self.nodes[&id]).await
    }

    /// The node that decides, as the others see it.
    pub async fn controller(&self) -> i32 {
        self.until("an active controller", |node| node.controller_id().map(|id| id.0)).await
    }

    /// Stops a node in order.
    pub async fn stop(&mut self, id: i32) {
        let node = self.nodes.remove(&id).expect("a node that runs");
        timeout(PATIENCE, node.shutdown()).await.expect("the node stops in time");
    }

    /// Stops all at once.
    pub async fn stop_all(mut self) {
        let nodes = std::mem::take(&mut self.nodes);
        let stopping: Vec<_> =
            nodes.into_values().map(|node| tokio::spawn(async move { node.shutdown().await })).collect();
        for stopped in stopping {
            timeout(PATIENCE, stopped).await.expect("the node stops in time").unwrap();
        }
    }

    /// Waits until some node shows what is looked for.
    pub async fn until<T>(&self, what: &str, mut look: impl FnMut(&Handle) -> Option<T>) -> T {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(found) = self.nodes.values().find_map(&mut look) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("waited in vain for {what}");
    }

    /// Waits until every node's image shows what is looked for.
    pub async fn until_all(&self, what: &str, look: impl Fn(&MetadataImage) -> bool) {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if self.nodes.values().all(|node| look(&node.image())) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("waited in vain for {what}");
    }
}

/// Starts a node that is not to start, and says why it did not.
pub async fn refusal(options: Options) -> Error {
    match timeout(PATIENCE, Broker::start(options)).await.expect("an answer in time") {
        Ok(_) => panic!("the node started"),
        Err(error) => error,
    }
}

/// Writes what a disk is formatted with.
pub fn format(dir: &Path, node: i32, cluster_id: &str) {
    std::fs::create_dir_all(dir).unwrap();
    // 22 digits of URL-safe base64, of which the last has four bits of nothing.
    let directory = format!("AAAAAAAAAA{:08}{node:03}A", rand_number() % 100_000_000);
    let text = format!("cluster.id={cluster_id}\ndirectory.id={directory}\nnode.id={node}\nversion=1\n");
    std::fs::write(dir.join("meta.properties"), text).unwrap();
}

/// Differs from call to call and process to process.
fn rand_number() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}

/// Ports that nobody listens on, below those that connections are made from.
fn free_ports(count: usize) -> Vec<u16> {
    let mut held = Vec::new();
    let mut next = 21_000 + (rand_number() % 9_000) as u16;
    while held.len() < count {
        next = if next >= 31_000 { 21_000 } else { next + 1 };
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", next)) {
            held.push(listener);
        }
    }
    held.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}
