use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

use super::{Compression, RecordError};

/// Bytes of a batch before its records.
pub const HEADER_LEN: usize = 61;
/// Bytes of a batch that its length field does not count: the base offset and the field itself.
pub const LENGTH_PREFIX: usize = 12;
/// The timestamp of a record that has none.
pub const NO_TIMESTAMP: i64 = -1;

pub(super) const LENGTH_AT: usize = 8;
pub(super) const LEADER_EPOCH_AT: usize = 12;
pub(super) const MAGIC_AT: usize = 16;
pub(super) const CRC_AT: usize = 17;
pub(super) const ATTRIBUTES_AT: usize = 21;
pub(super) const LAST_OFFSET_DELTA_AT: usize = 23;
pub(super) const BASE_TIMESTAMP_AT: usize = 27;
pub(super) const MAX_TIMESTAMP_AT: usize = 35;
pub(super) const PRODUCER_ID_AT: usize = 43;
pub(super) const PRODUCER_EPOCH_AT: usize = 51;
pub(super) const BASE_SEQUENCE_AT: usize = 53;
pub(super) const COUNT_AT: usize = 57;

/// Who sets the timestamps of a topic's records (`message.timestamp.type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer: each record carries its own.
    #[default]
    CreateTime,
    /// The broker on append: all records of a batch carry the batch's maximum.
    LogAppendTime,
}

/// The attribute bits of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes(pub i16);

impl Attributes {
    const CODEC: i16 = 0x07;
    const LOG_APPEND_TIME: i16 = 0x08;
    const TRANSACTIONAL: i16 = 0x10;
    const CONTROL: i16 = 0x20;
    const DELETE_HORIZON: i16 = 0x40;

    /// How the records are compressed; an error for the codes that name no codec.
    pub fn compression(self) -> Result<Compression, RecordError> {
        Compression::from_code((self.0 & Self::CODEC) as u8)
    }

    /// Who set the timestamps.
    pub fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::LOG_APPEND_TIME != 0 {
            TimestampType::LogAppendTime
        } else {
            TimestampType::CreateTime
        }
    }

    /// Whether the records belong to a transaction.
    pub fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// Whether the records are markers for the cluster itself, not for an application.
    pub fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// Whether the base timestamp holds the time from which the cleaner may drop tombstones (KIP-534).
    pub fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }

    /// These attributes with another codec.
    pub fn with_compression(self, compression: Compression) -> Self {
        Self(self.0 & !Self::CODEC | compression.code() as i16)
    }

    /// These attributes with another timestamp type.
    pub fn with_timestamp_type(self, kind: TimestampType) -> Self {
        self.with(Self::LOG_APPEND_TIME, kind == TimestampType::LogAppendTime)
    }

    /// These attributes with the transactional bit set or cleared.
    pub fn with_transactional(self, on: bool) -> Self {
        self.with(Self::TRANSACTIONAL, on)
    }

    /// These attributes with the control bit set or cleared.
    pub fn with_control(self, on: bool) -> Self {
        self.with(Self::CONTROL, on)
    }

    /// These attributes with the delete horizon bit set or cleared.
    pub fn with_delete_horizon(self, on: bool) -> Self {
        self.with(Self::DELETE_HORIZON, on)
    }

    fn with(self, bit: i16, on: bool) -> Self {
        Self(if on { self.0 | bit } else { self.0 & !bit })
    }
}

/// The header of a batch, read but not yet believed: only magic and length have been looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: Offset,
    /// Bytes of the batch after this field.
    pub batch_length: i32,
    pub leader_epoch: LeaderEpoch,
    pub crc: u32,
    pub attributes: Attributes,
    pub last_offset_delta: i32,
    /// Milliseconds since 1970; record timestamps are counted from it.
    pub base_timestamp: i64,
    /// Milliseconds since 1970; with log-append time it is the time of every record.
    pub max_timestamp: i64,
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    /// Sequence number of the first record; -1 for none.
    pub base_sequence: i32,
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`, which may go on after it.
    ///
    /// Errors where the magic is not 2, fewer than 61 bytes are there, or the length could not hold the header.
    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        let truncated = || RecordError::Truncated { field: "header", needed: HEADER_LEN, left: bytes.len() };
        let base_offset = i64::from_be_bytes(field(bytes, 0).ok_or_else(truncated)?);
        // Magic stands at the same place in every format, and older messages can be shorter than our header.
        let magic = *bytes.get(MAGIC_AT).ok_or_else(truncated)? as i8;
        if magic != 2 {
            return Err(RecordError::UnsupportedMagic { magic, base_offset });
        }
        let bytes: &[u8; HEADER_LEN] =
            bytes.get(..HEADER_LEN).and_then(|head| head.try_into().ok()).ok_or_else(truncated)?;
        let header = Self {
            base_offset: Offset(base_offset),
            batch_length: int(bytes, LENGTH_AT),
            leader_epoch: LeaderEpoch(int(bytes, LEADER_EPOCH_AT)),
            crc: int(bytes, CRC_AT) as u32,
            attributes: Attributes(short(bytes, ATTRIBUTES_AT)),
            last_offset_delta: int(bytes, LAST_OFFSET_DELTA_AT),
            base_timestamp: long(bytes, BASE_TIMESTAMP_AT),
            max_timestamp: long(bytes, MAX_TIMESTAMP_AT),
            producer_id: ProducerId(long(bytes, PRODUCER_ID_AT)),
            producer_epoch: ProducerEpoch(short(bytes, PRODUCER_EPOCH_AT)),
            base_sequence: int(bytes, BASE_SEQUENCE_AT),
            record_count: int(bytes, COUNT_AT),
        };
        if (header.batch_length as i64) < (HEADER_LEN - LENGTH_PREFIX) as i64 {
            let length = header.batch_length as i64;
            return Err(RecordError::BadLength { field: "batch length", length, left: bytes.len() });
        }
        Ok(header)
    }

    /// Bytes of the whole batch, header included.
    pub fn size(&self) -> usize {
        self.batch_length as usize + LENGTH_PREFIX
    }

    /// Offset of the last record (or of where it was, if compaction removed it).
    pub fn last_offset(&self) -> Offset {
        Offset(self.base_offset.0.saturating_add(self.last_offset_delta as i64))
    }

    /// The offset after the batch.
    pub fn next_offset(&self) -> Offset {
        Offset(self.last_offset().0.saturating_add(1))
    }

    /// The time from which the cleaner may drop tombstones or markers of the batch, if it has been set (KIP-534).
    pub fn delete_horizon(&self) -> Option<i64> {
        self.attributes.has_delete_horizon().then_some(self.base_timestamp)
    }

    /// Whether the batch comes from an idempotent producer.
    pub fn has_producer(&self) -> bool {
        self.producer_id.0 >= 0
    }

    /// Sequence number of the last record; numbers wrap from 2^31-1 to 0.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return self.base_sequence;
        }
        ((self.base_sequence as i64 + self.last_offset_delta as i64) & i32::MAX as i64) as i32
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn short(bytes: &[u8; HEADER_LEN], at: usize) -> i16 {
    i16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn int(bytes: &[u8; HEADER_LEN], at: usize) -> i32 {
    i32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn long(bytes: &[u8; HEADER_LEN], at: usize) -> i64 {
    (int(bytes, at) as i64) << 32 | int(bytes, at + 4) as u32 as i64
}
