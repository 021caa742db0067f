//! Side-by-side benchmarks: ours and its peer in turn, in one run, on one machine.
//!
//! Every figure is taken from outside: throughput from the stock client, CPU seconds and memory from the operating
//! system. Raw figures go to `bench/results/NAME.json`.

mod broker;
mod build;
mod connect;
mod measure;
mod peer;
mod report;

use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask bench", about = "Side-by-side benchmarks")]
enum Bench {
    /// Produce and consume with stock clients, start-up and memory, against Apache Kafka.
    Broker(broker::Args),
    /// File to topic to file through a worker, against the JVM's Connect worker; memory of an idle `aqueduct dev`.
    Connect(connect::Args),
    /// A release build from nothing, and an edit in a connector to its tests' end.
    Build,
}

fn main() -> anyhow::Result<()> {
    match Bench::parse() {
        Bench::Broker(args) => broker::run(&args),
        Bench::Connect(args) => connect::run(&args),
        Bench::Build => build::run(),
    }
}
