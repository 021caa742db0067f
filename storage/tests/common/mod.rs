//! Batches to write, and reading back what a log holds.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use aqueduct_protocol::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use aqueduct_protocol::records::{BatchBuilder, Batches, Compression, Record};
use aqueduct_storage::{AppendInfo, Error, Log, LogConfig, Origin, Recovery, TopicPartition};
use bytes::Bytes;

pub const EPOCH: LeaderEpoch = LeaderEpoch(0);
pub const NOW: i64 = 1_700_000_000_000;

/// A batch of records `value-<n>` with keys, at this time.
pub fn batch(codec: Compression, values: std::ops::Range<usize>, time: i64) -> Bytes {
    filled(BatchBuilder::new(codec), values, time)
}

/// The same from an idempotent producer.
pub fn idempotent(id: i64, epoch: i16, sequence: i32, values: std::ops::Range<usize>, time: i64) -> Bytes {
    let builder = BatchBuilder::new(Compression::None);
    filled(builder.producer(ProducerId(id), ProducerEpoch(epoch), sequence), values, time)
}

pub fn filled(mut builder: BatchBuilder, values: std::ops::Range<usize>, time: i64) -> Bytes {
    for n in values {
        let (key, value) = (format!("key-{n}"), format!("value-{n}"));
        builder.append(time, Some(key.as_bytes()), Some(value.as_bytes()), &[]).unwrap();
    }
    builder.finish().unwrap()
}

pub fn append(log: &Log, batch: Bytes) -> Result<AppendInfo, Error> {
    append_at(log, batch, NOW)
}

pub fn append_at(log: &Log, batch: Bytes, now: i64) -> Result<AppendInfo, Error> {
    let info = log.append_as_leader(batch, EPOCH, Origin::Client, now)?;
    log.set_high_watermark(log.log_end_offset());
    Ok(info)
}

pub fn create(dir: &Path, config: LogConfig) -> Log {
    Log::create(dir, &TopicPartition::new("events", 3), None, config, NOW).unwrap()
}

pub fn log_dir(dir: &Path) -> PathBuf {
    dir.join("events-3")
}

pub fn reopen(dir: &Path, config: LogConfig, clean: bool) -> Log {
    let recovery = Recovery { clean, ..Recovery::UNKNOWN };
    let log = Log::open(&log_dir(dir), config, recovery, NOW).unwrap();
    log.set_high_watermark(log.log_end_offset());
    log
}

/// Every record from `from` to the high watermark, read in steps of at most `max_bytes`.
pub fn read_all(log: &Log, from: Offset, max_bytes: usize) -> Vec<Record> {
    let (mut next, mut records) = (from, Vec::new());
    loop {
        let slice = log.read(next, max_bytes, log.high_watermark(), true).unwrap();
        if slice.is_empty() {
            return records;
        }
        let before = next;
        for batch in Batches::new(slice.read_to_bytes().unwrap()) {
            let batch = batch.unwrap();
            batch.check_crc().unwrap();
            let fresh = batch.records().unwrap().map(Result::unwrap).filter(|r| r.offset >= from);
            records.extend(fresh);
            next = batch.header.next_offset();
        }
        assert!(next > before, "no progress at {before}");
    }
}

/// The names in the log's directory that end so.
pub fn files(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(log_dir(dir)).unwrap().map(|e| e.unwrap().path());
    let mut found: Vec<_> = entries.filter(|p| p.to_str().unwrap().ends_with(suffix)).collect();
    found.sort();
    found
}
