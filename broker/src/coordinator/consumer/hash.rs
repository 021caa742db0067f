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
