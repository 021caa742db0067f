//! The bytes of the `consumer` protocol type: what members subscribe to, and what they are assigned. As Java's
//! `ConsumerProtocol`: an int16 version, then the message in that version.

use std::collections::BTreeMap;

use aqueduct_protocol::ids::PartitionIndex;
use aqueduct_protocol::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use aqueduct_protocol::messages::{consumer_protocol_assignment, consumer_protocol_subscription};
use aqueduct_protocol::{Decode, DecodeError, Encode};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use bytestring::ByteString;

use crate::types::TopicPartition;

/// The newest version of both messages; readers take newer ones for this.
const NEWEST: i16 = 3;

/// What a member subscribes to and holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct MemberSubscription {
    pub(super) topics: Vec<ByteString>,
    pub(super) owned: Vec<TopicPartition>,
    /// The generation in which it came to own them; -1 for none.
    pub(super) generation: i32,
    pub(super) user_data: Option<Bytes>,
}

impl MemberSubscription {
    pub(super) fn encode(&self) -> Bytes {
        let mut topics = self.topics.clone();
        topics.sort();
        let owned = by_topic(&self.owned).into_iter();
        let owned = owned
            .map(|(topic, partitions)| consumer_protocol_subscription::TopicPartition { topic, partitions });
        let message = ConsumerProtocolSubscription {
            topics,
            user_data: self.user_data.clone(),
            owned_partitions: owned.collect(),
            generation_id: self.generation,
            rack_id: None,
        };
        versioned(&message)
    }

    pub(super) fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let message: ConsumerProtocolSubscription = read(bytes)?;
        let mut owned = Vec::new();
        for topic in message.owned_partitions {
            owned.extend(partitions(&topic.topic, topic.partitions));
        }
        Ok(Self {
            topics: message.topics,
            owned,
            generation: message.generation_id,
            user_data: message.user_data.filter(|data| !data.is_empty()),
        })
    }
}

pub(super) fn encode_assignment(assigned: &[TopicPartition]) -> Bytes {
    let assigned = by_topic(assigned).into_iter();
    let assigned = assigned
        .map(|(topic, partitions)| consumer_protocol_assignment::TopicPartition { topic, partitions });
    versioned(&ConsumerProtocolAssignment { assigned_partitions: assigned.collect(), user_data: None })
}

/// No bytes at all mean nothing assigned, as coordinators tell members whom the leader left out.
pub(super) fn decode_assignment(bytes: Bytes) -> Result<Vec<TopicPartition>, DecodeError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let message: ConsumerProtocolAssignment = read(bytes)?;
    let mut assigned = Vec::new();
    for topic in message.assigned_partitions {
        assigned.extend(partitions(&topic.topic, topic.partitions));
    }
    Ok(assigned)
}

fn versioned(message: &impl Encode) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(NEWEST);
    message.encode(&mut out, NEWEST).expect("all fields are in the newest version");
    out.freeze()
}

fn read<M: Decode>(mut bytes: Bytes) -> Result<M, DecodeError> {
    if bytes.remaining() < 2 {
        let left = bytes.remaining();
        return Err(DecodeError::Truncated { field: "ConsumerProtocol.Version", needed: 2, left });
    }
    let version = bytes.get_i16();
    if version < 0 {
        return Err(DecodeError::UnsupportedVersion { message: "ConsumerProtocol", version });
    }
    M::decode(&mut bytes, version.min(NEWEST))
}

fn by_topic(partitions: &[TopicPartition]) -> BTreeMap<ByteString, Vec<i32>> {
    let mut topics: BTreeMap<ByteString, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(partition.topic.clone()).or_default().push(partition.partition.0);
    }
    topics.values_mut().for_each(|indices| indices.sort_unstable());
    topics
}

fn partitions(topic: &ByteString, indices: Vec<i32>) -> impl Iterator<Item = TopicPartition> {
    indices.into_iter().map(|index| TopicPartition { topic: topic.clone(), partition: PartitionIndex(index) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by `ConsumerProtocol.serializeSubscription` of the Java client, version 1: topics `foo` and `bar`, no
    /// user data, `foo-0` owned.
    const JAVA_V1: &[u8] = &[
        0, 1, 0, 0, 0, 2, 0, 3, b'b', b'a', b'r', 0, 3, b'f', b'o', b'o', 255, 255, 255, 255, 0, 0, 0, 1, 0,
        3, b'f', b'o', b'o', 0, 0, 0, 1, 0, 0, 0, 0,
    ];

    /// The same of version 3, with generation 5.
    const JAVA_V3: &[u8] = &[
        0, 3, 0, 0, 0, 2, 0, 3, b'b', b'a', b'r', 0, 3, b'f', b'o', b'o', 255, 255, 255, 255, 0, 0, 0, 1, 0,
        3, b'f', b'o', b'o', 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 5, 255, 255,
    ];

    #[test]
    fn writes_what_java_writes() {
        let subscription = MemberSubscription {
            topics: vec!["foo".into(), "bar".into()],
            owned: vec![TopicPartition::new("foo", 0)],
            generation: 5,
            user_data: None,
        };
        assert_eq!(subscription.encode(), JAVA_V3);
    }

    #[test]
    fn reads_older_and_newer_versions() {
        let read = MemberSubscription::decode(Bytes::from_static(JAVA_V1)).expect("valid");
        assert_eq!(read.topics, ["bar", "foo"]);
        assert_eq!(read.owned, [TopicPartition::new("foo", 0)]);
        assert_eq!(read.generation, -1);
        let subscription = MemberSubscription {
            topics: vec!["a".into(), "b".into()],
            owned: vec![TopicPartition::new("a", 1), TopicPartition::new("b", 0)],
            generation: 5,
            user_data: Some(Bytes::from_static(b"x")),
        };
        let mut newer = subscription.encode().to_vec();
        newer[1] = 9;
        newer.push(42);
        assert_eq!(MemberSubscription::decode(newer.into()), Ok(subscription));
    }

    #[test]
    fn assignments_round_trip() {
        let assigned = vec![TopicPartition::new("t", 0), TopicPartition::new("t", 3)];
        assert_eq!(decode_assignment(encode_assignment(&assigned)), Ok(assigned));
        assert_eq!(decode_assignment(Bytes::new()), Ok(Vec::new()));
        assert!(decode_assignment(Bytes::from_static(&[0])).is_err());
    }
}
