//! What is left of a log after a crash: everything up to the first byte that is not sound.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, OpenOptions};
use std::path::Path;

use aqueduct_protocol::ids::{LeaderEpoch, Offset};
use aqueduct_protocol::records::Compression;
use aqueduct_storage::{LogConfig, Origin, Recovery};
use common::*;

fn config() -> LogConfig {
    LogConfig { segment_bytes: 2000, index_interval_bytes: 300, ..LogConfig::default() }
}

/// Thirty batches of ten records, the producer's sequence running on; not closed.
fn crashed(dir: &Path) {
    let log = create(dir, config());
    for i in 0..30 {
        let one = idempotent(1, 0, i * 10, i as usize * 10..i as usize * 10 + 10, NOW + i as i64);
        log.append_as_leader(one, LeaderEpoch(i / 8), Origin::Client, NOW).unwrap();
    }
    assert!(log.segments() > 3);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(log_dir(to)).unwrap();
    for entry in fs::read_dir(log_dir(from)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, log_dir(to).join(path.file_name().unwrap())).unwrap();
    }
}

/// The log holds records 0 to `end`, whole and usable: readable, findable by time, and open for the next append.
fn assert_holds(dir: &Path, clean: bool, end: i64) {
    let log = reopen(dir, config(), clean);
    assert_eq!(log.log_end_offset(), Offset(end));
    let records = read_all(&log, Offset(0), 700);
    assert_eq!(records.iter().map(|r| r.offset.0).collect::<Vec<_>>(), (0..end).collect::<Vec<_>>());
    for batch in 0..end / 10 {
        let found = log.offset_for_timestamp(NOW + batch).unwrap().unwrap();
        assert_eq!(found.offset, Offset(batch * 10));
        assert_eq!(log.epoch_at(Offset(batch * 10)), Some(LeaderEpoch(batch as i32 / 8)));
    }
    if end > 0 {
        let repeated = append(&log, idempotent(1, 0, end as i32 - 10, 0..10, NOW)).unwrap();
        assert!(repeated.duplicate);
    }
    let next = append(&log, idempotent(1, 0, end as i32, 0..10, NOW + 100)).unwrap();
    assert_eq!((next.first_offset, next.duplicate), (Offset(end), false));
    assert_eq!(read_all(&log, Offset(end), 700).len(), 10);
}

#[test]
fn a_tail_torn_at_any_byte_loses_only_its_batch() {
    let dir = tempfile::tempdir().unwrap();
    crashed(dir.path());
    let last = files(dir.path(), ".log").pop().unwrap();
    let size = fs::metadata(&last).unwrap().len();
    let log = reopen(dir.path(), config(), false);
    let tail = log.read(Offset(290), 1, Offset(300), true).unwrap();
    assert_eq!(tail.position + tail.len as u64, size);
    for at in (tail.position..size).step_by(if cfg!(debug_assertions) { 3 } else { 1 }) {
        let torn = tempfile::tempdir().unwrap();
        copy(dir.path(), torn.path());
        let path = log_dir(torn.path()).join(last.file_name().unwrap());
        OpenOptions::new().write(true).open(path).unwrap().set_len(at).unwrap();
        // A tail that is cut is noticed even where the directory claims to be clean.
        assert_holds(torn.path(), at % 2 == 0, 290);
    }
    assert_holds(dir.path(), false, 300);
}

#[test]
fn a_base_offset_that_leaps_too_far_ends_the_log_before_its_batch() {
    let dir = tempfile::tempdir().unwrap();
    crashed(dir.path());
    let path = files(dir.path(), ".log").pop().unwrap();
    let sound = fs::read(&path).unwrap();
    // The checksum does not cover where a batch says that it stands.
    let (mut last, mut next) = (0, 0);
    while next < sound.len() {
        last = next;
        next += 12 + u32::from_be_bytes(sound[last + 8..last + 12].try_into().unwrap()) as usize;
    }
    for (bits, byte) in [(0x80, 0), (0x7f, 0), (1, 1), (1, 3), (0x80, 4)] {
        let damaged = tempfile::tempdir().unwrap();
        copy(dir.path(), damaged.path());
        let mut bytes = sound.clone();
        bytes[last + byte] |= bits;
        fs::write(log_dir(damaged.path()).join(path.file_name().unwrap()), bytes).unwrap();
        assert_holds(damaged.path(), false, 290);
    }
}

#[test]
fn a_flipped_bit_ends_the_log_before_its_batch_and_later_segments_go() {
    let dir = tempfile::tempdir().unwrap();
    crashed(dir.path());
    let log = reopen(dir.path(), config(), false);
    for offset in [0, 70, 150, 290] {
        let slice = log.read(Offset(offset), 1, Offset(300), true).unwrap();
        let name = files(dir.path(), ".log").into_iter().rev().find(|path| {
            let base: i64 = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
            base <= offset
        });
        for byte in [5, 10, 16, 22, 60, slice.len as u64 - 1] {
            // The checksum does not cover the base offset. A leap is only seen by what follows.
            if (byte, offset) == (5, 290) {
                continue;
            }
            let flipped = tempfile::tempdir().unwrap();
            copy(dir.path(), flipped.path());
            let path = log_dir(flipped.path()).join(name.as_ref().unwrap().file_name().unwrap());
            let mut bytes = fs::read(&path).unwrap();
            bytes[(slice.position + byte) as usize] ^= 0x10;
            fs::write(&path, bytes).unwrap();
            assert_holds(flipped.path(), false, offset);
        }
    }
}

#[test]
fn indexes_are_built_again_where_they_are_missing_or_not_sane() {
    let dir = tempfile::tempdir().unwrap();
    crashed(dir.path());
    reopen(dir.path(), config(), false).close().unwrap();
    for clean in [true, false] {
        for kind in [".index", ".timeindex"] {
            for damage in 0..5 {
                let damaged = tempfile::tempdir().unwrap();
                copy(dir.path(), damaged.path());
                for path in files(damaged.path(), kind) {
                    let mut bytes = fs::read(&path).unwrap();
                    match damage {
                        0 => {
                            fs::remove_file(&path).unwrap();
                            continue;
                        }
                        1 => bytes.extend_from_slice(&[0; 1200]),
                        2 => bytes.push(1),
                        3 => bytes.clear(),
                        _ => bytes.iter_mut().for_each(|b| *b = 0xff),
                    }
                    fs::write(&path, bytes).unwrap();
                }
                // An empty time index is a sane one: only a search by time would miss what it held.
                if !(clean && kind == ".timeindex" && damage == 3) {
                    assert_holds(damaged.path(), clean, 300);
                }
            }
        }
    }
}

#[test]
fn state_files_that_are_lost_or_damaged_are_made_from_the_log() {
    let dir = tempfile::tempdir().unwrap();
    crashed(dir.path());
    reopen(dir.path(), config(), false).close().unwrap();
    for clean in [true, false] {
        for kind in [".snapshot", "leader-epoch-checkpoint"] {
            for damage in 0..3 {
                let damaged = tempfile::tempdir().unwrap();
                copy(dir.path(), damaged.path());
                for path in files(damaged.path(), kind) {
                    match damage {
                        0 => fs::remove_file(&path).unwrap(),
                        1 => fs::write(&path, b"").unwrap(),
                        _ => fs::write(&path, b"0\nnonsense, and more than a few bytes of it").unwrap(),
                    }
                }
                assert_holds(damaged.path(), clean, 300);
            }
        }
    }
}

#[test]
fn only_what_is_above_the_recovery_point_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    crashed(dir.path());
    let log = reopen(dir.path(), config(), false);
    let point = log.flush().unwrap();
    assert_eq!((point, log.recovery_point()), (Offset(300), Offset(300)));
    append(&log, idempotent(1, 0, 300, 0..10, NOW)).unwrap();
    drop(log);
    // A flip below the recovery point is not looked for.
    let first = &files(dir.path(), ".log")[0];
    let mut bytes = fs::read(first).unwrap();
    bytes[100] ^= 1;
    fs::write(first, &bytes).unwrap();
    let recovery = Recovery { clean: false, recovery_point: point, log_start: Offset(0) };
    let log = aqueduct_storage::Log::open(&log_dir(dir.path()), config(), recovery, NOW).unwrap();
    assert_eq!(log.log_end_offset(), Offset(310));
    drop(log);
    assert_eq!(reopen(dir.path(), config(), false).log_end_offset(), Offset(0));
}

#[test]
fn leftovers_of_deletion_and_compaction_are_cleared_up() {
    let dir = tempfile::tempdir().unwrap();
    crashed(dir.path());
    let inside = log_dir(dir.path());
    for leftover in
        ["00000000000000000000.log.deleted", "00000000000000000050.index", "00000000000000009999.txnindex"]
    {
        fs::write(inside.join(leftover), b"x").unwrap();
    }
    // Compaction had finished with the first segment, and not with another.
    let first = files(dir.path(), ".log")[0].clone();
    let second = files(dir.path(), ".log")[1].clone();
    fs::rename(&first, first.with_extension("log.swap")).unwrap();
    fs::write(second.with_extension("log.cleaned"), b"x").unwrap();
    fs::write(second.with_extension("index.swap"), b"x").unwrap();
    assert_holds(dir.path(), false, 300);
    for suffix in [".deleted", ".swap", ".cleaned", ".txnindex"] {
        assert!(files(dir.path(), suffix).is_empty(), "{suffix}");
    }
    assert!(!inside.join("00000000000000000050.index").exists());
}

#[test]
fn a_replacement_takes_the_place_of_the_segments_it_was_made_from() {
    let dir = tempfile::tempdir().unwrap();
    crashed(dir.path());
    // The first two segments in one.
    let logs = files(dir.path(), ".log");
    let joined = [fs::read(&logs[0]).unwrap(), fs::read(&logs[1]).unwrap()].concat();
    fs::write(logs[0].with_extension("log.swap"), joined).unwrap();
    assert_holds(dir.path(), false, 300);
    assert!(!logs[1].exists());
}

#[test]
fn the_start_offset_of_the_checkpoint_counts() {
    let dir = tempfile::tempdir().unwrap();
    crashed(dir.path());
    let open = |start: i64| {
        let recovery = Recovery { clean: false, recovery_point: Offset(0), log_start: Offset(start) };
        aqueduct_storage::Log::open(&log_dir(dir.path()), config(), recovery, NOW).unwrap()
    };
    let log = open(123);
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (Offset(123), Offset(300)));
    // What came before the first epoch that is known ended where that one begins.
    assert_eq!(log.epoch_end_offset(LeaderEpoch(0)), Some((LeaderEpoch(0), Offset(123))));
    let log = open(5000);
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (Offset(5000), Offset(5000)));
    assert_eq!(append(&log, batch(Compression::None, 0..1, NOW)).unwrap().first_offset, Offset(5000));
}

#[test]
fn snapshots_of_former_shutdowns_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    crashed(dir.path());
    for i in 0..4 {
        let log = reopen(dir.path(), config(), i > 0);
        append(&log, idempotent(1, 0, 300 + i, 0..1, NOW)).unwrap();
        log.close().unwrap();
    }
    let log = reopen(dir.path(), config(), true);
    // One for each segment but the first, and the newest.
    assert_eq!(files(dir.path(), ".snapshot").len(), log.segments());
}

#[test]
fn damage_in_a_served_log_is_an_error_with_file_and_position() {
    let dir = tempfile::tempdir().unwrap();
    crashed(dir.path());
    let log = reopen(dir.path(), config(), false);
    let first = &files(dir.path(), ".log")[0];
    let mut bytes = fs::read(first).unwrap();
    bytes[16] = 9;
    fs::write(first, bytes).unwrap();
    let error = log.read(Offset(0), 1000, Offset(300), true).unwrap_err();
    assert_eq!(error.code(), 2);
    let text = error.to_string();
    assert!(text.contains("events-3/00000000000000000000.log is damaged at position 0: magic 9"), "{text}");
}
