//! The `aqueduct` binary: one subcommand a role. Wiring only; the work is in the crates.

mod broker;
mod connect;
mod demo;
mod dev;
mod logging;
mod options;
mod shutdown;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

// Connectors and transforms register themselves when their crate is linked; naming it makes sure that it is.
use aqueduct_connector_elasticsearch as _;
use aqueduct_connector_file as _;
use aqueduct_connector_jdbc as _;
use aqueduct_connector_mysql as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(
    name = "aqueduct",
    version,
    about = "Moves data: Connect worker and Kafka-compatible broker in one binary"
)]
struct Cli {
    /// How log lines on standard error look.
    #[arg(long, global = true, value_enum, default_value_t = logging::Format::Text)]
    log_format: logging::Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the main job end to end in a temporary directory and count what arrived.
    Demo(demo::Args),
    /// Run broker and Connect worker in one process, and keep running.
    Dev(dev::Args),
    /// Run a broker node.
    Broker(broker::Args),
    /// Run a Connect worker.
    Connect(connect::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let default_level = if matches!(cli.command, Command::Demo(_)) { "warn" } else { "info" };
    let levels = logging::start(cli.log_format, default_level);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("aqueduct: cannot start its threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        match cli.command {
            Command::Demo(args) => demo::run(args, levels).await,
            Command::Dev(args) => dev::run(args, levels).await,
            Command::Broker(args) => broker::run(args, levels).await,
            Command::Connect(args) => connect::run(args, levels).await,
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("aqueduct: {error:#}");
            ExitCode::from(options::exit_code(&error))
        }
    }
}
