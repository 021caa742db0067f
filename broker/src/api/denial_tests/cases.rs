//! The table: each API that is served with a request or several. What one request deletes, none after it needs.

use aqueduct_protocol::ErrorCode::{
    ClusterAuthorizationFailed, GroupAuthorizationFailed, TopicAuthorizationFailed,
    TransactionalIdAuthorizationFailed,
};
use aqueduct_protocol::messages::*;

use super::Expect::{Closed, Code, Hidden, Open, Says};
use super::*;

#[rustfmt::skip]
pub(super) fn all(id: Uuid) -> Vec<Case> {
    let mut cases = vec![
        case(produce(id, -1), Code(TopicAuthorizationFailed)),
        case(produce(id, 0), Closed),
        case(fetch(id, -1), Code(TopicAuthorizationFailed)),
        case(fetch(id, 2), Code(TopicAuthorizationFailed)),
        case(ListOffsetsRequest { topics: vec![list_offsets_request::ListOffsetsTopic { name: TOPIC.into(), partitions: vec![list_offsets_request::ListOffsetsPartition { timestamp: -1, ..Default::default() }] }], ..Default::default() }, Code(TopicAuthorizationFailed)),
        case(metadata(Some(TOPIC), Uuid::ZERO), Code(TopicAuthorizationFailed)),
        case(metadata(Some("no-such-topic"), Uuid::ZERO), Code(TopicAuthorizationFailed)),
        case(metadata(None, id), Code(TopicAuthorizationFailed)),
        case(MetadataRequest { topics: None, include_topic_authorized_operations: true, ..Default::default() }, Hidden),
        case(offset_commit(id), Code(GroupAuthorizationFailed)),
        case(offset_fetch(None), Code(GroupAuthorizationFailed)),
        case(find_coordinator(0, GROUP), Code(GroupAuthorizationFailed)),
        case(find_coordinator(1, "secret-id"), Code(TransactionalIdAuthorizationFailed)),
        case(JoinGroupRequest { group_id: "secret-other".into(), session_timeout_ms: 10_000, rebalance_timeout_ms: 10_000, protocol_type: "consumer".into(), protocols: vec![join_group_request::JoinGroupRequestProtocol { name: "range".into(), metadata: Bytes::new() }], ..Default::default() }, Code(GroupAuthorizationFailed)),
        case(HeartbeatRequest { group_id: GROUP.into(), ..Default::default() }, Code(GroupAuthorizationFailed)),
        case(LeaveGroupRequest { group_id: GROUP.into(), ..Default::default() }, Code(GroupAuthorizationFailed)),
        case(SyncGroupRequest { group_id: GROUP.into(), protocol_type: Some("consumer".into()), protocol_name: Some("range".into()), ..Default::default() }, Code(GroupAuthorizationFailed)),
        case(DescribeGroupsRequest { groups: vec![GROUP.into()], include_authorized_operations: true }, Code(GroupAuthorizationFailed)),
        case(ListGroupsRequest::default(), Hidden),
        case(ApiVersionsRequest { client_software_name: "test".into(), client_software_version: "1".into(), ..Default::default() }, Open),
        case(SaslHandshakeRequest::default(), Open),
        case(SaslAuthenticateRequest::default(), Open),
        case(CreateTopicsRequest { topics: vec![create_topics_request::CreatableTopic { name: "other".into(), num_partitions: 1, replication_factor: 1, ..Default::default() }], timeout_ms: 1000, ..Default::default() }, Code(TopicAuthorizationFailed)),
        case(InitProducerIdRequest { producer_id: -1, producer_epoch: -1, transactional_id: None, ..Default::default() }, Code(ClusterAuthorizationFailed)),
        case(InitProducerIdRequest { producer_id: -1, producer_epoch: -1, transactional_id: Some("secret-id".into()), transaction_timeout_ms: 1000, ..Default::default() }, Code(TransactionalIdAuthorizationFailed)),
        case(AddPartitionsToTxnRequest::default(), Code(ClusterAuthorizationFailed)),
        case(AddOffsetsToTxnRequest { transactional_id: "secret-id".into(), group_id: GROUP.into(), ..Default::default() }, Code(TransactionalIdAuthorizationFailed)),
        case(EndTxnRequest { transactional_id: "secret-id".into(), ..Default::default() }, Code(TransactionalIdAuthorizationFailed)),
        case(WriteTxnMarkersRequest { markers: vec![write_txn_markers_request::WritableTxnMarker { topics: vec![write_txn_markers_request::WritableTxnMarkerTopic { name: TOPIC.into(), partition_indexes: vec![0] }], ..Default::default() }] }, Code(ClusterAuthorizationFailed)),
        case(TxnOffsetCommitRequest { transactional_id: "secret-id".into(), group_id: GROUP.into(), generation_id_or_member_epoch: -1, topics: vec![txn_offset_commit_request::TxnOffsetCommitRequestTopic { name: TOPIC.into(), partitions: vec![txn_offset_commit_request::TxnOffsetCommitRequestPartition::default()], ..Default::default() }], ..Default::default() }, Code(TransactionalIdAuthorizationFailed)),
        case(DescribeProducersRequest { topics: vec![describe_producers_request::TopicRequest { name: TOPIC.into(), partition_indexes: vec![0] }] }, Code(TopicAuthorizationFailed)),
        case(DescribeTransactionsRequest { transactional_ids: vec!["secret-id".into()] }, Code(TransactionalIdAuthorizationFailed)),
        case(ListTransactionsRequest { duration_filter: -1, ..Default::default() }, Open),
        case(OffsetForLeaderEpochRequest { replica_id: -1, topics: vec![offset_for_leader_epoch_request::OffsetForLeaderTopic { topic: TOPIC.into(), partitions: vec![offset_for_leader_epoch_request::OffsetForLeaderPartition { current_leader_epoch: -1, ..Default::default() }] }] }, Code(TopicAuthorizationFailed)),
        case(DescribeAclsRequest { resource_type_filter: 1, pattern_type_filter: 1, resource_name_filter: None, principal_filter: None, host_filter: None, operation: 1, permission_type: 1 }, Code(ClusterAuthorizationFailed)),
        case(CreateAclsRequest { creations: vec![create_acls_request::AclCreation { resource_type: 2, resource_name: TOPIC.into(), resource_pattern_type: 3, principal: "User:someone".into(), host: "*".into(), operation: 3, permission_type: 3 }] }, Code(ClusterAuthorizationFailed)),
        case(DeleteAclsRequest { filters: vec![delete_acls_request::DeleteAclsFilter { resource_type_filter: 1, pattern_type_filter: 1, resource_name_filter: None, principal_filter: None, host_filter: None, operation: 1, permission_type: 1 }] }, Code(ClusterAuthorizationFailed)),
        case(AlterReplicaLogDirsRequest { dirs: vec![alter_replica_log_dirs_request::AlterReplicaLogDir { path: "/no/such/dir".into(), topics: vec![alter_replica_log_dirs_request::AlterReplicaLogDirTopic { name: TOPIC.into(), partitions: vec![0] }] }] }, Code(ClusterAuthorizationFailed)),
        case(DescribeLogDirsRequest { topics: None }, Code(ClusterAuthorizationFailed)),
        case(CreatePartitionsRequest { topics: vec![create_partitions_request::CreatePartitionsTopic { name: TOPIC.into(), count: 2, assignments: None }], timeout_ms: 1000, validate_only: false }, Code(TopicAuthorizationFailed)),
        case(ElectLeadersRequest { topic_partitions: None, timeout_ms: 1000, ..Default::default() }, Code(ClusterAuthorizationFailed)),
        case(AlterPartitionReassignmentsRequest { topics: vec![alter_partition_reassignments_request::ReassignableTopic { name: TOPIC.into(), partitions: vec![alter_partition_reassignments_request::ReassignablePartition { partition_index: 0, replicas: Some(vec![1]) }] }], ..Default::default() }, Code(ClusterAuthorizationFailed)),
        case(ListPartitionReassignmentsRequest { topics: None, timeout_ms: 1000 }, Code(ClusterAuthorizationFailed)),
        case(OffsetDeleteRequest { group_id: GROUP.into(), topics: vec![offset_delete_request::OffsetDeleteRequestTopic { name: TOPIC.into(), partitions: vec![offset_delete_request::OffsetDeleteRequestPartition { partition_index: 0 }] }] }, Code(GroupAuthorizationFailed)),
        case(DescribeClientQuotasRequest::default(), Code(ClusterAuthorizationFailed)),
        case(AlterClientQuotasRequest { entries: vec![alter_client_quotas_request::EntryData { entity: vec![alter_client_quotas_request::EntityData { entity_type: "user".into(), entity_name: Some("u".into()) }], ops: vec![alter_client_quotas_request::OpData { key: "producer_byte_rate".into(), value: 1e9, remove: false }] }], validate_only: false }, Code(ClusterAuthorizationFailed)),
        case(DescribeUserScramCredentialsRequest::default(), Code(ClusterAuthorizationFailed)),
        case(AlterUserScramCredentialsRequest { upsertions: vec![alter_user_scram_credentials_request::ScramCredentialUpsertion { name: "u".into(), mechanism: 1, iterations: 4096, salt: Bytes::from_static(b"salt"), salted_password: Bytes::from_static(&[7; 32]) }], ..Default::default() }, Code(ClusterAuthorizationFailed)),
        case(DescribeQuorumRequest { topics: vec![describe_quorum_request::TopicData { topic_name: "__cluster_metadata".into(), partitions: vec![describe_quorum_request::PartitionData { partition_index: 0 }] }] }, Code(ClusterAuthorizationFailed)),
        case(UpdateFeaturesRequest::default(), Code(ClusterAuthorizationFailed)),
        case(DescribeClusterRequest { include_cluster_authorized_operations: true, endpoint_type: 1, ..Default::default() }, Says("cluster_authorized_operations: 0")),
        case(UnregisterBrokerRequest { broker_id: 77 }, Code(ClusterAuthorizationFailed)),
        case(ConsumerGroupHeartbeatRequest { group_id: "secret-other".into(), member_id: "m".into(), rebalance_timeout_ms: 10_000, subscribed_topic_names: Some(vec![TOPIC.into()]), topic_partitions: Some(Vec::new()), ..Default::default() }, Code(GroupAuthorizationFailed)),
        case(ConsumerGroupDescribeRequest { group_ids: vec![GROUP.into()], include_authorized_operations: true }, Code(GroupAuthorizationFailed)),
        case(SaslHandshakeRequest { mechanism: "PLAIN".into() }, Open),
        case(SaslAuthenticateRequest::default(), Open),
        case(DescribeUserScramCredentialsRequest { users: None }, Code(ClusterAuthorizationFailed)),
        case(AlterUserScramCredentialsRequest { deletions: vec![alter_user_scram_credentials_request::ScramCredentialDeletion { name: "u".into(), mechanism: 1 }], upsertions: Vec::new() }, Code(ClusterAuthorizationFailed)),
        case(ListConfigResourcesRequest::default(), Code(ClusterAuthorizationFailed)),
        case(DescribeTopicPartitionsRequest { topics: vec![describe_topic_partitions_request::TopicRequest { name: TOPIC.into() }], response_partition_limit: 1000, cursor: None }, Code(TopicAuthorizationFailed)),
        case(DescribeTopicPartitionsRequest { response_partition_limit: 1000, cursor: None, ..Default::default() }, Hidden),
    ];
    for (kind, name, denial) in [(2, TOPIC, TopicAuthorizationFailed), (32, GROUP, GroupAuthorizationFailed), (4, "1", ClusterAuthorizationFailed), (4, "", ClusterAuthorizationFailed), (16, "m", ClusterAuthorizationFailed)] {
        cases.push(case(DescribeConfigsRequest { resources: vec![describe_configs_request::DescribeConfigsResource { resource_type: kind, resource_name: name.into(), configuration_keys: None }], ..Default::default() }, Code(denial)));
        cases.push(case(AlterConfigsRequest { resources: vec![alter_configs_request::AlterConfigsResource { resource_type: kind, resource_name: name.into(), configs: vec![alter_configs_request::AlterableConfig { name: "retention.ms".into(), value: Some("1000".into()) }] }], validate_only: false }, Code(denial)));
        cases.push(case(IncrementalAlterConfigsRequest { resources: vec![incremental_alter_configs_request::AlterConfigsResource { resource_type: kind, resource_name: name.into(), configs: vec![incremental_alter_configs_request::AlterableConfig { name: "retention.ms".into(), config_operation: 0, value: Some("1000".into()) }] }], validate_only: false }, Code(denial)));
    }
    cases.push(case(DeleteRecordsRequest { topics: vec![delete_records_request::DeleteRecordsTopic { name: TOPIC.into(), partitions: vec![delete_records_request::DeleteRecordsPartition { partition_index: 0, offset: -1 }] }], timeout_ms: 1000 }, Code(TopicAuthorizationFailed)));
    cases.push(case(DeleteGroupsRequest { groups_names: vec![GROUP.into()] }, Code(GroupAuthorizationFailed)));
    cases.push(case(delete_topic(None, id), Code(TopicAuthorizationFailed)));
    cases.push(case(delete_topic(Some(TOPIC), Uuid::ZERO), Code(TopicAuthorizationFailed)));
    cases
}

pub(super) fn produce(id: Uuid, acks: i16) -> ProduceRequest {
    let partition = produce_request::PartitionProduceData { index: 0, records: Some(batch()) };
    let topic = produce_request::TopicProduceData {
        topic_id: id,
        partition_data: vec![partition],
        ..Default::default()
    };
    ProduceRequest { transactional_id: None, acks, timeout_ms: 1000, topic_data: vec![topic] }
}

pub(super) fn fetch(id: Uuid, replica: i32) -> FetchRequest {
    let partition = fetch_request::FetchPartition {
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        partition_max_bytes: 1000,
        ..Default::default()
    };
    let topic = fetch_request::FetchTopic { topic_id: id, partitions: vec![partition], ..Default::default() };
    FetchRequest {
        replica_state: fetch_request::ReplicaState { replica_id: replica, replica_epoch: -1 },
        max_bytes: 1000,
        session_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    }
}

pub(super) fn metadata(name: Option<&'static str>, topic_id: Uuid) -> MetadataRequest {
    let topic = metadata_request::MetadataRequestTopic { name: name.map(Into::into), topic_id };
    MetadataRequest { topics: Some(vec![topic]), allow_auto_topic_creation: true, ..Default::default() }
}

pub(super) fn offset_commit(id: Uuid) -> OffsetCommitRequest {
    let partition =
        OffsetCommitRequestPartition { partition_index: 0, committed_offset: 7, ..Default::default() };
    OffsetCommitRequest {
        group_id: GROUP.into(),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            topic_id: id,
            partitions: vec![partition],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// Of one topic, or of all.
pub(super) fn offset_fetch(topic: Option<Uuid>) -> OffsetFetchRequest {
    let named = |topic_id| offset_fetch_request::OffsetFetchRequestTopics {
        topic_id,
        partition_indexes: vec![0],
        ..Default::default()
    };
    let group = offset_fetch_request::OffsetFetchRequestGroup {
        group_id: GROUP.into(),
        member_epoch: -1,
        topics: topic.map(|id| vec![named(id)]),
        ..Default::default()
    };
    OffsetFetchRequest { groups: vec![group], ..Default::default() }
}

pub(super) fn find_coordinator(key_type: i8, key: &'static str) -> FindCoordinatorRequest {
    FindCoordinatorRequest { key_type, coordinator_keys: vec![key.into()], ..Default::default() }
}

pub(super) fn delete_topic(name: Option<&'static str>, topic_id: Uuid) -> DeleteTopicsRequest {
    let topic = delete_topics_request::DeleteTopicState { name: name.map(Into::into), topic_id };
    DeleteTopicsRequest { topics: vec![topic], timeout_ms: 1000, ..Default::default() }
}
