use bytes::Bytes;

use super::header::{LENGTH_AT, MAGIC_AT};
use super::record::for_each_raw;
use super::{
    BatchHeader, Compression, HEADER_LEN, LENGTH_PREFIX, OutputLimit, RawRecord, RecordError, Records,
    compute_crc,
};

/// One whole batch, its header read. Whether its bytes are sound is for [`RecordBatch::check_crc`] to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordBatch {
    pub header: BatchHeader,
    /// The batch, header included.
    pub bytes: Bytes,
}

/// What a look at every record of a batch shows. Timestamps are those that the records carry, also where the batch is
/// marked with the time of its append, which then counts for readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordsSummary {
    /// Largest timestamp of a record; -1 for a batch without any.
    pub max_timestamp: i64,
    /// Smallest timestamp of a record; -1 for a batch without any.
    pub min_timestamp: i64,
    /// Offset delta of the first record with the largest timestamp.
    pub max_timestamp_delta: i32,
    /// Index of the first record without a key.
    pub first_without_key: Option<i32>,
}

impl RecordBatch {
    /// Reads `bytes` as exactly one batch.
    pub fn parse(bytes: Bytes) -> Result<Self, RecordError> {
        let header = BatchHeader::parse(&bytes)?;
        if header.size() > bytes.len() {
            let (needed, left) = (header.size(), bytes.len());
            return Err(RecordError::Truncated { field: "batch", needed, left });
        }
        if header.size() < bytes.len() {
            let (base_offset, left) = (header.base_offset.0, bytes.len() - header.size());
            return Err(RecordError::TrailingBytes { base_offset, left });
        }
        Ok(Self { header, bytes })
    }

    /// Compares the checksum in the header with that of the bytes.
    pub fn check_crc(&self) -> Result<(), RecordError> {
        let computed = compute_crc(&self.bytes);
        if computed != self.header.crc {
            let (base_offset, stored) = (self.header.base_offset.0, self.header.crc);
            return Err(RecordError::CrcMismatch { base_offset, stored, computed });
        }
        Ok(())
    }

    /// Decodes the records; what they decompress to is held to the default [`OutputLimit`].
    pub fn records(&self) -> Result<Records, RecordError> {
        self.records_within(OutputLimit::default())
    }

    /// Decodes the records; what they decompress to is held to `limit`. Records of batches that are not compressed are
    /// slices of [`RecordBatch::bytes`].
    pub fn records_within(&self, limit: OutputLimit) -> Result<Records, RecordError> {
        let packed = self.bytes.slice(HEADER_LEN..);
        let plain = match self.header.attributes.compression()? {
            Compression::None => packed,
            codec => {
                let mut out = Vec::new();
                codec.decompress(&packed, limit, &mut out)?;
                Bytes::from(out)
            }
        };
        Ok(Records::new(self.header, plain))
    }

    /// Looks at every record without building any: lengths must add up, offset deltas run from 0 and the count be the
    /// one that the header declares. `scratch` holds decompressed records and may be used again for other batches.
    pub fn check_records(
        &self,
        limit: OutputLimit,
        scratch: &mut Vec<u8>,
    ) -> Result<RecordsSummary, RecordError> {
        let header = &self.header;
        let base_offset = header.base_offset.0;
        let mut summary = RecordsSummary {
            max_timestamp: -1,
            min_timestamp: -1,
            max_timestamp_delta: 0,
            first_without_key: None,
        };
        let found = self.for_each_raw(limit, scratch, |index, raw| {
            if raw.offset_delta != index {
                return Err(RecordError::WrongOffsetDelta { base_offset, index, found: raw.offset_delta });
            }
            let timestamp = header.base_timestamp.wrapping_add(raw.timestamp_delta);
            if index == 0 || timestamp > summary.max_timestamp {
                summary.max_timestamp = timestamp;
                summary.max_timestamp_delta = index;
            }
            if index == 0 || timestamp < summary.min_timestamp {
                summary.min_timestamp = timestamp;
            }
            if raw.key.is_none() && summary.first_without_key.is_none() {
                summary.first_without_key = Some(index);
            }
            Ok::<_, RecordError>(())
        })?;
        if found != header.record_count as i64 || found != header.last_offset_delta as i64 + 1 {
            return Err(RecordError::WrongCount { base_offset, declared: header.record_count, found });
        }
        Ok(summary)
    }

    /// Gives each record's raw fields to `each`, with its index; stops at the first error. Returns the number of records.
    pub fn for_each_raw<E: From<RecordError>>(
        &self,
        limit: OutputLimit,
        scratch: &mut Vec<u8>,
        each: impl FnMut(i32, RawRecord<'_>) -> Result<(), E>,
    ) -> Result<i64, E> {
        let packed = &self.bytes[HEADER_LEN..];
        match self.header.attributes.compression()? {
            Compression::None => for_each_raw(packed, each),
            codec => {
                scratch.clear();
                codec.decompress(packed, limit, scratch)?;
                for_each_raw(scratch, each)
            }
        }
    }
}

/// Walks over the batches in a buffer.
///
/// A batch that is cut short by the end of the buffer ends the walk, as a Fetch response may end so; [`Batches::rest`]
/// tells what is left. Bytes that cannot be a batch are an error, after which the walk ends.
#[derive(Clone, Debug)]
pub struct Batches {
    rest: Bytes,
    failed: bool,
}

impl Batches {
    /// Walks over `bytes`.
    pub fn new(bytes: Bytes) -> Self {
        Self { rest: bytes, failed: false }
    }

    /// What has not been walked over.
    pub fn rest(&self) -> &Bytes {
        &self.rest
    }
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.rest.len() <= MAGIC_AT {
            return None;
        }
        let length = self.rest[LENGTH_AT..LENGTH_PREFIX].try_into().map(i32::from_be_bytes).ok()?;
        let short =
            self.rest.len() < HEADER_LEN || (length as i64 + LENGTH_PREFIX as i64) > self.rest.len() as i64;
        let sound = length as i64 >= (HEADER_LEN - LENGTH_PREFIX) as i64 && self.rest[MAGIC_AT] == 2;
        if short && sound {
            return None;
        }
        let header = match BatchHeader::parse(&self.rest) {
            Ok(header) => header,
            Err(RecordError::Truncated { .. }) => return None,
            Err(error) => {
                self.failed = true;
                return Some(Err(error));
            }
        };
        let bytes = self.rest.split_to(header.size());
        Some(Ok(RecordBatch { header, bytes }))
    }
}
