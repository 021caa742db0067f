//! Several nodes form one cluster.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use aqueduct_broker::format::{
    FirstControllers, Format, format as format_for, initial_controllers, random_uuid,
};
use aqueduct_broker::metadata::features::TRANSACTION_VERSION;
use aqueduct_client::{Admin, ClientConfig, NewTopic, Producer, ProducerRecord};
use aqueduct_protocol::ids::{BrokerId, Uuid};
use aqueduct_protocol::messages::create_topics_request::CreatableTopic;
use aqueduct_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use aqueduct_protocol::messages::{CreateTopicsRequest, DescribeQuorumRequest};
use aqueduct_protocol::{ApiKey, Decode, DecodeError, Encode, EncodeError, Request};
use bytes::{BufMut, Bytes, BytesMut};
use common::cluster::{CLUSTER_ID, Cluster, Plan, format, refusal};
use common::{Client, PATIENCE};
use tokio::time::timeout;

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
        // Whoever leads hears of them as they ask for entries.
        until_described(&mut cluster.client(id).await, |_, observers| observers == [2, 3]).await;
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
    let began = tokio::time::Instant::now();
    cluster.stop(wiped).await;
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "broker 4 hears of it, whoever else has asked for its place"
    );
    std::fs::remove_dir_all(cluster.dir_of(wiped)).unwrap();
    let error = refusal(cluster.options(wiped)).await.to_string();
    assert!(error.contains("is not formatted"), "{error}");
    format(&cluster.dir_of(wiped), wiped, CLUSTER_ID);
    let error = refusal(cluster.options(wiped)).await.to_string();
    assert!(error.contains("was it wiped"), "{error}");
    cluster.stop_all().await;
}

/// A request of any API as bytes, and its answer.
struct Raw<const KEY: i16>(Bytes);

impl<const KEY: i16> Encode for Raw<KEY> {
    fn encode(&self, out: &mut BytesMut, _: i16) -> Result<(), EncodeError> {
        out.put_slice(&self.0);
        Ok(())
    }
}

impl<const KEY: i16> Decode for Raw<KEY> {
    fn decode(bytes: &mut Bytes, _: i16) -> Result<Self, DecodeError> {
        Ok(Self(std::mem::take(bytes)))
    }
}

impl<const KEY: i16> Request for Raw<KEY> {
    type Response = Self;
    const API_KEY: i16 = KEY;
    const NAME: &'static str = "Raw";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 0;
    const FIRST_FLEXIBLE: i16 = if KEY < ApiKey::FIRST_PRIVATE { 0 } else { i16::MAX };
}

/// Voters with their directories, and observers, as the leader says.
async fn described(client: &mut Client) -> (Vec<(i32, Uuid)>, Vec<i32>) {
    let request = DescribeQuorumRequest {
        topics: vec![TopicData {
            topic_name: "__cluster_metadata".into(),
            partitions: vec![PartitionData { partition_index: 0 }],
        }],
    };
    let response = client.call(&request, 2).await;
    let Some(topic) = response.topics.first() else { return Default::default() };
    let quorum = &topic.partitions[0];
    let voters = quorum.current_voters.iter().map(|voter| (voter.replica_id, voter.replica_directory_id));
    (voters.collect(), quorum.observers.iter().map(|observer| observer.replica_id).collect())
}

/// Waits for a number of voters, and for observers.
async fn until_described(client: &mut Client, is_right: impl Fn(usize, &[i32]) -> bool) {
    let began = tokio::time::Instant::now();
    loop {
        let (voters, observers) = described(client).await;
        if is_right(voters.len(), &observers) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{voters:?} {observers:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Error code and text of a change of voters.
fn changed(answer: &Bytes) -> (i16, String) {
    (i16::from_be_bytes([answer[4], answer[5]]), String::from_utf8_lossy(&answer[6..]).into_owned())
}

async fn add_voter(client: &mut Client, id: i32, directory: Uuid) -> (i16, String) {
    let mut body = BytesMut::new();
    body.put_u8(0);
    body.put_i32(30_000);
    body.put_i32(id);
    body.put_slice(&directory.0);
    body.put_slice(&[1, 0]);
    changed(&client.call(&Raw::<{ ApiKey::ADD_RAFT_VOTER }>(body.freeze()), 0).await.0)
}

async fn remove_voter(client: &mut Client, id: i32, directory: Uuid) -> (i16, String) {
    let mut body = BytesMut::new();
    body.put_u8(0);
    body.put_i32(id);
    body.put_slice(&directory.0);
    body.put_u8(0);
    changed(&client.call(&Raw::<{ ApiKey::REMOVE_RAFT_VOTER }>(body.freeze()), 0).await.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn voters_come_and_go_while_the_cluster_runs() {
    let cluster = Cluster::start(Plan::combined(3)).await;
    let leader = cluster.controller().await;
    let (other, gone) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    let mut client = cluster.client(other).await;
    let (voters, _) = described(&mut client).await;
    let directory = voters.iter().find(|(id, _)| *id == gone).unwrap().1;

    assert_eq!(add_voter(&mut client, gone, directory).await.0, 126, "it votes already");
    assert_eq!(remove_voter(&mut client, gone, Uuid([9; 16])).await.0, 127, "another directory");
    let removed = remove_voter(&mut client, gone, directory).await;
    assert_eq!(removed.0, 0, "{removed:?}");
    until_described(&mut client, |voters, observers| voters == 2 && observers == [gone]).await;
    create(&mut cluster.client(gone).await, "t", 3).await;
    cluster.until_all("the topic", |image| image.topic("t").is_some()).await;

    let added = add_voter(&mut client, gone, Uuid([9; 16])).await;
    assert_eq!(added.0, 125, "{added:?}");
    let added = add_voter(&mut client, gone, directory).await;
    assert_eq!(added.0, 0, "{added:?}");
    until_described(&mut client, |voters, _| voters == 3).await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_authenticate_and_only_they_speak_to_controllers() {
    let jaas = "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"node\" \
                password=\"n\" user_node=\"n\" user_other=\"o\";";
    let plan = Plan::controllers(1)
        .brokers(2)
        .set("listener.security.protocol.map", "PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT");
    let plan = ["sasl.mechanism.inter.broker.protocol", "sasl.mechanism.controller.protocol"]
        .into_iter()
        .fold(plan, |plan, key| plan.set(key, "PLAIN"))
        .set("sasl.enabled.mechanisms", "PLAIN")
        .set("listener.name.plaintext.plain.sasl.jaas.config", jaas)
        .set("listener.name.controller.plain.sasl.jaas.config", jaas)
        .set("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer")
        .set("super.users", "User:node");
    let cluster = Cluster::start(plan).await;
    cluster.until_all("two live brokers", |image| (2..=3).all(|id| image.is_live(BrokerId(id)))).await;

    let address = cluster.node(1).address().to_string();
    let user = |name: &str, password: &str| {
        let jaas = format!(
            "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"{name}\" password=\"{password}\";"
        );
        let properties = [
            ("bootstrap.servers", address.as_str()),
            ("security.protocol", "SASL_PLAINTEXT"),
            ("sasl.mechanism", "PLAIN"),
            ("sasl.jaas.config", &jaas),
        ];
        Arc::new(aqueduct_client::ClientConfig::from_properties(properties).unwrap().0)
    };
    let limit = Duration::from_secs(30);
    let ask = || Raw::<{ ApiKey::ASK_CONTROLLER }>(Bytes::from_static(b"nonsense"));
    let message = || Raw::<{ ApiKey::QUORUM_MESSAGE }>(Bytes::from_static(b"nonsense"));
    let code = |answer: &Bytes| i16::from_be_bytes([answer[0], answer[1]]);
    let other = aqueduct_client::Connection::open(address.clone(), user("other", "o")).await.unwrap();
    assert_eq!(code(&other.call(0, |_| ask(), limit).await.unwrap().0), 31);
    assert_eq!(code(&other.call(0, |_| message(), limit).await.unwrap().0), 31);
    let node = aqueduct_client::Connection::open(address.clone(), user("node", "n")).await.unwrap();
    assert_eq!(code(&node.call(0, |_| ask(), limit).await.unwrap().0), 42, "what it asks cannot be read");
    assert!(aqueduct_client::Connection::open(address.clone(), user("other", "wrong")).await.is_err());
    cluster.stop_all().await;
}

fn wanted(first: FirstControllers) -> Format {
    Format {
        cluster_id: CLUSTER_ID.into(),
        first,
        ignore_formatted: false,
        features: Vec::new(),
        credentials: Vec::new(),
    }
}

/// Formats a node's disk as `aqueduct storage format` does.
fn storage_format(cluster: &Cluster, id: i32, first: FirstControllers) {
    format_for(cluster.options(id).properties, &wanted(first)).unwrap();
}

/// Waits until just these vote; gives their directories, in the same order.
async fn until_voters(cluster: &Cluster, ids: &[i32]) -> Vec<Uuid> {
    let began = tokio::time::Instant::now();
    loop {
        let mut client = cluster.client(1).await;
        let (mut voters, _) = described(&mut client).await;
        voters.sort_by_key(|(id, _)| *id);
        if voters.iter().map(|(id, _)| *id).eq(ids.iter().copied()) {
            return voters.into_iter().map(|(_, directory)| directory).collect();
        }
        assert!(began.elapsed() < PATIENCE, "{voters:?} vote, not {ids:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn controllers_join_the_first_and_come_back_after_their_disk_was_wiped() {
    let plan = Plan::combined(3).dynamic().set("controller.quorum.auto.join.enable", "true");
    let mut cluster = Cluster::empty(plan);
    storage_format(&cluster, 1, FirstControllers::Standalone);
    (2..=3).for_each(|id| storage_format(&cluster, id, FirstControllers::Join));
    cluster.start_again(&[1]).await;
    until_voters(&cluster, &[1]).await;
    cluster.start_again(&[2, 3]).await;
    let before = until_voters(&cluster, &[1, 2, 3]).await;
    create(&mut cluster.client(2).await, "t", 3).await;
    cluster.until_all("the topic", |image| image.topic("t").is_some()).await;

    cluster.stop(3).await;
    std::fs::remove_dir_all(cluster.dir_of(3)).unwrap();
    storage_format(&cluster, 3, FirstControllers::Join);
    cluster.start_again(&[3]).await;
    let began = tokio::time::Instant::now();
    loop {
        let now = until_voters(&cluster, &[1, 2, 3]).await;
        if now[2] != before[2] {
            assert_eq!(now[..2], before[..2]);
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{now:?}");
    }
    cluster.until_all("three live brokers", |image| (1..=3).all(|id| image.is_live(BrokerId(id)))).await;
    // The vote is a real one: the quorum stands without another voter.
    cluster.stop(2).await;
    create(&mut cluster.client(1).await, "u", 2).await;
    cluster.until_all("the topic", |image| image.topic("u").is_some()).await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn controllers_that_were_formatted_together_form_a_quorum() {
    let mut cluster = Cluster::empty(Plan::combined(2).brokers(1).dynamic());
    let one = |id| format!("{id}@{}:{}", cluster.controller_at(id), random_uuid());
    let all = initial_controllers(&format!("{},{}", one(1), one(2))).unwrap();
    let directories: Vec<_> = all.iter().map(|one| one.directory).collect();
    (1..=3).for_each(|id| storage_format(&cluster, id, FirstControllers::Initial(all.clone())));
    cluster.start_again(&[1, 2, 3]).await;
    assert_eq!(until_voters(&cluster, &[1, 2]).await, directories);
    create(&mut cluster.client(3).await, "t", 3).await;
    cluster.until_all("the topic", |image| image.topic("t").is_some()).await;
    let all = [1, 2, 3];
    for id in all {
        cluster.stop(id).await;
    }
    cluster.start_again(&all).await;
    assert!(all.iter().all(|id| cluster.image(*id).topic("t").is_some()));
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_find_the_credentials_that_a_cluster_begins_with() {
    let jaas = |user: &str, password: &str| {
        format!(
            "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"{user}\" password=\"{password}\";"
        )
    };
    let plan = Plan::combined(2)
        .dynamic()
        .set("listener.security.protocol.map", "PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT")
        .set("sasl.enabled.mechanisms", "SCRAM-SHA-256")
        .set("sasl.mechanism.inter.broker.protocol", "SCRAM-SHA-256")
        .set("listener.name.plaintext.scram-sha-256.sasl.jaas.config", &jaas("node", "n-secret"));
    let mut cluster = Cluster::empty(plan);
    let one = |id| format!("{id}@{}:{}", cluster.controller_at(id), random_uuid());
    let all = initial_controllers(&format!("{},{}", one(1), one(2))).unwrap();
    for id in 1..=2 {
        let wanted = Format {
            features: vec!["transaction.version=1".into()],
            credentials: vec![
                "SCRAM-SHA-256=[name=node,password=n-secret]".into(),
                "SCRAM-SHA-256=[name=alice,password=a-secret]".into(),
            ],
            ..wanted(FirstControllers::Initial(all.clone()))
        };
        format_for(cluster.options(id).properties, &wanted).unwrap();
    }
    cluster.start_again(&[1, 2]).await;
    cluster.until_all("two live brokers", |image| (1..=2).all(|id| image.is_live(BrokerId(id)))).await;
    assert_eq!(cluster.image(2).level(&TRANSACTION_VERSION), 1);

    let address = cluster.node(1).address().to_string();
    let properties = [
        ("bootstrap.servers", address.as_str()),
        ("security.protocol", "SASL_PLAINTEXT"),
        ("sasl.mechanism", "SCRAM-SHA-256"),
        ("sasl.jaas.config", &jaas("alice", "a-secret")),
    ];
    let client = aqueduct_client::Client::new(ClientConfig::from_properties(properties).unwrap().0);
    Admin::new(client.clone()).ensure_topic(&NewTopic::new("t", 1, 2)).await.unwrap();
    // With acks=all: the other broker fetches it over a connection with the credential.
    let record = ProducerRecord::new("t", "v");
    let producer = Producer::new(client);
    let sent = producer.send(record).await.unwrap();
    timeout(PATIENCE, sent).await.unwrap().unwrap();
    producer.close().await;
    // They are in the metadata as any others: what is formatted does not bring them back.
    cluster.stop(2).await;
    cluster.stop(1).await;
    cluster.start_again(&[1, 2]).await;
    cluster.until_all("two live brokers", |image| (1..=2).all(|id| image.is_live(BrokerId(id)))).await;
    cluster.stop_all().await;
}
