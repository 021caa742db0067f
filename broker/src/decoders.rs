//! Doors for the fuzzer: decoders of bytes from outside that nobody else calls from outside.

use bytes::Bytes;

use crate::coordinator::Record;

/// Reads a record of `__consumer_offsets`. What it holds can be written, and reads the same again.
pub fn offsets_record(key: Bytes, value: Option<Bytes>) {
    let Ok(Some(record)) = Record::decode(key, value) else { return };
    let (Ok(key), Ok(value)) = (record.key(), record.value()) else { return };
    let again = Record::decode(key, value).expect("what was written can be read");
    assert_eq!(again, Some(record));
}
