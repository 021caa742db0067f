//! The records of `__consumer_offsets`, in Kafka's own format: a key that starts with its type as an i16, a value that
//! starts with its version. A record without a value deletes.
//!
//! | type | key | value written |
//! |---|---|---|
//! | 1 | group, topic, partition | 4; 1 where the client of an old version gave an end |
//! | 2 | group | 3 |
//!
//! Type 0 is the older form of 1. All versions of both values are read. The types of consumer groups are in
//! [`super::consumer::entry_codec`]; those of share and streams groups are read over.

use std::sync::Arc;

use aqueduct_protocol::messages::{
    GroupMetadataKey, GroupMetadataValue, OffsetCommitKey, OffsetCommitValue,
    group_metadata_value::MemberMetadata,
};
use aqueduct_protocol::{Decode, DecodeError, Encode, EncodeError};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use bytestring::ByteString;

use super::consumer::entry::Entry;
use super::ids::{Generation, GroupId, InstanceId, MemberId};
use super::offsets::Committed;

const OFFSET_LEGACY: i16 = 0;
const OFFSET: i16 = 1;
const GROUP: i16 = 2;

/// Version of an offset's value, and of one with an end of its own, which later versions cannot carry.
const OFFSET_VALUE: i16 = 4;
const ENDING_OFFSET_VALUE: i16 = 1;
const GROUP_VALUE: i16 = 3;

/// One record.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// A committed offset, or its end.
    Offset {
        /// The group.
        group: GroupId,
        /// Topic name.
        topic: Arc<str>,
        /// Partition index.
        partition: i32,
        /// `None` deletes.
        value: Option<Committed>,
    },
    /// The state of a classic group, or its end.
    Group {
        /// The group.
        group: GroupId,
        /// `None` deletes.
        value: Option<GroupValue>,
    },
    /// A part of the state of a group of the consumer protocol, or its end.
    Consumer {
        /// The group.
        group: GroupId,
        /// What is set or removed.
        entry: Entry,
    },
}

/// What is kept of a classic group.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupValue {
    /// Empty for a group that never had a member.
    pub protocol_type: Arc<str>,
    /// Of the last rebalance.
    pub generation: Generation,
    /// `None` without members.
    pub protocol: Option<Arc<str>>,
    /// `None` without members.
    pub leader: Option<MemberId>,
    /// When the group entered its state, in milliseconds since 1970; -1 where unknown.
    pub state_since_ms: i64,
    /// Everyone in the group.
    pub members: Vec<MemberValue>,
}

/// What is kept of a member.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberValue {
    /// Its id.
    pub id: MemberId,
    /// Set for static members.
    pub instance_id: Option<InstanceId>,
    /// `client.id`
    pub client_id: Arc<str>,
    /// Address of the peer.
    pub client_host: Arc<str>,
    /// In milliseconds.
    pub rebalance_timeout_ms: i32,
    /// In milliseconds.
    pub session_timeout_ms: i32,
    /// Metadata for the group's protocol.
    pub subscription: Bytes,
    /// What the leader assigned.
    pub assignment: Bytes,
}

impl Record {
    /// The key's bytes.
    pub fn key(&self) -> Result<Bytes, EncodeError> {
        let mut buf = BytesMut::new();
        match self {
            Self::Offset { group, topic, partition, .. } => {
                buf.put_i16(OFFSET);
                let (group, topic) = (text(group.as_str()), text(topic));
                OffsetCommitKey { group, topic, partition: *partition }.encode(&mut buf, 0)?;
            }
            Self::Group { group, .. } => {
                buf.put_i16(GROUP);
                GroupMetadataKey { group: text(group.as_str()) }.encode(&mut buf, 0)?;
            }
            Self::Consumer { group, entry } => return entry.key(group),
        }
        Ok(buf.freeze())
    }

    /// The value's bytes; `None` for a record that deletes.
    pub fn value(&self) -> Result<Option<Bytes>, EncodeError> {
        let mut buf = BytesMut::new();
        match self {
            Self::Offset { value: Some(value), .. } => {
                let version = if value.expire_ms.is_some() { ENDING_OFFSET_VALUE } else { OFFSET_VALUE };
                buf.put_i16(version);
                offset_value(value, version).encode(&mut buf, version)?;
            }
            Self::Group { value: Some(value), .. } => {
                buf.put_i16(GROUP_VALUE);
                group_value(value).encode(&mut buf, GROUP_VALUE)?;
            }
            Self::Offset { value: None, .. } | Self::Group { value: None, .. } => return Ok(None),
            Self::Consumer { entry, .. } => return entry.value(),
        }
        Ok(Some(buf.freeze()))
    }

    /// Reads a record; `None` where its type is neither an offset's nor one of classic and consumer groups.
    pub fn decode(mut key: Bytes, value: Option<Bytes>) -> Result<Option<Self>, DecodeError> {
        match take_i16(&mut key, "type of a group coordinator's record")? {
            OFFSET_LEGACY | OFFSET => {
                let key = OffsetCommitKey::decode(&mut key, 0)?;
                let value = value.map(read_offset).transpose()?;
                let (group, topic) = (GroupId::from(&*key.group), Arc::from(&*key.topic));
                Ok(Some(Self::Offset { group, topic, partition: key.partition, value }))
            }
            GROUP => {
                let key = GroupMetadataKey::decode(&mut key, 0)?;
                let value = value.map(read_group).transpose()?;
                Ok(Some(Self::Group { group: GroupId::from(&*key.group), value }))
            }
            kind => {
                let found = Entry::decode(kind, key, value)?;
                Ok(found.map(|(group, entry)| Self::Consumer { group, entry }))
            }
        }
    }
}

fn text(text: &str) -> ByteString {
    ByteString::from(text)
}

pub(super) fn take_i16(bytes: &mut Bytes, field: &'static str) -> Result<i16, DecodeError> {
    bytes.try_get_i16().map_err(|_| DecodeError::Truncated { field, needed: 2, left: bytes.len() })
}

fn offset_value(at: &Committed, version: i16) -> OffsetCommitValue {
    OffsetCommitValue {
        offset: at.offset,
        leader_epoch: if version >= 3 { at.leader_epoch } else { -1 },
        metadata: text(&at.metadata),
        commit_timestamp: at.commit_ms,
        expire_timestamp: at.expire_ms.unwrap_or(-1),
        topic_id: if version >= 4 { at.topic_id } else { Default::default() },
    }
}

fn read_offset(mut bytes: Bytes) -> Result<Committed, DecodeError> {
    let version = take_i16(&mut bytes, "version of a committed offset")?;
    let value = OffsetCommitValue::decode(&mut bytes, version)?;
    Ok(Committed {
        offset: value.offset,
        leader_epoch: value.leader_epoch,
        metadata: (&*value.metadata).into(),
        commit_ms: value.commit_timestamp,
        expire_ms: Some(value.expire_timestamp).filter(|end| *end >= 0),
        topic_id: value.topic_id,
    })
}

fn group_value(group: &GroupValue) -> GroupMetadataValue {
    GroupMetadataValue {
        protocol_type: text(&group.protocol_type),
        generation: group.generation.0,
        protocol: group.protocol.as_deref().map(text),
        leader: group.leader.as_ref().map(|leader| text(leader.as_str())),
        current_state_timestamp: group.state_since_ms,
        members: group.members.iter().map(member_value).collect(),
    }
}

fn member_value(member: &MemberValue) -> MemberMetadata {
    MemberMetadata {
        member_id: text(member.id.as_str()),
        group_instance_id: member.instance_id.as_ref().map(|instance| text(instance.as_str())),
        client_id: text(&member.client_id),
        client_host: text(&member.client_host),
        rebalance_timeout: member.rebalance_timeout_ms,
        session_timeout: member.session_timeout_ms,
        subscription: member.subscription.clone(),
        assignment: member.assignment.clone(),
    }
}

fn read_group(mut bytes: Bytes) -> Result<GroupValue, DecodeError> {
    let version = take_i16(&mut bytes, "version of a group's state")?;
    let value = GroupMetadataValue::decode(&mut bytes, version)?;
    Ok(GroupValue {
        protocol_type: (&*value.protocol_type).into(),
        generation: Generation(value.generation),
        protocol: value.protocol.as_deref().map(Into::into),
        leader: value.leader.as_deref().map(MemberId::from),
        state_since_ms: value.current_state_timestamp,
        members: value.members.into_iter().map(|member| read_member(member, version)).collect(),
    })
}

fn read_member(member: MemberMetadata, version: i16) -> MemberValue {
    MemberValue {
        id: MemberId::from(&*member.member_id),
        instance_id: member.group_instance_id.as_deref().map(InstanceId::from),
        client_id: (&*member.client_id).into(),
        client_host: (&*member.client_host).into(),
        rebalance_timeout_ms: if version >= 1 { member.rebalance_timeout } else { member.session_timeout },
        session_timeout_ms: member.session_timeout,
        // Copies: a slice would keep the whole batch in memory.
        subscription: Bytes::copy_from_slice(&member.subscription),
        assignment: Bytes::copy_from_slice(&member.assignment),
    }
}

#[cfg(test)]
mod tests;
