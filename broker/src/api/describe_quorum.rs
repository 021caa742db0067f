//! DescribeQuorum (KIP-595, KIP-836, KIP-853), versions 0 to 2: who votes on the metadata and how far each is. One node is
//! the whole quorum: it leads, and what it has journalled is committed.

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::messages::describe_quorum_response::{
    Listener, Node, PartitionData, ReplicaState, TopicData,
};
use aqueduct_protocol::messages::{DescribeQuorumRequest, DescribeQuorumResponse};

use super::Context;
use crate::membership::Member;
use crate::membership::describe::{self, METADATA_TOPIC};
use crate::security::Operation;

/// The one epoch of a quorum that never elects.
const EPOCH: i32 = 1;

pub(crate) async fn handle(context: Context, request: DescribeQuorumRequest) -> DescribeQuorumResponse {
    if !context.allows_cluster(Operation::Describe) {
        return DescribeQuorumResponse {
            error_code: ErrorCode::ClusterAuthorizationFailed.code(),
            ..Default::default()
        };
    }
    if let Some(member) = &context.node.member {
        return described(member, context.version, &request).await;
    }
    let image = context.node.metadata.image();
    let id = context.node.settings.node_id;
    // Older versions have no room for times and nodes.
    let now_ms = if context.version >= 1 { context.node.clock.now_ms() } else { -1 };
    let changes = i64::try_from(image.version).unwrap_or(i64::MAX);
    let partition = |topic: &str, index: i32| {
        if topic != METADATA_TOPIC || index != 0 {
            return PartitionData {
                partition_index: index,
                error_code: ErrorCode::UnknownTopicOrPartition.code(),
                ..Default::default()
            };
        }
        let voter = ReplicaState {
            replica_id: id.0,
            log_end_offset: changes,
            last_fetch_timestamp: now_ms,
            last_caught_up_timestamp: now_ms,
            ..Default::default()
        };
        PartitionData {
            partition_index: 0,
            leader_id: id.0,
            leader_epoch: EPOCH,
            high_watermark: changes,
            current_voters: vec![voter],
            ..Default::default()
        }
    };
    let topic = |topic: aqueduct_protocol::messages::describe_quorum_request::TopicData| {
        let partitions =
            topic.partitions.iter().map(|wanted| partition(&topic.topic_name, wanted.partition_index));
        TopicData { partitions: partitions.collect(), topic_name: topic.topic_name }
    };
    let node = image.brokers.get(&id).filter(|_| context.version >= 2).map(|broker| Node {
        node_id: id.0,
        listeners: broker
            .endpoints
            .iter()
            .map(|endpoint| Listener {
                name: endpoint.listener.clone(),
                host: endpoint.host.clone(),
                port: endpoint.port,
            })
            .collect(),
    });
    DescribeQuorumResponse {
        topics: request.topics.into_iter().map(topic).collect(),
        nodes: node.into_iter().collect(),
        ..Default::default()
    }
}

/// The quorum of several nodes: asked of its leader.
async fn described(member: &Member, version: i16, request: &DescribeQuorumRequest) -> DescribeQuorumResponse {
    let found = match member.describe().await {
        Ok(found) => describe::for_version(found, version),
        Err(rejection) => {
            return DescribeQuorumResponse {
                error_code: rejection.code.code(),
                error_message: (version >= 2).then(|| rejection.message.into()),
                ..Default::default()
            };
        }
    };
    let quorum = found.topics.first().and_then(|topic| topic.partitions.first());
    let partition = |topic: &str, index: i32| match quorum {
        Some(quorum) if topic == METADATA_TOPIC && index == 0 => quorum.clone(),
        _ => PartitionData {
            partition_index: index,
            error_code: ErrorCode::UnknownTopicOrPartition.code(),
            ..Default::default()
        },
    };
    let topics = request.topics.iter().map(|topic| TopicData {
        topic_name: topic.topic_name.clone(),
        partitions: topic
            .partitions
            .iter()
            .map(|wanted| partition(&topic.topic_name, wanted.partition_index))
            .collect(),
    });
    DescribeQuorumResponse { topics: topics.collect(), nodes: found.nodes.clone(), ..Default::default() }
}
