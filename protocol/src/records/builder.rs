use bytes::Bytes;

use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

use super::header::{
    ATTRIBUTES_AT, BASE_SEQUENCE_AT, BASE_TIMESTAMP_AT, COUNT_AT, LAST_OFFSET_DELTA_AT, LEADER_EPOCH_AT,
    LENGTH_AT, MAGIC_AT, MAX_TIMESTAMP_AT, PRODUCER_EPOCH_AT, PRODUCER_ID_AT,
};
use super::patch::patch_crc;
use super::varint::{put_varint, put_varlong, varint_len, varlong_len};
use super::{
    Attributes, Compression, EndTransactionMarker, HEADER_LEN, Header, LENGTH_PREFIX, NO_TIMESTAMP,
    RecordError, TimestampType,
};

/// Writes one batch, record by record.
///
/// Records are laid down behind room for the header, so that a batch which is not compressed is never copied.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    out: Vec<u8>,
    compression: Compression,
    level: Option<i32>,
    attributes: Attributes,
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
    producer: (ProducerId, ProducerEpoch, i32),
    base_timestamp: i64,
    max_timestamp: i64,
    last_offset_delta: i32,
    count: i32,
}

impl BatchBuilder {
    /// An empty batch whose records will be compressed with `compression`.
    pub fn new(compression: Compression) -> Self {
        Self {
            out: vec![0; HEADER_LEN],
            compression,
            level: None,
            attributes: Attributes::default(),
            base_offset: Offset(0),
            leader_epoch: LeaderEpoch(-1),
            producer: (ProducerId(-1), ProducerEpoch(-1), -1),
            base_timestamp: NO_TIMESTAMP,
            max_timestamp: NO_TIMESTAMP,
            last_offset_delta: -1,
            count: 0,
        }
    }

    /// Compresses at `level`, which is the codec's own scale.
    pub fn compression_level(mut self, level: i32) -> Self {
        self.level = Some(level);
        self
    }

    /// Makes room for `bytes` of records at once.
    pub fn reserve(mut self, bytes: usize) -> Self {
        self.out.reserve(bytes);
        self
    }

    /// Stamps the batch with an idempotent producer and the sequence number of its first record.
    pub fn producer(mut self, id: ProducerId, epoch: ProducerEpoch, base_sequence: i32) -> Self {
        self.set_producer(id, epoch, base_sequence);
        self
    }

    /// As [`BatchBuilder::producer`], for a batch that is already filled.
    pub fn set_producer(&mut self, id: ProducerId, epoch: ProducerEpoch, base_sequence: i32) {
        self.producer = (id, epoch, base_sequence);
    }

    /// Makes the batch part of its producer's transaction.
    pub fn transactional(mut self, on: bool) -> Self {
        self.attributes = self.attributes.with_transactional(on);
        self
    }

    /// Makes the records markers for the cluster itself.
    pub fn control(mut self, on: bool) -> Self {
        self.attributes = self.attributes.with_control(on);
        self
    }

    /// Says who set the timestamps; producers leave it at create time.
    pub fn timestamp_type(mut self, kind: TimestampType) -> Self {
        self.attributes = self.attributes.with_timestamp_type(kind);
        self
    }

    /// Sets the offset of the first record; 0 from a producer.
    pub fn base_offset(mut self, offset: Offset) -> Self {
        self.base_offset = offset;
        self
    }

    /// Sets the partition leader epoch; -1 from a producer.
    pub fn leader_epoch(mut self, epoch: LeaderEpoch) -> Self {
        self.leader_epoch = epoch;
        self
    }

    /// Adds a record with the next offset. Errors, leaving the batch as it was, where the batch would pass 2 GiB.
    pub fn append(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header],
    ) -> Result<(), RecordError> {
        self.append_at(self.last_offset_delta.saturating_add(1), timestamp, key, value, headers)
    }

    /// Adds a record `offset_delta` after the base offset; deltas must rise, and may leave gaps.
    pub fn append_at(
        &mut self,
        offset_delta: i32,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header],
    ) -> Result<(), RecordError> {
        let base_timestamp = if self.count == 0 { timestamp } else { self.base_timestamp };
        let timestamp_delta = timestamp.wrapping_sub(base_timestamp);
        let body =
            1 + varlong_len(timestamp_delta) + varint_len(offset_delta) + fields_len(key, value, headers);
        let size = self.out.len().saturating_add(body).saturating_add(5);
        if size > i32::MAX as usize || self.count == i32::MAX || offset_delta == i32::MAX {
            return Err(RecordError::BatchFull { size: self.out.len(), record: body });
        }
        let out = &mut self.out;
        put_varint(out, body as i32);
        out.push(0);
        put_varlong(out, timestamp_delta);
        put_varint(out, offset_delta);
        put_nullable(out, key);
        put_nullable(out, value);
        put_varint(out, headers.len() as i32);
        for header in headers {
            put_nullable(out, Some(header.key.as_bytes()));
            put_nullable(out, header.value.as_deref());
        }
        self.max_timestamp = if self.count == 0 { timestamp } else { self.max_timestamp.max(timestamp) };
        self.base_timestamp = base_timestamp;
        self.last_offset_delta = offset_delta;
        self.count += 1;
        Ok(())
    }

    /// A batch with one control record: the end of `id`'s transaction.
    pub fn end_transaction(
        id: ProducerId,
        epoch: ProducerEpoch,
        timestamp: i64,
        marker: EndTransactionMarker,
    ) -> Self {
        let mut builder =
            Self::new(Compression::None).producer(id, epoch, -1).transactional(true).control(true);
        builder
            .append(timestamp, Some(&marker.key()), Some(&marker.value()), &[])
            .expect("one small record fits an empty batch");
        builder
    }

    /// Records so far.
    pub fn count(&self) -> i32 {
        self.count
    }

    /// Whether there is no record yet.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the batch so far, before compression.
    pub fn size(&self) -> usize {
        self.out.len()
    }

    /// The most bytes that another record would add, before compression.
    pub fn record_size_bound(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header]) -> usize {
        // Length, attributes, timestamp delta and offset delta at their longest.
        5 + 1 + 10 + 5 + fields_len(key, value, headers)
    }

    /// The batch, compressed and with its checksum.
    pub fn finish(self) -> Result<Bytes, RecordError> {
        let mut out = match self.compression {
            Compression::None => self.out,
            codec => {
                let mut packed = Vec::with_capacity(HEADER_LEN + self.out.len() / 2);
                packed.resize(HEADER_LEN, 0);
                codec.compress(&self.out[HEADER_LEN..], self.level, &mut packed)?;
                packed
            }
        };
        let length = i32::try_from(out.len() - LENGTH_PREFIX)
            .map_err(|_| RecordError::BatchFull { size: out.len(), record: 0 })?;
        let (producer_id, producer_epoch, base_sequence) = self.producer;
        let attributes = self.attributes.with_compression(self.compression);
        let mut put = |at: usize, value: &[u8]| out[at..at + value.len()].copy_from_slice(value);
        put(0, &self.base_offset.0.to_be_bytes());
        put(LENGTH_AT, &length.to_be_bytes());
        put(LEADER_EPOCH_AT, &self.leader_epoch.0.to_be_bytes());
        put(MAGIC_AT, &[2]);
        put(ATTRIBUTES_AT, &attributes.0.to_be_bytes());
        put(LAST_OFFSET_DELTA_AT, &self.last_offset_delta.to_be_bytes());
        put(BASE_TIMESTAMP_AT, &self.base_timestamp.to_be_bytes());
        put(MAX_TIMESTAMP_AT, &self.max_timestamp.to_be_bytes());
        put(PRODUCER_ID_AT, &producer_id.0.to_be_bytes());
        put(PRODUCER_EPOCH_AT, &producer_epoch.0.to_be_bytes());
        put(BASE_SEQUENCE_AT, &base_sequence.to_be_bytes());
        put(COUNT_AT, &self.count.to_be_bytes());
        patch_crc(&mut out)?;
        Ok(Bytes::from(out))
    }
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_varint(out, bytes.len() as i32);
            out.extend_from_slice(bytes);
        }
    }
}

fn nullable_len(bytes: Option<&[u8]>) -> usize {
    // Five bytes hold any length that a batch can; a longer one makes the batch full before it is written.
    bytes.map_or(1, |b| varint_len(i32::try_from(b.len()).unwrap_or(i32::MAX)).saturating_add(b.len()))
}

fn fields_len(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header]) -> usize {
    let head = varint_len(i32::try_from(headers.len()).unwrap_or(i32::MAX));
    headers.iter().fold(head + nullable_len(key) + nullable_len(value), |sum, h| {
        sum + nullable_len(Some(h.key.as_bytes())) + nullable_len(h.value.as_deref())
    })
}
