//! Project tasks, run as `cargo xtask TASK`.

mod check;
mod fuzz;
mod protocol;
mod setup;
mod upgrade;

use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Project tasks")]
enum Task {
    /// Install the servers and clients that tests and benchmarks need, from package registries.
    Setup,
    /// Run `setup`, then every test.
    Test(check::TestArgs),
    /// Check formatting, lints, docs and tests; changes nothing.
    Verify,
    /// Format, and apply what the linter can mend.
    Fix,
    /// Run a benchmark side by side with its peer; without a name, list them.
    Bench(check::BenchArgs),
    /// Torment workers, connectors and the broker at random, and check that nothing is lost and no offset is ahead.
    Faults(check::FaultsArgs),
    /// Play histories of simulated clusters: `--seed N` for one with its trace, `--seeds N --from M` for many.
    Simulate(check::SimulateArgs),
    /// Feed every decoder of outside bytes with inputs that a coverage-guided fuzzer finds.
    Fuzz(fuzz::Args),
    /// Run the test suites of others' clients in full, on our broker or on Apache Kafka.
    Compat(check::CompatArgs),
    /// Take three nodes under load from an older build to this one and back, one after another.
    Upgrade(upgrade::Args),
    /// Regenerate the wire messages from Kafka's schemas.
    Protocol(protocol::Args),
}

fn main() -> anyhow::Result<()> {
    match Task::parse() {
        Task::Setup => setup::run(),
        Task::Test(args) => check::test(&args),
        Task::Verify => check::verify(),
        Task::Fix => check::fix(),
        Task::Bench(args) => check::bench(&args),
        Task::Faults(args) => check::faults(&args),
        Task::Simulate(args) => check::simulate(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Compat(args) => check::compat(&args),
        Task::Upgrade(args) => upgrade::run(&args),
        Task::Protocol(args) => protocol::run(args),
    }
}
