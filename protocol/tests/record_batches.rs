//! Record batches: what is built is read back, by us and by another decoder, and hostile bytes do no harm.
#![allow(clippy::unwrap_used)]

use aqueduct_protocol::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use aqueduct_protocol::records::{
    Attributes, BatchBuilder, BatchHeader, Batches, Compression, EndTransactionMarker, HEADER_LEN, Header,
    OutputLimit, Record, RecordBatch, RecordError, TimestampType, patch_base_offset, patch_crc,
    patch_leader_epoch, patch_max_timestamp,
};
use bytes::{Bytes, BytesMut};
use kafka_protocol::records as oracle;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Input {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Input {
    fn at(timestamp: i64) -> Self {
        Self { timestamp, key: None, value: None, headers: Vec::new() }
    }
}

fn bytes(max: usize) -> impl Strategy<Value = Option<Vec<u8>>> {
    option::of(vec(any::<u8>(), 0..max))
}

fn input() -> impl Strategy<Value = Input> {
    let headers = vec(("[a-c]{0,2}", bytes(8)), 0..4);
    (0i64..4_000_000_000_000, bytes(40), bytes(300), headers)
        .prop_map(|(timestamp, key, value, headers)| Input { timestamp, key, value, headers })
}

/// Inputs for the other codec, which keeps headers in a map.
fn without_repeated_headers() -> impl Strategy<Value = Vec<Input>> {
    vec(input(), 1..20).prop_map(|mut inputs| {
        for input in &mut inputs {
            input.headers.sort();
            input.headers.dedup_by(|a, b| a.0 == b.0);
        }
        inputs
    })
}

fn codec() -> impl Strategy<Value = Compression> {
    prop::sample::select(Compression::ALL.to_vec())
}

fn headers(input: &Input) -> Vec<Header> {
    let one = |(key, value): &(String, Option<Vec<u8>>)| Header {
        key: key.as_str().into(),
        value: value.clone().map(Bytes::from),
    };
    input.headers.iter().map(one).collect()
}

fn build(codec: Compression, inputs: &[Input]) -> Bytes {
    let mut builder = BatchBuilder::new(codec).producer(ProducerId(7), ProducerEpoch(3), 41);
    for input in inputs {
        let headers = headers(input);
        let before = builder.size();
        builder.append(input.timestamp, input.key.as_deref(), input.value.as_deref(), &headers).unwrap();
        let bound = BatchBuilder::record_size_bound(input.key.as_deref(), input.value.as_deref(), &headers);
        assert!(builder.size() - before <= bound);
    }
    builder.finish().unwrap()
}

fn expected(base: i64, inputs: &[Input]) -> Vec<Record> {
    let one = |(i, input): (usize, &Input)| Record {
        offset: Offset(base + i as i64),
        timestamp: input.timestamp,
        key: input.key.clone().map(Bytes::from),
        value: input.value.clone().map(Bytes::from),
        headers: headers(input),
    };
    inputs.iter().enumerate().map(one).collect()
}

proptest! {
    #[test]
    fn what_is_built_is_read_back(codec in codec(), inputs in vec(input(), 1..30)) {
        let mut batch = build(codec, &inputs).to_vec();
        patch_base_offset(&mut batch, Offset(1000)).unwrap();
        patch_leader_epoch(&mut batch, LeaderEpoch(9)).unwrap();
        let batch = RecordBatch::parse(batch.into()).unwrap();
        batch.check_crc().unwrap();
        let header = batch.header;
        prop_assert_eq!(header.leader_epoch, LeaderEpoch(9));
        prop_assert_eq!(header.record_count as usize, inputs.len());
        prop_assert_eq!(header.last_offset(), Offset(999 + inputs.len() as i64));
        prop_assert_eq!((header.base_sequence, header.last_sequence()), (41, 40 + inputs.len() as i32));
        let records: Vec<_> = batch.records().unwrap().map(Result::unwrap).collect();
        prop_assert_eq!(records, expected(1000, &inputs));
        let summary = batch.check_records(OutputLimit::default(), &mut Vec::new()).unwrap();
        prop_assert_eq!(summary.max_timestamp, header.max_timestamp);
        prop_assert_eq!(summary.max_timestamp, inputs.iter().map(|i| i.timestamp).max().unwrap());
        prop_assert_eq!(summary.min_timestamp, inputs.iter().map(|i| i.timestamp).min().unwrap());
        let keyless = inputs.iter().position(|i| i.key.is_none()).map(|i| i as i32);
        prop_assert_eq!(summary.first_without_key, keyless);
    }

    #[test]
    fn another_decoder_reads_the_same(codec in codec(), inputs in without_repeated_headers()) {
        let mut batch = BytesMut::from(&build(codec, &inputs)[..]);
        let theirs = oracle::RecordBatchDecoder::decode(&mut batch).unwrap().records;
        let theirs: Vec<Record> = theirs.into_iter().map(|r| Record {
            offset: Offset(r.offset),
            timestamp: r.timestamp,
            key: r.key,
            value: r.value,
            headers: r.headers.into_iter().map(|(k, v)| Header { key: k.as_str().into(), value: v }).collect(),
        }).collect();
        prop_assert_eq!(theirs, expected(0, &inputs));
    }

    #[test]
    fn we_read_what_another_encoder_writes(codec in codec(), inputs in without_repeated_headers()) {
        let compression = match codec {
            Compression::None => oracle::Compression::None,
            Compression::Gzip => oracle::Compression::Gzip,
            Compression::Snappy => oracle::Compression::Snappy,
            Compression::Lz4 => oracle::Compression::Lz4,
            Compression::Zstd => oracle::Compression::Zstd,
        };
        let text = |key: &str| kafka_protocol::protocol::StrBytes::from_string(key.to_string());
        let records: Vec<_> = expected(0, &inputs).into_iter().enumerate().map(|(i, r)| oracle::Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: 0,
            producer_id: 7,
            producer_epoch: 3,
            timestamp_type: oracle::TimestampType::Creation,
            offset: r.offset.0,
            sequence: 41 + i as i32,
            timestamp: r.timestamp,
            key: r.key,
            value: r.value,
            headers: r.headers.into_iter().map(|h| (text(&h.key), h.value)).collect(),
        }).collect();
        let mut theirs = BytesMut::new();
        let options = oracle::RecordEncodeOptions { version: 2, compression };
        oracle::RecordBatchEncoder::encode(&mut theirs, &records, &options).unwrap();
        let mut ours = Vec::new();
        for batch in Batches::new(theirs.freeze()) {
            let batch = batch.unwrap();
            batch.check_crc().unwrap();
            batch.check_records(OutputLimit::default(), &mut Vec::new()).unwrap();
            ours.extend(batch.records().unwrap().map(Result::unwrap));
        }
        prop_assert_eq!(ours, expected(0, &inputs));
    }

    #[test]
    fn hostile_bytes_never_panic(codec in codec(), junk in vec(any::<u8>(), 0..400)) {
        drain(Bytes::from(junk.clone()), codec);
        // The same junk as the records of a sound header.
        let mut batch = build(codec, &[])[..HEADER_LEN].to_vec();
        batch.extend_from_slice(&junk);
        let length = (batch.len() - 12) as i32;
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
        patch_crc(&mut batch).unwrap();
        drain(Bytes::from(batch), codec);
    }

    #[test]
    fn a_flipped_byte_is_caught(
        codec in codec(),
        inputs in vec(input(), 1..5),
        at in any::<prop::sample::Index>(),
        flip in 1u8..,
    ) {
        let mut batch = build(codec, &inputs).to_vec();
        let at = 16 + at.index(batch.len() - 16);
        batch[at] ^= flip;
        drain(Bytes::from(batch.clone()), codec);
        let caught = match RecordBatch::parse(batch.into()) {
            Ok(batch) => batch.check_crc().is_err(),
            Err(_) => true,
        };
        prop_assert!(caught, "byte {}", at);
    }

    #[test]
    fn a_walk_ends_at_a_cut(codec in codec(), inputs in vec(input(), 2..6), cut in any::<prop::sample::Index>()) {
        let (first, second) = (build(codec, &inputs[..1]), build(codec, &inputs[1..]));
        let mut both = BytesMut::from(&first[..]);
        both.extend_from_slice(&second[..cut.index(second.len())]);
        let mut walk = Batches::new(both.freeze());
        prop_assert_eq!(walk.next().unwrap().unwrap().bytes, first);
        prop_assert_eq!(walk.next(), None);
    }
}

/// Reads everything that can be read, as far as it can.
fn drain(bytes: Bytes, codec: Compression) {
    let limit = OutputLimit { ratio: 1, extra: 1 << 20 };
    for batch in Batches::new(bytes.clone()).flatten() {
        let _ = batch.check_crc();
        if let Ok(records) = batch.records_within(limit) {
            records.take_while(Result::is_ok).for_each(drop);
        }
        let mut scratch = Vec::new();
        let _ = batch.check_records(limit, &mut scratch);
        assert!(scratch.capacity() < 8 << 20);
    }
    let mut out = Vec::new();
    let _ = codec.decompress(&bytes, limit, &mut out);
    assert!(out.capacity() < 8 << 20);
}

#[test]
fn log_append_time_stamps_every_record() {
    let mut batch = build(Compression::Gzip, &[5, 9, 7].map(Input::at)).to_vec();
    patch_max_timestamp(&mut batch, TimestampType::LogAppendTime, 1234).unwrap();
    let batch = RecordBatch::parse(batch.into()).unwrap();
    batch.check_crc().unwrap();
    assert_eq!(batch.header.attributes.timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!(batch.header.attributes.compression(), Ok(Compression::Gzip));
    assert!(batch.records().unwrap().all(|r| r.unwrap().timestamp == 1234));
}

#[test]
fn repeated_header_keys_are_kept_in_order() {
    let pair = |value: &'static [u8]| Header { key: "same".into(), value: Some(Bytes::from_static(value)) };
    let headers = vec![pair(b"1"), pair(b"2"), Header { key: "same".into(), value: None }];
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(0, None, None, &headers).unwrap();
    let batch = RecordBatch::parse(builder.finish().unwrap()).unwrap();
    assert_eq!(batch.records().unwrap().next().unwrap().unwrap().headers, headers);
}

#[test]
fn uncompressed_records_are_slices_of_the_batch() {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(0, Some(b"key"), Some(b"value"), &[]).unwrap();
    let batch = RecordBatch::parse(builder.finish().unwrap()).unwrap();
    let record = batch.records().unwrap().next().unwrap().unwrap();
    let inside = batch.bytes.as_ptr_range();
    assert!(
        inside.contains(&record.value.unwrap().as_ptr()) && inside.contains(&record.key.unwrap().as_ptr())
    );
}

#[test]
fn corrupt_and_cut_short_are_told_apart() {
    let sound = build(Compression::None, &[]);
    let mut old = sound.to_vec();
    old[16] = 1;
    let mut walk = Batches::new(old.into());
    assert_eq!(walk.next(), Some(Err(RecordError::UnsupportedMagic { magic: 1, base_offset: 0 })));
    assert_eq!(walk.next(), None);

    let mut negative = sound.to_vec();
    negative[8] = 0xff;
    assert!(matches!(Batches::new(negative.into()).next(), Some(Err(RecordError::BadLength { .. }))));

    let mut walk = Batches::new(sound.slice(..40));
    assert_eq!(walk.next(), None);
    assert_eq!(walk.rest().len(), 40);
    assert!(matches!(BatchHeader::parse(&sound[..40]), Err(RecordError::Truncated { .. })));
}

#[test]
fn counts_and_offsets_that_lie_are_caught() {
    let sound = build(Compression::Lz4, &[1, 2].map(Input::at));
    let check = |at: usize, value: i32| {
        let mut batch = sound.to_vec();
        batch[at..at + 4].copy_from_slice(&value.to_be_bytes());
        RecordBatch::parse(batch.into()).unwrap().check_records(OutputLimit::default(), &mut Vec::new())
    };
    assert!(check(57, 2).is_ok());
    assert!(matches!(check(57, 3), Err(RecordError::WrongCount { declared: 3, found: 2, .. })));
    assert!(matches!(check(23, 5), Err(RecordError::WrongCount { .. })));

    let mut builder = BatchBuilder::new(Compression::None);
    builder.append_at(3, 0, None, None, &[]).unwrap();
    let batch = RecordBatch::parse(builder.finish().unwrap()).unwrap();
    let error = batch.check_records(OutputLimit::default(), &mut Vec::new()).unwrap_err();
    assert!(matches!(error, RecordError::WrongOffsetDelta { index: 0, found: 3, .. }));
}

#[test]
fn transaction_markers_round_trip() {
    let marker = EndTransactionMarker { committed: true, coordinator_epoch: 5 };
    let batch = BatchBuilder::end_transaction(ProducerId(1), ProducerEpoch(2), 3, marker).finish().unwrap();
    let batch = RecordBatch::parse(batch).unwrap();
    let attributes = batch.header.attributes;
    assert!(attributes.is_control() && attributes.is_transactional());
    let record = batch.records().unwrap().next().unwrap().unwrap();
    assert_eq!(EndTransactionMarker::parse(&record), Ok(Some(marker)));
    assert_eq!(attributes.with_control(false).with_transactional(false), Attributes(0));
}
