//! Bytes that lie: no panic, and no memory for lengths that are only claimed.

use bytes::{Bytes, BytesMut};

use aqueduct_protocol::messages::{MetadataRequest, ProduceRequest};
use aqueduct_protocol::{Decode as _, DecodeError};

use crate::random::Random;
use crate::{CODECS, cases};

/// The most address space that this process ever had, in KiB.
fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmPeak:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Runs `test` and fails when it reserved memory far beyond its input.
fn within_memory(test: impl FnOnce()) {
    let before = peak_kib();
    test();
    if let (Some(before), Some(after)) = (before, peak_kib()) {
        assert!(after - before < 1024 * 1024, "{} KiB of address space more", after - before);
    }
}

#[test]
fn a_claimed_count_reserves_nothing() {
    within_memory(|| {
        // No transactional id, acks, timeout, and 2^31-1 topics.
        let body = Bytes::from_static(b"\xff\xff\x00\x01\x00\x00\x00\x00\x7f\xff\xff\xff");
        assert_eq!(
            ProduceRequest::decode(&mut body.clone(), 3),
            Err(DecodeError::BadLength { field: "ProduceRequest.TopicData", length: 2_147_483_647, left: 0 })
        );
        let body = Bytes::from_static(b"\xff\xff\xff\xff\x0f");
        assert!(matches!(
            MetadataRequest::decode(&mut body.clone(), 12),
            Err(DecodeError::BadLength { field: "MetadataRequest.Topics", .. })
        ));
    });
}

#[test]
fn every_cut_of_a_message_is_an_error() {
    for case in cases(2) {
        for length in 0..case.bytes.len() {
            let decoded = (case.codec.decodes)(case.bytes.slice(..length), case.version);
            assert!(!decoded, "{case}: decodes from {length} of {} bytes", case.bytes.len());
        }
    }
}

#[test]
fn damaged_messages_neither_panic_nor_allocate() {
    within_memory(|| {
        for case in cases(4) {
            let mut random = Random::new(case.seed);
            for _ in 0..20 {
                let mut bytes = BytesMut::from(&case.bytes[..]);
                for _ in 0..=random.below(3) {
                    if bytes.is_empty() {
                        break;
                    }
                    let at = random.below(bytes.len());
                    bytes[at] = [0, 0x7f, 0x80, 0xff, random.next() as u8][random.below(5)];
                }
                (case.codec.decodes)(bytes.freeze(), case.version);
            }
        }
    });
}

#[test]
fn noise_neither_panics_nor_allocates() {
    within_memory(|| {
        let mut random = Random::new(1);
        for codec in CODECS {
            for version in codec.versions.clone() {
                for length in [0, 1, 7, 64, 500] {
                    for fill in [None, Some(0), Some(0x7f), Some(0xff)] {
                        let byte = |_| fill.unwrap_or_else(|| random.next() as u8);
                        let noise: Vec<u8> = (0..length).map(byte).collect();
                        (codec.decodes)(noise.into(), version);
                    }
                }
            }
        }
    });
}
