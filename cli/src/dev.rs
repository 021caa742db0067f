//! `aqueduct dev`: every role in one process.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use aqueduct_broker::Options;
use aqueduct_connect_api::ConfigMap;
use aqueduct_connect_worker::Mode;
use aqueduct_rest::{Server, node};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::connect::Service;
use crate::logging::Levels;
use crate::{broker, shutdown};

#[derive(clap::Args)]
pub struct Args {
    /// Where broker and worker keep their data; made where it does not exist.
    #[arg(long, value_name = "DIR", default_value = "aqueduct-data")]
    data_dir: PathBuf,
    /// Address of the broker.
    #[arg(long, value_name = "HOST:PORT", default_value = KAFKA)]
    kafka: SocketAddr,
    /// Address of the Connect REST API.
    #[arg(long, value_name = "HOST:PORT", default_value = CONNECT)]
    connect: SocketAddr,
    /// Address of the broker's metrics and health.
    #[arg(long, value_name = "HOST:PORT", default_value = HTTP)]
    http: SocketAddr,
}

const KAFKA: &str = "127.0.0.1:9092";
const CONNECT: &str = "127.0.0.1:8083";
const HTTP: &str = "127.0.0.1:9404";

/// Runs all until it is told to stop.
pub async fn run(args: Args, levels: Levels) -> Result<()> {
    let addresses = Addresses { kafka: args.kafka, connect: args.connect, http: args.http };
    let services = Services::start(&args.data_dir, addresses, levels).await?;
    println!("Aqueduct is running; its data is in {}", args.data_dir.display());
    println!("  Kafka    {}", services.kafka());
    println!("  Connect  http://{}/connectors", services.connect());
    println!(
        "  metrics  http://{}/metrics (broker), http://{}/metrics (Connect)",
        addresses.http,
        services.connect()
    );
    println!("Ctrl-C stops it.");
    shutdown::requested().await?;
    services.stop().await;
    Ok(())
}

/// Where the roles listen.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    kafka: SocketAddr,
    connect: SocketAddr,
    http: SocketAddr,
}

impl Addresses {
    /// The default ports, and a free one in place of each that is taken.
    pub fn free_where_taken() -> Result<Self> {
        let pick = |default: &str| -> Result<SocketAddr> {
            let address: SocketAddr = default.parse()?;
            let listener = TcpListener::bind(address).or_else(|_| TcpListener::bind("127.0.0.1:0"))?;
            Ok(listener.local_addr()?)
        };
        Ok(Self { kafka: pick(KAFKA)?, connect: pick(CONNECT)?, http: pick(HTTP)? })
    }
}

/// Broker and worker, running.
pub struct Services {
    broker: aqueduct_broker::Handle,
    worker: Service,
    stop: CancellationToken,
    http: JoinHandle<()>,
}

impl Services {
    /// Starts the broker, then the worker on it.
    pub async fn start(dir: &Path, addresses: Addresses, levels: Levels) -> Result<Self> {
        let mut options = Options::embedded(&dir.join("kafka"), addresses.kafka.port());
        options.set("listeners", &format!("PLAINTEXT://{}", addresses.kafka));
        options.set("offsets.topic.num.partitions", "4");
        let http = Server::bind(&addresses.http.ip().to_string(), addresses.http.port(), "--http").await?;
        let broker = broker::start(options).await.context("broker")?;
        let settings = worker_settings(&broker.advertised(), addresses.connect);
        let worker = match Service::start(&settings, Mode::Distributed, levels).await.context("worker") {
            Ok(worker) => worker,
            Err(error) => {
                broker.shutdown().await;
                return Err(error);
            }
        };
        let stop = CancellationToken::new();
        let metrics = broker.clone();
        let http = http.serve(node::router(move || metrics.metrics()), stop.clone());
        Ok(Self { broker, worker, stop, http })
    }

    /// Address of the broker, for clients.
    pub fn kafka(&self) -> String {
        self.broker.advertised()
    }

    /// Address of the Connect REST API.
    pub fn connect(&self) -> &str {
        self.worker.address()
    }

    /// Stops the worker, then the broker.
    pub async fn stop(self) {
        self.worker.stop().await;
        self.stop.cancel();
        let _ = self.http.await;
        self.broker.shutdown().await;
    }
}

fn worker_settings(bootstrap: &str, listen: SocketAddr) -> ConfigMap {
    const JSON: &str = "org.apache.kafka.connect.json.JsonConverter";
    let listener = format!("http://{listen}");
    let settings = [
        ("bootstrap.servers", bootstrap),
        ("group.id", "aqueduct-dev"),
        ("listeners", &listener),
        ("key.converter", JSON),
        ("value.converter", JSON),
        ("key.converter.schemas.enable", "false"),
        ("value.converter.schemas.enable", "false"),
        ("config.storage.topic", "connect-configs"),
        ("offset.storage.topic", "connect-offsets"),
        ("status.storage.topic", "connect-status"),
        ("config.storage.replication.factor", "1"),
        ("offset.storage.replication.factor", "1"),
        ("offset.storage.partitions", "5"),
        ("status.storage.replication.factor", "1"),
        ("offset.flush.interval.ms", "5000"),
        // After a crash nobody waits for a member that is gone: the shortest sessions that the broker allows.
        ("session.timeout.ms", "6000"),
        ("heartbeat.interval.ms", "2000"),
        ("consumer.session.timeout.ms", "6000"),
        ("consumer.heartbeat.interval.ms", "2000"),
    ];
    settings.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}
