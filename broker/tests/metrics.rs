//! What an administrator's dashboards read: figures under Kafka's names.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use aqueduct_broker::Handle;
use aqueduct_protocol::ids::BrokerId;
use aqueduct_protocol::messages::CreateTopicsRequest;
use aqueduct_protocol::messages::create_topics_request::CreatableTopic;
use common::cluster::{Cluster, Plan};
use common::*;

#[tokio::test]
async fn figures_carry_kafkas_names_and_follow_what_happens() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(&broker).await;
    let id = client.create_topic("t", 2, &[]).await;
    client.produce("t", 0, batch(&["a", "b", "c"])).await;
    client.call(&fetch_request("t", id, 0, 0), 13).await;
    // Nothing is there yet: the fetch is parked for its whole time.
    client.call(&fetch_request("t", id, 0, 3), 13).await;
    let text = broker.metrics();
    for line in [
        "kafka_server_replicamanager_leadercount 2",
        "kafka_server_replicamanager_partitioncount 2",
        "kafka_server_replicamanager_offlinereplicacount 0",
        "kafka_server_replicamanager_underminisrpartitioncount 0",
        "kafka_controller_kafkacontroller_activecontrollercount 1",
        "kafka_controller_kafkacontroller_globalpartitioncount 2",
        "kafka_controller_kafkacontroller_offlinepartitionscount 0",
        "kafka_log_logmanager_offlinelogdirectorycount 0",
        "kafka_server_brokertopicmetrics_topic_messagesin_total{topic=\"t\"} 3",
        "kafka_log_log_logendoffset{topic=\"t\",partition=\"0\"} 3",
        "kafka_log_log_numlogsegments{topic=\"t\",partition=\"0\"} 1",
        "kafka_cluster_partition_laststableoffsetlag{topic=\"t\",partition=\"0\"} 0",
        "kafka_network_requestmetrics_totaltimems_count{request=\"Produce\"} 1",
        "kafka_network_requestmetrics_totaltimems_count{request=\"Fetch\"} 2",
        "kafka_server_delayedoperationpurgatory_purgatorysize{delayedOperation=\"Fetch\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    for name in [
        "kafka.server:type=ReplicaManager,name=UnderReplicatedPartitions.",
        "kafka.server:type=BrokerTopicMetrics,name=BytesOutPerSec,topic=...",
        "kafka.network:type=RequestMetrics,name=RemoteTimeMs,request=...",
        "kafka.log:type=Log,name=Size,topic=...,partition=...",
    ] {
        assert!(text.contains(name), "{name} in\n{text}");
    }
    // Every family is declared once, and the end comes last.
    let mut families: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE ")).collect();
    let count = families.len();
    families.sort_unstable();
    families.dedup();
    assert_eq!(families.len(), count);
    assert!(text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1);
    broker.shutdown().await;
}

/// One figure of a node.
fn figure(node: &Handle, name: &str) -> Option<f64> {
    let text = node.metrics();
    let line =
        text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
    line?.rsplit_once(' ')?.1.parse().ok()
}

/// The sum of a figure over the nodes that run.
fn sum(cluster: &Cluster, name: &str) -> f64 {
    cluster.ids().iter().filter_map(|id| figure(cluster.node(*id), name)).sum()
}

async fn until_sum(cluster: &Cluster, name: &str, expected: f64) {
    for _ in 0..600 {
        if sum(cluster, name) == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let id = cluster.ids()[0];
    panic!("{name} is {}, not {expected}\n{}", sum(cluster, name), cluster.node(id).metrics());
}

const UNDER_REPLICATED: &str = "kafka_server_replicamanager_underreplicatedpartitions";
const UNDER_MIN: &str = "kafka_server_replicamanager_underminisrpartitioncount";
const AT_MIN: &str = "kafka_server_replicamanager_atminisrpartitioncount";
const IMBALANCED: &str = "kafka_controller_kafkacontroller_preferredreplicaimbalancecount";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_tells_what_it_lacks_and_gives_leaders_back() {
    let plan = Plan::combined(3)
        .set("broker.session.timeout.ms", "30000")
        .set("leader.imbalance.check.interval.seconds", "1")
        .set("min.insync.replicas", "2");
    let mut cluster = Cluster::start(plan).await;
    cluster.until_all("three live brokers", |image| (1..=3).all(|id| image.is_live(BrokerId(id)))).await;
    let wanted =
        CreatableTopic { name: "t".into(), num_partitions: 3, replication_factor: 3, ..Default::default() };
    let request = CreateTopicsRequest { topics: vec![wanted], timeout_ms: 30_000, ..Default::default() };
    cluster.client(1).await.call(&request, 7).await;
    let image = cluster
        .until("the topic", |node| Some(node.image()).filter(|image| image.topic("t").is_some()))
        .await;
    let leader = image.topic("t").unwrap().partitions[0].leader.0;
    cluster.until_all("the topic", |image| image.topic("t").is_some()).await;
    cluster.client(leader).await.produce("t", 0, batch(&["a", "b", "c"])).await;

    until_sum(&cluster, "kafka_controller_kafkacontroller_activecontrollercount", 1.0).await;
    until_sum(&cluster, UNDER_REPLICATED, 0.0).await;
    until_sum(&cluster, "kafka_server_replicamanager_leadercount", 3.0).await;
    until_sum(&cluster, "kafka_server_replicafetchermanager_maxlag", 0.0).await;
    let controller = cluster.controller().await;
    for id in cluster.ids() {
        let node = cluster.node(id);
        for (name, expected) in [
            ("kafka_controller_kafkacontroller_activebrokercount", 3.0),
            ("kafka_controller_kafkacontroller_fencedbrokercount", 0.0),
            ("kafka_server_replicamanager_partitioncount", 3.0),
            ("kafka_server_raft_metrics_current_leader", f64::from(controller)),
            ("kafka_server_raft_metrics_number_of_voters", 3.0),
            ("kafka_server_kafkaserver_brokerstate", 3.0),
        ] {
            let began = Instant::now();
            while figure(node, name) != Some(expected) {
                assert!(began.elapsed() < PATIENCE, "{name} of {id} is not {expected}\n{}", node.metrics());
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    let (sent, appended) = (
        "kafka_server_brokertopicmetrics_replicationbytesout_total",
        "kafka_server_brokertopicmetrics_replicationbytesin_total",
    );
    let bytes = sum(&cluster, "kafka_server_brokertopicmetrics_bytesin_total");
    until_sum(&cluster, appended, 2.0 * bytes).await;
    assert!(sum(&cluster, sent) >= 2.0 * bytes);
    assert_eq!(sum(&cluster, "kafka_server_brokertopicmetrics_bytesout_total"), 0.0, "no consumer has read");
    let lags = cluster.node(controller).metrics();
    assert_eq!(lags.lines().filter(|line| line.starts_with("aqueduct_quorum_lag{")).count(), 2, "{lags}");

    // A node that is missed, and comes back.
    let gone = controller % 3 + 1;
    cluster.stop(gone).await;
    until_sum(&cluster, UNDER_REPLICATED, 3.0).await;
    until_sum(&cluster, AT_MIN, 3.0).await;
    assert_eq!(sum(&cluster, UNDER_MIN), 0.0);
    until_sum(&cluster, "kafka_controller_kafkacontroller_fencedbrokercount", 2.0).await;
    let imbalanced = figure(cluster.node(controller), IMBALANCED).unwrap();
    assert!(imbalanced >= 1.0, "another leads what the stopped node led");
    assert!(sum(&cluster, "kafka_controller_controllerstats_leaderelections_total") >= 1.0);
    cluster.start_again(&[gone]).await;
    until_sum(&cluster, UNDER_REPLICATED, 0.0).await;
    until_sum(&cluster, IMBALANCED, 0.0).await;
    assert_eq!(sum(&cluster, "kafka_controller_controllerstats_uncleanleaderelections_total"), 0.0);
    cluster.stop_all().await;
}
