//! What can be set about consumer groups: for the broker, and for each group within the broker's limits.

use aqueduct_protocol::ids::BrokerId;

use super::assignor::Assignor;
use crate::metadata::{MetadataImage, Resource};

/// Keys that a group may set for itself.
const SESSION_TIMEOUT: &str = "consumer.session.timeout.ms";
const HEARTBEAT_INTERVAL: &str = "consumer.heartbeat.interval.ms";
const ASSIGNMENT_INTERVAL: &str = "consumer.assignment.interval.ms";

/// The broker's settings, each under the name of its key in `server.properties`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerOptions {
    /// `group.consumer.session.timeout.ms`
    pub session_timeout_ms: i32,
    /// `group.consumer.min.session.timeout.ms`, `group.consumer.max.session.timeout.ms`
    pub session_timeout_limits: (i32, i32),
    /// `group.consumer.heartbeat.interval.ms`
    pub heartbeat_interval_ms: i32,
    /// `group.consumer.min.heartbeat.interval.ms`, `group.consumer.max.heartbeat.interval.ms`
    pub heartbeat_interval_limits: (i32, i32),
    /// The broker that coordinates: what is set for it at run time counts.
    pub node_id: BrokerId,
    /// `group.consumer.assignment.interval.ms`, as the file has it.
    pub assignment_interval_ms: i32,
    /// `group.consumer.min.assignment.interval.ms`, `group.consumer.max.assignment.interval.ms`
    pub assignment_interval_limits: (i32, i32),
    /// `group.consumer.max.size`
    pub max_size: usize,
    /// `group.consumer.assignors`; the first is the default.
    pub assignors: Vec<Assignor>,
    /// `group.consumer.migration.policy`
    pub migration: Migration,
    /// `group.consumer.regex.refresh.interval.ms`
    pub pattern_refresh_ms: i64,
}

/// Which groups may turn into the other kind while they have members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migration {
    Disabled,
    /// Classic groups into consumer groups.
    Upgrade,
    /// Consumer groups into classic groups.
    Downgrade,
    Bidirectional,
}

impl Migration {
    /// The policy of a name; case does not matter.
    pub fn find(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "disabled" => Some(Self::Disabled),
            "upgrade" => Some(Self::Upgrade),
            "downgrade" => Some(Self::Downgrade),
            "bidirectional" => Some(Self::Bidirectional),
            _ => None,
        }
    }

    pub fn upgrades(self) -> bool {
        matches!(self, Self::Upgrade | Self::Bidirectional)
    }

    pub fn downgrades(self) -> bool {
        matches!(self, Self::Downgrade | Self::Bidirectional)
    }
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self {
            session_timeout_ms: 45_000,
            session_timeout_limits: (45_000, 60_000),
            heartbeat_interval_ms: 5_000,
            heartbeat_interval_limits: (5_000, 15_000),
            node_id: BrokerId(-1),
            assignment_interval_ms: 1_000,
            assignment_interval_limits: (0, 15_000),
            max_size: i32::MAX as usize,
            assignors: vec![Assignor::Uniform, Assignor::Range],
            migration: Migration::Bidirectional,
            pattern_refresh_ms: 600_000,
        }
    }
}

/// What holds for one group: its own settings within the broker's limits, or the broker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effective {
    pub session_timeout_ms: i32,
    pub heartbeat_interval_ms: i32,
    pub assignment_interval_ms: i32,
}

impl ConsumerOptions {
    pub fn effective(&self, image: &MetadataImage, group: &str) -> Effective {
        let set = image.config(&Resource::Group(group.to_owned().into()));
        let read = |key: &str, default: i32, (low, high): (i32, i32)| {
            let own = set.and_then(|set| set.get(key)).and_then(|value| value.trim().parse::<i32>().ok());
            own.map_or(default, |own| own.min(high).max(low))
        };
        Effective {
            session_timeout_ms: read(SESSION_TIMEOUT, self.session_timeout_ms, self.session_timeout_limits),
            heartbeat_interval_ms: read(
                HEARTBEAT_INTERVAL,
                self.heartbeat_interval_ms,
                self.heartbeat_interval_limits,
            ),
            assignment_interval_ms: read(
                ASSIGNMENT_INTERVAL,
                self.assignment_interval(image),
                self.assignment_interval_limits,
            ),
        }
    }

    /// The broker's interval: set for this broker, for all of them, or in the file.
    fn assignment_interval(&self, image: &MetadataImage) -> i32 {
        let set = |id: Option<BrokerId>| {
            let values = image.config(&Resource::Broker(id))?;
            values.get("group.consumer.assignment.interval.ms")?.trim().parse().ok()
        };
        set(Some(self.node_id)).or_else(|| set(None)).unwrap_or(self.assignment_interval_ms)
    }

    /// Names of the assignors, with commas between them.
    pub fn assignor_names(&self) -> String {
        self.assignors.iter().map(|assignor| assignor.name()).collect::<Vec<_>>().join(", ")
    }
}
