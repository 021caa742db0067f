//! How workers form a group and share out connectors and tasks: the JVM worker's own protocol, so that both can be members
//! of one group.
//!
//! [`blob`] is the bytes in JoinGroup and SyncGroup; [`eager`] and [`incremental`] decide who gets what.

pub mod blob;
pub mod eager;
pub mod incremental;

use std::collections::BTreeSet;

use crate::ids::{ConnectorName, TaskId};

/// Connectors and tasks, as a worker holds them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    pub connectors: BTreeSet<ConnectorName>,
    pub tasks: BTreeSet<TaskId>,
}

impl Load {
    pub fn is_empty(&self) -> bool {
        self.connectors.is_empty() && self.tasks.is_empty()
    }

    /// Adds all of `other`.
    pub fn add(&mut self, other: &Self) {
        self.connectors.extend(other.connectors.iter().cloned());
        self.tasks.extend(other.tasks.iter().cloned());
    }

    /// Takes away all of `other`.
    pub fn remove(&mut self, other: &Self) {
        self.connectors.retain(|c| !other.connectors.contains(c));
        self.tasks.retain(|t| !other.tasks.contains(t));
    }

    /// What is in `self` but not in `other`.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut left = self.clone();
        left.remove(other);
        left
    }

    /// What is in both.
    #[must_use]
    pub fn shared_with(&self, other: &Self) -> Self {
        Self {
            connectors: self.connectors.intersection(&other.connectors).cloned().collect(),
            tasks: self.tasks.intersection(&other.tasks).cloned().collect(),
        }
    }
}

/// Which protocols a worker offers (`connect.protocol`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// Everything stops in each rebalance.
    Eager,
    /// Only what moves stops.
    Compatible,
    /// As [`Protocol::Compatible`], with signed internal requests.
    Sessioned,
}

impl Protocol {
    /// Its name in JoinGroup.
    pub fn name(self) -> &'static str {
        match self {
            Self::Eager => "default",
            Self::Compatible => "compatible",
            Self::Sessioned => "sessioned",
        }
    }

    /// The value of `connect.protocol`.
    pub fn config_name(self) -> &'static str {
        match self {
            Self::Eager => "eager",
            other => other.name(),
        }
    }

    /// The protocol of that JoinGroup name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Eager, Self::Compatible, Self::Sessioned].into_iter().find(|p| p.name() == name)
    }

    /// The protocol of that `connect.protocol` value.
    pub fn from_config(name: &str) -> Option<Self> {
        [Self::Eager, Self::Compatible, Self::Sessioned].into_iter().find(|p| p.config_name() == name)
    }

    /// Version of its blobs.
    pub fn version(self) -> i16 {
        match self {
            Self::Eager => 0,
            Self::Compatible => 1,
            Self::Sessioned => 2,
        }
    }

    /// What a worker with this setting offers, in order of preference.
    pub fn offered(self) -> &'static [Self] {
        match self {
            Self::Eager => &[Self::Eager],
            Self::Compatible => &[Self::Compatible, Self::Eager],
            Self::Sessioned => &[Self::Sessioned, Self::Compatible, Self::Eager],
        }
    }
}
