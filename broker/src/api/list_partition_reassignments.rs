//! ListPartitionReassignments (KIP-455), version 0: which partitions are being moved between brokers.

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::PartitionIndex;
use aqueduct_protocol::messages::list_partition_reassignments_response::{
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use aqueduct_protocol::messages::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};

use super::Context;
use super::view::numbers;
use crate::metadata::{MetadataImage, TopicImage};
use crate::security::Operation;

pub(crate) async fn handle(
    context: Context,
    request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    if !context.allows_cluster(Operation::Describe) {
        let error_code = ErrorCode::ClusterAuthorizationFailed.code();
        return ListPartitionReassignmentsResponse { error_code, ..Default::default() };
    }
    ListPartitionReassignmentsResponse {
        topics: list(&context.node.metadata.image(), &request),
        ..Default::default()
    }
}

fn list(image: &MetadataImage, request: &ListPartitionReassignmentsRequest) -> Vec<OngoingTopicReassignment> {
    match &request.topics {
        None => image
            .topics()
            .filter_map(|topic| of_topic(image, topic, 0..topic.partitions.len() as i32))
            .collect(),
        Some(wanted) => wanted
            .iter()
            .filter_map(|wanted| {
                of_topic(image, image.topic(&wanted.name)?, wanted.partition_indexes.iter().copied())
            })
            .collect(),
    }
}

/// `None` where nothing moves.
fn of_topic(
    image: &MetadataImage,
    topic: &TopicImage,
    indexes: impl Iterator<Item = i32>,
) -> Option<OngoingTopicReassignment> {
    let ongoing = |index: i32| {
        let partition = topic.partition(PartitionIndex(index))?;
        let state = image.partition_state(topic.id, PartitionIndex(index));
        state.is_reassigning().then(|| OngoingPartitionReassignment {
            partition_index: index,
            replicas: numbers(&partition.replicas),
            adding_replicas: numbers(&state.adding),
            removing_replicas: numbers(&state.removing),
        })
    };
    let partitions: Vec<_> = indexes.filter_map(ongoing).collect();
    (!partitions.is_empty()).then(|| OngoingTopicReassignment { name: topic.name.clone(), partitions })
}

#[cfg(test)]
mod tests {
    use aqueduct_protocol::ids::{BrokerId, LeaderEpoch, Uuid};
    use aqueduct_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics;

    use super::*;
    use crate::metadata::{ClusterRecord, PartitionImage, PartitionState, Record};

    #[test]
    fn only_what_moves_is_listed() {
        let mut image = MetadataImage::new("c".into());
        let partition = PartitionImage {
            leader: BrokerId(1),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: 0,
            replicas: vec![BrokerId(2), BrokerId(1)],
            isr: vec![BrokerId(1)],
        };
        let id = Uuid([3; 16]);
        let topic = TopicImage { name: "t".into(), id, partitions: vec![partition.clone(); 3] };
        image.apply(&Record::Topic(topic));
        let (adding, removing) = (vec![BrokerId(2)], vec![BrokerId(1)]);
        let state = PartitionState { adding, removing, ..Default::default() };
        let index = PartitionIndex(1);
        image.apply(&Record::Cluster(ClusterRecord::Partition { topic: id, index, partition, state }));
        let asked = |indexes: Option<&[i32]>| {
            let topic = |indexes: &[i32]| ListPartitionReassignmentsTopics {
                name: "t".into(),
                partition_indexes: indexes.to_vec(),
            };
            let topics = indexes.map(|indexes| vec![topic(indexes)]);
            list(&image, &ListPartitionReassignmentsRequest { topics, ..Default::default() })
        };
        let all = asked(None);
        assert_eq!(all.len(), 1);
        let moving = &all[0].partitions[0];
        assert_eq!((moving.partition_index, &moving.replicas[..]), (1, &[2, 1][..]));
        assert_eq!((&moving.adding_replicas[..], &moving.removing_replicas[..]), (&[2][..], &[1][..]));
        assert_eq!(asked(Some(&[0, 1, 7])), all);
        assert!(asked(Some(&[0, 2])).is_empty());
    }
}
