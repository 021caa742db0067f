//! Records that coordinators and the metadata read back: from internal topics, which anybody with the right may write to,
//! and from the journal. What members tell each other within them, too.

#![no_main]

use aqueduct_broker::{decoders, metadata::Record};
use aqueduct_fuzz::{Seeds, join, part};
use aqueduct_protocol::messages::{
    ConsumerProtocolSubscription, GroupMetadataKey, GroupMetadataValue, OffsetCommitKey, OffsetCommitValue,
    group_metadata_value::MemberMetadata,
};
use aqueduct_protocol::{Decode, Encode};
use bytes::{BufMut as _, Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;

fn versioned(message: &impl Encode, prefix: i16, version: i16) -> Vec<u8> {
    let mut out = BytesMut::new();
    out.put_i16(prefix);
    message.encode(&mut out, version).expect("a good record");
    out.to_vec()
}

fuzz_target!(
    init: {
        let mut seeds = Seeds::new();
        let offset = OffsetCommitKey { group: "g".into(), topic: "t".into(), partition: 3, ..Default::default() };
        for version in 0..=4 {
            let value = OffsetCommitValue { offset: 7, metadata: "m".into(), ..Default::default() };
            let value = OffsetCommitValue { expire_timestamp: -1, ..value };
            seeds.put(&join(&[b"\x00", &versioned(&offset, 1, 0), &versioned(&value, version, version)]));
        }
        let group = GroupMetadataKey { group: "g".into(), ..Default::default() };
        let member = MemberMetadata { member_id: "m".into(), ..Default::default() };
        let value = GroupMetadataValue { protocol_type: "consumer".into(), members: vec![member], ..Default::default() };
        seeds.put(&join(&[b"\x00", &versioned(&group, 2, 0), &versioned(&value, 3, 3)]));
        let mut journal = BytesMut::new();
        Record::ProducerIds { next: 1000 }.encode(&mut journal);
        seeds.put(&join(&[b"\x01", &journal]));
    },
    |data: &[u8]| {
        let mut rest = data;
        let Some(kind) = part(&mut rest).first() else { return };
        let first = Bytes::copy_from_slice(part(&mut rest));
        let second = Bytes::copy_from_slice(part(&mut rest));
        match kind % 3 {
            0 => decoders::offsets_record(first, (kind / 3 == 0).then_some(second)),
            1 => {
                let mut bytes = first;
                while let Some(record) = Record::decode(&mut bytes) {
                    let mut written = BytesMut::new();
                    record.encode(&mut written);
                    assert_eq!(Record::decode(&mut written.freeze()), Some(record));
                    if bytes.is_empty() {
                        break;
                    }
                }
            }
            _ => {
                for version in 0..=3 {
                    let _ = ConsumerProtocolSubscription::decode(&mut first.clone(), version);
                }
            }
        }
    }
);
