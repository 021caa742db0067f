//! Doors for the fuzzer: decoders of records of the internal topics, which anybody with the right may write to.

use bytes::Bytes;

use crate::config_state::ConfigRecord;
use crate::offsets::OffsetState;
use crate::status::StatusState;

/// Reads a record of the config topic. What it holds can be written, and reads the same again.
pub fn config_record(key: &[u8], value: Option<&[u8]>) {
    let Ok(Some(record)) = ConfigRecord::parse(key, value) else { return };
    let Some(written) = record.value() else { return };
    let again = ConfigRecord::parse(record.key().as_bytes(), Some(written.as_bytes()));
    assert_eq!(again, Ok(Some(record)));
}

/// Reads a record of the status topic.
pub fn status_record(key: &[u8], value: Option<&[u8]>) {
    let mut state = StatusState::default();
    let _ = state.apply(key, value);
    let _ = state.apply(key, value);
}

/// Reads a record of the offsets topic.
pub fn offsets_record(key: &Bytes, value: Option<&[u8]>) {
    let mut state = OffsetState::default();
    if state.apply(key, value).is_ok() {
        state.apply(key, None).expect("the key was read before");
    }
}
