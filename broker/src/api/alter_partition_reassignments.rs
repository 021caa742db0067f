//! AlterPartitionReassignments (KIP-455, KIP-860), versions 0 to 1: gives partitions other replicas.

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{BrokerId, PartitionIndex};
use aqueduct_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use aqueduct_protocol::messages::{AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse};

use super::Context;
use super::shared::{failure, own};
use crate::metadata::Command;
use crate::security::Operation;

pub(crate) async fn handle(
    context: Context,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    if !context.allows_cluster(Operation::Alter) {
        return AlterPartitionReassignmentsResponse {
            error_code: ErrorCode::ClusterAuthorizationFailed.code(),
            ..Default::default()
        };
    }
    let mut commands = Vec::new();
    for topic in &request.topics {
        commands.extend(topic.partitions.iter().map(|partition| Command::ReassignPartition {
            topic: own(&topic.name),
            index: PartitionIndex(partition.partition_index),
            replicas: partition.replicas.as_ref().map(|ids| ids.iter().copied().map(BrokerId).collect()),
        }));
    }
    let mut outcomes = context.node.metadata.submit(commands).await.into_iter();
    let mut responses = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for (partition, outcome) in topic.partitions.into_iter().zip(&mut outcomes) {
            let (code, message) = match outcome {
                Ok(_) => (ErrorCode::None, None),
                Err(error) => {
                    let (code, message) = failure(error);
                    (code, Some(message.into()))
                }
            };
            partitions.push(ReassignablePartitionResponse {
                partition_index: partition.partition_index,
                error_code: code.code(),
                error_message: message,
            });
        }
        responses.push(ReassignableTopicResponse { name: topic.name, partitions });
    }
    AlterPartitionReassignmentsResponse {
        // As Apache Kafka, which does not look at it where nothing is asked for.
        allow_replication_factor_change: request.allow_replication_factor_change || responses.is_empty(),
        responses,
        ..Default::default()
    }
}
