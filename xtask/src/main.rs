//! Project tasks, run as `cargo xtask TASK`.

mod check;
mod fuzz;
mod protocol;
mod setup;

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
    /// Feed every decoder of outside bytes with inputs that a coverage-guided fuzzer finds.
    Fuzz(fuzz::Args),
    /// Run the test suites of others' clients in full, on our broker or on Apache Kafka.
    Compat(check::CompatArgs),
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
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Compat(args) => check::compat(&args),
        Task::Protocol(args) => protocol::run(args),
    }
}
