//! Exactly-once sources of our worker: killed and stopped under load, replaced, handed over to the JVM's worker and back.
//! A reader of what is committed sees each line of the file once, in order.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use aqueduct_tests::aqueduct::Worker;
use aqueduct_tests::connect::Api;
use aqueduct_tests::console::read_committed;
use aqueduct_tests::jvm_connect::JvmWorker;
use aqueduct_tests::process::signal;
use aqueduct_tests::server::{Kind, Server};
use serde_json::{Value, json};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(90);
const BROKER: &[(&str, &str)] =
    &[("transaction.state.log.num.partitions", "5"), ("group.min.session.timeout.ms", "1000")];
const SETTINGS: &[(&str, &str)] = &[
    ("exactly.once.source.support", "enabled"),
    ("session.timeout.ms", "2000"),
    ("heartbeat.interval.ms", "300"),
    ("scheduled.rebalance.max.delay.ms", "0"),
    ("offset.storage.partitions", "2"),
    ("status.storage.partitions", "2"),
    ("task.shutdown.graceful.timeout.ms", "3000"),
];

/// A file that lines are written to all the time.
struct Load {
    path: PathBuf,
    written: Arc<AtomicU32>,
    stop: Arc<AtomicBool>,
    writer: Option<JoinHandle<std::io::Result<()>>>,
}

impl Load {
    fn start(path: PathBuf) -> Result<Self> {
        let mut file = File::create(&path)?;
        let (written, stop) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, ended) = (written.clone(), stop.clone());
        let writer = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let first = count.load(Ordering::Relaxed);
                let lines: String = (first..first + 20).map(|n| format!("line {n}\n")).collect();
                file.write_all(lines.as_bytes())?;
                count.store(first + 20, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        });
        Ok(Self { path, written, stop, writer: Some(writer) })
    }

    /// Ends it; gives the number of lines.
    fn end(&mut self) -> Result<u32> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(writer) = self.writer.take() {
            writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
        }
        Ok(self.written.load(Ordering::Relaxed))
    }
}

fn source(load: &Load, topic: &str) -> Value {
    json!({
        "connector.class": "org.apache.kafka.connect.file.FileStreamSourceConnector", "file": load.path,
        "topic": topic, "value.converter": "org.apache.kafka.connect.storage.StringConverter",
        "exactly.once.support": "required", "batch.size": "50", "tasks.max": "1",
    })
}

/// What a reader of committed records sees.
fn committed(server: &Server, topic: &str) -> Result<Vec<String>> {
    Ok(read_committed(&server.bootstrap(), topic)?.into_iter().map(|record| record.value).collect())
}

/// Each of the lines once, in order.
fn check(server: &Server, topic: &str, count: u32) -> Result<()> {
    let from = Instant::now();
    let seen = loop {
        let seen = committed(server, topic)?;
        if seen.len() >= count as usize || from.elapsed() > LIMIT {
            break seen;
        }
    };
    let wrong = (0..count).zip(&seen).find(|(n, line)| **line != format!("line {n}"));
    ensure!(wrong.is_none(), "instead of line {:?} (number, seen) of {} in {topic}", wrong, seen.len());
    ensure!(seen.len() == count as usize, "{} lines are in {topic}, of {count}", seen.len());
    Ok(())
}

/// Where the source is in its file, as the API says.
fn position(api: &Api, name: &str) -> Result<u64> {
    let offsets = api.get(&format!("/connectors/{name}/offsets"))?;
    Ok(offsets["offsets"][0]["offset"]["position"].as_u64().unwrap_or(0))
}

/// Waits until the source has stored a position behind this one.
fn wait_behind(api: &Api, name: &str, before: u64) -> Result<()> {
    let from = Instant::now();
    while position(api, name)? <= before {
        ensure!(from.elapsed() < LIMIT, "{name} does not get behind {before}");
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// Waits until the source has stored the end of its file.
fn wait_read(api: &Api, name: &str, load: &Load) -> Result<()> {
    let from = Instant::now();
    loop {
        let (at, end) = (position(api, name)?, std::fs::metadata(&load.path)?.len());
        if at == end {
            return Ok(());
        }
        if from.elapsed() > LIMIT {
            let status = api.get(&format!("/connectors/{name}/status"))?;
            bail!("{name} is at {at} of {end}: {status:#}");
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

mod each_line_once {
    use super::*;

    #[test]
    fn aqueduct() -> Result<()> {
        whatever_happens_to_workers(Kind::Aqueduct)
    }

    #[test]
    fn apache_kafka() -> Result<()> {
        whatever_happens_to_workers(Kind::ApacheKafka)
    }
}

fn whatever_happens_to_workers(kind: Kind) -> Result<()> {
    let server = Server::start_with(kind, BROKER)?;
    let dir = TempDir::with_prefix("connect-exactly-once-")?;
    let mut first = Worker::start(&server.bootstrap(), SETTINGS)?;
    killed(&server, &dir, &mut first).context("killed again and again")?;
    replaced(&server, &dir, &mut first).context("stopped, replaced, continued")?;
    handed_over(&server, &dir, first).context("handed over to the JVM's worker and back")
}

/// The worker is killed under load, three times.
fn killed(server: &Server, dir: &TempDir, worker: &mut Worker) -> Result<()> {
    let mut load = Load::start(dir.path().join("killed.txt"))?;
    worker.api().put("killed", &source(&load, "killed"))?;
    for pause in [700, 450, 900] {
        worker.wait_running("killed", LIMIT)?;
        std::thread::sleep(Duration::from_millis(pause));
        worker.process().kill();
        worker.restart()?;
    }
    worker.wait_running("killed", LIMIT)?;
    let count = load.end()?;
    wait_read(&worker.api(), "killed", &load).with_context(|| worker.log_tail())?;
    check(server, "killed", count)?;
    worker.api().done("DELETE", "/connectors/killed", None)?;
    Ok(())
}

/// Of two workers the one that runs the task is stopped, and goes on when the other has taken over.
fn replaced(server: &Server, dir: &TempDir, first: &mut Worker) -> Result<()> {
    let mut second = Worker::start(&server.bootstrap(), SETTINGS)?;
    let mut load = Load::start(dir.path().join("replaced.txt"))?;
    first.api().put("replaced", &source(&load, "replaced"))?;
    first.wait_running("replaced", LIMIT)?;
    for _ in 0..2 {
        let status = first.api().get("/connectors/replaced/status")?;
        let owner = status["tasks"][0]["worker_id"].as_str().unwrap_or_default().to_owned();
        let on_first = owner.ends_with(&format!(":{}", first.port()));
        let (zombie, other) = if on_first { (&mut *first, &mut second) } else { (&mut second, &mut *first) };
        std::thread::sleep(Duration::from_millis(500));
        signal(zombie.process().id(), "STOP")?;
        wait_owner(other, "replaced", &owner)?;
        std::thread::sleep(Duration::from_millis(700));
        signal(zombie.process().id(), "CONT")?;
        std::thread::sleep(Duration::from_millis(1500));
    }
    let count = load.end()?;
    wait_read(&first.api(), "replaced", &load)?;
    check(server, "replaced", count)?;
    first.api().done("DELETE", "/connectors/replaced", None)?;
    second.process().terminate(LIMIT)
}

/// Waits until the task runs elsewhere.
fn wait_owner(worker: &Worker, name: &str, not: &str) -> Result<()> {
    let from = Instant::now();
    loop {
        let status = worker.api().get(&format!("/connectors/{name}/status"))?;
        let task = &status["tasks"][0];
        if task["state"] == "RUNNING" && task["worker_id"] != not {
            return Ok(());
        }
        ensure!(from.elapsed() < LIMIT, "nobody has taken over: {status:#}\n{}", worker.log_tail());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The JVM's worker goes on where ours stopped, with its own offsets topic, and ours where the JVM's did.
fn handed_over(server: &Server, dir: &TempDir, mut ours: Worker) -> Result<()> {
    let mut load = Load::start(dir.path().join("handed.txt"))?;
    let mut config = source(&load, "handed");
    config["offsets.storage.topic"] = json!("handed-offsets");
    ours.api().put("handed", &config)?;
    ours.wait_running("handed", LIMIT)?;
    wait_behind(&ours.api(), "handed", 0)?;
    ours.process().terminate(LIMIT)?;

    let mut theirs = JvmWorker::start(&server.bootstrap(), SETTINGS)?;
    theirs.api().wait_states("handed", "RUNNING RUNNING", LIMIT)?;
    let before = position(&theirs.api(), "handed")?;
    ensure!(before > 0, "the JVM's worker does not know the offsets of ours");
    wait_behind(&theirs.api(), "handed", before).context("the JVM's worker does not go on")?;
    theirs.stop()?;

    ours.restart()?;
    ours.wait_running("handed", LIMIT)?;
    std::thread::sleep(Duration::from_millis(500));
    let count = load.end()?;
    wait_read(&ours.api(), "handed", &load)?;
    check(server, "handed", count)
}
