//! What producers, consumers and admins have in common: partitions, records, offsets.

use std::fmt;

pub use aqueduct_protocol::records::{Header, TimestampType};

use aqueduct_protocol::ids::{LeaderEpoch, Offset, PartitionIndex};
use bytes::Bytes;
use bytestring::ByteString;

/// A partition of a topic; cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// Name of the topic.
    pub topic: ByteString,
    /// Index of the partition within it.
    pub partition: PartitionIndex,
}

impl TopicPartition {
    /// The partition `partition` of `topic`.
    pub fn new(topic: impl Into<ByteString>, partition: i32) -> Self {
        Self { topic: topic.into(), partition: PartitionIndex(partition) }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// A record to produce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerRecord {
    /// The topic that it goes to.
    pub topic: ByteString,
    /// The partition; `None` leaves the choice to the partitioner (hash of the key, or sticky for a null key).
    pub partition: Option<PartitionIndex>,
    /// Its key, or null.
    pub key: Option<Bytes>,
    /// Its value; null is a tombstone in a compacted topic.
    pub value: Option<Bytes>,
    /// Milliseconds since 1970; `None` for the time of [`crate::Producer::send`].
    pub timestamp: Option<i64>,
    /// Its headers.
    pub headers: Vec<Header>,
}

impl ProducerRecord {
    /// A record without key, headers, set timestamp or set partition.
    pub fn new(topic: impl Into<ByteString>, value: impl Into<Bytes>) -> Self {
        Self {
            topic: topic.into(),
            partition: None,
            key: None,
            value: Some(value.into()),
            timestamp: None,
            headers: Vec::new(),
        }
    }

    /// A keyed record; a null `value` is a tombstone.
    pub fn keyed(topic: impl Into<ByteString>, key: impl Into<Bytes>, value: Option<Bytes>) -> Self {
        Self {
            topic: topic.into(),
            partition: None,
            key: Some(key.into()),
            value,
            timestamp: None,
            headers: Vec::new(),
        }
    }

    /// The same record, for that partition.
    pub fn with_partition(mut self, partition: i32) -> Self {
        self.partition = Some(PartitionIndex(partition));
        self
    }

    /// The same record, with that timestamp in milliseconds since 1970.
    pub fn with_timestamp(mut self, timestamp: i64) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    /// The same record, with that header after those it has.
    pub fn with_header(mut self, header: Header) -> Self {
        self.headers.push(header);
        self
    }
}

/// Where an acknowledged record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordMetadata {
    /// The partition it was written to.
    pub partition: PartitionIndex,
    /// Its offset; -1 where the broker did not tell (`acks=0`).
    pub offset: Offset,
    /// Its timestamp: the record's own, or the broker's where the topic says `LogAppendTime`; -1 when `acks=0` hides it.
    pub timestamp: i64,
}

/// A record read from a partition; key, value and headers are slices of the fetched response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerRecord {
    /// Its topic.
    pub topic: ByteString,
    /// Its partition.
    pub partition: PartitionIndex,
    /// Its offset.
    pub offset: Offset,
    /// Milliseconds since 1970; -1 for none.
    pub timestamp: i64,
    /// Whose clock that was.
    pub timestamp_type: TimestampType,
    /// The leader epoch of its batch.
    pub leader_epoch: LeaderEpoch,
    /// Its key, or null.
    pub key: Option<Bytes>,
    /// Its value, or null.
    pub value: Option<Bytes>,
    /// Its headers, in order, duplicates kept.
    pub headers: Vec<Header>,
}

/// An offset to commit or one that was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetAndMetadata {
    /// The offset of the next record to read.
    pub offset: Offset,
    /// Leader epoch of the last record read, where known.
    pub leader_epoch: Option<LeaderEpoch>,
    /// Free text kept beside the offset.
    pub metadata: ByteString,
}

impl From<Offset> for OffsetAndMetadata {
    fn from(offset: Offset) -> Self {
        Self { offset, leader_epoch: None, metadata: ByteString::new() }
    }
}

/// Which offset to look up, as ListOffsets names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The log start offset.
    Earliest,
    /// The high watermark, or the last stable offset for `read_committed`.
    Latest,
    /// The offset of the record with the highest timestamp.
    MaxTimestamp,
    /// The first offset whose timestamp is at or after this (milliseconds since 1970).
    Timestamp(i64),
}

impl OffsetSpec {
    /// The number that stands for it on the wire.
    pub fn wire(self) -> i64 {
        match self {
            Self::Latest => -1,
            Self::Earliest => -2,
            Self::MaxTimestamp => -3,
            Self::Timestamp(at) => at,
        }
    }
}
