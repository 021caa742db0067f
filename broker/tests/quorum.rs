//! Several nodes form one cluster.
#![allow(clippy::unwrap_used)]

mod common;

use aqueduct_protocol::ids::BrokerId;
use aqueduct_protocol::messages::create_topics_request::CreatableTopic;
use aqueduct_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use aqueduct_protocol::messages::{CreateTopicsRequest, DescribeQuorumRequest};
use common::Client;
use common::cluster::{CLUSTER_ID, Cluster, Plan, format, refusal};

const CREATE_TOPICS: i16 = 7;

async fn create(client: &mut Client, topic: &str, replicas: i16) {
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: topic.into(),
            num_partitions: 3,
            replication_factor: replicas,
            ..Default::default()
        }],
        timeout_ms: 30_000,
        ..Default::default()
    };
    let response = client.call(&request, CREATE_TOPICS).await;
    // 36: an answer may be lost with a controller, and the second attempt finds the topic there.
    assert!(matches!(response.topics[0].error_code, 0 | 36), "{:?}", response.topics[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_are_one_cluster_and_outlive_their_controller() {
    let mut cluster = Cluster::start(Plan::combined(3)).await;
    cluster.until_all("three live brokers", |image| (1..=3).all(|id| image.is_live(BrokerId(id)))).await;
    for id in 1..=3 {
        create(&mut cluster.client(id).await, &format!("t{id}"), 3).await;
    }
    cluster.until_all("all topics", |image| (1..=3).all(|id| image.topic(&format!("t{id}")).is_some())).await;

    let gone = cluster.controller().await;
    let mut client = cluster.client(gone % 3 + 1).await;
    cluster.stop(gone).await;
    create(&mut client, "after", 2).await;
    cluster.until_all("the topic of the new controller", |image| image.topic("after").is_some()).await;
    cluster
        .until_all("that the stopped broker leads nothing", |image| {
            let mut partitions = image.topics().flat_map(|topic| &topic.partitions);
            !image.is_live(BrokerId(gone)) && partitions.all(|one| one.leader.0 != gone)
        })
        .await;

    cluster.start_again(&[gone]).await;
    cluster
        .until_all("three live brokers again", |image| (1..=3).all(|id| image.is_live(BrokerId(id))))
        .await;
    assert!(cluster.image(gone).topic("after").is_some());
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_without_a_vote_follow() {
    let mut cluster = Cluster::start(Plan::controllers(1).brokers(2)).await;
    cluster.until_all("two live brokers", |image| (2..=3).all(|id| image.is_live(BrokerId(id)))).await;
    create(&mut cluster.client(3).await, "t", 2).await;
    cluster.until_all("the topic", |image| image.topic("t").is_some()).await;
    let request = DescribeQuorumRequest {
        topics: vec![TopicData {
            topic_name: "__cluster_metadata".into(),
            partitions: vec![PartitionData { partition_index: 0 }],
        }],
    };
    for id in 1..=3 {
        let described = cluster.client(id).await.call(&request, 2).await;
        let partition = &described.topics[0].partitions[0];
        assert_eq!((described.error_code, partition.leader_id), (0, 1));
        let ids = |states: &[aqueduct_protocol::messages::describe_quorum_response::ReplicaState]| {
            states.iter().map(|state| state.replica_id).collect::<Vec<_>>()
        };
        assert_eq!(ids(&partition.current_voters), [1]);
        assert_eq!(ids(&partition.observers), [2, 3]);
        assert!(partition.high_watermark > 0);
    }
    // One that comes back follows again.
    cluster.stop(2).await;
    create(&mut cluster.client(3).await, "u", 1).await;
    cluster.start_again(&[2]).await;
    assert!(cluster.image(2).topic("u").is_some());
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_do_not_belong_are_told_why() {
    let mut cluster =
        Cluster::start(Plan::combined(3).brokers(1).set("initial.broker.registration.timeout.ms", "500"))
            .await;

    // The number of a broker that lives.
    let other = tempfile::tempdir().unwrap();
    let mut options = cluster.options(4);
    format(other.path(), 4, CLUSTER_ID);
    options.set("log.dirs", &other.path().display().to_string()).set("listeners", "PLAINTEXT://127.0.0.1:0");
    let error = refusal(options).await.to_string();
    assert!(error.contains("Another broker is registered with the ID 4"), "{error}");

    // A disk that was never formatted, one of another node, and one of another cluster.
    let empty = tempfile::tempdir().unwrap();
    let mut options = cluster.options(4);
    options.set("log.dirs", &empty.path().display().to_string()).set("listeners", "PLAINTEXT://127.0.0.1:0");
    let error = refusal(options.clone()).await.to_string();
    assert!(error.contains("is not formatted"), "{error}");
    options.set("aqueduct.cluster.id", "another-cluster-of-all");
    let error = refusal(options.clone()).await.to_string();
    assert!(error.contains("another-cluster-of-all") && error.contains(CLUSTER_ID), "{error}");
    options.set("aqueduct.cluster.id", CLUSTER_ID);
    let error = refusal(options.clone()).await.to_string();
    assert!(error.contains("cluster.id") && error.contains(CLUSTER_ID), "{error}");
    options.set("aqueduct.cluster.id", "");
    format(empty.path(), 9, CLUSTER_ID);
    let error = refusal(options.clone()).await.to_string();
    assert!(error.contains("node.id"), "{error}");
    format(empty.path(), 4, "another-cluster-of-all");
    let error = refusal(options).await.to_string();
    assert!(error.contains("another-cluster-of-all") && error.contains(CLUSTER_ID), "{error}");

    // A voter that comes back without what it acknowledged.
    let wiped = 2;
    cluster.stop(wiped).await;
    std::fs::remove_dir_all(cluster.dir_of(wiped)).unwrap();
    let error = refusal(cluster.options(wiped)).await.to_string();
    assert!(error.contains("is not formatted"), "{error}");
    format(&cluster.dir_of(wiped), wiped, CLUSTER_ID);
    let error = refusal(cluster.options(wiped)).await.to_string();
    assert!(error.contains("was it wiped"), "{error}");
    cluster.stop_all().await;
}
