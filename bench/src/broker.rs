//! One broker node with stock clients: throughput and CPU, floors of the same bytes, latency, isolation.

mod floor;
mod isolation;
mod latency;
mod throughput;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use aqueduct_tests::kafka::tool;

use crate::choice::Choice;
use crate::measure::memory_mib;
use crate::peer::Broker;
use crate::report::Report;

pub use floor::Args as FloorArgs;
pub use latency::timed;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    choice: Choice,
    /// MiB that each scenario of throughput moves.
    #[arg(long)]
    mib: Option<u64>,
    /// Seconds that each measurement of latency takes.
    #[arg(long)]
    seconds: Option<u64>,
}

impl Args {
    fn mib(&self) -> u64 {
        self.mib.unwrap_or(if self.choice.quick { 64 } else { 1024 })
    }

    fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(if self.choice.quick { 5 } else { 60 }))
    }
}

/// Starts a peer with these settings.
type Start = fn(&[(&str, &str)]) -> Result<Broker>;

/// Both peers, in the order in which they run.
const PEERS: [Start; 2] = [Broker::ours_with, Broker::kafka_with];

/// Runs the chosen scenarios against both peers, in turn, and says how long each part took.
pub fn run(args: &Args) -> Result<()> {
    let scenarios: Vec<_> =
        throughput::scenarios().into_iter().filter(|s| args.choice.wants(&s.name())).collect();
    let latency: Vec<_> = latency::NAMES.iter().copied().filter(|name| args.choice.wants(name)).collect();
    let isolation = args.choice.wants(isolation::NAME);
    if args.choice.list {
        scenarios.iter().for_each(|scenario| println!("{}", scenario.name()));
        latency.iter().for_each(|name| println!("{name}"));
        if isolation {
            println!("{}", isolation::NAME);
        }
        return Ok(());
    }
    let mut report = Report::new("broker");
    let timed = |part: &str, from: Instant| eprintln!("{part} took {:.0} s", from.elapsed().as_secs_f64());
    for round in 1..=args.choice.rounds() {
        eprintln!("round {round} of {}", args.choice.rounds());
        if !scenarios.is_empty() {
            let from = Instant::now();
            floor::measure(args, &scenarios, &mut report)?;
            timed("floors", from);
            for start in PEERS {
                let (broker, from) = (start(&[])?, Instant::now());
                started(&broker, &mut report)?;
                throughput::measure(&broker, args, &scenarios, &mut report)?;
                report.add("load", "peak resident, MiB", broker.name, memory_mib(broker.id())?.1);
                timed(&format!("throughput of {}", broker.name), from);
            }
        }
        if !latency.is_empty() {
            let from = Instant::now();
            latency::measure(args, &latency, &mut report)?;
            timed("latency", from);
        }
        if isolation {
            let from = Instant::now();
            isolation::measure(args, &mut report)?;
            timed("isolation", from);
        }
    }
    report.finish()
}

/// One side of a floor, in a process of its own.
pub fn floor(args: &FloorArgs) -> Result<()> {
    floor::serve(args)
}

fn started(broker: &Broker, report: &mut Report) -> Result<()> {
    report.add("start", "first metadata, ms", broker.name, broker.start_ms);
    std::thread::sleep(Duration::from_secs(3));
    report.add("idle", "resident, MiB", broker.name, memory_mib(broker.id())?.0);
    Ok(())
}

fn create(broker: &Broker, topic: &str, partitions: u32, configs: &[&str]) -> Result<()> {
    let (bootstrap, partitions) = (broker.bootstrap(), partitions.to_string());
    let mut args = vec!["--bootstrap-server", &bootstrap, "--create", "--topic", topic];
    args.extend(["--partitions", &partitions]);
    configs.iter().for_each(|config| args.extend(["--config", config]));
    let said = tool("org.apache.kafka.tools.TopicCommand", &args)?;
    ensure!(said.contains("Created topic"), "{topic}: {said}");
    Ok(())
}
