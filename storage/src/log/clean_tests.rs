//! Crashes and interruptions of a cleaning.

use std::fs;
use std::path::Path;

use aqueduct_protocol::ids::{LeaderEpoch, ProducerEpoch, ProducerId};
use aqueduct_protocol::records::{BatchBuilder, Batches, Compression, EndTransactionMarker};

use super::*;
use crate::{AbortedTransaction, LogConfig, Origin, Recovery, TopicPartition};

const NOW: i64 = 1_700_000_000_000;
const NAME: &str = "compacted-0";
const LIMITS: CleanerLimits = CleanerLimits { dedupe_bytes: 1 << 20, load_factor: 0.9, io_bytes: 500 };

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 1500,
        index_interval_bytes: 100,
        min_cleanable_dirty_ratio: 0.0,
        retention_ms: -1,
        delete: false,
        compact: true,
        ..LogConfig::default()
    }
}

/// Several small segments of a few keys, tombstones among them, and transactions, every third of them aborted.
fn filled(dir: &Path) -> Log {
    let log = Log::create(dir, &TopicPartition::new("compacted", 0), None, config(), NOW).unwrap();
    for n in 0..40i32 {
        let mut builder = BatchBuilder::new(Compression::ALL[n as usize % 5])
            .producer(ProducerId(7), ProducerEpoch(0), n * 3)
            .transactional(true);
        for i in 0..3 {
            let key = format!("key-{}", (n * 3 + i) % 8);
            let value = format!("value {n} {i} of some length, so that segments fill");
            let value = (n % 7 != 3).then_some(value.as_bytes());
            builder.append(NOW + i64::from(n), Some(key.as_bytes()), value, &[]).unwrap();
        }
        log.append_as_leader(builder.finish().unwrap(), LeaderEpoch(n / 10), Origin::Client, NOW).unwrap();
        let marker = EndTransactionMarker { committed: n % 3 != 0, coordinator_epoch: 0 };
        let marker = BatchBuilder::end_transaction(ProducerId(7), ProducerEpoch(0), NOW, marker);
        let marker = marker.finish().unwrap();
        log.append_as_leader(marker, LeaderEpoch(n / 10), Origin::Coordinator, NOW).unwrap();
    }
    log.set_high_watermark(log.log_end_offset());
    assert!(log.segments() > 5, "{}", log.segments());
    log
}

/// All bytes from the beginning, and all that was aborted.
fn content(log: &Log) -> (Vec<u8>, Vec<AbortedTransaction>) {
    let (mut next, mut bytes, mut aborted) = (log.log_start_offset(), Vec::new(), Vec::new());
    loop {
        let (slice, some) = log.read_with_aborted(next, 1, log.log_end_offset(), true).unwrap();
        if slice.is_empty() {
            aborted.sort_by_key(|a: &AbortedTransaction| a.first_offset);
            aborted.dedup();
            return (bytes, aborted);
        }
        aborted.extend(some);
        for batch in Batches::new(slice.read_to_bytes().unwrap()) {
            let batch = batch.unwrap();
            next = batch.header.next_offset();
            bytes.extend_from_slice(&batch.bytes);
        }
    }
}

fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    fs::create_dir(to.path().join(NAME)).unwrap();
    for entry in fs::read_dir(from.join(NAME)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.path().join(NAME).join(path.file_name().unwrap())).unwrap();
    }
    to
}

/// As after a crash, with everything up to `flushed` on disk for certain.
fn reopened(dir: &Path, flushed: Offset) -> Log {
    let recovery = Recovery { clean: false, recovery_point: flushed, log_start: Offset(0) };
    let log = Log::open(&dir.join(NAME), config(), recovery, NOW).unwrap();
    log.set_high_watermark(log.log_end_offset());
    log
}

#[test]
fn a_crash_at_any_step_leaves_the_old_segments_or_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let log = filled(dir.path());
    let before = content(&log);
    let end = log.flush().unwrap();
    let cleanable = log.cleanable(None, NOW).unwrap();
    let beginning = log.begin_cleaning().unwrap();
    let group = 1..beginning.view.segments.len() - 1;
    let bases: Vec<Offset> = beginning.view.segments[group.clone()].iter().map(|s| s.base_offset).collect();

    // The new segment is written, and nothing is renamed yet.
    let mut go_on = |_| true;
    let mut pass = Pass {
        partition: &log.partition,
        limits: &LIMITS,
        pace: &mut go_on,
        done: Cleaned::nothing(Offset(0)),
        buffer: Vec::new(),
    };
    let range_end = cleanable.first_uncleanable;
    let aborted = aborted_between(&beginning.view.segments, Offset(0), range_end).unwrap();
    let map = pass.gather(&beginning.view.segments[..group.end], Offset(0), range_end, aborted).unwrap();
    let rules =
        Rules { map: &map, producers: &beginning.producers, range_end, delete_retention_ms: 0, now_ms: NOW };
    let mut filter = Filter::new(rules);
    let (output, changed) = log.write_group(&beginning, group, &mut filter, &mut pass, NOW).unwrap();
    assert!(changed);
    let half = copy(dir.path());
    output.finish(&log.dir, NOW - 1000).unwrap();

    let plan_in = |dir: &Path| Plan::new(&dir.join(NAME), &bases, ".deleted");
    let plan = plan_in(dir.path());
    let (commit, all) = (plan.commit.len(), plan.commit.len() + plan.retire.len() + plan.settle.len());
    let mut after = None;
    for done in (0..=all).rev() {
        for flushed in [Offset(0), end] {
            let crashed = copy(dir.path());
            let plan = plan_in(crashed.path());
            let steps = [plan.commit, plan.retire, plan.settle].concat();
            steps[..done].iter().for_each(|step| step.run().unwrap());
            let log = reopened(crashed.path(), flushed);
            assert_eq!(log.log_end_offset(), end);
            let found = content(&log);
            // The last rename counts, the sync behind it adds nothing to that.
            if done >= commit - 1 {
                assert_eq!(&found, after.get_or_insert(found.clone()), "after {done} steps");
                assert!(found.0.len() < before.0.len() * 3 / 4);
                assert_eq!(log.segments(), 3);
            } else {
                assert_eq!(found, before, "after {done} steps");
            }
            let names = files::names(&crashed.path().join(NAME)).unwrap();
            let left = names
                .iter()
                .find(|n| n.ends_with(".swap") || n.ends_with(".cleaned") || n.ends_with(".deleted"));
            assert_eq!(left, None, "after {done} steps");
            // It goes on: the producer is known, and the log can be cleaned further.
            let next = BatchBuilder::new(Compression::None).producer(ProducerId(7), ProducerEpoch(0), 120);
            let mut next = next.transactional(true);
            next.append(NOW, Some(b"key-1"), None, &[]).unwrap();
            log.append_as_leader(next.finish().unwrap(), LeaderEpoch(4), Origin::Client, NOW).unwrap();
            let cleanable = log.cleanable(None, NOW).unwrap();
            log.clean(&cleanable, &LIMITS, NOW, &mut |_| true).unwrap();
        }
    }
    let log = reopened(half.path(), end);
    assert_eq!(content(&log), before, "the new segment was not whole");
}

#[test]
fn a_cleaning_that_is_stopped_or_overtaken_leaves_a_sound_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = filled(dir.path());
    let before = content(&log);
    let cleanable = log.cleanable(None, NOW).unwrap();
    let mut steps = 0;
    let is_aborted = |result: Result<Cleaned, Error>| {
        let result = result.err();
        assert!(matches!(result, Some(Error::CleaningAborted { .. } | Error::Closed { .. })), "{result:?}");
    };
    let nothing_left = || {
        let names = files::names(&dir.path().join(NAME)).unwrap();
        assert!(!names.iter().any(|name| name.ends_with(".cleaned") || name.ends_with(".swap")), "{names:?}");
    };
    is_aborted(log.clean(&cleanable, &LIMITS, NOW, &mut |_| {
        steps += 1;
        steps < 6
    }));
    nothing_left();
    assert_eq!(content(&log), before);

    // Truncation in the midst of it.
    steps = 0;
    let target = Offset(cleanable.first_uncleanable.0 - 10);
    is_aborted(log.clean(&cleanable, &LIMITS, NOW, &mut |_| {
        steps += 1;
        if steps == 6 {
            log.truncate_to(target, NOW).unwrap();
        }
        true
    }));
    let end = log.log_end_offset();
    assert!(end <= target && end.0 > target.0 - 4);
    log.set_high_watermark(end);
    let truncated = content(&log);
    assert_eq!(truncated.0[..], before.0[..truncated.0.len()]);

    // Retention takes segments away that are being written anew.
    let cleanable = log.cleanable(None, NOW).unwrap();
    steps = 0;
    is_aborted(log.clean(&cleanable, &LIMITS, NOW, &mut |_| {
        steps += 1;
        if steps == 6 {
            log.delete_records_before(Offset(60)).unwrap();
            assert!(log.apply_retention(NOW).unwrap() > 0);
        }
        true
    }));
    nothing_left();
    let records = content(&log).0;
    assert!(records.len() < truncated.0.len());

    // The end of the log.
    let cleanable = log.cleanable(None, NOW).unwrap();
    steps = 0;
    is_aborted(log.clean(&cleanable, &LIMITS, NOW, &mut |_| {
        steps += 1;
        if steps == 4 {
            log.close().unwrap();
        }
        true
    }));
    let log = reopened(dir.path(), end);
    nothing_left();
    // Only what lies below the log start is gone.
    assert_eq!(log.log_end_offset(), end);
    let cleaned = log.clean(&log.cleanable(None, NOW).unwrap(), &LIMITS, NOW, &mut |_| true).unwrap();
    assert!(cleaned.records_written < cleaned.records_read);
}

#[test]
fn readers_go_on_over_segments_that_are_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let log = filled(dir.path());
    let all = |log: &Log| content(log).0;
    let old = log.read_with_aborted(Offset(0), 1 << 20, log.log_end_offset(), true).unwrap();
    let view = log.view.read().clone();
    log.set_config(LogConfig { file_delete_delay_ms: 0, ..config() });
    for _ in 0..2 {
        let cleanable = log.cleanable(None, NOW).unwrap();
        log.clean(&cleanable, &LIMITS, NOW, &mut |_| true).unwrap();
    }
    log.reap(NOW).unwrap();
    // Who had the segments before still finds in them what was there: records, positions, aborted transactions.
    let (slice, aborted) = old;
    let (found, index) = log.find(&view, Offset(0), 1 << 20, view.end, true).unwrap();
    assert_eq!((found.read_to_bytes().unwrap(), index), (slice.read_to_bytes().unwrap(), 0));
    assert!(view.segments.iter().all(|s| s.find(s.base_offset, s.size()).unwrap().is_some()));
    let still = aborted_between(&view.segments, Offset(0), view.segments[1].base_offset).unwrap();
    assert!(!still.is_empty() && aborted.iter().all(|a| still.contains(a)));
    drop((view, found, slice));
    assert!(log.reap(NOW).unwrap() > 0);
    let names = files::names(&dir.path().join(NAME)).unwrap();
    assert!(!names.iter().any(|name| name.ends_with(".deleted")), "{names:?}");
    assert!(all(&log).len() < 8000);
}

#[test]
fn what_cannot_be_cleaned_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let log = filled(dir.path());
    let cleanable = log.cleanable(None, NOW).unwrap();
    let tiny = CleanerLimits { dedupe_bytes: 24, load_factor: 1.0, ..LIMITS };
    // The first transaction is aborted, and takes no room.
    let second = log.cleanable(Some(Offset(4)), NOW).unwrap();
    let error = log.clean(&second, &tiny, NOW, &mut |_| true).unwrap_err();
    assert!(matches!(error, Error::Uncleanable { .. }));
    assert!(error.to_string().contains("log.cleaner.dedupe.buffer.size"), "{error}");

    let path = dir.path().join(NAME).join("00000000000000000000.log");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() - 3;
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let before = files::names(&dir.path().join(NAME)).unwrap();
    let error = log.clean(&cleanable, &LIMITS, NOW, &mut |_| true).unwrap_err();
    assert!(matches!(error, Error::DamagedLog { .. }), "{error}");
    assert!(error.to_string().contains("00000000000000000000.log"), "{error}");
    assert_eq!(files::names(&dir.path().join(NAME)).unwrap(), before);
}
