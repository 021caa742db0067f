//! Side-by-side benchmarks: ours and its peer in turn, in one run, on one machine.
//!
//! Every figure is taken from outside: throughput from the stock client, CPU seconds and memory from the operating
//! system. Raw figures go to `bench/results/NAME.json`.

mod broker;
mod build;
mod choice;
mod cluster;
mod connect;
mod load;
mod measure;
mod peer;
mod report;
mod scale;
mod wire;

use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask bench", about = "Side-by-side benchmarks")]
enum Bench {
    /// Throughput, floors, latency and isolation with stock clients, against Apache Kafka.
    Broker(broker::Args),
    /// Three nodes that replicate: throughput, latency, fail-over, many partitions, against three of Apache Kafka's.
    Cluster(cluster::Args),
    /// Control plane, throughput and memory of a worker, against the JVM's Connect worker; an idle `aqueduct dev`.
    Connect(connect::Args),
    /// One side of a floor of `broker`.
    #[command(hide = true)]
    Floor(broker::FloorArgs),
    /// Ten thousand partitions, connections, parked fetches and group members, against Apache Kafka with fewer.
    Scale(scale::Args),
    /// A release build from nothing, and an edit in a connector to its tests' end.
    Build,
}

fn main() -> anyhow::Result<()> {
    match Bench::parse() {
        Bench::Broker(args) => broker::run(&args),
        Bench::Cluster(args) => cluster::run(&args),
        Bench::Connect(args) => connect::run(&args),
        Bench::Floor(args) => broker::floor(&args),
        Bench::Scale(args) => scale::run(&args),
        Bench::Build => build::run(),
    }
}
