//! The worker's own settings.

use std::path::PathBuf;
use std::time::Duration;

use aqueduct_connect_api::config::{ConfigType, Importance, Validator};
use aqueduct_connect_api::{Config, ConfigDef, ConfigKey, ConfigMap};

use super::rest::{LOGIN_CONFIG, listeners_rule};
use super::{OverridePolicy, Providers};
use crate::error::{Error, Result};
use crate::internal::Algorithm;
use crate::membership::Protocol;

/// Whether the worker shares its work with others through the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A member of a group; everything is kept in three topics.
    Distributed,
    /// Alone; source offsets are kept in a file, nothing else is kept.
    Standalone,
}

/// The worker's settings, read and checked.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    mode: Mode,
    pub(super) config: Config,
    unknown: Vec<String>,
    providers: Providers,
    policy: OverridePolicy,
}

/// Keys under these prefixes belong to others: clients, converters, topics, providers.
const PREFIXES: &[&str] = &[
    "producer.",
    "consumer.",
    "admin.",
    "key.converter.",
    "value.converter.",
    "header.converter.",
    "internal.key.converter",
    "internal.value.converter",
    "config.storage.",
    "offset.storage.",
    "status.storage.",
    "config.providers.",
    "listeners.https.",
    "admin.listeners.https.",
    "ssl.",
    "sasl.",
    "metrics.context.",
    "topic.creation.",
    "aqueduct.",
];

impl WorkerConfig {
    /// Reads Kafka's worker properties.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for the first setting that is missing or wrong.
    pub fn from_properties(settings: &ConfigMap, mode: Mode) -> Result<Self> {
        let providers = Providers::from_config(settings).map_err(Error::invalid)?;
        let settings = providers.resolve(settings);
        let table = table(mode);
        let config = table.parse(&settings).map_err(|e| Error::invalid(e.to_string()))?;
        let known = |key: &str| {
            table.get(key).is_some()
                || PREFIXES.iter().any(|prefix| key.starts_with(prefix))
                || aqueduct_client::ClientConfig::known_keys().any(|k| k == key)
        };
        let unknown = settings.keys().filter(|key| !known(key)).cloned().collect();
        let policy = OverridePolicy::from_config(
            config.text("connector.client.config.override.policy"),
            config.list("connector.client.config.override.allowlist"),
        )?;
        let read = Self { mode, config, unknown, providers, policy };
        read.check()?;
        Ok(read)
    }

    fn check(&self) -> Result<()> {
        if self.heartbeat_interval() >= self.session_timeout() {
            return Err(Error::invalid(format!(
                "heartbeat.interval.ms={} must be lower than session.timeout.ms={}",
                self.heartbeat_interval().as_millis(),
                self.session_timeout().as_millis()
            )));
        }
        self.check_rest()?;
        self.check_signatures()
    }

    /// Algorithms of internal requests that are not known would show only when the first worker asks another.
    fn check_signatures(&self) -> Result<()> {
        if self.mode == Mode::Standalone {
            return Ok(());
        }
        let one = |key: &str, name: &str| match Algorithm::from_name(name) {
            Some(_) => Ok(()),
            None => Err(Error::invalid(format!(
                "{key}={name} is not known; one of: {}",
                Algorithm::NAMES.join(", ")
            ))),
        };
        for key in ["inter.worker.key.generation.algorithm", "inter.worker.signature.algorithm"] {
            one(key, self.text(key))?;
        }
        let verified = self.list("inter.worker.verification.algorithms");
        for name in verified {
            one("inter.worker.verification.algorithms", name)?;
        }
        let own = self.text("inter.worker.signature.algorithm");
        if !verified.iter().any(|name| name == own) {
            return Err(Error::invalid(format!(
                "inter.worker.verification.algorithms={} has to hold inter.worker.signature.algorithm={own}",
                verified.join(",")
            )));
        }
        Ok(())
    }

    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Keys that mean nothing to a worker, for a warning.
    pub fn unknown_keys(&self) -> &[String] {
        &self.unknown
    }

    /// Every setting as it was written, variables resolved.
    pub fn originals(&self) -> &ConfigMap {
        self.config.originals()
    }

    pub fn providers(&self) -> &Providers {
        &self.providers
    }

    pub fn override_policy(&self) -> &OverridePolicy {
        &self.policy
    }

    pub fn text(&self, key: &str) -> &str {
        self.config.text(key)
    }

    pub fn group_id(&self) -> &str {
        self.text("group.id")
    }

    pub fn flag(&self, key: &str) -> bool {
        self.config.boolean(key)
    }

    pub fn number(&self, key: &str) -> i64 {
        self.config.number(key)
    }

    pub fn list(&self, key: &str) -> &[String] {
        self.config.list(key)
    }

    /// A whole number that may be left out.
    pub fn optional_number(&self, key: &str) -> Option<i64> {
        self.config.integer(key)
    }

    /// How long reading the config topic to its end may take.
    pub fn sync_timeout(&self) -> Duration {
        match self.mode {
            Mode::Distributed => self.millis("worker.sync.timeout.ms"),
            Mode::Standalone => Duration::MAX,
        }
    }

    /// A setting in milliseconds.
    pub fn millis(&self, key: &str) -> Duration {
        Duration::from_millis(u64::try_from(self.config.number(key)).unwrap_or(0))
    }

    pub fn session_timeout(&self) -> Duration {
        self.millis("session.timeout.ms")
    }

    pub fn heartbeat_interval(&self) -> Duration {
        self.millis("heartbeat.interval.ms")
    }

    pub fn rebalance_timeout(&self) -> Duration {
        self.millis("rebalance.timeout.ms")
    }

    pub fn offset_flush_interval(&self) -> Duration {
        self.millis("offset.flush.interval.ms")
    }

    pub fn offset_flush_timeout(&self) -> Duration {
        self.millis("offset.flush.timeout.ms")
    }

    pub fn graceful_timeout(&self) -> Duration {
        self.millis("task.shutdown.graceful.timeout.ms")
    }

    pub fn protocol(&self) -> Protocol {
        Protocol::from_config(&self.text("connect.protocol").to_ascii_lowercase())
            .unwrap_or(Protocol::Sessioned)
    }

    /// Directories that plugins lie in.
    pub fn plugin_path(&self) -> Vec<PathBuf> {
        let listed = self.config.list("plugin.path").iter().filter(|directory| !directory.is_empty());
        listed.map(PathBuf::from).collect()
    }

    /// How long a task may get nowhere, though it has input, before it counts as stuck.
    pub fn stuck_after(&self) -> Duration {
        self.millis("aqueduct.task.stuck.ms").max(Duration::from_millis(100))
    }

    /// Extra settings of an internal topic at its creation: `config.storage.*` and its like.
    pub fn topic_settings(&self, store: &str) -> ConfigMap {
        let own = ["topic", "partitions", "replication.factor", "cleanup.policy", "file.filename"];
        let mut settings = self.config.originals_with_prefix(&format!("{store}."));
        settings.retain(|key, _| !own.contains(&key.as_str()));
        settings
    }
}

/// The table of a worker's settings.
#[allow(clippy::too_many_lines)] // One row a setting.
fn table(mode: Mode) -> ConfigDef {
    use ConfigType::{Boolean, Class, Int, List, Long, Short, String};
    let required = ConfigKey::required;
    let with = |name: &'static str, kind, default: &'static str, doc| {
        ConfigKey::with_default(name, kind, default, doc).importance(Importance::Low)
    };
    let optional =
        |name: &'static str, kind, doc| ConfigKey::optional(name, kind, doc).importance(Importance::Low);
    let millis = |name: &'static str, default: &'static str, doc| {
        with(name, Long, default, doc).validator(Validator::AtLeast(0))
    };
    let common = [
        with("bootstrap.servers", List, "localhost:9092", "Brokers to connect to first, host:port.")
            .importance(Importance::High),
        required("key.converter", Class, "Converter of record keys where a connector names none."),
        required("value.converter", Class, "Converter of record values where a connector names none."),
        with(
            "header.converter",
            Class,
            "org.apache.kafka.connect.storage.SimpleHeaderConverter",
            "Converter of record headers where a connector names none.",
        ),
        with("listeners", List, "http://:8083", "Where the REST API listens.")
            .validator(Validator::Check(listeners_rule)),
        optional("admin.listeners", List, "Where the admin part of the REST API listens; empty for nowhere.")
            .validator(Validator::Check(listeners_rule)),
        optional("rest.advertised.host.name", String, "Host by which other workers reach this one."),
        optional("rest.advertised.port", Int, "Port by which other workers reach this one."),
        optional("rest.advertised.listener", String, "Protocol of the listener that others use."),
        with("rest.extension.classes", List, "", "Extensions of the REST API: basic authentication."),
        with("access.control.allow.origin", String, "", "Origins that browsers may call from."),
        with("access.control.allow.methods", String, "", "Methods that browsers may use."),
        with("response.http.headers.config", String, "", "Headers added to every answer."),
        optional(
            LOGIN_CONFIG,
            String,
            "File of login modules for basic authentication, as the JVM's property.",
        ),
        optional("plugin.path", List, "Directories of plugins; those compiled in are always there."),
        with("plugin.discovery", String, "hybrid_warn", "How plugins are found."),
        millis("aqueduct.plugin.start.timeout.ms", "10000", "How long a plugin's process may take to start."),
        millis(
            "aqueduct.plugin.request.timeout.ms",
            "60000",
            "How long a plugin may work on a call without a sign of life before it is killed.",
        ),
        with(
            "aqueduct.plugin.frame.max.bytes",
            Int,
            "16777216",
            "Largest message between worker and plugin.",
        )
        .validator(Validator::Between(65_536, 1 << 30)),
        with("config.providers", List, "", "Names of config providers."),
        millis("offset.flush.interval.ms", "60000", "Time between commits of offsets."),
        millis("offset.flush.timeout.ms", "5000", "How long one commit of offsets may take."),
        millis("task.shutdown.graceful.timeout.ms", "5000", "How long tasks may take to stop."),
        with(
            "connector.client.config.override.policy",
            String,
            "All",
            "Which client settings connectors may override.",
        ),
        with(
            "connector.client.config.override.allowlist",
            List,
            "",
            "Client settings that the policy Allowlist permits.",
        ),
        with("topic.creation.enable", Boolean, "true", "Whether sources may create topics by rules."),
        with("topic.tracking.enable", Boolean, "true", "Whether the topics of connectors are noted."),
        with("topic.tracking.allow.reset", Boolean, "true", "Whether the noted topics may be reset."),
        with("client.id", String, "", "Name of this worker to the brokers."),
        with("metric.reporters", List, "", "Kafka's metric reporters; metrics are at /metrics here."),
        optional("key.converter.plugin.version", String, "Version of the key converter."),
        optional("value.converter.plugin.version", String, "Version of the value converter."),
        optional("header.converter.plugin.version", String, "Version of the header converter."),
        millis("metrics.sample.window.ms", "30000", "Window of sampled metrics."),
        with("metrics.num.samples", Int, "2", "Number of windows of sampled metrics."),
        with("metrics.recording.level", String, "INFO", "Level of metrics that are kept."),
        with(
            "aqueduct.task.restart.enabled",
            Boolean,
            "true",
            "Whether failed tasks are started again on their own.",
        ),
        millis(
            "aqueduct.task.restart.backoff.ms",
            "10000",
            "Pause before the first restart; it doubles with each failure in a row.",
        ),
        millis("aqueduct.task.restart.backoff.max.ms", "300000", "Longest pause before a restart."),
        millis(
            "aqueduct.task.restart.reset.ms",
            "600000",
            "A task that ran for so long starts over with the first pause.",
        ),
        millis(
            "aqueduct.task.stuck.ms",
            "60000",
            "A task that gets nowhere for so long, though it has input, is reported as stuck.",
        ),
        millis("session.timeout.ms", "10000", "After this long without heartbeat a worker counts as dead."),
        millis("heartbeat.interval.ms", "3000", "Time between heartbeats."),
    ];
    let mut table = common.into_iter().fold(ConfigDef::new(), ConfigDef::key);
    if mode == Mode::Standalone {
        return table.key(required(
            "offset.storage.file.filename",
            String,
            "File that keeps the offsets of sources.",
        ));
    }
    let replication = |name: &'static str| {
        with(
            name,
            Short,
            "3",
            "Replicas of the topic where it has to be created; -1 for the broker's default.",
        )
    };
    let distributed = [
        required("group.id", String, "Name of the group of workers.").validator(Validator::NonEmpty),
        required("config.storage.topic", String, "Topic that keeps connectors.")
            .validator(Validator::NonEmpty),
        required("offset.storage.topic", String, "Topic that keeps offsets of sources.")
            .validator(Validator::NonEmpty),
        required("status.storage.topic", String, "Topic that keeps statuses.").validator(Validator::NonEmpty),
        replication("config.storage.replication.factor"),
        replication("offset.storage.replication.factor"),
        replication("status.storage.replication.factor"),
        with(
            "offset.storage.partitions",
            Int,
            "25",
            "Partitions of the offsets topic; -1 for the broker's default.",
        ),
        with(
            "status.storage.partitions",
            Int,
            "5",
            "Partitions of the status topic; -1 for the broker's default.",
        ),
        millis("rebalance.timeout.ms", "60000", "How long workers may take to rejoin."),
        millis(
            "worker.sync.timeout.ms",
            "3000",
            "How long a worker may take to read the config topic to its end.",
        ),
        millis(
            "worker.unsync.backoff.ms",
            "300000",
            "How long a worker that could not do so stays out of the group.",
        ),
        with("connect.protocol", String, "sessioned", "How work is shared out.")
            .validator(Validator::OneOfIgnoreCase(&["eager", "compatible", "sessioned"])),
        millis(
            "scheduled.rebalance.max.delay.ms",
            "0",
            "How long work of a worker that vanished waits for its return.",
        ),
        with("exactly.once.source.support", String, "disabled", "Exactly-once sources.")
            .validator(Validator::OneOfIgnoreCase(&["disabled", "preparing", "enabled"])),
        with("inter.worker.key.generation.algorithm", String, "HmacSHA256", "Algorithm of session keys."),
        optional("inter.worker.key.size", Int, "Size of session keys in bits."),
        millis("inter.worker.key.ttl.ms", "3600000", "Age at which the session key is replaced."),
        with("inter.worker.signature.algorithm", String, "HmacSHA256", "How internal requests are signed."),
        with("inter.worker.verification.algorithms", List, "HmacSHA256", "Signatures that are accepted."),
    ];
    for key in distributed {
        table.add(key);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> ConfigMap {
        [
            ("bootstrap.servers", "localhost:9092"),
            ("group.id", "g"),
            ("key.converter", "K"),
            ("value.converter", "V"),
            ("config.storage.topic", "c"),
            ("offset.storage.topic", "o"),
            ("status.storage.topic", "s"),
        ]
        .into_iter()
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
    }

    #[test]
    fn reads_kafka_keys_and_lists_unknown_ones() {
        let mut settings = base();
        settings.insert("typo.key".into(), "x".into());
        settings.insert("producer.linger.ms".into(), "5".into());
        settings.insert("offset.storage.segment.bytes".into(), "1048576".into());
        settings.insert("listeners".into(), "http://127.0.0.1:8083,http://:0".into());
        let config = WorkerConfig::from_properties(&settings, Mode::Distributed).expect("valid");
        assert_eq!(config.unknown_keys(), ["typo.key"]);
        assert_eq!(config.protocol(), Protocol::Sessioned);
        assert_eq!(config.listeners().len(), 2);
        assert_eq!(config.topic_settings("offset.storage")["segment.bytes"], "1048576");
        assert!(config.topic_settings("config.storage").is_empty());
        assert_eq!(config.session_timeout(), Duration::from_secs(10));
    }

    #[test]
    fn bad_settings_are_named() {
        for (key, value, text) in [
            ("group.id", "", "group.id"),
            ("session.timeout.ms", "1000", "heartbeat.interval.ms"),
            ("listeners", "ftp://:8083", "ftp://:8083"),
            ("connect.protocol", "odd", "connect.protocol"),
            ("offset.storage.partitions", "x", "offset.storage.partitions"),
            ("rest.extension.classes", "a.B", "rest.extension.classes=a.B"),
        ] {
            let mut settings = base();
            settings.insert(key.into(), value.into());
            let error = WorkerConfig::from_properties(&settings, Mode::Distributed).expect_err(key);
            assert!(error.to_string().contains(text), "{error}");
        }
        let mut settings = base();
        settings.remove("config.storage.topic");
        let error = WorkerConfig::from_properties(&settings, Mode::Distributed).expect_err("missing");
        assert!(error.to_string().contains("config.storage.topic"), "{error}");
    }
}
