//! Our Connect worker on a secured listener: its own clients and those of its tasks.

use std::time::Duration;

use anyhow::Result;
use aqueduct_tests::aqueduct::Worker;
use aqueduct_tests::kafka::tool;
use aqueduct_tests::server::Kind;
use serde_json::json;

use crate::Secured;

#[test]
fn a_worker_and_its_tasks_work_over_sasl_ssl() -> Result<()> {
    let secured = Secured::start(Kind::Aqueduct, &[])?;
    let trust = secured.pki.file("trust.jks");
    let jaas = "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"alice\" \
                password=\"alice-secret\";";
    let settings = [
        ("security.protocol", "SASL_SSL"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.jaas.config", jaas),
        ("ssl.truststore.location", &*trust),
        ("ssl.truststore.password", "secret"),
    ];
    let prefixed: Vec<(String, &str)> = ["", "producer.", "consumer.", "admin."]
        .iter()
        .flat_map(|prefix| settings.iter().map(move |(key, value)| (format!("{prefix}{key}"), *value)))
        .collect();
    let settings: Vec<(&str, &str)> = prefixed.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    let worker = Worker::start(&secured.at(secured.sasl_ssl), &settings)?;
    std::fs::write(secured.pki.path("input"), "one\ntwo\n")?;
    let (input, output) = (secured.pki.file("input"), secured.pki.file("output"));
    let text = "org.apache.kafka.connect.storage.StringConverter";
    worker.api().put(
        "source",
        &json!({
            "connector.class": "FileStreamSource", "file": input, "topic": "files", "value.converter": text,
        }),
    )?;
    worker.api().put(
        "sink",
        &json!({
            "connector.class": "FileStreamSink", "file": output, "topics": "files", "value.converter": text,
        }),
    )?;
    for connector in ["source", "sink"] {
        worker.wait_running(connector, Duration::from_secs(60))?;
    }
    let began = std::time::Instant::now();
    while std::fs::read_to_string(&output).unwrap_or_default() != "one\ntwo\n" {
        anyhow::ensure!(began.elapsed() < Duration::from_secs(60), "{}", worker.log_tail());
        std::thread::sleep(Duration::from_millis(100));
    }
    let config = tool(
        "kafka.admin.ConfigCommand",
        &[
            "--bootstrap-server",
            &secured.server.bootstrap(),
            "--entity-type",
            "brokers",
            "--entity-name",
            "1",
            "--describe",
            "--all",
        ],
    )?;
    assert!(!config.contains("alice-secret") && !config.contains("=secret"), "{config}");
    assert!(!worker.log_tail().contains("secret"));
    Ok(())
}
