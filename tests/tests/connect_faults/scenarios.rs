//! What must happen after one certain fault: tasks run again, elsewhere, when the session of a worker that died or was cut
//! off is over; one that hears nothing of the config topic, leader or not, gets out of the way of the others and comes back
//! by itself; and no line of the files is lost.
//!
//! The worker that is cut off has a network of its own, where this process may make one; otherwise a proxy stands for it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use aqueduct_tests::aqueduct::Worker;
use aqueduct_tests::namespace::{Cut, Namespace};
use aqueduct_tests::process::free_port;
use aqueduct_tests::proxy::{Network, Proxy};
use aqueduct_tests::server::{Kind, Server};
use serde_json::json;
use tempfile::TempDir;

use crate::log_files::LogFile;
use crate::torment::READS_CONFIGS;
use crate::watch::lines;
use crate::world::listeners;

/// Workers behind proxies.
const WORKERS: usize = 3;
const SOURCES: usize = 8;
const SESSION: Duration = Duration::from_secs(3);
/// For the rebalance and the start of the tasks, on a machine that has other things to do.
const MARGIN: Duration = Duration::from_secs(50);

/// State and worker of each connector's task, by connector.
type Tasks = BTreeMap<String, (String, String)>;

struct Group {
    server: Server,
    proxies: Vec<Proxy>,
    workers: Vec<Worker>,
    namespace: Option<Arc<Namespace>>,
    dir: TempDir,
    lines: u64,
}

impl Group {
    fn start() -> Result<Self> {
        let namespace = match Namespace::create(1) {
            Ok(namespace) => Some(Arc::new(namespace)),
            Err(error) => {
                println!("no network namespace, a proxy stands for it: {error:#}");
                None
            }
        };
        let front =
            (0..WORKERS).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<std::io::Result<Vec<_>>>()?;
        let back = (0..WORKERS).map(|_| free_port()).collect::<Result<Vec<_>>>()?;
        let mut broker = listeners(Kind::Aqueduct, &front, &back)?.to_vec();
        let host = namespace.as_ref().map_or("127.0.0.1", |namespace| namespace.host());
        let cable = format!("{host}:{}", free_port()?);
        if namespace.is_some() {
            broker[0].1.push_str(&format!(",CABLE://{cable}"));
            broker[1].1.push_str(&format!(",CABLE://{cable}"));
            broker[2].1.push_str(",CABLE:PLAINTEXT");
        }
        broker.push(("group.min.session.timeout.ms", "1000".to_owned()));
        let broker: Vec<(&str, &str)> = broker.iter().map(|(k, v)| (*k, &**v)).collect();
        let server = Server::start_with(Kind::Aqueduct, &broker)?;
        let proxies = front
            .into_iter()
            .zip(&back)
            .map(|(listener, target)| Proxy::start(listener, *target))
            .collect::<Result<Vec<_>>>()?;
        let session = SESSION.as_millis().to_string();
        let settings = [
            ("session.timeout.ms", &*session),
            ("heartbeat.interval.ms", "500"),
            ("worker.sync.timeout.ms", "1500"),
            ("offset.flush.interval.ms", "500"),
            ("offset.storage.partitions", "2"),
            ("status.storage.partitions", "2"),
            ("value.converter", "org.apache.kafka.connect.storage.StringConverter"),
        ];
        let reached = [("listeners", "http://0.0.0.0:{port}"), ("rest.advertised.host.name", host)];
        let outside = [&settings[..], &reached].concat();
        let start = |proxy: &Proxy| Worker::start(&format!("127.0.0.1:{}", proxy.port()), &outside);
        let mut workers = proxies.iter().map(start).collect::<Result<Vec<_>>>()?;
        if let Some(namespace) = &namespace {
            workers.push(Worker::start_in(namespace.clone(), &cable, &settings)?);
        }
        let dir = TempDir::with_prefix("connect-scenarios-")?;
        let mut group = Self { server, proxies, workers, namespace, dir, lines: 0 };
        group.create()?;
        Ok(group)
    }

    fn create(&mut self) -> Result<()> {
        for n in 0..SOURCES {
            let file = self.dir.path().join(format!("in-{n}"));
            File::create(&file)?;
            let source = json!({
                "connector.class": "FileStreamSource", "tasks.max": "1", "file": file, "topic": format!("lines-{n}"),
            });
            self.workers[0].api().put(&format!("source-{n}"), &source)?;
        }
        self.write()?;
        let all = self.workers.len();
        self.wait("all run, everywhere", 0, |group, tasks| {
            run(tasks) && (0..all).all(|n| group.holds(tasks, n) > 0)
        })?;
        Ok(())
    }

    /// A line for each of the files.
    fn write(&mut self) -> Result<()> {
        for n in 0..SOURCES {
            let file = File::options().append(true).open(self.dir.path().join(format!("in-{n}")));
            writeln!(file?, "<{}>", self.lines)?;
        }
        self.lines += 1;
        Ok(())
    }

    /// What worker `via` says of the tasks.
    fn tasks(&self, via: usize) -> Result<Tasks> {
        let all = self.workers[via].api().get("/connectors?expand=status")?;
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let task = |(name, info): (&String, &serde_json::Value)| {
            let task = &info["status"]["tasks"][0];
            (name.clone(), (text(&task["state"]), text(&task["worker_id"])))
        };
        Ok(all.as_object().context("connectors")?.iter().map(task).collect())
    }

    /// How many tasks worker `n` has.
    fn holds(&self, tasks: &Tasks, n: usize) -> usize {
        let end = format!(":{}", self.workers[n].port());
        tasks.values().filter(|(_, worker)| worker.ends_with(&end)).count()
    }

    fn wait(&self, what: &str, via: usize, done: impl Fn(&Self, &Tasks) -> bool) -> Result<Duration> {
        let from = Instant::now();
        let mut tasks = Tasks::new();
        while from.elapsed() < SESSION + MARGIN {
            // A worker that has just been started may not know yet.
            if let Ok(seen) = self.tasks(via) {
                tasks = seen;
                if done(self, &tasks) {
                    return Ok(from.elapsed());
                }
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let log = |(n, worker): (usize, &Worker)| format!("--- worker {n}\n{}\n", worker.log_tail());
        let logs: String = self.workers.iter().enumerate().map(log).collect();
        bail!("{what}: not after {:?}: {tasks:#?}\n{logs}", from.elapsed());
    }

    /// Waits until all tasks run, none of them on worker `n`.
    fn wait_without(&self, n: usize, what: &str) -> Result<()> {
        let via = (n + 1) % WORKERS;
        let took = self.wait(what, via, |group, tasks| run(tasks) && group.holds(tasks, n) == 0)?;
        println!("{what}: all tasks run elsewhere after {took:.1?}; the session is {SESSION:?}");
        Ok(())
    }

    /// Waits until worker `n` has a part of the tasks again.
    fn wait_back(&self, n: usize, what: &str) -> Result<()> {
        let via = (n + 1) % WORKERS;
        let took = self.wait(what, via, |group, tasks| run(tasks) && group.holds(tasks, n) > 0)?;
        println!("{what}: back after {took:.1?}");
        Ok(())
    }

    /// Changes the state of the first source; any worker may, once it is up.
    fn ask(&self, n: usize, what: &str) -> Result<()> {
        let from = Instant::now();
        loop {
            match self.workers[n].rest("PUT", &format!("/connectors/source-0/{what}"), None) {
                Ok(answer) if answer.status == 202 => return Ok(()),
                answer if from.elapsed() > MARGIN => bail!("worker {n} does not {what}: {answer:?}"),
                _ => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// Every line is in its topic.
    fn check(&self) -> Result<()> {
        let from = Instant::now();
        for n in 0..SOURCES {
            let (mut file, mut found) =
                (LogFile::new(&self.server.data(), &format!("lines-{n}"), 0), Vec::new());
            loop {
                found.extend(lines(&mut file)?.into_iter().map(|line| line.number));
                if (0..self.lines).all(|line| found.contains(&line)) {
                    break;
                }
                ensure!(from.elapsed() < MARGIN, "of {} lines there are {found:?} in topic {n}", self.lines);
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        Ok(())
    }
}

fn run(tasks: &Tasks) -> bool {
    tasks.len() == SOURCES && tasks.values().all(|(state, _)| state == "RUNNING")
}

/// Worker `n` hears nothing of the config topic, to which another has written, while the group is formed anew.
fn stays_behind(group: &mut Group, n: usize) -> Result<()> {
    let (other, third) = ((n + 1) % WORKERS, (n + 2) % WORKERS);
    group.proxies[n].hold(Some(READS_CONFIGS));
    // Any worker writes it, so that it does not matter who leads.
    group.ask(other, "pause")?;
    group.workers[third].launch()?;
    group.write()?;
    let took = group.wait(&format!("worker {n} is behind"), other, |group, tasks| {
        let runs = |(name, (state, _)): (&String, &(String, String))| {
            state == if name == "source-0" { "PAUSED" } else { "RUNNING" }
        };
        tasks.len() == SOURCES && tasks.iter().all(runs) && group.holds(tasks, n) == 0
    })?;
    println!("worker {n} is behind: the others have all tasks after {took:.1?}");
    group.proxies[n].hold(None);
    group.ask(other, "resume")
}

/// Cuts worker `n` off.
fn cut(group: &Group, n: usize, cut: Cut) -> Result<()> {
    match &group.namespace {
        Some(namespace) => namespace.cut(cut),
        None => {
            group.proxies[n].set(match cut {
                Cut::Nothing => Network::Up,
                Cut::Both => Network::Silent,
                Cut::Out => Network::Mute,
                Cut::In => Network::Deaf,
            });
            Ok(())
        }
    }
}

#[test]
fn tasks_go_on_elsewhere_when_a_session_ends() -> Result<()> {
    let mut group = Group::start()?;

    group.workers[0].process().kill();
    group.write()?;
    group.wait_without(0, "worker 0 is killed")?;
    group.workers[0].launch()?;
    group.wait_back(0, "worker 0 is started")?;

    // One of them leads.
    for n in 0..WORKERS {
        stays_behind(&mut group, n)?;
    }
    group.wait_back(WORKERS - 1, "the last that was behind")?;

    let n = group.workers.len() - 1;
    for way in [Cut::Both, Cut::Out, Cut::In] {
        cut(&group, n, way)?;
        group.write()?;
        group.wait_without(n, &format!("worker {n} is cut off ({way:?})"))?;
        cut(&group, n, Cut::Nothing)?;
        group.wait_back(n, &format!("worker {n} is connected again"))?;
    }
    group.check()
}
