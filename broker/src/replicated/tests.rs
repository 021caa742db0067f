//! Three nodes in one process, over real directories.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{BrokerId, Uuid};
use aqueduct_quorum::{
    Directory, DirectoryId, MetadataQuorum, NodeId, Options, Peer, Quorum, Timing, Transport, TransportError,
};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::*;
use crate::controller::{Heartbeat, Registration};
use crate::metadata::features::FEATURES;
use crate::metadata::{BrokerEpoch, BrokerImage, Command, Placement};

const TOPIC: Uuid = Uuid([7; 16]);

#[derive(Clone, Default)]
struct Net(Arc<Mutex<BTreeMap<NodeId, Quorum>>>);

#[async_trait]
impl Transport for Net {
    async fn call(&self, to: NodeId, peer: &Peer, request: Bytes) -> Result<Bytes, TransportError> {
        let node = self.0.lock().get(&to).cloned();
        match node {
            Some(node) => Ok(node.serve(request).await),
            None => Err(TransportError::new(to, peer, "down")),
        }
    }
}

struct Node {
    metadata: Arc<QuorumMetadata>,
    quorum: Quorum,
    tasks: Tasks,
}

async fn start(net: &Net, dir: &Path, id: NodeId) -> Node {
    let peer = |id| Peer {
        directory: DirectoryId::UNKNOWN,
        listener: "C".into(),
        host: format!("node{id}"),
        port: 9093,
    };
    let options = Options {
        cluster_id: "c".into(),
        node: id,
        voters: (1..=3).map(|id| (id, peer(id))).collect(),
        new_directory: DirectoryId([id as u8; 16]),
        timing: Timing { snapshot_every: 20, keep: 5, ..Timing::default() },
    };
    let disk = Arc::new(Directory::open(&dir.join(id.to_string())).unwrap());
    let (machine, cell) = ImageMachine::new("c");
    let quorum = Quorum::start(options, disk, Arc::new(net.clone()), Box::new(machine)).await.unwrap();
    net.0.lock().insert(id, quorum.clone());
    let (tasks, settings) = (Tasks::default(), ControllerSettings::default());
    let settings = ControllerSettings { session_timeout_ms: 9_000, ..settings };
    let metadata = QuorumMetadata::start(cell, Arc::new(quorum.clone()), settings, &tasks);
    Node { metadata: Arc::new(metadata), quorum, tasks }
}

impl Node {
    async fn stop(self, net: &Net, id: NodeId) {
        net.0.lock().remove(&id);
        self.quorum.stop().await;
        self.tasks.stop().await;
    }
}

async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    for _ in 0..6_000 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain for {what}");
}

/// Asks all until the controller answers.
async fn ask(nodes: &BTreeMap<NodeId, Node>, request: Request) -> Result<Reply, ErrorCode> {
    until("the controller", || async {
        for node in nodes.values() {
            let asked =
                tokio::time::timeout(Duration::from_secs(5), node.metadata.ask(vec![request.clone()]));
            let Ok(replies) = asked.await else { continue };
            match replies.into_iter().next().unwrap() {
                Ok(reply) => return Some(Ok(reply)),
                Err(MetadataError::Rejected(rejection)) => return Some(Err(rejection.code)),
                Err(_) => {}
            }
        }
        None
    })
    .await
}

fn registration(id: i32) -> Request {
    let features = FEATURES.iter().map(|feature| (feature.name.into(), (feature.min, feature.max)));
    Request::Register(Registration {
        cluster_id: "c".into(),
        broker: BrokerImage {
            id: BrokerId(id),
            incarnation: Uuid([id as u8; 16]),
            endpoints: Vec::new(),
            rack: None,
        },
        previous_epoch: BrokerEpoch::NONE,
        features: features.collect(),
        directories: [Uuid([id as u8; 16])].into(),
    })
}

async fn beat(nodes: &BTreeMap<NodeId, Node>, id: i32, epoch: BrokerEpoch) {
    let applied = nodes.values().map(|node| node.metadata.image().version).max().unwrap_or(0);
    let broker = BrokerId(id);
    let beat = Heartbeat { broker, epoch, applied, want_fence: false, want_shut_down: false };
    ask(nodes, Request::Heartbeat(beat)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decisions_reach_all_nodes_and_outlive_the_one_that_made_them() {
    let (dir, net) = (tempfile::tempdir().unwrap(), Net::default());
    let mut nodes = BTreeMap::new();
    for id in 1..=3 {
        nodes.insert(id, start(&net, dir.path(), id).await);
    }
    let mut epochs = BTreeMap::new();
    for id in 1..=3 {
        let Ok(Reply::Registered(epoch)) = ask(&nodes, registration(id)).await else {
            panic!("not registered")
        };
        epochs.insert(id, epoch);
        beat(&nodes, id, epoch).await;
    }
    let replicas = [1, 2, 3].map(BrokerId).to_vec();
    let create = |id| {
        Request::Command(Command::CreateTopic {
            name: "t".into(),
            id,
            partitions: Placement::Assigned(BTreeMap::from([(0, replicas.clone())])),
            configs: BTreeMap::new(),
        })
    };
    // The same again is what was done, as the answer may be lost with a leader.
    for _ in 0..2 {
        let created = ask(&nodes, create(TOPIC)).await;
        assert!(created.is_ok(), "{created:?}");
    }
    assert_eq!(ask(&nodes, create(Uuid([9; 16]))).await, Err(ErrorCode::TopicAlreadyExists));
    let leader = until("a leader", || async {
        let leads = |node: &Node| node.quorum.watch().borrow().active_epoch.is_some();
        nodes.iter().find(|(_, node)| leads(node)).map(|(id, _)| *id)
    })
    .await;
    let gone = nodes.remove(&leader).unwrap();
    gone.stop(&net, leader).await;
    // Its broker is not heard of any more, either; the new controller learns that by itself.
    let dead = leader as i32;
    until("another leader of the partition", || async {
        for id in epochs.keys().filter(|id| **id != dead) {
            beat(&nodes, *id, epochs[id]).await;
        }
        let image = nodes.values().next().unwrap().metadata.image();
        let fenced = image.broker_state(BrokerId(dead)).is_some_and(|state| state.fenced);
        let partition = image.topic("t").unwrap().partitions[0].clone();
        (fenced && partition.leader.0 != dead && !partition.isr.contains(&BrokerId(dead))).then_some(())
    })
    .await;
    // Back again, it hears what was decided, perhaps as a snapshot.
    nodes.insert(leader, start(&net, dir.path(), leader).await);
    until("the same image everywhere", || async {
        let images: Vec<_> = nodes.values().map(|node| node.metadata.image()).collect();
        images.iter().all(|image| *image == images[0]).then_some(())
    })
    .await;
    for (id, node) in nodes {
        node.stop(&net, id).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_a_majority_refuses_until_it_has_one() {
    let (dir, net) = (tempfile::tempdir().unwrap(), Net::default());
    let mut nodes = BTreeMap::new();
    for id in 1..=3 {
        nodes.insert(id, start(&net, dir.path(), id).await);
    }
    assert!(matches!(ask(&nodes, registration(1)).await, Ok(Reply::Registered(_))));
    let active = |nodes: &BTreeMap<NodeId, Node>| {
        nodes.iter().find(|(_, node)| node.quorum.watch().borrow().active_epoch.is_some()).map(|(id, _)| *id)
    };
    let leader = until("a leader", || async { active(&nodes) }).await;
    let others: Vec<(NodeId, Quorum)> = {
        let mut net = net.0.lock();
        (1..=3).filter(|id| *id != leader).map(|id| (id, net.remove(&id).unwrap())).collect()
    };

    // The first finds out, whoever comes later is told at once.
    for id in [2, 3] {
        let asked = nodes[&leader].metadata.ask(vec![registration(id)]);
        let replies = tokio::time::timeout(Duration::from_secs(60), asked).await.expect("an answer");
        assert!(matches!(replies[..], [Err(MetadataError::NotController { leader: None })]), "{replies:?}");
    }
    assert_eq!(nodes[&leader].quorum.watch().borrow().active_epoch, None);

    net.0.lock().extend(others);
    for id in [2, 3] {
        assert!(matches!(ask(&nodes, registration(id)).await, Ok(Reply::Registered(_))));
    }
    // Nothing that was not known was decided upon twice: all have the same image.
    until("the same image everywhere", || async {
        let versions: Vec<_> = nodes.values().map(|node| node.metadata.image().version).collect();
        versions.windows(2).all(|pair| pair[0] == pair[1]).then_some(())
    })
    .await;
    for (id, node) in nodes {
        node.stop(&net, id).await;
    }
}
