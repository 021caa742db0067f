//! The client's configuration under Kafka's own property names.

mod security;
mod table;

use std::time::Duration;

use aqueduct_protocol::records::Compression;

use crate::backoff::Backoff;
use crate::error::Error;

pub(crate) use security::{Sasl, SaslMechanism, Security};

/// What has to be written before a produce request is answered (`acks`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// Nothing; there is no answer, and a lost record goes unnoticed.
    None,
    /// The leader's log.
    Leader,
    /// The logs of all in-sync replicas.
    All,
}

impl Acks {
    /// The number that stands for it on the wire.
    pub fn wire(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

/// How the batches of a producer are compressed (`compression.type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompressionType {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// snappy, in the framing of snappy-java.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard.
    Zstd,
}

/// `compression.gzip.level` and its like; `None` for the codec's default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CompressionLevels {
    pub gzip: Option<i32>,
    pub lz4: Option<i32>,
    pub zstd: Option<i32>,
}

/// Where to start when a partition has no valid position (`auto.offset.reset`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetReset {
    /// At the log start offset.
    Earliest,
    /// At the end.
    Latest,
    /// Nowhere: the poll fails with [`Error::NoOffset`] or [`Error::OffsetOutOfRange`].
    None,
}

/// Which records of transactions are seen (`isolation.level`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IsolationLevel {
    /// All of them.
    ReadUncommitted,
    /// Those of committed transactions, up to the last stable offset.
    ReadCommitted,
}

impl IsolationLevel {
    /// The number that stands for it on the wire.
    pub fn wire(self) -> i8 {
        match self {
            Self::ReadUncommitted => 0,
            Self::ReadCommitted => 1,
        }
    }
}

/// A way to divide partitions among the members of a group (`partition.assignment.strategy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AssignmentStrategy {
    /// Topic by topic, contiguous ranges.
    Range,
    /// All partitions in turn.
    RoundRobin,
    /// Balanced, and keeping what members hold; everything is revoked in a rebalance.
    Sticky,
    /// Balanced, and keeping what members hold; only what moves is revoked.
    CooperativeSticky,
}

impl AssignmentStrategy {
    /// Its name in JoinGroup.
    pub fn protocol_name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
            Self::Sticky => "sticky",
            Self::CooperativeSticky => "cooperative-sticky",
        }
    }
}

/// All settings of producers, consumers, admins and their connections, with Kafka's defaults.
///
/// Built from properties by [`ClientConfig::from_properties`], or by hand on top of [`ClientConfig::new`]. The field
/// names are the property names with underscores; fields of milliseconds are [`Duration`]s without the `_ms`.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    // Connections.
    pub bootstrap_servers: Vec<String>,
    pub client_id: String,
    pub client_rack: String,
    pub request_timeout: Duration,
    pub default_api_timeout: Duration,
    pub retry_backoff: Backoff,
    pub reconnect_backoff: Backoff,
    pub socket_connection_setup_timeout: Duration,
    pub connections_max_idle: Duration,
    pub metadata_max_age: Duration,
    /// `security.protocol` and all of `ssl.*` and `sasl.*`.
    pub(crate) security: Security,
    // Producer.
    pub acks: Acks,
    pub linger: Duration,
    pub batch_size: usize,
    pub compression_type: CompressionType,
    pub compression_levels: CompressionLevels,
    pub max_request_size: usize,
    pub buffer_memory: usize,
    pub delivery_timeout: Duration,
    pub max_block: Duration,
    pub retries: u32,
    /// `None` where not set: on if `acks` and `max.in.flight.requests.per.connection` allow it.
    pub enable_idempotence: Option<bool>,
    pub max_in_flight_requests_per_connection: usize,
    /// Makes the producer transactional.
    pub transactional_id: Option<String>,
    pub transaction_timeout: Duration,
    // Consumer.
    pub fetch_min_bytes: usize,
    pub fetch_max_bytes: usize,
    pub fetch_max_wait: Duration,
    pub max_partition_fetch_bytes: usize,
    pub max_poll_records: usize,
    pub auto_offset_reset: OffsetReset,
    pub isolation_level: IsolationLevel,
    pub check_crcs: bool,
    pub allow_auto_create_topics: bool,
    // Groups.
    pub group_id: Option<String>,
    pub group_instance_id: Option<String>,
    pub session_timeout: Duration,
    pub heartbeat_interval: Duration,
    pub max_poll_interval: Duration,
    /// How long members may take to rejoin (`rebalance.timeout.ms`, known to Connect workers); consumers use
    /// `max_poll_interval` where this is `None`.
    pub rebalance_timeout: Option<Duration>,
    pub partition_assignment_strategy: Vec<AssignmentStrategy>,
}

impl ClientConfig {
    /// Kafka's defaults for a cluster at `bootstrap_servers` (`host:port`, comma-separated).
    ///
    /// # Errors
    /// [`Error::Config`] where an address is malformed or there is none.
    pub fn new(bootstrap_servers: &str) -> Result<Self, Error> {
        let (config, _) = Self::from_properties([("bootstrap.servers", bootstrap_servers)])?;
        Ok(config)
    }

    /// Reads Kafka properties. The second part of the result lists the keys that no Kafka client setting of ours has,
    /// for a warning; a null or blank value of a key without meaning for blanks counts as not set.
    ///
    /// # Errors
    /// [`Error::Config`] names the key, the value, what is wrong and what is allowed.
    pub fn from_properties<K, V>(
        properties: impl IntoIterator<Item = (K, V)>,
    ) -> Result<(Self, Vec<String>), Error>
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        let mut config = Self::defaults();
        let mut unknown = Vec::new();
        for (key, value) in properties {
            let (key, value) = (key.as_ref(), value.as_ref().trim());
            match table::KEYS.iter().find(|row| row.name == key) {
                Some(row) => (row.set)(&mut config, value).map_err(|why| Error::Config {
                    key: key.to_owned(),
                    value: value.to_owned(),
                    why,
                })?,
                None if Security::knows(key) => config.security.set(key, value),
                None => unknown.push(key.to_owned()),
            }
        }
        config.security.check()?;
        config.check()?;
        Ok((config, unknown))
    }

    /// Names of all properties that are understood.
    pub fn known_keys() -> impl Iterator<Item = &'static str> {
        table::KEYS.iter().map(|row| row.name).chain(security::KEYS.iter().copied())
    }

    /// Whether the producer is idempotent: what was set, else on where the other settings allow it.
    pub fn idempotent(&self) -> bool {
        self.enable_idempotence.unwrap_or(self.idempotence_allowed())
    }

    /// The codec of batches, and its level where one was set.
    pub(crate) fn compression(&self) -> (Compression, Option<i32>) {
        let levels = self.compression_levels;
        match self.compression_type {
            CompressionType::None => (Compression::None, None),
            CompressionType::Gzip => (Compression::Gzip, levels.gzip),
            CompressionType::Snappy => (Compression::Snappy, None),
            CompressionType::Lz4 => (Compression::Lz4, levels.lz4),
            CompressionType::Zstd => (Compression::Zstd, levels.zstd),
        }
    }

    fn idempotence_allowed(&self) -> bool {
        self.acks == Acks::All && self.max_in_flight_requests_per_connection <= 5 && self.retries > 0
    }

    /// Kafka's defaults, without bootstrap servers.
    fn defaults() -> Self {
        let ms = Duration::from_millis;
        Self {
            bootstrap_servers: Vec::new(),
            client_id: String::new(),
            client_rack: String::new(),
            request_timeout: ms(30_000),
            default_api_timeout: ms(60_000),
            retry_backoff: Backoff { initial: ms(100), max: ms(1000) },
            reconnect_backoff: Backoff { initial: ms(50), max: ms(1000) },
            socket_connection_setup_timeout: ms(10_000),
            connections_max_idle: ms(540_000),
            metadata_max_age: ms(300_000),
            security: Security::default(),
            acks: Acks::All,
            linger: ms(5),
            batch_size: 16_384,
            compression_type: CompressionType::None,
            compression_levels: CompressionLevels::default(),
            max_request_size: 1_048_576,
            buffer_memory: 33_554_432,
            delivery_timeout: ms(120_000),
            max_block: ms(60_000),
            retries: i32::MAX as u32,
            enable_idempotence: None,
            max_in_flight_requests_per_connection: 5,
            transactional_id: None,
            transaction_timeout: ms(60_000),
            fetch_min_bytes: 1,
            fetch_max_bytes: 52_428_800,
            fetch_max_wait: ms(500),
            max_partition_fetch_bytes: 1_048_576,
            max_poll_records: 500,
            auto_offset_reset: OffsetReset::Latest,
            isolation_level: IsolationLevel::ReadUncommitted,
            check_crcs: true,
            allow_auto_create_topics: true,
            group_id: None,
            group_instance_id: None,
            session_timeout: ms(45_000),
            heartbeat_interval: ms(3_000),
            max_poll_interval: ms(300_000),
            rebalance_timeout: None,
            partition_assignment_strategy: vec![
                AssignmentStrategy::Range,
                AssignmentStrategy::CooperativeSticky,
            ],
        }
    }

    /// What only several settings together can get wrong.
    fn check(&self) -> Result<(), Error> {
        let wrong = |key: &str, value: String, why: &str| {
            Err(Error::Config { key: key.to_owned(), value, why: why.to_owned() })
        };
        if self.bootstrap_servers.is_empty() {
            return wrong("bootstrap.servers", String::new(), "is required: host:port, comma-separated");
        }
        if self.enable_idempotence == Some(true) && !self.idempotence_allowed() {
            return wrong(
                "enable.idempotence",
                "true".to_owned(),
                "needs acks=all, retries > 0 and max.in.flight.requests.per.connection of at most 5",
            );
        }
        if let Some(id) = &self.transactional_id
            && !self.idempotent()
        {
            return wrong(
                "transactional.id",
                id.clone(),
                "needs enable.idempotence=true, and with it acks=all, retries > 0 and \
                 max.in.flight.requests.per.connection of at most 5",
            );
        }
        if self.heartbeat_interval >= self.session_timeout {
            return wrong(
                "heartbeat.interval.ms",
                self.heartbeat_interval.as_millis().to_string(),
                "must be lower than session.timeout.ms",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(properties: &[(&str, &str)]) -> String {
        ClientConfig::from_properties(properties.iter().copied()).expect_err("should be refused").to_string()
    }

    #[test]
    fn reads_kafka_properties_and_lists_unknown_ones() {
        let (config, unknown) = ClientConfig::from_properties([
            ("bootstrap.servers", "a:9092, [::1]:9093"),
            ("acks", "1"),
            ("linger.ms", "0"),
            ("compression.type", "zstd"),
            ("partition.assignment.strategy", "org.apache.kafka.clients.consumer.RoundRobinAssignor,sticky"),
            ("interceptor.classes.of.mine", "x"),
        ])
        .expect("valid");
        assert_eq!(config.bootstrap_servers, ["a:9092", "[::1]:9093"]);
        assert_eq!(config.acks, Acks::Leader);
        assert!(!config.idempotent(), "acks=1 turns idempotence off");
        assert_eq!(config.linger, Duration::ZERO);
        assert_eq!(config.compression_type, CompressionType::Zstd);
        assert_eq!(
            config.partition_assignment_strategy,
            [AssignmentStrategy::RoundRobin, AssignmentStrategy::Sticky]
        );
        assert_eq!(unknown, ["interceptor.classes.of.mine"]);
    }

    #[test]
    fn every_default_of_the_table_sets_the_default() {
        let mut config = ClientConfig::defaults();
        for row in table::KEYS {
            if let Some(default) = row.default {
                (row.set)(&mut config, default).expect(row.name);
            }
        }
        let plain = ClientConfig::defaults();
        config.enable_idempotence = plain.enable_idempotence;
        assert_eq!(format!("{config:?}"), format!("{plain:?}"));
    }

    #[test]
    fn for_ever_is_a_time_that_clocks_can_add() {
        let keys = ["delivery.timeout.ms", "max.block.ms", "metadata.max.age.ms", "request.timeout.ms"];
        let properties = keys.map(|key| (key, "9223372036854775807"));
        let all =
            properties.into_iter().chain([("bootstrap.servers", "h:1"), ("connections.max.idle.ms", "-1")]);
        let (config, _) = ClientConfig::from_properties(all).expect("valid");
        for duration in [config.delivery_timeout, config.max_block, config.connections_max_idle] {
            assert!(std::time::Instant::now().checked_add(duration + duration).is_some());
        }
    }

    #[test]
    fn bad_values_say_key_value_and_remedy() {
        let b = ("bootstrap.servers", "localhost:9092");
        assert_eq!(error_of(&[b, ("acks", "2")]), "acks=2: must be one of 0, 1, -1, all");
        assert_eq!(
            error_of(&[b, ("linger.ms", "soon")]),
            "linger.ms=soon: must be a whole number of milliseconds, 0 or more"
        );
        assert_eq!(
            error_of(&[b, ("security.protocol", "TLS")]),
            "security.protocol=TLS: must be PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"
        );
        assert!(
            error_of(&[b, ("transactional.id", "x"), ("enable.idempotence", "false")])
                .starts_with("transactional.id=x: needs enable.idempotence=true")
        );
        assert_eq!(error_of(&[("bootstrap.servers", "localhost")]), {
            "bootstrap.servers=localhost: 'localhost' is not host:port"
        });
        assert!(error_of(&[]).starts_with("bootstrap.servers=: is required"));
        assert!(error_of(&[b, ("enable.idempotence", "true"), ("acks", "1")]).contains("acks=all"));
    }
}
