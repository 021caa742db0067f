//! What a broker may change in a batch in place.

use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

use super::header::{
    ATTRIBUTES_AT, Attributes, BASE_SEQUENCE_AT, CRC_AT, LEADER_EPOCH_AT, MAX_TIMESTAMP_AT,
    PRODUCER_EPOCH_AT, PRODUCER_ID_AT, TimestampType,
};
use super::{HEADER_LEN, RecordError};

/// Sets the base offset; the checksum does not cover it.
pub fn patch_base_offset(batch: &mut [u8], offset: Offset) -> Result<(), RecordError> {
    put(batch, 0, &offset.0.to_be_bytes())
}

/// Sets the partition leader epoch; the checksum does not cover it.
pub fn patch_leader_epoch(batch: &mut [u8], epoch: LeaderEpoch) -> Result<(), RecordError> {
    put(batch, LEADER_EPOCH_AT, &epoch.0.to_be_bytes())
}

/// Sets timestamp type and maximum timestamp, and the checksum, which covers both. `batch` is exactly one batch.
pub fn patch_max_timestamp(batch: &mut [u8], kind: TimestampType, timestamp: i64) -> Result<(), RecordError> {
    patch_timestamps(batch, kind, timestamp)?;
    patch_crc(batch)
}

/// Sets timestamp type and maximum timestamp alone, for a header whose records are elsewhere; the checksum is wrong
/// until [`patch_crc_value`].
pub fn patch_timestamps(head: &mut [u8], kind: TimestampType, timestamp: i64) -> Result<(), RecordError> {
    put(head, MAX_TIMESTAMP_AT, &timestamp.to_be_bytes())?;
    let old = Attributes(i16::from_be_bytes([head[ATTRIBUTES_AT], head[ATTRIBUTES_AT + 1]]));
    put(head, ATTRIBUTES_AT, &old.with_timestamp_type(kind).0.to_be_bytes())
}

/// Sets the checksum.
pub fn patch_crc_value(head: &mut [u8], crc: u32) -> Result<(), RecordError> {
    put(head, CRC_AT, &crc.to_be_bytes())
}

/// Sets the idempotent producer and the sequence number of the first record, and the checksum, which covers them. `batch`
/// is exactly one batch.
pub fn patch_producer(
    batch: &mut [u8],
    id: ProducerId,
    epoch: ProducerEpoch,
    base_sequence: i32,
) -> Result<(), RecordError> {
    put(batch, PRODUCER_ID_AT, &id.0.to_be_bytes())?;
    put(batch, PRODUCER_EPOCH_AT, &epoch.0.to_be_bytes())?;
    put(batch, BASE_SEQUENCE_AT, &base_sequence.to_be_bytes())?;
    patch_crc(batch)
}

/// Writes the checksum that the bytes have. `batch` is exactly one batch.
pub fn patch_crc(batch: &mut [u8]) -> Result<(), RecordError> {
    let crc = compute_crc(batch);
    put(batch, CRC_AT, &crc.to_be_bytes())
}

/// The CRC-32C of `batch`, which is exactly one batch: of all bytes from the attributes on.
pub fn compute_crc(batch: &[u8]) -> u32 {
    crc32c::crc32c(batch.get(ATTRIBUTES_AT..).unwrap_or_default())
}

/// The checksum of a batch of which `crc` covers the first part and `rest` is what follows it.
pub fn extend_crc(crc: u32, rest: &[u8]) -> u32 {
    crc32c::crc32c_append(crc, rest)
}

fn put(batch: &mut [u8], at: usize, value: &[u8]) -> Result<(), RecordError> {
    if batch.len() < HEADER_LEN {
        return Err(RecordError::Truncated { field: "header", needed: HEADER_LEN, left: batch.len() });
    }
    batch[at..at + value.len()].copy_from_slice(value);
    Ok(())
}
