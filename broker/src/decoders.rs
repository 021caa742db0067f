//! Doors for the fuzzer: decoders of bytes from outside that nobody else calls from outside.

use std::path::Path;

use bytes::{BufMut, Bytes, BytesMut};

use crate::coordinator::{Record, TransactionRecord, embedded, subscribed_topics};
use crate::metadata::{JOURNAL_FILE_NAME, LocalMetadata, MetadataBackend};

/// Reads a record of `__consumer_offsets`. What is written of it reads the same from then on; the metadata of topics that
/// older brokers kept there is only ever removed, so that its content is lost the first time.
pub fn offsets_record(key: Bytes, value: Option<Bytes>) {
    let again = |record: &Record| {
        let (Ok(key), Ok(value)) = (record.key(), record.value()) else { return None };
        Some(Record::decode(key, value).expect("what was written can be read").expect("it is known"))
    };
    let Ok(Some(first)) = Record::decode(key, value) else { return };
    let Some(second) = again(&first) else { return };
    assert_eq!(again(&second), Some(second));
}

/// Reads a record of `__transaction_state`. What is written of it reads the same from then on; what its version or its
/// state has no place for is lost the first time.
pub fn transaction_record(key: Bytes, value: Option<Bytes>) {
    let again = |record: &TransactionRecord| {
        let (Ok(key), Ok(value)) = (record.key(), record.value(1)) else { return None };
        Some(
            TransactionRecord::decode(key, value)
                .expect("what was written can be read")
                .expect("it is known"),
        )
    };
    let Ok(Some(first)) = TransactionRecord::decode(key, value) else { return };
    let Some(second) = again(&first) else { return };
    assert_eq!(again(&second), Some(second));
}

/// Reads what members of classic groups tell each other: subscriptions and assignments.
pub fn member_bytes(bytes: &Bytes) {
    let _ = embedded::version(bytes);
    let topics = subscribed_topics(bytes);
    if let (Some(subscription), Some(topics)) = (embedded::read_subscription(bytes), topics) {
        assert!(topics.iter().all(|topic| subscription.topics.contains(topic)), "both find the same topics");
    }
    let _ = embedded::read_assignment(bytes);
}

/// Opens a journal of the metadata in an empty directory that holds `content`: entries in frames, whose checksums are
/// made here, or with `is_raw` the bytes of the file. What opens once opens again, with the same content.
pub fn journal(dir: &Path, content: &[&[u8]], is_raw: bool) {
    const CLUSTER: &str = "c";
    let mut file = BytesMut::new();
    if !is_raw {
        file.put_slice(b"AQMETA01");
        file.put_u16(CLUSTER.len() as u16);
        file.put_slice(CLUSTER.as_bytes());
    }
    for part in content {
        if !is_raw {
            file.put_u32(part.len() as u32);
            file.put_u32(crc32c::crc32c(part));
        }
        file.put_slice(part);
    }
    std::fs::write(dir.join(JOURNAL_FILE_NAME), &file).expect("a file can be written");
    let Ok(first) = LocalMetadata::open(dir, CLUSTER) else { return };
    let image = first.image();
    drop(first);
    let second = LocalMetadata::open(dir, CLUSTER).expect("it opened before");
    assert_eq!(second.image(), image);
}

#[cfg(test)]
mod tests {
    use aqueduct_protocol::ids::{ProducerId, Uuid};

    use super::*;
    use crate::metadata::Record as MetadataRecord;

    /// The bytes with each one changed in turn, and cut at each.
    fn spoilt(good: &[u8]) -> Vec<Vec<u8>> {
        let changed = (0..good.len()).flat_map(|at| {
            [1u8, 0x7f, 0x80, 0xff].map(|bits| {
                let mut bytes = good.to_vec();
                bytes[at] ^= bits;
                bytes
            })
        });
        changed.chain((0..=good.len()).map(|at| good[..at].to_vec())).collect()
    }

    #[test]
    fn damaged_records_of_transactions_are_refused_or_read() {
        let key = Bytes::from_static(b"\0\0\0\x02tx");
        let mut value = vec![0, 0];
        value.extend(7i64.to_be_bytes());
        value.extend(3i16.to_be_bytes());
        value.extend(60_000i32.to_be_bytes());
        value.push(1);
        value.extend(1i32.to_be_bytes());
        value.extend(b"\0\x01t");
        value.extend(1i32.to_be_bytes());
        value.extend(5i32.to_be_bytes());
        value.extend([0; 16]);
        let read = TransactionRecord::decode(key.clone(), Some(value.clone().into())).unwrap().unwrap();
        assert_eq!(read.value.unwrap().producer, ProducerId(7));
        for bytes in spoilt(&value) {
            transaction_record(key.clone(), Some(bytes.into()));
        }
        spoilt(&key).into_iter().for_each(|key| transaction_record(key.into(), Some(value.clone().into())));
    }

    #[test]
    fn damaged_bytes_of_members_are_refused_or_read() {
        let subscription =
            b"\0\x01\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff\0\0\0\x01\0\x01a\0\0\0\x01\0\0\0\x03";
        assert!(embedded::read_subscription(&Bytes::from_static(subscription)).is_some());
        spoilt(subscription).into_iter().for_each(|bytes| member_bytes(&bytes.into()));
    }

    #[test]
    fn damaged_journals_are_refused_or_read() {
        let dir = tempfile::tempdir().unwrap();
        let mut good = BytesMut::new();
        MetadataRecord::ProducerIds { next: 7 }.encode(&mut good);
        let ids = good.len();
        good.put_slice(&[10, 0]);
        good.put_slice(&Uuid([1; 16]).0);
        good.put_slice(b"\0\0\0\x01\0\0\0\x01\0\0\0\0");
        good.put_slice(&Uuid([2; 16]).0);
        for bytes in spoilt(&good).into_iter().step_by(5) {
            journal(dir.path(), &[&good[..ids], &bytes], false);
        }
        journal(dir.path(), &[b"AQMETA01\0\x01c"], true);
        spoilt(b"AQMETA01\0\x01c").iter().step_by(3).for_each(|bytes| journal(dir.path(), &[bytes], true));
    }
}
