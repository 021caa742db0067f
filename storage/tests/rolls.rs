//! When segments are closed, and when what was appended reaches the disk for certain.
#![allow(clippy::unwrap_used)]

mod common;

use aqueduct_protocol::ids::Offset;
use aqueduct_protocol::records::{BatchBuilder, Compression, NO_TIMESTAMP};
use aqueduct_storage::{Log, LogConfig};
use common::*;

fn far(offset: i64) -> bytes::Bytes {
    let builder = BatchBuilder::new(Compression::None).base_offset(Offset(offset)).leader_epoch(EPOCH);
    filled(builder, 0..1, NOW)
}

/// Milliseconds after the first append at which a second one, made then, closes the segment.
fn rolls_after(log: &Log, longest: i64) -> i64 {
    let end = log.log_end_offset().0;
    append_at(log, batch(Compression::None, 0..1, NOW + end), NOW).unwrap();
    let segments = log.segments();
    (0..=longest + 1)
        .find(|after| {
            append_at(log, batch(Compression::None, 0..1, NOW + end + after), NOW + after).unwrap();
            log.segments() > segments
        })
        .unwrap()
}

#[test]
fn records_without_timestamps_roll_by_the_clock() {
    let dir = tempfile::tempdir().unwrap();
    let log = create(dir.path(), LogConfig { segment_ms: 10_000, ..LogConfig::default() });
    for (time, segments) in [(0, 1), (10_000, 1), (10_001, 2), (20_001, 2), (20_002, 3)] {
        append_at(&log, batch(Compression::None, 0..1, NO_TIMESTAMP), NOW + time).unwrap();
        assert_eq!(log.segments(), segments, "{time}");
    }
    // Whatever the clock says, records with timestamps count.
    let dir = tempfile::tempdir().unwrap();
    let log = create(dir.path(), LogConfig { segment_ms: 10_000, ..LogConfig::default() });
    for hour in 0..3 {
        append_at(&log, batch(Compression::None, 0..1, NOW), NOW + hour * 3_600_000).unwrap();
    }
    assert_eq!(log.segments(), 1);
}

#[test]
fn jitter_closes_a_segment_earlier_and_each_at_its_own_time() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { segment_ms: 60, segment_jitter_ms: 40, ..LogConfig::default() };
    let log = create(dir.path(), config);
    let ages: Vec<i64> = (0..12).map(|_| rolls_after(&log, 60)).collect();
    assert!(ages.iter().all(|age| (20..=61).contains(age)), "{ages:?}");
    let mut distinct = ages.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert!(distinct.len() > 4, "{ages:?}");
    // No more jitter than there is age.
    log.set_config(LogConfig { segment_ms: 20, segment_jitter_ms: 1000, ..LogConfig::default() });
    assert!(rolls_after(&log, 20) <= 21);
}

#[test]
fn a_segment_is_closed_in_time_to_be_compacted() {
    let dir = tempfile::tempdir().unwrap();
    let lag = LogConfig { max_compaction_lag_ms: 50, ..LogConfig::default() };
    let log = create(dir.path(), LogConfig { compact: true, ..lag.clone() });
    assert_eq!(rolls_after(&log, 60), 51);
    let dir = tempfile::tempdir().unwrap();
    let log = create(dir.path(), LogConfig { segment_ms: 80, ..lag });
    assert_eq!(rolls_after(&log, 90), 81, "the topic is not compacted");
}

#[test]
fn offsets_that_leap_too_far_begin_a_segment_even_after_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    let log = create(dir.path(), LogConfig::default());
    let offset = i64::from(i32::MAX) + 7;
    log.append_as_follower(far(offset), EPOCH, NOW).unwrap();
    assert_eq!(log.segments(), 2);
    log.close().unwrap();
    for clean in [true, false] {
        let log = reopen(dir.path(), LogConfig::default(), clean);
        assert_eq!(log.log_end_offset(), Offset(offset + 1));
        assert_eq!(read_all(&log, Offset(0), 100).len(), 1);
    }
}

#[test]
fn what_was_appended_reaches_the_disk_by_count_by_time_and_when_a_segment_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let log = create(dir.path(), LogConfig { flush_messages: 10, flush_ms: 1000, ..LogConfig::default() });
    for (records, flushed) in [(4, 0), (5, 0), (1, 10), (9, 10), (3, 22)] {
        append(&log, batch(Compression::None, 0..records, NOW)).unwrap();
        assert_eq!(log.recovery_point(), Offset(flushed));
    }
    append(&log, batch(Compression::None, 0..1, NOW)).unwrap();
    log.flush_if_due(NOW + 999).unwrap();
    assert_eq!(log.recovery_point(), Offset(22));
    log.flush_if_due(NOW + 1000).unwrap();
    assert_eq!(log.recovery_point(), Offset(23));

    let dir = tempfile::tempdir().unwrap();
    let log = create(dir.path(), LogConfig { flush_messages: 2, ..LogConfig::default() });
    for (offset, flushed) in [(0, 0), (1, 2), (2, 2), (3, 4)] {
        log.append_as_follower(far(offset), EPOCH, NOW).unwrap();
        assert_eq!(log.recovery_point(), Offset(flushed));
    }

    let dir = tempfile::tempdir().unwrap();
    let log = create(dir.path(), LogConfig { segment_bytes: 500, ..LogConfig::default() });
    let rolled =
        (0..20).filter(|_| append(&log, batch(Compression::None, 0..5, NOW)).unwrap().rolled).count();
    assert!(rolled > 3);
    assert_eq!(log.recovery_point(), Offset(0));
    let point = log.flush_closed_segments().unwrap();
    assert!(point > Offset(50) && point < Offset(100), "{point}");
    assert_eq!(log.recovery_point(), point);
}

#[test]
fn silent_producers_are_forgotten_and_open_transactions_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let log = create(dir.path(), LogConfig::default());
    append(&log, idempotent(1, 0, 0, 0..3, NOW)).unwrap();
    let open = BatchBuilder::new(Compression::None).transactional(true);
    let open =
        open.producer(aqueduct_protocol::ids::ProducerId(2), aqueduct_protocol::ids::ProducerEpoch(0), 0);
    append(&log, filled(open, 0..3, NOW)).unwrap();
    let known = |log: &Log| log.active_producers().iter().map(|p| p.id.0).collect::<Vec<_>>();
    log.expire_producers(NOW + 999, 1000);
    assert_eq!(known(&log), [1, 2]);
    log.expire_producers(NOW + 1000, 1000);
    assert_eq!(known(&log), [2]);
    assert!(append(&log, idempotent(1, 0, 77, 0..1, NOW)).is_ok(), "a forgotten producer may begin anywhere");
}
