//! Balanced, and with as little movement as that allows.
//!
//! Members keep what they own, unless somebody of a later generation claims it too. What is left goes to whoever has
//! least; then partitions move from those with most to those with least until no move makes the balance better.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use aqueduct_protocol::ids::PartitionIndex;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use bytestring::ByteString;

use super::{Assignment, Member, in_order, nothing, partition};
use crate::types::TopicPartition;

pub(super) fn assign(members: &[Member], topics: &BTreeMap<ByteString, usize>) -> Assignment {
    let owners = owners(members, topics);
    let mut plan = Plan::new(members);
    for (topic, count) in topics {
        for index in 0..*count {
            let partition = partition(topic, index);
            if let Some(owner) = owners.get(&partition) {
                plan.give(owner, partition);
            } else if plan.subscribers.contains_key(topic) {
                plan.left.push(partition);
            }
        }
    }
    plan.hand_out();
    plan.balance();
    plan.assignment
}

/// Takes away from the new owners what others have to give up first; the next round brings it.
pub(super) fn hold_back(members: &[Member], assignment: &mut Assignment) {
    let held: HashMap<&TopicPartition, &ByteString> = members
        .iter()
        .flat_map(|member| member.subscription.owned.iter().map(|partition| (partition, &member.id)))
        .collect();
    for (id, partitions) in assignment {
        partitions.retain(|partition| held.get(partition).is_none_or(|holder| *holder == id));
    }
}

/// `StickyAssignor`'s user data, version 1: previous assignment by topic, and generation.
pub(super) fn user_data(owned: &[TopicPartition], generation: i32) -> Bytes {
    let mut by_topic: BTreeMap<&ByteString, Vec<i32>> = BTreeMap::new();
    for partition in owned {
        by_topic.entry(&partition.topic).or_default().push(partition.partition.0);
    }
    let mut out = BytesMut::new();
    out.put_i32(by_topic.len() as i32);
    for (topic, indices) in by_topic {
        out.put_i16(topic.len() as i16);
        out.put_slice(topic.as_bytes());
        out.put_i32(indices.len() as i32);
        indices.into_iter().for_each(|index| out.put_i32(index));
    }
    out.put_i32(generation);
    out.freeze()
}

/// Reads what [`user_data`] writes; anything else says nothing.
fn read_user_data(mut bytes: Bytes) -> Option<(Vec<TopicPartition>, i32)> {
    let mut owned = Vec::new();
    let topics = bytes.try_get_i32().ok()?;
    for _ in 0..topics {
        let length = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
        if length > bytes.len() {
            return None;
        }
        let topic = ByteString::try_from(bytes.split_to(length)).ok()?;
        for _ in 0..bytes.try_get_i32().ok()? {
            let index = PartitionIndex(bytes.try_get_i32().ok()?);
            owned.push(TopicPartition { topic: topic.clone(), partition: index });
        }
    }
    Some((owned, bytes.try_get_i32().unwrap_or(-1)))
}

/// What a member says it owns: in the subscription, or as `StickyAssignor` does in its user data.
fn claims(member: &Member) -> (Vec<TopicPartition>, i32) {
    let subscription = &member.subscription;
    match &subscription.user_data {
        Some(data) if data.len() > 4 && subscription.owned.is_empty() => {
            read_user_data(data.clone()).unwrap_or_default()
        }
        // `CooperativeStickyAssignor` had the generation here before the subscription had a field for it.
        Some(data) if data.len() == 4 && subscription.generation < 0 => {
            (subscription.owned.clone(), data.clone().get_i32())
        }
        _ => (subscription.owned.clone(), subscription.generation),
    }
}

/// Who may keep what: the claim of the latest generation counts, and none where two are equally late.
fn owners(members: &[Member], topics: &BTreeMap<ByteString, usize>) -> HashMap<TopicPartition, ByteString> {
    let mut latest: HashMap<TopicPartition, (i32, Option<&Member>)> = HashMap::new();
    for member in members {
        let (owned, generation) = claims(member);
        for partition in owned {
            let exists =
                topics.get(&partition.topic).is_some_and(|count| (partition.partition.0 as usize) < *count);
            if !exists || !member.subscription.topics.contains(&partition.topic) {
                continue;
            }
            let claim = latest.entry(partition).or_insert((generation, None));
            match claim.1 {
                _ if generation > claim.0 => *claim = (generation, Some(member)),
                None if generation == claim.0 => claim.1 = Some(member),
                Some(_) if generation == claim.0 => *claim = (generation.saturating_add(1), None),
                _ => {}
            }
        }
    }
    latest.into_iter().filter_map(|(partition, (_, member))| Some((partition, member?.id.clone()))).collect()
}

/// An assignment in the making.
struct Plan<'a> {
    members: Vec<&'a Member>,
    /// Members that subscribe to a topic.
    subscribers: HashMap<&'a ByteString, Vec<&'a ByteString>>,
    assignment: Assignment,
    left: Vec<TopicPartition>,
}

impl<'a> Plan<'a> {
    fn new(members: &'a [Member]) -> Self {
        let sorted = in_order(members);
        let mut subscribers: HashMap<&ByteString, Vec<&ByteString>> = HashMap::new();
        for member in &sorted {
            let topics: BTreeSet<&ByteString> = member.subscription.topics.iter().collect();
            for topic in topics {
                subscribers.entry(topic).or_default().push(&member.id);
            }
        }
        Self { members: sorted, subscribers, assignment: nothing(members), left: Vec::new() }
    }

    fn load(&self, id: &ByteString) -> usize {
        self.assignment.get(id).map_or(0, Vec::len)
    }

    fn give(&mut self, id: &ByteString, partition: TopicPartition) {
        self.assignment.entry(id.clone()).or_default().push(partition);
    }

    /// The subscriber with least.
    fn neediest(&self, topic: &ByteString) -> Option<ByteString> {
        let subscribers = self.subscribers.get(topic)?;
        subscribers.iter().min_by_key(|id| self.load(id)).map(|id| (*id).clone())
    }

    fn hand_out(&mut self) {
        // Those that fewest may have come first, while their subscribers still have room.
        let mut left = std::mem::take(&mut self.left);
        left.sort_by_key(|partition| self.subscribers.get(&partition.topic).map_or(0, Vec::len));
        for partition in left {
            if let Some(id) = self.neediest(&partition.topic) {
                self.give(&id, partition);
            }
        }
    }

    /// Moves partitions from full to less full members, one by one.
    fn balance(&mut self) {
        // Each move brings two members closer together, so that this ends; the bound is for the proof's sake.
        let total: usize = self.assignment.values().map(Vec::len).sum();
        for _ in 0..total.saturating_mul(self.members.len().max(1)) {
            if !self.move_one() {
                return;
            }
        }
    }

    fn move_one(&mut self) -> bool {
        let mut from: Vec<&ByteString> = self.members.iter().map(|member| &member.id).collect();
        from.sort_by_key(|id| std::cmp::Reverse(self.load(id)));
        for giver in from {
            let load = self.load(giver);
            let mut tried = HashSet::new();
            let partitions = self.assignment.get(giver).map(Vec::as_slice).unwrap_or_default();
            // From the back: what was given last is not what was owned before.
            for (at, partition) in partitions.iter().enumerate().rev() {
                if !tried.insert(&partition.topic) {
                    continue;
                }
                let Some(taker) = self.neediest(&partition.topic).filter(|taker| self.load(taker) + 1 < load)
                else {
                    continue;
                };
                let moved = self.assignment.get_mut(giver).map(|partitions| partitions.remove(at));
                if let Some(partition) = moved {
                    self.give(&taker, partition);
                }
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{member, shown, topics};
    use super::*;

    #[test]
    fn keeps_what_is_owned_and_moves_only_the_surplus() {
        let members = [
            member("a", &["t"], &[("t", 0), ("t", 1), ("t", 2), ("t", 3)], 3),
            member("b", &["t"], &[("t", 4), ("t", 5)], 3),
            member("c", &["t"], &[], -1),
        ];
        let topics = topics(&[("t", 6)]);
        let mut assignment = assign(&members, &topics);
        assert_eq!(shown(&assignment), ["a: t-0 t-1", "b: t-4 t-5", "c: t-2 t-3"]);
        hold_back(&members, &mut assignment);
        assert_eq!(shown(&assignment), ["a: t-0 t-1", "b: t-4 t-5", "c: "], "a has to give up first");
    }

    #[test]
    fn the_latest_claim_counts() {
        let members = [
            member("a", &["t"], &[("t", 0), ("t", 1)], 2),
            member("b", &["t"], &[("t", 1), ("t", 0)], 3),
            member("c", &["t"], &[("t", 9)], 4),
        ];
        let owners = owners(&members, &topics(&[("t", 2)]));
        assert_eq!(owners.get(&TopicPartition::new("t", 0)), Some(&"b".into()));
        assert_eq!(owners.get(&TopicPartition::new("t", 9)), None, "does not exist");
    }

    #[test]
    fn user_data_round_trips_and_counts_as_a_claim() {
        let owned = vec![TopicPartition::new("t", 0), TopicPartition::new("u", 3)];
        let data = user_data(&owned, 7);
        assert_eq!(read_user_data(data.clone()), Some((owned, 7)));
        assert_eq!(read_user_data(data.slice(..5)), None);
        let mut one = member("a", &["t"], &[], -1);
        one.subscription.user_data = Some(user_data(&[TopicPartition::new("t", 1)], 7));
        let members = [one, member("b", &["t"], &[], -1)];
        assert_eq!(shown(&assign(&members, &topics(&[("t", 2)]))), ["a: t-1", "b: t-0"]);
    }

    proptest! {
        /// Every partition with a subscriber is assigned once, to a subscriber, and no single move improves the balance;
        /// a second round with the result as ownership moves nothing.
        #[test]
        fn is_complete_balanced_and_stable(
            counts in prop::collection::vec(0usize..7, 1..5),
            subscriptions in prop::collection::vec(prop::collection::vec(any::<bool>(), 5), 1..6),
        ) {
            let names: Vec<String> = (0..counts.len()).map(|n| format!("t{n}")).collect();
            let all: Vec<(&str, usize)> = names.iter().map(String::as_str).zip(counts.iter().copied()).collect();
            let topics = topics(&all);
            let mut members: Vec<Member> = subscriptions.iter().enumerate().map(|(n, wanted)| {
                let wanted: Vec<&str> =
                    names.iter().zip(wanted).filter(|(_, on)| **on).map(|(name, _)| name.as_str()).collect();
                member(&format!("m{n}"), &wanted, &[], 1)
            }).collect();
            let first = assign(&members, &topics);
            let mut seen = HashSet::new();
            for (id, partitions) in &first {
                let of = members.iter().find(|member| member.id == *id).expect("a member");
                for partition in partitions {
                    prop_assert!(of.subscription.topics.contains(&partition.topic));
                    prop_assert!(seen.insert(partition.clone()), "twice");
                    let least = members.iter()
                        .filter(|member| member.subscription.topics.contains(&partition.topic))
                        .map(|member| first[&member.id].len()).min().expect("at least this one");
                    prop_assert!(partitions.len() <= least + 1, "{:?}", first);
                }
            }
            let wanted: usize = topics.iter()
                .filter(|(topic, _)| members.iter().any(|member| member.subscription.topics.contains(topic)))
                .map(|(_, count)| count).sum();
            prop_assert_eq!(seen.len(), wanted);
            for member in &mut members {
                member.subscription.owned = first[&member.id].clone();
            }
            let second = assign(&members, &topics);
            prop_assert_eq!(shown(&second), shown(&first));
        }
    }
}
