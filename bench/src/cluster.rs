//! Three nodes that replicate: throughput, latency, how long partitions are without a leader when a node goes, and ten
//! thousand partitions.

mod failover;
mod flow;
mod many;
mod moved;
mod nodes;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use aqueduct_tests::kafka::tool;

use self::nodes::{Cluster, PEERS};
use crate::choice::Choice;
use crate::report::Report;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    choice: Choice,
    /// Ours only, without the peer.
    #[arg(long)]
    ours: bool,
    /// MiB that each scenario of throughput moves.
    #[arg(long)]
    mib: Option<u64>,
    /// Seconds that each measurement of latency takes.
    #[arg(long)]
    seconds: Option<u64>,
    /// Partitions of the large cluster of ours.
    #[arg(long)]
    partitions: Option<i32>,
    /// Partitions of the large cluster of the peer, which would take minutes for as many as ours.
    #[arg(long)]
    peer_partitions: Option<i32>,
    /// MiB that are moved to another broker, and MiB a second that they may be moved with.
    #[arg(long)]
    move_mib: Option<u64>,
    #[arg(long)]
    throttle_mib: Option<u64>,
}

impl Args {
    /// Who is measured, in turn.
    fn peers(&self) -> &'static [&'static str] {
        if self.ours { &PEERS[..1] } else { &PEERS }
    }

    fn mib(&self) -> u64 {
        self.mib.unwrap_or(if self.choice.quick { 64 } else { 512 })
    }

    fn move_mib(&self) -> u64 {
        self.move_mib.unwrap_or(if self.choice.quick { 512 } else { 10 << 10 })
    }

    fn throttle_mib(&self) -> u64 {
        self.throttle_mib.unwrap_or(64)
    }

    fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(if self.choice.quick { 5 } else { 30 }))
    }
}

/// A part of the benchmark.
type Part = fn(&Args, &mut Report) -> Result<()>;

const PARTS: [(&str, Part); 7] = [
    (failover::KILLED, failover::killed),
    (failover::STOPPED, failover::stopped),
    (failover::CONTROLLER, failover::controller),
    (many::NAME, many::measure),
    (flow::THROUGHPUT, flow::throughput),
    (flow::LATENCY, flow::latency),
    (moved::NAME, moved::measure),
];

/// Runs the chosen parts against both peers, in turn, and says how long each took.
pub fn run(args: &Args) -> Result<()> {
    let parts: Vec<_> = PARTS.iter().filter(|(name, _)| args.choice.wants(name)).collect();
    if args.choice.list {
        parts.iter().for_each(|(name, _)| println!("{name}"));
        return Ok(());
    }
    let mut report = Report::new("cluster");
    report.head("Three nodes, each a broker and a controller, and the clients on one machine. CPU and memory are those of all three.");
    for round in 1..=args.choice.rounds() {
        eprintln!("round {round} of {}", args.choice.rounds());
        for (name, part) in &parts {
            let from = Instant::now();
            part(args, &mut report)?;
            eprintln!("{name} took {:.0} s", from.elapsed().as_secs_f64());
        }
    }
    nodes::clear();
    report.finish()
}

/// Creates a topic with three replicas, of which two have to be in sync.
fn create(cluster: &Cluster, topic: &str, partitions: i32) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(60);
    let (bootstrap, partitions, from) = (cluster.bootstrap(), partitions.to_string(), Instant::now());
    let args = ["--bootstrap-server", &bootstrap, "--create", "--topic", topic, "--partitions", &partitions];
    let args = [&args[..], &["--replication-factor", "3", "--config", "min.insync.replicas=2"]].concat();
    loop {
        // Nodes that have just started are not all counted yet.
        match tool("org.apache.kafka.tools.TopicCommand", &args) {
            Ok(said) => {
                ensure!(said.contains("Created topic"), "{topic}: {said}");
                return Ok(());
            }
            Err(error) => ensure!(from.elapsed() < LIMIT, "{error:#}"),
        }
    }
}
