//! Which broker keys may change while the broker runs, and the names that they have for one listener.
//!
//! Kafka lists about a hundred. Here a few of them stay read-only, because this broker would not follow them:
//! `listeners`, `listener.security.protocol.map`, `cordoned.log.dirs`, and those that name Java classes or Kerberos.

use super::broker_keys;
use super::definition::{Key, Kind, Scope};

/// What names of keys for one listener begin with, the listener's name in lower case and a dot after it.
const LISTENER: &str = "listener.name.";

/// Keys that may be set for all brokers or for one.
const CLUSTER: &[&str] = &[
    "background.threads",
    "compression.gzip.level",
    "compression.lz4.level",
    "compression.type",
    "compression.zstd.level",
    "follower.fetch.last.tiered.offset.enable",
    "follower.replication.throttled.rate",
    "group.consumer.assignment.interval.ms",
    "group.coordinator.cached.buffer.max.bytes",
    "group.share.assignment.interval.ms",
    "group.streams.assignment.interval.ms",
    "leader.replication.throttled.rate",
    "log.cleaner.backoff.ms",
    "log.cleaner.dedupe.buffer.size",
    "log.cleaner.delete.retention.ms",
    "log.cleaner.io.buffer.load.factor",
    "log.cleaner.io.buffer.size",
    "log.cleaner.io.max.bytes.per.second",
    "log.cleaner.max.compaction.lag.ms",
    "log.cleaner.min.cleanable.ratio",
    "log.cleaner.min.compaction.lag.ms",
    "log.cleaner.threads",
    "log.cleanup.policy",
    "log.flush.interval.messages",
    "log.flush.interval.ms",
    "log.index.interval.bytes",
    "log.index.size.max.bytes",
    "log.local.retention.bytes",
    "log.local.retention.ms",
    "log.message.timestamp.after.max.ms",
    "log.message.timestamp.before.max.ms",
    "log.message.timestamp.type",
    "log.preallocate",
    "log.retention.bytes",
    "log.retention.ms",
    "log.roll.jitter.ms",
    "log.roll.ms",
    "log.segment.bytes",
    "log.segment.delete.delay.ms",
    "max.connection.creation.rate",
    "max.connections",
    "max.connections.per.ip",
    "max.connections.per.ip.overrides",
    "message.max.bytes",
    "metric.reporters",
    "min.insync.replicas",
    "num.io.threads",
    "num.network.threads",
    "num.recovery.threads.per.data.dir",
    "num.replica.fetchers",
    "producer.id.expiration.ms",
    "remote.fetch.max.wait.ms",
    "remote.list.offsets.request.timeout.ms",
    "remote.log.index.file.cache.total.size.bytes",
    "remote.log.manager.copier.thread.pool.size",
    "remote.log.manager.copy.max.bytes.per.second",
    "remote.log.manager.expiration.thread.pool.size",
    "remote.log.manager.fetch.max.bytes.per.second",
    "remote.log.manager.follower.thread.pool.size",
    "remote.log.reader.threads",
    "replica.alter.log.dirs.io.max.bytes.per.second",
    "share.coordinator.cached.buffer.max.bytes",
    "transaction.partition.verification.enable",
    "unclean.leader.election.enable",
];

/// Keys of TLS and SASL: they change for one broker and one listener, under the listener's prefix.
const PER_LISTENER: &[&str] = &[
    "sasl.enabled.mechanisms",
    "sasl.jaas.config",
    "sasl.login.refresh.buffer.seconds",
    "sasl.login.refresh.min.period.seconds",
    "sasl.login.refresh.window.factor",
    "sasl.login.refresh.window.jitter",
    "ssl.cipher.suites",
    "ssl.client.auth",
    "ssl.enabled.protocols",
    "ssl.endpoint.identification.algorithm",
    "ssl.key.password",
    "ssl.keymanager.algorithm",
    "ssl.keystore.certificate.chain",
    "ssl.keystore.key",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "ssl.keystore.type",
    "ssl.protocol",
    "ssl.provider",
    "ssl.secure.random.implementation",
    "ssl.trustmanager.algorithm",
    "ssl.truststore.certificates",
    "ssl.truststore.location",
    "ssl.truststore.password",
    "ssl.truststore.type",
];

/// Whether a broker key may change at run time.
pub fn scope(name: &str) -> Scope {
    if CLUSTER.contains(&name) || broker_keys::find(name).is_some_and(|key| key.scope == Scope::Dynamic) {
        Scope::Dynamic
    } else if PER_LISTENER.contains(&name) {
        Scope::PerListener
    } else {
        Scope::ReadOnly
    }
}

/// A key as it is written for a broker: `KEY`, `listener.name.LISTENER.KEY` or `listener.name.LISTENER.MECHANISM.KEY`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named<'a> {
    /// In lower case, as Kafka writes it.
    pub listener: Option<&'a str>,
    /// What the key is called without its prefix.
    pub base: &'a str,
}

impl<'a> Named<'a> {
    /// Takes a name apart. A prefix that no known key follows stays part of the name.
    pub fn parse(name: &'a str) -> Self {
        let plain = Self { listener: None, base: name };
        let Some((listener, rest)) = name.strip_prefix(LISTENER).and_then(|rest| rest.split_once('.')) else {
            return plain;
        };
        if broker_keys::find_known(rest).is_some() {
            return Self { listener: Some(listener), base: rest };
        }
        match rest.split_once('.') {
            Some((_mechanism, key)) if broker_keys::find_known(key).is_some() => {
                Self { listener: Some(listener), base: key }
            }
            _ => plain,
        }
    }

    /// The row of the key, where Kafka knows it.
    pub fn key(&self) -> Option<&'static Key> {
        broker_keys::find_known(self.base)
    }
}

/// Whether a value of this key must not be shown. What nobody knows may be a secret of a plug-in.
pub fn is_secret(name: &str) -> bool {
    Named::parse(name).key().is_none_or(|key| key.kind == Kind::Password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dynamic_keys_are_known() {
        // Quota rates of replication belong to Kafka's dynamic keys alone.
        let unlisted = [
            "follower.replication.throttled.rate",
            "leader.replication.throttled.rate",
            "replica.alter.log.dirs.io.max.bytes.per.second",
        ];
        for name in CLUSTER.iter().chain(PER_LISTENER) {
            assert!(broker_keys::find_known(name).is_some() || unlisted.contains(name), "{name}");
        }
    }

    #[test]
    fn names_for_a_listener_are_taken_apart() {
        let named = Named::parse("listener.name.external.ssl.keystore.location");
        assert_eq!(named, Named { listener: Some("external"), base: "ssl.keystore.location" });
        let named = Named::parse("listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config");
        assert_eq!(named, Named { listener: Some("sasl_ssl"), base: "sasl.jaas.config" });
        for plain in ["listener.name.x.no.such", "log.dirs", "listener.name."] {
            assert_eq!(Named::parse(plain), Named { listener: None, base: plain });
        }
        assert!(is_secret("listener.name.x.ssl.keystore.password") && is_secret("no.such.key"));
        assert!(!is_secret("listener.name.x.ssl.keystore.location"));
    }

    #[test]
    fn scopes_are_kafkas_or_stricter() {
        assert_eq!(scope("log.retention.ms"), Scope::Dynamic);
        assert_eq!(scope("max.connections"), Scope::Dynamic);
        assert_eq!(scope("ssl.keystore.location"), Scope::PerListener);
        assert_eq!(scope("log.dirs"), Scope::ReadOnly);
        assert_eq!(scope("listeners"), Scope::ReadOnly);
    }
}
