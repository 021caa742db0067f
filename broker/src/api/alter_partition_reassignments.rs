//! AlterPartitionReassignments (KIP-455, KIP-860), versions 0 to 1: gives partitions other replicas.

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{BrokerId, PartitionIndex};
use aqueduct_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use aqueduct_protocol::messages::{AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse};

use super::Context;
use super::shared::{failure, own};
use crate::metadata::{Command, MetadataError, MetadataImage, Rejection, without};
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
    let image = context.node.metadata.image();
    let (mut commands, mut refusals) = (Vec::new(), Vec::new());
    for topic in &request.topics {
        for partition in &topic.partitions {
            let index = PartitionIndex(partition.partition_index);
            let replicas: Option<Vec<_>> =
                partition.replicas.as_ref().map(|ids| ids.iter().copied().map(BrokerId).collect());
            let refusal = match &replicas {
                Some(wanted) if context.version >= 1 && !request.allow_replication_factor_change => {
                    keeps_factor(&image, &topic.name, index, wanted.len()).err()
                }
                _ => None,
            };
            if refusal.is_none() {
                commands.push(Command::ReassignPartition { topic: own(&topic.name), index, replicas });
            }
            refusals.push(refusal);
        }
    }
    let mut submitted = context.node.metadata.submit(commands).await.into_iter();
    let mut outcomes = refusals.into_iter().map(|refusal| match refusal {
        Some(refusal) => Err(refusal.into()),
        None => submitted.next().unwrap_or(Err(MetadataError::Stopping)).map(drop),
    });
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

/// Refuses another number of replicas than the partition has, or will have when what is under way is done.
fn keeps_factor(
    image: &MetadataImage,
    topic: &str,
    index: PartitionIndex,
    wanted: usize,
) -> Result<(), Rejection> {
    // What is not there is for the controller to refuse.
    let Some(topic) = image.topic(topic) else { return Ok(()) };
    let Some(partition) = topic.partition(index) else { return Ok(()) };
    let has = without(&partition.replicas, &image.partition_state(topic.id, index).removing).len();
    if has == wanted {
        return Ok(());
    }
    let why = format!("The replication factor is changed from {has} to {wanted}");
    Err(Rejection::new(ErrorCode::InvalidReplicationFactor, why))
}

#[cfg(test)]
mod tests {
    use aqueduct_protocol::ids::{LeaderEpoch, Uuid};

    use super::*;
    use crate::metadata::{ClusterRecord, PartitionImage, PartitionState, Record, TopicImage};

    #[test]
    fn the_factor_is_the_one_that_a_partition_is_on_its_way_to() {
        let ids = |list: &[i32]| list.iter().copied().map(BrokerId).collect::<Vec<_>>();
        let mut image = MetadataImage::new("c".into());
        let mut partition = PartitionImage {
            leader: BrokerId(1),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: 0,
            replicas: ids(&[1, 2]),
            isr: ids(&[1, 2]),
        };
        let id = Uuid([3; 16]);
        image.apply(&Record::Topic(TopicImage { name: "t".into(), id, partitions: vec![partition.clone()] }));
        let index = PartitionIndex(0);
        let code = |image: &MetadataImage, index, wanted| {
            keeps_factor(image, "t", PartitionIndex(index), wanted).map_err(|refusal| refusal.code)
        };
        let refused = Err(ErrorCode::InvalidReplicationFactor);
        assert_eq!((code(&image, 0, 2), code(&image, 0, 3), code(&image, 5, 3)), (Ok(()), refused, Ok(())));
        partition.replicas = ids(&[3, 4, 5, 1, 2]);
        let state = PartitionState { adding: ids(&[3, 4, 5]), removing: ids(&[1, 2]), ..Default::default() };
        image.apply(&Record::Cluster(ClusterRecord::Partition { topic: id, index, partition, state }));
        assert_eq!((code(&image, 0, 2), code(&image, 0, 3)), (refused, Ok(())));
    }
}
