//! Our worker and the JVM's take over from each other: what one has written to the internal topics, the other reads.

mod common;

use std::time::Duration;

use anyhow::{Result, bail};
use aqueduct_tests::kafka::Kafka;
use serde_json::{Value, json};

use common::{Jvm, Ours, fits, request};

async fn expect(port: u16, method: &str, path: &str, body: Value, status: u16) -> Result<Value> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = request(port, method, path, &body).await?;
    if answer.status != status {
        bail!("{method} {path}: wanted {status}, found {} {}", answer.status, answer.body);
    }
    Ok(answer.body)
}

async fn eventually(port: u16, path: &str, wanted: Value) -> Result<()> {
    let mut last = Value::Null;
    for _ in 0..300 {
        last = request(port, "GET", path, "").await?.body;
        if fits(&wanted, &last) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("GET {path}: wanted {wanted}, found {last}")
}

/// What has to be the same, whichever worker is asked: connectors, settings, tasks, target states, offsets.
async fn picture(port: u16) -> Result<Value> {
    let mut all = expect(port, "GET", "/connectors?expand=info", Value::Null, 200).await?;
    let names: Vec<String> = all.as_object().map(|o| o.keys().cloned().collect()).unwrap_or_default();
    for name in names {
        let tasks = expect(port, "GET", &format!("/connectors/{name}/tasks"), Value::Null, 200).await?;
        let offsets = expect(port, "GET", &format!("/connectors/{name}/offsets"), Value::Null, 200).await?;
        let topics = expect(port, "GET", &format!("/connectors/{name}/topics"), Value::Null, 200).await?;
        all[&name]["more"] = json!([tasks, offsets, topics]);
    }
    Ok(all)
}

async fn create(port: u16, dir: &str) -> Result<()> {
    let source =
        json!({"connector.class": "FileStreamSource", "topic": "moves", "file": format!("{dir}/in.txt")});
    let sink =
        json!({"connector.class": "FileStreamSink", "topics": "moves", "file": format!("{dir}/out.txt")});
    for (name, config) in [("src", &source), ("held", &source), ("off", &source), ("snk", &sink)] {
        expect(port, "PUT", &format!("/connectors/{name}/config"), config.clone(), 201).await?;
    }
    expect(port, "PUT", "/connectors/held/pause", Value::Null, 202).await?;
    expect(port, "PUT", "/connectors/off/stop", Value::Null, 204).await?;
    eventually(port, "/connectors/src/offsets", json!({"offsets": [{"offset": {"position": 6}}]})).await?;
    eventually(port, "/connectors/snk/offsets", json!({"offsets": [{"offset": "*"}]})).await?;
    check_states(port).await
}

async fn check_states(port: u16) -> Result<()> {
    for (name, state) in [("src", "RUNNING"), ("held", "PAUSED"), ("snk", "RUNNING")] {
        let wanted = json!({"connector": {"state": state}, "tasks": [{"state": state}]});
        eventually(port, &format!("/connectors/{name}/status"), wanted).await?;
    }
    let stopped = json!({"connector": {"state": "STOPPED"}, "tasks": []});
    eventually(port, "/connectors/off/status", stopped).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_jvm_worker_goes_on_where_ours_stopped_and_the_other_way_round() -> Result<()> {
    let (kafka, dir) = (Kafka::start()?, tempfile::tempdir()?);
    let (bootstrap, path) = (kafka.bootstrap(), dir.path().to_string_lossy().into_owned());
    let input = dir.path().join("in.txt");
    std::fs::write(&input, "a\nb\nc\n")?;

    let ours = Ours::start(&bootstrap, "swap").await?;
    create(ours.port, &path).await?;
    let before = picture(ours.port).await?;
    ours.stop().await?;

    let jvm = Jvm::start(&bootstrap, "swap", dir.path()).await?;
    check_states(jvm.port).await?;
    assert_eq!(picture(jvm.port).await?, before);
    append(&input, "d\n")?;
    eventually(jvm.port, "/connectors/src/offsets", json!({"offsets": [{"offset": {"position": 8}}]}))
        .await?;
    expect(jvm.port, "PUT", "/connectors/held/resume", Value::Null, 202).await?;
    eventually(jvm.port, "/connectors/held/status", json!({"tasks": [{"state": "RUNNING"}]})).await?;
    expect(jvm.port, "PUT", "/connectors/held/pause", Value::Null, 202).await?;
    check_states(jvm.port).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = picture(jvm.port).await?;
    jvm.stop()?;

    let ours = Ours::start(&bootstrap, "swap").await?;
    check_states(ours.port).await?;
    assert_eq!(picture(ours.port).await?, before);
    append(&input, "e\n")?;
    eventually(ours.port, "/connectors/src/offsets", json!({"offsets": [{"offset": {"position": 10}}]}))
        .await?;
    ours.stop().await
}

fn append(path: &std::path::Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    std::fs::File::options().append(true).open(path)?.write_all(text.as_bytes())?;
    Ok(())
}
