//! Followers that stand still, on three real nodes.

#[path = "../../tests/common/mod.rs"]
mod common;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use aqueduct_protocol::ids::{PartitionIndex, Uuid};
use aqueduct_protocol::messages::CreateTopicsRequest;
use aqueduct_protocol::messages::create_topics_request::CreatableTopic;

use super::role::Role;
use common::cluster::{Cluster, Plan};
use common::{batch, produce_request};

/// Keeps a follower's log from being written to, until the sender is dropped.
async fn hold_still(cluster: &Cluster, id: i32, topic: Uuid) -> mpsc::Sender<()> {
    let node = cluster.node(id).node().clone();
    let began = Instant::now();
    let follower = loop {
        let partition = node.partitions.opened(topic, PartitionIndex(0));
        match partition.map(|partition| partition.role.load_full()).as_deref() {
            Some(Role::Follower(follower)) => break follower.clone(),
            _ => assert!(began.elapsed() < Duration::from_secs(60), "node {id} follows"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let (release, released) = mpsc::channel::<()>();
    let (held, is_held) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        let _over = follower.over.lock();
        drop(held);
        let _ = released.recv();
    });
    tokio::task::spawn_blocking(move || is_held.recv()).await.unwrap().unwrap_err();
    release
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_lags_leaves_the_in_sync_set_and_comes_back() {
    // Nobody is to be taken for dead on a busy machine.
    let plan = Plan::combined(3).set("broker.session.timeout.ms", "60000");
    let cluster = Cluster::start(plan.set("replica.lag.time.max.ms", "1500")).await;
    let wanted =
        CreatableTopic { name: "t".into(), num_partitions: 1, replication_factor: 3, ..Default::default() };
    let request = CreateTopicsRequest { topics: vec![wanted], timeout_ms: 30_000, ..Default::default() };
    let response = cluster.client(1).await.call(&request, 7).await;
    assert_eq!(response.topics[0].error_code, 0, "{response:?}");
    let topic_id = response.topics[0].topic_id;
    let in_sync = |count: usize| {
        let is_so = move |image: &crate::metadata::MetadataImage| {
            image.topic("t").is_some_and(|topic| topic.partitions[0].isr.len() == count)
        };
        cluster.until_all("the in-sync set", is_so)
    };
    in_sync(3).await;
    let leader = cluster.image(1).topic("t").unwrap().partitions[0].leader.0;
    let follower = leader % 3 + 1;
    let held = hold_still(&cluster, follower, topic_id).await;
    // Committed only when the leader has had the set made smaller.
    let mut client = cluster.client(leader).await;
    let mut request = produce_request("t", Uuid::ZERO, 0, Some(batch(&["one"])), -1);
    request.timeout_ms = 50_000;
    let response = client.call(&request, 12).await;
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0, "{response:?}");
    in_sync(2).await;
    let image = cluster.image(leader);
    assert!(image.is_live(aqueduct_protocol::ids::BrokerId(follower)), "nobody but the leader took it out");
    drop(held);
    in_sync(3).await;
    cluster.stop_all().await;
}
