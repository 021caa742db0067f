//! The keys of a topic, the broker keys that stand behind them, and the typed configuration of one topic.

use std::collections::BTreeMap;
use std::time::Duration;

use bytestring::ByteString;

use super::Throttled;
use super::definition::{Check, ConfigError, Key, Kind, Scope, list};
use Check::{Any, AtLeast, Between, Fraction, OneOf};
use Kind::{Boolean, Double, Int, List, Long, String as Text};

/// How the value of a broker key becomes that of the topic key that it stands behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Same,
    HoursToMillis,
    MinutesToMillis,
}

impl Unit {
    /// The value in the topic key's unit; negative numbers mean "no limit" and stay.
    pub fn convert(self, value: &str) -> String {
        let factor = match self {
            Self::Same => return value.to_owned(),
            Self::HoursToMillis => 3_600_000,
            Self::MinutesToMillis => 60_000,
        };
        match value.trim().parse::<i64>() {
            Ok(n) if n >= 0 => n.saturating_mul(factor).to_string(),
            _ => value.to_owned(),
        }
    }
}

/// One row: the topic key, then the broker keys behind it, the strongest first.
#[derive(Debug, Clone, Copy)]
pub struct TopicKey {
    pub key: Key,
    pub synonyms: &'static [(&'static str, Unit)],
}

const fn row(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    check: Check,
    synonyms: &'static [(&'static str, Unit)],
    doc: &'static str,
) -> TopicKey {
    TopicKey { key: Key { name, kind, default: Some(default), check, scope: Scope::Dynamic, doc }, synonyms }
}

const MAX: &str = "9223372036854775807";

/// Every key that a topic may set.
#[rustfmt::skip]
pub const KEYS: &[TopicKey] = &[
    row("cleanup.policy", List, "delete", Check::EachOf(&["compact", "delete"]), &[("log.cleanup.policy", Unit::Same)], "What happens to old records: delete, compact or both."),
    row("compression.gzip.level", Int, "-1", Between(-1, 9), &[("compression.gzip.level", Unit::Same)], "Level of gzip."),
    row("compression.lz4.level", Int, "9", Between(1, 17), &[("compression.lz4.level", Unit::Same)], "Level of lz4."),
    row("compression.type", Text, "producer", OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]), &[("compression.type", Unit::Same)], "Compression of the log; producer keeps what was sent."),
    row("compression.zstd.level", Int, "3", Between(-131_072, 22), &[("compression.zstd.level", Unit::Same)], "Level of zstd."),
    row("delete.retention.ms", Long, "86400000", AtLeast(0), &[("log.cleaner.delete.retention.ms", Unit::Same)], "Time that a tombstone stays in a compacted topic."),
    row("file.delete.delay.ms", Long, "60000", AtLeast(0), &[("log.segment.delete.delay.ms", Unit::Same)], "Time between marking a file as deleted and removing it."),
    row("flush.messages", Long, MAX, AtLeast(1), &[("log.flush.interval.messages", Unit::Same)], "Records between two forced writes to disk."),
    row("flush.ms", Long, MAX, AtLeast(0), &[("log.flush.interval.ms", Unit::Same), ("log.flush.scheduler.interval.ms", Unit::Same)], "Time between two forced writes to disk."),
    row("follower.replication.throttled.replicas", List, "", Any, &[], "Replicas whose followers are throttled, PARTITION:BROKER or *."),
    row("index.interval.bytes", Int, "4096", AtLeast(0), &[("log.index.interval.bytes", Unit::Same)], "Bytes of log between two index entries."),
    row("leader.replication.throttled.replicas", List, "", Any, &[], "Replicas whose leaders are throttled, PARTITION:BROKER or *."),
    row("local.retention.bytes", Long, "-2", AtLeast(-2), &[("log.local.retention.bytes", Unit::Same)], "Size kept on local disk with tiered storage; -2 stands for retention.bytes."),
    row("local.retention.ms", Long, "-2", AtLeast(-2), &[("log.local.retention.ms", Unit::Same)], "Age kept on local disk with tiered storage; -2 stands for retention.ms."),
    row("max.compaction.lag.ms", Long, MAX, AtLeast(1), &[("log.cleaner.max.compaction.lag.ms", Unit::Same)], "Time that a record stays uncompacted at most."),
    row("max.message.bytes", Int, "1048588", AtLeast(0), &[("message.max.bytes", Unit::Same)], "Largest record batch in bytes, as compressed."),
    row("message.timestamp.after.max.ms", Long, "3600000", AtLeast(0), &[("log.message.timestamp.after.max.ms", Unit::Same)], "How far a record's timestamp may lie after the broker's clock."),
    row("message.timestamp.before.max.ms", Long, MAX, AtLeast(0), &[("log.message.timestamp.before.max.ms", Unit::Same)], "How far a record's timestamp may lie before the broker's clock."),
    row("message.timestamp.type", Text, "CreateTime", OneOf(&["CreateTime", "LogAppendTime"]), &[("log.message.timestamp.type", Unit::Same)], "Whether a record keeps the producer's timestamp or gets the broker's."),
    row("min.cleanable.dirty.ratio", Double, "0.5", Fraction(0.0, 1.0), &[("log.cleaner.min.cleanable.ratio", Unit::Same)], "Share of uncompacted bytes at which compaction starts."),
    row("min.compaction.lag.ms", Long, "0", AtLeast(0), &[("log.cleaner.min.compaction.lag.ms", Unit::Same)], "Time that a record stays uncompacted at least."),
    row("min.insync.replicas", Int, "1", AtLeast(1), &[("min.insync.replicas", Unit::Same)], "Replicas that must have a record before acks=all is answered."),
    row("preallocate", Boolean, "false", Any, &[("log.preallocate", Unit::Same)], "Whether a new segment takes its whole size on disk at once."),
    row("remote.log.copy.disable", Boolean, "false", Any, &[], "Whether tiered storage stops copying."),
    row("remote.log.delete.on.disable", Boolean, "false", Any, &[], "Whether tiered data is deleted when tiering is turned off."),
    row("remote.storage.enable", Boolean, "false", OneOf(&["false"]), &[], "Tiered storage; not available on this broker."),
    row("retention.bytes", Long, "-1", AtLeast(-1), &[("log.retention.bytes", Unit::Same)], "Size that a partition's log may reach before its oldest segments are deleted; -1 means no limit."),
    row("retention.ms", Long, "604800000", AtLeast(-1), &[("log.retention.ms", Unit::Same), ("log.retention.minutes", Unit::MinutesToMillis), ("log.retention.hours", Unit::HoursToMillis)], "Age at which records are deleted; -1 means never."),
    row("segment.bytes", Int, "1073741824", AtLeast(1024 * 1024), &[("log.segment.bytes", Unit::Same)], "Size at which a segment is closed and a new one begun."),
    row("segment.index.bytes", Int, "10485760", AtLeast(4), &[("log.index.size.max.bytes", Unit::Same)], "Largest size of an index file."),
    row("segment.jitter.ms", Long, "0", AtLeast(0), &[("log.roll.jitter.ms", Unit::Same), ("log.roll.jitter.hours", Unit::HoursToMillis)], "Most that is taken off segment.ms, at random."),
    row("segment.ms", Long, "604800000", AtLeast(1), &[("log.roll.ms", Unit::Same), ("log.roll.hours", Unit::HoursToMillis)], "Age at which a segment is closed and a new one begun."),
    row("unclean.leader.election.enable", Boolean, "false", Any, &[("unclean.leader.election.enable", Unit::Same)], "Whether a replica that may lack records can become leader."),
];

/// The row of a key.
pub fn find(name: &str) -> Option<&'static TopicKey> {
    KEYS.iter().find(|row| row.key.name == name)
}

/// Checks what a topic sets: known keys, values of their types and bounds, and values that agree with each other.
pub fn validate(overrides: &BTreeMap<ByteString, ByteString>) -> Result<(), ConfigError> {
    for (name, value) in overrides {
        let Some(row) = find(name) else {
            return Err(ConfigError::Conflict(format!("Unknown topic config name: {name}")));
        };
        row.key.validate(value)?;
    }
    let tiered = overrides.get("remote.storage.enable");
    if tiered.is_some_and(|value| value.trim().eq_ignore_ascii_case("true")) {
        return Err(ConfigError::Conflict(
            "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage."
                .to_owned(),
        ));
    }
    let number = |name: &str| overrides.get(name).and_then(|value| value.trim().parse::<i64>().ok());
    if let (Some(min), Some(max)) = (number("min.compaction.lag.ms"), number("max.compaction.lag.ms"))
        && min > max
    {
        return Err(ConfigError::Conflict(format!(
            "conflict topic config setting min.compaction.lag.ms ({min}) > max.compaction.lag.ms ({max})"
        )));
    }
    Ok(())
}

/// What a topic's configuration means to its partitions.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicConfig {
    pub compact: bool,
    pub delete: bool,
    pub delete_retention_ms: i64,
    pub min_compaction_lag_ms: i64,
    pub max_compaction_lag_ms: i64,
    pub min_cleanable_dirty_ratio: f64,
    /// Codec that the log is stored in; `None` keeps the producer's.
    pub compression: Option<String>,
    /// Of gzip, lz4 and zstd.
    pub compression_levels: (i32, i32, i32),
    pub file_delete_delay: Duration,
    pub flush_messages: i64,
    pub flush_ms: i64,
    pub index_interval_bytes: i32,
    pub max_message_bytes: i32,
    pub log_append_time: bool,
    pub timestamp_before_max_ms: i64,
    pub timestamp_after_max_ms: i64,
    pub min_insync_replicas: i32,
    pub leader_throttled: Throttled,
    pub follower_throttled: Throttled,
    pub preallocate: bool,
    pub retention_bytes: i64,
    pub retention_ms: i64,
    pub segment_bytes: i32,
    pub segment_index_bytes: i32,
    pub segment_jitter_ms: i64,
    pub segment_ms: i64,
}

impl TopicConfig {
    /// Reads the typed values; `value` gives the effective text of each key of [`KEYS`], already validated.
    pub fn resolve(value: impl Fn(&TopicKey) -> String) -> Self {
        let text = |name: &str| {
            let row = find(name).expect("a key of the table");
            let effective = value(row);
            match row.key.validate(&effective) {
                Ok(()) => effective,
                Err(_) => row.key.default.unwrap_or_default().to_owned(),
            }
        };
        let long = |name: &str| text(name).trim().parse::<i64>().expect("validated as a number");
        let int = |name: &str| text(name).trim().parse::<i32>().expect("validated as a number");
        let policy = text("cleanup.policy");
        let policy = list(&policy);
        let compression = text("compression.type");
        Self {
            compact: policy.contains(&"compact"),
            delete: policy.contains(&"delete"),
            delete_retention_ms: long("delete.retention.ms"),
            min_compaction_lag_ms: long("min.compaction.lag.ms"),
            max_compaction_lag_ms: long("max.compaction.lag.ms"),
            min_cleanable_dirty_ratio: text("min.cleanable.dirty.ratio")
                .trim()
                .parse()
                .expect("validated as a number"),
            compression_levels: (
                int("compression.gzip.level"),
                int("compression.lz4.level"),
                int("compression.zstd.level"),
            ),
            compression: (compression.trim() != "producer").then(|| compression.trim().to_owned()),
            file_delete_delay: Duration::from_millis(long("file.delete.delay.ms") as u64),
            flush_messages: long("flush.messages"),
            flush_ms: long("flush.ms"),
            index_interval_bytes: int("index.interval.bytes"),
            max_message_bytes: int("max.message.bytes"),
            log_append_time: text("message.timestamp.type").trim() == "LogAppendTime",
            timestamp_before_max_ms: long("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: long("message.timestamp.after.max.ms"),
            min_insync_replicas: int("min.insync.replicas"),
            leader_throttled: Throttled::parse(&text("leader.replication.throttled.replicas")),
            follower_throttled: Throttled::parse(&text("follower.replication.throttled.replicas")),
            preallocate: text("preallocate").trim().eq_ignore_ascii_case("true"),
            retention_bytes: long("retention.bytes"),
            retention_ms: long("retention.ms"),
            segment_bytes: int("segment.bytes"),
            segment_index_bytes: int("segment.index.bytes"),
            segment_jitter_ms: long("segment.jitter.ms"),
            segment_ms: long("segment.ms"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::broker_keys;

    #[test]
    fn synonyms_are_broker_keys_and_defaults_are_valid() {
        for row in KEYS {
            row.key.validate(row.key.default.unwrap()).unwrap();
            for (synonym, _) in row.synonyms {
                assert!(broker_keys::find_known(synonym).is_some(), "{synonym}");
            }
        }
    }

    #[test]
    fn hours_become_milliseconds_and_minus_one_stays() {
        assert_eq!(Unit::HoursToMillis.convert("168"), "604800000");
        assert_eq!(Unit::HoursToMillis.convert("-1"), "-1");
        assert_eq!(Unit::MinutesToMillis.convert("2"), "120000");
    }

    #[test]
    fn an_unknown_key_and_a_contradiction_are_refused() {
        let set = |pairs: &[(&str, &str)]| {
            let map = pairs.iter().map(|(k, v)| (ByteString::from(*k), ByteString::from(*v))).collect();
            validate(&map)
        };
        assert!(set(&[("retention.ms", "-1"), ("cleanup.policy", "compact,delete")]).is_ok());
        assert_eq!(set(&[("nope", "1")]).unwrap_err().to_string(), "Unknown topic config name: nope");
        assert!(set(&[("min.compaction.lag.ms", "5"), ("max.compaction.lag.ms", "4")]).is_err());
        assert!(set(&[("segment.bytes", "12")]).is_err());
    }
}
