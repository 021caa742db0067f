//! The `aqueduct` binary: one subcommand a role. Wiring only; the work is in the crates.

mod broker;
mod connect;
mod demo;
mod dev;
mod logging;
mod options;
mod plugins;
mod shutdown;
mod tools;

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
    /// List, describe, create, alter and delete topics.
    Topics(tools::topics::Args),
    /// Describe and alter settings of topics, brokers, groups, loggers; quotas and credentials of users.
    Configs(tools::configs::Args),
    /// List, describe and delete groups, and set their offsets.
    Groups(tools::groups::Args),
    /// List, add and remove ACLs.
    Acls(tools::acls::Args),
    /// Show the log directories of brokers.
    LogDirs(tools::log_dirs::Args),
    /// Move replicas between brokers.
    Reassign(tools::reassign::Args),
    /// Take all replicas, or only leaders, off a broker.
    Drain(tools::drain::Args),
    /// Have leaders of partitions elected.
    Elect(tools::elect::Args),
    /// Show the quorum of controllers, and change who votes.
    Quorum(tools::quorum::Args),
    /// Format the log directories of a node of a cluster.
    Storage(tools::storage::Args),
    /// Read the files of a log directory, with nothing running.
    DumpLog(tools::dump_log::Args),
    /// Write lines to a topic.
    Produce(tools::produce::Args),
    /// Print the records of topics.
    Consume(tools::consume::Args),
    /// Measure how much a cluster takes and gives, and how fast.
    Perf(tools::perf::Args),
    /// Find out whether this machine suits a broker.
    Doctor(tools::doctor::Args),
}

impl Command {
    /// Services tell what they do; of a tool only trouble is wanted.
    fn default_level(&self) -> &'static str {
        match self {
            Self::Dev(_) | Self::Broker(_) | Self::Connect(_) => "info",
            Self::Demo(_) => "warn",
            _ => "error",
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if matches!(cli.command, Command::Connect(_)) {
        connect::do_without_huge_pages();
    }
    let levels = logging::start(cli.log_format, cli.command.default_level());
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
            Command::Topics(args) => tools::topics::run(args).await,
            Command::Configs(args) => tools::configs::run(args).await,
            Command::Groups(args) => tools::groups::run(args).await,
            Command::Acls(args) => tools::acls::run(args).await,
            Command::LogDirs(args) => tools::log_dirs::run(args).await,
            Command::Reassign(args) => tools::reassign::run(args).await,
            Command::Drain(args) => tools::drain::run(args).await,
            Command::Elect(args) => tools::elect::run(args).await,
            Command::Quorum(args) => tools::quorum::run(args).await,
            Command::Storage(args) => tools::storage::run(args),
            Command::DumpLog(args) => tools::dump_log::run(args),
            Command::Produce(args) => tools::produce::run(args).await,
            Command::Consume(args) => tools::consume::run(args).await,
            Command::Perf(args) => tools::perf::run(args).await,
            Command::Doctor(args) => tools::doctor::run(args),
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
