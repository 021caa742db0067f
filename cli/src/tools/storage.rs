//! `aqueduct storage`: formats the directories of a node of a cluster, as Kafka's kafka-storage does.

use std::path::PathBuf;

use anyhow::Result;
use aqueduct_broker::Options;
use aqueduct_broker::format::{
    FirstControllers, Format, FormatError, InitialController, format, initial_controllers, random_uuid,
};

use super::output::print_lines;
use crate::options::BadConfig;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Make empty log directories those of a node of a cluster. Needed for controller.quorum.bootstrap.servers only.
    Format(FormatArgs),
    /// Print a new id, for a cluster or a directory.
    RandomUuid,
}

#[derive(clap::Args)]
struct FormatArgs {
    /// Kafka's server.properties.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// The cluster's id, the same on all nodes.
    #[arg(short = 't', long, value_name = "ID")]
    cluster_id: String,
    #[command(flatten)]
    first: First,
    /// Pass over directories that are formatted already.
    #[arg(short = 'g', long)]
    ignore_formatted: bool,
    /// A level of a feature that a new cluster begins with; may be repeated.
    #[arg(short, long, value_name = "NAME=LEVEL")]
    feature: Vec<String>,
    /// A credential that a new cluster begins with, such as SCRAM-SHA-256=[name=alice,password=secret]; may be repeated. To be
    /// given on all controllers: the first that decides has it begin so.
    #[arg(short = 'S', long, value_name = "CREDENTIAL")]
    add_scram: Vec<String>,
    /// One more line of the file; may be repeated, and wins over it.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Who begins the quorum.
#[derive(clap::Args)]
#[group(multiple = false)]
struct First {
    /// This controller begins the quorum alone; others join it.
    #[arg(short, long)]
    standalone: bool,
    /// The quorum is begun by others; this node joins it.
    #[arg(short = 'N', long)]
    no_initial_controllers: bool,
    /// These controllers begin the quorum together, ID@HOST:PORT:DIRECTORY_ID with commas between them; the same on all nodes.
    #[arg(short = 'I', long, value_name = "CONTROLLERS", value_parser = controllers)]
    initial_controllers: Option<Controllers>,
}

/// A list that is one value to the command line.
#[derive(Debug, Clone)]
struct Controllers(Vec<InitialController>);

fn controllers(text: &str) -> Result<Controllers, String> {
    initial_controllers(text).map(Controllers)
}

pub fn run(args: Args) -> Result<()> {
    match args.command {
        Command::Format(args) => run_format(args),
        Command::RandomUuid => print_lines([random_uuid().to_string()]),
    }
}

fn run_format(args: FormatArgs) -> Result<()> {
    let options = Options::load(&args.config, args.set.iter().map(String::as_str));
    let options = options.map_err(|error| BadConfig(error.to_string()))?;
    let first = match args.first {
        First { standalone: true, .. } => FirstControllers::Standalone,
        First { no_initial_controllers: true, .. } => FirstControllers::Join,
        First { initial_controllers: Some(all), .. } => FirstControllers::Initial(all.0),
        _ => FirstControllers::Unsaid,
    };
    let wanted = Format {
        cluster_id: args.cluster_id,
        first,
        ignore_formatted: args.ignore_formatted,
        features: args.feature,
        credentials: args.add_scram,
    };
    let lines = format(options.properties, &wanted).map_err(|error| match error {
        FormatError::Config(_) | FormatError::Wrong(_) => BadConfig(error.to_string()).into(),
        other => anyhow::Error::from(other),
    })?;
    print_lines(lines)
}
