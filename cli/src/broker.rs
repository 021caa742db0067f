//! `aqueduct broker`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use aqueduct_broker::{Broker, Error, Handle, LogLevels, Options};
use aqueduct_rest::{Server, node};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::logging::Levels;
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
pub async fn run(args: Args, levels: Levels) -> Result<()> {
    let options = Options::load(&args.config, args.set.iter().map(String::as_str)).map_err(Error::Config);
    let mut options = options.map_err(explain)?;
    options.log_levels = Some(LogLevels(Arc::new(move |directives| levels.set(directives))));
    let broker = start(options).await?;
    let stop = CancellationToken::new();
    let http = match broker.http_listener() {
        Some(address) => Some(serve(address, &broker, stop.clone()).await?),
        None => None,
    };
    let failed = tokio::select! {
        requested = shutdown::requested() => requested.map(|()| false)?,
        () = broker.failed() => true,
    };
    broker.shutdown().await;
    stop.cancel();
    if let Some(http) = http {
        let _ = http.await;
    }
    anyhow::ensure!(!failed, "the node cannot go on; the lines above say why");
    Ok(())
}

/// Metrics and health on `aqueduct.http.listener`.
async fn serve(address: &str, broker: &Handle, stop: CancellationToken) -> Result<JoinHandle<()>> {
    const KEY: &str = "aqueduct.http.listener";
    let bare = address.strip_prefix("http://").unwrap_or(address);
    let parts = bare.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port) = parts.ok_or_else(|| BadConfig(format!("{KEY}={address}: must be HOST:PORT")))?;
    let server = Server::bind(host, port, KEY).await?;
    let metrics = broker.clone();
    Ok(server.serve(node::router(move || metrics.metrics()), stop))
}

/// Starts a node; what its configuration gets wrong is the user's to mend.
pub async fn start(options: Options) -> Result<Handle> {
    Broker::start(options).await.map_err(explain)
}

fn explain(error: Error) -> anyhow::Error {
    match error {
        Error::Config(error) => BadConfig(error.to_string()).into(),
        other => other.into(),
    }
}
