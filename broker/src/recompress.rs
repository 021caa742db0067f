//! Topics whose `compression.type` names a codec store every batch in it, whatever the producer sent.

use aqueduct_protocol::records::{BatchBuilder, Compression, RecordBatch, RecordError, TimestampType};
use bytes::Bytes;

/// The codec, and the level to compress at.
pub(crate) type Target = (Compression, Option<i32>);

/// The batch in the target codec; `None` where it is in it already. Bytes that are no sound batch are left for the log to
/// refuse.
pub(crate) fn recompress(bytes: &Bytes, (codec, level): Target) -> Result<Option<Bytes>, RecordError> {
    let Ok(batch) = RecordBatch::parse(bytes.clone()) else { return Ok(None) };
    let header = batch.header;
    if header.attributes.compression()? == codec || header.attributes.is_control() {
        return Ok(None);
    }
    batch.check_crc()?;
    let mut builder = BatchBuilder::new(codec)
        .producer(header.producer_id, header.producer_epoch, header.base_sequence)
        .transactional(header.attributes.is_transactional())
        .reserve(bytes.len());
    if let Some(level) = level {
        builder = builder.compression_level(level);
    }
    if header.attributes.timestamp_type() == TimestampType::LogAppendTime {
        builder = builder.timestamp_type(TimestampType::LogAppendTime);
    }
    for record in batch.records()? {
        let record = record?;
        builder.append(record.timestamp, record.key.as_deref(), record.value.as_deref(), &record.headers)?;
    }
    builder.finish().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_a_change_of_codec() {
        let mut builder = BatchBuilder::new(Compression::None);
        for i in 0..50i64 {
            builder.append(1000 + i, Some(b"key"), Some(&[b'v'; 100]), &[]).unwrap();
        }
        let plain = builder.finish().unwrap();
        for codec in [Compression::Gzip, Compression::Lz4, Compression::Snappy, Compression::Zstd] {
            let packed = recompress(&plain, (codec, None)).unwrap().unwrap();
            assert!(packed.len() < plain.len());
            let batch = RecordBatch::parse(packed.clone()).unwrap();
            batch.check_crc().unwrap();
            let records: Vec<_> = batch.records().unwrap().map(Result::unwrap).collect();
            assert_eq!((records.len(), records[49].timestamp), (50, 1049));
            assert!(recompress(&packed, (codec, None)).unwrap().is_none());
        }
    }
}
