//! The internal topics of a worker: records that cannot be read are passed over and named, and a topic that would lose
//! records is refused.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aqueduct_tests::aqueduct::{Broker, Worker};
use aqueduct_tests::kafka::{java, text_of, tool};
use serde_json::json;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);
const SETTINGS: &[(&str, &str)] = &[("offset.storage.partitions", "1"), ("status.storage.partitions", "1")];

fn produce(bootstrap: &str, topic: &str, lines: &[&str]) -> Result<()> {
    let mut command = java("128m", "org.apache.kafka.tools.ConsoleProducer")?;
    command.args(["--bootstrap-server", bootstrap, "--topic", topic]);
    command.args(["--reader-property", "parse.key=true", "--reader-property", "key.separator=\t"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("stdin is piped")?.write_all(lines.join("\n").as_bytes())?;
    text_of("console producer", &child.wait_with_output()?).map(drop)
}

#[test]
fn broken_records_are_named_and_hide_nothing() -> Result<()> {
    let (broker, dir) = (Broker::start()?, TempDir::with_prefix("connect-internal-")?);
    let bootstrap = broker.bootstrap();
    let mut worker = Worker::start(&bootstrap, SETTINGS)?;
    std::fs::write(dir.path().join("in"), "one\n")?;
    let config = json!({"connector.class": "FileStreamSource", "file": dir.path().join("in"), "topic": "t"});
    worker.api().put("kept", &config)?;
    worker.wait_running("kept", LIMIT)?;

    let secret = "{\"properties\": {\"password\": \"hunter2\"";
    produce(
        &bootstrap,
        "connect-configs",
        &[&format!("connector-torn\t{secret}"), "commit-kept\t{\"tasks\":-1}"],
    )?;
    produce(&bootstrap, "connect-status", &["status-task-kept-0\tnot JSON", "status-connector-kept\t{}"])?;
    produce(&bootstrap, "connect-offsets", &["[\"kept\",\t{}", "[\"kept\",{\"filename\":\"x\"}]\t[1]"])?;
    worker.process().terminate(LIMIT)?;
    worker.restart()?;
    worker.wait_running("kept", LIMIT)?;
    let log = worker.log();
    let skipped = |topic: &str| {
        log.lines()
            .filter(|line| line.contains("cannot be read") && line.contains(&format!("{topic}-0@")))
            .count()
    };
    for topic in ["connect-configs", "connect-status", "connect-offsets"] {
        // Read by the worker that ran and by the one after it.
        ensure!(skipped(topic) >= 2, "{topic}: {} records are named\n{log}", skipped(topic));
    }
    ensure!(!log.contains("hunter2"), "the log shows a value");
    ensure!(worker.api().get("/connectors")? == json!(["kept"]), "another connector is there");
    Ok(())
}

#[test]
fn topics_that_would_lose_records_are_refused() -> Result<()> {
    let broker = Broker::start()?;
    let bootstrap = broker.bootstrap();
    for (topic, setting, extra) in [
        ("deleted", "offset.storage.topic", ["--config", "cleanup.policy=delete"]),
        ("both", "status.storage.topic", ["--config", "cleanup.policy=compact,delete"]),
        ("wide", "config.storage.topic", ["--config", "cleanup.policy=compact"]),
    ] {
        let partitions = if topic == "wide" { "2" } else { "1" };
        let create =
            ["--bootstrap-server", &bootstrap, "--create", "--topic", topic, "--partitions", partitions];
        tool("org.apache.kafka.tools.TopicCommand", &[&create[..], &extra[..]].concat())?;
        let refused = Worker::start(&bootstrap, &[(setting, topic)]).err();
        let text = format!("{:#}", refused.with_context(|| format!("{topic} is taken"))?);
        ensure!(text.contains(&format!("Topic '{topic}' supplied via the '{setting}' property")), "{text}");
    }
    Ok(())
}
