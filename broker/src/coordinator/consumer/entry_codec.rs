//! Entries as Kafka's records. Keys begin with their type, values with their version, which is 0 for all of them.
//!
//! | type | key | entry |
//! |---|---|---|
//! | 3 | group | [`Entry::Epoch`] |
//! | 4 | group | [`Entry::TopicMetadata`] |
//! | 5 | group, member | [`Entry::Member`] |
//! | 6 | group | [`Entry::TargetEpoch`] |
//! | 7 | group, member | [`Entry::Target`] |
//! | 8 | group, member | [`Entry::Standing`] |
//! | 16 | group, regular expression | [`Entry::Pattern`] |

use std::sync::Arc;

use aqueduct_protocol::messages::consumer_group_current_member_assignment_value::TopicPartitions;
use aqueduct_protocol::messages::consumer_group_member_metadata_value::{
    ClassicMemberMetadata, ClassicProtocol,
};
use aqueduct_protocol::messages::consumer_group_target_assignment_member_value::TopicPartition;
use aqueduct_protocol::messages::{
    ConsumerGroupCurrentMemberAssignmentKey, ConsumerGroupCurrentMemberAssignmentValue,
    ConsumerGroupMemberMetadataKey, ConsumerGroupMemberMetadataValue, ConsumerGroupMetadataKey,
    ConsumerGroupMetadataValue, ConsumerGroupPartitionMetadataKey, ConsumerGroupRegularExpressionKey,
    ConsumerGroupRegularExpressionValue, ConsumerGroupTargetAssignmentMemberKey,
    ConsumerGroupTargetAssignmentMemberValue, ConsumerGroupTargetAssignmentMetadataKey,
    ConsumerGroupTargetAssignmentMetadataValue,
};
use aqueduct_protocol::{Decode, DecodeError, Encode, EncodeError};
use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;

use super::entry::{ClassicTerms, Entry, GroupEpoch, MemberState, Resolved, Standing, TargetEpoch, Terms};
use super::partitions::{Owned, Partitions};
use crate::coordinator::ids::{GroupId, InstanceId, MemberId};
use crate::coordinator::record::take_i16;
use crate::coordinator::request::Protocol;

const EPOCH: i16 = 3;
const TOPIC_METADATA: i16 = 4;
const MEMBER: i16 = 5;
const TARGET_EPOCH: i16 = 6;
const TARGET: i16 = 7;
const STANDING: i16 = 8;
const PATTERN: i16 = 16;

const VERSION: i16 = 0;

fn text(text: &str) -> ByteString {
    ByteString::from(text)
}

impl Entry {
    /// The key's bytes.
    pub fn key(&self, group: &GroupId) -> Result<Bytes, EncodeError> {
        let mut buf = BytesMut::new();
        let group_id = text(group.as_str());
        match self {
            Self::Epoch(_) => {
                buf.put_i16(EPOCH);
                ConsumerGroupMetadataKey { group_id }.encode(&mut buf, 0)?;
            }
            Self::TopicMetadata(_) => {
                buf.put_i16(TOPIC_METADATA);
                ConsumerGroupPartitionMetadataKey { group_id }.encode(&mut buf, 0)?;
            }
            Self::Member(member, _) => {
                buf.put_i16(MEMBER);
                let member_id = text(member.as_str());
                ConsumerGroupMemberMetadataKey { group_id, member_id }.encode(&mut buf, 0)?;
            }
            Self::TargetEpoch(_) => {
                buf.put_i16(TARGET_EPOCH);
                ConsumerGroupTargetAssignmentMetadataKey { group_id }.encode(&mut buf, 0)?;
            }
            Self::Target(member, _) => {
                buf.put_i16(TARGET);
                let member_id = text(member.as_str());
                ConsumerGroupTargetAssignmentMemberKey { group_id, member_id }.encode(&mut buf, 0)?;
            }
            Self::Standing(member, _) => {
                buf.put_i16(STANDING);
                let member_id = text(member.as_str());
                ConsumerGroupCurrentMemberAssignmentKey { group_id, member_id }.encode(&mut buf, 0)?;
            }
            Self::Pattern(pattern, _) => {
                buf.put_i16(PATTERN);
                let regular_expression = text(pattern);
                ConsumerGroupRegularExpressionKey { group_id, regular_expression }.encode(&mut buf, 0)?;
            }
        }
        Ok(buf.freeze())
    }

    /// The value's bytes; `None` for an entry that removes.
    pub fn value(&self) -> Result<Option<Bytes>, EncodeError> {
        let mut buf = BytesMut::new();
        buf.put_i16(VERSION);
        match self {
            Self::Epoch(Some(value)) => {
                let GroupEpoch { epoch, topics_hash: metadata_hash } = *value;
                ConsumerGroupMetadataValue { epoch, metadata_hash }.encode(&mut buf, VERSION)?;
            }
            Self::Member(_, Some(terms)) => terms_value(terms).encode(&mut buf, VERSION)?,
            Self::TargetEpoch(Some(value)) => {
                let value = ConsumerGroupTargetAssignmentMetadataValue {
                    assignment_epoch: value.epoch,
                    assignment_timestamp: value.at_ms,
                };
                value.encode(&mut buf, VERSION)?;
            }
            Self::Target(_, Some(target)) => target_value(target).encode(&mut buf, VERSION)?,
            Self::Standing(_, Some(standing)) => standing_value(standing).encode(&mut buf, VERSION)?,
            Self::Pattern(_, Some(resolved)) => {
                let value = ConsumerGroupRegularExpressionValue {
                    topics: resolved.topics.iter().map(|topic| text(topic)).collect(),
                    version: resolved.version,
                    timestamp: resolved.at_ms,
                };
                value.encode(&mut buf, VERSION)?;
            }
            // The value of old topic metadata is never written here.
            Self::TopicMetadata(_)
            | Self::Epoch(None)
            | Self::Member(_, None)
            | Self::TargetEpoch(None)
            | Self::Target(_, None)
            | Self::Standing(_, None)
            | Self::Pattern(_, None) => return Ok(None),
        }
        Ok(Some(buf.freeze()))
    }

    /// Reads an entry; `None` where the type is not one of a consumer group's. `key` begins after the type.
    pub fn decode(
        kind: i16,
        mut key: Bytes,
        value: Option<Bytes>,
    ) -> Result<Option<(GroupId, Self)>, DecodeError> {
        let group = |id: ByteString| GroupId::from(&*id);
        Ok(Some(match kind {
            EPOCH => {
                let key = ConsumerGroupMetadataKey::decode(&mut key, 0)?;
                let read = |v: ConsumerGroupMetadataValue| GroupEpoch {
                    epoch: v.epoch,
                    topics_hash: v.metadata_hash,
                };
                (group(key.group_id), Self::Epoch(read_value(value)?.map(read)))
            }
            TOPIC_METADATA => {
                let key = ConsumerGroupPartitionMetadataKey::decode(&mut key, 0)?;
                (group(key.group_id), Self::TopicMetadata(value.is_some()))
            }
            MEMBER => {
                let key = ConsumerGroupMemberMetadataKey::decode(&mut key, 0)?;
                let terms = read_value(value)?.map(read_terms).map(Arc::new);
                (group(key.group_id), Self::Member(MemberId::from(&*key.member_id), terms))
            }
            TARGET_EPOCH => {
                let key = ConsumerGroupTargetAssignmentMetadataKey::decode(&mut key, 0)?;
                let read = |v: ConsumerGroupTargetAssignmentMetadataValue| TargetEpoch {
                    epoch: v.assignment_epoch,
                    at_ms: v.assignment_timestamp,
                };
                (group(key.group_id), Self::TargetEpoch(read_value(value)?.map(read)))
            }
            TARGET => {
                let key = ConsumerGroupTargetAssignmentMemberKey::decode(&mut key, 0)?;
                let target = read_value(value)?.map(read_target).map(Arc::new);
                (group(key.group_id), Self::Target(MemberId::from(&*key.member_id), target))
            }
            STANDING => {
                let key = ConsumerGroupCurrentMemberAssignmentKey::decode(&mut key, 0)?;
                let standing = read_value(value)?.map(read_standing).map(Arc::new);
                (group(key.group_id), Self::Standing(MemberId::from(&*key.member_id), standing))
            }
            PATTERN => {
                let key = ConsumerGroupRegularExpressionKey::decode(&mut key, 0)?;
                let read = |v: ConsumerGroupRegularExpressionValue| Resolved {
                    topics: v.topics.iter().map(|topic| Arc::from(&**topic)).collect(),
                    version: v.version,
                    at_ms: v.timestamp,
                };
                let resolved = read_value(value)?.map(read).map(Arc::new);
                (group(key.group_id), Self::Pattern((&*key.regular_expression).into(), resolved))
            }
            _ => return Ok(None),
        }))
    }
}

fn read_value<V: Decode>(value: Option<Bytes>) -> Result<Option<V>, DecodeError> {
    let Some(mut bytes) = value else { return Ok(None) };
    let version = take_i16(&mut bytes, "version of a consumer group's record")?;
    V::decode(&mut bytes, version).map(Some)
}

fn terms_value(terms: &Terms) -> ConsumerGroupMemberMetadataValue {
    let protocol = |p: &Protocol| ClassicProtocol { name: text(&p.name), metadata: p.metadata.clone() };
    ConsumerGroupMemberMetadataValue {
        instance_id: terms.instance_id.as_ref().map(|instance| text(instance.as_str())),
        rack_id: terms.rack.as_deref().map(text),
        client_id: text(&terms.client_id),
        client_host: text(&terms.client_host),
        subscribed_topic_names: terms.topics.iter().map(|topic| text(topic)).collect(),
        subscribed_topic_regex: terms.pattern.as_deref().map(text),
        rebalance_timeout_ms: terms.rebalance_timeout_ms,
        server_assignor: terms.assignor.as_deref().map(text),
        classic_member_metadata: terms.classic.as_ref().map(|classic| ClassicMemberMetadata {
            session_timeout_ms: classic.session_timeout_ms,
            supported_protocols: classic.protocols.iter().map(protocol).collect(),
        }),
    }
}

fn read_terms(value: ConsumerGroupMemberMetadataValue) -> Terms {
    // Copies throughout: a slice would keep the whole batch in memory.
    let protocol = |p: ClassicProtocol| Protocol {
        name: (&*p.name).into(),
        metadata: Bytes::copy_from_slice(&p.metadata),
    };
    Terms {
        instance_id: value.instance_id.as_deref().map(InstanceId::from),
        rack: value.rack_id.as_deref().map(Into::into),
        client_id: (&*value.client_id).into(),
        client_host: (&*value.client_host).into(),
        topics: value.subscribed_topic_names.iter().map(|topic| Arc::from(&**topic)).collect(),
        pattern: value.subscribed_topic_regex.as_deref().map(Into::into),
        rebalance_timeout_ms: value.rebalance_timeout_ms,
        assignor: value.server_assignor.as_deref().map(Into::into),
        classic: value.classic_member_metadata.map(|classic| ClassicTerms {
            session_timeout_ms: classic.session_timeout_ms,
            protocols: classic.supported_protocols.into_iter().map(protocol).collect(),
        }),
    }
}

fn target_value(target: &Partitions) -> ConsumerGroupTargetAssignmentMemberValue {
    let topic = |(topic_id, partitions): (&_, &std::collections::BTreeSet<i32>)| TopicPartition {
        topic_id: *topic_id,
        partitions: partitions.iter().copied().collect(),
    };
    ConsumerGroupTargetAssignmentMemberValue { topic_partitions: target.iter().map(topic).collect() }
}

fn read_target(value: ConsumerGroupTargetAssignmentMemberValue) -> Partitions {
    let topic = |topic: TopicPartition| (topic.topic_id, topic.partitions.into_iter().collect());
    value.topic_partitions.into_iter().filter(|topic| !topic.partitions.is_empty()).map(topic).collect()
}

fn owned_value(owned: &Owned) -> Vec<TopicPartitions> {
    let topic = |(topic_id, partitions): (&_, &std::collections::BTreeMap<i32, i32>)| TopicPartitions {
        topic_id: *topic_id,
        partitions: partitions.keys().copied().collect(),
        assignment_epochs: Some(partitions.values().copied().collect()),
    };
    owned.iter().map(topic).collect()
}

/// Partitions without epochs, as they were written before 4.3, count as got in the member's epoch.
fn read_owned(topics: Vec<TopicPartitions>, epoch: i32) -> Owned {
    let mut owned = Owned::new();
    for topic in topics {
        let epochs = topic.assignment_epochs.unwrap_or_default();
        let of = |at: usize| epochs.get(at).copied().unwrap_or(epoch);
        let partitions: std::collections::BTreeMap<_, _> =
            topic.partitions.iter().enumerate().map(|(at, index)| (*index, of(at))).collect();
        if !partitions.is_empty() {
            owned.insert(topic.topic_id, partitions);
        }
    }
    owned
}

fn standing_value(standing: &Standing) -> ConsumerGroupCurrentMemberAssignmentValue {
    ConsumerGroupCurrentMemberAssignmentValue {
        member_epoch: standing.epoch,
        previous_member_epoch: standing.previous_epoch,
        state: standing.state.code(),
        assigned_partitions: owned_value(&standing.assigned),
        partitions_pending_revocation: owned_value(&standing.revoking),
    }
}

fn read_standing(value: ConsumerGroupCurrentMemberAssignmentValue) -> Standing {
    let epoch = value.member_epoch;
    Standing {
        epoch,
        previous_epoch: value.previous_member_epoch,
        state: MemberState::from_code(value.state),
        assigned: read_owned(value.assigned_partitions, epoch),
        revoking: read_owned(value.partitions_pending_revocation, epoch),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use aqueduct_protocol::ids::Uuid;

    use super::*;
    use crate::coordinator::record::Record;

    fn entries() -> Vec<Entry> {
        let topic = Uuid([7; 16]);
        let owned = Owned::from([(topic, BTreeMap::from([(0, 3), (2, 5)]))]);
        let terms = Terms {
            instance_id: Some("i".into()),
            rack: Some("r".into()),
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            topics: BTreeSet::from(["a".into(), "b".into()]),
            pattern: Some("t.*".into()),
            rebalance_timeout_ms: 300_000,
            assignor: Some("range".into()),
            classic: Some(ClassicTerms {
                session_timeout_ms: 10_000,
                protocols: vec![Protocol { name: "range".into(), metadata: Bytes::from_static(b"m") }],
            }),
        };
        let standing = Standing {
            epoch: 5,
            previous_epoch: 4,
            state: MemberState::Unrevoked,
            assigned: owned.clone(),
            revoking: Owned::from([(topic, BTreeMap::from([(1, 1)]))]),
        };
        let resolved = Resolved { topics: BTreeSet::from(["topic".into()]), version: 9, at_ms: 8 };
        vec![
            Entry::Epoch(Some(GroupEpoch { epoch: 5, topics_hash: -77 })),
            Entry::Epoch(None),
            Entry::TopicMetadata(false),
            Entry::Member("m".into(), Some(Arc::new(terms))),
            Entry::Member("m".into(), None),
            Entry::TargetEpoch(Some(TargetEpoch { epoch: 5, at_ms: 1_700_000_000_000 })),
            Entry::TargetEpoch(None),
            Entry::Target("m".into(), Some(Arc::new(Partitions::from([(topic, BTreeSet::from([0, 1]))])))),
            Entry::Target("m".into(), None),
            Entry::Standing("m".into(), Some(Arc::new(standing))),
            Entry::Standing("m".into(), None),
            Entry::Pattern("t.*".into(), Some(Arc::new(resolved))),
            Entry::Pattern("t.*".into(), None),
        ]
    }

    #[test]
    fn entries_round_trip_and_cut_values_are_refused() {
        for entry in entries() {
            let record = Record::Consumer { group: "g".into(), entry };
            let (key, value) = (record.key().unwrap(), record.value().unwrap());
            assert_eq!(Record::decode(key.clone(), value.clone()).unwrap(), Some(record));
            let Some(value) = value else { continue };
            for cut in 0..value.len() {
                assert!(Record::decode(key.clone(), Some(value.slice(..cut))).is_err(), "cut at {cut}");
            }
        }
    }

    /// Key and value as Apache Kafka 4.3.1 writes them.
    const KAFKAS: [(&str, &str); 7] = [
        ("000300026731", "0000000000020100084297d0a9dbccf45b"),
        ("00050002673200027331", "00000269000670726f62650b2f3132372e302e302e310203743101000003e80001000100"),
        ("000500026734000172", "000000000670726f62650b2f3132372e302e302e310104742e2a000003e80001000100"),
        ("000600026731", "000000000002010008000001a1fdd51e58"),
        ("00070002673100026d32", "0000022b4463378592427aa94fb3f3983ec4f40300000002000000030000"),
        (
            "00080002673100026d31",
            "0000000000020000000000022b4463378592427aa94fb3f3983ec4f4050000000000000001000000020000000301001105000000020000000200000002000000020100",
        ),
        ("0010000267340003742e2a", "000002037431000000000000064c000001a1fdd5234b00"),
    ];

    #[test]
    fn kafkas_own_records_are_read_and_written_byte_for_byte() {
        let bytes = |hex: &str| -> Bytes {
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
        };
        for (key, value) in KAFKAS {
            let record = Record::decode(bytes(key), Some(bytes(value))).unwrap().expect("a known type");
            assert_eq!(record.key().unwrap(), bytes(key), "{record:?}");
            assert_eq!(record.value().unwrap(), Some(bytes(value)), "{record:?}");
        }
    }

    #[test]
    fn partitions_without_epochs_count_as_got_in_the_members_epoch() {
        let value = ConsumerGroupCurrentMemberAssignmentValue {
            member_epoch: 9,
            assigned_partitions: vec![TopicPartitions {
                topic_id: Uuid([1; 16]),
                partitions: vec![4],
                assignment_epochs: None,
            }],
            ..Default::default()
        };
        assert_eq!(read_standing(value).assigned[&Uuid([1; 16])][&4], 9);
    }
}
