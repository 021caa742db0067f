//! The smallest Connect worker: file connectors, one property file, REST until Ctrl-C.
//!
//! ```text
//! cargo run -p aqueduct-rest --example worker -- connect-distributed.properties
//! ```

use aqueduct_connect_worker::{Mode, Worker, WorkerConfig, parse_properties};
use aqueduct_connector_file as _;
use aqueduct_rest::{ConnectApi, Loggers, Server};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let file = std::env::args().nth(1).ok_or("usage: worker FILE.properties")?;
    let properties = parse_properties(&std::fs::read_to_string(file)?)?;
    let standalone = properties.contains_key("offset.storage.file.filename");
    let mode = if standalone { Mode::Standalone } else { Mode::Distributed };
    let config = WorkerConfig::from_properties(&properties, mode)?;
    let (host, port) = config.listeners().into_iter().next().ok_or("no listener")?;
    let server = Server::bind(&host, port, "listeners").await?;
    let (host, port) = config.advertised(server.address());
    let worker = Worker::start(config, (&host, port)).await?;
    let stop = CancellationToken::new();
    let api = ConnectApi::new(worker.herder(), Loggers::new(|_| {}));
    let serving = server.serve(api.router(), stop.clone());
    tokio::signal::ctrl_c().await?;
    stop.cancel();
    serving.await?;
    worker.shutdown().await;
    Ok(())
}
