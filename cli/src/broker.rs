//! `aqueduct broker`.

use std::path::PathBuf;

use anyhow::Result;
use aqueduct_broker::{Broker, Error, Options};

use crate::options::BadConfig;
use crate::shutdown;

#[derive(clap::Args)]
pub struct Args {
    /// Kafka's server.properties.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// One more line of the file; may be repeated, and wins over it.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Runs a node until it is told to stop.
pub async fn run(args: Args) -> Result<()> {
    let options = Options::load(&args.config, args.set.iter().map(String::as_str)).map_err(Error::Config);
    let broker = start(options.map_err(explain)?).await?;
    shutdown::requested().await?;
    broker.shutdown().await;
    Ok(())
}

/// Starts a node; what its configuration gets wrong is the user's to mend.
pub async fn start(options: Options) -> Result<aqueduct_broker::Handle> {
    Broker::start(options).await.map_err(explain)
}

fn explain(error: Error) -> anyhow::Error {
    match error {
        Error::Config(error) => BadConfig(error.to_string()).into(),
        other => other.into(),
    }
}
