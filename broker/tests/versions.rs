//! Every version that is advertised can be asked and answered, with success and with errors.
#![allow(clippy::unwrap_used)]

mod common;

use aqueduct_broker::Handle;
use aqueduct_protocol::messages::alter_configs_request::{AlterConfigsResource, AlterableConfig};
use aqueduct_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use aqueduct_protocol::messages::create_topics_request::CreatableTopic;
use aqueduct_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use aqueduct_protocol::messages::delete_topics_request::DeleteTopicState;
use aqueduct_protocol::messages::describe_configs_request::DescribeConfigsResource;
use aqueduct_protocol::messages::describe_topic_partitions_request::TopicRequest;
use aqueduct_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use aqueduct_protocol::messages::metadata_request::MetadataRequestTopic;
use aqueduct_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use aqueduct_protocol::messages::{
    AlterConfigsRequest, ApiVersionsRequest, CreatePartitionsRequest, CreateTopicsRequest,
    DeleteRecordsRequest, DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest,
    DescribeLogDirsRequest, DescribeTopicPartitionsRequest, FetchRequest, FindCoordinatorRequest,
    IncrementalAlterConfigsRequest, InitProducerIdRequest, ListConfigResourcesRequest, ListOffsetsRequest,
    MetadataRequest, OffsetForLeaderEpochRequest, ProduceRequest, incremental_alter_configs_request,
};
use aqueduct_protocol::{Request, ids::Uuid};
use common::*;

/// The versions that the broker advertises of an API, without those that it refuses.
async fn served<R: Request>(client: &mut Client) -> std::ops::RangeInclusive<i16> {
    let request = ApiVersionsRequest {
        client_software_name: "t".into(),
        client_software_version: "1".into(),
        ..Default::default()
    };
    let versions = client.call(&request, 3).await;
    let api = versions.api_keys.iter().find(|api| api.api_key == R::API_KEY).unwrap();
    api.min_version.max(R::MIN_VERSION)..=api.max_version
}

/// Sends what `make` gives for each version, and reads the answers.
async fn sweep<R: Request>(broker: &Handle, make: impl Fn(i16) -> R) {
    let mut client = Client::connect(broker).await;
    for version in served::<R>(&mut client).await {
        client.call(&make(version), version).await;
    }
}

fn named(name: &str, id: Uuid, version: i16) -> MetadataRequestTopic {
    MetadataRequestTopic { name: Some(name.into()), topic_id: if version >= 12 { id } else { Uuid::ZERO } }
}

#[tokio::test]
async fn every_version_of_every_api_answers() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(&broker).await;
    let id = client.create_topic("t", 2, &[("retention.ms", "100000000")]).await;
    client.produce("t", 0, batch(&["a"])).await;
    sweep::<MetadataRequest>(&broker, |version| MetadataRequest {
        topics: Some(vec![named("t", Uuid::ZERO, version), named("bad name", Uuid::ZERO, version)]),
        allow_auto_topic_creation: true,
        include_cluster_authorized_operations: (8..=10).contains(&version),
        include_topic_authorized_operations: version >= 8,
    })
    .await;
    sweep::<MetadataRequest>(&broker, |version| MetadataRequest {
        topics: (version == 0).then(Vec::new),
        allow_auto_topic_creation: true,
        ..Default::default()
    })
    .await;
    for topic in ["t", "none"] {
        sweep::<ProduceRequest>(&broker, |_| produce_request(topic, id, 0, Some(batch(&["b"])), 1)).await;
        sweep::<FetchRequest>(&broker, |_| fetch_request(topic, id, 0, 0)).await;
        sweep::<ListOffsetsRequest>(&broker, |_| {
            let partition =
                ListOffsetsPartition { partition_index: 0, current_leader_epoch: -1, timestamp: -1 };
            let topics = vec![ListOffsetsTopic { name: topic.into(), partitions: vec![partition] }];
            ListOffsetsRequest { replica_id: -1, topics, ..Default::default() }
        })
        .await;
        sweep::<OffsetForLeaderEpochRequest>(&broker, |_| {
            let partition =
                OffsetForLeaderPartition { partition: 0, current_leader_epoch: -1, leader_epoch: 0 };
            let topics = vec![OffsetForLeaderTopic { topic: topic.into(), partitions: vec![partition] }];
            OffsetForLeaderEpochRequest { replica_id: -1, topics }
        })
        .await;
        sweep::<DeleteRecordsRequest>(&broker, |_| {
            let partition = DeleteRecordsPartition { partition_index: 0, offset: 0 };
            let topics = vec![DeleteRecordsTopic { name: topic.into(), partitions: vec![partition] }];
            DeleteRecordsRequest { topics, timeout_ms: 1 }
        })
        .await;
        sweep::<CreateTopicsRequest>(&broker, |_| {
            let topic = CreatableTopic {
                name: topic.into(),
                num_partitions: 1,
                replication_factor: 1,
                ..Default::default()
            };
            CreateTopicsRequest { topics: vec![topic], timeout_ms: 1, validate_only: true }
        })
        .await;
        sweep::<CreatePartitionsRequest>(&broker, |_| {
            let topic = CreatePartitionsTopic { name: topic.into(), count: 3, assignments: None };
            CreatePartitionsRequest { topics: vec![topic], timeout_ms: 1, validate_only: true }
        })
        .await;
        sweep::<DescribeConfigsRequest>(&broker, |version| {
            let resource = |resource_type, name: &str| DescribeConfigsResource {
                resource_type,
                resource_name: name.into(),
                configuration_keys: None,
            };
            let resources = vec![resource(2, topic), resource(4, "1"), resource(4, "9"), resource(8, "1")];
            DescribeConfigsRequest { resources, include_synonyms: true, include_documentation: version >= 3 }
        })
        .await;
        sweep::<AlterConfigsRequest>(&broker, |_| {
            let configs =
                vec![AlterableConfig { name: "retention.ms".into(), value: Some("5000000".into()) }];
            let resource = AlterConfigsResource { resource_type: 2, resource_name: topic.into(), configs };
            AlterConfigsRequest { resources: vec![resource], validate_only: false }
        })
        .await;
        sweep::<IncrementalAlterConfigsRequest>(&broker, |_| {
            let config = incremental_alter_configs_request::AlterableConfig {
                name: "retention.ms".into(),
                config_operation: 1,
                value: None,
            };
            let resource = incremental_alter_configs_request::AlterConfigsResource {
                resource_type: 2,
                resource_name: topic.into(),
                configs: vec![config],
            };
            IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false }
        })
        .await;
        sweep::<DescribeTopicPartitionsRequest>(&broker, |_| DescribeTopicPartitionsRequest {
            topics: vec![TopicRequest { name: topic.into() }],
            response_partition_limit: 1,
            cursor: None,
        })
        .await;
    }
    for key_type in [0, 1] {
        sweep::<FindCoordinatorRequest>(&broker, |version| FindCoordinatorRequest {
            key: if version < 4 { "g".into() } else { Default::default() },
            key_type: if version >= 1 { key_type } else { 0 },
            coordinator_keys: if version >= 4 { vec!["g".into(), "".into()] } else { vec![] },
        })
        .await;
    }
    for transactional_id in [None, Some("x".into())] {
        sweep::<InitProducerIdRequest>(&broker, |_| InitProducerIdRequest {
            transactional_id: transactional_id.clone(),
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        })
        .await;
    }
    sweep::<DescribeLogDirsRequest>(&broker, |_| DescribeLogDirsRequest { topics: None }).await;
    sweep::<ListConfigResourcesRequest>(&broker, |_| ListConfigResourcesRequest::default()).await;
    for endpoint_type in [1, 2, 3] {
        sweep::<DescribeClusterRequest>(&broker, |version| DescribeClusterRequest {
            include_cluster_authorized_operations: true,
            endpoint_type: if version >= 1 { endpoint_type } else { 1 },
            ..Default::default()
        })
        .await;
    }
    for name in ["none", "t"] {
        sweep::<DeleteTopicsRequest>(&broker, |version| {
            let state = DeleteTopicState { name: Some(name.into()), ..Default::default() };
            DeleteTopicsRequest {
                topics: if version >= 6 { vec![state] } else { vec![] },
                topic_names: if version < 6 { vec![name.into()] } else { vec![] },
                timeout_ms: 1,
            }
        })
        .await;
    }
    broker.shutdown().await;
}

#[tokio::test]
async fn topics_are_described_page_by_page() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(&broker).await;
    for (name, partitions) in [("a", 3), ("b", 1), ("c", 2)] {
        client.create_topic(name, partitions, &[]).await;
    }
    let mut request = DescribeTopicPartitionsRequest { response_partition_limit: 2, ..Default::default() };
    let mut seen = Vec::new();
    loop {
        let page = client.call(&request, 0).await;
        for topic in page.topics {
            let name = topic.name.unwrap();
            seen.extend(topic.partitions.iter().map(|p| format!("{name}{}", p.partition_index)));
        }
        let Some(cursor) = page.next_cursor else { break };
        request.cursor = Some(aqueduct_protocol::messages::describe_topic_partitions_request::Cursor {
            topic_name: cursor.topic_name,
            partition_index: cursor.partition_index,
        });
    }
    assert_eq!(seen, ["a0", "a1", "a2", "b0", "c0", "c1"]);
    broker.shutdown().await;
}
