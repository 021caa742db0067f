//! A worker, started and stopped.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI32};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aqueduct_client::{Client, ClientConfig, IsolationLevel};
use aqueduct_connect_api::Plugin;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::{Advertised, Mode, WorkerConfig};
use crate::error::{Error, Result};
use crate::group::{Group, GroupShared};
use crate::herder::{AutoRestarts, Driver, Fencing, Herder, Leadership, RestartPolicy, Shared};
use crate::internal::{Peers, no_peers};
use crate::metrics::WorkerMetrics;
use crate::store::{ConfigStore, OffsetsStore, StatusStore, TopicSpec};
use crate::task::TaskEnvironment;

/// Starts workers.
pub struct Worker;

/// A running worker. Dropping it leaves the worker running; call [`Handle::shutdown`].
pub struct Handle {
    herder: Herder,
    shared: Arc<Shared>,
    stop_driver: CancellationToken,
    stop_group: CancellationToken,
    driver: JoinHandle<()>,
    group: JoinHandle<()>,
}

impl Worker {
    /// Reads the stores and joins the group. `advertised` is where REST will be reached; host and port are the
    /// worker's name in statuses. Returns when the stores are read; joining goes on in the background.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for a setting or an internal topic that is not as it has to be, [`Error::Kafka`] where the
    /// cluster does not answer.
    pub async fn start(config: WorkerConfig, advertised: impl Into<Advertised>) -> Result<Handle> {
        Self::start_among(config, advertised, no_peers()).await
    }

    /// The same for a worker that reaches others of its group through `peers`.
    ///
    /// # Errors
    /// As for [`Worker::start`].
    pub async fn start_among(
        config: WorkerConfig,
        advertised: impl Into<Advertised>,
        peers: Arc<dyn Peers>,
    ) -> Result<Handle> {
        for key in config.unknown_keys() {
            tracing::warn!(key, "unknown setting is ignored");
        }
        check_converters(&config)?;
        let client = Client::new(client_config(&config, "")?);
        let cluster_id = cluster_id(&client).await?;
        let (configs, statuses, offsets) = open_stores(&config).await?;
        let advertised = advertised.into();
        let worker_id = advertised.worker_id();
        let environment = Arc::new(TaskEnvironment {
            config: config.clone(),
            status: statuses.clone(),
            offsets,
            worker_id: worker_id.clone(),
            generation: AtomicI32::new(0),
            metrics: WorkerMetrics::default(),
            restarts: Mutex::new(AutoRestarts::new(RestartPolicy::read(&config))),
            failed: Notify::new(),
            herder: OnceLock::new(),
        });
        let shared = Arc::new(Shared {
            config: configs.clone(),
            status: statuses.clone(),
            environment,
            ready: AtomicBool::new(false),
            leadership: Mutex::new(Leadership::default()),
            peers,
            fencing: Fencing::default(),
            cluster_id,
            client: client.clone(),
        });
        // Set once, just here.
        let _ = shared.environment.herder.set(Arc::downgrade(&shared));
        let (requests_to, requests) = mpsc::channel(256);
        let (events_to, events) = mpsc::channel(8);
        let group_shared = Arc::new(GroupShared::new(shared.environment.metrics.clone()));
        let stop_driver = CancellationToken::new();
        let stop_group = CancellationToken::new();
        let driver = Driver::new(shared.clone(), group_shared.clone(), requests, events, stop_driver.clone());
        let member = match config.mode() {
            Mode::Distributed => Some(client),
            Mode::Standalone => None,
        };
        let group = Group::new(
            &config,
            member,
            advertised.url(),
            (configs, statuses),
            group_shared,
            events_to,
            stop_group.clone(),
        );
        Ok(Handle {
            herder: Herder::new(shared.clone(), requests_to),
            shared,
            stop_driver,
            stop_group,
            driver: tokio::spawn(driver.run()),
            group: tokio::spawn(group.run()),
        })
    }
}

impl Handle {
    /// The worker's herder, for REST.
    pub fn herder(&self) -> Herder {
        self.herder.clone()
    }

    /// Stops tasks and connectors, stores what they have done, leaves the group and closes all connections. Takes as long as
    /// `task.shutdown.graceful.timeout.ms` and a little more, even where the cluster does not answer any more.
    pub async fn shutdown(mut self) {
        const LIMIT: Duration = Duration::from_secs(10);
        let graceful = self.shared.environment.config.graceful_timeout();
        self.stop_driver.cancel();
        if tokio::time::timeout(graceful * 2 + LIMIT, &mut self.driver).await.is_err() {
            tracing::warn!("the herder did not stop in time and is cut off");
            self.driver.abort();
        }
        self.stop_group.cancel();
        if tokio::time::timeout(LIMIT, &mut self.group).await.is_err() {
            tracing::warn!("the group could not be left in time; it will notice by session.timeout.ms");
            self.group.abort();
        }
        let stores = async {
            self.shared.environment.offsets.close().await;
            self.shared.config.close().await;
            self.shared.status.close().await;
            self.shared.client.close().await;
        };
        if tokio::time::timeout(LIMIT, stores).await.is_err() {
            tracing::warn!("the internal topics could not be closed in time");
        }
    }
}

/// Id of the cluster; says from time to time that it is still waiting for it.
async fn cluster_id(client: &Client) -> Result<Option<String>> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let mut connecting = std::pin::pin!(client.cluster_id());
    let found = loop {
        tokio::select! {
            found = &mut connecting => break found,
            () = tokio::time::sleep(PATIENCE) => {
                let servers = client.config().bootstrap_servers.join(",");
                tracing::warn!(servers, "no broker of bootstrap.servers answers yet, still trying");
            }
        }
    };
    let id = found.map_err(Error::kafka("connecting to the cluster of bootstrap.servers"))?;
    Ok(id.map(|id| id.to_string()))
}

/// Settings of the worker's own clients: all of the worker's that mean something to a client.
fn client_config(config: &WorkerConfig, suffix: &str) -> Result<ClientConfig> {
    const NOT_FOR_CLIENTS: [&str; 4] = ["group.id", "client.id", "retries", "transactional.id"];
    let known = |key: &str| ClientConfig::known_keys().any(|k| k == key) && !NOT_FOR_CLIENTS.contains(&key);
    let own = config.originals().iter().filter(|(key, _)| known(key)).map(|(k, v)| (k.clone(), v.clone()));
    let id = match config.text("client.id") {
        "" if config.mode() == Mode::Distributed => format!("connect-{}", config.group_id()),
        "" => "connect-standalone".to_owned(),
        id => id.to_owned(),
    };
    let mut properties: std::collections::BTreeMap<String, String> = own.collect();
    properties.entry("bootstrap.servers".to_owned()).or_insert_with(|| "localhost:9092".to_owned());
    // What a worker waits for when it starts, above all for leaders of the topics that it has just created, is there soon.
    properties.entry("retry.backoff.ms".to_owned()).or_insert_with(|| "20".to_owned());
    properties.insert("client.id".to_owned(), format!("{id}{suffix}"));
    properties.insert("acks".to_owned(), "all".to_owned());
    properties.insert("linger.ms".to_owned(), "0".to_owned());
    properties.insert("allow.auto.create.topics".to_owned(), "false".to_owned());
    let (read, _) = ClientConfig::from_properties(&properties).map_err(|e| Error::invalid(e.to_string()))?;
    Ok(read)
}

/// How long a write of the leader may take.
const LEADER_WRITE: Duration = Duration::from_secs(30);

async fn open_stores(config: &WorkerConfig) -> Result<(ConfigStore, StatusStore, OffsetsStore)> {
    if config.mode() == Mode::Standalone {
        let offsets = OffsetsStore::in_file(Path::new(config.text("offset.storage.file.filename")))?;
        return Ok((ConfigStore::in_memory(), StatusStore::in_memory(), offsets));
    }
    let partitions = config.number("status.storage.partitions");
    let statuses = TopicSpec::of_worker(config, "status.storage", "status.storage.topic", partitions);
    let mut configs = TopicSpec::of_worker(config, "config.storage", "config.storage.topic", 1);
    configs.single_partition = true;
    let committed = |mut client: ClientConfig| {
        if config.exactly_once_enabled() {
            client.isolation_level = IsolationLevel::ReadCommitted;
        }
        client
    };
    let sources = TopicSpec::offsets(config);
    let leader = match config.leader_transactional_id() {
        Some(id) => {
            let mut leader = client_config(config, "-leader")?;
            leader.transactional_id = Some(id);
            leader.enable_idempotence = Some(true);
            leader.max_block = LEADER_WRITE;
            Some(leader)
        }
        None => None,
    };
    let (offsets, statuses, configs) = tokio::try_join!(
        OffsetsStore::open(committed(client_config(config, "-offsets")?), &sources),
        StatusStore::open(client_config(config, "-statuses")?, &statuses),
        ConfigStore::open(committed(client_config(config, "-configs")?), &configs, leader),
    )?;
    Ok((configs, statuses, offsets))
}

/// Converters that are the default of every connector have to be there.
fn check_converters(config: &WorkerConfig) -> Result<()> {
    for key in ["key.converter", "value.converter", "header.converter"] {
        let class = config.text(key);
        if Plugin::by_class(class.trim()).is_none() {
            let known = crate::config::classes(&["converter"]).join(", ");
            return Err(Error::invalid(format!("{key}={class}: there is no such class; one of: {known}")));
        }
    }
    Ok(())
}
