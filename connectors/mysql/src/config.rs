//! Settings.

pub mod filters;
pub mod keys;

use std::time::Duration;

use aqueduct_connect_api::config::Password;
use aqueduct_connect_api::{Config, Error, Result};
use bytestring::ByteString;

use crate::value::convert::{BinaryMode, DecimalMode, Modes, TimeMode};
use filters::Filters;
pub use keys::config_def;

/// Which of the two connectors is meant: they differ in names and in how they write transaction ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavor {
    MySql,
    MariaDb,
}

impl Flavor {
    /// Name in `source.connector` and in schema names.
    pub fn name(self) -> &'static str {
        match self {
            Self::MySql => "mysql",
            Self::MariaDb => "mariadb",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotMode {
    /// Where there is no offset.
    Initial,
    /// Likewise, and stop then.
    InitialOnly,
    /// At every start.
    Always,
    /// Where there is no offset, or the binlog it points to is gone.
    WhenNeeded,
    /// Never: start at the present end of the binlog.
    NoData,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockingMode {
    /// Hold the global read lock while the snapshot is opened.
    Minimal,
    /// Hold it until every row is read.
    Extended,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    Disabled,
    /// Encrypt where the server can; trust any certificate.
    Preferred,
    Required,
    VerifyCa,
    VerifyIdentity,
}

/// What to do with an event that cannot be processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    Fail,
    Warn,
    Skip,
}

/// Operations that are left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    pub create: bool,
    pub update: bool,
    pub delete: bool,
    pub truncate: bool,
}

/// All settings, read.
#[derive(Clone, Debug)]
pub struct Settings {
    pub flavor: Flavor,
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: Option<Password>,
    pub ssl: SslMode,
    pub ssl_ca: Option<String>,
    pub server_id: u32,
    pub prefix: ByteString,
    pub filters: Filters,
    pub modes: Modes,
    pub snapshot_mode: SnapshotMode,
    pub locking: LockingMode,
    pub lock_timeout: Duration,
    pub snapshot_delay: Duration,
    pub schema_changes: bool,
    pub tombstones: bool,
    pub skipped: Skipped,
    pub skip_unchanged: bool,
    pub heartbeat: Option<Duration>,
    pub heartbeat_topic: ByteString,
    pub extended_headers: bool,
    pub max_batch: usize,
    pub max_queue: usize,
    pub max_queue_bytes: usize,
    pub poll_interval: Duration,
    pub connect_timeout: Duration,
    pub max_retries: Option<u32>,
    pub retry_wait: Duration,
    pub on_processing_failure: OnFailure,
    pub on_schema_failure: OnFailure,
    pub on_converting_failure: OnFailure,
    pub initial_statements: Vec<String>,
}

impl Settings {
    /// Reads what the table has parsed.
    ///
    /// # Errors
    /// [`Error::Config`] for what single keys cannot tell: bad expressions, pairs that exclude each other.
    pub fn read(config: &Config, flavor: Flavor) -> Result<Self> {
        let millis = |key| Duration::from_millis(config.number(key).max(0) as u64);
        let prefix = ByteString::from(config.text("topic.prefix"));
        let max_batch = config.count("max.batch.size")?.max(1);
        let max_queue = config.count("max.queue.size")?;
        if max_queue <= max_batch {
            return Err(Error::config(
                "max.queue.size",
                max_queue.to_string(),
                format!("Must be larger than max.batch.size ({max_batch})"),
            ));
        }
        let refused =
            config.originals().iter().find(|(k, _)| keys::REFUSED_PREFIXES.iter().any(|p| k.starts_with(p)));
        if let Some((key, value)) = refused {
            return Err(Error::config(key, value, "This setting is not supported: remove it"));
        }
        if config.number("tasks.max") > 1 {
            return Err(Error::config(
                "tasks.max",
                config.number("tasks.max").to_string(),
                "One binlog is read by one task: set tasks.max=1",
            ));
        }
        Ok(Self {
            flavor,
            host: config.text("database.hostname").to_owned(),
            port: u16::try_from(config.number("database.port")).unwrap_or(3306),
            user: config.text("database.user").to_owned(),
            password: config.password("database.password").cloned(),
            ssl: ssl_mode(config.text("database.ssl.mode")),
            ssl_ca: config.string("database.ssl.truststore").filter(|s| !s.is_empty()).map(str::to_owned),
            server_id: u32::try_from(config.number("database.server.id")).unwrap_or(0),
            filters: Filters::read(config)?,
            modes: modes(config, flavor),
            snapshot_mode: match &*word(config, "snapshot.mode") {
                "always" => SnapshotMode::Always,
                "initial_only" => SnapshotMode::InitialOnly,
                "when_needed" => SnapshotMode::WhenNeeded,
                "initial" => SnapshotMode::Initial,
                _ => SnapshotMode::NoData,
            },
            locking: match &*word(config, "snapshot.locking.mode") {
                "none" => LockingMode::None,
                "extended" => LockingMode::Extended,
                _ => LockingMode::Minimal,
            },
            lock_timeout: millis("snapshot.lock.timeout.ms"),
            snapshot_delay: millis("snapshot.delay.ms"),
            schema_changes: config.boolean("include.schema.changes"),
            tombstones: config.boolean("tombstones.on.delete"),
            skipped: skipped(config.text("skipped.operations"))?,
            skip_unchanged: config.boolean("skip.messages.without.change"),
            heartbeat: Some(millis("heartbeat.interval.ms")).filter(|d| !d.is_zero()),
            heartbeat_topic: format!("{}.{prefix}", config.text("topic.heartbeat.prefix")).into(),
            extended_headers: config.boolean("extended.headers.enabled"),
            max_batch,
            max_queue,
            max_queue_bytes: config.count("max.queue.size.in.bytes")?,
            poll_interval: millis("poll.interval.ms"),
            connect_timeout: millis("connect.timeout.ms").max(Duration::from_millis(1)),
            max_retries: u32::try_from(config.number("errors.max.retries")).ok(),
            retry_wait: millis("retriable.restart.connector.wait.ms"),
            on_processing_failure: on_failure(config, "event.processing.failure.handling.mode"),
            on_schema_failure: on_failure(config, "inconsistent.schema.handling.mode"),
            on_converting_failure: on_failure(config, "event.converting.failure.handling.mode"),
            initial_statements: config
                .text("database.initial.statements")
                .split(';')
                .map(|s| s.trim().to_owned())
                .filter(|s| !s.is_empty())
                .collect(),
            prefix,
        })
    }

    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

fn word(config: &Config, key: &str) -> String {
    config.text(key).to_ascii_lowercase()
}

fn modes(config: &Config, flavor: Flavor) -> Modes {
    Modes {
        decimal: match &*word(config, "decimal.handling.mode") {
            "double" => DecimalMode::Double,
            "string" => DecimalMode::Text,
            _ => DecimalMode::Precise,
        },
        time: match &*word(config, "time.precision.mode") {
            "connect" => TimeMode::Connect,
            _ => TimeMode::AdaptiveMicroseconds,
        },
        binary: match &*word(config, "binary.handling.mode") {
            "base64" => BinaryMode::Base64,
            "base64-url-safe" => BinaryMode::Base64Url,
            "hex" => BinaryMode::Hex,
            _ => BinaryMode::Bytes,
        },
        precise_unsigned: word(config, "bigint.unsigned.handling.mode") == "precise",
        adjust_years: config.boolean("enable.time.adjuster"),
        // the reference's MariaDB connector always gives them
        comments: flavor == Flavor::MariaDb || config.boolean("include.schema.comments"),
    }
}

fn ssl_mode(text: &str) -> SslMode {
    match &*text.to_ascii_lowercase().replace('-', "_") {
        "disabled" | "disable" => SslMode::Disabled,
        "required" | "trust" => SslMode::Required,
        "verify_ca" => SslMode::VerifyCa,
        "verify_identity" | "verify_full" => SslMode::VerifyIdentity,
        _ => SslMode::Preferred,
    }
}

fn on_failure(config: &Config, key: &str) -> OnFailure {
    match &*word(config, key) {
        "warn" => OnFailure::Warn,
        "skip" | "ignore" => OnFailure::Skip,
        _ => OnFailure::Fail,
    }
}

fn skipped(text: &str) -> Result<Skipped> {
    let mut skipped = Skipped::default();
    for letter in text.split(',').map(str::trim).filter(|l| !l.is_empty()) {
        match letter {
            "c" => skipped.create = true,
            "u" => skipped.update = true,
            "d" => skipped.delete = true,
            "t" => skipped.truncate = true,
            "none" => return Ok(Skipped::default()),
            _ => {
                return Err(Error::config(
                    "skipped.operations",
                    text,
                    format!("Unknown operation \"{letter}\": give a list of c, u, d, t, or none"),
                ));
            }
        }
    }
    Ok(skipped)
}
