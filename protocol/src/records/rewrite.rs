//! What compaction leaves of a batch: some of its records, or none.

use super::header::{
    ATTRIBUTES_AT, BASE_SEQUENCE_AT, BASE_TIMESTAMP_AT, COUNT_AT, LAST_OFFSET_DELTA_AT, LEADER_EPOCH_AT,
    LENGTH_AT, MAGIC_AT, MAX_TIMESTAMP_AT, PRODUCER_EPOCH_AT, PRODUCER_ID_AT,
};
use super::patch::patch_crc;
use super::varint::{put_varint, put_varlong, varint_len, varlong_len};
use super::{
    BatchHeader, Compression, HEADER_LEN, LENGTH_PREFIX, NO_TIMESTAMP, RawRecord, RecordError, TimestampType,
};

/// Writes a batch anew with some of its records.
///
/// Offsets, sequence numbers, producer, leader epoch, codec and every record's own timestamp stay as they were; so do the
/// first and the last offset of the batch, whichever records are gone. The largest timestamp is that of what is left.
#[derive(Debug)]
pub struct BatchRewriter {
    /// As it was; kept up while records come.
    header: BatchHeader,
    /// What the records' timestamps are counted from.
    base_timestamp: Option<i64>,
    max_timestamp: i64,
    count: i32,
    body: Vec<u8>,
    has_horizon: bool,
}

impl BatchRewriter {
    /// Begins with no records. With `delete_horizon` the base timestamp holds that time (KIP-534). `body` is room to work
    /// in, which [`BatchRewriter::finish`] gives back.
    pub fn new(header: &BatchHeader, delete_horizon: Option<i64>, mut body: Vec<u8>) -> Self {
        body.clear();
        let has_horizon = delete_horizon.is_some();
        let base_timestamp = delete_horizon;
        Self { header: *header, base_timestamp, max_timestamp: NO_TIMESTAMP, count: 0, body, has_horizon }
    }

    /// Keeps `record`; records come in the order in which they were.
    pub fn keep(&mut self, record: &RawRecord<'_>) {
        let timestamp = record.timestamp(&self.header);
        let base = *self.base_timestamp.get_or_insert(timestamp);
        let delta = timestamp.wrapping_sub(base);
        let length = 1 + varlong_len(delta) + varint_len(record.offset_delta) + record.tail.len();
        put_varint(&mut self.body, length as i32);
        self.body.push(0);
        put_varlong(&mut self.body, delta);
        put_varint(&mut self.body, record.offset_delta);
        self.body.extend_from_slice(record.tail);
        self.max_timestamp = if self.count == 0 { timestamp } else { self.max_timestamp.max(timestamp) };
        self.count += 1;
    }

    /// Appends the batch to `out`, the records compressed as they were. Errors where it would pass 2 GiB.
    pub fn finish(self, out: &mut Vec<u8>) -> Result<Vec<u8>, RecordError> {
        let start = out.len();
        out.resize(start + HEADER_LEN, 0);
        match self.header.attributes.compression()? {
            Compression::None => out.extend_from_slice(&self.body),
            codec => codec.compress(&self.body, None, out)?,
        }
        let size = out.len() - start;
        let header = BatchHeader {
            batch_length: i32::try_from(size - LENGTH_PREFIX)
                .map_err(|_| RecordError::BatchFull { size, record: 0 })?,
            attributes: self.header.attributes.with_delete_horizon(self.has_horizon),
            base_timestamp: self.base_timestamp.unwrap_or(NO_TIMESTAMP),
            max_timestamp: match self.header.attributes.timestamp_type() {
                TimestampType::CreateTime => self.max_timestamp,
                TimestampType::LogAppendTime => self.header.max_timestamp,
            },
            record_count: self.count,
            ..self.header
        };
        write_header(&header, &mut out[start..])?;
        Ok(self.body)
    }
}

/// The batch with `header` without any record: what is left to tell offsets and sequence numbers by.
pub fn empty_batch(header: &BatchHeader) -> Result<[u8; HEADER_LEN], RecordError> {
    let mut out = [0; HEADER_LEN];
    let attributes = header.attributes.with_compression(Compression::None).with_delete_horizon(false);
    let header = BatchHeader {
        batch_length: (HEADER_LEN - LENGTH_PREFIX) as i32,
        attributes,
        base_timestamp: NO_TIMESTAMP,
        record_count: 0,
        ..*header
    };
    write_header(&header, &mut out)?;
    Ok(out)
}

/// Writes `header` over the first bytes of `batch`, which is exactly one batch, with the checksum that it then has.
fn write_header(header: &BatchHeader, batch: &mut [u8]) -> Result<(), RecordError> {
    let mut put = |at: usize, value: &[u8]| batch[at..at + value.len()].copy_from_slice(value);
    put(0, &header.base_offset.0.to_be_bytes());
    put(LENGTH_AT, &header.batch_length.to_be_bytes());
    put(LEADER_EPOCH_AT, &header.leader_epoch.0.to_be_bytes());
    put(MAGIC_AT, &[2]);
    put(ATTRIBUTES_AT, &header.attributes.0.to_be_bytes());
    put(LAST_OFFSET_DELTA_AT, &header.last_offset_delta.to_be_bytes());
    put(BASE_TIMESTAMP_AT, &header.base_timestamp.to_be_bytes());
    put(MAX_TIMESTAMP_AT, &header.max_timestamp.to_be_bytes());
    put(PRODUCER_ID_AT, &header.producer_id.0.to_be_bytes());
    put(PRODUCER_EPOCH_AT, &header.producer_epoch.0.to_be_bytes());
    put(BASE_SEQUENCE_AT, &header.base_sequence.to_be_bytes());
    put(COUNT_AT, &header.record_count.to_be_bytes());
    patch_crc(batch)
}

#[cfg(test)]
mod tests {
    use super::super::{BatchBuilder, Header, OutputLimit, RecordBatch};
    use super::*;
    use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

    fn sample(codec: Compression) -> RecordBatch {
        let mut builder = BatchBuilder::new(codec)
            .producer(ProducerId(7), ProducerEpoch(2), 40)
            .base_offset(Offset(1000))
            .leader_epoch(LeaderEpoch(3))
            .transactional(true);
        for i in 0..20i64 {
            let headers = [Header { key: "h".into(), value: None }];
            let value = (i % 4 != 0).then_some(&b"some value"[..]);
            let key = format!("key-{i}");
            builder.append(5000 - i * 7, Some(key.as_bytes()), value, &headers[..i as usize % 2]).unwrap();
        }
        RecordBatch::parse(builder.finish().unwrap()).unwrap()
    }

    fn rewrite(batch: &RecordBatch, horizon: Option<i64>, keep: impl Fn(i32) -> bool) -> RecordBatch {
        let mut rewriter = BatchRewriter::new(&batch.header, horizon, vec![1, 2, 3]);
        batch
            .for_each_raw::<RecordError>(OutputLimit::default(), &mut Vec::new(), |index, raw| {
                if keep(index) {
                    rewriter.keep(&raw);
                }
                Ok(())
            })
            .unwrap();
        let mut out = b"before".to_vec();
        rewriter.finish(&mut out).unwrap();
        RecordBatch::parse(out.split_off(6).into()).unwrap()
    }

    #[test]
    fn what_is_kept_is_as_it_was() {
        for codec in Compression::ALL {
            let batch = sample(codec);
            let before: Vec<_> = batch.records().unwrap().map(Result::unwrap).collect();
            for horizon in [None, Some(77_777)] {
                let thinned = rewrite(&batch, horizon, |index| index % 3 == 1);
                thinned.check_crc().unwrap();
                let kept: Vec<_> = thinned.records().unwrap().map(Result::unwrap).collect();
                let expected: Vec<_> = before.iter().skip(1).step_by(3).cloned().collect();
                assert_eq!(kept, expected);
                let expected = BatchHeader {
                    attributes: batch.header.attributes.with_delete_horizon(horizon.is_some()),
                    batch_length: thinned.header.batch_length,
                    crc: thinned.header.crc,
                    base_timestamp: horizon.unwrap_or(5000 - 7),
                    max_timestamp: 5000 - 7,
                    record_count: 7,
                    ..batch.header
                };
                assert_eq!(thinned.header, expected);
                assert_eq!(thinned.header.delete_horizon(), horizon);
                // A second time, from the batch that has been thinned.
                let again = rewrite(&thinned, thinned.header.delete_horizon(), |index| index == 6);
                assert_eq!(again.records().unwrap().map(Result::unwrap).collect::<Vec<_>>(), kept[6..]);
            }
            let whole = rewrite(&batch, None, |_| true);
            assert_eq!(whole.bytes, batch.bytes, "{codec}");
        }
    }

    #[test]
    fn log_append_time_stays_that_of_the_batch() {
        let mut bytes = sample(Compression::None).bytes.to_vec();
        super::super::patch_max_timestamp(&mut bytes, TimestampType::LogAppendTime, 9_000).unwrap();
        let batch = RecordBatch::parse(bytes.into()).unwrap();
        let thinned = rewrite(&batch, Some(50_000), |index| index > 10);
        let times: Vec<_> = thinned.records().unwrap().map(|r| r.unwrap().timestamp).collect();
        assert_eq!(times, [9_000; 9]);
        assert_eq!((thinned.header.max_timestamp, thinned.header.base_timestamp), (9_000, 50_000));
    }

    #[test]
    fn an_empty_batch_keeps_its_place() {
        let batch = sample(Compression::Zstd);
        let empty = RecordBatch::parse(empty_batch(&batch.header).unwrap().to_vec().into()).unwrap();
        empty.check_crc().unwrap();
        assert_eq!(empty.records().unwrap().count(), 0);
        assert_eq!((empty.header.base_offset, empty.header.last_offset()), (Offset(1000), Offset(1019)));
        assert_eq!(empty.header.last_sequence(), 59);
        assert_eq!(empty.header.max_timestamp, batch.header.max_timestamp);
        assert!(empty.header.attributes.is_transactional());
        assert_eq!(empty.header.attributes.compression().unwrap(), Compression::None);
    }
}
