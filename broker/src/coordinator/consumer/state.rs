//! The durable state of a consumer group: what its entries say, and what is counted from them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use aqueduct_protocol::ids::Uuid;
use indexmap::IndexMap;

use super::entry::{Entry, GroupEpoch, Resolved, Standing, TargetEpoch, Terms};
use super::partitions::{Partitions, each};
use crate::coordinator::ids::{InstanceId, MemberId};

/// A member: how it describes itself and how far it has come.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Member {
    pub terms: Arc<Terms>,
    pub standing: Arc<Standing>,
}

impl Member {
    /// Whether it speaks the classic protocol.
    pub fn is_classic(&self) -> bool {
        self.terms.classic.is_some()
    }
}

/// Where a group stands, as it is told to administrators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerGroupState {
    Empty,
    /// The target assignment is older than the group.
    Assigning,
    /// Members are on their way to the target.
    Reconciling,
    Stable,
}

impl ConsumerGroupState {
    /// Kafka's name for the state.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::Stable => "Stable",
        }
    }
}

/// All that the entries say. Two states are equal where they hold the same.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    epoch: GroupEpoch,
    target_epoch: TargetEpoch,
    /// Whether old topic metadata stands in the log.
    old_metadata: bool,
    members: IndexMap<MemberId, Member>,
    targets: HashMap<MemberId, Arc<Partitions>>,
    patterns: BTreeMap<Arc<str>, Arc<Resolved>>,
    // What follows is counted from the above.
    instances: HashMap<InstanceId, MemberId>,
    /// How many members hold a partition: more than one only after a log of another making.
    holders: HashMap<(Uuid, i32), u32>,
    /// How many members name a topic.
    topics: BTreeMap<Arc<str>, usize>,
    /// How many members have a pattern.
    pattern_users: HashMap<Arc<str>, usize>,
    assignors: BTreeMap<Arc<str>, usize>,
    classic_members: usize,
    /// How many classic members list an embedded protocol.
    protocols: HashMap<Arc<str>, usize>,
}

impl State {
    pub fn epoch(&self) -> i32 {
        self.epoch.epoch
    }

    pub fn topics_hash(&self) -> i64 {
        self.epoch.topics_hash
    }

    pub fn target_epoch(&self) -> TargetEpoch {
        self.target_epoch
    }

    pub fn has_old_metadata(&self) -> bool {
        self.old_metadata
    }

    pub fn members(&self) -> impl ExactSizeIterator<Item = (&MemberId, &Member)> {
        self.members.iter()
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub fn member(&self, id: &MemberId) -> Option<&Member> {
        self.members.get(id)
    }

    pub fn static_member(&self, instance: &InstanceId) -> Option<&MemberId> {
        self.instances.get(instance)
    }

    /// A member's part of the target assignment.
    pub fn target(&self, id: &MemberId) -> Arc<Partitions> {
        self.targets.get(id).cloned().unwrap_or_default()
    }

    pub fn has_target(&self, id: &MemberId) -> bool {
        self.targets.contains_key(id)
    }

    /// Whether no member holds a partition.
    pub fn is_free(&self, topic: Uuid, index: i32) -> bool {
        !self.holders.contains_key(&(topic, index))
    }

    pub fn patterns(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Resolved>)> {
        self.patterns.iter()
    }

    pub fn resolved(&self, pattern: &str) -> Option<&Arc<Resolved>> {
        self.patterns.get(pattern)
    }

    /// Patterns that members have, in no order.
    pub fn used_patterns(&self) -> impl Iterator<Item = &Arc<str>> {
        self.pattern_users.keys()
    }

    pub fn uses_pattern(&self, pattern: &str) -> bool {
        self.pattern_users.contains_key(pattern)
    }

    /// Every topic that the group reads, by name.
    pub fn subscribed(&self) -> BTreeSet<Arc<str>> {
        let mut all: BTreeSet<_> = self.topics.keys().cloned().collect();
        for resolved in self.pattern_users.keys().filter_map(|pattern| self.patterns.get(pattern)) {
            all.extend(resolved.topics.iter().cloned());
        }
        all
    }

    /// Whether some member reads the topic.
    pub fn is_subscribed(&self, topic: &str) -> bool {
        let matches =
            |pattern: &Arc<str>| self.patterns.get(pattern).is_some_and(|found| found.topics.contains(topic));
        self.topics.contains_key(topic) || self.pattern_users.keys().any(matches)
    }

    /// Topics that a member reads, by name.
    pub fn topics_of(&self, terms: &Terms) -> BTreeSet<Arc<str>> {
        let mut all = terms.topics.clone();
        if let Some(resolved) = terms.pattern().and_then(|pattern| self.patterns.get(pattern)) {
            all.extend(resolved.topics.iter().cloned());
        }
        all
    }

    /// The assignor that most members prefer; the first by name of several.
    pub fn preferred_assignor(&self) -> Option<&Arc<str>> {
        let most = self.assignors.values().max()?;
        self.assignors.iter().find(|(_, count)| *count == most).map(|(name, _)| name)
    }

    pub fn classic_members(&self) -> usize {
        self.classic_members
    }

    /// Whether every classic member knows one of these embedded protocols.
    pub fn supports_any<'a>(&self, names: impl IntoIterator<Item = &'a Arc<str>>) -> bool {
        let mut names = names.into_iter();
        if self.is_empty() {
            return names.next().is_some();
        }
        names.any(|name| self.protocols.get(name).copied().unwrap_or(0) == self.classic_members)
    }

    pub fn state(&self) -> ConsumerGroupState {
        let target = self.target_epoch.epoch;
        if self.members.is_empty() {
            ConsumerGroupState::Empty
        } else if self.epoch.epoch > target {
            ConsumerGroupState::Assigning
        } else if self.members.values().all(|member| member.standing.is_reconciled_to(target)) {
            ConsumerGroupState::Stable
        } else {
            ConsumerGroupState::Reconciling
        }
    }

    /// What removes all of the group from the log; the group itself last.
    pub fn tombstones(&self) -> Vec<Entry> {
        let mut gone = Vec::with_capacity(3 * self.members.len() + 3);
        for id in self.members.keys() {
            gone.push(Entry::Standing(id.clone(), None));
            gone.push(Entry::Target(id.clone(), None));
            gone.push(Entry::Member(id.clone(), None));
        }
        // Parts of a target whose member is gone, as a damaged log may leave them.
        let stray = self.targets.keys().filter(|id| !self.members.contains_key(*id));
        gone.extend(stray.map(|id| Entry::Target(id.clone(), None)));
        gone.extend(self.patterns.keys().map(|pattern| Entry::Pattern(pattern.clone(), None)));
        if self.old_metadata {
            gone.push(Entry::TopicMetadata(false));
        }
        gone.push(Entry::TargetEpoch(None));
        gone.push(Entry::Epoch(None));
        gone
    }

    /// What builds this state out of nothing.
    #[cfg(test)]
    pub fn entries(&self) -> Vec<Entry> {
        let mut all = Vec::with_capacity(3 * self.members.len() + 2);
        for (id, member) in &self.members {
            all.push(Entry::Member(id.clone(), Some(member.terms.clone())));
        }
        all.push(Entry::Epoch(Some(self.epoch)));
        for (id, target) in &self.targets {
            all.push(Entry::Target(id.clone(), Some(target.clone())));
        }
        all.push(Entry::TargetEpoch(Some(self.target_epoch)));
        for (id, member) in &self.members {
            all.push(Entry::Standing(id.clone(), Some(member.standing.clone())));
        }
        for (pattern, resolved) in &self.patterns {
            all.push(Entry::Pattern(pattern.clone(), Some(resolved.clone())));
        }
        all
    }

    /// Takes one entry, and notes in `undo` what takes it back: applied in reverse order.
    pub fn apply(&mut self, entry: Entry, undo: &mut Vec<Entry>) {
        match entry {
            Entry::Epoch(value) => {
                undo.push(Entry::Epoch(Some(self.epoch)));
                self.epoch = value.unwrap_or_default();
            }
            Entry::TopicMetadata(present) => {
                undo.push(Entry::TopicMetadata(self.old_metadata));
                self.old_metadata = present;
            }
            Entry::TargetEpoch(value) => {
                undo.push(Entry::TargetEpoch(Some(self.target_epoch)));
                self.target_epoch = value.unwrap_or_default();
            }
            Entry::Target(id, target) => {
                let old = match target {
                    Some(target) => self.targets.insert(id.clone(), target),
                    None => self.targets.remove(&id),
                };
                undo.push(Entry::Target(id, old));
            }
            Entry::Pattern(pattern, resolved) => {
                let old = match resolved {
                    Some(resolved) => self.patterns.insert(pattern.clone(), resolved),
                    None => self.patterns.remove(&pattern),
                };
                undo.push(Entry::Pattern(pattern, old));
            }
            Entry::Standing(id, standing) => self.apply_standing(id, standing, undo),
            Entry::Member(id, Some(terms)) => self.apply_terms(id, terms, undo),
            Entry::Member(id, None) => self.remove(id, undo),
        }
    }

    fn apply_standing(&mut self, id: MemberId, standing: Option<Arc<Standing>>, undo: &mut Vec<Entry>) {
        let known = self.members.contains_key(&id);
        if !known && standing.is_none() {
            return;
        }
        if !known {
            // Compaction may leave a member's parts in any order.
            undo.push(Entry::Member(id.clone(), None));
        }
        let member = self.members.entry(id.clone()).or_default();
        let old = std::mem::replace(&mut member.standing, standing.unwrap_or_default());
        let new = member.standing.clone();
        for partition in each(&old.assigned).chain(each(&old.revoking)) {
            if let Some(holders) = self.holders.get_mut(&partition) {
                *holders -= 1;
                if *holders == 0 {
                    self.holders.remove(&partition);
                }
            }
        }
        for partition in each(&new.assigned).chain(each(&new.revoking)) {
            *self.holders.entry(partition).or_default() += 1;
        }
        undo.push(Entry::Standing(id, Some(old)));
    }

    fn apply_terms(&mut self, id: MemberId, terms: Arc<Terms>, undo: &mut Vec<Entry>) {
        let old = self.members.get(&id).map(|member| member.terms.clone());
        if let Some(old) = &old {
            self.count(&id, old, false);
        }
        self.count(&id, &terms, true);
        self.members.entry(id.clone()).or_default().terms = terms;
        undo.push(Entry::Member(id, old));
    }

    fn remove(&mut self, id: MemberId, undo: &mut Vec<Entry>) {
        if !self.members.contains_key(&id) {
            return;
        }
        self.apply_standing(id.clone(), None, undo);
        let Some(old) = self.members.swap_remove(&id) else { return };
        self.count(&id, &old.terms, false);
        undo.push(Entry::Member(id, Some(old.terms)));
    }

    /// Counts a member's terms in or out.
    fn count(&mut self, id: &MemberId, terms: &Terms, is_in: bool) {
        if let Some(instance) = &terms.instance_id {
            if is_in {
                self.instances.insert(instance.clone(), id.clone());
            } else if self.instances.get(instance) == Some(id) {
                self.instances.remove(instance);
            }
        }
        for topic in &terms.topics {
            let count = self.topics.entry(topic.clone()).or_default();
            *count = tally(*count, is_in);
            if *count == 0 {
                self.topics.remove(topic);
            }
        }
        if let Some(pattern) = terms.pattern() {
            tally_in(&mut self.pattern_users, pattern, is_in);
        }
        if let Some(assignor) = &terms.assignor {
            let count = self.assignors.entry(assignor.clone()).or_default();
            *count = tally(*count, is_in);
            if *count == 0 {
                self.assignors.remove(assignor);
            }
        }
        if let Some(classic) = &terms.classic {
            self.classic_members = tally(self.classic_members, is_in);
            let names: HashSet<_> = classic.protocols.iter().map(|p| &p.name).collect();
            names.into_iter().for_each(|name| tally_in(&mut self.protocols, name, is_in));
        }
    }

    /// What always holds; for tests.
    #[cfg(test)]
    pub fn check(&self) {
        let mut fresh = Self::default();
        for entry in self.entries() {
            fresh.apply(entry, &mut Vec::new());
        }
        fresh.old_metadata = self.old_metadata;
        assert_eq!(&fresh, self, "what is counted agrees with what is kept");
        assert!(self.holders.values().all(|count| *count == 1), "two members hold one partition: {self:#?}");
        assert!(self.target_epoch.epoch <= self.epoch.epoch);
        let mut seen = HashSet::new();
        for (id, target) in &self.targets {
            assert!(self.members.contains_key(id), "{id} has a target and is gone");
            for (topic, partitions) in &**target {
                assert!(!partitions.is_empty());
                for index in partitions {
                    assert!(seen.insert((*topic, *index)), "{topic}-{index} is the target of two");
                }
            }
        }
        for (id, member) in &self.members {
            assert!(member.standing.epoch <= self.target_epoch.epoch.max(self.epoch.epoch), "{id}");
            let unrevoked = member.standing.state == super::entry::MemberState::Unrevoked;
            assert!(unrevoked || member.standing.revoking.is_empty(), "{id}: {member:?}");
        }
    }
}

fn tally(count: usize, is_in: bool) -> usize {
    if is_in { count + 1 } else { count.saturating_sub(1) }
}

fn tally_in(counts: &mut HashMap<Arc<str>, usize>, key: &Arc<str>, is_in: bool) {
    let count = counts.entry(key.clone()).or_default();
    *count = tally(*count, is_in);
    if *count == 0 {
        counts.remove(key);
    }
}
