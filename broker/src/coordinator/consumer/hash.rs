//! One number for all that an assignment depends on in the topics of a group (KIP-1101), as Kafka computes it: a group
//! that comes from or goes to Apache Kafka does not rebalance for that.

use std::sync::Arc;

use twox_hash::XxHash3_64;

use crate::metadata::{MetadataImage, TopicImage};

/// The hash of one topic: id, name, partitions and the racks of their replicas.
pub fn topic_hash(image: &MetadataImage, topic: &TopicImage) -> i64 {
    let mut bytes = vec![0];
    let (high, low) = topic.id.0.split_at(8);
    for half in [high, low] {
        // Numbers enter little end first, whatever their order on the wire.
        bytes.extend(half.iter().rev());
    }
    put_text(&mut bytes, &topic.name);
    bytes.extend((topic.partitions.len() as i32).to_le_bytes());
    for (index, partition) in topic.partitions.iter().enumerate() {
        bytes.extend((index as i32).to_le_bytes());
        let rack = |id| image.brokers.get(id).and_then(|broker| broker.rack.as_deref());
        let mut racks: Vec<&str> = partition.replicas.iter().filter_map(rack).collect();
        racks.sort_unstable();
        for rack in racks {
            bytes.extend((rack.encode_utf16().count() as i32).to_le_bytes());
            put_text(&mut bytes, rack);
        }
    }
    XxHash3_64::oneshot(&bytes) as i64
}

/// The hash of the topics of a group, by name; those that are not there do not count.
pub fn topics_hash<'a>(image: &MetadataImage, names: impl Iterator<Item = &'a Arc<str>>) -> i64 {
    let mut bytes = Vec::new();
    for topic in names.filter_map(|name| image.topic(name)) {
        bytes.extend(topic_hash(image, topic).to_le_bytes());
    }
    if bytes.is_empty() { 0 } else { XxHash3_64::oneshot(&bytes) as i64 }
}

/// Text enters as UTF-16 units, then their number.
fn put_text(bytes: &mut Vec<u8>, text: &str) {
    let mut units = 0;
    for unit in text.encode_utf16() {
        bytes.extend(unit.to_le_bytes());
        units += 1;
    }
    bytes.extend(i32::to_le_bytes(units));
}

#[cfg(test)]
mod tests {
    use aqueduct_protocol::ids::{BrokerId, LeaderEpoch, Uuid};

    use super::*;
    use crate::metadata::{PartitionImage, Record};

    fn image(topics: &[(&str, &str, usize)]) -> MetadataImage {
        let mut image = MetadataImage::default();
        for (name, id, count) in topics {
            let partition = PartitionImage {
                leader: BrokerId(1),
                leader_epoch: LeaderEpoch(0),
                partition_epoch: 0,
                replicas: vec![BrokerId(1)],
                isr: vec![BrokerId(1)],
            };
            let id = Uuid::parse(id).unwrap();
            let partitions = vec![partition; *count];
            image.apply(&Record::Topic(TopicImage { name: (*name).into(), id, partitions }));
        }
        image
    }

    /// What Apache Kafka 4.3.1 wrote for the same topics.
    #[test]
    fn hashes_are_those_of_kafka() {
        let image = image(&[
            ("t1", "K0RjN4WSQnqpT7PzmD7E9A", 4),
            ("__consumer_offsets", "MxDdW2UHQxedkfUOamB6IQ", 4),
        ]);
        let hash = |names: &[&str]| {
            let names: Vec<Arc<str>> = names.iter().map(|name| Arc::from(*name)).collect();
            topics_hash(&image, names.iter())
        };
        assert_eq!(hash(&["t1"]), 4798533355942245467);
        assert_eq!(hash(&["nope", "t1"]), 4798533355942245467);
        assert_eq!(hash(&["__consumer_offsets", "t1"]), -5461587367178368385);
        assert_eq!(hash(&["nope"]), 0);
    }
}
