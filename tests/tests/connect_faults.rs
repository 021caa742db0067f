//! Three workers of ours and twenty connectors, while workers and the broker are killed, stopped and cut off at random: every
//! line of every file gets into its topic and out again, and everything runs again soon after the last fault.
//!
//! `FAULT_SEED` repeats a run, `FAULT_SECONDS` makes it longer.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write as _;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use aqueduct_client::{Client, ClientConfig, OffsetSpec, PartitionConsumer};
use aqueduct_tests::aqueduct::Worker;
use aqueduct_tests::process::{free_port, signal};
use aqueduct_tests::proxy::{Network, Proxy};
use aqueduct_tests::server::{Kind, Server};
use serde_json::{Value, json};
use tempfile::TempDir;

const WORKERS: usize = 3;
const PAIRS: usize = 10;
const SESSION: Duration = Duration::from_secs(6);
/// What comes on top of the session: the heartbeat that tells of the rebalance, the groups of the sinks, a loaded machine.
const MARGIN: Duration = Duration::from_secs(24);

/// A small generator of its own, so that a seed tells all.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn seed() -> u64 {
    number("FAULT_SEED").unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_nanos() as u64 | 1)
    })
}

/// What is broken at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    WorkerKilled(usize),
    WorkerStopped(usize),
    WorkerCut(usize),
    BrokerKilled,
    BrokerStopped,
}

struct World {
    server: Server,
    proxies: Vec<Proxy>,
    workers: Vec<Worker>,
    dir: TempDir,
}

impl World {
    fn start(kind: Kind) -> Result<Self> {
        let front =
            (0..WORKERS).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<std::io::Result<Vec<_>>>()?;
        let back = (0..WORKERS).map(|_| free_port()).collect::<Result<Vec<_>>>()?;
        let server =
            Server::start_with(kind, &listeners(kind, &front, &back)?.each_ref().map(|(k, v)| (*k, &**v)))?;
        let proxies = front
            .into_iter()
            .zip(&back)
            .map(|(listener, target)| Proxy::start(listener, *target))
            .collect::<Result<Vec<_>>>()?;
        let session = SESSION.as_millis().to_string();
        let settings = [
            ("session.timeout.ms", &*session),
            ("heartbeat.interval.ms", "1000"),
            ("consumer.session.timeout.ms", &*session),
            ("consumer.heartbeat.interval.ms", "1000"),
            ("offset.flush.interval.ms", "500"),
            ("offset.storage.partitions", "5"),
            ("value.converter", "org.apache.kafka.connect.storage.StringConverter"),
            ("aqueduct.task.restart.backoff.ms", "1000"),
        ];
        let start = |proxy: &Proxy| Worker::start(&format!("127.0.0.1:{}", proxy.port()), &settings);
        let workers = proxies.iter().map(start).collect::<Result<Vec<_>>>()?;
        Ok(Self { server, proxies, workers, dir: TempDir::with_prefix("connect-faults-")? })
    }

    fn create(&self) -> Result<()> {
        for pair in 0..PAIRS {
            File::create(self.input(pair))?;
            let source = json!({
                "connector.class": "FileStreamSource", "tasks.max": "1",
                "file": self.input(pair), "topic": format!("lines-{pair}"),
            });
            let sink = json!({
                "connector.class": "FileStreamSink", "tasks.max": "1",
                "file": self.output(pair), "topics": format!("lines-{pair}"),
            });
            let api = self.workers[pair % WORKERS].api();
            api.put(&format!("source-{pair}"), &source)?;
            api.put(&format!("sink-{pair}"), &sink)?;
        }
        Ok(())
    }

    fn input(&self, pair: usize) -> std::path::PathBuf {
        self.dir.path().join(format!("in-{pair}"))
    }

    fn output(&self, pair: usize) -> std::path::PathBuf {
        self.dir.path().join(format!("out-{pair}"))
    }

    fn inflict(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::WorkerKilled(n) => self.workers[n].process().kill(),
            Fault::WorkerStopped(n) => signal(self.workers[n].process().id(), "STOP")?,
            Fault::WorkerCut(n) => {
                let silent = n.is_multiple_of(2);
                self.proxies[n].set(if silent { Network::Silent } else { Network::Broken });
            }
            Fault::BrokerKilled => self.server.kill(),
            Fault::BrokerStopped => signal(self.server.process_id(), "STOP")?,
        }
        Ok(())
    }

    fn repair(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::WorkerKilled(n) => self.workers[n].launch(),
            Fault::WorkerStopped(n) => signal(self.workers[n].process().id(), "CONT"),
            Fault::WorkerCut(n) => {
                self.proxies[n].set(Network::Up);
                Ok(())
            }
            Fault::BrokerKilled => self.server.restart(),
            Fault::BrokerStopped => signal(self.server.process_id(), "CONT"),
        }
    }

    /// Faults at random for so long; each heals by itself, and at the end all of them.
    fn torment(&mut self, random: &mut Random, length: Duration) -> Result<BTreeMap<String, u32>> {
        let from = Instant::now();
        let mut open: BTreeMap<Fault, Instant> = BTreeMap::new();
        let mut counts = BTreeMap::new();
        while from.elapsed() < length {
            let healed: Vec<Fault> =
                open.iter().filter(|(_, until)| **until <= Instant::now()).map(|(fault, _)| *fault).collect();
            for fault in healed {
                open.remove(&fault);
                println!("{:6.1} s: {fault:?} is over", from.elapsed().as_secs_f64());
                self.repair(fault)?;
            }
            let n = usize::try_from(random.below(WORKERS as u64))?;
            let fault = match random.below(10) {
                0..3 => Fault::WorkerKilled(n),
                3..5 => Fault::WorkerStopped(n),
                5..8 => Fault::WorkerCut(n),
                8 => Fault::BrokerKilled,
                _ => Fault::BrokerStopped,
            };
            let same = |other: &Fault| match (fault, other) {
                (
                    Fault::WorkerKilled(a) | Fault::WorkerStopped(a),
                    Fault::WorkerKilled(b) | Fault::WorkerStopped(b),
                ) => a == *b,
                (Fault::BrokerKilled | Fault::BrokerStopped, Fault::BrokerKilled | Fault::BrokerStopped) => {
                    true
                }
                (a, b) => a == *b,
            };
            if open.len() < 3 && !open.keys().any(same) {
                let most =
                    if matches!(fault, Fault::BrokerKilled | Fault::BrokerStopped) { 3000 } else { 12_000 };
                let millis = 300 + random.below(most);
                println!("{:6.1} s: {fault:?} for {millis} ms", from.elapsed().as_secs_f64());
                self.inflict(fault)?;
                open.insert(fault, Instant::now() + Duration::from_millis(millis));
                let kind = format!("{fault:?}").replace(|c: char| !c.is_alphabetic(), "");
                *counts.entry(kind).or_default() += 1;
            }
            std::thread::sleep(Duration::from_millis(500 + random.below(2500)));
        }
        for fault in open.into_keys() {
            self.repair(fault)?;
        }
        Ok(counts)
    }

    /// Whether all connectors and their tasks run, on workers of this test.
    fn all_run(&self, all: &Value) -> bool {
        let known: BTreeSet<String> =
            self.workers.iter().map(|w| format!("127.0.0.1:{}", w.port())).collect();
        let runs = |part: &Value| {
            part["state"] == "RUNNING" && part["worker_id"].as_str().is_some_and(|id| known.contains(id))
        };
        let names = (0..PAIRS).flat_map(|n| [format!("source-{n}"), format!("sink-{n}")]);
        names.into_iter().all(|name| {
            let status = &all[&name]["status"];
            let tasks = status["tasks"].as_array().cloned().unwrap_or_default();
            runs(&status["connector"]) && tasks.len() == 1 && tasks.iter().all(runs)
        })
    }

    fn wait_running(&self, limit: Duration) -> Result<Duration> {
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
                bail!("not all run {limit:?} after the last fault: {seen:#}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until the line has come out everywhere.
    fn wait_line(&self, line: u64, limit: Duration) -> Result<Duration> {
        let from = Instant::now();
        loop {
            let late: Vec<usize> =
                (0..PAIRS).filter(|pair| !numbers(&self.output(*pair)).contains(&line)).collect();
            if late.is_empty() {
                return Ok(from.elapsed());
            }
            ensure!(from.elapsed() < limit, "line {line} is not out of pairs {late:?} after {limit:?}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn logs(&self) -> String {
        let log = |(n, worker): (usize, &Worker)| format!("--- worker {n}\n{}\n", worker.log_tail());
        self.workers.iter().enumerate().map(log).collect()
    }
}

/// A listener of its own for each worker, advertised as the proxy before it.
fn listeners(kind: Kind, front: &[TcpListener], back: &[u16]) -> Result<[(&'static str, String); 3]> {
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

/// The numbers in a text: `<12>`. What a killed worker has cut off is none.
fn read_numbers(text: &str) -> BTreeSet<u64> {
    text.split('<').filter_map(|part| part.split_once('>')?.0.parse().ok()).collect()
}

fn numbers(path: &std::path::Path) -> BTreeSet<u64> {
    read_numbers(&fs::read_to_string(path).unwrap_or_default())
}

fn missing(found: &BTreeSet<u64>, lines: u64) -> Vec<u64> {
    (0..lines).filter(|line| !found.contains(line)).take(10).collect()
}

/// The lines in a topic, and how many records it has.
fn topic(bootstrap: &str, name: &str) -> Result<(BTreeSet<u64>, usize)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let settings =
            std::collections::BTreeMap::from([("bootstrap.servers".to_owned(), bootstrap.to_owned())]);
        let client = Client::new(ClientConfig::from_properties(&settings)?.0);
        let mut consumer = PartitionConsumer::new(client.clone());
        for partition in consumer.assign_topic(name).await? {
            consumer.seek_to(&partition, OffsetSpec::Earliest)?;
        }
        let (mut text, mut count) = (String::new(), 0);
        let reading = consumer.read_to_end(|record| {
            text.push_str(&String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()));
            count += 1;
        });
        reading.await?;
        client.close().await;
        Ok((read_numbers(&text), count))
    })
}

fn run(kind: Kind) -> Result<()> {
    let (seed, seconds) = (seed(), number("FAULT_SECONDS").unwrap_or(40));
    println!("{kind:?}: FAULT_SEED={seed} FAULT_SECONDS={seconds}");
    let mut world = World::start(kind)?;
    world.create()?;
    world.wait_running(Duration::from_secs(60))?;
    let paths: Vec<_> = (0..PAIRS).map(|pair| world.input(pair)).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let told = stop.clone();
    let writer = std::thread::spawn(move || -> Result<u64> {
        let mut files = paths
            .iter()
            .map(|p| File::options().append(true).open(p))
            .collect::<std::io::Result<Vec<_>>>()?;
        let mut line = 0;
        while !told.load(Ordering::Relaxed) {
            for file in &mut files {
                writeln!(file, "<{line}>")?;
            }
            line += 1;
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(line)
    });
    let counts = world.torment(&mut Random(seed), Duration::from_secs(seconds));
    let healed = Instant::now();
    stop.store(true, Ordering::Relaxed);
    let lines = writer.join().map_err(|_| anyhow::anyhow!("the writer of the files panicked"))??;
    let counts = counts?;
    let told = |what: &str| format!("{kind:?}, FAULT_SEED={seed}: {what}\n{counts:?}\n{}", world.logs());
    let running = world.wait_running(SESSION + MARGIN).with_context(|| told("tasks do not run"))?;
    let left = (SESSION + MARGIN).saturating_sub(healed.elapsed()).max(MARGIN);
    world.wait_line(lines - 1, left).with_context(|| told("lines are missing"))?;
    let flowing = healed.elapsed();

    let (mut records, mut delivered) = (0, 0);
    for pair in 0..PAIRS {
        let (found, count) = topic(&world.server.bootstrap(), &format!("lines-{pair}"))?;
        let lost = missing(&found, lines);
        ensure!(
            lost.is_empty(),
            told(&format!("lines {lost:?} are not in topic {pair}: its offset was ahead"))
        );
        let lost = missing(&numbers(&world.output(pair)), lines);
        ensure!(lost.is_empty(), told(&format!("lines {lost:?} did not come out of pair {pair}")));
        records += count;
        delivered += fs::read_to_string(world.output(pair))?.matches('>').count();
    }
    println!(
        "{kind:?}: {counts:?}; {PAIRS} files of {lines} lines, {records} records, {delivered} delivered; running {running:?} \
         and flowing {flowing:?} after the last fault"
    );
    Ok(())
}

#[test]
fn on_ours() -> Result<()> {
    run(Kind::Aqueduct)
}

#[test]
fn on_apache_kafka() -> Result<()> {
    run(Kind::ApacheKafka)
}
