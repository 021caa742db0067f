//! Sets of partitions by topic id.

use std::collections::{BTreeMap, BTreeSet};

use aqueduct_protocol::ids::Uuid;

/// Partitions of some topics; no topic is without partitions.
pub type Partitions = BTreeMap<Uuid, BTreeSet<i32>>;

/// Partitions, each with the epoch in which its member got it. No topic is without partitions.
pub type Owned = BTreeMap<Uuid, BTreeMap<i32, i32>>;

/// The partitions alone.
pub fn without_epochs(owned: &Owned) -> Partitions {
    owned.iter().map(|(topic, parts)| (*topic, parts.keys().copied().collect())).collect()
}

/// Every partition.
pub fn each(owned: &Owned) -> impl Iterator<Item = (Uuid, i32)> + '_ {
    owned.iter().flat_map(|(topic, parts)| parts.keys().map(|index| (*topic, *index)))
}

/// The epoch in which a partition was got.
pub fn epoch_of(owned: &Owned, topic: Uuid, index: i32) -> Option<i32> {
    owned.get(&topic)?.get(&index).copied()
}

/// Adds a partition.
pub fn give(owned: &mut Owned, topic: Uuid, index: i32, epoch: i32) {
    owned.entry(topic).or_default().insert(index, epoch);
}
