//! From the JVM's workers to ours and back, while data flows: both are members of one group meanwhile, either leads, and what
//! they ask of each other is understood. Every line arrives once and in its order.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use aqueduct_tests::aqueduct::{Broker, Worker};
use aqueduct_tests::connect::Api;
use aqueduct_tests::console::read_topic;
use aqueduct_tests::jvm_connect::JvmWorker;
use serde_json::{Value, json};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(180);

/// Lines into files, until told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<usize>>,
}

impl Load {
    fn start(dir: &TempDir, files: usize) -> Result<Self> {
        let open = |n| File::create(dir.path().join(format!("in-{n}")));
        let mut files = (0..files).map(open).collect::<std::io::Result<Vec<_>>>()?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut line = 0;
            while !told.load(Ordering::Relaxed) {
                for file in &mut files {
                    writeln!(file, "line {line}")?;
                }
                line += 1;
                std::thread::sleep(Duration::from_millis(10));
            }
            Ok(line)
        });
        Ok(Self { stop, thread })
    }

    /// How many lines each file has.
    fn stop(self) -> Result<usize> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the writer of the files panicked"))?
    }
}

struct Flow {
    dir: TempDir,
    pairs: usize,
    /// Goes into the settings, so that every change of it is one of all tasks.
    round: u32,
}

impl Flow {
    fn names(&self) -> Vec<String> {
        (0..self.pairs).flat_map(|n| [format!("source-{n}"), format!("sink-{n}")]).collect()
    }

    fn config(&self, name: &str) -> Value {
        let number = name.rsplit('-').next().unwrap_or_default();
        let topic = format!("lines-{number}");
        let mut config = json!({
            "value.converter": "org.apache.kafka.connect.storage.StringConverter",
            "tasks.max": "1", "errors.retry.timeout": self.round.to_string(),
        });
        let own = if name.starts_with("source") {
            json!({
                "connector.class": "org.apache.kafka.connect.file.FileStreamSourceConnector",
                "file": self.dir.path().join(format!("in-{number}")), "topic": topic,
            })
        } else {
            json!({
                "connector.class": "org.apache.kafka.connect.file.FileStreamSinkConnector",
                "file": self.dir.path().join(format!("out-{number}")), "topics": topic,
            })
        };
        if let (Value::Object(config), Value::Object(own)) = (&mut config, own) {
            config.extend(own);
        }
        config
    }

    /// Gives all connectors new settings through one worker and waits until their tasks have them.
    fn configure(&mut self, api: &Api, through: &str) -> Result<()> {
        self.round += 1;
        let from = Instant::now();
        for name in self.names() {
            api.put(&name, &self.config(&name)).with_context(|| format!("{name} through {through}"))?;
        }
        let round = self.round.to_string();
        loop {
            let waiting: Vec<String> = self
                .names()
                .into_iter()
                .filter(|name| {
                    let tasks = api.get(&format!("/connectors/{name}/tasks")).unwrap_or_default();
                    tasks[0]["config"]["errors.retry.timeout"] != round.as_str()
                })
                .collect();
            if waiting.is_empty() {
                return Ok(());
            }
            ensure!(from.elapsed() < LIMIT, "round {round} through {through}: no new tasks for {waiting:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until everything runs, on all of these workers and no other.
    fn settle(&self, what: &str, api: &Api, ports: &[u16]) -> Result<()> {
        let wanted: BTreeSet<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let from = Instant::now();
        loop {
            let all = api.get("/connectors?expand=status")?;
            let mut hosts = BTreeSet::new();
            let mut running = 0;
            for name in self.names() {
                let status = &all[&name]["status"];
                let tasks = status["tasks"].as_array().cloned().unwrap_or_default();
                for part in std::iter::once(&status["connector"]).chain(&tasks) {
                    running += usize::from(part["state"] == "RUNNING");
                    hosts.insert(part["worker_id"].as_str().unwrap_or_default().to_owned());
                }
            }
            if running == self.pairs * 4 && hosts == wanted {
                println!("{what}: settled after {:?}", from.elapsed());
                return Ok(());
            }
            if from.elapsed() > LIMIT {
                bail!("{what}: {running} run on {hosts:?} instead of {wanted:?}: {all:#}");
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Waits until new lines have gone through every pair.
    fn flows(&self, what: &str) -> Result<()> {
        let lengths = || {
            let length = |n| fs::metadata(self.dir.path().join(format!("out-{n}"))).map_or(0, |m| m.len());
            (0..self.pairs).map(length).collect::<Vec<_>>()
        };
        let (before, from) = (lengths(), Instant::now());
        while lengths().iter().zip(&before).any(|(now, before)| now <= before) {
            ensure!(from.elapsed() < LIMIT, "{what}: nothing moves: {before:?}, {:?}", lengths());
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Every line once and in order, in every topic and at every end.
    fn check(&self, bootstrap: &str, lines: usize) -> Result<()> {
        let expected: String = (0..lines).map(|n| format!("line {n}\n")).collect();
        let from = Instant::now();
        for pair in 0..self.pairs {
            let path = self.dir.path().join(format!("out-{pair}"));
            loop {
                let found = fs::read_to_string(&path).unwrap_or_default();
                if found == expected {
                    break;
                }
                if found.len() > expected.len() || from.elapsed() > LIMIT {
                    let differ = found.lines().zip(expected.lines()).position(|(a, b)| a != b);
                    bail!(
                        "{}: {} lines of {lines}, the first wrong one is {differ:?}",
                        path.display(),
                        found.lines().count()
                    );
                }
                std::thread::sleep(Duration::from_millis(200));
            }
            let topic = read_topic(bootstrap, &format!("lines-{pair}"))?;
            let found: String = topic.iter().map(|record| format!("{}\n", record.value)).collect();
            ensure!(found == expected, "topic {pair}: {} records of {lines}", topic.len());
        }
        Ok(())
    }
}

fn there_and_back(protocol: &str, workers: usize, pairs: usize) -> Result<()> {
    let broker = Broker::start()?;
    let bootstrap = broker.bootstrap();
    let settings = [
        ("connect.protocol", protocol),
        // All workers stop in order: where a session ended before, or a task was given up, lines would come again.
        ("session.timeout.ms", "60000"),
        ("task.shutdown.graceful.timeout.ms", "60000"),
        ("offset.flush.timeout.ms", "60000"),
        ("heartbeat.interval.ms", "500"),
        ("scheduled.rebalance.max.delay.ms", "0"),
        ("offset.storage.partitions", "3"),
        ("status.storage.partitions", "3"),
    ];
    let mut flow = Flow { dir: TempDir::with_prefix("connect-mixed-")?, pairs, round: 0 };
    let load = Load::start(&flow.dir, pairs)?;
    let start = |_| JvmWorker::start(&bootstrap, &settings);
    let mut theirs = (0..workers).map(start).collect::<Result<Vec<_>>>()?;
    let ports = |theirs: &[JvmWorker]| theirs.iter().map(JvmWorker::port).collect::<Vec<_>>();
    flow.configure(&theirs[0].api(), "the reference, alone")?;
    flow.settle("the reference alone", &theirs[0].api(), &ports(&theirs))?;

    let start = |_| Worker::start(&bootstrap, &settings);
    let mut ours = (0..workers).map(start).collect::<Result<Vec<_>>>()?;
    let own: Vec<u16> = ours.iter().map(Worker::port).collect();
    flow.settle("both, led by the reference", &ours[0].api(), &[ports(&theirs), own.clone()].concat())?;
    flow.configure(&ours[0].api(), "ours, led by the reference")?;
    flow.settle("both, configured anew", &theirs[0].api(), &[ports(&theirs), own.clone()].concat())?;
    flow.flows("both, led by the reference")?;

    for worker in theirs.iter_mut().rev() {
        worker.stop()?;
    }
    flow.settle("ours alone", &ours[0].api(), &own)?;
    flow.flows("ours alone")?;

    theirs[0].restart()?;
    flow.settle("both, led by ours", &theirs[0].api(), &[ports(&theirs[..1]), own.clone()].concat())?;
    flow.configure(&theirs[0].api(), "the reference, led by ours")?;
    flow.settle("both, configured anew", &ours[0].api(), &[ports(&theirs[..1]), own].concat())?;
    flow.flows("both, led by ours")?;

    for worker in &mut ours {
        worker.process().terminate(LIMIT)?;
    }
    flow.settle("the reference alone again", &theirs[0].api(), &ports(&theirs[..1]))?;
    flow.flows("the reference alone again")?;
    let lines = load.stop()?;
    flow.check(&bootstrap, lines)?;
    println!("{protocol}: {pairs} files of {lines} lines, each once and in order");
    Ok(())
}

#[test]
fn sessioned() -> Result<()> {
    there_and_back("sessioned", 2, 6)
}

#[test]
fn compatible_and_eager() -> Result<()> {
    there_and_back("compatible", 1, 2)?;
    there_and_back("eager", 1, 2)
}
