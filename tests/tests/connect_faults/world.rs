//! Three workers of ours, each behind a network of its own to one broker, and twenty connectors: ten files into topics, and
//! ten topics into files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use aqueduct_client::{Admin, Client, ClientConfig, NewTopic};
use aqueduct_tests::aqueduct::Worker;
use aqueduct_tests::kafka::tool;
use aqueduct_tests::process::free_port;
use aqueduct_tests::proxy::Proxy;
use aqueduct_tests::server::{Kind, Server};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::watch::{OFFSETS_PARTITIONS, numbers};

pub const WORKERS: usize = 3;
pub const PAIRS: usize = 10;
pub const SESSION: Duration = Duration::from_secs(6);
/// What comes on top of the session: the heartbeat that tells of the rebalance, the groups of the sinks, a loaded machine.
pub const MARGIN: Duration = Duration::from_secs(54);

pub struct World {
    pub server: Server,
    pub proxies: Vec<Proxy>,
    pub workers: Vec<Worker>,
    dir: TempDir,
}

impl World {
    /// With `exactly_once` the sources deliver so, and the sinks read what is committed.
    pub fn start(kind: Kind, exactly_once: bool) -> Result<Self> {
        let front =
            (0..WORKERS).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<std::io::Result<Vec<_>>>()?;
        let back = (0..WORKERS).map(|_| free_port()).collect::<Result<Vec<_>>>()?;
        let listeners = listeners(kind, &front, &back)?;
        let mut broker: Vec<(&str, &str)> = listeners.iter().map(|(k, v)| (*k, &**v)).collect();
        broker.push(("transaction.state.log.num.partitions", "5"));
        let server = Server::start_with(kind, &broker)?;
        create_topics(&server.bootstrap())?;
        let proxies = front
            .into_iter()
            .zip(&back)
            .map(|(listener, target)| Proxy::start(listener, *target))
            .collect::<Result<Vec<_>>>()?;
        let (session, partitions) = (SESSION.as_millis().to_string(), OFFSETS_PARTITIONS.to_string());
        let mut settings = vec![
            ("session.timeout.ms", &*session),
            ("heartbeat.interval.ms", "1000"),
            ("consumer.session.timeout.ms", &*session),
            ("consumer.heartbeat.interval.ms", "1000"),
            ("offset.flush.interval.ms", "500"),
            ("offset.storage.partitions", &*partitions),
            // When the broker appended an offset can then be compared with when it appended the lines.
            ("offset.storage.message.timestamp.type", "LogAppendTime"),
            ("value.converter", "org.apache.kafka.connect.storage.StringConverter"),
            ("aqueduct.task.restart.backoff.ms", "1000"),
            ("aqueduct.task.restart.backoff.max.ms", "4000"),
        ];
        if exactly_once {
            settings.push(("exactly.once.source.support", "enabled"));
            settings.push(("consumer.isolation.level", "read_committed"));
        }
        let start = |proxy: &Proxy| Worker::start(&format!("127.0.0.1:{}", proxy.port()), &settings);
        let workers = proxies.iter().map(start).collect::<Result<Vec<_>>>()?;
        Ok(Self { server, proxies, workers, dir: TempDir::with_prefix("connect-faults-")? })
    }

    pub fn create(&self) -> Result<()> {
        for pair in 0..PAIRS {
            File::create(self.input(pair))?;
            let api = self.workers[pair % WORKERS].api();
            api.put(&format!("source-{pair}"), &self.source(pair))?;
            api.put(&format!("sink-{pair}"), &self.sink(pair))?;
        }
        Ok(())
    }

    pub fn source(&self, pair: usize) -> Value {
        json!({
            "connector.class": "FileStreamSource", "tasks.max": "1",
            "file": self.input(pair), "topic": format!("lines-{pair}"),
        })
    }

    pub fn sink(&self, pair: usize) -> Value {
        json!({
            "connector.class": "FileStreamSink", "tasks.max": "1",
            "file": self.output(pair), "topics": format!("lines-{pair}"),
        })
    }

    pub fn input(&self, pair: usize) -> PathBuf {
        self.dir.path().join(format!("in-{pair}"))
    }

    pub fn output(&self, pair: usize) -> PathBuf {
        self.dir.path().join(format!("out-{pair}"))
    }

    /// Whether all connectors and their tasks run, on workers of this test.
    fn all_run(&self, all: &Value) -> bool {
        let known: BTreeSet<String> =
            self.workers.iter().map(|w| format!("127.0.0.1:{}", w.port())).collect();
        let runs = |part: &Value| {
            part["state"] == "RUNNING" && part["worker_id"].as_str().is_some_and(|id| known.contains(id))
        };
        names().all(|name| {
            let status = &all[&name]["status"];
            let tasks = status["tasks"].as_array().cloned().unwrap_or_default();
            runs(&status["connector"]) && tasks.len() == 1 && tasks.iter().all(runs)
        })
    }

    pub fn wait_running(&self, limit: Duration) -> Result<Duration> {
        let from = Instant::now();
        let mut seen = Value::Null;
        loop {
            for worker in &self.workers {
                if let Ok(answer) = worker.rest("GET", "/connectors?expand=status", None) {
                    seen = answer.body;
                    if self.all_run(&seen) {
                        return Ok(from.elapsed());
                    }
                }
            }
            if from.elapsed() > limit {
                let explain =
                    |name| self.workers[0].rest("GET", &format!("/connectors/{name}/explain"), None);
                let why: Vec<_> = names().filter_map(|name| Some(explain(name).ok()?.body)).collect();
                bail!("not all run {limit:?} after the last fault: {seen:#}\n{why:#?}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until the line has come out everywhere.
    pub fn wait_line(&self, line: u64, limit: Duration) -> Result<Duration> {
        let from = Instant::now();
        loop {
            let late: Vec<usize> =
                (0..PAIRS).filter(|pair| !written(&self.output(*pair)).contains(&line)).collect();
            if late.is_empty() {
                return Ok(from.elapsed());
            }
            ensure!(from.elapsed() < limit, "line {line} is not out of pairs {late:?} after {limit:?}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    pub fn logs(&self) -> String {
        // More than the tail: what a task waits for may have begun a while ago.
        const MOST: usize = 64 << 10;
        let log = |(n, worker): (usize, &Worker)| {
            let log = worker.log();
            let from = log.len().saturating_sub(MOST);
            let last = log.get(from..).unwrap_or(&log);
            format!("--- worker {n}\n{last}\n")
        };
        let logs: String = self.workers.iter().enumerate().map(log).collect();
        let args = ["--bootstrap-server", &self.server.bootstrap(), "list"];
        let transactions = tool("org.apache.kafka.tools.TransactionsCommand", &args);
        format!("{logs}--- transactions\n{}\n", transactions.unwrap_or_else(|error| format!("{error:#}")))
    }
}

/// Every connector.
pub fn names() -> impl Iterator<Item = String> {
    (0..PAIRS).flat_map(|n| [format!("source-{n}"), format!("sink-{n}")])
}

/// The numbers of the lines in a file.
pub fn written(path: &Path) -> BTreeSet<u64> {
    numbers(&fs::read_to_string(path).unwrap_or_default()).collect()
}

/// Topics whose records say when the broker appended them.
fn create_topics(bootstrap: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let settings = BTreeMap::from([("bootstrap.servers".to_owned(), bootstrap.to_owned())]);
        let client = Client::new(ClientConfig::from_properties(&settings)?.0);
        let admin = Admin::new(client.clone());
        for pair in 0..PAIRS {
            let topic = NewTopic::new(format!("lines-{pair}"), 1, 1);
            admin.ensure_topic(&topic.config("message.timestamp.type", "LogAppendTime")).await?;
        }
        client.close().await;
        Ok(())
    })
}

/// A listener of its own for each worker, advertised as the proxy before it.
pub fn listeners(kind: Kind, front: &[TcpListener], back: &[u16]) -> Result<[(&'static str, String); 3]> {
    let mut listen = "PLAINTEXT://127.0.0.1:{port}".to_owned();
    let mut advertised = listen.clone();
    let mut map = "PLAINTEXT:PLAINTEXT".to_owned();
    if kind == Kind::ApacheKafka {
        listen.push_str(",CONTROLLER://127.0.0.1:{controller}");
        map.push_str(",CONTROLLER:PLAINTEXT");
    }
    for (n, (front, back)) in front.iter().zip(back).enumerate() {
        listen.push_str(&format!(",W{n}://127.0.0.1:{back}"));
        advertised.push_str(&format!(",W{n}://127.0.0.1:{}", front.local_addr()?.port()));
        map.push_str(&format!(",W{n}:PLAINTEXT"));
    }
    Ok([("listeners", listen), ("advertised.listeners", advertised), ("listener.security.protocol.map", map)])
}
