//! Offsets that producers have sent as part of transactions which have not ended.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use aqueduct_protocol::ids::ProducerId;

use super::ids::GroupId;
use super::offsets::Committed;

/// Which offset: topic name and partition index.
type Place = (Arc<str>, i32);

/// An offset and its place among all that were written to the log.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pending {
    at: Committed,
    order: u64,
}

/// What became certain with the end of a transaction.
pub(super) type Settled = (GroupId, Arc<str>, i32, Committed);

/// The open transactions of one shard, by producer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct OpenTransactions {
    producers: HashMap<ProducerId, BTreeMap<(GroupId, Place), Pending>>,
    groups: HashMap<GroupId, HashMap<Place, HashSet<ProducerId>>>,
    last_order: u64,
}

impl OpenTransactions {
    /// An offset that was written for a transaction; a later one of the same producer takes its place.
    pub fn add(
        &mut self,
        producer: ProducerId,
        group: &GroupId,
        topic: &Arc<str>,
        partition: i32,
        at: Committed,
    ) {
        self.last_order += 1;
        let place = (topic.clone(), partition);
        let pending = Pending { at, order: self.last_order };
        self.producers.entry(producer).or_default().insert((group.clone(), place.clone()), pending);
        self.groups.entry(group.clone()).or_default().entry(place).or_default().insert(producer);
    }

    /// An offset was committed outside of transactions, or deleted: what was written before it counts no more. The end
    /// of an offset also ends those that are yet to be committed.
    pub fn supersede(&mut self, group: &GroupId, topic: &Arc<str>, partition: i32) {
        self.drop_before(group, &(topic.clone(), partition), u64::MAX);
    }

    fn drop_before(&mut self, group: &GroupId, place: &Place, order: u64) {
        let Some(producers) = self.groups.get(group).and_then(|places| places.get(place)) else { return };
        let key = (group.clone(), place.clone());
        let older = |id: &&ProducerId| {
            self.producers.get(*id).and_then(|held| held.get(&key)).is_some_and(|p| p.order < order)
        };
        let gone: Vec<ProducerId> = producers.iter().filter(older).copied().collect();
        for producer in gone {
            if let Some(held) = self.producers.get_mut(&producer) {
                held.remove(&key);
            }
            self.unlink(producer, group, place);
        }
    }

    fn unlink(&mut self, producer: ProducerId, group: &GroupId, place: &Place) {
        let Some(places) = self.groups.get_mut(group) else { return };
        if let Some(producers) = places.get_mut(place) {
            producers.remove(&producer);
            if producers.is_empty() {
                places.remove(place);
            }
        }
        if places.is_empty() {
            self.groups.remove(group);
        }
    }

    /// A producer's transaction has ended: gives what counts from now on, in case that it was committed.
    pub fn end(&mut self, producer: ProducerId, committed: bool) -> Vec<Settled> {
        let held = self.producers.remove(&producer).unwrap_or_default();
        let mut settled = Vec::new();
        for ((group, place), pending) in held {
            self.unlink(producer, &group, &place);
            if committed {
                // Another producer that wrote earlier and ends later does not take it back.
                self.drop_before(&group, &place, pending.order);
                settled.push((group, place.0, place.1, pending.at));
            }
        }
        settled
    }

    /// Whether an offset of the group may still change.
    pub fn holds(&self, group: &str, topic: &Arc<str>, partition: i32) -> bool {
        self.groups.get(group).is_some_and(|places| places.contains_key(&(topic.clone(), partition)))
    }

    /// Whether any offset of the group may still change.
    pub fn holds_any(&self, group: &str) -> bool {
        self.groups.contains_key(group)
    }

    /// Every place in the group whose offset may still change.
    pub fn places(&self, group: &str) -> impl Iterator<Item = (&Arc<str>, i32)> {
        self.groups
            .get(group)
            .into_iter()
            .flat_map(|places| places.keys().map(|(topic, index)| (topic, *index)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: i64) -> Committed {
        Committed {
            offset,
            leader_epoch: -1,
            metadata: "".into(),
            commit_ms: 0,
            expire_ms: None,
            topic_id: Default::default(),
        }
    }

    fn settled(open: &mut OpenTransactions, producer: i64) -> Vec<i64> {
        open.end(ProducerId(producer), true).into_iter().map(|(.., at)| at.offset).collect()
    }

    #[test]
    fn what_was_written_last_wins_whoever_ends_first() {
        let (group, topic): (GroupId, Arc<str>) = ("g".into(), "t".into());
        let mut open = OpenTransactions::default();
        let add = |open: &mut OpenTransactions, producer, offset| {
            open.add(ProducerId(producer), &group, &topic, 0, at(offset));
        };
        add(&mut open, 1, 5);
        add(&mut open, 1, 6);
        assert!(open.holds("g", &topic, 0) && !open.holds("g", &topic, 1) && !open.holds("h", &topic, 0));
        add(&mut open, 2, 7);
        assert_eq!(settled(&mut open, 2), [7]);
        assert_eq!(settled(&mut open, 1), [0i64; 0], "written before 7");
        add(&mut open, 1, 8);
        add(&mut open, 2, 9);
        assert_eq!(settled(&mut open, 1), [8]);
        assert_eq!(settled(&mut open, 2), [9]);
        add(&mut open, 1, 10);
        open.supersede(&group, &topic, 0);
        assert!(!open.holds_any("g"));
        assert_eq!(settled(&mut open, 1), [0i64; 0]);
        add(&mut open, 1, 11);
        assert!(open.end(ProducerId(1), false).is_empty());
        assert_eq!((open.producers.len(), open.groups.len()), (0, 0));
    }
}
