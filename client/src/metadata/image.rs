//! From a Metadata answer to the next image.

use std::collections::HashMap;
use std::time::Instant;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{BrokerId, LeaderEpoch, PartitionIndex};
use aqueduct_protocol::messages::MetadataResponse;
use aqueduct_protocol::messages::metadata_response::{MetadataResponsePartition, MetadataResponseTopic};

use super::{Broker, Metadata, PartitionMetadata, TopicMetadata};

/// The image that `answer` describes. Leaders of an older epoch than those of `before` are not taken over: brokers learn of
/// elections one after the other.
pub(super) fn next(before: &Metadata, answer: MetadataResponse) -> Metadata {
    let brokers = answer.brokers.into_iter().map(|broker| {
        let id = BrokerId(broker.node_id);
        let port = u16::try_from(broker.port).unwrap_or(0);
        (id, Broker { id, host: broker.host, port, rack: broker.rack })
    });
    let mut image = Metadata {
        cluster_id: answer.cluster_id,
        controller: Some(BrokerId(answer.controller_id)).filter(|id| id.0 >= 0),
        brokers: brokers.collect(),
        topics: HashMap::with_capacity(answer.topics.len()),
        errors: HashMap::new(),
        received: Instant::now(),
        generation: before.generation + 1,
    };
    for topic in answer.topics {
        let Some(name) = topic.name.clone() else { continue };
        match ErrorCode::from_code(topic.error_code) {
            ErrorCode::None => {
                image.topics.insert(name, of_topic(before, topic));
            }
            code => {
                image.errors.insert(name, code);
            }
        }
    }
    image
}

fn of_topic(before: &Metadata, topic: MetadataResponseTopic) -> TopicMetadata {
    let name = topic.name.unwrap_or_default();
    let known = before.topics.get(&name).filter(|known| known.id == topic.topic_id);
    let mut partitions: Vec<PartitionMetadata> = topic.partitions.into_iter().map(of_partition).collect();
    partitions.sort_by_key(|partition| partition.partition);
    // Indices run from 0 without a gap, so that they can be positions; an answer that lacks one is cut there.
    let whole = partitions.iter().enumerate().take_while(|(at, p)| p.partition.0 as usize == *at).count();
    partitions.truncate(whole);
    for (new, old) in partitions.iter_mut().zip(known.map(|known| &known.partitions[..]).unwrap_or_default())
    {
        if new.leader_epoch < old.leader_epoch && new.leader_epoch.0 >= 0 {
            *new = old.clone();
        }
    }
    TopicMetadata { name, id: topic.topic_id, internal: topic.is_internal, partitions }
}

fn of_partition(partition: MetadataResponsePartition) -> PartitionMetadata {
    let brokers = |ids: Vec<i32>| ids.into_iter().map(BrokerId).collect();
    PartitionMetadata {
        partition: PartitionIndex(partition.partition_index),
        leader: Some(BrokerId(partition.leader_id)).filter(|id| id.0 >= 0),
        leader_epoch: LeaderEpoch(partition.leader_epoch),
        replicas: brokers(partition.replica_nodes),
        isr: brokers(partition.isr_nodes),
    }
}

#[cfg(test)]
mod tests {
    use aqueduct_protocol::ids::Uuid;

    use super::*;

    fn answer(id: u8, leader_id: i32, leader_epoch: i32) -> MetadataResponse {
        let partition = MetadataResponsePartition { leader_id, leader_epoch, ..Default::default() };
        let topic = MetadataResponseTopic {
            name: Some("t".into()),
            topic_id: Uuid([id; 16]),
            partitions: vec![partition],
            ..Default::default()
        };
        MetadataResponse { topics: vec![topic], ..Default::default() }
    }

    fn leader(image: &Metadata) -> Option<BrokerId> {
        image.partition("t", PartitionIndex(0)).expect("known").leader
    }

    #[test]
    fn leader_epochs_do_not_go_back_unless_the_topic_is_another() {
        let image = next(&Metadata::empty(), answer(1, 1, 5));
        assert_eq!(leader(&image), Some(BrokerId(1)));
        let image = next(&image, answer(1, 2, 4));
        assert_eq!(leader(&image), Some(BrokerId(1)), "an older epoch is ignored");
        let image = next(&image, answer(1, -1, 6));
        assert_eq!(leader(&image), None);
        let image = next(&image, answer(2, 3, 0));
        assert_eq!(leader(&image), Some(BrokerId(3)), "recreated");
        assert_eq!(image.generation, 4);
    }

    #[test]
    fn topics_with_an_error_are_kept_apart() {
        let mut response = answer(1, 1, 1);
        response.topics[0].error_code = ErrorCode::InvalidTopicException.code();
        let image = next(&Metadata::empty(), response);
        assert!(image.topic("t").is_none());
        assert_eq!(image.errors.get("t"), Some(&ErrorCode::InvalidTopicException));
    }
}
