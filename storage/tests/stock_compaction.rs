//! The stock cleaner and ours come to the same, each reads what the other has left, and the stock dump-log finds nothing to
//! complain about.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/peer.rs"]
mod peer;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aqueduct_protocol::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use aqueduct_protocol::records::{BatchBuilder, Batches, Compression, EndTransactionMarker, RecordBatch};
use aqueduct_storage::{Cleaned, CleanerLimits, Log, LogConfig, Origin, Recovery};
use peer::{Broker, kafka_class, run};

const LIMITS: CleanerLimits = CleanerLimits { dedupe_bytes: 128 << 20, load_factor: 0.9, io_bytes: 4000 };

fn now_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}

fn small() -> LogConfig {
    LogConfig { segment_bytes: 2500, index_interval_bytes: 300, ..compacted() }
}

fn compacted() -> LogConfig {
    LogConfig { compact: true, delete: false, min_cleanable_dirty_ratio: 0.0, ..LogConfig::default() }
}

fn open(data: &Path, topic: &str, config: LogConfig) -> Log {
    let recovery = Recovery { clean: true, ..Recovery::UNKNOWN };
    let log = Log::open(&data.join(format!("{topic}-0")), config, recovery, now_ms()).unwrap();
    log.set_high_watermark(log.log_end_offset());
    log
}

/// Keyed records and tombstones in every codec, by producers without and with sequence numbers, in transactions that are
/// committed and aborted, side by side.
fn history(log: &Log, from: i32, time: i64) {
    let append = |batch: BatchBuilder, origin| {
        log.append_as_leader(batch.finish().unwrap(), LeaderEpoch(0), origin, time).unwrap();
        log.set_high_watermark(log.log_end_offset());
    };
    for n in from..from + 120 {
        let mut batch = BatchBuilder::new(Compression::ALL[n as usize % 5]);
        let (sequence, id) = (n / 4 * 6, 100 + i64::from(n % 4));
        if n % 4 != 0 {
            batch = batch.producer(ProducerId(id), ProducerEpoch(0), sequence).transactional(n % 4 > 1);
        }
        for i in 0..6 {
            let key = format!("key-{}", (n * 7 + i * i) % 40);
            let value = format!("value {n} {i}, long enough to fill a few small segments");
            let value = ((n + i) % 5 != 0).then_some(value.as_bytes());
            batch.append(time - 1000 + i64::from(n * 3 - i), Some(key.as_bytes()), value, &[]).unwrap();
        }
        append(batch, Origin::Client);
        // A transaction is one to three batches long.
        if n % 4 > 1 && (n / 4) % 3 != 1 {
            let marker = EndTransactionMarker { committed: n % 8 > 3, coordinator_epoch: 0 };
            let marker = BatchBuilder::end_transaction(ProducerId(id), ProducerEpoch(0), time, marker);
            append(marker, Origin::Coordinator);
        }
    }
    for id in [102, 103] {
        let marker = EndTransactionMarker { committed: true, coordinator_epoch: 0 };
        let marker = BatchBuilder::end_transaction(ProducerId(id), ProducerEpoch(0), time, marker);
        append(marker, Origin::Coordinator);
    }
}

/// Puts the history in the place of an empty log of the stock broker.
fn write_history(data: &Path, topic: &str, time: i64) {
    for entry in fs::read_dir(data.join(format!("{topic}-0"))).unwrap() {
        let path = entry.unwrap().path();
        if !path.ends_with("partition.metadata") {
            fs::remove_file(path).unwrap();
        }
    }
    let log = open(data, topic, small());
    history(&log, 0, time);
    assert!(log.segments() > 6, "{}", log.segments());
    log.close().unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

fn batches(log: &Log) -> Vec<RecordBatch> {
    let (mut next, mut found) = (log.log_start_offset(), Vec::new());
    loop {
        let slice = log.read(next, 1 << 20, log.log_end_offset(), true).unwrap();
        if slice.is_empty() {
            return found;
        }
        for batch in Batches::new(slice.read_to_bytes().unwrap()) {
            let batch = batch.unwrap();
            batch.check_crc().unwrap();
            next = batch.header.next_offset();
            found.push(batch);
        }
    }
}

/// What can be compared of a batch: all but the time at which it was cleaned, and what follows from it.
fn shape(batch: &RecordBatch) -> String {
    let mut header = batch.header;
    (header.crc, header.batch_length) = (0, 0);
    if header.delete_horizon().is_some() {
        header.base_timestamp = 0;
    }
    let records: Vec<_> = batch.records().unwrap().map(Result::unwrap).collect();
    format!("{header:?} {records:?}")
}

fn assert_same(ours: &Log, theirs: &Log) {
    let (ours, theirs) = (batches(ours), batches(theirs));
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(shape(ours), shape(theirs));
        if ours.header.delete_horizon().is_none()
            && ours.header.attributes.compression().unwrap() == Compression::None
        {
            assert_eq!(ours.bytes, theirs.bytes);
        }
    }
    assert_eq!(ours.len(), theirs.len());
}

fn clean(log: &Log) -> Cleaned {
    let cleanable = log.cleanable(None, now_ms()).unwrap();
    log.clean(&cleanable, &LIMITS, now_ms(), &mut |_| true).unwrap()
}

/// Waits until the stock broker says that it has cleaned the log to its last segment.
fn await_cleaned(data: &Path, topic: &str, to: i64) {
    let from = Instant::now();
    loop {
        let text = fs::read_to_string(data.join("cleaner-offset-checkpoint")).unwrap_or_default();
        let mark = text.lines().find_map(|line| line.strip_prefix(&format!("{topic} 0 ")));
        if mark.is_some_and(|mark| mark.parse::<i64>().unwrap() >= to) {
            return;
        }
        assert!(from.elapsed() < Duration::from_secs(60), "{topic} is not cleaned: {text}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn last_base(data: &Path, topic: &str) -> i64 {
    let files = files(data, topic, "log");
    files.last().unwrap().file_stem().unwrap().to_str().unwrap().parse().unwrap()
}

fn files(data: &Path, topic: &str, kind: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join(format!("{topic}-0"))).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = entries.filter(|path| path.extension().is_some_and(|e| e == kind)).collect();
    found.sort();
    found
}

/// Records without a predecessor are what compaction leaves; everything else that the tool says is a fault.
fn assert_sound(data: &Path, topic: &str) {
    let all: Vec<PathBuf> = ["log", "index", "timeindex", "txnindex", "snapshot"]
        .iter()
        .flat_map(|kind| files(data, topic, kind))
        .collect();
    let complaints = [
        "ismatch",
        "out of order",
        "isvalid: false",
        "orrupt",
        "Exception",
        "rror",
        "trailing",
        "Could not",
        "not found",
    ];
    for options in
        [&["--index-sanity-check"][..], &["--deep-iteration", "--print-data-log"], &["--verify-index-only"]]
    {
        let dump = peer::dump_log(&all, options);
        for line in dump.lines() {
            let complaint = complaints.iter().find(|word| line.contains(**word));
            assert!(complaint.is_none(), "{line}\nin\n{dump}");
        }
    }
}

/// What the stock consumer of committed records comes to.
fn table(broker: &Broker, topic: &str) -> BTreeMap<String, String> {
    let mut command = kafka_class("org.apache.kafka.tools.consumer.ConsoleConsumer");
    command.args(["--bootstrap-server", &broker.address(), "--topic", topic, "--from-beginning"]);
    command.args(["--timeout-ms", "4000", "--command-property", "isolation.level=read_committed"]);
    command.args(["--formatter-property", "print.key=true", "--formatter-property", "key.separator==>"]);
    let output = run(command);
    let lines = output.lines().filter_map(|line| line.split_once("=>"));
    lines.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn create_topic(broker: &Broker, topic: &str) {
    let mut command = kafka_class("org.apache.kafka.tools.TopicCommand");
    command.args(["--bootstrap-server", &broker.address(), "--create", "--topic", topic]);
    command.args(["--config", "cleanup.policy=compact"]);
    run(command);
}

#[test]
fn the_stock_cleaner_and_ours_leave_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let settings = ["log.cleaner.backoff.ms=100", "log.cleaner.min.cleanable.ratio=0.01"];
    let broker = Broker::start(dir.path(), &settings);
    create_topic(&broker, "theirs");
    create_topic(&broker, "ours");
    broker.stop();

    let time = now_ms();
    write_history(&data, "theirs", time);
    write_history(&data, "ours", time);
    let ours = open(&data, "ours", compacted());
    let before = batches(&ours).len();
    let cleaned = clean(&ours);
    assert!(cleaned.records_written < cleaned.records_read / 2 && batches(&ours).len() < before);
    assert_eq!(cleaned.end.0, last_base(&data, "theirs"));
    ours.close().unwrap();
    assert_sound(&data, "ours");
    // The stock broker will clean this one once more, so a copy is kept.
    let kept = dir.path().join("kept");
    copy(&data.join("ours-0"), &kept.join("ours-0"));

    let broker = Broker::start(dir.path(), &settings);
    await_cleaned(&data, "theirs", cleaned.end.0);
    let (read_ours, read_theirs) = (table(&broker, "ours"), table(&broker, "theirs"));
    assert!(read_ours.len() > 20);
    assert_eq!(read_ours, read_theirs);
    broker.stop();

    let (ours, theirs) = (open(&kept, "ours", small()), open(&data, "theirs", small()));
    assert_same(&ours, &theirs);

    // Both go on here, with more history, and are cleaned again.
    for log in [&ours, &theirs] {
        history(log, 120, time + 1000);
        log.set_config(compacted());
        let cleaned = clean(log);
        assert!(cleaned.segments_after == 1 && cleaned.end > Offset(0));
    }
    assert_same(&ours, &theirs);
    [ours, theirs].iter().for_each(|log| log.close().unwrap());
    assert_sound(&data, "theirs");
}
