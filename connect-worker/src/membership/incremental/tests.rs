use proptest::prelude::*;

use super::*;
use crate::ids::TaskId;

/// A group whose members do as they are told.
struct Group {
    now: i64,
    generation: i32,
    assignor: Assignor,
    members: BTreeMap<String, Load>,
    configured: Load,
    released: Load,
}

impl Group {
    fn new(max_delay: i64, members: &[&str], connectors: u32, tasks: u32) -> Self {
        Self {
            now: 0,
            generation: 0,
            assignor: Assignor::new(max_delay),
            members: members.iter().map(|m| ((*m).to_owned(), Load::default())).collect(),
            configured: load(connectors, tasks),
            released: Load::default(),
        }
    }

    /// One round; returns the delay and how many items moved in or out.
    fn round(&mut self) -> (i32, usize) {
        let last_completed = (self.generation > 0).then_some(self.generation);
        self.generation += 1;
        let shares = self.assignor.assign(&Round {
            now: self.now,
            generation: self.generation,
            last_completed,
            members: &self.members,
            configured: &self.configured,
            released: &self.released,
        });
        let (mut delay, mut moved) = (0, 0);
        for (member, share) in shares {
            delay = share.delay;
            let held = self.members.get_mut(&member).expect("shares go to members");
            assert!(share.assigned.shared_with(held).is_empty(), "{member} gets what it holds");
            moved += share.revoked.connectors.len() + share.revoked.tasks.len();
            held.remove(&share.revoked);
            held.add(&share.assigned);
        }
        (delay, moved)
    }

    /// Rounds until nothing moves, letting delays pass.
    fn settle(&mut self) {
        for _ in 0..20 {
            let before = self.members.clone();
            let (delay, _) = self.round();
            self.now += i64::from(delay);
            if delay == 0 && before == self.members {
                return;
            }
        }
        panic!("no rest after 20 rounds: {:?}", self.members);
    }

    fn assert_balanced(&self) {
        let mut all = Load::default();
        for load in self.members.values() {
            assert!(all.shared_with(load).is_empty(), "held twice: {:?}", self.members);
            all.add(load);
        }
        assert_eq!(all, self.configured, "everything is assigned");
        for kind in KINDS {
            let counts: Vec<usize> = self.members.values().map(|l| kind.count(l)).collect();
            let (least, most) = (counts.iter().min(), counts.iter().max());
            assert!(most.zip(least).is_none_or(|(most, least)| most - least <= 1), "{counts:?}");
        }
    }
}

fn load(connectors: u32, tasks: u32) -> Load {
    let name = |n: u32| format!("c{n:02}");
    Load {
        connectors: (0..connectors).map(|n| name(n).into()).collect(),
        tasks: (0..connectors).flat_map(|n| (0..tasks).map(move |t| TaskId::new(name(n), t))).collect(),
    }
}

#[test]
fn one_worker_gets_all_in_one_round() {
    let mut group = Group::new(300_000, &["a"], 3, 2);
    assert_eq!(group.round(), (0, 0));
    group.assert_balanced();
}

#[test]
fn a_second_worker_takes_over_half_and_no_more() {
    let mut group = Group::new(300_000, &["a"], 4, 1);
    group.settle();
    group.members.insert("b".to_owned(), Load::default());
    assert_eq!(group.round(), (0, 4), "two connectors and two tasks are taken away");
    assert_eq!(group.round(), (0, 0), "and given out");
    group.assert_balanced();
}

#[test]
fn what_a_vanished_worker_held_waits_for_its_return() {
    let mut group = Group::new(1000, &["a", "b"], 4, 1);
    group.settle();
    let kept = group.members["a"].clone();
    let lost = group.members.remove("b").expect("a member");
    assert_eq!(group.round(), (1000, 0));
    assert_eq!(group.members["a"], kept);
    group.now += 400;
    group.members.insert("b2".to_owned(), Load::default());
    assert_eq!(group.round(), (600, 0));
    group.now += 600;
    assert_eq!(group.round(), (0, 0), "nothing else moves");
    assert_eq!(group.members["a"], kept);
    assert_eq!(group.members["b2"], lost);
}

#[test]
fn without_a_return_the_rest_takes_over_when_the_delay_is_over() {
    let mut group = Group::new(1000, &["a", "b"], 4, 1);
    group.settle();
    group.members.remove("b");
    group.round();
    group.now += 1000;
    group.settle();
    group.assert_balanced();

    let mut at_once = Group::new(0, &["a", "b"], 4, 1);
    at_once.settle();
    at_once.members.remove("b");
    at_once.round();
    at_once.assert_balanced();
}

#[test]
fn what_its_worker_has_stopped_on_purpose_does_not_wait() {
    let mut group = Group::new(300_000, &["a", "b"], 4, 1);
    group.settle();
    group.released = group.members.remove("b").expect("a member");
    assert_eq!(group.round(), (0, 0));
    group.assert_balanced();
}

#[test]
fn a_worker_that_comes_back_late_does_not_disturb_who_has_taken_over() {
    let mut group = Group::new(0, &["a", "b"], 4, 1);
    group.settle();
    let stale = group.members.remove("b").expect("a member");
    group.round();
    group.members.insert("b2".to_owned(), stale);
    group.round();
    assert!(group.members["b2"].is_empty(), "its claim is void");
    let kept = &group.members["a"];
    assert_eq!((kept.connectors.len(), kept.tasks.len()), (2, 2), "no more moves than balance needs");
    group.settle();
    group.assert_balanced();
}

#[test]
fn deleted_connectors_are_revoked_and_duplicates_given_to_one() {
    let mut group = Group::new(0, &["a", "b"], 2, 1);
    group.settle();
    group.configured = load(1, 1);
    group.settle();
    group.assert_balanced();
    let all = group.configured.clone();
    group.members.values_mut().for_each(|held| *held = all.clone());
    group.settle();
    group.assert_balanced();
}

#[test]
fn a_new_leader_starts_from_what_the_members_hold() {
    let mut group = Group::new(300_000, &["a", "b"], 4, 2);
    group.settle();
    let before = group.members.clone();
    group.assignor = Assignor::new(300_000);
    assert_eq!(group.round(), (0, 0));
    assert_eq!(group.members, before);
}

proptest! {
    /// Whatever joins, leaves and is configured: in the end everything is held once and evenly.
    #[test]
    fn everything_is_assigned_exactly_once(
        max_delay in prop_oneof![Just(0i64), Just(1000)],
        events in proptest::collection::vec((0..5u8, 0..6u32, 0..4u32), 1..12),
    ) {
        let mut group = Group::new(max_delay, &["w0"], 1, 1);
        group.settle();
        for (event, a, b) in events {
            let name = format!("w{a}");
            match event {
                0 | 1 => { group.members.entry(name).or_default(); }
                2 if group.members.len() > 1 => { group.members.remove(&name); }
                2 | 3 => group.configured = load(a, b),
                _ => { group.round(); }
            }
            if group.members.is_empty() {
                group.members.insert("w0".to_owned(), Load::default());
            }
        }
        group.settle();
        group.assert_balanced();
    }
}
