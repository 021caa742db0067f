//! Our broker is killed while stock clients write to it: everything acknowledged is there afterwards, once, and so are
//! topics, configs and committed offsets.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aqueduct_tests::kafka::{java, tool};
use aqueduct_tests::server::{Kind, Server};
use serde_json::Value;

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";
const OFFSETS: &str = "org.apache.kafka.tools.GetOffsetShell";
const DUMP: &str = "org.apache.kafka.tools.DumpLogSegments";

fn on(server: &Server, class: &str, args: &[&str]) -> Result<String> {
    tool(class, &[&["--bootstrap-server", &server.bootstrap()], args].concat())
}

/// The values of a topic of one partition, in order.
fn values(server: &Server, topic: &str) -> Result<Vec<String>> {
    let latest = on(server, OFFSETS, &["--topic", topic])?;
    let count = latest.trim().rsplit(':').next().unwrap_or_default().to_owned();
    let args = ["--topic", topic, "--from-beginning", "--max-messages", &count, "--timeout-ms", "60000"];
    Ok(on(server, CONSUMER, &args)?.lines().map(str::to_owned).collect())
}

#[test]
fn acknowledged_records_outlive_kills_and_are_there_once() -> Result<()> {
    const COUNT: u64 = 6000;
    let mut server = Server::start(Kind::Aqueduct)?;
    on(&server, TOPICS, &["--create", "--topic", "killed", "--config", "segment.bytes=1048576"])?;
    let mut command = java("256m", "org.apache.kafka.tools.VerifiableProducer")?;
    command.args(["--bootstrap-server", &server.bootstrap(), "--topic", "killed", "--acks", "-1"]);
    command.args(["--max-messages", &COUNT.to_string(), "--throughput", "700", "--value-prefix", "7"]);
    // It does not repeat what fails: little may be under way at a kill, however much has piled up before.
    let settings = server.data().with_file_name("producer.properties");
    std::fs::write(&settings, "batch.size=1024\nmax.in.flight.requests.per.connection=1\n")?;
    command.arg("--command-config").arg(&settings);
    let mut producer = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let output = BufReader::new(producer.stdout.take().context("stdout is piped")?);
    let (told, lines) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut acknowledged = BTreeMap::new();
        for line in output.lines().map_while(Result::ok) {
            let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
            if event["name"] == "producer_send_success" {
                *acknowledged.entry(event["value"].as_str().unwrap_or_default().to_owned()).or_insert(0) += 1;
                let _ = told.send(());
            }
        }
        acknowledged
    });
    for _ in 0..4 {
        for _ in 0..COUNT / 6 {
            lines.recv_timeout(Duration::from_secs(60)).context("no acknowledgement")?;
        }
        server.kill();
        server.restart()?;
    }
    let from = Instant::now();
    while producer.try_wait()?.is_none() {
        ensure!(from.elapsed() < Duration::from_secs(180), "the producer does not end");
        std::thread::sleep(Duration::from_millis(50));
    }
    let acknowledged = reader.join().expect("the reader does not panic");
    ensure!(acknowledged.len() as u64 >= COUNT * 9 / 10, "only {} acknowledged", acknowledged.len());

    let mut read: BTreeMap<String, u32> = BTreeMap::new();
    for value in values(&server, "killed")? {
        *read.entry(value).or_default() += 1;
    }
    let missing: Vec<_> = acknowledged.keys().filter(|value| !read.contains_key(*value)).collect();
    assert!(missing.is_empty(), "acknowledged and gone: {missing:?}");
    let twice: Vec<_> = read.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "there more than once: {twice:?}");

    server.stop()?;
    let dir = server.data().join("killed-0");
    let logs: Vec<String> = std::fs::read_dir(&dir)?
        .flatten()
        .map(|entry| entry.path().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".log"))
        .collect();
    let printed = tool(DUMP, &["--files", &logs.join(",")])?;
    assert_eq!(printed.matches("isvalid: true").count(), printed.matches("baseOffset: ").count());
    Ok(())
}

#[test]
fn topics_configs_offsets_and_whole_batches_outlive_a_kill_with_a_torn_tail() -> Result<()> {
    let mut server = Server::start(Kind::Aqueduct)?;
    on(
        &server,
        TOPICS,
        &["--create", "--topic", "torn", "--partitions", "1", "--config", "retention.ms=7200000"],
    )?;
    on(&server, TOPICS, &["--create", "--topic", "gone"])?;
    on(&server, TOPICS, &["--delete", "--topic", "gone"])?;
    let send = |server: &Server, lines: &str| -> Result<()> {
        let mut command = java("256m", "org.apache.kafka.tools.ConsoleProducer")?;
        command.args(["--bootstrap-server", &server.bootstrap(), "--topic", "torn"]);
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        child.stdin.take().context("stdin is piped")?.write_all(lines.as_bytes())?;
        ensure!(child.wait()?.success());
        Ok(())
    };
    send(&server, "a\nb\nc\nd\n")?;
    let group = ["--group", "torn-group", "--command-property", "auto.offset.reset=earliest"];
    let read = |server: &Server, count: &str| {
        let args = ["--topic", "torn", "--max-messages", count, "--timeout-ms", "60000"];
        on(server, CONSUMER, &[&args, &group[..]].concat())
    };
    assert_eq!(read(&server, "3")?, "a\nb\nc\n");
    server.kill();

    // The node died while it wrote a batch: its first bytes are there.
    let log = server.data().join("torn-0/00000000000000000000.log");
    let whole = std::fs::read(&log)?;
    std::fs::File::options().append(true).open(&log)?.write_all(&whole[..whole.len().min(70) - 5])?;
    server.restart()?;
    assert_eq!(values(&server, "torn")?, ["a", "b", "c", "d"]);
    assert_eq!(std::fs::metadata(&log)?.len(), whole.len() as u64, "the torn batch is cut off");
    send(&server, "e\n")?;
    assert_eq!(read(&server, "2")?, "d\ne\n", "the group goes on where it committed");
    let described = on(&server, TOPICS, &["--describe"])?;
    assert!(described.contains("retention.ms=7200000"), "{described}");
    assert!(!described.contains("Topic: gone"), "{described}");
    Ok(())
}
