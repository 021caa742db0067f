//! The internal topics: our worker writes what the JVM's writes, and each takes over from the other on the same topics.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use aqueduct_tests::aqueduct::Worker;
use aqueduct_tests::connect::Api;
use aqueduct_tests::console::{Printed, read_topic};
use aqueduct_tests::jvm_connect::JvmWorker;
use aqueduct_tests::kafka::Kafka;
use serde_json::{Value, json};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(120);
/// A task that is given up while it stops repeats what it had not stored.
const GRACE: (&str, &str) = ("task.shutdown.graceful.timeout.ms", "60000");
const SOURCE: &str = "org.apache.kafka.connect.file.FileStreamSourceConnector";
const SINK: &str = "org.apache.kafka.connect.file.FileStreamSinkConnector";
const TEXT: &str = "org.apache.kafka.connect.storage.StringConverter";

/// What is asked of a worker, whichever it is; names end in `tag`.
fn story(api: &Api, dir: &Path, tag: &str) -> Result<()> {
    let (source, sink) = (format!("src-{tag}"), format!("snk-{tag}"));
    let act = |method: &str, path: String, body: Option<&Value>| api.done(method, &path, body);
    let file = dir.join("in.txt");
    let config = json!({"connector.class": SOURCE, "file": file, "topic": format!("lines-{tag}"), "value.converter": TEXT});
    act("POST", "/connectors".into(), Some(&json!({"name": source, "config": config})))?;
    api.wait_states(&source, "RUNNING RUNNING", LIMIT)?;
    wait_offset(api, &source, 8)?;
    act("POST", format!("/connectors/{source}/restart?includeTasks=true"), None)?;
    std::thread::sleep(Duration::from_secs(1));
    api.wait_states(&source, "RUNNING RUNNING", LIMIT)?;
    act("POST", format!("/connectors/{source}/restart"), None)?;
    api.wait_states(&source, "RUNNING RUNNING", LIMIT)?;
    act("PUT", format!("/connectors/{source}/pause"), None)?;
    api.wait_states(&source, "PAUSED PAUSED", LIMIT)?;
    act("PUT", format!("/connectors/{source}/resume"), None)?;
    api.wait_states(&source, "RUNNING RUNNING", LIMIT)?;
    act("PATCH", format!("/connectors/{source}/config"), Some(&json!({"batch.size": "5"})))?;
    wait_until("the new settings of the task", || {
        let tasks = api.get(&format!("/connectors/{source}/tasks"))?;
        Ok((tasks[0]["config"]["batch.size"] != "5").then(|| tasks.to_string()))
    })?;
    std::thread::sleep(Duration::from_secs(1));
    api.wait_states(&source, "RUNNING RUNNING", LIMIT)?;
    act("PUT", format!("/connectors/{source}/stop"), None)?;
    api.wait_states(&source, "STOPPED", LIMIT)?;
    let offsets = json!({"offsets": [{"partition": {"filename": file}, "offset": {"position": 4}}]});
    act("PATCH", format!("/connectors/{source}/offsets"), Some(&offsets))?;
    act("PUT", format!("/connectors/{source}/resume"), None)?;
    api.wait_states(&source, "RUNNING RUNNING", LIMIT)?;
    wait_offset(api, &source, 8)?;

    let out = dir.join("out.txt");
    let config = json!({"connector.class": SINK, "file": out, "topics": format!("lines-{tag}"), "value.converter": TEXT});
    let paused = json!({"name": sink, "config": config, "initial_state": "PAUSED"});
    act("POST", "/connectors".into(), Some(&paused))?;
    api.wait_states(&sink, "PAUSED", LIMIT)?;
    act("PUT", format!("/connectors/{sink}/resume"), None)?;
    api.wait_states(&sink, "RUNNING RUNNING", LIMIT)?;
    wait_lines(&out, &["one", "two", "two"])?;
    wait_topics(api, &sink, &format!("lines-{tag}"))?;
    act("DELETE", format!("/connectors/{sink}"), None)?;
    wait_until("the end of the sink", || {
        let answer = api.call("GET", &format!("/connectors/{sink}/status"), None)?;
        Ok((answer.status != 404).then(|| answer.body.to_string()))
    })?;
    act("PUT", format!("/connectors/{source}/stop"), None)?;
    api.wait_states(&source, "STOPPED", LIMIT)?;
    act("DELETE", format!("/connectors/{source}/offsets"), None)?;
    Ok(())
}

fn wait_until(what: &str, mut ready: impl FnMut() -> Result<Option<String>>) -> Result<()> {
    let from = Instant::now();
    while let Some(state) = ready()? {
        if from.elapsed() > LIMIT {
            bail!("{what}: after {LIMIT:?} it is {state}");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn wait_offset(api: &Api, name: &str, position: u64) -> Result<()> {
    wait_until(&format!("offset {position} of {name}"), || {
        let offsets = api.get(&format!("/connectors/{name}/offsets"))?;
        Ok((offsets["offsets"][0]["offset"]["position"] != position).then(|| offsets.to_string()))
    })
}

fn wait_topics(api: &Api, name: &str, topic: &str) -> Result<()> {
    wait_until(&format!("topic {topic} of {name}"), || {
        let topics = api.get(&format!("/connectors/{name}/topics"))?;
        Ok((topics[name]["topics"] != json!([topic])).then(|| topics.to_string()))
    })
}

fn wait_lines(path: &Path, wanted: &[&str]) -> Result<()> {
    wait_until(&format!("{wanted:?} in {}", path.display()), || {
        let text = fs::read_to_string(path).unwrap_or_default();
        Ok((text.lines().collect::<Vec<_>>() != wanted).then_some(text))
    })
}

/// Records of a topic without what differs from worker to worker and from run to run.
fn neutral(records: &[Printed], dir: &Path, tag: &str) -> Result<Vec<(String, Value)>> {
    let clean = |text: &str| {
        text.replace(&*dir.to_string_lossy(), "DIR")
            .replace(&format!("src-{tag}"), "src")
            .replace(&format!("snk-{tag}"), "snk")
            .replace(&format!("lines-{tag}"), "lines")
    };
    records
        .iter()
        .map(|record| {
            let mut value: Value =
                serde_json::from_str(&clean(&record.value)).context(record.value.clone())?;
            for member in ["key", "creation-timestamp", "worker_id", "generation", "version"] {
                if let Some(found) = value.get_mut(member).filter(|v| !v.is_null()) {
                    *found = if found.is_string() { json!("text") } else { json!("number") };
                }
            }
            if value["state"] == "UNASSIGNED" {
                // The JVM's worker gives the version there now and then.
                value["version"] = Value::Null;
            }
            if let Some(found) = value.pointer_mut("/topic/discoverTimestamp") {
                *found = json!(found.is_i64());
            }
            Ok((clean(&record.key), value))
        })
        .collect()
}

/// Distinct values by key.
fn by_key(records: Vec<(String, Value)>) -> BTreeMap<String, BTreeSet<String>> {
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (key, value) in records {
        all.entry(key).or_default().insert(value.to_string());
    }
    all
}

fn same_records(bootstrap: &str) -> Result<()> {
    let mut written = Vec::new();
    for tag in ["ours", "jvm"] {
        let dir = TempDir::with_prefix("connect-topics-")?;
        fs::write(dir.path().join("in.txt"), "one\ntwo\n")?;
        let names = ["config", "offset", "status"].map(|store| format!("{tag}-{store}"));
        let [config, offset, status] = &names;
        let settings = [
            ("group.id", tag),
            ("config.storage.topic", config),
            ("offset.storage.topic", offset),
            ("status.storage.topic", status),
            GRACE,
        ];
        if tag == "ours" {
            let mut worker = Worker::start(bootstrap, &settings)?;
            story(&worker.api(), dir.path(), tag).context("ours")?;
            worker.process().terminate(LIMIT)?;
        } else {
            let mut worker = JvmWorker::start(bootstrap, &settings)?;
            story(&worker.api(), dir.path(), tag).context("the JVM's")?;
            worker.stop()?;
        }
        let read = |topic: &str| neutral(&read_topic(bootstrap, topic)?, dir.path(), tag);
        written.push((read(config)?, read(offset)?, read(status)?));
    }
    let [(config, offset, status), (jvm_config, jvm_offset, jvm_status)] =
        <[_; 2]>::try_from(written).map_err(|_| anyhow::anyhow!("two workers"))?;

    let shown = |records: &[(String, Value)]| -> String {
        records.iter().map(|(k, v)| format!("  {k} = {v}\n")).collect()
    };
    ensure!(
        config == jvm_config,
        "config topic\nours:\n{}the JVM's:\n{}",
        shown(&config),
        shown(&jvm_config)
    );
    let (offset, jvm_offset) = (by_key(offset), by_key(jvm_offset));
    ensure!(offset == jvm_offset, "offset topic\nours: {offset:#?}\nthe JVM's: {jvm_offset:#?}");
    // A state that is passed through quickly may be skipped by either; nothing of ours may be unknown to the JVM's.
    let (status, jvm_status) = (by_key(status), by_key(jvm_status));
    ensure!(
        status.keys().eq(jvm_status.keys()),
        "status keys\nours: {:#?}\nthe JVM's: {:#?}",
        status.keys(),
        jvm_status.keys()
    );
    for (key, values) in &status {
        let other = &jvm_status[key];
        let unknown: Vec<_> = values.difference(other).filter(|v| !v.contains("RESTARTING")).collect();
        ensure!(unknown.is_empty(), "{key}: the JVM's wrote {other:#?}, ours also {unknown:#?}");
        let last = |v: &BTreeSet<String>| v.contains("null");
        ensure!(last(values) == last(other), "{key}: tombstone\nours {values:#?}\nthe JVM's {other:#?}");
    }
    Ok(())
}

/// One cluster's worth of connectors, whoever runs them.
struct Flow {
    dir: TempDir,
    lines: Vec<String>,
}

impl Flow {
    fn append(&mut self, text: &str) -> Result<()> {
        self.lines.push(text.to_owned());
        let mut file = File::options().append(true).open(self.dir.path().join("in.txt"))?;
        Ok(writeln!(file, "{text}")?)
    }

    fn wait(&self) -> Result<()> {
        let lines: Vec<&str> = self.lines.iter().map(String::as_str).collect();
        wait_lines(&self.dir.path().join("out.txt"), &lines)
    }

    fn create(&self, api: &Api) -> Result<()> {
        let path = |name: &str| self.dir.path().join(name);
        let source = |file: &str, topic: &str| json!({"connector.class": SOURCE, "file": path(file), "topic": topic, "value.converter": TEXT});
        api.put("feed", &source("in.txt", "feed"))?;
        let sink = json!({"connector.class": SINK, "file": path("out.txt"), "topics": "feed", "value.converter": TEXT});
        api.put("drain", &sink)?;
        for (name, state) in [("asleep", "PAUSED"), ("off", "STOPPED")] {
            let new = json!({"name": name, "config": source("in.txt", name), "initial_state": state});
            api.done("POST", "/connectors", Some(&new))?;
        }
        self.check(api)
    }

    /// All four are as they were left.
    fn check(&self, api: &Api) -> Result<()> {
        api.wait_states("feed", "RUNNING RUNNING", LIMIT)?;
        api.wait_states("drain", "RUNNING RUNNING", LIMIT)?;
        api.wait_states("asleep", "PAUSED", LIMIT)?;
        api.wait_states("off", "STOPPED", LIMIT)?;
        self.wait()?;
        let all = api.get("/connectors?expand=info")?;
        ensure!(all["feed"]["info"]["config"]["topic"] == "feed", "{all:#}");
        let position: usize = self.lines.iter().map(|line| line.len() + 1).sum();
        wait_offset(api, "feed", u64::try_from(position)?)
    }
}

fn take_over(bootstrap: &str) -> Result<()> {
    let settings = [("group.id", "shared"), ("config.storage.topic", "shared-configs"), GRACE];
    let mut flow = Flow { dir: TempDir::with_prefix("connect-topics-")?, lines: Vec::new() };
    fs::write(flow.dir.path().join("in.txt"), "")?;
    let mut ours = Worker::start(bootstrap, &settings)?;
    flow.append("first by ours")?;
    flow.create(&ours.api()).context("ours at first")?;
    ours.process().terminate(LIMIT)?;

    flow.append("while nobody ran")?;
    let mut jvm = JvmWorker::start(bootstrap, &settings)?;
    flow.append("second by the JVM's")?;
    flow.check(&jvm.api()).context("the JVM's after ours")?;
    // What the JVM's worker changes is in force for ours.
    jvm.api().done("PUT", "/connectors/asleep/stop", None)?;
    jvm.api().wait_states("asleep", "STOPPED", LIMIT)?;
    jvm.api().done("PUT", "/connectors/drain/pause", None)?;
    jvm.api().wait_states("drain", "PAUSED PAUSED", LIMIT)?;
    jvm.stop()?;

    ours.restart()?;
    let api = ours.api();
    api.wait_states("asleep", "STOPPED", LIMIT).context("ours after the JVM's")?;
    api.wait_states("drain", "PAUSED PAUSED", LIMIT)?;
    flow.append("third by ours")?;
    api.done("PUT", "/connectors/drain/resume", None)?;
    api.wait_states("drain", "RUNNING RUNNING", LIMIT)?;
    flow.wait().context("ours after the JVM's")?;
    ours.process().terminate(LIMIT)?;

    jvm.restart()?;
    jvm.api().wait_states("feed", "RUNNING RUNNING", LIMIT).context("the JVM's again")?;
    jvm.api().wait_states("drain", "RUNNING RUNNING", LIMIT)?;
    jvm.api().wait_states("asleep", "STOPPED", LIMIT)?;
    flow.append("fourth by the JVM's")?;
    flow.wait().context("the JVM's again")?;
    jvm.stop()
}

#[test]
fn ours_writes_what_the_jvm_writes_and_each_takes_over_from_the_other() -> Result<()> {
    let kafka = Kafka::start()?;
    let bootstrap = kafka.bootstrap();
    same_records(&bootstrap)?;
    take_over(&bootstrap)
}
