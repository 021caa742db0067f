//! The keys that a group may set (resource type 32), each with the broker key behind it and the broker keys that bound it.

use std::collections::BTreeMap;

use bytestring::ByteString;

use super::definition::{Check, ConfigError, Key, Kind, Scope};
use Kind::{Boolean, Int, String as Text};

/// One row.
#[derive(Debug, Clone, Copy)]
pub struct GroupKey {
    pub key: Key,
    /// The broker key that counts where the group sets nothing.
    pub synonym: Option<&'static str>,
    /// The broker keys that give the smallest and the largest value.
    pub bounds: (Option<&'static str>, Option<&'static str>),
}

const fn row(
    name: &'static str,
    default: &'static str,
    synonym: &'static str,
    low: Option<&'static str>,
    high: Option<&'static str>,
    doc: &'static str,
) -> GroupKey {
    let key =
        Key { name, kind: Int, default: Some(default), check: Check::AtLeast(0), scope: Scope::Dynamic, doc };
    GroupKey { key, synonym: Some(synonym), bounds: (low, high) }
}

const fn plain(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    check: Check,
    doc: &'static str,
) -> GroupKey {
    let key = Key { name, kind, default: Some(default), check, scope: Scope::Dynamic, doc };
    GroupKey { key, synonym: None, bounds: (None, None) }
}

const SHARE: &str = "Of share groups, which this broker does not serve.";
const STREAMS: &str = "Of streams groups, which this broker does not serve.";

/// Every key that a group may set.
#[rustfmt::skip]
pub const KEYS: &[GroupKey] = &[
    row("consumer.assignment.interval.ms", "1000", "group.consumer.assignment.interval.ms", Some("group.consumer.min.assignment.interval.ms"), Some("group.consumer.max.assignment.interval.ms"), "Shortest time between two target assignments of a consumer group."),
    row("consumer.heartbeat.interval.ms", "5000", "group.consumer.heartbeat.interval.ms", Some("group.consumer.min.heartbeat.interval.ms"), Some("group.consumer.max.heartbeat.interval.ms"), "Time between two heartbeats that members of a consumer group are told."),
    row("consumer.session.timeout.ms", "45000", "group.consumer.session.timeout.ms", Some("group.consumer.min.session.timeout.ms"), Some("group.consumer.max.session.timeout.ms"), "Time after which a silent member of a consumer group is removed."),
    row("share.assignment.interval.ms", "1000", "group.share.assignment.interval.ms", Some("group.share.min.assignment.interval.ms"), Some("group.share.max.assignment.interval.ms"), SHARE),
    plain("share.auto.offset.reset", Text, "latest", Check::Any, SHARE),
    row("share.delivery.count.limit", "5", "group.share.delivery.count.limit", Some("group.share.min.delivery.count.limit"), Some("group.share.max.delivery.count.limit"), SHARE),
    row("share.heartbeat.interval.ms", "5000", "group.share.heartbeat.interval.ms", Some("group.share.min.heartbeat.interval.ms"), Some("group.share.max.heartbeat.interval.ms"), SHARE),
    plain("share.isolation.level", Text, "read_uncommitted", Check::OneOf(&["read_committed", "read_uncommitted"]), SHARE),
    row("share.partition.max.record.locks", "2000", "group.share.partition.max.record.locks", Some("group.share.min.partition.max.record.locks"), Some("group.share.max.partition.max.record.locks"), SHARE),
    row("share.record.lock.duration.ms", "30000", "group.share.record.lock.duration.ms", Some("group.share.min.record.lock.duration.ms"), Some("group.share.max.record.lock.duration.ms"), SHARE),
    plain("share.renew.acknowledge.enable", Boolean, "true", Check::Any, SHARE),
    row("share.session.timeout.ms", "45000", "group.share.session.timeout.ms", Some("group.share.min.session.timeout.ms"), Some("group.share.max.session.timeout.ms"), SHARE),
    row("streams.assignment.interval.ms", "1000", "group.streams.assignment.interval.ms", Some("group.streams.min.assignment.interval.ms"), Some("group.streams.max.assignment.interval.ms"), STREAMS),
    row("streams.heartbeat.interval.ms", "5000", "group.streams.heartbeat.interval.ms", Some("group.streams.min.heartbeat.interval.ms"), Some("group.streams.max.heartbeat.interval.ms"), STREAMS),
    row("streams.initial.rebalance.delay.ms", "3000", "group.streams.initial.rebalance.delay.ms", None, None, STREAMS),
    row("streams.num.standby.replicas", "0", "group.streams.num.standby.replicas", None, Some("group.streams.max.standby.replicas"), STREAMS),
    row("streams.session.timeout.ms", "45000", "group.streams.session.timeout.ms", Some("group.streams.min.session.timeout.ms"), Some("group.streams.max.session.timeout.ms"), STREAMS),
];

/// The row of a key.
pub fn find(name: &str) -> Option<&'static GroupKey> {
    KEYS.iter().find(|row| row.key.name == name)
}

/// Checks names and types of what a group sets.
pub fn validate(values: &BTreeMap<ByteString, ByteString>) -> Result<(), ConfigError> {
    for (name, value) in values {
        let Some(row) = find(name) else {
            return Err(ConfigError::Conflict(format!("Unknown group config name: {name}")));
        };
        row.key.validate(value)?;
    }
    Ok(())
}

/// Checks values against the bounds that the broker sets; `broker` gives the value of a broker key in force.
pub fn validate_bounds(
    values: &BTreeMap<ByteString, ByteString>,
    broker: impl Fn(&str) -> Option<i64>,
) -> Result<(), ConfigError> {
    for row in KEYS {
        let Some(value) = values.get(row.key.name).and_then(|value| value.trim().parse::<i64>().ok()) else {
            continue;
        };
        let (low, high) = row.bounds;
        let name = row.key.name;
        if let Some((key, low)) = low.and_then(|key| Some((key, broker(key)?)))
            && value < low
        {
            return Err(ConfigError::Conflict(format!(
                "{name} must be greater than or equal to {key} ({low})"
            )));
        }
        if let Some((key, high)) = high.and_then(|key| Some((key, broker(key)?)))
            && value > high
        {
            return Err(ConfigError::Conflict(format!(
                "{name} must be less than or equal to {key} ({high})"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::broker_keys;

    #[test]
    fn the_keys_behind_are_broker_keys_with_the_same_default() {
        for row in KEYS {
            row.key.validate(row.key.default.unwrap()).unwrap();
            if let Some(synonym) = row.synonym {
                let key = broker_keys::find_known(synonym).expect(synonym);
                assert_eq!(key.default, row.key.default, "{synonym}");
            }
            for bound in [row.bounds.0, row.bounds.1].into_iter().flatten() {
                assert!(broker_keys::find_known(bound).is_some(), "{bound}");
            }
        }
    }

    #[test]
    fn bounds_name_the_broker_key() {
        let of = |value: &str| BTreeMap::from([("consumer.session.timeout.ms".into(), value.into())]);
        let broker = |key: &str| broker_keys::find_known(key)?.default?.parse().ok();
        assert!(validate_bounds(&of("50000"), broker).is_ok());
        let low = validate_bounds(&of("5"), broker).unwrap_err().to_string();
        assert!(
            low.contains("must be greater than or equal to group.consumer.min.session.timeout.ms"),
            "{low}"
        );
        assert!(validate_bounds(&of("60001"), broker).is_err());
        assert!(validate(&BTreeMap::from([("no.key".into(), "1".into())])).is_err());
    }
}
