//! What an administrator meets, and what a connection does at its edges.
#![allow(clippy::unwrap_used)]

mod common;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use aqueduct_protocol::messages::describe_configs_request::DescribeConfigsResource;
use aqueduct_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use aqueduct_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use aqueduct_protocol::messages::{
    ApiVersionsRequest, DeleteRecordsRequest, DescribeConfigsRequest, DescribeLogDirsRequest,
    FindCoordinatorRequest, IncrementalAlterConfigsRequest, ListOffsetsRequest, MetadataRequest,
};
use common::*;
use tokio::io::AsyncWriteExt;

fn versions() -> ApiVersionsRequest {
    ApiVersionsRequest {
        client_software_name: "test".into(),
        client_software_version: "1.0".into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn versions_are_negotiated_by_kafkas_rules() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(&broker).await;
    client.stream.write_all(b"\0\0\0\x0c\0\x12\0\x63\0\0\0\x05junk").await.unwrap();
    let frame = client.frame().await.unwrap();
    assert_eq!(&frame[..], b"\0\0\0\x05\0\x23\0\0\0\x01\0\x12\0\0\0\x05");
    for version in 0..=4 {
        let response = client.call(&versions(), version).await;
        assert_eq!(response.error_code, 0);
        let produce = response.api_keys.iter().find(|api| api.api_key == 0).unwrap();
        assert_eq!((produce.min_version, produce.max_version), (0, 13));
    }
    let bad = ApiVersionsRequest { client_software_name: "-".into(), ..versions() };
    assert_eq!(client.call(&bad, 3).await.error_code, ErrorCode::InvalidRequest.code());
    let elsewhere = ApiVersionsRequest { cluster_id: Some("other".into()), node_id: -1, ..versions() };
    assert_eq!(client.call(&elsewhere, 5).await.error_code, ErrorCode::RebootstrapRequired.code());
    broker.shutdown().await;
}

#[tokio::test]
async fn what_is_not_served_closes_the_connection() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let cases: [&[u8]; 6] = [
        b"\0\0\0\x0a\0\x00\0\x02\0\0\0\x01\xff\xff",
        b"\0\0\0\x0a\0\x01\0\x03\0\0\0\x01\xff\xff",
        b"\0\0\0\x0a\0\x04\0\x00\0\0\0\x01\xff\xff",
        b"\x7f\xff\xff\xff",
        b"\xff\xff\xff\xff",
        b"\0\0\0\x02\0\x03",
    ];
    for case in cases {
        let mut client = Client::connect(&broker).await;
        client.stream.write_all(case).await.unwrap();
        assert!(client.is_closed().await, "{case:?}");
    }
    broker.shutdown().await;
}

#[tokio::test]
async fn topics_configs_and_ids_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(&broker).await;
    let id = client.create_topic("t", 3, &[("retention.ms", "777")]).await;
    client.produce("t", 2, batch(&["kept"])).await;
    let cluster = broker.cluster_id();
    broker.shutdown().await;
    assert!(dir.path().join(".kafka_cleanshutdown").exists());

    let broker = start(dir.path()).await;
    assert_eq!(broker.cluster_id(), cluster);
    let mut client = Client::connect(&broker).await;
    let metadata = client.metadata(&["t"]).await;
    assert_eq!((metadata.topics[0].topic_id, metadata.topics[0].partitions.len()), (id, 3));
    assert_eq!(metadata.topics[0].partitions[0].leader_epoch, 1);
    let resource = DescribeConfigsResource {
        resource_type: 2,
        resource_name: "t".into(),
        configuration_keys: Some(vec!["retention.ms".into()]),
    };
    let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
    let described = client.call(&request, 4).await;
    let config = &described.results[0].configs[0];
    assert_eq!((config.value.as_deref(), config.config_source), (Some("777"), 1));
    let fetched = client.call(&fetch_request("t", id, 2, 0), 13).await;
    assert_eq!(values(fetched.responses[0].partitions[0].records.clone()), ["kept"]);
    broker.shutdown().await;
}

#[tokio::test]
async fn a_directory_of_another_node_or_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let again = aqueduct_broker::Broker::start(aqueduct_broker::Options::embedded(dir.path(), 0)).await;
    assert!(again.err().unwrap().to_string().contains("another broker process"));
    broker.shutdown().await;
    drop(broker);
    let mut options = aqueduct_broker::Options::embedded(dir.path(), 0);
    options.set("node.id", "2");
    let other = aqueduct_broker::Broker::start(options).await;
    assert!(other.err().unwrap().to_string().contains("node.id"));
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let other = tempfile::tempdir().unwrap();
    let options = aqueduct_broker::Options::embedded(other.path(), broker.address().port());
    let error = aqueduct_broker::Broker::start(options).await.err().unwrap().to_string();
    assert!(error.contains(&broker.address().to_string()), "{error}");
    broker.shutdown().await;
}

#[tokio::test]
async fn missing_topics_are_created_where_that_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start_with(dir.path(), &[("num.partitions", "4")]).await;
    let mut client = Client::connect(&broker).await;
    let metadata = client.metadata(&["auto", "bad name"]).await;
    assert_eq!((metadata.topics[0].error_code, metadata.topics[0].partitions.len()), (0, 4));
    assert_eq!(metadata.topics[1].error_code, ErrorCode::InvalidTopicException.code());
    let groups = FindCoordinatorRequest { coordinator_keys: vec!["g".into()], ..Default::default() };
    let found = client.call(&groups, 4).await;
    assert_eq!((found.coordinators[0].error_code, found.coordinators[0].node_id), (0, 1));
    let all = client.call(&MetadataRequest { topics: None, ..Default::default() }, 9).await;
    let offsets = all.topics.iter().find(|t| t.name.as_deref() == Some("__consumer_offsets")).unwrap();
    assert_eq!((offsets.partitions.len(), offsets.is_internal), (50, true));
    broker.shutdown().await;

    let other = tempfile::tempdir().unwrap();
    let broker = start_with(other.path(), &[("auto.create.topics.enable", "false")]).await;
    let mut client = Client::connect(&broker).await;
    let metadata = client.metadata(&["auto"]).await;
    assert_eq!(metadata.topics[0].error_code, ErrorCode::UnknownTopicOrPartition.code());
    broker.shutdown().await;
}

#[tokio::test]
async fn offsets_are_found_by_name_and_time() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("t", 1, &[]).await;
    client.produce("t", 0, batch(&["a", "b"])).await;
    let before = now_ms();
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    client.produce("t", 0, batch(&["c"])).await;
    let mut find = async |timestamp, version| {
        let partition = ListOffsetsPartition { partition_index: 0, current_leader_epoch: -1, timestamp };
        let topic = ListOffsetsTopic { name: "t".into(), partitions: vec![partition] };
        let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
        let found = client.call(&request, version).await.topics.remove(0).partitions.remove(0);
        (found.error_code, found.offset)
    };
    for version in 1..=11 {
        assert_eq!(find(-1, version).await, (0, 3));
        assert_eq!(find(-2, version).await, (0, 0));
        assert_eq!(find(before + 1, version).await, (0, 2));
        assert_eq!(find(now_ms() + 100_000, version).await, (0, -1));
    }
    assert_eq!(find(-3, 7).await, (0, 2));
    assert_eq!(find(-3, 6).await, (ErrorCode::UnsupportedVersion.code(), -1));
    assert_eq!(find(-4, 8).await, (0, 0));
    assert_eq!(find(-5, 9).await, (0, -1));
    let wanted = DeleteRecordsPartition { partition_index: 0, offset: 2 };
    let topic = DeleteRecordsTopic { name: "t".into(), partitions: vec![wanted] };
    let deleted = client.call(&DeleteRecordsRequest { topics: vec![topic], timeout_ms: 1000 }, 2).await;
    let result = &deleted.topics[0].partitions[0];
    assert_eq!((result.error_code, result.low_watermark), (0, 2));
    let gone = client.call(&fetch_request("t", Default::default(), 0, 1), 11).await;
    assert_eq!(gone.responses[0].partitions[0].error_code, ErrorCode::OffsetOutOfRange.code());
    broker.shutdown().await;
}

#[tokio::test]
async fn configs_change_step_by_step_and_reach_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("t", 1, &[]).await;
    client.produce("t", 0, batch(&["a"])).await;
    let mut alter = async |kind, name: &str, key: &str, op, value: Option<&str>| {
        let config = AlterableConfig { name: key.into(), config_operation: op, value: value.map(Into::into) };
        let resource =
            AlterConfigsResource { resource_type: kind, resource_name: name.into(), configs: vec![config] };
        let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
        ErrorCode::from_code(client.call(&request, 1).await.responses[0].error_code)
    };
    assert_eq!(alter(2, "t", "max.message.bytes", 0, Some("200")).await, ErrorCode::None);
    assert_eq!(alter(2, "t", "max.message.bytes", 0, Some("x")).await, ErrorCode::InvalidConfig);
    assert_eq!(alter(2, "t", "max.message.bytes", 0, None).await, ErrorCode::InvalidRequest);
    assert_eq!(alter(2, "no", "max.message.bytes", 1, None).await, ErrorCode::UnknownTopicOrPartition);
    let fixed = alter(4, "1", "listeners", 0, Some("PLAINTEXT://:1")).await;
    assert_eq!(fixed, ErrorCode::InvalidRequest);
    assert_eq!(alter(4, "2", "log.retention.ms", 0, Some("1")).await, ErrorCode::InvalidRequest);
    let large = batch(&[&"x".repeat(300)]);
    let refused = client.produce("t", 0, large.clone()).await;
    assert_eq!(refused.error_code, ErrorCode::MessageTooLarge.code());
    let request = DescribeLogDirsRequest { topics: None };
    let dirs = client.call(&request, 4).await;
    assert_eq!(dirs.results[0].topics[0].partitions[0].partition_size, batch(&["a"]).len() as i64);
    assert!(dirs.results[0].usable_bytes > 0);
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn deletions_under_producers_leave_no_directory_behind() {
    use aqueduct_protocol::messages::DeleteTopicsRequest;
    use aqueduct_protocol::messages::delete_topics_request::DeleteTopicState;
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut admin = Client::connect(&broker).await;
    let state = DeleteTopicState { name: Some("t".into()), ..Default::default() };
    let delete = DeleteTopicsRequest { topics: vec![state], timeout_ms: 1000, ..Default::default() };
    let mut producers = tokio::task::JoinSet::new();
    for index in 0..4 {
        let mut client = Client::connect(&broker).await;
        producers.spawn(async move {
            for _ in 0..300 {
                let code = ErrorCode::from_code(client.produce("t", index, batch(&["a"])).await.error_code);
                assert!(matches!(code, ErrorCode::None | ErrorCode::UnknownTopicOrPartition), "{code:?}");
            }
        });
    }
    for _ in 0..40 {
        admin.create_topic("t", 4, &[]).await;
        tokio::time::sleep(std::time::Duration::from_millis(3)).await;
        assert_eq!(admin.call(&delete, 6).await.responses[0].error_code, 0);
    }
    producers.join_all().await;
    broker.shutdown().await;
    let names = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = names.filter(|name| name.to_str().unwrap().starts_with("t-")).collect();
    assert!(left.iter().all(|name| name.to_str().unwrap().ends_with("-delete")), "{left:?}");
}
