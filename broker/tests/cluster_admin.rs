//! Elections, reassignments, the quorum, features, brokers that leave; settings that change at run time. Each API in every
//! version that is advertised.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Instant;

use aqueduct_broker::Handle;
use aqueduct_protocol::Request;
use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use aqueduct_protocol::messages::describe_configs_request::DescribeConfigsResource;
use aqueduct_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use aqueduct_protocol::messages::elect_leaders_request::TopicPartitions;
use aqueduct_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use aqueduct_protocol::messages::update_features_request::FeatureUpdateKey;
use aqueduct_protocol::messages::{
    AlterPartitionReassignmentsRequest, DescribeConfigsRequest, DescribeQuorumRequest, ElectLeadersRequest,
    IncrementalAlterConfigsRequest, ListConfigResourcesRequest, ListPartitionReassignmentsRequest,
    UnregisterBrokerRequest, UpdateFeaturesRequest,
};
use common::*;

#[tokio::test]
async fn elections_and_reassignments_of_one_node() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("t", 2, &[]).await;
    for version in 0..=2 {
        for election_type in [0, 1] {
            let topic = |topic: &str, partitions: &[i32]| TopicPartitions {
                topic: topic.into(),
                partitions: partitions.to_vec(),
            };
            let some = Some(vec![topic("t", &[0, 9]), topic("u", &[0])]);
            let election_type = if version == 0 { 0 } else { election_type };
            let ask = ElectLeadersRequest { election_type, topic_partitions: some, timeout_ms: 1000 };
            let answer = client.call(&ask, version).await;
            let codes: Vec<_> = answer
                .replica_election_results
                .iter()
                .flat_map(|topic| topic.partition_result.iter().map(|p| ErrorCode::from_code(p.error_code)))
                .collect();
            let unknown = ErrorCode::UnknownTopicOrPartition;
            assert_eq!(codes, [ErrorCode::ElectionNotNeeded, unknown, unknown]);
            let ask = ElectLeadersRequest { election_type, topic_partitions: None, timeout_ms: 1000 };
            // As the reference: all topics are named, with the partitions for which there was something to do.
            let told = client.call(&ask, version).await.replica_election_results;
            assert_eq!((told.len(), &*told[0].topic, told[0].partition_result.len()), (1, "t", 0));
        }
    }
    for version in 0..=1 {
        let partition = |partition_index, replicas| ReassignablePartition { partition_index, replicas };
        let partitions =
            vec![partition(0, Some(vec![1])), partition(1, Some(vec![1, 2])), partition(1, None)];
        let topic = ReassignableTopic { name: "t".into(), partitions };
        let ask = AlterPartitionReassignmentsRequest { topics: vec![topic], ..Default::default() };
        let answer = client.call(&ask, version).await;
        let codes: Vec<_> =
            answer.responses[0].partitions.iter().map(|p| ErrorCode::from_code(p.error_code)).collect();
        let expected =
            [ErrorCode::None, ErrorCode::InvalidReplicaAssignment, ErrorCode::NoReassignmentInProgress];
        assert_eq!(codes, expected);
    }
    let ask = ListPartitionReassignmentsRequest { topics: None, timeout_ms: 1000 };
    assert!(client.call(&ask, 0).await.topics.is_empty());
    broker.shutdown().await;
}

#[tokio::test]
async fn the_quorum_is_this_node_and_features_have_levels() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(&broker).await;
    for version in 0..=2 {
        let partitions = vec![PartitionData { partition_index: 0 }];
        let topic = TopicData { topic_name: "__cluster_metadata".into(), partitions };
        let answer = client.call(&DescribeQuorumRequest { topics: vec![topic] }, version).await;
        let partition = &answer.topics[0].partitions[0];
        assert_eq!((partition.error_code, partition.leader_id, partition.current_voters.len()), (0, 1, 1));
        assert!(partition.high_watermark > 0);
        let mut update = async |feature: &str, level, upgrade_type| {
            let update = FeatureUpdateKey {
                feature: feature.into(),
                max_version_level: level,
                upgrade_type: if version == 0 { 1 } else { upgrade_type },
                ..Default::default()
            };
            let ask = UpdateFeaturesRequest {
                feature_updates: vec![update],
                timeout_ms: 1000,
                validate_only: version > 0,
            };
            ErrorCode::from_code(client.call(&ask, version).await.error_code)
        };
        assert_eq!(update("transaction.version", 2, 1).await, ErrorCode::None);
        assert_eq!(update("transaction.version", 1, 1).await, ErrorCode::InvalidUpdateVersion);
        assert_eq!(update("no.such", 1, 1).await, ErrorCode::InvalidUpdateVersion);
    }
    let code = client.call(&UnregisterBrokerRequest { broker_id: 7 }, 0).await.error_code;
    assert_eq!(code, ErrorCode::BrokerIdNotRegistered.code());
    let code = client.call(&UnregisterBrokerRequest { broker_id: 1 }, 0).await.error_code;
    assert_eq!(code, ErrorCode::InvalidRequest.code());
    broker.shutdown().await;
}

async fn alter(client: &mut Client, kind: i8, name: &str, key: &str, value: Option<&str>) -> ErrorCode {
    let op = if value.is_some() { 0 } else { 1 };
    let config = AlterableConfig { name: key.into(), config_operation: op, value: value.map(Into::into) };
    let resource =
        AlterConfigsResource { resource_type: kind, resource_name: name.into(), configs: vec![config] };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    ErrorCode::from_code(client.call(&request, 1).await.responses[0].error_code)
}

/// Value, source and whether it is hidden.
async fn value(client: &mut Client, kind: i8, name: &str, key: &str) -> Option<(Option<String>, i8, bool)> {
    let resource = DescribeConfigsResource {
        resource_type: kind,
        resource_name: name.into(),
        configuration_keys: Some(vec![key.into()]),
    };
    let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
    let described = client.call(&request, 4).await.results.remove(0);
    assert_eq!(described.error_code, 0);
    let config = described.configs.first()?;
    Some((config.value.as_ref().map(ToString::to_string), config.config_source, config.is_sensitive))
}

async fn wait_until_connected(broker: &Handle) {
    for _ in 0..3000 {
        if Client::connect(broker).await.try_versions().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("no connection is served");
}

#[tokio::test]
async fn limits_of_connections_change_while_the_broker_runs() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(&broker).await;
    assert_eq!(alter(&mut client, 4, "", "max.connections.per.ip", Some("1")).await, ErrorCode::None);
    // The listener hears of it a little later.
    let began = Instant::now();
    while Client::connect(&broker).await.try_versions().await {
        assert!(began.elapsed() < PATIENCE, "a second connection is served");
    }
    assert_eq!(alter(&mut client, 4, "1", "max.connections.per.ip", Some("5")).await, ErrorCode::None);
    wait_until_connected(&broker).await;
    let found = value(&mut client, 4, "1", "max.connections.per.ip").await;
    assert_eq!(found, Some((Some("5".into()), 2, false)));
    broker.shutdown().await;
}

#[tokio::test]
async fn every_kind_of_resource_is_set_and_described() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(&broker).await;
    let client = &mut client;
    assert_eq!(alter(client, 4, "1", "no.such.key", Some("hush")).await, ErrorCode::None);
    assert_eq!(value(client, 4, "1", "no.such.key").await, Some((None, 2, true)));
    let password = "listener.name.plaintext.ssl.keystore.password";
    assert_eq!(alter(client, 4, "1", password, Some("secret")).await, ErrorCode::None);
    assert_eq!(value(client, 4, "1", password).await, Some((None, 2, true)));
    assert_eq!(alter(client, 4, "1", "log.dirs", Some("/x")).await, ErrorCode::InvalidRequest);

    let timeout = "consumer.session.timeout.ms";
    assert_eq!(value(client, 32, "g", timeout).await, Some((Some("45000".into()), 5, false)));
    assert_eq!(alter(client, 32, "g", timeout, Some("50000")).await, ErrorCode::None);
    assert_eq!(value(client, 32, "g", timeout).await, Some((Some("50000".into()), 8, false)));
    assert_eq!(alter(client, 32, "g", timeout, Some("5")).await, ErrorCode::InvalidConfig);
    assert_eq!(alter(client, 32, "", timeout, Some("50000")).await, ErrorCode::InvalidRequest);

    assert_eq!(alter(client, 16, "m", "interval.ms", Some("5000")).await, ErrorCode::None);
    assert_eq!(value(client, 16, "m", "interval.ms").await, Some((Some("5000".into()), 7, false)));
    assert_eq!(value(client, 16, "other", "interval.ms").await, Some((Some("300000".into()), 5, false)));

    assert_eq!(value(client, 8, "1", "root").await, Some((Some("INFO".into()), 6, false)));
    assert_eq!(alter(client, 8, "1", "no.such", Some("INFO")).await, ErrorCode::InvalidConfig);
    // A broker inside another process has no say in its logging.
    assert_eq!(alter(client, 8, "1", "root", Some("DEBUG")).await, ErrorCode::InvalidRequest);

    let listed = client.call(&ListConfigResourcesRequest::default(), 1).await.config_resources;
    let listed: Vec<_> =
        listed.iter().map(|found| (found.resource_type, found.resource_name.to_string())).collect();
    for expected in [(4, "1"), (8, "1"), (16, "m"), (32, "g")] {
        assert!(listed.contains(&(expected.0, expected.1.into())), "{expected:?} in {listed:?}");
    }
    broker.shutdown().await;
}

trait TryVersions {
    async fn try_versions(&mut self) -> bool;
}

impl TryVersions for Client {
    /// Whether the broker answers on this connection.
    async fn try_versions(&mut self) -> bool {
        use aqueduct_protocol::messages::ApiVersionsRequest;
        assert_eq!(ApiVersionsRequest::API_KEY, 18);
        self.send(&ApiVersionsRequest::default(), 0).await;
        self.frame().await.is_some()
    }
}
