//! Append, read, roll, retention and truncation of one log.
#![allow(clippy::unwrap_used)]

mod common;

use aqueduct_protocol::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use aqueduct_protocol::records::{
    BatchBuilder, BatchHeader, Compression, EndTransactionMarker, RecordBatch, TimestampType,
};
use aqueduct_storage::{Error, Log, LogConfig, Newcomer, Origin, Terms, TopicPartition};
use bytes::Bytes;
use common::*;

fn small_segments() -> LogConfig {
    LogConfig { segment_bytes: 2000, index_interval_bytes: 300, ..LogConfig::default() }
}

/// A log of `batches` batches, ten records each, one second apart.
fn filled_log(dir: &std::path::Path, config: LogConfig, batches: usize) -> Log {
    let log = create(dir, config);
    for i in 0..batches {
        append(&log, batch(Compression::None, i * 10..i * 10 + 10, NOW + i as i64 * 1000)).unwrap();
    }
    log
}

#[test]
fn what_is_appended_is_read_across_segments() {
    let dir = tempfile::tempdir().unwrap();
    let log = filled_log(dir.path(), small_segments(), 40);
    assert!(log.segments() > 4);
    assert_eq!(log.log_end_offset(), Offset(400));
    for max_bytes in [1, 500, 1 << 20] {
        for from in [0, 7, 199, 399, 400] {
            let records = read_all(&log, Offset(from), max_bytes);
            let offsets: Vec<_> = records.iter().map(|r| r.offset.0).collect();
            assert_eq!(offsets, (from..400).collect::<Vec<_>>());
            assert!(records.iter().all(|r| *r.value.as_ref().unwrap() == format!("value-{}", r.offset)));
        }
    }
}

#[test]
fn a_read_keeps_its_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let log = filled_log(dir.path(), LogConfig::default(), 10);
    let end = log.log_end_offset();
    let size = log.read(Offset(0), 1, end, true).unwrap().len;
    assert!(log.read(Offset(0), size - 1, end, false).unwrap().is_empty(), "a first batch is never cut");
    assert_eq!(log.read(Offset(0), size + 5, end, false).unwrap().len, size + 5, "later ones may be");
    let behind = log.read(Offset(30), 1, end, true).unwrap();
    assert_eq!(log.read(Offset(0), 1 << 20, Offset(30), true).unwrap().len as u64, behind.position);
    assert_eq!(log.read(Offset(25), 1 << 20, Offset(30), true).unwrap().base_offset, Offset(20));
    assert!(log.read(Offset(30), 1 << 20, Offset(30), true).unwrap().is_empty());
    assert!(log.read(end, 1 << 20, end, true).unwrap().is_empty());
    for offset in [-1, 101] {
        let error = log.read(Offset(offset), 1, end, true).unwrap_err();
        assert_eq!(error.code(), 1);
        assert_eq!(error.to_string(), format!("events-3@{offset}: the log holds 0 to 100"));
    }
    let slice = log.read(Offset(0), 1 << 20, end, true).unwrap();
    let mut buffer = vec![0; 50];
    if let Some(count) = slice.read_nowait(61, &mut buffer).unwrap() {
        assert_eq!(buffer[..count], slice.read_to_bytes().unwrap()[61..61 + count]);
    }
}

#[test]
fn the_header_gets_offset_epoch_and_log_append_time() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { message_timestamp_type: TimestampType::LogAppendTime, ..LogConfig::default() };
    let log = create(dir.path(), config);
    append(&log, batch(Compression::None, 0..3, 5)).unwrap();
    let sent = batch(Compression::Zstd, 3..6, 5);
    let copy = sent.clone();
    let info = log.append_as_leader(sent.clone(), LeaderEpoch(7), Origin::Client, NOW + 1).unwrap();
    assert_eq!((info.first_offset, info.last_offset, info.log_append_time), (Offset(3), Offset(5), NOW + 1));
    assert_eq!(sent, copy, "the request's bytes are not touched");
    let bytes = log.read(Offset(3), 1 << 20, log.log_end_offset(), true).unwrap().read_to_bytes().unwrap();
    let stored = RecordBatch::parse(bytes).unwrap();
    stored.check_crc().unwrap();
    assert_eq!(stored.header.leader_epoch, LeaderEpoch(7));
    assert_eq!(stored.header.attributes.compression(), Ok(Compression::Zstd));
    assert!(stored.records().unwrap().all(|r| r.unwrap().timestamp == NOW + 1));
    assert_eq!(log.epoch_end_offset(LeaderEpoch(3)), Some((LeaderEpoch(0), Offset(3))));
    assert_eq!(log.latest_epoch(), Some(LeaderEpoch(7)));
}

#[test]
fn each_broken_rule_has_its_code() {
    let dir = tempfile::tempdir().unwrap();
    let config =
        LogConfig { max_message_bytes: 500, segment_bytes: 400, compact: true, ..LogConfig::default() };
    let log = create(dir.path(), config);
    let good = batch(Compression::None, 0..2, NOW);
    let code = |bytes: Bytes| append(&log, bytes).map(|_| 0).unwrap_or_else(|e| e.code());
    let patched = |at: usize, with: &[u8]| {
        let mut bytes = good.to_vec();
        bytes[at..at + with.len()].copy_from_slice(with);
        aqueduct_protocol::records::patch_crc(&mut bytes).unwrap();
        Bytes::from(bytes)
    };
    let mut flipped = good.to_vec();
    flipped[70] ^= 1;
    assert_eq!(code(flipped.into()), 2, "crc");
    assert_eq!(code(Bytes::new()), 87, "empty");
    assert_eq!(code(good.slice(..70)), 87, "cut");
    assert_eq!(code([&good[..], &good[..]].concat().into()), 87, "two batches");
    assert_eq!(code(patched(16, &[1])), 87, "magic");
    assert_eq!(code(patched(0, &5i64.to_be_bytes())), 87, "base offset");
    assert_eq!(code(patched(57, &3i32.to_be_bytes())), 87, "count");
    assert_eq!(code(patched(21, &0x20i16.to_be_bytes())), 87, "control");
    assert_eq!(code(patched(21, &0x10i16.to_be_bytes())), 87, "transactional without producer");
    assert_eq!(code(patched(21, &0x05i16.to_be_bytes())), 87, "codec");
    assert_eq!(code(patched(43, &5i64.to_be_bytes())), 87, "producer without sequence");
    assert_eq!(code(batch(Compression::None, 0..100, NOW)), 10, "max.message.bytes");
    assert_eq!(code(batch(Compression::None, 0..20, NOW)), 18, "segment.bytes");
    assert_eq!(code(batch(Compression::None, 0..2, NOW + 3_600_001)), 32, "too far ahead");
    assert_eq!(code(batch(Compression::Gzip, 0..2, NOW + 3_600_000)), 0);
    assert_eq!(code(batch(Compression::None, 0..2, -1)), 0, "no timestamp");
    let mut keyless = BatchBuilder::new(Compression::Lz4);
    keyless.append(NOW, Some(b"k"), None, &[]).unwrap();
    keyless.append(NOW, None, None, &[]).unwrap();
    let error = append(&log, keyless.finish().unwrap()).unwrap_err();
    assert_eq!((error.code(), error.record_issues()[0].index), (87, 1));
    assert_eq!(log.log_end_offset(), Offset(4));
}

#[test]
fn a_wrong_maximum_and_a_wrong_timestamp_type_are_put_right() {
    let dir = tempfile::tempdir().unwrap();
    let log = create(dir.path(), LogConfig::default());
    let mut bytes = batch(Compression::None, 0..2, NOW).to_vec();
    let claim = NOW + 500_000;
    aqueduct_protocol::records::patch_max_timestamp(&mut bytes, TimestampType::LogAppendTime, claim).unwrap();
    assert_eq!(append(&log, bytes.into()).unwrap().log_append_time, -1);
    let bytes = log.read(Offset(0), 1, Offset(2), true).unwrap().read_to_bytes().unwrap();
    let stored = RecordBatch::parse(bytes).unwrap();
    stored.check_crc().unwrap();
    assert_eq!(stored.header.attributes.timestamp_type(), TimestampType::CreateTime);
    assert_eq!(stored.header.max_timestamp, NOW);
}

#[test]
fn a_repeated_batch_is_answered_and_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig::default();
    let log = create(dir.path(), config.clone());
    for i in 0..3 {
        append(&log, idempotent(9, 0, i * 2, 0..2, NOW + i as i64)).unwrap();
    }
    let again = append(&log, idempotent(9, 0, 2, 0..2, NOW + 1)).unwrap();
    assert!(again.duplicate);
    assert_eq!(
        (again.first_offset, again.last_offset, again.log_append_time),
        (Offset(2), Offset(3), NOW + 1)
    );
    assert_eq!(log.log_end_offset(), Offset(6));
    let gap = append(&log, idempotent(9, 0, 8, 0..2, NOW)).unwrap_err();
    assert_eq!((gap.code(), log.log_end_offset()), (45, Offset(6)));
    append(&log, idempotent(9, 1, 0, 0..2, NOW)).unwrap();
    assert_eq!(append(&log, idempotent(9, 0, 6, 0..2, NOW)).unwrap_err().code(), 47);
    for clean in [true, false] {
        if clean {
            log.close().unwrap();
        }
        let log = reopen(dir.path(), config.clone(), clean);
        assert!(append(&log, idempotent(9, 1, 0, 0..2, NOW)).unwrap().duplicate, "clean: {clean}");
        assert_eq!(append(&log, idempotent(9, 1, 5, 0..2, NOW)).unwrap_err().code(), 45);
    }
}

#[test]
fn the_latest_five_batches_of_a_producer_are_known_after_a_restart() {
    let small = LogConfig { segment_bytes: 150, ..LogConfig::default() };
    let of = |clean, others, config: &LogConfig| (clean, others, config.clone());
    let cases = [true, false].into_iter().flat_map(|clean| {
        [of(clean, 0, &LogConfig::default()), of(clean, 3, &LogConfig::default()), of(clean, 0, &small)]
    });
    for (clean, others, config) in cases {
        let dir = tempfile::tempdir().unwrap();
        let log = create(dir.path(), config.clone());
        for sequence in 0..7 {
            append(&log, idempotent(9, 0, sequence, 0..1, NOW)).unwrap();
            for other in 0..others {
                append(&log, idempotent(20 + other, 0, sequence, 0..1, NOW)).unwrap();
            }
        }
        if clean {
            log.close().unwrap();
        }
        let log = reopen(dir.path(), config, clean);
        for sequence in 2..7 {
            let again = append(&log, idempotent(9, 0, sequence, 0..1, NOW)).unwrap();
            assert!(again.duplicate, "{sequence}, clean: {clean}, segments: {}", log.segments());
        }
        assert_eq!(append(&log, idempotent(9, 0, 1, 0..1, NOW)).unwrap_err().code(), 45);
    }
}

#[test]
fn segments_roll_by_time_index_and_offset_span() {
    let dir = tempfile::tempdir().unwrap();
    let log = create(dir.path(), LogConfig { segment_ms: 10_000, ..LogConfig::default() });
    for (time, segments) in [(0, 1), (10_000, 1), (10_001, 2), (15_000, 2), (20_002, 3)] {
        let info = append_at(&log, batch(Compression::None, 0..1, NOW + time), NOW + time).unwrap();
        assert_eq!(log.segments(), segments, "{time}");
        assert_eq!(info.rolled, [10_001, 20_002].contains(&time));
    }
    let dir = tempfile::tempdir().unwrap();
    let tiny_index = LogConfig { segment_index_bytes: 24, index_interval_bytes: 1, ..LogConfig::default() };
    let log = create(dir.path(), tiny_index);
    for i in 0..20 {
        append(&log, batch(Compression::None, 0..1, NOW + i)).unwrap();
    }
    assert!(log.segments() >= 5, "{}", log.segments());

    let dir = tempfile::tempdir().unwrap();
    let log = create(dir.path(), LogConfig::default());
    let far = |offset: i64| {
        filled(
            BatchBuilder::new(Compression::None).base_offset(Offset(offset)).leader_epoch(EPOCH),
            0..1,
            NOW,
        )
    };
    log.append_as_follower(far(0), EPOCH, NOW).unwrap();
    log.append_as_follower(far(i32::MAX as i64), EPOCH, NOW).unwrap();
    assert_eq!(log.segments(), 1);
    log.append_as_follower(far(i32::MAX as i64 + 1), EPOCH, NOW).unwrap();
    assert_eq!(log.segments(), 2);
    log.set_high_watermark(log.log_end_offset());
    assert_eq!(read_all(&log, Offset(1), 1).len(), 2, "offsets may have gaps");
}

#[test]
fn followers_take_batches_as_they_are() {
    let (leader_dir, follower_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let leader = filled_log(leader_dir.path(), LogConfig::default(), 5);
    let follower = create(follower_dir.path(), small_segments());
    let bytes = leader.read(Offset(0), 1 << 20, Offset(50), true).unwrap().read_to_bytes().unwrap();
    let cut = bytes.slice(..bytes.len() - 1);
    assert_eq!(follower.append_as_follower(cut, EPOCH, NOW).unwrap(), Offset(40), "a cut batch is left out");
    let again = follower.append_as_follower(bytes.clone(), EPOCH, NOW).unwrap_err();
    assert!(matches!(again, Error::UnexpectedAppendOffset { .. }));
    let newer =
        leader.append_as_leader(batch(Compression::None, 0..1, NOW), LeaderEpoch(2), Origin::Client, NOW);
    newer.unwrap();
    let bytes = leader.read(Offset(40), 1 << 20, Offset(51), true).unwrap().read_to_bytes().unwrap();
    let error = follower.append_as_follower(bytes.clone(), LeaderEpoch(1), NOW).unwrap_err();
    assert!(matches!(error, Error::UnexpectedLeaderEpoch { offset: Offset(50), .. }));
    assert_eq!(follower.log_end_offset(), Offset(50));
}

#[test]
fn timestamps_lead_to_offsets() {
    let dir = tempfile::tempdir().unwrap();
    let log = filled_log(dir.path(), small_segments(), 40);
    let find = |time: i64| log.offset_for_timestamp(time).unwrap().map(|f| (f.offset.0, f.timestamp));
    assert_eq!(find(0), Some((0, NOW)));
    assert_eq!(find(NOW + 1), Some((10, NOW + 1000)));
    assert_eq!(find(NOW + 38_500), Some((390, NOW + 39_000)));
    assert_eq!(find(NOW + 39_001), None);
    let newest = log.max_timestamp().unwrap().unwrap();
    assert_eq!((newest.offset, newest.timestamp, newest.leader_epoch), (Offset(390), NOW + 39_000, EPOCH));
    // Out of order: an old record late, and a young one in the middle.
    append(&log, batch(Compression::Snappy, 0..1, NOW - 5)).unwrap();
    append(&log, batch(Compression::Snappy, 0..3, NOW + 90_000)).unwrap();
    append(&log, batch(Compression::Snappy, 0..1, NOW + 60_000)).unwrap();
    assert_eq!(find(NOW + 50_000), Some((401, NOW + 90_000)));
    assert_eq!(log.max_timestamp().unwrap().unwrap().offset, Offset(401));
}

#[test]
fn old_segments_go_by_time_and_size_and_start_offset() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { retention_ms: 10_000, file_delete_delay_ms: 100, ..small_segments() };
    let log = filled_log(dir.path(), config.clone(), 40);
    let segments = log.segments();
    let held = log.read(Offset(0), 1 << 20, Offset(400), true).unwrap();
    let removed = log.apply_retention(NOW + 30_000).unwrap();
    assert!(removed > 0 && log.segments() == segments - removed);
    let start = log.log_start_offset();
    assert!(start > Offset(100) && start <= Offset(200), "{start}");
    assert!(log.read(Offset(0), 1, Offset(400), true).is_err());
    assert!(!files(dir.path(), ".log.deleted").is_empty());
    held.read_to_bytes().unwrap();
    assert_eq!(log.reap(NOW + 30_099).unwrap(), 0);
    assert!(log.reap(NOW + 30_100).unwrap() > 0);
    assert!(files(dir.path(), ".deleted").is_empty());
    held.read_to_bytes().unwrap();

    log.set_config(LogConfig { retention_ms: -1, retention_bytes: 5000, ..config.clone() });
    log.apply_retention(NOW + 30_000).unwrap();
    assert!((5000..7000).contains(&log.size()), "{}", log.size());

    log.set_config(LogConfig { delete: false, compact: true, ..config.clone() });
    assert_eq!(log.apply_retention(NOW + 1_000_000).unwrap(), 0);
    assert_eq!(log.delete_records_before(Offset(401)).unwrap_err().code(), 1);
    assert_eq!(log.delete_records_before(Offset(395)).unwrap(), Offset(395));
    assert_eq!(log.delete_records_before(Offset(3)).unwrap(), Offset(395));
    log.apply_retention(NOW).unwrap();
    assert_eq!(read_all(&log, Offset(395), 1 << 20).len(), 5);

    log.set_config(LogConfig { retention_ms: 1, ..config });
    log.apply_retention(NOW + 1_000_000).unwrap();
    assert_eq!((log.segments(), log.size()), (1, 0), "the active segment goes, too");
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (Offset(400), Offset(400)));
    append(&log, batch(Compression::None, 0..1, NOW)).unwrap();
    assert_eq!(read_all(&log, Offset(400), 1).len(), 1);
}

#[test]
fn nothing_goes_above_the_high_watermark() {
    let dir = tempfile::tempdir().unwrap();
    let log = create(dir.path(), LogConfig { retention_ms: 1, ..small_segments() });
    for i in 0..40 {
        let one = batch(Compression::None, 0..10, NOW + i);
        log.append_as_leader(one, EPOCH, Origin::Client, NOW).unwrap();
    }
    assert_eq!(log.high_watermark(), Offset(0));
    assert_eq!(log.apply_retention(NOW + 1_000_000).unwrap(), 0);
    log.set_high_watermark(Offset(200));
    assert!(log.apply_retention(NOW + 1_000_000).unwrap() > 0);
    assert!(log.log_start_offset() <= Offset(200));
}

#[test]
fn truncation_takes_whole_batches_and_what_hangs_on_them() {
    let dir = tempfile::tempdir().unwrap();
    let log = create(dir.path(), small_segments());
    for i in 0..40 {
        let one = idempotent(4, 0, i * 10, 0..10, NOW + i as i64);
        log.append_as_leader(one, LeaderEpoch(i / 10), Origin::Client, NOW).unwrap();
    }
    log.set_high_watermark(Offset(400));
    log.truncate_to(Offset(155), NOW).unwrap();
    assert_eq!((log.log_end_offset(), log.high_watermark()), (Offset(150), Offset(150)));
    assert_eq!(log.latest_epoch(), Some(LeaderEpoch(1)));
    assert_eq!(log.max_timestamp().unwrap().unwrap().offset, Offset(140));
    assert_eq!(read_all(&log, Offset(0), 1000).len(), 150);
    // A reign without a record: another leader's history goes on without it.
    log.begin_epoch(LeaderEpoch(2)).unwrap();
    assert_eq!(log.latest_epoch(), Some(LeaderEpoch(2)));
    log.truncate_to(Offset(150), NOW).unwrap();
    assert_eq!((log.log_end_offset(), log.latest_epoch()), (Offset(150), Some(LeaderEpoch(1))));
    let again = log.append_as_leader(idempotent(4, 0, 150, 0..10, NOW), LeaderEpoch(2), Origin::Client, NOW);
    assert_eq!(again.unwrap().first_offset, Offset(150), "the producer goes on where it was cut");
    log.set_high_watermark(Offset(160));
    log.truncate_fully_and_start_at(Offset(1000), NOW).unwrap();
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (Offset(1000), Offset(1000)));
    assert_eq!(append(&log, batch(Compression::None, 0..1, NOW)).unwrap().first_offset, Offset(1000));
    log.close().unwrap();
    assert_eq!(append(&log, batch(Compression::None, 0..1, NOW)).unwrap_err().code(), 56);
    assert_eq!(reopen(dir.path(), small_segments(), true).log_end_offset(), Offset(1001));
}

#[test]
fn an_epoch_that_is_over_writes_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let log = create(dir.path(), LogConfig::default());
    let write = |epoch| {
        log.append_as_leader(batch(Compression::None, 0..1, NOW), LeaderEpoch(epoch), Origin::Client, NOW)
    };
    write(3).unwrap();
    log.fence(LeaderEpoch(4));
    assert_eq!(write(3).unwrap_err().code(), 6);
    log.fence(LeaderEpoch(2));
    assert_eq!(write(3).unwrap_err().code(), 6, "a fence is not taken back");
    write(4).unwrap();
    let fetched = log.read(Offset(0), 1 << 20, log.log_end_offset(), true).unwrap().read_to_bytes().unwrap();
    let stale = log.append_as_follower(fetched, LeaderEpoch(3), NOW);
    assert_eq!(stale.unwrap_err().code(), 6);
    assert_eq!(log.log_end_offset(), Offset(2));
}

#[test]
fn batches_sent_again_after_a_clean_stop_are_recognised() {
    let dir = tempfile::tempdir().unwrap();
    let log = create(dir.path(), LogConfig::default());
    let sent: Vec<_> = (0..7).map(|i| idempotent(1, 0, i * 10, 0..10, NOW)).collect();
    for batch in &sent {
        append(&log, batch.clone()).unwrap();
    }
    log.close().unwrap();
    drop(log);
    let log = reopen(dir.path(), LogConfig::default(), true);
    for (i, batch) in (0..7).zip(sent) {
        match append(&log, batch) {
            Ok(info) => assert_eq!((info.duplicate, info.first_offset), (true, Offset(i * 10))),
            Err(error) => assert!(i < 2 && error.code() == 45, "batch {i}: {error}"),
        }
    }
    assert_eq!(log.log_end_offset(), Offset(70));
}

#[test]
fn an_open_transaction_holds_back_the_last_stable_offset() {
    let dir = tempfile::tempdir().unwrap();
    let log = create(dir.path(), LogConfig::default());
    append(&log, batch(Compression::None, 0..5, NOW)).unwrap();
    let transactional = BatchBuilder::new(Compression::None).transactional(true);
    let one = filled(transactional.producer(ProducerId(1), ProducerEpoch(0), 0), 0..2, NOW);
    append(&log, one).unwrap();
    append(&log, batch(Compression::None, 0..5, NOW)).unwrap();
    assert_eq!((log.high_watermark(), log.last_stable_offset()), (Offset(12), Offset(5)));
    assert_eq!(append(&log, idempotent(1, 0, 2, 0..1, NOW)).unwrap_err().code(), 48);
    assert_eq!(reopen(dir.path(), LogConfig::default(), false).last_stable_offset(), Offset(5));
    let marker = |m| BatchBuilder::end_transaction(ProducerId(1), ProducerEpoch(0), NOW, m).finish().unwrap();
    let commit = marker(EndTransactionMarker { committed: true, coordinator_epoch: 3 });
    assert_eq!(append(&log, commit.clone()).unwrap_err().code(), 87, "not from a client");
    log.append_as_leader(commit, EPOCH, Origin::Coordinator, NOW).unwrap();
    assert_eq!(log.last_stable_offset(), Offset(5), "until the marker is replicated");
    log.set_high_watermark(Offset(13));
    assert_eq!(log.last_stable_offset(), Offset(13));
    let late = marker(EndTransactionMarker { committed: false, coordinator_epoch: 2 });
    assert_eq!(log.append_as_leader(late, EPOCH, Origin::Coordinator, NOW).unwrap_err().code(), 52);
}

/// The coordinator lets a producer begin its next transaction when the last marker of the one before is written, and that
/// may be after the guard was given.
#[test]
fn a_late_marker_takes_a_guard_away_and_the_next_one_is_good() {
    let dir = tempfile::tempdir().unwrap();
    let log = create(dir.path(), LogConfig::default());
    let newcomer = |epoch| {
        let (id, epoch) = (ProducerId(1), ProducerEpoch(epoch));
        Newcomer { id, epoch, sequence: 0, raises_epoch: true }
    };
    let first = |epoch| {
        let builder = BatchBuilder::new(Compression::None).transactional(true);
        filled(builder.producer(ProducerId(1), ProducerEpoch(epoch), 0), 0..1, NOW)
    };
    let append =
        |epoch, guard| log.append_as_leader(first(epoch), EPOCH, Terms::guarded(Origin::Client, guard), NOW);
    append(0, log.begin_verification(newcomer(0), NOW)).unwrap();
    let early = log.begin_verification(newcomer(1), NOW).unwrap();
    assert!(log.is_verifying(ProducerId(1), early));
    let committed = EndTransactionMarker { committed: true, coordinator_epoch: 0 };
    let marker = BatchBuilder::end_transaction(ProducerId(1), ProducerEpoch(1), NOW, committed);
    log.append_as_leader(marker.finish().unwrap(), EPOCH, Terms::marker(2), NOW).unwrap();
    assert!(!log.is_verifying(ProducerId(1), early));
    assert_eq!(append(1, Some(early)).unwrap_err().code(), 48, "INVALID_TXN_STATE");
    assert_eq!(append(0, None).unwrap_err().code(), 47, "INVALID_PRODUCER_EPOCH comes first");
    let again = log.begin_verification(newcomer(1), NOW);
    assert_eq!(append(1, again).unwrap().first_offset, Offset(2));
}

#[test]
fn readers_see_whole_batches_while_a_writer_appends() {
    let dir = tempfile::tempdir().unwrap();
    let log = create(dir.path(), LogConfig { segment_bytes: 20_000, ..LogConfig::default() });
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut next = Offset(0);
            while next < Offset(3000) {
                let slice = log.read(next, 4000, log.high_watermark(), true).unwrap();
                if slice.is_empty() {
                    std::thread::yield_now();
                    continue;
                }
                let bytes = slice.read_to_bytes().unwrap();
                let header = BatchHeader::parse(&bytes).unwrap();
                assert_eq!(header.base_offset, next);
                RecordBatch::parse(bytes.slice(..header.size())).unwrap().check_crc().unwrap();
                next = header.next_offset();
            }
        });
        for i in 0..1000 {
            append(&log, batch(Compression::None, i..i + 3, NOW)).unwrap();
        }
        reader.join().unwrap();
    });
}

#[test]
fn names_and_ids_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let id = aqueduct_protocol::ids::Uuid(*b"0123456789abcdef");
    let partition = TopicPartition::new("events", 3);
    let log = Log::create(dir.path(), &partition, Some(id), LogConfig::default(), NOW).unwrap();
    assert_eq!(log.topic_id(), Some(id));
    drop(log);
    assert_eq!(reopen(dir.path(), LogConfig::default(), true).topic_id(), Some(id));
    let twice = Log::create(dir.path(), &partition, Some(id), LogConfig::default(), NOW);
    assert!(matches!(twice, Err(Error::AlreadyExists { .. })));
    let odd = Log::open(dir.path(), LogConfig::default(), aqueduct_storage::Recovery::UNKNOWN, NOW);
    assert!(matches!(odd, Err(Error::BadDirectoryName { .. })));
}

#[test]
fn aborted_transactions_are_indexed_and_survive_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let log = create(dir.path(), small_segments());
    let marker = |id, committed| {
        let marker = EndTransactionMarker { committed, coordinator_epoch: 0 };
        BatchBuilder::end_transaction(ProducerId(id), ProducerEpoch(0), NOW, marker).finish().unwrap()
    };
    // Two producers side by side; every other transaction of the first is aborted.
    for i in 0..40i32 {
        for id in [1, 2] {
            let builder = BatchBuilder::new(Compression::None).transactional(true);
            let builder = builder.producer(ProducerId(id), ProducerEpoch(0), i * 2);
            append(&log, filled(builder, 0..2, NOW)).unwrap();
        }
        log.append_as_leader(marker(1, i % 2 == 0), EPOCH, Origin::Coordinator, NOW).unwrap();
        log.append_as_leader(marker(2, true), EPOCH, Origin::Coordinator, NOW).unwrap();
        log.set_high_watermark(log.log_end_offset());
    }
    let all = |log: &Log| -> Vec<_> {
        let found = log.aborted_transactions(Offset(0), log.log_end_offset()).unwrap();
        found.iter().map(|a| (a.producer_id.0, a.first_offset.0, a.last_offset.0)).collect()
    };
    let expected: Vec<_> = (0..40).filter(|i| i % 2 == 1).map(|i| (1, i * 6, i * 6 + 4)).collect();
    assert_eq!(all(&log), expected);
    assert!(files(dir.path(), ".txnindex").len() > 1);
    let between = log.aborted_transactions(Offset(7), Offset(31)).unwrap();
    assert_eq!(between.iter().map(|a| a.first_offset.0).collect::<Vec<_>>(), [6, 18, 30]);
    for path in &files(dir.path(), ".txnindex")[1..] {
        std::fs::remove_file(path).unwrap();
    }
    let log = reopen(dir.path(), small_segments(), false);
    assert_eq!(all(&log), expected);
    log.truncate_to(Offset(24), NOW).unwrap();
    assert_eq!(all(&log), expected[..2]);
    assert_eq!(log.last_stable_offset(), Offset(24));
}

#[test]
fn preallocated_space_is_not_part_of_the_log_and_is_given_back() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { preallocate: true, segment_bytes: 1 << 20, ..LogConfig::default() };
    let log = filled_log(dir.path(), config.clone(), 3);
    let path = &files(dir.path(), ".log")[0];
    assert_eq!(std::fs::metadata(path).unwrap().len(), log.size());
    log.close().unwrap();
    assert!(std::fs::metadata(path).unwrap().blocks() * 512 < 1 << 19);
    assert_eq!(read_all(&reopen(dir.path(), config, true), Offset(0), 1 << 20).len(), 30);
}

#[test]
fn an_idle_log_holds_one_descriptor() {
    let dir = tempfile::tempdir().unwrap();
    let log = filled_log(dir.path(), LogConfig::default(), 3);
    let held =
        std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
    assert_eq!(held.filter(|path| path.starts_with(dir.path())).count(), 1);
    drop(log);
}

#[test]
fn an_append_that_cannot_be_indexed_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let log = create(dir.path(), LogConfig::default());
    append(&log, batch(Compression::None, 0..10, NOW)).unwrap();
    // The leader epoch cannot be stored: a directory stands in the way.
    let path = log_dir(dir.path()).join("leader-epoch-checkpoint.tmp");
    std::fs::create_dir(&path).unwrap();
    let next = batch(Compression::None, 0..10, NOW);
    let failed = log.append_as_leader(next.clone(), LeaderEpoch(1), Origin::Client, NOW).unwrap_err();
    assert_eq!(failed.code(), 56);
    assert!(failed.to_string().contains("leader-epoch-checkpoint.tmp"), "{failed}");
    assert_eq!(log.log_end_offset(), Offset(10));
    std::fs::remove_dir(&path).unwrap();
    let info = log.append_as_leader(next, LeaderEpoch(1), Origin::Client, NOW).unwrap();
    log.set_high_watermark(Offset(20));
    assert_eq!(info.first_offset, Offset(10));
    assert_eq!(read_all(&log, Offset(0), 1 << 20).len(), 20);
    log.close().unwrap();
    let log = reopen(dir.path(), LogConfig::default(), true);
    assert_eq!((log.log_end_offset(), log.latest_epoch()), (Offset(20), Some(LeaderEpoch(1))));
}
