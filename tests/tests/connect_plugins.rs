//! Connectors in Python, run by our worker as processes of their own: like any other, and what becomes of their failures.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use aqueduct_tests::aqueduct::{Broker, Worker};
use aqueduct_tests::connect::Api;
use aqueduct_tests::process::signal;
use serde_json::{Value, json};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(120);

/// The plugins that come with the project.
fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/plugins/python")
}

fn plugin(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

fn wait<T>(what: &str, mut found: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let from = Instant::now();
    loop {
        if let Some(found) = found()? {
            return Ok(found);
        }
        ensure!(from.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn has(text: &str, parts: &[&str]) -> Result<()> {
    match parts.iter().find(|part| !text.contains(**part)) {
        Some(part) => bail!("{part:?} is not in {text}"),
        None => Ok(()),
    }
}

/// State of a process, `None` where it is gone.
fn state_of(process: &str) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let mut rest = stat.rsplit_once(") ")?.1.split(' ');
    Some((rest.next()?.chars().next()?, rest.next()?.parse().ok()?))
}

/// Waits until a process is gone.
fn wait_gone(process: &str) -> Result<()> {
    let gone = || state_of(process).is_none_or(|(state, _)| state == 'Z');
    wait(&format!("process {process} ends"), || Ok(gone().then_some(())))
}

/// States of the processes that `parent` has started.
fn children(parent: u32) -> Result<Vec<(u32, char)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let (Ok(id), Some((state, of))) = (name.parse(), state_of(&name))
            && of == parent
        {
            found.push((id, state));
        }
    }
    Ok(found)
}

struct Job {
    dir: TempDir,
    worker: Worker,
    expected: BTreeMap<String, Vec<String>>,
}

impl Job {
    fn api(&self) -> Api {
        self.worker.api()
    }

    fn append(&mut self, file: &str, lines: usize) -> Result<()> {
        let path = self.dir.path().join("in").join(file);
        let mut out = File::options().create(true).append(true).open(path)?;
        let known = self.expected.entry(file.to_owned()).or_default();
        for _ in 0..lines {
            let line = format!("line {} of {file}, \u{e9}\u{1f600}", known.len() + 1);
            writeln!(out, "{line}")?;
            known.push(line);
        }
        Ok(())
    }

    /// Texts in the sink's files by file, in the order of their topic.
    fn arrived(&self) -> Result<BTreeMap<String, Vec<String>>> {
        let mut found: BTreeMap<(i64, i64), Value> = BTreeMap::new();
        for entry in fs::read_dir(self.dir.path().join("out")).into_iter().flatten().flatten() {
            for line in fs::read_to_string(entry.path())?.lines() {
                let Ok(record) = serde_json::from_str::<Value>(line) else { continue };
                let at =
                    (record["partition"].as_i64().unwrap_or(-1), record["offset"].as_i64().unwrap_or(-1));
                ensure!(found.insert(at, record).is_none(), "{at:?} arrived twice");
            }
        }
        let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for record in found.values() {
            ensure!(record["headers"] == json!([["plugin", "python"]]), "{record}");
            let lines = texts.entry(record["key"].as_str().unwrap_or_default().to_owned()).or_default();
            lines.push(record["value"]["text"].as_str().unwrap_or_default().to_owned());
            ensure!(record["value"]["number"] == json!(lines.len()), "{record} is number {}", lines.len());
        }
        Ok(texts)
    }

    fn wait_arrived(&self, when: &str) -> Result<()> {
        let done = || Ok((self.arrived()? == self.expected).then_some(()));
        wait(when, done).with_context(|| format!("{:?}", self.arrived().map(|a| a.len())))
    }
}

#[test]
fn a_source_and_a_sink_in_python_run_like_any_other() -> Result<()> {
    let dir = TempDir::with_prefix("connect-plugins-")?;
    let others = dir.path().join("others");
    fs::create_dir_all(others.join("jdbc"))?;
    fs::create_dir(dir.path().join("in"))?;
    fs::write(others.join("jdbc/kafka-connect-jdbc.jar"), "PK")?;
    fs::write(others.join("aqueduct-plugin-dull"), "")?;
    plugin(&others.join("aqueduct-plugin-broken"), "#!/bin/sh\necho no licence >&2\nexit 3\n")?;
    plugin(&others.join("aqueduct-plugin-chatty"), "#!/bin/sh\necho Hello there, I am a script\nsleep 60\n")?;
    plugin(&others.join("stop-all.sh"), &format!("#!/bin/sh\ntouch {}/ran\n", dir.path().display()))?;
    let broker = Broker::start()?;
    let path = format!("{},{}", examples().display(), others.display());
    let worker = Worker::start(
        &broker.bootstrap(),
        &[
            ("plugin.path", &path),
            ("aqueduct.plugin.start.timeout.ms", "30000"),
            ("task.shutdown.graceful.timeout.ms", "60000"),
            ("key.converter.schemas.enable", "true"),
            ("value.converter.schemas.enable", "true"),
        ],
    )?;
    let mut job = Job { dir, worker, expected: BTreeMap::new() };
    let api = job.api();

    let class = "org.example.python.LinesSourceConnector";
    wait("the plugins are listed", || {
        let listed = api.get("/connector-plugins")?;
        let of = |class: &str| listed.as_array()?.iter().find(|p| p["class"] == class).cloned();
        let (source, sink) = (of(class), of("org.example.python.JsonSinkConnector"));
        Ok(source
            .zip(sink)
            .filter(|(a, b)| a["type"] == "source" && b["type"] == "sink" && b["version"] == "1.0"))
    })?;
    let table = api.get("/connector-plugins/LinesSource/config")?;
    let key =
        table.as_array().into_iter().flatten().find(|k| k["name"] == "batch.lines").context("batch.lines")?;
    ensure!(key["type"] == "INT" && key["default_value"] == "500", "{key}");

    let wrong = json!({"connector.class": class, "name": "x", "path": "/nowhere", "batch.lines": "0"});
    let answer = api.done("PUT", "/connector-plugins/LinesSource/config/validate", Some(&wrong))?;
    let errors: BTreeMap<&str, String> = answer["configs"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|c| c["value"]["errors"].as_array().is_some_and(|e| !e.is_empty()))
        .map(|c| (c["value"]["name"].as_str().unwrap_or_default(), c["value"]["errors"].to_string()))
        .collect();
    ensure!(errors.keys().copied().eq(["batch.lines", "path", "topic"]), "{errors:?}");
    has(&errors["path"], &["Invalid value /nowhere for configuration path: there is no such folder"])?;
    let refused = api.call("PUT", "/connectors/x/config", Some(&wrong))?;
    ensure!(
        refused.status == 400 && refused.body["message"].to_string().contains("no such folder"),
        "{refused:?}"
    );

    job.append("a.txt", 1200)?;
    job.append("b.txt", 3)?;
    let source = json!({"connector.class": "LinesSource", "path": job.dir.path().join("in"), "topic": "lines", "tasks.max": "3"});
    let sink = json!({"connector.class": "org.example.python.JsonSinkConnector", "folder": job.dir.path().join("out"), "topics": "lines"});
    api.put("source", &source)?;
    api.put("sink", &sink)?;
    api.wait_states("source", "RUNNING RUNNING RUNNING", LIMIT)?;
    job.wait_arrived("lines from the start")?;

    // A file more is a task more: the connector says so on its own.
    job.append("c.txt", 5)?;
    api.wait_states("source", "RUNNING RUNNING RUNNING RUNNING", LIMIT)?;
    job.wait_arrived("lines of a new file")?;

    api.done("PUT", "/connectors/source/pause", None)?;
    api.wait_states("source", "PAUSED PAUSED PAUSED PAUSED", LIMIT)?;
    job.append("b.txt", 5)?;
    std::thread::sleep(Duration::from_millis(700));
    ensure!(job.arrived()? != job.expected, "lines flow through a pause");
    api.done("PUT", "/connectors/source/resume", None)?;
    job.wait_arrived("lines after a pause")?;
    for name in ["source", "sink"] {
        api.done("POST", &format!("/connectors/{name}/restart?includeTasks=true"), None)?;
    }
    job.append("c.txt", 5)?;
    job.wait_arrived("lines after a restart")?;

    // Until the offsets of all lines are stored: then nothing comes twice.
    let place = json!({"position": fs::metadata(job.dir.path().join("in/c.txt"))?.len(), "lines": 10});
    wait("offsets are stored", || {
        Ok(api.get("/connectors/source/offsets")?.to_string().contains(&place.to_string()).then_some(()))
    })?;
    let log = job.worker.log();
    has(
        &log,
        &[
            "ended with exit status 3",
            "| no licence",
            "Hello there, I am",
            "print to standard error",
            "chmod +x",
            "kafka-connect-jdbc.jar",
        ],
    )?;
    ensure!(!job.dir.path().join("ran").exists(), "a script that is no plugin was run");
    let before = children(job.worker.process().id())?;
    job.worker.process().terminate(LIMIT)?;
    for (id, _) in before {
        wait_gone(&id.to_string())?;
    }
    job.worker.restart()?;
    job.append("a.txt", 5)?;
    job.wait_arrived("lines after a start of the worker")
}

/// A source that fails once, in the way its settings say.
const FAULTY: &str = r#"#!/usr/bin/env python3
import os, struct, subprocess, sys, time
sys.path.insert(0, os.environ.get("SDK", "SDK_FOLDER"))
from aqueduct_plugin import Key, Source, SourceRecord, serve

class Faulty(Source):
    class_name = "test.FaultySourceConnector"
    config = [Key("how"), Key("folder"), Key("code", "PASSWORD")]

    def start(self, config, context):
        self.how, self.folder, self.output = config["how"], config["folder"], context._plugin.output
        self.code = config["code"]
        self.context, self.count = context, 0
        with open(os.path.join(self.folder, self.how + ".pid"), "w") as file:
            file.write(str(os.getpid()))
        self.armed = os.path.join(self.folder, self.how + ".armed")

    def poll(self):
        self.count += 1
        record = SourceRecord("faulty-" + self.how, self.count, source_partition={}, source_offset={"n": self.count})
        if self.count < 3 or not os.path.exists(self.armed):
            time.sleep(0.02)
            return [record]
        os.remove(self.armed)
        print("the last words of", self.how, self.code)
        if self.how == "exit":
            os._exit(3)
        if self.how == "exception":
            raise KeyError("colour")
        if self.how == "abort":
            os.abort()
        if self.how == "hang":
            child = subprocess.Popen(["sleep", "1000"])
            with open(os.path.join(self.folder, "child.pid"), "w") as file:
                file.write(str(child.pid))
            time.sleep(1000)
        if self.how == "slow":
            for _ in range(8):
                time.sleep(1.5)
                self.context.alive()
            return [record]
        if self.how == "garbage":
            self.output.write(b"Hello, this is not a frame\n")
        if self.how == "huge":
            self.output.write(struct.pack(">I", 1 << 30) + b"\x01\x02")
        if self.how == "closed":
            self.output.flush()
            os.close(self.output.fileno())
        if self.how == "json":
            self.output.write(struct.pack(">I", 4) + b"nope")
        if self.how == "record":
            return [SourceRecord("", 1, source_partition={}, source_offset={})]
        self.output.flush()
        time.sleep(1000)

serve(Faulty)
"#;

#[test]
fn a_plugin_that_fails_is_a_failed_task_and_comes_back() -> Result<()> {
    let dir = TempDir::with_prefix("connect-faulty-")?;
    let path = dir.path().join("plugins");
    fs::create_dir(&path)?;
    let text = FAULTY.replace("SDK_FOLDER", &examples().to_string_lossy());
    plugin(&path.join("aqueduct-plugin-faulty.py"), &text)?;
    let broker = Broker::start()?;
    let mut worker = Worker::start(
        &broker.bootstrap(),
        &[
            ("plugin.path", &path.to_string_lossy()),
            ("aqueduct.plugin.start.timeout.ms", "60000"),
            ("aqueduct.plugin.request.timeout.ms", "10000"),
            // So long a failure is to be seen.
            ("aqueduct.task.restart.backoff.ms", "15000"),
        ],
    )?;
    let api = worker.api();
    let start = |how: &str| -> Result<()> {
        fs::write(dir.path().join(format!("{how}.armed")), "")?;
        let config = json!({"connector.class": "test.FaultySourceConnector", "how": how, "folder": dir.path(), "code": "hunter2"});
        api.put(how, &config).map(drop)
    };
    let cases: [(&str, &[&str]); 9] = [
        (
            "exit",
            &["ended with exit status 3 while it worked on `poll`", "| the last words of exit [hidden]"],
        ),
        ("exception", &["KeyError: 'colour'", "in poll", "raise KeyError"]),
        ("abort", &["signal 6 (SIGABRT)", "| the last words of abort"]),
        ("hang", &["did not answer `poll` within 10s and was killed", "aqueduct.plugin.request.timeout.ms"]),
        (
            "garbage",
            &["does not keep to the protocol", "the text \"Hello, this is", "| the last words of garbage"],
        ),
        ("huge", &["a frame of 1073741824 bytes was announced, the limit is 16777216"]),
        ("closed", &["closed its standard output while it worked on `poll`"]),
        ("json", &["does not keep to the protocol", "nope"]),
        ("record", &["records[0]: the topic is empty", "aqueduct-plugin-faulty.py"]),
    ];
    for (how, _) in cases {
        start(how)?;
    }
    start("slow")?;
    // One may run again before the next one fails.
    let mut traces = BTreeMap::new();
    let failed = wait("all fail", || {
        for (how, _) in cases {
            let status = api.call("GET", &format!("/connectors/{how}/status"), None)?.body;
            let task = &status["tasks"][0];
            ensure!(status["connector"]["state"] != "FAILED", "{status}");
            if task["state"] == "FAILED" {
                traces.entry(how).or_insert_with(|| task["trace"].as_str().unwrap_or_default().to_owned());
            }
        }
        Ok((traces.len() == cases.len()).then_some(()))
    });
    failed.with_context(|| format!("only {:?}\n{}", traces.keys(), worker.log_tail()))?;
    for (how, parts) in cases {
        let trace = &traces[how];
        ensure!(!trace.contains("hunter2"), "a secret is in {trace}");
        has(trace, parts).with_context(|| how.to_owned())?;
    }
    for (how, _) in cases {
        api.wait_states(how, "RUNNING RUNNING", LIMIT)?;
    }
    // Signs of life are enough; and nobody is left of those that were killed, nor what they started.
    wait("slow goes on after its long poll", || {
        let offsets = api.get("/connectors/slow/offsets")?;
        Ok(offsets["offsets"][0]["offset"]["n"].as_i64().is_some_and(|n| n > 3).then_some(()))
    })?;
    ensure!(!dir.path().join("slow.armed").exists(), "slow did not get so far");
    api.wait_states("slow", "RUNNING RUNNING", LIMIT)?;
    let log = worker.log();
    ensure!(!log.contains("task slow-0 of"), "a plugin that shows life was killed");
    ensure!(!log.contains("hunter2"), "a secret is in the log");
    has(&log, &["the last words of exit"])?;
    let child = fs::read_to_string(dir.path().join("child.pid"))?;
    wait_gone(&child).context("what the plugin started is left")?;
    let id = worker.process().id();
    wait("each task has one process", || {
        let left = children(id)?;
        Ok((left.len() == cases.len() + 1 && left.iter().all(|(_, state)| *state != 'Z')).then_some(()))
    })
    .with_context(|| format!("{:?}", children(id)))?;

    // A plugin that somebody kills.
    let of = |how: &str| fs::read_to_string(dir.path().join(format!("{how}.pid")));
    signal(of("exit")?.parse()?, "KILL")?;
    let killed = wait("the killed one fails", || {
        let status = api.get("/connectors/exit/status")?;
        Ok(status["tasks"][0]["trace"].as_str().map(str::to_owned))
    })?;
    has(&killed, &["was ended by signal 9 (SIGKILL", "starts it again in"])?;
    api.wait_states("exit", "RUNNING RUNNING", LIMIT)?;

    // A worker that somebody kills: plugins see the end of their input, also one that hangs.
    fs::write(dir.path().join("hang.armed"), "")?;
    wait("hang hangs again", || Ok((!dir.path().join("hang.armed").exists()).then_some(())))?;
    let plugins = children(worker.process().id())?;
    ensure!(plugins.len() >= cases.len(), "{plugins:?}");
    worker.process().kill();
    wait("all plugins end", || {
        let left = |id: &u32| state_of(&id.to_string()).is_some_and(|(state, _)| state != 'Z');
        Ok((!plugins.iter().any(|(id, _)| left(id))).then_some(()))
    })?;
    let child = fs::read_to_string(dir.path().join("child.pid"))?;
    wait_gone(&child).context("what the plugin started is left")
}
