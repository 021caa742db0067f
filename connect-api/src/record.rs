//! Records on their way through connectors, transforms and converters.

use std::sync::Arc;

use bytestring::ByteString;

use crate::connector::OffsetMap;
use crate::data::SchemaAndValue;
use crate::offset::SourceOffset;

/// A record header. Keys may repeat, and order matters.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    pub key: ByteString,
    pub value: SchemaAndValue,
}

/// What source and sink records have in common, and all that a transform sees.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    pub topic: ByteString,
    /// Partition to write to or read from; `None` lets the key decide.
    pub partition: Option<i32>,
    pub key: SchemaAndValue,
    pub value: SchemaAndValue,
    pub headers: Vec<Header>,
    /// Milliseconds since 1970-01-01T00:00:00Z; `None` is the time of the write.
    pub timestamp: Option<i64>,
    /// Where a sink's record was read; `None` for a source's.
    pub offset: Option<i64>,
}

/// A record from a source task.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceRecord {
    pub record: Record,
    /// Which part of the source this came from, such as a file name.
    pub source_partition: Arc<OffsetMap>,
    /// Where to go on after this record; stored once the cluster has acknowledged it.
    pub source_offset: SourceOffset,
}

/// What the timestamp of a record in a topic means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampType {
    #[default]
    NoTimestamp,
    CreateTime,
    LogAppendTime,
}

impl TimestampType {
    /// Kafka's name for it in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoTimestamp => "NoTimestampType",
            Self::CreateTime => "CreateTime",
            Self::LogAppendTime => "LogAppendTime",
        }
    }
}

/// A record for a sink task. `original_*` say where it was read, whatever transforms did to topic and partition.
#[derive(Clone, Debug, PartialEq)]
pub struct SinkRecord {
    pub record: Record,
    pub offset: i64,
    pub timestamp_type: TimestampType,
    pub original_topic: ByteString,
    pub original_partition: i32,
}
