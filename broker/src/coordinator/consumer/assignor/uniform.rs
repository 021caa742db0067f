//! Even first, sticky second.
//!
//! Where all members read the same topics, sizes differ by one at most, and no partition moves that need not. Otherwise
//! partitions stay where they may, the rest goes to whoever has least, and then partitions move from the fullest reader
//! of a topic to its emptiest while that makes a difference.

use std::collections::{BTreeSet, HashMap};

use aqueduct_protocol::ids::Uuid;

use super::{Partitions, Spec};
use crate::coordinator::ids::MemberId;

/// Each pass about halves what is left to even out.
const PASSES: usize = 16;

pub fn assign(spec: &Spec) -> HashMap<MemberId, Partitions> {
    let mut plan = Plan::keep(spec);
    if spec.is_homogeneous() {
        plan.even_out_all();
    } else {
        plan.hand_out();
        plan.even_out_by_topic();
    }
    let ids = spec.members.iter().map(|member| member.id.clone());
    ids.zip(plan.given).collect()
}

struct Plan<'a> {
    spec: &'a Spec,
    /// By the member's place in the spec.
    given: Vec<Partitions>,
    sizes: Vec<usize>,
    left: Vec<(Uuid, i32)>,
}

impl<'a> Plan<'a> {
    /// Everyone keeps what they read and what there is; the rest is left.
    fn keep(spec: &'a Spec) -> Self {
        let mut taken: HashMap<Uuid, BTreeSet<i32>> = HashMap::new();
        let mut given = Vec::with_capacity(spec.members.len());
        let mut sizes = Vec::with_capacity(spec.members.len());
        for member in &spec.members {
            let mut kept = Partitions::new();
            for (topic, partitions) in &*member.before {
                if !member.topics.contains(topic) {
                    continue;
                }
                let all = taken.entry(*topic).or_default();
                let count = spec.partitions(*topic);
                let own: BTreeSet<i32> =
                    partitions.iter().copied().filter(|index| *index < count && all.insert(*index)).collect();
                if !own.is_empty() {
                    kept.insert(*topic, own);
                }
            }
            sizes.push(kept.values().map(BTreeSet::len).sum());
            given.push(kept);
        }
        let read: BTreeSet<Uuid> =
            spec.members.iter().flat_map(|member| member.topics.iter().copied()).collect();
        let none = BTreeSet::new();
        let left = read
            .into_iter()
            .flat_map(|topic| {
                let taken = taken.get(&topic).unwrap_or(&none);
                (0..spec.partitions(topic))
                    .filter(|index| !taken.contains(index))
                    .map(move |index| (topic, index))
            })
            .collect();
        Self { spec, given, sizes, left }
    }

    fn give(&mut self, member: usize, (topic, index): (Uuid, i32)) {
        self.given[member].entry(topic).or_default().insert(index);
        self.sizes[member] += 1;
    }

    fn take(&mut self, member: usize, (topic, index): (Uuid, i32)) {
        if let Some(partitions) = self.given[member].get_mut(&topic) {
            self.sizes[member] -= usize::from(partitions.remove(&index));
            if partitions.is_empty() {
                self.given[member].remove(&topic);
            }
        }
    }

    /// All read the same: everyone has the same number, some one more. Those who have most are the ones with one more,
    /// so that they lose nothing.
    fn even_out_all(&mut self) {
        if self.given.is_empty() {
            return;
        }
        let total = self.left.len() + self.sizes.iter().sum::<usize>();
        let (each, extra) = (total / self.given.len(), total % self.given.len());
        let mut order: Vec<usize> = (0..self.given.len()).collect();
        order.sort_by(|a, b| {
            let id = |at: usize| &self.spec.members[at].id;
            self.sizes[*b].cmp(&self.sizes[*a]).then_with(|| id(*a).cmp(id(*b)))
        });
        let quota = |place: usize| each + usize::from(place < extra);
        for (place, member) in order.iter().enumerate() {
            while self.sizes[*member] > quota(place) {
                // From the topic of which it has most, so that topics stay spread.
                let Some((topic, parts)) = self.given[*member].iter().max_by_key(|(_, parts)| parts.len())
                else {
                    break;
                };
                let Some(last) = parts.last() else { break };
                let partition = (*topic, *last);
                self.take(*member, partition);
                self.left.push(partition);
            }
        }
        let mut left = std::mem::take(&mut self.left).into_iter();
        for (place, member) in order.into_iter().enumerate() {
            while self.sizes[member] < quota(place) {
                let Some(partition) = left.next() else { return };
                self.give(member, partition);
            }
        }
    }

    /// By topic: the places of the members that read it.
    fn readers(&self) -> HashMap<Uuid, Vec<usize>> {
        let mut readers: HashMap<Uuid, Vec<usize>> = HashMap::new();
        for (at, member) in self.spec.members.iter().enumerate() {
            member.topics.iter().for_each(|topic| readers.entry(*topic).or_default().push(at));
        }
        readers
    }

    /// What is left goes to the reader with least; topics that few read come first.
    fn hand_out(&mut self) {
        let readers = self.readers();
        let mut left = std::mem::take(&mut self.left);
        left.sort_by_key(|(topic, index)| (readers.get(topic).map_or(0, Vec::len), *topic, *index));
        for partition in left {
            let least =
                readers.get(&partition.0).into_iter().flatten().min_by_key(|at| (self.sizes[**at], **at));
            if let Some(member) = least {
                self.give(*member, partition);
            }
        }
    }

    /// Moves partitions of each topic from its fullest holder to its emptiest reader.
    fn even_out_by_topic(&mut self) {
        let readers = self.readers();
        let mut topics: Vec<_> = readers.iter().collect();
        topics.sort_by_key(|(topic, readers)| (readers.len(), **topic));
        for _ in 0..PASSES {
            let mut moved = false;
            for (topic, readers) in &topics {
                while let Some((from, to)) = self.worst(**topic, readers) {
                    let Some(last) = self.given[from].get(*topic).and_then(|parts| parts.last().copied())
                    else {
                        break;
                    };
                    self.take(from, (**topic, last));
                    self.give(to, (**topic, last));
                    moved = true;
                }
            }
            if !moved {
                return;
            }
        }
    }

    /// The fullest holder of a topic's partitions and its emptiest reader, where a move between them helps.
    fn worst(&self, topic: Uuid, readers: &[usize]) -> Option<(usize, usize)> {
        let holds = |at: &&usize| self.given[**at].contains_key(&topic);
        let from = *readers.iter().filter(holds).max_by_key(|at| self.sizes[**at])?;
        let to = *readers.iter().min_by_key(|at| self.sizes[**at])?;
        (self.sizes[from] > self.sizes[to] + 1).then_some((from, to))
    }
}
