//! The broker's settings as types, read from properties through the table of keys.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_protocol::ids::BrokerId;

use super::definition::{ConfigError, list};
use super::dynamic::Named;
use super::{CleanerSettings, ClusterSettings, Listeners, Properties, broker_keys, listeners};
use crate::coordinator::{Assignor, ConsumerOptions, Migration};
use crate::quotas::Windows;
use crate::security::AuthorizerSettings;

/// Everything that the broker reads from its properties once, at start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What was written in the file, for DescribeConfigs and for the keys that topics fall back to.
    pub properties: Properties,
    /// The same with what is set at run time over it, per-listener keys included.
    pub in_force: Properties,
    pub node_id: BrokerId,
    pub rack: Option<String>,
    pub listeners: Listeners,
    /// `None` for a node that is a cluster by itself.
    pub cluster: Option<ClusterSettings>,
    pub http_listener: Option<String>,
    pub log_dirs: Vec<PathBuf>,
    pub metadata_dir: PathBuf,
    /// Logs of one directory that are recovered at the same time.
    pub recovery_threads: usize,
    /// Replicas that are moved between directories at the same time.
    pub alter_log_dirs_threads: usize,
    pub request_max_bytes: usize,
    pub queued_max_request_bytes: usize,
    pub send_buffer: Option<u32>,
    pub receive_buffer: Option<u32>,
    pub listen_backlog: u32,
    /// `None` means never.
    pub max_idle: Option<Duration>,
    pub max_connections: usize,
    pub max_connections_per_ip: usize,
    /// Addresses with another limit than that.
    pub per_ip_overrides: Arc<BTreeMap<IpAddr, usize>>,
    /// Connections that may come each second.
    pub connection_creation_rate: u32,
    pub fetch_max_bytes: usize,
    pub max_request_partitions: usize,
    pub fetch_session_slots: usize,
    pub num_partitions: i32,
    pub default_replication_factor: i16,
    pub auto_create_topics: bool,
    pub delete_topics: bool,
    pub retention_check_interval: Duration,
    /// Between two writes of the high watermarks.
    pub checkpoint_interval: Duration,
    /// Between two writes of recovery points and log start offsets.
    pub recovery_checkpoint_interval: Duration,
    pub producer_id_expiration_ms: i64,
    pub producer_id_check_interval: Duration,
    /// `None` where everybody may do everything.
    pub authorizer: Option<AuthorizerSettings>,
    pub cleaner: CleanerSettings,
    pub quota_windows: Windows,
    pub mutation_quota_windows: Windows,
    pub groups: GroupSettings,
    pub transactions: TransactionSettings,
    pub replication: ReplicationSettings,
}

/// What leaders and followers of partitions read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicationSettings {
    /// A follower that has not caught up for so long is not in sync.
    pub lag_max_ms: i64,
    /// Connections to each leader.
    pub fetchers: usize,
    pub fetch_wait_max_ms: i32,
    pub fetch_min_bytes: i32,
    /// Of one partition.
    pub fetch_max_bytes: i32,
    /// Of one answer.
    pub response_max_bytes: i32,
    /// Longest time until a fetch is tried again that failed.
    pub backoff: Duration,
    /// For an answer, beyond what the leader may wait.
    pub socket_timeout: Duration,
    /// Whether consumers are sent to an in-sync replica in their rack.
    pub rack_aware_reads: bool,
}

/// What the transaction coordinator reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionSettings {
    pub max_timeout_ms: i32,
    pub id_expiration_ms: i64,
    /// Between two looks for transactions that have timed out.
    pub timeout_check_interval: Duration,
    /// Between two looks for ids to forget.
    pub expiry_check_interval: Duration,
    pub verify_partitions: bool,
    /// Between two attempts to add a partition while the transaction before is not over yet.
    pub add_retry_backoff: Duration,
    /// How long that is tried.
    pub add_retry_limit: Duration,
    pub partitions: i32,
    pub replication_factor: i16,
    pub min_isr: i32,
    pub segment_bytes: i32,
    pub load_buffer_bytes: usize,
}

/// What the group coordinator reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSettings {
    pub min_session_timeout_ms: i32,
    pub max_session_timeout_ms: i32,
    pub initial_rebalance_delay_ms: i32,
    pub max_size: usize,
    pub offset_metadata_max_bytes: usize,
    /// `offsets.commit.timeout.ms`
    pub offsets_commit_timeout: Duration,
    pub offsets_partitions: i32,
    pub offsets_replication_factor: i16,
    pub offsets_segment_bytes: i32,
    /// 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    pub offsets_compression: i32,
    pub offsets_retention_ms: i64,
    pub offsets_check_interval: Duration,
    pub load_buffer_bytes: usize,
    /// `group.consumer.*`
    pub consumer: ConsumerOptions,
}

impl Settings {
    /// Checks every value against its key and reads those that matter here. Unknown keys are warned of, not refused.
    ///
    /// # Errors
    /// The first value that its key does not allow, a missing `node.id`, listeners that cannot be opened.
    pub fn read(properties: Properties) -> Result<Self, ConfigError> {
        for (name, _) in properties.iter() {
            // Per-listener and plug-in settings have open-ended names.
            if !name.starts_with("listener.name.") && broker_keys::find_known(name).is_none() {
                tracing::warn!(key = name, "unknown configuration key is ignored");
            }
        }
        Self::interpret(properties)
    }

    /// This node's part in a quorum that its directory was formatted for, also where the node is alone in it.
    ///
    /// # Errors
    /// A configuration that names no quorum, or not what a node of one needs.
    pub fn formatted_part(&self) -> Result<ClusterSettings, ConfigError> {
        match &self.cluster {
            Some(cluster) => Ok(cluster.clone()),
            None => ClusterSettings::read_formatted(&self.properties, self.node_id, &self.listeners),
        }
    }

    /// The settings with what is set at run time for this broker over what its file says. [`Settings::properties`] stays
    /// the file's.
    ///
    /// # Errors
    /// A value that its key does not allow, alone or beside the others.
    pub fn overlaid<'a>(
        &self,
        set: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, ConfigError> {
        let mut properties = self.properties.clone();
        for (name, value) in set {
            properties.set(name, value);
        }
        let mut settings = Self::interpret(properties)?;
        settings.in_force = std::mem::replace(&mut settings.properties, self.properties.clone());
        Ok(settings)
    }

    fn interpret(properties: Properties) -> Result<Self, ConfigError> {
        for (name, value) in properties.iter() {
            if let Some(key) = Named::parse(name).key() {
                key.validate(value)?;
            }
        }
        let read = Reader(&properties);
        let node_id = match (read.int("node.id"), read.int("broker.id")) {
            (-1, -1) => {
                return Err(ConfigError::Missing {
                    key: "node.id".into(),
                    why: "set a number that no other node of the cluster has, such as node.id=1".into(),
                });
            }
            (-1, id) | (id, -1) => id,
            (node, broker) if node == broker => node,
            (node, broker) => {
                return Err(ConfigError::Conflict(format!(
                    "node.id={node} and broker.id={broker} contradict each other: remove one"
                )));
            }
        };
        let listeners = Listeners::read(&properties)?;
        let cluster = ClusterSettings::read(&properties, BrokerId(node_id), &listeners)?;
        let log_dirs: Vec<PathBuf> =
            list(&read.text_or("log.dirs", "log.dir")).iter().map(PathBuf::from).collect();
        let Some(first_dir) = log_dirs.first() else {
            return Err(ConfigError::Missing {
                key: "log.dirs".into(),
                why: "name at least one directory".into(),
            });
        };
        let metadata_dir =
            properties.get("metadata.log.dir").map_or_else(|| first_dir.clone(), PathBuf::from);
        let request_max_bytes = read.int("socket.request.max.bytes") as usize;
        let queued = read.long("queued.max.request.bytes");
        let http = read.text("aqueduct.http.listener");
        Ok(Self {
            node_id: BrokerId(node_id),
            rack: properties.get("broker.rack").filter(|rack| !rack.is_empty()).map(str::to_owned),
            listeners,
            cluster,
            http_listener: (!http.is_empty()).then_some(http),
            metadata_dir,
            alter_log_dirs_threads: properties
                .get("num.replica.alter.log.dirs.threads")
                .and_then(|threads| threads.trim().parse().ok())
                .unwrap_or(log_dirs.len()),
            log_dirs,
            recovery_threads: read.int("num.recovery.threads.per.data.dir") as usize,
            request_max_bytes,
            queued_max_request_bytes: if queued > 0 { queued as usize } else { 128 << 20 }
                .max(request_max_bytes),
            send_buffer: read.buffer("socket.send.buffer.bytes"),
            receive_buffer: read.buffer("socket.receive.buffer.bytes"),
            listen_backlog: read.int("socket.listen.backlog.size") as u32,
            max_idle: u64::try_from(read.long("connections.max.idle.ms")).ok().map(Duration::from_millis),
            max_connections: read.int("max.connections") as usize,
            max_connections_per_ip: read.int("max.connections.per.ip") as usize,
            per_ip_overrides: Arc::new(listeners::per_ip_overrides(
                &read.text("max.connections.per.ip.overrides"),
            )?),
            connection_creation_rate: read.int("max.connection.creation.rate") as u32,
            fetch_max_bytes: read.int("fetch.max.bytes") as usize,
            max_request_partitions: read.int("max.request.partition.size.limit") as usize,
            fetch_session_slots: read.int("max.incremental.fetch.session.cache.slots") as usize,
            num_partitions: read.int("num.partitions"),
            default_replication_factor: read.int("default.replication.factor").min(i16::MAX as i32) as i16,
            auto_create_topics: read.boolean("auto.create.topics.enable"),
            delete_topics: read.boolean("delete.topic.enable"),
            retention_check_interval: read.millis("log.retention.check.interval.ms"),
            checkpoint_interval: read.millis("replica.high.watermark.checkpoint.interval.ms"),
            recovery_checkpoint_interval: read.millis("log.flush.offset.checkpoint.interval.ms"),
            producer_id_expiration_ms: read.long("producer.id.expiration.ms"),
            producer_id_check_interval: read.millis("producer.id.expiration.check.interval.ms"),
            authorizer: super::access::authorizer(&properties)?,
            quota_windows: read.windows("quota.window.num", "quota.window.size.seconds"),
            mutation_quota_windows: read
                .windows("controller.quota.window.num", "controller.quota.window.size.seconds"),
            cleaner: CleanerSettings::read(&properties)?,
            groups: GroupSettings {
                min_session_timeout_ms: read.int("group.min.session.timeout.ms"),
                max_session_timeout_ms: read.int("group.max.session.timeout.ms"),
                initial_rebalance_delay_ms: read.int("group.initial.rebalance.delay.ms"),
                max_size: read.int("group.max.size") as usize,
                offsets_commit_timeout: read.millis("offsets.commit.timeout.ms"),
                offset_metadata_max_bytes: read.int("offset.metadata.max.bytes") as usize,
                offsets_partitions: read.int("offsets.topic.num.partitions"),
                offsets_replication_factor: read.int("offsets.topic.replication.factor") as i16,
                offsets_segment_bytes: read.int("offsets.topic.segment.bytes"),
                offsets_compression: read.int("offsets.topic.compression.codec"),
                offsets_retention_ms: read.long("offsets.retention.minutes").saturating_mul(60_000),
                offsets_check_interval: read.millis("offsets.retention.check.interval.ms"),
                load_buffer_bytes: read.int("offsets.load.buffer.size") as usize,
                consumer: read.consumer_groups()?,
            },
            transactions: TransactionSettings {
                max_timeout_ms: read.int("transaction.max.timeout.ms"),
                id_expiration_ms: read.long("transactional.id.expiration.ms"),
                timeout_check_interval: read
                    .millis("transaction.abort.timed.out.transaction.cleanup.interval.ms"),
                expiry_check_interval: read
                    .millis("transaction.remove.expired.transaction.cleanup.interval.ms"),
                add_retry_backoff: read.millis("add.partitions.to.txn.retry.backoff.ms"),
                add_retry_limit: Duration::from_millis(
                    read.int("add.partitions.to.txn.retry.backoff.max.ms") as u64,
                ),
                verify_partitions: read.boolean("transaction.partition.verification.enable"),
                partitions: read.int("transaction.state.log.num.partitions"),
                replication_factor: read.int("transaction.state.log.replication.factor") as i16,
                min_isr: read.int("transaction.state.log.min.isr"),
                segment_bytes: read.int("transaction.state.log.segment.bytes"),
                load_buffer_bytes: read.int("transaction.state.log.load.buffer.size") as usize,
            },
            replication: ReplicationSettings {
                lag_max_ms: read.long("replica.lag.time.max.ms"),
                fetchers: read.int("num.replica.fetchers") as usize,
                fetch_wait_max_ms: read.int("replica.fetch.wait.max.ms"),
                fetch_min_bytes: read.int("replica.fetch.min.bytes"),
                fetch_max_bytes: read.int("replica.fetch.max.bytes"),
                response_max_bytes: read.int("replica.fetch.response.max.bytes"),
                backoff: Duration::from_millis(read.int("replica.fetch.backoff.ms") as u64),
                socket_timeout: Duration::from_millis(read.int("replica.socket.timeout.ms") as u64),
                rack_aware_reads: rack_aware_reads(&properties)?,
            },
            in_force: properties.clone(),
            properties,
        })
    }
}

/// `replica.selector.class`: of Kafka's own classes one is rack-aware, the other always chooses the leader.
fn rack_aware_reads(properties: &Properties) -> Result<bool, ConfigError> {
    const KEY: &str = "replica.selector.class";
    let class = properties.get(KEY).map(str::trim).unwrap_or_default();
    match class.rsplit('.').next() {
        None | Some("" | "LeaderSelector") => Ok(false),
        Some("RackAwareReplicaSelector") => Ok(true),
        Some(_) => Err(ConfigError::Invalid {
            key: KEY.into(),
            value: class.into(),
            allowed: "must be RackAwareReplicaSelector, LeaderSelector or nothing".into(),
        }),
    }
}

struct Reader<'a>(&'a Properties);

impl Reader<'_> {
    fn consumer_groups(&self) -> Result<ConsumerOptions, ConfigError> {
        let within = |name: &str| -> Result<(i32, (i32, i32)), ConfigError> {
            let of = |kind: &str| self.int(&format!("group.consumer.{kind}{name}"));
            let (value, low, high) = (of(""), of("min."), of("max."));
            if !(low..=high).contains(&value) {
                return Err(ConfigError::Conflict(format!(
                    "group.consumer.{name}={value} must lie between group.consumer.min.{name}={low} and group.consumer.max.{name}={high}"
                )));
            }
            Ok((value, (low, high)))
        };
        let (session_timeout_ms, session_timeout_limits) = within("session.timeout.ms")?;
        let (heartbeat_interval_ms, heartbeat_interval_limits) = within("heartbeat.interval.ms")?;
        let (assignment_interval_ms, assignment_interval_limits) = within("assignment.interval.ms")?;
        if heartbeat_interval_ms >= session_timeout_ms {
            return Err(ConfigError::Conflict(format!(
                "group.consumer.heartbeat.interval.ms={heartbeat_interval_ms} must be less than group.consumer.session.timeout.ms={session_timeout_ms}"
            )));
        }
        let invalid = |key: &str, value: &str, allowed: &str| ConfigError::Invalid {
            key: key.into(),
            value: value.into(),
            allowed: allowed.into(),
        };
        let mut assignors = Vec::new();
        for name in list(&self.text("group.consumer.assignors")) {
            let unknown = || invalid("group.consumer.assignors", name, "must be uniform or range");
            assignors.push(Assignor::find(name).ok_or_else(unknown)?);
        }
        let policy = self.text("group.consumer.migration.policy");
        let migration = Migration::find(&policy).ok_or_else(|| {
            let allowed = "must be one of disabled, upgrade, downgrade, bidirectional";
            invalid("group.consumer.migration.policy", &policy, allowed)
        })?;
        Ok(ConsumerOptions {
            session_timeout_ms,
            session_timeout_limits,
            heartbeat_interval_ms,
            heartbeat_interval_limits,
            node_id: BrokerId(-1),
            assignment_interval_ms,
            assignment_interval_limits,
            max_size: self.int("group.consumer.max.size") as usize,
            assignors,
            migration,
            pattern_refresh_ms: self.long("group.consumer.regex.refresh.interval.ms"),
        })
    }

    fn text(&self, name: &str) -> String {
        let key = broker_keys::find(name).expect("a key of the table");
        self.0.get(name).or(key.default).unwrap_or_default().trim().to_owned()
    }

    fn text_or(&self, name: &str, other: &str) -> String {
        match self.0.get(name) {
            Some(value) => value.to_owned(),
            None => self.text(other),
        }
    }

    fn long(&self, name: &str) -> i64 {
        self.text(name).parse().expect("validated as a number")
    }

    fn int(&self, name: &str) -> i32 {
        self.text(name).parse().expect("validated as a number")
    }

    /// Only a size that was asked for is set: the kernel's own sizing serves better than the default of old.
    fn buffer(&self, name: &str) -> Option<u32> {
        self.0.get(name)?;
        u32::try_from(self.int(name)).ok().filter(|size| *size > 0)
    }

    fn windows(&self, count: &str, seconds: &str) -> Windows {
        Windows { count: self.int(count) as u32, size_ms: i64::from(self.int(seconds)) * 1000 }
    }

    fn boolean(&self, name: &str) -> bool {
        self.text(name).eq_ignore_ascii_case("true")
    }

    fn millis(&self, name: &str) -> Duration {
        Duration::from_millis(self.long(name).max(1) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Settings, ConfigError> {
        let mut properties = Properties::default();
        for (key, value) in pairs {
            properties.set(key, value);
        }
        Settings::read(properties)
    }

    #[test]
    fn a_file_of_a_combined_node_is_read() {
        let settings = read(&[
            ("process.roles", "broker,controller"),
            ("node.id", "7"),
            ("listeners", "PLAINTEXT://:9092,CONTROLLER://:9093"),
            ("controller.listener.names", "CONTROLLER"),
            ("advertised.listeners", "PLAINTEXT://broker.example:19092"),
            ("log.dirs", "/a, /b"),
        ])
        .unwrap();
        assert_eq!(settings.node_id, BrokerId(7));
        assert_eq!(settings.listeners.bound[0].port, 9092);
        assert_eq!(settings.listeners.advertised[0].host, "broker.example");
        assert_eq!(settings.log_dirs.len(), 2);
        assert_eq!(settings.groups.offsets_retention_ms, 7 * 24 * 3_600_000);
    }

    #[test]
    fn mistakes_are_named() {
        let message = |pairs: &[(&str, &str)]| read(pairs).unwrap_err().to_string();
        assert!(message(&[]).contains("node.id"));
        assert!(message(&[("node.id", "1"), ("num.partitions", "0")]).contains("num.partitions"));
        assert!(message(&[("node.id", "1"), ("listeners", "PLAINTEXT://h:port")]).contains("listeners"));
        assert!(message(&[("node.id", "1"), ("broker.id", "2")]).contains("contradict"));
        assert!(
            message(&[("node.id", "1"), ("process.roles", "controller")])
                .contains("controller.listener.names")
        );
    }

    #[test]
    fn an_unknown_key_is_no_error() {
        assert!(read(&[("node.id", "1"), ("no.such.key", "x")]).is_ok());
    }
}
