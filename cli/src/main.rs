//! The `aqueduct` binary: one subcommand a role. Wiring only; the work is in the crates.

mod broker;
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
#[command(name = "aqueduct", version, about = "Moves data: Connect worker and Kafka-compatible broker in one binary")]
struct Cli {
    /// How log lines on standard error look.
    #[arg(long, global = true, value_enum, default_value_t = logging::Format::Text)]
    log_format: logging::Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a broker node.
    Broker(broker::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::start(cli.log_format, "info");
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("aqueduct: cannot start its threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        match cli.command {
            Command::Broker(args) => broker::run(args).await,
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
