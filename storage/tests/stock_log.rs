//! Logs that a stock broker wrote are opened, read and extended, and the stock broker goes on with them.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/peer.rs"]
mod peer;

use std::fs;
use std::path::Path;

use aqueduct_protocol::ids::Offset;
use aqueduct_protocol::records::{Batches, Compression};
use aqueduct_storage::{Log, LogConfig, LogDir, MetaProperties, Origin, Recovery, TopicPartition};
use common::{NOW, batch};
use peer::{Broker, kafka_class, run};

const RECORDS: i64 = 4000;

/// `RECORDS` records of 500 bytes by the stock producer, which is idempotent.
fn produce(broker: &Broker, topic: &str, properties: &[&str]) {
    let mut command = kafka_class("org.apache.kafka.tools.ProducerPerformance");
    command.args(["--topic", topic, "--num-records", &RECORDS.to_string(), "--record-size", "500"]);
    command.args([
        "--throughput",
        "-1",
        "--command-property",
        &format!("bootstrap.servers={}", broker.address()),
    ]);
    command.args(properties);
    run(command);
}

/// What is in a log: records of applications, control records, and producers.
#[derive(Debug, PartialEq, Eq)]
struct Content {
    records: i64,
    control: i64,
    end: Offset,
}

fn content(log: &Log) -> Content {
    let end = log.log_end_offset();
    log.set_high_watermark(end);
    let mut content = Content { records: 0, control: 0, end };
    let mut next = log.log_start_offset();
    while next < end {
        let slice = log.read(next, 100_000, end, true).unwrap();
        assert!(!slice.is_empty(), "nothing at {next}");
        for batch in Batches::new(slice.read_to_bytes().unwrap()) {
            let batch = batch.unwrap();
            batch.check_crc().unwrap();
            assert_eq!(batch.header.base_offset, next, "offsets are without gaps");
            let count = batch.records().unwrap().map(Result::unwrap).count() as i64;
            if batch.header.attributes.is_control() {
                content.control += count
            } else {
                content.records += count
            }
            next = batch.header.next_offset();
        }
    }
    content
}

fn open(data: &Path, name: &str, clean: bool) -> Log {
    Log::open(&data.join(name), LogConfig::default(), Recovery { clean, ..Recovery::UNKNOWN }, NOW).unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

#[test]
fn stock_logs_are_read_and_extended_and_read_by_the_stock_broker() {
    let dir = tempfile::tempdir().unwrap();
    let settings = ["log.segment.bytes=1048576", "auto.create.topics.enable=true"];
    let broker = Broker::start(dir.path(), &settings);
    produce(&broker, "plain", &[]);
    produce(&broker, "packed", &["compression.type=lz4"]);
    let zstd = ["compression.type=zstd", "--transaction-duration-ms", "50"];
    produce(&broker, "packed", &zstd);
    let data = dir.path().join("data");

    // As a crash would leave it: nothing closed, indexes still at their full size.
    let crashed = dir.path().join("crashed");
    for name in ["plain-0", "packed-0"] {
        copy(&data.join(name), &crashed.join(name));
    }
    broker.stop();

    let plain = content(&open(&crashed, "plain-0", false));
    assert_eq!(plain, Content { records: RECORDS, control: 0, end: Offset(RECORDS) });
    let packed = content(&open(&crashed, "packed-0", false));
    assert_eq!(packed.records, 2 * RECORDS);
    assert!(packed.control > 0, "{packed:?}");

    {
        let log_dir = LogDir::open(&data).unwrap();
        assert!(log_dir.had_clean_shutdown());
        log_dir.mark_clean_shutdown(-1).unwrap();
        assert_eq!(MetaProperties::read(&data).unwrap().unwrap().node_id.0, 1);
        assert!(
            log_dir.logs().unwrap().iter().any(|found| found.partition == TopicPartition::new("packed", 0))
        );
        let starts = log_dir.read_recovery_points().unwrap();
        assert_eq!(starts[&TopicPartition::new("plain", 0)], Offset(RECORDS));
    }
    let log = open(&data, "plain-0", true);
    assert!(log.segments() > 1 && log.topic_id().is_some());
    assert_eq!(content(&log), plain);
    let log_packed = open(&data, "packed-0", true);
    assert_eq!(content(&log_packed), packed);
    assert_eq!(log_packed.last_stable_offset(), packed.end, "all transactions are over");

    let epoch = log.latest_epoch().unwrap();
    for codec in Compression::ALL {
        log.append_as_leader(batch(codec, 0..10, NOW), epoch, Origin::Client, NOW).unwrap();
    }
    log.close().unwrap();
    drop(log);

    let broker = Broker::start(dir.path(), &settings);
    for (topic, expected) in [("plain", RECORDS + 50), ("packed", 2 * RECORDS)] {
        let mut command = kafka_class("org.apache.kafka.tools.consumer.ConsoleConsumer");
        command.args(["--bootstrap-server", &broker.address(), "--topic", topic, "--from-beginning"]);
        command.args(["--max-messages", &expected.to_string(), "--timeout-ms", "60000"]);
        command.args(["--command-property", "isolation.level=read_committed"]);
        let output = run(command);
        assert!(output.contains(&format!("Processed a total of {expected} messages")), "{topic}: {expected}");
    }
    broker.stop();
}
