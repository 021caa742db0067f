//! Record batches as a client sends them. The checksum is mended first, since no mutation would get past it.

#![no_main]

use aqueduct_fuzz::Seeds;
use aqueduct_protocol::ids::{Offset, ProducerEpoch, ProducerId};
use aqueduct_protocol::records::{
    BatchBuilder, Batches, Compression, Header, OutputLimit, RecordBatch, TimestampType, patch_crc,
};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

/// Small, so that a bomb is told from an honest batch within a run.
const LIMIT: OutputLimit = OutputLimit { ratio: 64, extra: 1 << 20 };

fn batch(compression: Compression, transactional: bool) -> Bytes {
    let mut builder = BatchBuilder::new(compression).base_offset(Offset(7)).transactional(transactional);
    if transactional {
        builder.set_producer(ProducerId(3), ProducerEpoch(1), 5);
    }
    let header = Header { key: "h".into(), value: Some(Bytes::from_static(b"v")) };
    for value in [None, Some(&b"value"[..]), Some(&[b'x'; 200][..])] {
        builder
            .append(1_700_000_000_000, Some(b"key"), value, std::slice::from_ref(&header))
            .expect("a good record");
    }
    builder.finish().expect("a good batch")
}

fuzz_target!(
    init: {
        let mut seeds = Seeds::new();
        for compression in Compression::ALL {
            seeds.put(&batch(compression, false));
            seeds.put(&batch(compression, true));
        }
        seeds.put(&[batch(Compression::None, false), batch(Compression::Lz4, false)].concat());
    },
    |data: &[u8]| {
        let mut bytes = data.to_vec();
        let _ = patch_crc(&mut bytes);
        let bytes = Bytes::from(bytes);
        for batch in Batches::new(bytes.clone()).take(64) {
            let Ok(batch) = batch else { break };
            let _ = batch.check_crc();
        }
        let Ok(batch) = RecordBatch::parse(bytes) else { return };
        let mut scratch = Vec::new();
        let checked = batch.check_records(LIMIT, &mut scratch);
        let Ok(records) = batch.records_within(LIMIT) else {
            assert!(checked.is_err(), "records that pass the check can be read");
            return;
        };
        let read: Result<Vec<_>, _> = records.collect();
        if let Ok(summary) = checked {
            let read = read.expect("records that pass the check can be read");
            assert_eq!(read.len() as i32, batch.header.record_count);
            // With the time of the append, readers get the batch's own.
            let newest = read.iter().map(|record| record.timestamp).max();
            let expected = match batch.header.attributes.timestamp_type() {
                TimestampType::CreateTime => summary.max_timestamp,
                TimestampType::LogAppendTime => batch.header.max_timestamp,
            };
            assert!(newest.is_none_or(|newest| newest == expected));
        }
    }
);
