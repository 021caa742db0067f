//! Exactly-once delivery of sources (KIP-618): what worker and connector say of it.

use std::time::Duration;

use aqueduct_connect_api::{Config, ConfigMap};

use super::{Mode, WorkerConfig};
use crate::ids::TaskId;

/// `exactly.once.source.support` of a worker: a cluster goes from one to the next, worker by worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExactlyOnceSource {
    Disabled,
    /// The leader writes the config topic in transactions, and so can be fenced; sources do not yet.
    Preparing,
    Enabled,
}

impl WorkerConfig {
    pub fn exactly_once_source(&self) -> ExactlyOnceSource {
        if self.mode() == Mode::Standalone {
            return ExactlyOnceSource::Disabled;
        }
        match self.text("exactly.once.source.support").to_ascii_lowercase().as_str() {
            "enabled" => ExactlyOnceSource::Enabled,
            "preparing" => ExactlyOnceSource::Preparing,
            _ => ExactlyOnceSource::Disabled,
        }
    }

    /// Whether sources deliver exactly once.
    pub fn exactly_once_enabled(&self) -> bool {
        self.exactly_once_source() == ExactlyOnceSource::Enabled
    }

    /// The transactional id of the leader's writes to the config topic, where it makes them in transactions.
    pub fn leader_transactional_id(&self) -> Option<String> {
        (self.exactly_once_source() != ExactlyOnceSource::Disabled)
            .then(|| format!("connect-cluster-{}", self.group_id()))
    }

    /// The transactional id of a source task.
    pub fn task_transactional_id(&self, id: &TaskId) -> String {
        format!("{}-{id}", self.group_id())
    }

    /// Brokers of the worker's own clients.
    pub fn bootstrap_servers(&self) -> String {
        self.originals().get("bootstrap.servers").map_or("localhost:9092", |s| s.trim()).to_owned()
    }
}

/// What ends a transaction of a source (`transaction.boundary`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionBoundary {
    /// Each batch that the task gives.
    Poll,
    /// Time.
    Interval(Duration),
    /// The task says.
    Connector,
}

impl TransactionBoundary {
    /// Reads the setting of a source; `flush` is the worker's `offset.flush.interval.ms`.
    pub fn read(config: &Config, flush: Duration) -> Self {
        match config.text("transaction.boundary").to_ascii_lowercase().as_str() {
            "interval" => {
                let own = config.integer("transaction.boundary.interval.ms");
                let own = own.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
                Self::Interval(own.unwrap_or(flush))
            }
            "connector" => Self::Connector,
            _ => Self::Poll,
        }
    }
}

/// The connector's own offsets topic, where it names one.
pub fn own_offsets_topic(connector: &ConfigMap) -> Option<&str> {
    connector.get("offsets.storage.topic").map(|topic| topic.trim()).filter(|topic| !topic.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(support: &str) -> WorkerConfig {
        let settings = [
            ("group.id", "g"),
            ("config.storage.topic", "c"),
            ("offset.storage.topic", "o"),
            ("status.storage.topic", "s"),
            ("key.converter", "K"),
            ("value.converter", "V"),
            ("exactly.once.source.support", support),
        ];
        let settings = settings.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        WorkerConfig::from_properties(&settings, Mode::Distributed).expect("valid")
    }

    #[test]
    fn transactional_ids_are_those_of_the_reference() {
        assert_eq!(worker("disabled").leader_transactional_id(), None);
        assert_eq!(worker("PREPARING").leader_transactional_id().as_deref(), Some("connect-cluster-g"));
        assert!(!worker("preparing").exactly_once_enabled());
        let enabled = worker("enabled");
        assert!(enabled.exactly_once_enabled());
        assert_eq!(enabled.task_transactional_id(&TaskId::new("a-b", 3)), "g-a-b-3");
    }
}
