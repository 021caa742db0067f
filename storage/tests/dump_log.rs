//! The stock dump-log reads what we write, and finds nothing to complain about.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/peer.rs"]
mod peer;

use std::path::{Path, PathBuf};

use aqueduct_protocol::ids::{Offset, ProducerEpoch, ProducerId};
use aqueduct_protocol::records::{BatchBuilder, Compression, EndTransactionMarker, Header, TimestampType};
use aqueduct_storage::{Log, LogConfig, Origin};
use bytes::Bytes;
use common::*;

/// Every codec, headers, null keys and values, out-of-order timestamps, in several segments, with several producers.
fn fill(log: &Log) {
    for i in 0..60usize {
        let codec = Compression::ALL[i % 5];
        let mut builder = BatchBuilder::new(codec);
        if i % 3 == 0 {
            let id = (i % 6) as i64;
            builder = builder.producer(ProducerId(id), ProducerEpoch(0), i as i32 / 6 * 5);
        }
        for n in 0..5 {
            let value = format!("value {n} of batch {i}, long enough to fill some bytes");
            let headers = [
                Header { key: "same".into(), value: Some(Bytes::from_static(b"1")) },
                Header { key: "same".into(), value: None },
            ];
            let key = (n != 2).then_some(&b"key"[..]);
            let value = (n != 3).then_some(value.as_bytes());
            let time = NOW + (i as i64 * 1000) - (n * 1500);
            builder.append(time, key, value, &headers[..n as usize % 3]).unwrap();
        }
        append_at(log, builder.finish().unwrap(), NOW + i as i64 * 1000).unwrap();
    }
}

fn config() -> LogConfig {
    LogConfig { segment_bytes: 3000, index_interval_bytes: 500, ..LogConfig::default() }
}

/// The offsets of records that `--print-data-log` shows in the log files.
fn printed_offsets(dump: &str) -> Vec<i64> {
    let lines = dump.lines().filter_map(|line| line.strip_prefix("| offset: "));
    lines.map(|rest| rest.split_whitespace().next().unwrap().parse().unwrap()).collect()
}

fn all_files(dir: &Path) -> Vec<PathBuf> {
    [".log", ".index", ".timeindex", ".snapshot", ".txnindex"]
        .iter()
        .flat_map(|kind| files(dir, kind))
        .collect()
}

/// With deep iteration the tool takes every file but the first for a gap after offset -1; any other gap is one.
fn assert_sound(dump: &str) {
    let complaints = [
        "ismatch",
        "followed by",
        "out of order",
        "not found",
        "isvalid: false",
        "orrupt",
        "Exception",
        "rror",
        "trailing",
        "Could not",
    ];
    for line in dump.lines().filter(|line| !line.starts_with("  -1 is followed by")) {
        let complaint = complaints.iter().find(|word| line.contains(**word));
        assert!(complaint.is_none(), "{line}\nin\n{dump}");
    }
}

#[test]
fn dump_log_finds_every_record_and_no_mismatch() {
    let dir = tempfile::tempdir().unwrap();
    let log = create(dir.path(), config());
    fill(&log);
    log.set_config(LogConfig { message_timestamp_type: TimestampType::LogAppendTime, ..config() });
    append_at(&log, batch(Compression::Zstd, 0..5, 1), NOW + 70_000).unwrap();
    assert!(log.segments() > 3, "{}", log.segments());
    log.close().unwrap();
    let files = all_files(dir.path());
    let sane = peer::dump_log(&files, &["--index-sanity-check", "--deep-iteration"]);
    assert_sound(&sane);
    assert_eq!(sane.matches("passed sanity check").count(), log.segments() * 2, "{sane}");
    let dump = peer::dump_log(&files, &["--deep-iteration", "--print-data-log"]);
    assert_sound(&dump);
    assert_eq!(printed_offsets(&dump), (0..305).collect::<Vec<_>>());
    assert!(dump.contains("producerId: 3 producerEpoch: 0"), "{dump}");
    assert!(dump.contains("value 4 of batch 59"));
    assert_sound(&peer::dump_log(&files, &["--verify-index-only"]));
}

#[test]
fn dump_log_agrees_after_a_crash_and_a_truncation() {
    let dir = tempfile::tempdir().unwrap();
    let log = create(dir.path(), config());
    fill(&log);
    drop(log);
    // The tail is torn and an index is lost.
    let logs = files(dir.path(), ".log");
    let last = logs.last().unwrap();
    let size = std::fs::metadata(last).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(last).unwrap().set_len(size - 10).unwrap();
    std::fs::remove_file(&files(dir.path(), ".index")[1]).unwrap();
    let log = reopen(dir.path(), config(), false);
    assert_eq!(log.log_end_offset(), Offset(295));
    log.truncate_to(Offset(283), NOW).unwrap();
    log.set_high_watermark(log.log_end_offset());
    append_at(&log, batch(Compression::Lz4, 0..5, NOW + 90_000), NOW + 90_000).unwrap();
    log.close().unwrap();
    let files = all_files(dir.path());
    assert_sound(&peer::dump_log(&files, &["--index-sanity-check"]));
    let dump = peer::dump_log(&files, &["--deep-iteration", "--print-data-log"]);
    assert_sound(&dump);
    assert_eq!(printed_offsets(&dump), (0..285).collect::<Vec<_>>());
}

#[test]
fn dump_log_reads_transactions() {
    let dir = tempfile::tempdir().unwrap();
    let log = create(dir.path(), config());
    for (sequence, committed) in [(0, true), (3, false)] {
        let builder = BatchBuilder::new(Compression::None).transactional(true);
        let builder = builder.producer(ProducerId(77), ProducerEpoch(1), sequence);
        append(&log, filled(builder, 0..3, NOW)).unwrap();
        let marker = EndTransactionMarker { committed, coordinator_epoch: 4 };
        let marker =
            BatchBuilder::end_transaction(ProducerId(77), ProducerEpoch(1), NOW, marker).finish().unwrap();
        log.append_as_leader(marker, EPOCH, Origin::Coordinator, NOW).unwrap();
        log.set_high_watermark(log.log_end_offset());
    }
    log.close().unwrap();
    let dump = peer::dump_log(&all_files(dir.path()), &["--deep-iteration", "--print-data-log"]);
    assert_sound(&dump);
    assert!(dump.contains("endTxnMarker: COMMIT coordinatorEpoch: 4"), "{dump}");
    assert!(dump.contains("endTxnMarker: ABORT coordinatorEpoch: 4"), "{dump}");
}
