//! Assignors of the server: who reads which partitions, decided from the subscriptions and the target before.

mod range;
mod uniform;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use aqueduct_protocol::ids::Uuid;

use super::partitions::Partitions;
use crate::coordinator::ids::{InstanceId, MemberId};

/// One way of assigning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Assignor {
    /// As even as can be over all topics, and with as few moves as possible.
    Uniform,
    /// Neighbouring partitions of each topic, the same way in topics with equal numbers.
    Range,
}

impl Assignor {
    /// Its name in requests and settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// The assignor of a name; also of the name of Kafka's class.
    pub fn find(name: &str) -> Option<Self> {
        match name.rsplit('.').next()? {
            "uniform" | "UniformAssignor" => Some(Self::Uniform),
            "range" | "RangeAssignor" => Some(Self::Range),
            _ => None,
        }
    }

    /// The target assignment: every partition that somebody reads has exactly one member, and every member an entry.
    pub fn assign(self, spec: &Spec) -> HashMap<MemberId, Partitions> {
        match self {
            Self::Uniform => uniform::assign(spec),
            Self::Range => range::assign(spec),
        }
    }
}

impl fmt::Display for Assignor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What an assignment is decided from.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    pub members: Vec<SpecMember>,
    /// How many partitions each subscribed topic has.
    pub topics: BTreeMap<Uuid, i32>,
}

/// A member as an assignor sees it.
#[derive(Clone, Debug)]
pub struct SpecMember {
    pub id: MemberId,
    pub instance_id: Option<InstanceId>,
    /// Topics that it reads and that there are.
    pub topics: Arc<BTreeSet<Uuid>>,
    /// Its part of the target before.
    pub before: Arc<Partitions>,
}

impl Spec {
    fn is_homogeneous(&self) -> bool {
        let mut members = self.members.iter();
        let Some(first) = members.next() else { return true };
        members.all(|member| Arc::ptr_eq(&member.topics, &first.topics) || member.topics == first.topics)
    }

    fn partitions(&self, topic: Uuid) -> i32 {
        self.topics.get(&topic).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
