//! Random appends, rolls, crashes, truncations and deletions, against a list of records.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::OpenOptions;

use aqueduct_protocol::ids::Offset;
use aqueduct_protocol::records::Compression;
use aqueduct_storage::{Log, LogConfig, Recovery};
use common::*;
use proptest::collection::vec;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Append {
        codec: Compression,
        records: usize,
        seconds: i64,
    },
    Close,
    /// The process dies; of what was not flushed, so many bytes do not reach the disk.
    Crash {
        lost: u64,
    },
    Flush,
    Truncate {
        back: i64,
    },
    DeleteBefore {
        back: i64,
    },
    Retain {
        bytes: i64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let codec = prop::sample::select(Compression::ALL.to_vec());
    prop_oneof![
        12 => (codec, 1usize..30, -20i64..60)
            .prop_map(|(codec, records, seconds)| Step::Append { codec, records, seconds }),
        1 => Just(Step::Close),
        2 => (0u64..2500).prop_map(|lost| Step::Crash { lost }),
        1 => Just(Step::Flush),
        1 => (0i64..60).prop_map(|back| Step::Truncate { back }),
        1 => (0i64..80).prop_map(|back| Step::DeleteBefore { back }),
        1 => (0i64..8000).prop_map(|bytes| Step::Retain { bytes }),
    ]
}

/// What the log should hold.
#[derive(Default)]
struct Model {
    /// Base offset, record count and timestamp of each batch.
    batches: Vec<(i64, usize, i64)>,
    start: i64,
    flushed: i64,
    clock: i64,
}

impl Model {
    fn end(&self) -> i64 {
        self.batches.last().map_or(self.start, |(base, count, _)| base + *count as i64)
    }

    fn cut(&mut self, end: i64) {
        self.batches.retain(|(base, count, _)| base + *count as i64 <= end);
        // A log that ends before it starts is begun again.
        if self.end() < self.start {
            self.batches.clear();
        }
        self.flushed = self.flushed.min(self.end());
    }
}

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 1500,
        index_interval_bytes: 200,
        segment_index_bytes: 120,
        retention_ms: -1,
        message_timestamp_after_max_ms: i64::MAX,
        ..LogConfig::default()
    }
}

fn check(log: &Log, model: &Model) -> Result<(), TestCaseError> {
    prop_assert_eq!(log.log_end_offset().0, model.end());
    prop_assert_eq!(log.log_start_offset().0, model.start);
    let offsets: Vec<i64> = read_all(log, Offset(model.start), 777).iter().map(|r| r.offset.0).collect();
    prop_assert_eq!(offsets, (model.start..model.end()).collect::<Vec<_>>());
    let visible = || model.batches.iter().filter(|(base, count, _)| base + *count as i64 > model.start);
    for (_, _, time) in visible() {
        let expected = visible().find(|(_, _, t)| t >= time).map(|(base, _, t)| (base.max(&model.start), t));
        let found = log.offset_for_timestamp(*time).unwrap();
        prop_assert_eq!(found.as_ref().map(|f| (&f.offset.0, &f.timestamp)), expected);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_log_is_the_list_of_what_was_appended(steps in vec(step(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let mut log = create(dir.path(), config());
        let mut model = Model { clock: NOW, ..Model::default() };
        for step in steps {
            match step {
                Step::Append { codec, records, seconds } => {
                    model.clock += seconds;
                    let base = model.end();
                    let info = append(&log, batch(codec, 0..records, model.clock)).unwrap();
                    prop_assert_eq!(info.first_offset.0, base);
                    model.batches.push((base, records, model.clock));
                }
                Step::Close => {
                    log.close().unwrap();
                    log = open(dir.path(), true, &model);
                    model.flushed = model.end();
                }
                Step::Crash { lost } => {
                    drop(log);
                    let end = lose(dir.path(), lost, &model);
                    model.cut(end);
                    log = open(dir.path(), false, &model);
                }
                Step::Flush => {
                    model.flushed = log.flush().unwrap().0;
                    prop_assert_eq!(model.flushed, model.end());
                }
                Step::Truncate { back } => {
                    let target = (model.end() - back).max(model.start);
                    log.truncate_to(Offset(target), NOW).unwrap();
                    model.start = model.start.min(log.log_end_offset().0);
                    model.cut(target);
                }
                Step::DeleteBefore { back } => {
                    let start = (model.end() - back).max(model.start);
                    log.delete_records_before(Offset(start)).unwrap();
                    model.start = start;
                    log.apply_retention(NOW).unwrap();
                }
                Step::Retain { bytes } => {
                    log.set_config(LogConfig { retention_bytes: bytes, ..config() });
                    log.apply_retention(NOW).unwrap();
                    log.set_config(config());
                    prop_assert!(log.size() >= bytes as u64 || log.log_start_offset().0 == model.start);
                    model.start = log.log_start_offset().0;
                    log.reap(i64::MAX).unwrap();
                }
            }
            check(&log, &model)?;
        }
    }
}

fn open(dir: &std::path::Path, clean: bool, model: &Model) -> Log {
    let recovery = Recovery { clean, recovery_point: Offset(model.flushed), log_start: Offset(model.start) };
    let log = Log::open(&log_dir(dir), config(), recovery, NOW).unwrap();
    log.set_high_watermark(log.log_end_offset());
    log
}

/// Cuts up to `lost` bytes off the last segment, though nothing that was flushed; returns where the log then ends.
fn lose(dir: &std::path::Path, lost: u64, model: &Model) -> i64 {
    let last = files(dir, ".log").pop().unwrap();
    let base: i64 = last.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let bytes = std::fs::read(&last).unwrap();
    let mut ends = Vec::new();
    let mut at = 0;
    for found in aqueduct_protocol::records::Batches::new(bytes.clone().into()) {
        let header = found.unwrap().header;
        at += header.size() as u64;
        ends.push((header.next_offset().0, at));
    }
    let safe = ends.iter().filter(|(end, _)| *end <= model.flushed).map(|(_, at)| *at).max().unwrap_or(0);
    let size = (bytes.len() as u64).saturating_sub(lost).max(safe);
    OpenOptions::new().write(true).open(&last).unwrap().set_len(size).unwrap();
    ends.iter().filter(|(_, at)| *at <= size).map(|(end, _)| *end).max().unwrap_or(base)
}
