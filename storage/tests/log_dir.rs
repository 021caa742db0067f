//! A data directory: its lock, its owner, its checkpoints and what it holds.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use aqueduct_protocol::ids::{BrokerId, Offset, Uuid};
use aqueduct_storage::{Error, Log, LogConfig, LogDir, MetaProperties, OffsetCheckpoint, TopicPartition};
use common::NOW;

#[test]
fn a_directory_has_one_owner_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let held = LogDir::open(&path).unwrap();
    let error = LogDir::open(&path).unwrap_err();
    assert!(matches!(error, Error::DirectoryInUse { .. }));
    assert!(error.to_string().contains("another broker process uses this data directory"), "{error}");
    drop(held);
    LogDir::open(&path).unwrap();
}

#[test]
fn the_mark_of_a_clean_shutdown_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let log_dir = LogDir::open(dir.path()).unwrap();
    assert!(!log_dir.had_clean_shutdown());
    log_dir.mark_clean_shutdown(42).unwrap();
    let mark = fs::read_to_string(dir.path().join(".kafka_cleanshutdown")).unwrap();
    assert_eq!(mark, r#"{"version":0,"brokerEpoch":42}"#);
    drop(log_dir);
    assert!(LogDir::open(dir.path()).unwrap().had_clean_shutdown());
    assert!(!LogDir::open(dir.path()).unwrap().had_clean_shutdown());
}

#[test]
fn a_foreign_directory_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(MetaProperties::read(dir.path()).unwrap(), None);
    let ours = MetaProperties {
        cluster_id: "abc".into(),
        node_id: BrokerId(1),
        directory_id: Uuid(*b"0123456789abcdef"),
    };
    ours.write(dir.path()).unwrap();
    let read = MetaProperties::read(dir.path()).unwrap().unwrap();
    assert_eq!(read, ours);
    read.check(dir.path(), "abc", BrokerId(1)).unwrap();
    let error = read.check(dir.path(), "xyz", BrokerId(1)).unwrap_err().to_string();
    assert!(error.contains("says cluster.id=abc, this broker has cluster.id=xyz"), "{error}");
    let error = read.check(dir.path(), "abc", BrokerId(2)).unwrap_err().to_string();
    assert!(error.contains("says node.id=1, this broker has node.id=2"), "{error}");
    for bad in
        ["", "version=0\ncluster.id=a\nnode.id=1\n", "version=1\nnode.id=1\n", "version=1\ncluster.id=a\n"]
    {
        fs::write(dir.path().join("meta.properties"), bad).unwrap();
        assert!(matches!(MetaProperties::read(dir.path()), Err(Error::DamagedFile { .. })), "{bad:?}");
    }
    // As the Java tool formats it.
    let java = "#\n#Sat Nov 21 08:00:00 UTC 2026\nnode.id=3\ndirectory.id=kJhpQzN0TkqEBTpHKzBSEw\nversion=1\ncluster.id=q\n";
    fs::write(dir.path().join("meta.properties"), java).unwrap();
    assert_eq!(MetaProperties::read(dir.path()).unwrap().unwrap().node_id, BrokerId(3));
}

#[test]
fn logs_are_found_and_deleted_ones_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let log_dir = LogDir::open(dir.path()).unwrap();
    let names = [TopicPartition::new("a", 0), TopicPartition::new("a-b", 7), TopicPartition::new("c", 1)];
    for name in &names {
        Log::create(dir.path(), name, None, LogConfig::default(), NOW).unwrap().close().unwrap();
    }
    for other in ["lost+found", ".hidden", "no number", "x-0.1234-stray"] {
        fs::create_dir(dir.path().join(other)).unwrap();
    }
    let found =
        |log_dir: &LogDir| log_dir.logs().unwrap().into_iter().map(|l| l.partition).collect::<Vec<_>>();
    assert_eq!(found(&log_dir), names);
    let renamed = log_dir.rename_for_delete(&names[1], Uuid([1; 16])).unwrap();
    let name = renamed.file_name().unwrap().to_str().unwrap();
    assert_eq!(name, "a-b-7.01010101010101010101010101010101-delete");
    log_dir.remove_deleted(&renamed).unwrap();
    log_dir.remove_deleted(&renamed).unwrap();
    let left = log_dir.rename_for_delete(&names[0], Uuid([2; 16])).unwrap();
    assert_eq!(found(&log_dir), names[2..]);
    assert!(!left.exists(), "what an earlier broker left is removed");
    let long = TopicPartition::new("t".repeat(249), 0);
    Log::create(dir.path(), &long, None, LogConfig::default(), NOW).unwrap();
    log_dir.rename_for_delete(&long, Uuid([3; 16])).unwrap();
}

#[test]
fn checkpoints_round_trip() {
    let dir = tempfile::tempdir().unwrap();
    let log_dir = LogDir::open(dir.path()).unwrap();
    let offsets = |offset| OffsetCheckpoint::from([(TopicPartition::new("t", 2), Offset(offset))]);
    assert!(log_dir.read_recovery_points().unwrap().is_empty());
    log_dir.write_recovery_points(&offsets(1)).unwrap();
    log_dir.write_log_starts(&offsets(2)).unwrap();
    log_dir.write_high_watermarks(&offsets(3)).unwrap();
    log_dir.write_cleaner_offsets(&offsets(4)).unwrap();
    assert_eq!(log_dir.read_recovery_points().unwrap(), offsets(1));
    assert_eq!(log_dir.read_log_starts().unwrap(), offsets(2));
    assert_eq!(log_dir.read_high_watermarks().unwrap(), offsets(3));
    assert_eq!(log_dir.read_cleaner_offsets().unwrap(), offsets(4));
    let text = fs::read_to_string(dir.path().join("replication-offset-checkpoint")).unwrap();
    assert_eq!(text, "0\n1\nt 2 3\n");
}
