//! The files that a node leaves behind, as the stock dump-log reads them.

use std::path::Path;

use anyhow::{Context as _, Result};
use aqueduct_tests::kafka::tool;
use aqueduct_tests::server::{Kind, Server};

use crate::{consume, create_topic, numbered, on, produce};

const DUMP: &str = "org.apache.kafka.tools.DumpLogSegments";

fn files(dir: &Path, ending: &str) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    let mut names: Vec<String> = entries.flatten().map(|e| e.path().to_string_lossy().into_owned()).collect();
    names.retain(|name| name.ends_with(ending));
    names.sort_unstable();
    Ok(names)
}

fn dump(files: &[String], args: &[&str]) -> Result<String> {
    tool(DUMP, &[&["--files", &files.join(",")], args].concat())
}

fn check(kind: Kind) -> Result<()> {
    let mut server = Server::start(kind)?;
    on(
        &server,
        crate::TOPICS,
        &["--create", "--topic", "dumped", "--partitions", "1", "--config", "segment.bytes=1048576"],
    )?;
    let perf = ["--topic", "dumped", "--num-records", "20000", "--record-size", "150", "--throughput", "-1"];
    on(&server, "org.apache.kafka.tools.ProducerPerformance", &perf)?;
    create_topic(&server, "small", 1)?;
    produce(&server, "small", &numbered("s", 3).join("\n"), &["--compression-codec", "lz4"])?;
    let group = ["--group", "dump-group", "--command-property", "auto.offset.reset=earliest"];
    consume(&server, "small", 3, &group)?;
    server.stop()?;

    let dir = server.data().join("dumped-0");
    let logs = files(&dir, ".log")?;
    assert!(logs.len() >= 3, "segments of a MiB: {logs:?}");
    let printed = dump(&logs, &["--deep-iteration"])?;
    assert_eq!(
        printed.matches("isvalid: true").count(),
        printed.matches("baseOffset: ").count(),
        "{printed:.2000}"
    );
    assert_eq!(printed.matches("\n| offset: ").count(), 20_000);
    assert!(printed.contains("producerId: "), "{printed:.500}");
    let indexes = [files(&dir, ".index")?, files(&dir, ".timeindex")?].concat();
    assert_eq!(indexes.len(), logs.len() * 2);
    let printed = dump(&indexes, &["--index-sanity-check"])?;
    assert_eq!(printed.matches("passed sanity check").count(), indexes.len(), "{printed:.2000}");
    let printed = dump(&indexes, &["--verify-index-only"])?;
    for bad in ["Found", "isn't", "Mismatches", "not ", "ERROR"] {
        assert!(!printed.contains(bad), "{printed:.2000}");
    }
    let snapshots = files(&dir, ".snapshot")?;
    let printed = dump(&snapshots[snapshots.len() - 1..], &[])?;
    assert!(printed.contains("producerId: "), "{printed}");

    let printed = dump(&files(&server.data().join("small-0"), ".log")?, &["--print-data-log"])?;
    assert!(printed.contains("compresscodec: lz4") && printed.contains("payload: s2"), "{printed}");

    let mut committed = String::new();
    for partition in 0..5 {
        let dir = server.data().join(format!("__consumer_offsets-{partition}"));
        let logs = if dir.exists() { files(&dir, ".log")? } else { Vec::new() };
        if logs.iter().any(|log| std::fs::metadata(log).is_ok_and(|m| m.len() > 0)) {
            committed += &dump(&logs, &["--offsets-decoder"])?;
        }
    }
    let offset = committed.lines().find(|l| l.contains(r#""topic":"small""#) && l.contains(r#""offset":3"#));
    assert!(offset.is_some_and(|l| l.contains(r#""group":"dump-group""#)), "{committed}");
    let member = committed.lines().find(|l| l.contains(r#""protocolType":"consumer""#));
    assert!(
        member.is_some_and(|l| l.contains(r#""version":"3""#) && l.contains("dump-group")),
        "{committed}"
    );
    Ok(())
}

#[test]
fn files_of_a_stopped_aqueduct() -> Result<()> {
    check(Kind::Aqueduct)
}

#[test]
fn files_of_a_stopped_apache_kafka() -> Result<()> {
    check(Kind::ApacheKafka)
}
