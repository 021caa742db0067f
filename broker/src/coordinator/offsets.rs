//! The committed offsets of one group.

use std::collections::BTreeMap;
use std::sync::Arc;

use aqueduct_protocol::ids::Uuid;

/// One committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Next offset to read.
    pub offset: i64,
    /// Of the last record read; -1 where unknown.
    pub leader_epoch: i32,
    /// Free text of the client.
    pub metadata: Box<str>,
    /// When it was committed, in milliseconds since 1970.
    pub commit_ms: i64,
    /// When it ends, where the client of an old version said so.
    pub expire_ms: Option<i64>,
    /// Of the topic at that time; zero in old records.
    pub topic_id: Uuid,
}

/// By topic name, then by partition index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Offsets {
    topics: BTreeMap<Arc<str>, BTreeMap<i32, Committed>>,
}

impl Offsets {
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    pub fn get(&self, topic: &str, partition: i32) -> Option<&Committed> {
        self.topics.get(topic)?.get(&partition)
    }

    pub fn insert(&mut self, topic: &Arc<str>, partition: i32, committed: Committed) {
        self.topics.entry(topic.clone()).or_default().insert(partition, committed);
    }

    pub fn remove(&mut self, topic: &str, partition: i32) {
        if let Some(partitions) = self.topics.get_mut(topic) {
            partitions.remove(&partition);
            if partitions.is_empty() {
                self.topics.remove(topic);
            }
        }
    }

    pub fn topics(&self) -> impl Iterator<Item = (&Arc<str>, &BTreeMap<i32, Committed>)> {
        self.topics.iter()
    }

    /// Every offset with its topic and partition.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, i32, &Committed)> {
        self.topics.iter().flat_map(|(topic, parts)| parts.iter().map(move |(index, at)| (topic, *index, at)))
    }
}

impl Committed {
    /// Whether the offset belongs to the topic with this id, as far as the ids are known.
    pub fn is_of(&self, topic_id: Uuid) -> bool {
        topic_id.is_zero() || self.topic_id.is_zero() || self.topic_id == topic_id
    }

    /// Whether the offset is too old: by its own end where it has one, else `retention_ms` after `since_ms`.
    pub fn is_expired(&self, wall_ms: i64, since_ms: i64, retention_ms: i64) -> bool {
        match self.expire_ms {
            Some(end) => wall_ms >= end,
            None => wall_ms.saturating_sub(since_ms) >= retention_ms,
        }
    }
}
