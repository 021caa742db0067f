//! The protocol that classic consumers carry inside JoinGroup and SyncGroup: subscriptions and assignments. Its own
//! version comes first; of a later one than is known, the known part is read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aqueduct_protocol::messages::consumer_protocol_assignment::TopicPartition;
use aqueduct_protocol::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use aqueduct_protocol::{Decode, Encode};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The latest version of both that is known.
const LATEST: i16 = 3;

/// What a classic consumer says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    pub topics: BTreeSet<Arc<str>>,
    /// What it still has, by topic name.
    pub owned: Vec<(Arc<str>, Vec<i32>)>,
    pub rack: Option<Arc<str>>,
}

/// The version of the bytes; 0 where there is none.
pub fn version(metadata: &Bytes) -> i16 {
    metadata.clone().try_get_i16().unwrap_or(0).clamp(0, LATEST)
}

/// Reads a subscription; `None` where the bytes are none.
pub fn read_subscription(metadata: &Bytes) -> Option<Subscription> {
    let mut bytes = metadata.clone();
    let version = bytes.try_get_i16().ok().filter(|version| *version >= 0)?.min(LATEST);
    let read = ConsumerProtocolSubscription::decode(&mut bytes, version).ok()?;
    let owned = read.owned_partitions.into_iter().map(|topic| ((&*topic.topic).into(), topic.partitions));
    Some(Subscription {
        topics: read.topics.iter().map(|topic| Arc::from(&**topic)).collect(),
        owned: owned.collect(),
        rack: read.rack_id.as_deref().map(Into::into),
    })
}

/// Reads an assignment: topic names and partitions. No bytes are no partitions; `None` where the bytes are none.
pub fn read_assignment(bytes: &Bytes) -> Option<Vec<(Arc<str>, i32)>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let mut bytes = bytes.clone();
    let version = bytes.try_get_i16().ok().filter(|version| *version >= 0)?.min(LATEST);
    let read = ConsumerProtocolAssignment::decode(&mut bytes, version).ok()?;
    let mut all = Vec::new();
    for topic in read.assigned_partitions {
        let name: Arc<str> = (&*topic.topic).into();
        all.extend(topic.partitions.into_iter().map(|index| (name.clone(), index)));
    }
    Some(all)
}

/// Writes an assignment.
pub fn write_assignment(version: i16, partitions: &BTreeMap<&str, Vec<i32>>) -> Bytes {
    let topic = |(name, indexes): (&&str, &Vec<i32>)| TopicPartition {
        topic: (*name).into(),
        partitions: indexes.clone(),
    };
    let assignment = ConsumerProtocolAssignment {
        assigned_partitions: partitions.iter().map(topic).collect(),
        user_data: None,
    };
    let mut buf = BytesMut::new();
    buf.put_i16(version);
    match assignment.encode(&mut buf, version) {
        Ok(()) => buf.freeze(),
        // Names and counts come from requests and so fit.
        Err(_) => Bytes::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_round_trip_and_damage_is_noticed() {
        let partitions = BTreeMap::from([("a", vec![0, 2]), ("b", vec![1])]);
        for version in 0..=LATEST {
            let bytes = write_assignment(version, &partitions);
            let read = read_assignment(&bytes).unwrap();
            assert_eq!(read, [("a".into(), 0), ("a".into(), 2), ("b".into(), 1)]);
            assert_eq!(read_assignment(&bytes.slice(..bytes.len() - 5)), None);
        }
        assert_eq!(read_assignment(&Bytes::new()), Some(Vec::new()));
    }

    #[test]
    fn subscriptions_of_all_versions_are_read_as_far_as_they_are_known() {
        let metadata = Bytes::from_static(&[
            0, 9, 0, 0, 0, 1, 0, 1, b'a', 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 5, 255, 255, 1, 2,
        ]);
        let subscription = read_subscription(&metadata).unwrap();
        assert_eq!(subscription.topics, BTreeSet::from(["a".into()]));
        assert_eq!(version(&metadata), 3);
        let first = Bytes::from_static(&[0, 0, 0, 0, 0, 1, 0, 1, b'a', 255, 255, 255, 255]);
        assert!(read_subscription(&first).unwrap().owned.is_empty());
        assert_eq!(read_subscription(&Bytes::from_static(&[0])), None);
    }
}
