//! Starting and stopping a node.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use aqueduct_protocol::ids::{BrokerId, Uuid};
use aqueduct_quorum::is_of_quorum;
use aqueduct_storage::MetaProperties;

use crate::api::own;
use crate::cleaner;
use crate::clock::Clock;
use crate::config::{ClusterSettings, ConfigError, Listener, LiveSettings, Properties, Settings};
use crate::controller::Registration;
use crate::coordinator::{Coordinator, Lines, MarkerWriter, ProducerIds, TransactionCoordinator};
use crate::error::Error;
use crate::fetch::sessions::Sessions;
use crate::housekeeping;
use crate::loggers::{LogLevels, Loggers};
use crate::membership::Member;
use crate::metadata::features::FEATURES;
use crate::metadata::{
    BrokerEpoch, BrokerImage, Command, Endpoint, JOURNAL_FILE_NAME, LocalMetadata, MetadataBackend,
    MetadataError, MetadataImage,
};
use crate::metrics::{self, Metrics};
use crate::mover;
use crate::network::{self, Door, Entrance, Limits};
use crate::node::{Node, random_uuid};
use crate::partitions::{Directories, Partitions};
use crate::peers::Peers;
use crate::quotas::{QuotaMetrics, Usage};
use crate::replication;
use crate::security::Authorizer;
use crate::tasks::Tasks;

/// What a broker is started with: the keys of `server.properties`.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub properties: Properties,
    /// How levels of logging are changed at run time; without it they cannot be.
    pub log_levels: Option<LogLevels>,
}

impl Options {
    /// A broker inside another process: on 127.0.0.1, with its data in `data_dir`; port 0 takes any free one.
    pub fn embedded(data_dir: &Path, port: u16) -> Self {
        let mut options = Self::default();
        options
            .set("node.id", "1")
            .set("listeners", &format!("PLAINTEXT://127.0.0.1:{port}"))
            .set("log.dirs", &data_dir.display().to_string())
            .set("group.initial.rebalance.delay.ms", "0");
        options
    }

    /// Sets one key.
    pub fn set(&mut self, key: &str, value: &str) -> &mut Self {
        self.properties.set(key, value);
        self
    }

    /// Reads `server.properties`, then the `--set KEY=VALUE` pairs.
    pub fn load<'a>(file: &Path, pairs: impl IntoIterator<Item = &'a str>) -> Result<Self, ConfigError> {
        let mut properties = Properties::load(file)?;
        for pair in pairs {
            properties.set_pair(pair)?;
        }
        Ok(Self { properties, log_levels: None })
    }
}

/// The broker itself, before it runs.
#[derive(Debug)]
pub struct Broker;

impl Broker {
    /// Starts a node: checks its configuration, takes possession of its directories, and listens. Returns when clients
    /// can connect. Needs a tokio runtime with I/O and time.
    pub async fn start(options: Options) -> Result<Handle, Error> {
        let settings = Arc::new(Settings::read(options.properties)?);
        raise_file_limit();
        share_file_limit();
        let tasks = Tasks::default();
        // Whoever gives a start up, which may wait for other nodes, leaves nothing running.
        let guard = tasks.guard();
        let loggers = Loggers::new(options.log_levels);
        let cluster = match &settings.cluster {
            None if is_of_quorum(&settings.metadata_dir) => Some(settings.formatted_part()?),
            part => part.clone(),
        };
        let started = match cluster {
            None => Self::start_alone(settings, loggers, tasks.clone()).await,
            Some(cluster) => Self::start_member(settings, cluster, loggers, tasks.clone()).await,
        };
        match started {
            Ok(handle) => {
                guard.disarm();
                tracing::info!(node = handle.node.settings.node_id.0, "broker has started");
                Ok(handle)
            }
            Err(error) => {
                tasks.stop().await;
                Err(error)
            }
        }
    }

    /// A node that is a cluster by itself.
    async fn start_alone(settings: Arc<Settings>, loggers: Loggers, tasks: Tasks) -> Result<Handle, Error> {
        let doors = network::bind(&settings.listeners.bound, &settings).await?;
        let opening = settings.clone();
        let (directories, metadata) = aqueduct_quorum::blocking::spawn(move || open(&opening))
            .await
            .map_err(|_| Error::Interrupted)??;
        let metadata: Arc<dyn MetadataBackend> = Arc::new(metadata);
        let broker = broker_image(&settings, &doors);
        if let Some(Err(error)) = metadata.submit(vec![Command::RegisterBroker(broker)]).await.pop() {
            return Err(error.into());
        }
        let live = Arc::new(LiveSettings::new(settings.clone()));
        live.refresh(&metadata.image());
        let entrances = network::secure(&doors, &live)?;
        let (clock, found) = (Clock::system(), metadata.clone());
        let partitions = Arc::new(Partitions::new(settings.clone(), found, directories, clock.clone()));
        partitions.tell_directories().await?;
        let node = build(Parts { settings, live, loggers, metadata, member: None, partitions, clock, tasks });
        let addresses = listen(&node, doors, &entrances);
        node.tasks.spawn(network::watch(entrances, node.clone()));
        start_services(&node);
        Ok(Handle { addresses, node })
    }

    /// A node of a cluster. Its listeners of controllers are served at once: without them there may be no quorum that it
    /// could join, register with and be let take part by, all of which comes before clients are served.
    async fn start_member(
        settings: Arc<Settings>,
        cluster: ClusterSettings,
        loggers: Loggers,
        tasks: Tasks,
    ) -> Result<Handle, Error> {
        let controllers = if cluster.is_controller { settings.listeners.controllers.as_slice() } else { &[] };
        let inner = network::bind(controllers, &settings).await?;
        let outer = network::bind(&settings.listeners.bound, &settings).await?;
        let (opening, wanted) = (settings.clone(), cluster.cluster_id.clone());
        let (directories, cluster_id) =
            aqueduct_quorum::blocking::spawn(move || open_formatted(&opening, wanted.as_deref()))
                .await
                .map_err(|_| Error::Interrupted)??;
        let live = Arc::new(LiveSettings::new(settings.clone()));
        let all: Vec<&Door> = inner.iter().chain(&outer).collect();
        let member = match Member::start(&settings, &cluster, &cluster_id, &all, &live, &tasks).await {
            Ok(member) => member,
            Err(error) => {
                directories.put_back();
                return Err(error);
            }
        };
        let metadata = member.metadata();
        live.refresh(&metadata.image());
        let (inner_ways, outer_ways) = (network::secure(&inner, &live)?, network::secure(&outer, &live)?);
        let (clock, found) = (Clock::system(), metadata.clone());
        let partitions = Arc::new(Partitions::new(settings.clone(), found, directories, clock.clone()));
        let broker = broker_image(&settings, &outer);
        let parts = Parts {
            settings,
            live,
            loggers,
            metadata,
            member: Some(member.clone()),
            partitions,
            clock,
            tasks,
        };
        let node = build(parts);
        let is_follower = !cluster.is_controller;
        let mut addresses = listen(&node, inner, &inner_ways);
        let mut outer = Some(outer);
        if is_follower && let Some(outer) = outer.take() {
            // The quorum reaches it by its listener for brokers.
            addresses.extend(listen(&node, outer, &outer_ways));
        }
        let taken_up = take_up(&node, &member, &cluster, broker).await;
        if let Err(error) = taken_up {
            node.partitions.directories().put_back();
            return Err(error);
        }
        if let Some(outer) = outer {
            let inner = std::mem::take(&mut addresses);
            addresses = listen(&node, outer, &outer_ways);
            addresses.extend(inner);
        }
        let ways = inner_ways.into_iter().chain(outer_ways).collect();
        node.tasks.spawn(network::watch(ways, node.clone()));
        node.tasks.spawn(member.clone().stay());
        node.tasks.spawn(member.clone().keep_voting());
        start_services(&node);
        if cluster.is_broker {
            member.take_part().await?;
        }
        Ok(Handle { addresses, node })
    }
}

/// What a node is built of.
struct Parts {
    settings: Arc<Settings>,
    live: Arc<LiveSettings>,
    loggers: Loggers,
    metadata: Arc<dyn MetadataBackend>,
    member: Option<Arc<Member>>,
    partitions: Arc<Partitions>,
    clock: Clock,
    tasks: Tasks,
}

fn build(parts: Parts) -> Arc<Node> {
    let Parts { settings, live, loggers, metadata, member, partitions, clock, tasks } = parts;
    let limits = Limits::new(
        live.current().max_connections,
        live.current().max_connections_per_ip,
        settings.queued_max_request_bytes,
    );
    limits.set_more(live.current().per_ip_overrides.clone(), live.current().connection_creation_rate);
    let metrics = Metrics::new();
    let usage = Usage::new(settings.quota_windows, settings.mutation_quota_windows);
    metrics.collect(QuotaMetrics(usage.clone()));
    let groups = Coordinator::start(
        &settings,
        metadata.clone(),
        partitions.clone(),
        clock.clone(),
        tasks.clone(),
        metrics.groups.clone(),
    );
    let peers = Peers::new(metadata.clone(), live.clone());
    let markers = MarkerWriter {
        node_id: settings.node_id,
        metadata: metadata.clone(),
        partitions: partitions.clone(),
        groups: groups.clone(),
        clock: clock.clone(),
        others: Lines::new(peers.clone()),
    };
    let ids = ProducerIds::new(metadata.clone(), tasks.clone());
    let transactions = TransactionCoordinator::start(&settings, markers, ids, tasks.clone());
    Arc::new(Node {
        groups,
        fetch_sessions: Sessions::new(settings.fetch_session_slots),
        transactions,
        authorizer: Authorizer::new(settings.authorizer.clone()),
        usage,
        limits: Arc::new(limits),
        metrics,
        tasks,
        settings,
        live,
        loggers,
        metadata,
        member,
        peers,
        partitions,
        clock,
    })
}

/// Serves listeners from now on; their names and addresses.
fn listen(node: &Arc<Node>, doors: Vec<Door>, entrances: &[Arc<Entrance>]) -> Vec<(String, SocketAddr)> {
    let mut addresses = Vec::with_capacity(doors.len());
    for (door, entrance) in doors.into_iter().zip(entrances.iter().cloned()) {
        let (listener, address) = (door.listener.name.clone(), door.address);
        tracing::info!(%address, listener, protocol = %door.listener.protocol, "broker is listening");
        addresses.push((listener, address));
        node.tasks.spawn(network::run(door, entrance, node.clone()));
    }
    addresses
}

fn start_services(node: &Arc<Node>) {
    replication::start(node);
    housekeeping::start(node);
    metrics::start(node);
    cleaner::start(node);
    mover::start(node);
}

/// Brings a member to where it may serve clients, except that the controller has not unfenced it yet.
async fn take_up(
    node: &Arc<Node>,
    member: &Member,
    cluster: &ClusterSettings,
    broker: BrokerImage,
) -> Result<(), Error> {
    member.join().await?;
    if !cluster.is_broker {
        return Ok(());
    }
    node.peers.check()?;
    let directories = node.partitions.directories();
    let features = FEATURES.iter().map(|feature| (feature.name.into(), (feature.min, feature.max)));
    let registration = Registration {
        cluster_id: node.metadata.image().cluster_id.clone(),
        broker,
        previous_epoch: BrokerEpoch(directories.previous_epoch()),
        features: features.collect(),
        directories: directories.online_ids(),
    };
    member.register(registration).await?;
    directories.set_epoch(node.metadata.broker_epoch().0);
    let image = member.agreed();
    directories.settle(&image, node.settings.node_id);
    warn_of_strays(directories, &image);
    node.live.refresh(&image);
    member.open();
    node.partitions.tell_directories().await?;
    Ok(())
}

/// A running node. Dropping the handle leaves the node running; [`Handle::shutdown`] stops it.
#[derive(Clone)]
pub struct Handle {
    /// Never empty.
    addresses: Vec<(String, SocketAddr)>,
    node: Arc<Node>,
}

impl Handle {
    /// The address of the first listener; with port 0 the port that was found.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0].1
    }

    /// The address of a listener, by its name.
    pub fn listener_address(&self, listener: &str) -> Option<SocketAddr> {
        self.addresses.iter().find(|(name, _)| name == listener).map(|(_, address)| *address)
    }

    /// What the handlers share, for tests that call them.
    #[cfg(test)]
    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// `HOST:PORT` as clients of the first listener are told.
    pub fn advertised(&self) -> String {
        let image = self.node.metadata.image();
        let (listener, address) = &self.addresses[0];
        let broker = image.brokers.get(&self.node.settings.node_id);
        match broker.and_then(|broker| broker.endpoint(listener)) {
            Some(endpoint) => format!("{}:{}", endpoint.host, endpoint.port),
            None => address.to_string(),
        }
    }

    /// The id of the cluster.
    pub fn cluster_id(&self) -> String {
        self.node.metadata.image().cluster_id.to_string()
    }

    /// The metadata as this node knows it.
    pub fn image(&self) -> Arc<MetadataImage> {
        self.node.metadata.image()
    }

    /// The node that decides for the cluster, as far as this one knows.
    pub fn controller_id(&self) -> Option<BrokerId> {
        match &self.node.member {
            Some(member) => member.status().leader.and_then(|id| i32::try_from(id).ok()).map(BrokerId),
            None => Some(self.node.settings.node_id),
        }
    }

    /// The number of this node.
    pub fn node_id(&self) -> BrokerId {
        self.node.settings.node_id
    }

    /// What `aqueduct.http.listener` says: where metrics and health are to be served, if anywhere.
    pub fn http_listener(&self) -> Option<&str> {
        self.node.settings.http_listener.as_deref()
    }

    /// All metrics in the OpenMetrics text format.
    pub fn metrics(&self) -> String {
        let node = &self.node;
        let metrics = &node.metrics;
        metrics.connections.set(node.limits.open() as i64);
        metrics.open_partitions.set(node.partitions.all_open().len() as i64);
        metrics.late_transactions.set(late_transactions(node) as i64);
        metrics.topics.set(node.metadata.image().topics().count() as i64);
        metrics.fetch_sessions.set(node.fetch_sessions.count() as i64);
        metrics::write(node, metrics.encode())
    }

    /// Resolves when the node has been told to stop.
    pub async fn stopping(&self) {
        self.node.tasks.stopping().await;
    }

    /// Resolves when the node cannot go on: no log directory is left, or its part of the metadata quorum has failed.
    pub async fn failed(&self) {
        match &self.node.member {
            Some(member) => tokio::select! {
                () = self.node.partitions.lost() => {}
                () = member.failed() => {}
            },
            None => self.node.partitions.lost().await,
        }
    }

    /// Stops: requests in progress are answered, connections closed, logs flushed and closed. Returns when all is on
    /// disk; a second call returns at once.
    pub async fn shutdown(&self) {
        if self.node.tasks.is_stopping() {
            self.node.tasks.stop().await;
            return;
        }
        if let Some(member) = &self.node.member {
            member.leave().await;
        }
        self.node.tasks.stop().await;
        let partitions = self.node.partitions.clone();
        if aqueduct_quorum::blocking::spawn(move || partitions.shut_down()).await.is_err() {
            tracing::error!("logs were not closed: they will be recovered at the next start");
        }
        tracing::info!("broker has stopped");
    }
}

fn open(settings: &Settings) -> Result<(Directories, LocalMetadata), Error> {
    let (directories, cluster_id) = Directories::open(&settings.log_dirs, settings.node_id)?;
    match open_metadata(&settings.metadata_dir, &directories, &cluster_id) {
        Ok(metadata) => {
            directories.settle(&metadata.image(), settings.node_id);
            warn_of_strays(&directories, &metadata.image());
            Ok((directories, metadata))
        }
        Err(error) => {
            directories.put_back();
            Err(error.into())
        }
    }
}

/// As [`open`], for a node of a cluster, which must have been told which one.
fn open_formatted(settings: &Settings, cluster_id: Option<&str>) -> Result<(Directories, String), Error> {
    let node_id = settings.node_id;
    let mut formatted = false;
    for path in &settings.log_dirs {
        // One that cannot be read is judged where all are opened.
        if let Ok(Some(found)) = MetaProperties::read(path) {
            formatted = true;
            found.check(path, cluster_id.unwrap_or(&found.cluster_id), node_id)?;
        }
    }
    if let Some(first) = settings.log_dirs.first().filter(|_| !formatted) {
        let Some(cluster_id) = cluster_id.map(str::to_owned) else {
            return Err(Error::NotFormatted { path: first.clone() });
        };
        std::fs::create_dir_all(first).map_err(|source| aqueduct_storage::Error::Io {
            action: "create",
            path: first.clone(),
            source,
        })?;
        tracing::info!(path = %first.display(), cluster = cluster_id, "empty log directories are formatted");
        MetaProperties { cluster_id, node_id, directory_id: random_uuid() }.write(first)?;
    }
    Ok(Directories::open(&settings.log_dirs, node_id)?)
}

fn open_metadata(
    dir: &Path,
    directories: &Directories,
    cluster_id: &str,
) -> Result<LocalMetadata, MetadataError> {
    std::fs::create_dir_all(dir)
        .map_err(|source| MetadataError::Journal { path: dir.display().to_string(), source })?;
    refuse_foreign_logs(dir, directories)?;
    LocalMetadata::open(dir, cluster_id)
}

/// Partitions with a transaction that should have ended some time ago.
fn late_transactions(node: &Node) -> usize {
    /// What a coordinator may take to abort a transaction that has timed out.
    const BUFFER_MS: i64 = 5 * 60_000;
    let limit_ms = i64::from(node.settings.transactions.max_timeout_ms) + BUFFER_MS;
    let now_ms = node.clock.now_ms();
    let open = node.partitions.all_open();
    open.iter().filter(|partition| partition.log().has_late_transaction(now_ms, limit_ms)).count()
}

fn warn_of_strays(directories: &Directories, image: &MetadataImage) {
    let known = directories.known();
    let strays: Vec<_> = known.iter().filter(|(id, _)| image.topic_by_id(*id).is_none()).collect();
    if let Some((id, first)) = strays.first() {
        tracing::warn!(
            count = strays.len(),
            first = %first,
            topic_id = %id,
            "directories of partitions whose topics are not in the metadata are left alone; remove them if they are not needed"
        );
    }
}

/// Without the journal, topics would seem not to be there, and new ones of the same names would push their data aside.
fn refuse_foreign_logs(dir: &Path, directories: &Directories) -> Result<(), MetadataError> {
    let held = directories.held();
    match held.first() {
        Some((first, _)) if !LocalMetadata::exists(dir) => Err(MetadataError::NoJournal {
            dir: dir.display().to_string(),
            file: JOURNAL_FILE_NAME,
            partitions: held.len(),
            first: first.to_string(),
        }),
        _ => Ok(()),
    }
}

/// The broker of this node, as others are told of it.
fn broker_image(settings: &Settings, doors: &[Door]) -> BrokerImage {
    let bound = |name: &str| doors.iter().find(|door| door.listener.name == name);
    let endpoint = |advertised: &Listener| Endpoint {
        listener: own(&advertised.name),
        host: own(&advertised.host),
        port: match advertised.port {
            0 => bound(&advertised.name).map_or(0, |door| door.address.port()),
            port => port,
        },
        protocol: advertised.protocol,
    };
    BrokerImage {
        id: settings.node_id,
        incarnation: incarnation(),
        endpoints: settings.listeners.advertised.iter().map(endpoint).collect(),
        rack: settings.rack.as_deref().map(own),
    }
}

fn incarnation() -> Uuid {
    random_uuid()
}

/// Segments, indexes, connections, files of connectors: each takes a file. The soft limit is raised as far as it may.
pub fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) =
            setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::debug!(%error, "limit of open files stays as it is");
    }
}

/// A quarter of the limit is for files of logs, the rest for connections.
fn share_file_limit() {
    use rustix::process::{Resource, getrlimit};
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
    aqueduct_storage::keep_open_at_most(usize::try_from(limit / 4).unwrap_or(usize::MAX));
}
