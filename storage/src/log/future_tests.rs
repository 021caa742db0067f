//! Moving a log to another directory: what goes with it, and interruptions.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aqueduct_protocol::ids::{LeaderEpoch, ProducerEpoch, ProducerId};
use aqueduct_protocol::records::{BatchBuilder, Compression, EndTransactionMarker};
use bytes::Bytes;

use super::*;
use crate::{AbortedTransaction, LogConfig, Origin};

const NOW: i64 = 1_700_000_000_000;
const UNIQUE: Uuid = Uuid([7; 16]);

fn config() -> LogConfig {
    LogConfig { segment_bytes: 2000, index_interval_bytes: 100, retention_ms: -1, ..LogConfig::default() }
}

fn name() -> TopicPartition {
    TopicPartition::new("t", 0)
}

fn batch(n: i32, transactional: bool) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::ALL[n as usize % 5])
        .producer(ProducerId(7), ProducerEpoch(0), n * 2)
        .transactional(transactional);
    for i in 0..2 {
        let value = format!("value {n} {i} of some length, so that segments fill");
        builder.append(NOW + i64::from(n), Some(b"k"), Some(value.as_bytes()), &[]).unwrap();
    }
    builder.finish().unwrap()
}

fn append(log: &Log, batch: Bytes, epoch: i32) {
    let info = log.append_as_leader(batch, LeaderEpoch(epoch), Origin::Client, NOW).unwrap();
    log.raise_high_watermark(info.last_offset.plus(1));
}

fn end(log: &Log, committed: bool, epoch: i32) {
    let marker = EndTransactionMarker { committed, coordinator_epoch: 3 };
    let marker =
        BatchBuilder::end_transaction(ProducerId(7), ProducerEpoch(0), NOW, marker).finish().unwrap();
    let info = log.append_as_leader(marker, LeaderEpoch(epoch), Origin::Coordinator, NOW).unwrap();
    log.raise_high_watermark(info.last_offset.plus(1));
}

/// Two data directories, and a log in the first.
struct Disks {
    root: tempfile::TempDir,
    source: Arc<Log>,
}

impl Disks {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("a")).unwrap();
        fs::create_dir(root.path().join("b")).unwrap();
        let source =
            Log::create(&root.path().join("a"), &name(), Some(Uuid([1; 16])), config(), NOW).unwrap();
        Self { root, source: Arc::new(source) }
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn future(&self) -> FutureLog {
        FutureLog::create(&self.dir("b"), &self.source, UNIQUE, NOW).unwrap()
    }

    fn future_again(&self, clean: bool) -> FutureLog {
        let dir = self.dir("b").join(FutureName::new(name(), UNIQUE).to_string());
        let recovery = Recovery { clean, ..Recovery::UNKNOWN };
        FutureLog::open(&dir, &name(), config(), recovery, NOW).unwrap()
    }
}

fn copy_all(future: &FutureLog, source: &Log) {
    while future.copy(source, 300, NOW).unwrap().lag > 0 {}
}

fn move_over(future: &FutureLog, source: &Log) -> Arc<Log> {
    let mut moved = None;
    let publish = |log: Log| moved.insert(Arc::new(log)).clone();
    assert!(future.take_over(source, NOW, publish).unwrap());
    moved.unwrap()
}

/// All bytes, and all that was aborted.
fn content(log: &Log) -> (Vec<u8>, Vec<AbortedTransaction>) {
    let (mut next, mut bytes) = (log.log_start_offset(), Vec::new());
    loop {
        let slice = log.read(next, 1, log.log_end_offset(), true).unwrap();
        if slice.is_empty() {
            return (bytes, log.aborted_transactions(log.log_start_offset(), log.log_end_offset()).unwrap());
        }
        let batch = slice.read_to_bytes().unwrap();
        next = aqueduct_protocol::records::BatchHeader::parse(&batch).unwrap().next_offset();
        bytes.extend_from_slice(&batch);
    }
}

fn assert_same(a: &Log, b: &Log) {
    assert_eq!(content(a), content(b));
    assert_eq!(
        (a.log_start_offset(), a.log_end_offset(), a.high_watermark(), a.last_stable_offset()),
        (b.log_start_offset(), b.log_end_offset(), b.high_watermark(), b.last_stable_offset())
    );
    assert_eq!(*a.epochs.read().entries(), *b.epochs.read().entries());
    assert_eq!(a.writer.lock().producers, b.writer.lock().producers);
    assert_eq!(a.topic_id(), b.topic_id());
}

fn names(dir: &Path) -> Vec<String> {
    files::names(dir).unwrap()
}

#[test]
fn a_log_moves_with_its_producers_transactions_and_epochs_while_appends_go_on() {
    let disks = Disks::new();
    let source = &disks.source;
    for n in 0..20 {
        append(source, batch(n, true), n / 5);
        if n % 2 == 0 {
            end(source, n % 4 == 0, n / 5);
        }
    }
    let future = disks.future();
    let mut n = 20;
    while future.copy(source, 300, NOW).unwrap().lag > 0 {
        if n < 40 {
            append(source, batch(n, n < 30), 4);
            if n == 29 {
                end(source, false, 4);
            }
            n += 1;
        }
    }
    append(source, batch(n, true), 4);
    future.flush().unwrap();
    let before = content(source);
    let moved = move_over(&future, source);
    assert_eq!(content(source), before, "who has the old one reads on");
    assert_same(source, &moved);
    assert!(moved.last_stable_offset() < moved.log_end_offset(), "a transaction is open");
    assert!(matches!(
        source.append_as_leader(batch(n + 1, true), LeaderEpoch(4), Origin::Client, NOW),
        Err(Error::Closed { .. })
    ));
    assert_eq!(names(&disks.dir("b")), ["t-0"]);
    let repeated = moved.append_as_leader(batch(n - 3, false), LeaderEpoch(4), Origin::Client, NOW).unwrap();
    assert!(repeated.duplicate, "the last five batches are known");
    append(&moved, batch(n + 1, true), 4);
    end(&moved, false, 4);
    let aborted = content(&moved).1;
    moved.close().unwrap();
    for clean in [true, false] {
        let again =
            Log::open(&disks.dir("b").join("t-0"), config(), Recovery { clean, ..Recovery::UNKNOWN }, NOW)
                .unwrap();
        again.set_high_watermark(again.log_end_offset());
        assert_eq!(content(&again).1, aborted);
        assert_eq!(again.log_end_offset(), moved.log_end_offset());
        assert_eq!(*again.epochs.read().entries(), *source.epochs.read().entries());
        again.abandon();
    }
}

#[test]
fn what_is_not_on_disk_yet_is_recovered_after_a_crash() {
    let disks = Disks::new();
    append(&disks.source, batch(0, false), 0);
    let future = disks.future();
    copy_all(&future, &disks.source);
    future.flush().unwrap();
    append(&disks.source, batch(1, false), 0);
    let moved = move_over(&future, &disks.source);
    assert_eq!(moved.recovery_point(), Offset(2), "the second batch was copied at the last moment");
    assert_eq!(moved.flush().unwrap(), Offset(4));
}

#[test]
fn a_log_that_begins_within_a_batch_or_ends_without_one_moves_as_it_is() {
    let disks = Disks::new();
    let source = &disks.source;
    for n in 0..20 {
        append(source, batch(n, false), 0);
    }
    source.delete_records_before(Offset(7)).unwrap();
    let future = disks.future();
    copy_all(&future, source);
    // Retention overtakes the copy.
    source.delete_records_before(Offset(21)).unwrap();
    source.apply_retention(NOW).unwrap();
    let moved = move_over(&future, source);
    assert_same(source, &moved);

    let disks = Disks::new();
    let source = &disks.source;
    for n in 0..20 {
        append(source, batch(n, false), 0);
    }
    let future = disks.future();
    future.copy(source, 300, NOW).unwrap();
    source.delete_records_before(Offset(40)).unwrap();
    source.set_config(LogConfig { retention_ms: 1, ..config() });
    source.apply_retention(NOW + 1000).unwrap();
    assert_eq!((source.size(), source.log_end_offset()), (0, Offset(40)));
    copy_all(&future, source);
    let moved = move_over(&future, source);
    assert_same(source, &moved);
    append(&moved, batch(20, false), 0);
    assert_eq!(moved.log_end_offset(), Offset(42));
}

#[test]
fn compacted_away_ends_are_skipped() {
    let disks = Disks::new();
    let source = &disks.source;
    for n in 0..3 {
        append(source, batch(n, false), 0);
    }
    // As after a compaction that left nothing of the last batches, with a new segment behind.
    {
        let mut writer = source.writer.lock();
        source.roll(&mut writer, Offset(10), NOW).unwrap();
        source.publish(|view| (view.end, view.high_watermark) = (Offset(10), Offset(10)));
    }
    let future = disks.future();
    copy_all(&future, source);
    assert_eq!(future.log_end_offset(), Offset(10));
    let moved = move_over(&future, source);
    assert_same(source, &moved);
}

#[test]
fn a_copy_is_taken_up_after_a_crash_wherever_it_was() {
    let disks = Disks::new();
    for n in 0..10 {
        append(&disks.source, batch(n, false), 0);
    }
    let future = disks.future();
    future.copy(&disks.source, 400, NOW).unwrap();
    drop(future);
    let future = disks.future_again(false);
    assert!(future.log_end_offset() > Offset(0));
    assert!(future.is_beginning_of(&disks.source).unwrap());
    assert!(!future.is_continuation_of(&disks.source).unwrap());
    copy_all(&future, &disks.source);
    assert!(future.is_beginning_of(&disks.source).unwrap(), "of the same length");
    assert!(!future.is_continuation_of(&disks.source).unwrap());

    // It took over, and more was written, but the directories were left as they are.
    let moved = move_over(&future, &disks.source);
    append(&moved, batch(10, false), 0);
    drop(moved);
    let dir = disks.dir("b");
    fs::rename(dir.join("t-0"), dir.join(FutureName::new(name(), UNIQUE).to_string())).unwrap();
    let future = disks.future_again(false);
    assert!(future.is_continuation_of(&disks.source).unwrap());
    assert!(!future.is_beginning_of(&disks.source).unwrap());
    future.promote().unwrap();
    assert_eq!(names(&dir), ["t-0"]);
}

#[test]
fn a_copy_of_something_else_starts_over() {
    let disks = Disks::new();
    let future = disks.future();
    for n in 0..5 {
        append(&disks.source, batch(n, false), 0);
    }
    copy_all(&future, &disks.source);
    let other = Disks::new();
    for n in 5..20 {
        append(&other.source, batch(n, false), 0);
    }
    assert!(!future.is_beginning_of(&other.source).unwrap());
    assert!(!disks.source.log_end_offset().0.eq(&other.source.log_end_offset().0));
    future.start_over(&other.source, NOW).unwrap();
    copy_all(&future, &other.source);
    assert!(future.is_beginning_of(&other.source).unwrap());
}

#[test]
fn a_copy_that_is_far_behind_does_not_hold_appends_up_and_a_failed_one_leaves_the_log_as_it_is() {
    let disks = Disks::new();
    let value = vec![7; 1500];
    let large = |n: i32| {
        let mut builder = BatchBuilder::new(Compression::None).producer(ProducerId(7), ProducerEpoch(0), n);
        builder.append(NOW, None, Some(&value), &[]).unwrap();
        builder.finish().unwrap()
    };
    disks.source.set_config(LogConfig { segment_bytes: 1 << 20, ..config() });
    for n in 0..1500 {
        append(&disks.source, large(n), 0);
    }
    let future = disks.future();
    assert!(!future.take_over(&disks.source, NOW, |_| unreachable!()).unwrap());
    append(&disks.source, large(1500), 0);
    copy_all(&future, &disks.source);
    fs::create_dir(disks.dir("b").join("t-0")).unwrap();
    assert!(future.take_over(&disks.source, NOW, |_| unreachable!()).is_err());
    append(&disks.source, large(1501), 0);
    fs::remove_dir(disks.dir("b").join("t-0")).unwrap();
    drop(future);
    let future = disks.future_again(true);
    copy_all(&future, &disks.source);
    let moved = move_over(&future, &disks.source);
    assert_same(&disks.source, &moved);
}

#[test]
fn names_of_copies_are_read_back() {
    let future = FutureName::new(TopicPartition::new("a.b-1", 3), UNIQUE);
    assert_eq!(future.to_string(), format!("a.b-1-3.{}-future", "07".repeat(16)));
    assert_eq!(FutureName::parse(&future.to_string()), Some(future));
    for bad in ["a-0-future", "a-0.07-future", "a-0", &format!("a.{}-future", "07".repeat(16))] {
        assert_eq!(FutureName::parse(bad), None, "{bad}");
    }
    assert!(!FutureName::new(TopicPartition::new("x".repeat(249), 0), UNIQUE).fits());
}
