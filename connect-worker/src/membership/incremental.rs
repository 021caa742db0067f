//! The assignor of protocols `compatible` and `sessioned` (KIP-415): what a worker holds stays where it is, unless there is
//! too much of it; what a worker that vanished held waits for its return, up to `scheduled.rebalance.max.delay.ms`.
//!
//! A rebalance is a sequence of rounds. In one round connectors and tasks are taken away, in the next, when their workers
//! have stopped them, they are given out again.

use std::collections::{BTreeMap, BTreeSet};

use super::Load;

/// What the leader knows when it has to assign.
#[derive(Clone, Debug)]
pub struct Round<'a> {
    /// Milliseconds on any clock that does not go back.
    pub now: i64,
    /// Generation that is being assigned.
    pub generation: i32,
    /// The last generation that the leader itself completed.
    pub last_completed: Option<i32>,
    /// What each member says that it holds.
    pub members: &'a BTreeMap<String, Load>,
    /// All that is configured.
    pub configured: &'a Load,
    /// What its last worker has stopped on purpose; it is given out without waiting for a return.
    pub released: &'a Load,
}

/// What a member gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// New for this member.
    pub assigned: Load,
    /// To be stopped by this member.
    pub revoked: Load,
    /// Milliseconds after which it is to rejoin; 0 for never.
    pub delay: i32,
}

/// The leader's memory between rounds.
#[derive(Clone, Debug)]
pub struct Assignor {
    max_delay: i64,
    previous: Load,
    previous_generation: Option<i32>,
    previous_members: BTreeSet<String>,
    revoked_last: Load,
    /// Who was to hold what after the last round: where two say that they do, this one keeps it.
    owners: BTreeMap<String, Load>,
    /// When what was lost is given out again.
    scheduled: Option<i64>,
    delay: i64,
    /// Members without work while a return is awaited: one of them may be the worker that came back.
    candidates: BTreeSet<String>,
    /// Whether items were taken away for balance, and the members have not been found balanced since.
    balancing: bool,
    successive_revocations: u32,
}

#[derive(Clone, Copy)]
enum Kind {
    Connectors,
    Tasks,
}

impl Kind {
    fn count(self, load: &Load) -> usize {
        match self {
            Self::Connectors => load.connectors.len(),
            Self::Tasks => load.tasks.len(),
        }
    }

    /// Moves the last item of `from`.
    fn move_last(self, from: &mut Load, to: &mut Load) {
        match self {
            Self::Connectors => to.connectors.extend(from.connectors.pop_last()),
            Self::Tasks => to.tasks.extend(from.tasks.pop_last()),
        }
    }

    fn move_first(self, from: &mut Load, to: &mut Load) -> bool {
        match self {
            Self::Connectors => from.connectors.pop_first().map(|c| to.connectors.insert(c)).is_some(),
            Self::Tasks => from.tasks.pop_first().map(|t| to.tasks.insert(t)).is_some(),
        }
    }
}

const KINDS: [Kind; 2] = [Kind::Connectors, Kind::Tasks];

impl Assignor {
    /// `max_delay` is `scheduled.rebalance.max.delay.ms`.
    pub fn new(max_delay: i64) -> Self {
        Self {
            max_delay: max_delay.max(0),
            previous: Load::default(),
            previous_generation: None,
            previous_members: BTreeSet::new(),
            revoked_last: Load::default(),
            owners: BTreeMap::new(),
            scheduled: None,
            delay: 0,
            candidates: BTreeSet::new(),
            balancing: false,
            successive_revocations: 0,
        }
    }

    /// Whether what vanishes waits for its worker's return.
    pub fn waits(&self) -> bool {
        self.max_delay > 0
    }

    /// Decides one round. Every member gets a share, if only an empty one.
    pub fn assign(&mut self, round: &Round<'_>) -> BTreeMap<String, Share> {
        if self.previous_generation != round.last_completed {
            // Another worker led in between, or the last round was never completed: what it decided is void.
            self.previous = Load::default();
            self.revoked_last = Load::default();
            self.owners.clear();
        }
        let mut active = Load::default();
        let mut duplicated = Load::default();
        for load in round.members.values() {
            duplicated.add(&active.shared_with(load));
            active.add(load);
        }
        if !self.revoked_last.shared_with(&active).is_empty() {
            // The workers did not get the last round's decision.
            self.previous = active.clone();
        }
        let deleted = self.previous.without(round.configured);
        let foreign = active.without(round.configured);
        let lost = self.previous.without(&active).without(&deleted).shared_with(round.configured);
        let mut created = round.configured.without(&self.previous).without(&active);
        created.add(&lost.shared_with(round.released));
        let lost = lost.without(round.released);
        // What two workers hold stays with the one that it was given to; where that is not known, it is taken from both and
        // given out in the next round.
        let mut held: BTreeMap<String, Load> = round.members.clone();
        let mut revoked: BTreeMap<String, Load> = BTreeMap::new();
        for (member, load) in &mut held {
            let mut gone = load.shared_with(&duplicated);
            if let Some(own) = self.owners.get(member) {
                gone.remove(own);
            }
            gone.add(&load.shared_with(&foreign));
            load.remove(&gone);
            revoked.insert(member.clone(), gone);
        }

        let returned = self.handle_lost(round, &lost, &mut created);
        for (member, load) in &returned {
            held.get_mut(member).expect("a candidate is a member").add(load);
        }
        let mut assigned: BTreeMap<String, Load> = returned;

        let balancing = self.balance(round, &held, &created);
        for (member, load) in balancing {
            held.get_mut(&member).expect("only members are balanced").remove(&load);
            revoked.entry(member).or_default().add(&load);
        }

        for kind in KINDS {
            deal(kind, &mut created, &mut held, &mut assigned);
        }
        self.remember(round, &held, &revoked, &lost, &assigned);
        let delay = i32::try_from(self.delay).unwrap_or(i32::MAX);
        round
            .members
            .keys()
            .map(|member| {
                let share = Share {
                    assigned: assigned.remove(member).unwrap_or_default(),
                    revoked: revoked.remove(member).unwrap_or_default(),
                    delay,
                };
                (member.clone(), share)
            })
            .collect()
    }

    /// Decides about what vanished with a worker: it waits, goes to a worker that came back, or is given out as new.
    fn handle_lost(&mut self, round: &Round<'_>, lost: &Load, created: &mut Load) -> BTreeMap<String, Load> {
        let mut returned = BTreeMap::new();
        if lost.is_empty() && !self.balancing {
            self.reset_delay();
            return returned;
        }
        let all_present = self.previous_members.iter().all(|m| round.members.contains_key(m));
        if self.max_delay == 0 || (all_present && self.scheduled.is_none()) {
            created.add(lost);
            return returned;
        }
        match self.scheduled {
            Some(at) if at <= round.now => {
                let back: Vec<&String> =
                    self.candidates.iter().filter(|c| round.members.contains_key(*c)).collect();
                if back.is_empty() {
                    created.add(lost);
                } else {
                    let mut turn = back.iter().cycle();
                    let mut left = lost.clone();
                    for kind in KINDS {
                        while kind.count(&left) > 0 {
                            let member = (*turn.next().expect("there are candidates")).clone();
                            kind.move_first(&mut left, returned.entry(member).or_default());
                        }
                    }
                }
                self.reset_delay();
                // The whole delay has passed: items may be taken away again.
                self.balancing = false;
            }
            scheduled => {
                let at = scheduled.unwrap_or(round.now + self.max_delay);
                self.scheduled = Some(at);
                self.delay = at - round.now;
                let idle = round.members.iter().filter(|(_, load)| load.is_empty());
                self.candidates.extend(idle.map(|(member, _)| member.clone()));
            }
        }
        returned
    }

    fn reset_delay(&mut self) {
        self.scheduled = None;
        self.delay = 0;
        self.candidates.clear();
    }

    /// What members hold beyond their fair part. Nothing while a return is awaited, and less and less often when rounds
    /// that take away follow each other.
    fn balance(
        &mut self,
        round: &Round<'_>,
        held: &BTreeMap<String, Load>,
        created: &Load,
    ) -> BTreeMap<String, Load> {
        let mut surplus: BTreeMap<String, Load> = BTreeMap::new();
        if self.delay > 0 {
            self.balancing = false;
            return surplus;
        }
        for kind in KINDS {
            let total = held.values().map(|load| kind.count(load)).sum::<usize>() + kind.count(created);
            let least = total / held.len().max(1);
            let mut with_one_more = total % held.len().max(1);
            for (member, load) in held {
                let mut load = load.clone();
                let allowed = match kind.count(&load) {
                    count if count <= least => continue,
                    _ if with_one_more > 0 => {
                        with_one_more -= 1;
                        least + 1
                    }
                    _ => least,
                };
                while kind.count(&load) > allowed {
                    kind.move_last(&mut load, surplus.entry(member.clone()).or_default());
                }
            }
        }
        if surplus.is_empty() {
            if self.balancing {
                self.balancing = false;
                self.successive_revocations = 0;
            }
            return surplus;
        }
        if self.balancing {
            self.successive_revocations += 1;
            let backoff = 40_i64.saturating_pow(self.successive_revocations);
            self.delay = backoff.min(self.max_delay);
            if self.delay > 0 {
                self.scheduled = Some(round.now + self.delay);
                return BTreeMap::new();
            }
        }
        self.balancing = true;
        surplus
    }

    fn remember(
        &mut self,
        round: &Round<'_>,
        held: &BTreeMap<String, Load>,
        revoked: &BTreeMap<String, Load>,
        lost: &Load,
        assigned: &BTreeMap<String, Load>,
    ) {
        let mut given = Load::default();
        held.values().for_each(|load| given.add(load));
        assigned.values().for_each(|load| given.add(load));
        let still_lost = lost.without(&given);
        self.revoked_last = Load::default();
        revoked.values().for_each(|load| self.revoked_last.add(load));
        // What is revoked is not part of it, so that the next round sees it as created; what waits is.
        given.add(&still_lost);
        self.previous = given;
        self.previous_generation = Some(round.generation);
        self.previous_members = round.members.keys().cloned().collect();
        self.owners.clone_from(held);
        for (member, load) in assigned {
            self.owners.entry(member.clone()).or_default().add(load);
        }
    }
}

/// Gives all of one kind in `items` to the members that hold the fewest.
fn deal(
    kind: Kind,
    items: &mut Load,
    held: &mut BTreeMap<String, Load>,
    assigned: &mut BTreeMap<String, Load>,
) {
    while kind.count(items) > 0 {
        let Some(member) =
            held.iter().min_by_key(|(_, load)| kind.count(load)).map(|(member, _)| member.clone())
        else {
            return;
        };
        let mut one = Load::default();
        kind.move_first(items, &mut one);
        held.get_mut(&member).expect("just found").add(&one);
        assigned.entry(member).or_default().add(&one);
    }
}

#[cfg(test)]
mod tests;
