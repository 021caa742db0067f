//! Project tasks, run as `cargo xtask TASK`.

mod protocol;

use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Project tasks")]
enum Task {
    /// Regenerate the wire messages from Kafka's schemas.
    Protocol(protocol::Args),
}

fn main() -> anyhow::Result<()> {
    match Task::parse() {
        Task::Protocol(args) => protocol::run(args),
    }
}
