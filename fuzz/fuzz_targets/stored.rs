//! Records that coordinators and the metadata read back: from internal topics, which anybody with the right may write to,
//! and from the journal. What members tell each other within them, too: consumers, and workers.

#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use aqueduct_broker::{decoders, metadata::Record};
use aqueduct_connect_worker::decoders as worker;
use aqueduct_connect_worker::membership::blob::{Assignment, Metadata};
use aqueduct_fuzz::{Seeds, join, part};
use aqueduct_protocol::messages::consumer_group_current_member_assignment_value::TopicPartitions;
use aqueduct_protocol::messages::{
    ConsumerGroupCurrentMemberAssignmentKey, ConsumerGroupCurrentMemberAssignmentValue,
    ConsumerGroupMemberMetadataKey, ConsumerGroupMemberMetadataValue, ConsumerGroupMetadataKey,
    ConsumerGroupMetadataValue, ConsumerProtocolSubscription, GroupMetadataKey, GroupMetadataValue,
    OffsetCommitKey, OffsetCommitValue, TransactionLogKey, TransactionLogValue,
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

static ROOT: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }
        .expect("a folder for the journal can be made")
});

/// Kinds of bytes, as the first byte of an input says.
const KINDS: u8 = 10;

fn seeds_of_consumer_groups(seeds: &mut Seeds) {
    let (group, member) = (|| "g".into(), || "m".into());
    let key = ConsumerGroupMetadataKey { group_id: group() };
    let value = ConsumerGroupMetadataValue { epoch: 3, ..Default::default() };
    seeds.put(&join(&[b"\x00", &versioned(&key, 3, 0), &versioned(&value, 0, 0)]));
    let key = ConsumerGroupMemberMetadataKey { group_id: group(), member_id: member() };
    let value =
        ConsumerGroupMemberMetadataValue { subscribed_topic_names: vec!["t".into()], ..Default::default() };
    seeds.put(&join(&[b"\x00", &versioned(&key, 5, 0), &versioned(&value, 0, 0)]));
    let key = ConsumerGroupCurrentMemberAssignmentKey { group_id: group(), member_id: member() };
    let partitions = TopicPartitions { partitions: vec![0, 1], ..Default::default() };
    let value = ConsumerGroupCurrentMemberAssignmentValue {
        member_epoch: 3,
        assigned_partitions: vec![partitions],
        ..Default::default()
    };
    seeds.put(&join(&[b"\x00", &versioned(&key, 8, 0), &versioned(&value, 0, 0)]));
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
        seeds.put(&join(&[b"\x04", &journal, &journal]));
        seeds_of_consumer_groups(&mut seeds);
        let key = TransactionLogKey { transactional_id: "t".into() };
        for version in 0..=1 {
            let value = TransactionLogValue { producer_id: 7, transaction_status: 1, ..Default::default() };
            seeds.put(&join(&[b"\x03", &versioned(&key, 0, 0), &versioned(&value, version, version)]));
        }
        let subscription = ConsumerProtocolSubscription { topics: vec!["t".into()], ..Default::default() };
        seeds.put(&join(&[b"\x02", &versioned(&subscription, 1, 1)]));
        seeds.put(&join(&[b"\x06", b"connector-c", br#"{"properties":{"name":"c","connector.class":"FileStreamSource"}}"#]));
        seeds.put(&join(&[b"\x06", b"task-c-0", br#"{"properties":{"task.class":"x"}}"#]));
        seeds.put(&join(&[b"\x06", b"commit-c", br#"{"tasks":1}"#]));
        seeds.put(&join(&[b"\x06", b"target-state-c", br#"{"state":"PAUSED","state.v2":"STOPPED"}"#]));
        seeds.put(&join(&[b"\x06", b"session-key", br#"{"key":"AAAA","algorithm":"HmacSHA256","creation-timestamp":1}"#]));
        seeds.put(&join(&[b"\x06", b"restart-connector-c", br#"{"include-tasks":true,"only-failed":false}"#]));
        seeds.put(&join(&[b"\x06", b"logger-cluster-a.b", br#"{"level":"INFO"}"#]));
        seeds.put(&join(&[b"\x07", b"status-task-c-0", br#"{"state":"RUNNING","trace":null,"worker_id":"w","generation":1}"#]));
        seeds.put(&join(&[b"\x07", b"status-topic-t:connector-c", br#"{"topic":{"name":"t","connector":"c","task":0,"discoverTimestamp":1}}"#]));
        seeds.put(&join(&[b"\x08", br#"["c",{"filename":"f"}]"#, br#"{"position":3}"#]));
        seeds.put(&join(&[b"\x09", &Assignment::empty("l", "http://l", 3).encode(1)]));
    },
    |data: &[u8]| {
        let mut rest = data;
        let Some(kind) = part(&mut rest).first() else { return };
        let first = Bytes::copy_from_slice(part(&mut rest));
        let second = Bytes::copy_from_slice(part(&mut rest));
        let (kind, has_value) = (kind % KINDS, kind / KINDS == 0);
        match kind {
            0 => decoders::offsets_record(first, has_value.then_some(second)),
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
            2 => {
                for version in 0..=3 {
                    let _ = ConsumerProtocolSubscription::decode(&mut first.clone(), version);
                }
                decoders::member_bytes(&first);
            }
            3 => decoders::transaction_record(first, has_value.then_some(second)),
            4 | 5 => {
                let third = part(&mut rest);
                decoders::journal(ROOT.path(), &[&first, &second, third], kind == 5);
            }
            6 => worker::config_record(&first, has_value.then_some(&*second)),
            7 => worker::status_record(&first, has_value.then_some(&*second)),
            8 => worker::offsets_record(&first, has_value.then_some(&*second)),
            _ => {
                if let Ok(assignment) = Assignment::decode(&first) {
                    let written = assignment.encode(1);
                    assert_eq!(Assignment::decode(&written).expect("what was written can be read").encode(1), written);
                }
                let _ = Metadata::decode(&first);
            }
        }
    }
);
