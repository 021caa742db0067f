//! Every schedule of a few steps, and long random ones: producers come and go, records are written under guards, appends
//! and markers end late or never, coordinators fail over.
//!
//! The rules: a transaction has one outcome in all its partitions; a producer that was told of a commit finds it in every
//! partition that it wrote to; nothing is written in an epoch below that of a marker; a reload knows all that was told.

use std::collections::{BTreeMap, BTreeSet};

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::ids::ProducerEpoch;

use super::sim::*;
use crate::coordinator::effect::Token;
use crate::coordinator::transactions::effect::{Marked, Reply};
use crate::coordinator::transactions::*;

/// One transaction as the world sees it: who, and the how many-th of that producer's epoch.
type Work = (Producer, u32);

/// What a partition holds of the one producer id that the model has at a time.
#[derive(Clone, Debug, Default)]
struct Partition {
    /// Newest epoch of each producer id.
    epochs: BTreeMap<i64, ProducerEpoch>,
    /// Records of the open transaction.
    open: BTreeSet<Work>,
    /// Outcomes of those that have ended.
    ended: BTreeMap<Work, bool>,
}

struct World {
    sim: Sim,
    version: i16,
    partitions: [Partition; 2],
    /// Producers as their clients know themselves; the second one is a copy of the application.
    clients: [Option<Producer>; 2],
    rounds: [u32; 2],
    /// What is being asked for, and by whom.
    asked: Vec<(Token, usize, Ask)>,
    /// What clients were told about their transactions.
    told: BTreeMap<Work, bool>,
    /// How many markers of `sim.written` have reached the partitions.
    marked: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Init,
    Add(i32),
    End(bool),
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Init(usize),
    /// Adds a partition and writes to it.
    Write(usize, i32),
    End(usize, bool),
    EndAppend,
    EndMarking,
    FailAppend,
    FailMarking,
    FailOver,
    TimeOut,
}

const STEPS: &[Step] = &[
    Step::Init(0),
    Step::Init(1),
    Step::Write(0, 0),
    Step::Write(0, 1),
    Step::Write(1, 0),
    Step::End(0, true),
    Step::End(0, false),
    Step::End(1, true),
    Step::EndAppend,
    Step::EndMarking,
    Step::FailAppend,
    Step::FailMarking,
    Step::FailOver,
    Step::TimeOut,
];

impl World {
    fn new(version: i16) -> Self {
        let mut sim = Sim::new();
        sim.hold = true;
        Self {
            sim,
            version,
            partitions: Default::default(),
            clients: [None; 2],
            rounds: [0; 2],
            asked: Vec::new(),
            told: BTreeMap::new(),
            marked: 0,
        }
    }

    fn waits(&self, client: usize) -> bool {
        self.asked.iter().any(|(_, of, _)| *of == client)
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Init(client) if !self.waits(client) => {
                let token = self.sim.begin_init(None);
                self.asked.push((token, client, Ask::Init));
            }
            Step::Write(client, partition) if !self.waits(client) => {
                let Some(who) = self.clients[client] else { return };
                let token = self.sim.begin_add(who, partition, self.version);
                self.asked.push((token, client, Ask::Add(partition)));
            }
            Step::End(client, commit) if !self.waits(client) => {
                let Some(who) = self.clients[client] else { return };
                let token = self.sim.begin_end(who, commit, self.version);
                self.asked.push((token, client, Ask::End(commit)));
            }
            Step::Init(_) | Step::Write(..) | Step::End(..) => {}
            Step::EndAppend => {
                self.sim.end_append();
            }
            Step::EndMarking => {
                self.sim.end_marking();
            }
            Step::FailAppend => {
                self.sim.append_fails_with = Some(ErrorCode::NotEnoughReplicas);
                self.sim.end_append();
                self.sim.append_fails_with = None;
            }
            Step::FailMarking => {
                self.sim.marking_ends_with = Marked::Later;
                self.sim.end_marking();
                self.sim.marking_ends_with = Marked::Done;
                self.sim.pass(200);
            }
            Step::FailOver => {
                self.sim.fail_over();
                // Answers that were on their way are lost, and the clients ask again.
                self.asked.clear();
            }
            Step::TimeOut => self.sim.pass(i64::from(TIMEOUT_MS) + 20_000),
        }
        self.deliver();
        self.check();
    }

    fn deliver(&mut self) {
        for (place, markers) in self.sim.written[self.marked..].iter().cloned() {
            let partition = &mut self.partitions[place.1 as usize];
            let newest = partition.epochs.entry(markers.producer.0).or_insert(markers.epoch);
            assert!(markers.epoch >= *newest, "a marker of an old epoch: {markers:?}");
            *newest = markers.epoch;
            let (ended, open): (BTreeSet<_>, BTreeSet<_>) =
                partition.open.iter().partition(|(who, _)| who.0 == markers.producer);
            partition.open = open;
            partition.ended.extend(ended.into_iter().map(|work| (work, markers.commit)));
        }
        self.marked = self.sim.written.len();
        let asked = std::mem::take(&mut self.asked);
        for (token, client, ask) in asked {
            match self.sim.answers.get(&token).cloned() {
                None => self.asked.push((token, client, ask)),
                Some(reply) => self.answered(client, ask, reply),
            }
        }
    }

    fn answered(&mut self, client: usize, ask: Ask, reply: Reply) {
        let work = self.clients[client].map(|who| (who, self.rounds[client]));
        match (ask, reply) {
            (Ask::Init, Reply::Producer(id, epoch)) => {
                self.clients[client] = Some(Producer(id, epoch));
                self.rounds[client] = 0;
            }
            (Ask::Add(partition), Reply::Code(ErrorCode::None)) => {
                let work = work.expect("a client");
                self.write(work, partition);
            }
            (Ask::End(commit), Reply::Producer(id, epoch)) => {
                let work = work.expect("a client");
                let before = self.told.insert(work, commit);
                assert!(before.is_none_or(|before| before == commit), "two outcomes: {work:?}");
                self.clients[client] = Some(Producer(id, epoch));
                self.rounds[client] = if self.version >= 2 { 0 } else { self.rounds[client] + 1 };
            }
            _ => {}
        }
    }

    /// As a partition's leader: asks the coordinator again when it writes, and looks at the epoch.
    fn write(&mut self, work: Work, index: i32) {
        let place: Place = ("t".into(), index);
        let verified = self.sim.machine.verify(&speaker(work.0), &[place]) == Ok(vec![ErrorCode::None]);
        let partition = &mut self.partitions[index as usize];
        let newest = partition.epochs.entry(work.0.0.0).or_insert(work.0.1);
        if verified && work.0.1 >= *newest {
            *newest = work.0.1;
            partition.open.insert(work);
        }
    }

    fn check(&self) {
        let [a, b] = &self.partitions;
        for (work, commit) in &a.ended {
            assert!(b.ended.get(work).is_none_or(|other| other == commit), "two outcomes: {work:?}");
        }
        for (work, commit) in a.ended.iter().chain(&b.ended) {
            assert!(self.told.get(work).is_none_or(|told| told == commit), "told otherwise: {work:?}");
        }
    }

    /// Lets everything end; then nothing may be open, and what was told has come about.
    fn finish(mut self) {
        for _ in 0..4 {
            self.sim.pass(i64::from(TIMEOUT_MS) + 20_000);
            self.sim.settle();
            self.deliver();
        }
        self.check();
        assert!(self.partitions.iter().all(|partition| partition.open.is_empty()), "left open");
        let before = self.sim.machine.describe(&"x".into());
        self.sim.fail_over();
        let after = self.sim.machine.describe(&"x".into());
        // An epoch that a failed fence took is not in the log, and nobody has it.
        let plain = |found: &Described| (found.state, found.producer, found.partitions.clone());
        if self.sim.log.iter().any(|record| *record.id.as_str() == *"x") {
            assert_eq!(before.as_ref().map(plain), after.as_ref().map(plain), "a reload knows the same");
        }
    }
}

fn explore(version: i16, prefix: &[Step], depth: usize) {
    let mut path = vec![0; depth];
    loop {
        let mut world = World::new(version);
        prefix.iter().for_each(|step| world.step(*step));
        path.iter().for_each(|at| world.step(STEPS[*at]));
        world.finish();
        let Some(last) = path.iter().rposition(|at| at + 1 < STEPS.len()) else { return };
        path[last] += 1;
        path[last + 1..].fill(0);
    }
}

#[test]
fn the_rules_hold_on_every_short_schedule() {
    let begun = [Step::Init(0), Step::EndAppend, Step::Write(0, 0), Step::EndAppend];
    let ending = [begun.as_slice(), &[Step::Write(0, 1), Step::EndAppend, Step::End(0, true)]].concat();
    for version in [0, 2] {
        explore(version, &[], 3);
        explore(version, &begun, 3);
        explore(version, &ending, 3);
    }
}

#[test]
fn the_rules_hold_on_long_random_schedules() {
    for seed in 0..500u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut world = World::new(if seed % 2 == 0 { 0 } else { 2 });
        for _ in 0..60 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            // Most steps move things on.
            let step = match state >> 60 {
                0..=4 => Step::EndAppend,
                5..=6 => Step::EndMarking,
                _ => STEPS[(state >> 20) as usize % STEPS.len()],
            };
            world.step(step);
        }
        world.finish();
    }
}
