//! A classic group: its state and members. The transitions are in [`super::groups`], one file for each request.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use aqueduct_protocol::ErrorCode;
use indexmap::IndexMap;

use super::consumer::group::ConsumerGroup;
use super::effect::{JoinMember, Token, WriteId};
use super::groups::Undo;
use super::ids::{Generation, GroupId, InstanceId, MemberId};
use super::member::Member;
use super::offsets::Offsets;
use super::request::{Join, Protocol};
use super::subscription;

/// Where a group stands.
///
/// ```text
///          +---------------------------- members left, or all are gone
///          v
///        Empty --join--> PreparingRebalance --all joined--> CompletingRebalance --assigned--> Stable
///                            ^    join, leave, silence              |                          |
///                            +--------------------------------------+--------------------------+
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GroupState {
    /// No members; there may be offsets.
    Empty,
    /// Waits for members to join.
    PreparingRebalance,
    /// Waits for the leader's assignment.
    CompletingRebalance,
    /// Everyone has an assignment.
    Stable,
    /// Gone.
    Dead,
}

impl GroupState {
    /// Kafka's name for the state.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[derive(Debug)]
pub(super) struct Group {
    pub id: GroupId,
    state: GroupState,
    /// When `state` was entered, in milliseconds since 1970; unknown in old records.
    pub state_since_ms: Option<i64>,
    pub generation: Generation,
    /// That of the last members; `None` for a group that never had any.
    pub protocol_type: Option<Arc<str>>,
    /// What was chosen for this generation.
    pub protocol: Option<Arc<str>>,
    pub leader: Option<MemberId>,
    members: IndexMap<MemberId, Member>,
    /// How many members have ever arrived.
    arrivals: u64,
    instances: HashMap<InstanceId, MemberId>,
    /// How many members list a protocol.
    support: HashMap<Arc<str>, usize>,
    /// How many members are parked in JoinGroup.
    joining: usize,
    /// Ids that were given and have not come back.
    pub pending_join: HashSet<MemberId>,
    /// Members of this generation that have not asked for their assignment.
    pub pending_sync: HashSet<MemberId>,
    /// While the first rebalance after Empty waits for more members: how much longer it may.
    pub initial_left_ms: Option<i64>,
    /// Whether someone joined since that wait was last extended.
    pub newcomer: bool,
    /// Whether this generation's assignment is being appended.
    pub assigning: bool,
    /// Whether an offset of the group has been in the log since this broker coordinates it.
    pub logged: bool,
    /// The last append of the group's state or end.
    pub last_write: Option<WriteId>,
    /// Topics of a consumer group's members; `None` where they cannot be known.
    pub subscribed: Option<HashSet<Arc<str>>>,
    pub offsets: Offsets,
    /// Set for a group of the consumer protocol; then what is of classic groups alone is as in a new one.
    pub consumer: Option<Box<ConsumerGroup>>,
    /// Changes of a consumer group, or into one or out of one, that are being appended, in order.
    pub unwritten: VecDeque<(WriteId, Undo)>,
}

impl Group {
    pub fn new(id: GroupId) -> Self {
        Self {
            id,
            state: GroupState::Empty,
            state_since_ms: None,
            generation: Generation(0),
            protocol_type: None,
            protocol: None,
            leader: None,
            members: IndexMap::new(),
            arrivals: 0,
            instances: HashMap::new(),
            support: HashMap::new(),
            joining: 0,
            pending_join: HashSet::new(),
            pending_sync: HashSet::new(),
            initial_left_ms: None,
            newcomer: false,
            assigning: false,
            logged: false,
            last_write: None,
            subscribed: None,
            offsets: Offsets::default(),
            consumer: None,
            unwritten: VecDeque::new(),
        }
    }

    pub fn state(&self) -> GroupState {
        self.state
    }

    pub fn enter(&mut self, state: GroupState, wall_ms: i64) {
        self.state = state;
        self.state_since_ms = Some(wall_ms);
    }

    /// Takes a state that was read from the log.
    pub fn restore(&mut self, state: GroupState, since_ms: i64) {
        self.state = state;
        self.state_since_ms = Some(since_ms).filter(|since| *since >= 0);
    }

    /// Whether there is nothing to say about the group.
    pub fn is_blank(&self) -> bool {
        self.state == GroupState::Empty
            && self.generation == Generation(0)
            && self.protocol_type.is_none()
            && self.pending_join.is_empty()
            && self.offsets.is_empty()
            && self.consumer.is_none()
            && self.unwritten.is_empty()
    }

    /// Whether nobody would miss the group: what has been in the log stays until it expires or is deleted.
    pub fn is_forgettable(&self) -> bool {
        self.is_blank() && !self.logged
    }

    pub fn members(&self) -> impl ExactSizeIterator<Item = &Member> {
        self.members.values()
    }

    pub fn member(&self, id: &MemberId) -> Option<&Member> {
        self.members.get(id)
    }

    /// For changes that leave id, protocols and the parked JoinGroup alone.
    pub fn member_mut(&mut self, id: &MemberId) -> Option<&mut Member> {
        self.members.get_mut(id)
    }

    pub fn member_ids(&self) -> Vec<MemberId> {
        self.members.keys().cloned().collect()
    }

    pub fn is_leader(&self, id: &MemberId) -> bool {
        self.leader.as_ref() == Some(id)
    }

    pub fn static_member(&self, instance_id: &InstanceId) -> Option<&MemberId> {
        self.instances.get(instance_id)
    }

    /// Members parked in JoinGroup.
    #[cfg(test)]
    pub fn joining(&self) -> usize {
        self.joining
    }

    pub fn all_joined(&self) -> bool {
        self.joining == self.members.len() && self.pending_join.is_empty()
    }

    /// How long a rebalance waits: for the slowest member.
    pub fn rebalance_timeout_ms(&self) -> i64 {
        self.members.values().map(|m| i64::from(m.rebalance_timeout_ms)).max().unwrap_or(0).max(0)
    }

    /// Who is meant, or why nobody is.
    pub fn check_member(&self, id: &MemberId, instance_id: Option<&InstanceId>) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.instances.get(instance_id) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(current) if current != id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(id) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    /// Whether a member with these protocols finds common ground with everyone in the group.
    pub fn accepts_protocols(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.members.is_empty() {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|p| self.support.get(&p.name) == Some(&self.members.len()))
    }

    /// Whether the group has room for a joining member.
    pub fn has_room_for(&self, id: &MemberId, max_size: usize) -> bool {
        match self.state {
            GroupState::Empty | GroupState::Dead => true,
            GroupState::PreparingRebalance => {
                self.members.get(id).is_some_and(|m| m.joining.is_some()) || self.joining < max_size
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                self.members.contains_key(id) || self.members.len() < max_size
            }
        }
    }

    pub fn add(&mut self, mut member: Member, protocol_type: &Arc<str>) {
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type.clone());
            self.leader = Some(member.id.clone());
        }
        self.arrivals += 1;
        member.arrival = self.arrivals;
        self.pending_join.remove(&member.id);
        self.insert(member);
    }

    fn insert(&mut self, member: Member) {
        if let Some(instance_id) = &member.instance_id {
            self.instances.insert(instance_id.clone(), member.id.clone());
        }
        self.joining += usize::from(member.joining.is_some());
        self.count_support(&member.protocols, 1);
        self.members.insert(member.id.clone(), member);
    }

    fn take(&mut self, id: &MemberId) -> Option<Member> {
        // Another may take its place in the order: shifting thousands for each that leaves would take too long.
        let member = self.members.swap_remove(id)?;
        if let Some(instance_id) = &member.instance_id {
            self.instances.remove(instance_id);
        }
        self.joining -= usize::from(member.joining.is_some());
        self.count_support(&member.protocols, -1);
        Some(member)
    }

    /// Takes a member out. If it was the leader, the next rebalance finds another.
    pub fn remove(&mut self, id: &MemberId) -> Option<Member> {
        let member = self.take(id)?;
        self.pending_sync.remove(id);
        if self.is_leader(id) {
            self.leader = None;
        }
        Some(member)
    }

    /// Gives a member another id, and takes its parked requests away from it.
    pub fn rename(&mut self, old: &MemberId, new: &MemberId) -> Option<(Option<Token>, Option<Token>)> {
        let mut member = self.take(old)?;
        let parked = (member.joining.take(), member.syncing.take());
        member.id = new.clone();
        if self.is_leader(old) {
            self.leader = Some(new.clone());
        }
        if self.pending_sync.remove(old) {
            self.pending_sync.insert(new.clone());
        }
        self.insert(member);
        Some(parked)
    }

    /// Takes over what a JoinGroup says about a member that is in the group.
    pub fn update(&mut self, id: &MemberId, join: &Join) {
        self.set_terms(id, join.protocols.clone(), join.session_timeout_ms, join.rebalance_timeout_ms);
        if let Some(member) = self.members.get_mut(id) {
            member.client_id = join.client_id.clone();
            member.client_host = join.client_host.clone();
        }
    }

    pub fn set_terms(&mut self, id: &MemberId, protocols: Vec<Protocol>, session_ms: i32, rebalance_ms: i32) {
        let Some(member) = self.members.get_mut(id) else { return };
        member.session_timeout_ms = session_ms;
        member.rebalance_timeout_ms = rebalance_ms;
        let old = std::mem::replace(&mut member.protocols, protocols.clone());
        self.count_support(&old, -1);
        self.count_support(&protocols, 1);
    }

    fn count_support(&mut self, protocols: &[Protocol], by: isize) {
        let mut seen = HashSet::new();
        for name in protocols.iter().map(|p| &p.name).filter(|name| seen.insert(*name)) {
            let count = self.support.entry(name.clone()).or_default();
            *count = count.saturating_add_signed(by);
            if *count == 0 {
                self.support.remove(name);
            }
        }
    }

    /// Parks a JoinGroup; gives back the one that it takes the place of.
    pub fn park_join(&mut self, id: &MemberId, token: Token) -> Option<Token> {
        let member = self.members.get_mut(id)?;
        let old = member.joining.replace(token);
        self.joining += usize::from(old.is_none());
        old
    }

    pub fn unpark_join(&mut self, id: &MemberId) -> Option<Token> {
        let token = self.members.get_mut(id)?.joining.take()?;
        self.joining -= 1;
        Some(token)
    }

    /// The protocol that most members like best among those that all of them support; with equal votes the one that was
    /// voted for first.
    pub fn vote(&self) -> Option<Arc<str>> {
        let everyone = self.members.len();
        let mut votes: IndexMap<&Arc<str>, usize> = IndexMap::new();
        for member in self.members.values() {
            if let Some(name) = member.vote(|name| self.support.get(name) == Some(&everyone)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.values().max()?;
        votes.iter().find(|(_, count)| *count == most).map(|(name, _)| Arc::clone(name))
    }

    /// Sees to it that the leader is one that has joined; `false` where nobody has.
    pub fn elect_joined_leader(&mut self) -> bool {
        let joined = |id: &MemberId| self.members.get(id).is_some_and(|m| m.joining.is_some());
        if self.leader.as_ref().is_some_and(joined) {
            return true;
        }
        let first = self.members.values().filter(|m| m.joining.is_some()).min_by_key(|m| m.arrival);
        match first.map(|member| member.id.clone()) {
            Some(id) => {
                self.leader = Some(id);
                true
            }
            None => false,
        }
    }

    /// Everyone, as the leader is told.
    pub fn roster(&self) -> Vec<JoinMember> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        self.members
            .values()
            .map(|m| JoinMember {
                member_id: m.id.clone(),
                instance_id: m.instance_id.clone(),
                metadata: m.metadata(protocol),
            })
            .collect()
    }

    pub fn is_consumer_group(&self) -> bool {
        self.protocol_type.as_deref() == Some(subscription::CONSUMER)
    }

    /// Looks up which topics the members of a consumer group read.
    pub fn find_subscribed(&mut self) {
        self.subscribed = None;
        if !self.is_consumer_group() {
            return;
        }
        let mut all = HashSet::new();
        if !self.members.is_empty() {
            let Some(protocol) = self.protocol.as_deref() else { return };
            for member in self.members.values() {
                let Some(topics) = subscription::topics(&member.metadata(protocol)) else { return };
                all.extend(topics);
            }
        }
        self.subscribed = Some(all);
    }

    /// Whether a member may be reading the topic.
    pub fn is_subscribed(&self, topic: &str) -> bool {
        if let Some(consumer) = &self.consumer {
            return consumer.state.is_subscribed(topic);
        }
        match &self.subscribed {
            Some(topics) => topics.contains(topic),
            None => self.is_consumer_group(),
        }
    }
}
