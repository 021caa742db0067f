//! A clock that is set forward and back: what goes by it neither stops nor runs wild.
#![allow(clippy::unwrap_used)]

mod common;

use aqueduct_protocol::ids::Offset;
use aqueduct_protocol::records::Compression;
use aqueduct_storage::{Error, Log, LogConfig};
use common::*;

const DAY: i64 = 24 * 60 * 60 * 1000;

fn config() -> LogConfig {
    LogConfig { segment_bytes: 2000, segment_ms: DAY, retention_ms: 7 * DAY, ..LogConfig::default() }
}

/// One batch with the clock's own time.
fn write(log: &Log, now: i64) {
    append_at(log, batch(Compression::None, 0..10, now), now).unwrap();
}

#[test]
fn a_step_forward_rolls_once_and_a_step_back_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let log = create(dir.path(), config());
    write(&log, NOW);
    write(&log, NOW + 30 * DAY);
    assert_eq!(log.segments(), 2);
    write(&log, NOW + 30 * DAY);
    write(&log, NOW);
    write(&log, NOW - 30 * DAY);
    assert_eq!(log.segments(), 2);
    assert_eq!(log.log_end_offset(), Offset(50));
}

#[test]
fn retention_goes_by_the_records_and_spares_what_the_future_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let log = create(dir.path(), config());
    for _ in 0..20 {
        write(&log, NOW);
    }
    // Set back by a year: nothing is older than that.
    assert_eq!(log.apply_retention(NOW - 365 * DAY).unwrap(), 0);
    assert_eq!(log.apply_retention(NOW + DAY).unwrap(), 0);
    // Set forward and back: what was written meanwhile is not deleted before its time, and holds back what follows.
    let dir = tempfile::tempdir().unwrap();
    let log = create(dir.path(), config());
    write(&log, NOW + 300 * DAY);
    for _ in 0..20 {
        write(&log, NOW);
    }
    assert_eq!(log.apply_retention(NOW + 8 * DAY).unwrap(), 0);
    assert!(log.apply_retention(NOW + 308 * DAY).unwrap() > 0);
}

#[test]
fn files_are_removed_after_their_delay_however_the_clock_was_set_back() {
    let dir = tempfile::tempdir().unwrap();
    let log = create(dir.path(), LogConfig { retention_bytes: 100, ..config() });
    for _ in 0..20 {
        write(&log, NOW);
    }
    assert!(log.apply_retention(NOW + 300 * DAY).unwrap() > 0);
    assert_eq!(log.reap(NOW).unwrap(), 0);
    assert!(log.reap(NOW + 60_000).unwrap() > 0);
    assert!(files(dir.path(), ".deleted").is_empty());
}

#[test]
fn flushes_come_at_their_interval_after_the_clock_was_set_back() {
    let dir = tempfile::tempdir().unwrap();
    let log = create(dir.path(), LogConfig { flush_ms: 1000, ..config() });
    write(&log, NOW + 300 * DAY);
    log.flush_if_due(NOW + 300 * DAY + 1000).unwrap();
    assert_eq!(log.recovery_point(), Offset(10));
    write(&log, NOW);
    log.flush_if_due(NOW).unwrap();
    assert_eq!(log.recovery_point(), Offset(10));
    log.flush_if_due(NOW + 1000).unwrap();
    assert_eq!(log.recovery_point(), Offset(20));
}

#[test]
fn times_are_found_though_they_do_not_rise() {
    let dir = tempfile::tempdir().unwrap();
    let log = create(dir.path(), config());
    for step in [0, 5, -3, 9, -9, 2] {
        write(&log, NOW + step * 60_000);
    }
    let found = |minutes: i64| log.offset_for_timestamp(NOW + minutes * 60_000).unwrap().map(|f| f.offset.0);
    assert_eq!(
        (found(-20), found(1), found(6), found(9), found(10)),
        (Some(0), Some(10), Some(30), Some(30), None)
    );
}

#[test]
fn a_producer_ahead_of_a_clock_that_was_set_back_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let log = create(dir.path(), config());
    let ahead = batch(Compression::None, 0..1, NOW);
    let refused = append_at(&log, ahead.clone(), NOW - DAY).unwrap_err();
    assert!(matches!(refused, Error::InvalidTimestamp { .. }), "{refused}");
    append_at(&log, ahead, NOW).unwrap();
}
