//! Offsets of partitions, and deleting records.

use anyhow::Result;
use aqueduct_tests::on_both;
use aqueduct_tests::server::Server;

use crate::{consume, create_topic, numbered, on, produce, refused};

fn offsets(server: &Server, topic: &str, time: &str) -> Result<String> {
    let class = "org.apache.kafka.tools.GetOffsetShell";
    Ok(on(server, class, &["--topic", topic, "--time", time])?.trim().to_owned())
}

on_both!(offsets_are_listed_and_records_deleted,);

/// Earliest, latest, by time and largest timestamp; then `delete-records` moves the start.
fn offsets_are_listed_and_records_deleted(server: &Server) -> Result<()> {
    create_topic(server, "java.offsets", 1)?;
    produce(server, "java.offsets", &numbered("a", 10).join("\n"), &[])?;
    let between = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis().to_string();
    std::thread::sleep(std::time::Duration::from_millis(5));
    produce(server, "java.offsets", &numbered("b", 10).join("\n"), &["--compression-codec", "zstd"])?;
    assert_eq!(offsets(server, "java.offsets", "earliest")?, "java.offsets:0:0");
    assert_eq!(offsets(server, "java.offsets", "latest")?, "java.offsets:0:20");
    assert_eq!(offsets(server, "java.offsets", &between)?, "java.offsets:0:10");
    let largest = offsets(server, "java.offsets", "max-timestamp")?;
    let largest: u32 = largest.trim_start_matches("java.offsets:0:").parse()?;
    assert!((10..20).contains(&largest), "{largest}");

    let file = tempfile::NamedTempFile::new()?;
    let class = "org.apache.kafka.tools.DeleteRecordsCommand";
    let json = |offset: u32| {
        format!(
            r#"{{"partitions":[{{"topic":"java.offsets","partition":0,"offset":{offset}}}],"version":1}}"#
        )
    };
    std::fs::write(file.path(), json(13))?;
    let path = file.path().to_string_lossy().into_owned();
    let printed = on(server, class, &["--offset-json-file", &path])?;
    assert!(printed.contains("partition: java.offsets-0\tlow_watermark: 13"), "{printed}");
    std::fs::write(file.path(), json(99))?;
    let printed = refused(server, class, &["--offset-json-file", &path])?;
    assert!(printed.contains("OffsetOutOfRangeException"), "{printed}");
    assert_eq!(offsets(server, "java.offsets", "earliest")?, "java.offsets:0:13");
    assert_eq!(consume(server, "java.offsets", 7, &["--from-beginning"])?, numbered("b", 10)[3..]);
    Ok(())
}
