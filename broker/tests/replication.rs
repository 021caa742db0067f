//! Partitions with several replicas, on three real nodes.

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use aqueduct_broker::metadata::{MetadataImage, PartitionImage};
use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::ids::{BrokerId, Uuid};
use aqueduct_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use aqueduct_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use aqueduct_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use aqueduct_protocol::messages::delete_topics_request::DeleteTopicState;
use aqueduct_protocol::messages::{
    AlterPartitionReassignmentsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
};

use common::cluster::{Cluster, Plan};
use common::{Client, batch, fetch_request, produce_request, values};

/// On a busy machine no broker is to be taken for dead that is not.
fn patient(plan: Plan) -> Plan {
    plan.set("broker.session.timeout.ms", "30000")
}

fn partition<'a>(image: &'a MetadataImage, topic: &str) -> Option<&'a PartitionImage> {
    image.topic(topic)?.partitions.first()
}

async fn create(cluster: &Cluster, topic: &str, min_isr: i32) -> Uuid {
    let config =
        CreatableTopicConfig { name: "min.insync.replicas".into(), value: Some(min_isr.to_string().into()) };
    let wanted = CreatableTopic {
        name: topic.into(),
        num_partitions: 1,
        replication_factor: 3,
        configs: vec![config],
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![wanted], timeout_ms: 30_000, ..Default::default() };
    let id = cluster.ids()[0];
    let mut client = cluster.client(id).await;
    let mut tries = 0;
    let topic_id = loop {
        let response = client.call(&request, 7).await;
        let created = &response.topics[0];
        match ErrorCode::from_code(created.error_code) {
            ErrorCode::None => break created.topic_id,
            code if tries < 600 => {
                assert_ne!(code, ErrorCode::InvalidReplicationFactor, "{:?}", created.error_message);
                tries += 1;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            code => panic!("{code:?}: {:?}", created.error_message),
        }
    };
    in_sync(cluster, topic, 3).await;
    topic_id
}

async fn in_sync(cluster: &Cluster, topic: &str, count: usize) {
    let what = format!("{count} in-sync replicas of {topic}");
    cluster.until_all(&what, |image| partition(image, topic).is_some_and(|p| p.isr.len() == count)).await;
}

async fn leader(cluster: &Cluster, topic: &str) -> i32 {
    let runs = cluster.ids();
    cluster
        .until("a leader that runs", |node| {
            let image = node.image();
            let leader = partition(&image, topic)?.leader.0;
            runs.contains(&leader).then_some(leader)
        })
        .await
}

/// Writes to whoever leads, again where that has changed, until all in-sync replicas have it.
async fn produce(cluster: &Cluster, topic: &str, value: &str) {
    for _ in 0..1200 {
        let mut client = cluster.client(leader(cluster, topic).await).await;
        let mut request = produce_request(topic, Uuid::ZERO, 0, Some(batch(&[value])), -1);
        request.timeout_ms = 30_000;
        let mut response = client.call(&request, 12).await;
        let answer = response.responses.remove(0).partition_responses.remove(0);
        match ErrorCode::from_code(answer.error_code) {
            ErrorCode::None => return,
            ErrorCode::NotLeaderOrFollower
            | ErrorCode::NotEnoughReplicas
            | ErrorCode::LeaderNotAvailable
            | ErrorCode::UnknownTopicOrPartition => {}
            code => panic!("{code:?}: {:?}", answer.error_message),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{value} is not taken");
}

/// All that consumers see of a topic, from whoever leads; what was written again after an error counts once.
async fn read(cluster: &Cluster, topic: &str, count: usize) -> Vec<String> {
    for _ in 0..1200 {
        let mut client = cluster.client(leader(cluster, topic).await).await;
        let response = client.call(&fetch_request(topic, Uuid::ZERO, 0, 0), 12).await;
        let found = &response.responses[0].partitions[0];
        if found.error_code == 0 {
            let mut found = values(found.records.clone());
            found.dedup();
            if found.len() >= count {
                return found;
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{count} records are not there");
}

fn numbered(range: std::ops::Range<i32>) -> Vec<String> {
    range.map(|n| format!("value-{n}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_outlives_each_leader_in_turn() {
    let mut cluster = Cluster::start(patient(Plan::combined(3))).await;
    create(&cluster, "t", 2).await;
    let mut written = Vec::new();
    for round in 0..3 {
        for value in numbered(round * 5..round * 5 + 5) {
            produce(&cluster, "t", &value).await;
            written.push(value);
        }
        let gone = leader(&cluster, "t").await;
        cluster.stop(gone).await;
        in_sync(&cluster, "t", 2).await;
        assert_eq!(read(&cluster, "t", written.len()).await, written, "without node {gone}");
        let more = format!("without-{gone}-{round}");
        produce(&cluster, "t", &more).await;
        written.push(more);
        cluster.start_again(&[gone]).await;
        in_sync(&cluster, "t", 3).await;
    }
    assert_eq!(read(&cluster, "t", written.len()).await, written);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_few_replicas_refuse_and_a_wiped_one_comes_back() {
    let mut cluster = Cluster::start(patient(Plan::combined(3))).await;
    let first_id = create(&cluster, "t", 2).await;
    create(&cluster, "strict", 3).await;
    create(&cluster, "again", 1).await;
    for value in numbered(0..10) {
        produce(&cluster, "t", &value).await;
    }
    produce(&cluster, "again", "of the first").await;
    let leads = leader(&cluster, "t").await;
    let follower = cluster.ids().into_iter().find(|id| *id != leads).unwrap();

    // Whoever does not lead says who does, or serves consumers of the present epoch itself.
    let mut client = cluster.client(follower).await;
    let mut known = 0;
    for _ in 0..1200 {
        let response = client.call(&fetch_request("", first_id, 0, 0), 17).await;
        let found = &response.responses[0].partitions[0];
        assert_eq!(found.error_code, 0);
        known = values(found.records.clone()).len();
        if known == 10 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(known, 10, "the follower hears of what is committed");
    let mut request = fetch_request("", first_id, 0, 0);
    request.topics[0].partitions[0].current_leader_epoch = 1_000;
    let response = client.call(&request, 17).await;
    let found = &response.responses[0].partitions[0];
    assert_eq!(ErrorCode::from_code(found.error_code), ErrorCode::UnknownLeaderEpoch);
    (request.replica_state.replica_id, request.replica_state.replica_epoch) = (follower, -1);
    request.topics[0].partitions[0].current_leader_epoch = -1;
    let response = client.call(&request, 17).await;
    let found = &response.responses[0].partitions[0];
    assert_eq!(ErrorCode::from_code(found.error_code), ErrorCode::NotLeaderOrFollower);
    assert_eq!(found.current_leader.leader_id, leads);
    assert_eq!(response.node_endpoints[0].node_id, leads);
    let request = produce_request("t", Uuid::ZERO, 0, Some(batch(&["elsewhere"])), -1);
    let response = client.call(&request, 12).await;
    let refused = &response.responses[0].partition_responses[0];
    assert_eq!(ErrorCode::from_code(refused.error_code), ErrorCode::NotLeaderOrFollower);
    assert_eq!(refused.current_leader.leader_id, leads);
    assert_eq!(response.node_endpoints[0].node_id, leads);
    drop(client);

    cluster.stop(follower).await;
    in_sync(&cluster, "t", 2).await;
    in_sync(&cluster, "strict", 2).await;
    let mut client = cluster.client(leader(&cluster, "strict").await).await;
    let acked = |acks| produce_request("strict", Uuid::ZERO, 0, Some(batch(&["few"])), acks);
    refused_for(&mut client, &acked(-1), ErrorCode::NotEnoughReplicas).await;
    refused_for(&mut client, &acked(1), ErrorCode::None).await;
    produce(&cluster, "t", "late").await;
    // A topic is deleted and made again while a node with a replica is away; another replica is wiped.
    let again = cluster.ids()[0];
    delete(&cluster, again, "again").await;
    cluster.until_all("the topic is gone", |image| image.topic("again").is_none()).await;
    create_with_two(&cluster, "again").await;
    std::fs::remove_dir_all(cluster.dir_of(follower).join("t-0")).unwrap();
    cluster.start_again(&[follower]).await;
    in_sync(&cluster, "t", 3).await;
    in_sync(&cluster, "again", 3).await;
    produce(&cluster, "t", "last").await;
    produce(&cluster, "again", "of the second").await;
    let mut all = numbered(0..10);
    all.extend(["late".to_owned(), "last".to_owned()]);
    // The one that was wiped has all, and can lead.
    for id in cluster.ids().into_iter().filter(|id| *id != follower).take(1) {
        cluster.stop(id).await;
    }
    assert_eq!(read(&cluster, "t", all.len()).await, all);
    assert_eq!(read(&cluster, "again", 1).await, ["of the second"]);
    let logs: BTreeMap<i32, Vec<u8>> = cluster
        .ids()
        .into_iter()
        .map(|id| {
            let file = cluster.dir_of(id).join("t-0/00000000000000000000.log");
            (id, std::fs::read(file).unwrap())
        })
        .collect();
    let first = logs.values().next().unwrap();
    assert!(logs.values().all(|log| log == first), "the logs are the same, byte for byte");
    cluster.stop_all().await;
}

/// Asks until the answer has that code: a leader hears a little later than others of what changes.
async fn refused_for(
    client: &mut Client,
    request: &aqueduct_protocol::messages::ProduceRequest,
    wanted: ErrorCode,
) {
    let mut code = ErrorCode::None;
    for _ in 0..1200 {
        let response = client.call(request, 12).await;
        code = ErrorCode::from_code(response.responses[0].partition_responses[0].error_code);
        if code == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{code:?} instead of {wanted:?}");
}

async fn delete(cluster: &Cluster, id: i32, topic: &str) {
    let name = DeleteTopicState { name: Some(topic.into()), ..Default::default() };
    let request = DeleteTopicsRequest { topics: vec![name], timeout_ms: 30_000, ..Default::default() };
    let response = cluster.client(id).await.call(&request, 6).await;
    assert_eq!(response.responses[0].error_code, 0, "{:?}", response.responses[0].error_message);
}

/// With three replicas while one broker is away.
async fn create_with_two(cluster: &Cluster, topic: &str) {
    let wanted =
        CreatableTopic { name: topic.into(), num_partitions: 1, replication_factor: 3, ..Default::default() };
    let request = CreateTopicsRequest { topics: vec![wanted], timeout_ms: 30_000, ..Default::default() };
    let response = cluster.client(cluster.ids()[0]).await.call(&request, 7).await;
    assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0].error_message);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_move_to_other_brokers() {
    // The newcomer has to catch up: an answer holds a record or two.
    let plan = Plan::combined(3).brokers(1).set("replica.fetch.max.bytes", "1000");
    let cluster = Cluster::start(patient(plan)).await;
    create(&cluster, "t", 1).await;
    let mut all: Vec<_> = (0..10).map(|n| format!("{n}{}", "x".repeat(400))).collect();
    for value in &all {
        produce(&cluster, "t", value).await;
    }
    let from = partition(&cluster.image(1), "t").unwrap().replicas.clone();
    let newcomer = (1..=4).map(BrokerId).find(|id| !from.contains(id)).unwrap();
    let to = vec![newcomer, from[1], from[2]];
    let wanted =
        ReassignablePartition { partition_index: 0, replicas: Some(to.iter().map(|id| id.0).collect()) };
    let topic = ReassignableTopic { name: "t".into(), partitions: vec![wanted] };
    let request =
        AlterPartitionReassignmentsRequest { timeout_ms: 30_000, topics: vec![topic], ..Default::default() };
    let response = cluster.client(1).await.call(&request, 0).await;
    assert_eq!(response.responses[0].partitions[0].error_code, 0, "{response:?}");
    let what = "the new set of replicas, all in sync";
    let moved = |p: &PartitionImage| p.replicas == to && p.isr.len() == 3 && p.leader != from[0];
    cluster.until_all(what, |image| partition(image, "t").is_some_and(moved)).await;
    produce(&cluster, "t", "moved").await;
    all.push("moved".to_owned());
    assert_eq!(read(&cluster, "t", all.len()).await, all);
    let old = cluster.dir_of(from[0].0).join("t-0");
    for _ in 0..1200 {
        if !old.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!old.exists(), "the replica that moved away is removed");

    // DeleteRecords answers when the followers have let go of the records, too.
    let wanted = DeleteRecordsPartition { partition_index: 0, offset: 4 };
    let topic = DeleteRecordsTopic { name: "t".into(), partitions: vec![wanted] };
    let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms: 30_000 };
    let response = cluster.client(leader(&cluster, "t").await).await.call(&request, 2).await;
    let deleted = &response.topics[0].partitions[0];
    assert_eq!((ErrorCode::from_code(deleted.error_code), deleted.low_watermark), (ErrorCode::None, 4));
    cluster.stop_all().await;
}
