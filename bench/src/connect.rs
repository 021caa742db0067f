//! A Connect worker beside the JVM's: the control plane, file to topic to file, sinks with several tasks, and what an
//! idle one costs. Both use brokers of the same kind, one after the other.

mod control;
mod flow;
mod rest;
mod scaling;
mod worker;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;
use aqueduct_tests::elasticsearch::Elasticsearch;
use aqueduct_tests::process::{Process, free_port};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use self::rest::Rest;
use crate::choice::Choice;
use crate::measure::{cpu_seconds, memory_mib};
use crate::peer::{Broker, aqueduct};
use crate::report::{OURS, Report};
use crate::wire::Connection;

/// Name of the scenario without a worker of the JVM.
const DEV: &str = "aqueduct dev, idle";

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    choice: Choice,
    /// Lines of 100 bytes that go through a file, a topic and a file; a sink with several tasks gets twice as many.
    #[arg(long)]
    records: Option<u64>,
    /// Connectors that a script creates in our worker.
    #[arg(long)]
    connectors: Option<usize>,
    /// Connectors that a script creates in the JVM worker, which would take minutes for as many as ours.
    #[arg(long)]
    peer_connectors: Option<usize>,
    /// The broker that both workers use.
    #[arg(long, value_enum, default_value_t = Kind::Kafka)]
    broker: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    Kafka,
    Aqueduct,
}

impl Args {
    fn records(&self) -> u64 {
        self.records.unwrap_or(if self.choice.quick { 100_000 } else { 1_000_000 })
    }

    fn connectors(&self) -> usize {
        self.connectors.unwrap_or(if self.choice.quick { 50 } else { 1000 })
    }

    fn peer_connectors(&self) -> usize {
        self.peer_connectors.unwrap_or(if self.choice.quick { 10 } else { 100 })
    }
}

fn names() -> Vec<String> {
    let mut names: Vec<String> =
        [control::START, control::POST, control::CHANGE, control::MANY].map(str::to_owned).into();
    names.extend(flow::names());
    names.extend([scaling::FILE, scaling::SEARCH, DEV].map(str::to_owned));
    names
}

/// What a part of the benchmark works with.
struct Run<'a> {
    args: &'a Args,
    broker: &'a Broker,
    dir: &'a Path,
    report: &'a mut Report,
    round: u32,
    runtime: &'a Runtime,
    connection: Connection,
    names: u32,
}

impl Run<'_> {
    fn wants(&self, name: &str) -> bool {
        self.args.choice.wants(name)
    }

    /// A name that has not been used.
    fn name(&mut self, what: &str) -> String {
        self.names += 1;
        format!("{what}-{}-{}", self.round, self.names)
    }

    /// A group of workers that has not been there.
    fn group(&mut self, peer: &str, what: &str) -> String {
        let peer = if peer == OURS { "ours" } else { "jvm" };
        self.name(&format!("{peer}-{what}"))
    }

    /// Creates a topic and waits until all of it can be asked for.
    fn create(&mut self, topic: &str, partitions: i32) -> Result<()> {
        self.runtime.block_on(self.connection.create(&[topic.to_owned()], partitions))?;
        worker::until(topic, Duration::from_millis(10), || Ok(self.end(topic, partitions).is_ok()))
    }

    /// How many records the partitions of a topic have together.
    fn end(&mut self, topic: &str, partitions: i32) -> Result<i64> {
        Ok(self.runtime.block_on(self.connection.ends(topic, partitions))?.iter().sum())
    }

    /// Creates a topic and spreads so many records over it.
    fn fill(
        &mut self,
        topic: &str,
        partitions: i32,
        records: u64,
        value: impl Fn(u64) -> String,
    ) -> Result<()> {
        const BATCH: u64 = 5000;
        self.create(topic, partitions)?;
        for (number, first) in (0..records).step_by(BATCH as usize).enumerate() {
            let values: Vec<String> = (first..records.min(first + BATCH)).map(&value).collect();
            let partition = number as i32 % partitions;
            self.runtime.block_on(self.connection.append(topic, partition, &values))?;
        }
        Ok(())
    }
}

/// Runs the chosen scenarios, each with both workers in turn, and says how long each took.
pub fn run(args: &Args) -> Result<()> {
    if args.choice.list {
        names().iter().for_each(|name| println!("{name}"));
        return Ok(());
    }
    let mut report = Report::new("connect");
    let dir = TempDir::with_prefix("bench-connect-")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (broker, kind) = match args.broker {
        Kind::Kafka => (Broker::kafka()?, "one node of Apache Kafka"),
        Kind::Aqueduct => (Broker::ours()?, "one node of Aqueduct"),
    };
    report.head(format!("Both workers use the same broker, {kind}. The JVM worker has the memory and flags of connect-distributed.sh."));
    report.head(format!(
        "Records have {} bytes. A script creates {} connectors in ours and {} in the JVM worker.",
        flow::LINE - 1,
        args.connectors(),
        args.peer_connectors()
    ));
    let mut search = match args.choice.wants(scaling::SEARCH) {
        true => Some(Elasticsearch::start()?),
        false => None,
    };
    runtime.block_on(async { Connection::open(broker.port).await?.find_coordinator("bench").await })?;
    for round in 1..=args.choice.rounds() {
        eprintln!("round {round} of {}", args.choice.rounds());
        let connection = runtime.block_on(Connection::open(broker.port))?;
        let (broker, dir, runtime) = (&broker, dir.path(), &runtime);
        let mut run = Run { args, broker, dir, report: &mut report, round, runtime, connection, names: 0 };
        let mut part = |names: &[String], work: &mut dyn FnMut(&mut Run<'_>) -> Result<()>| -> Result<()> {
            if names.iter().any(|name| args.choice.wants(name)) {
                let from = Instant::now();
                work(&mut run)?;
                eprintln!("{} took {:.0} s", names[0], from.elapsed().as_secs_f64());
            }
            Ok(())
        };
        part(&[control::START, control::POST].map(str::to_owned), &mut control::start_and_post)?;
        part(&[control::CHANGE.to_owned()], &mut control::change)?;
        part(&[control::MANY.to_owned()], &mut control::many)?;
        part(&flow::names(), &mut flow::measure)?;
        part(&[scaling::FILE.to_owned()], &mut scaling::file)?;
        if let Some(server) = &mut search {
            part(&[scaling::SEARCH.to_owned()], &mut |run| scaling::search(run, server))?;
        }
        part(&[DEV.to_owned()], &mut idle_dev)?;
    }
    report.finish()
}

fn idle_dev(run: &mut Run<'_>) -> Result<()> {
    let dir = TempDir::with_prefix("bench-dev-")?;
    let (kafka, connect) = (free_port()?, free_port()?);
    let mut command = Command::new(aqueduct()?);
    command.arg("dev").arg("--data-dir").arg(dir.path().join("data"));
    command.args(["--kafka", &format!("127.0.0.1:{kafka}"), "--connect", &format!("127.0.0.1:{connect}")]);
    let mut process = Process::start("aqueduct dev", &mut command, &dir.path().join("log"))?;
    let rest = Rest { port: connect };
    process.wait_until(Duration::from_secs(30), || rest.get("/connectors").is_ok())?;
    std::thread::sleep(Duration::from_secs(10));
    let before = cpu_seconds(process.id())?;
    std::thread::sleep(Duration::from_secs(10));
    run.report.add(DEV, "CPU %", OURS, (cpu_seconds(process.id())? - before) * 10.0);
    run.report.add(DEV, "resident MiB", OURS, memory_mib(process.id())?.0);
    process.terminate(Duration::from_secs(20))
}
