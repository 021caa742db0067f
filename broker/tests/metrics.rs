//! What an administrator's dashboards read: figures under Kafka's names.
#![allow(clippy::unwrap_used)]

mod common;

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
