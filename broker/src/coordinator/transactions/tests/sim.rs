//! A coordinator with a clock, a log and partitions in hand.

use std::collections::{BTreeMap, VecDeque};

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::ids::{ProducerEpoch, ProducerId};

use crate::coordinator::effect::{Token, WriteId};
use crate::coordinator::request::Now;
use crate::coordinator::transactions::effect::{Effect, Marked, Markers, Reply};
use crate::coordinator::transactions::record::Record;
use crate::coordinator::transactions::transaction::Transaction;
use crate::coordinator::transactions::*;

pub const T0: i64 = 1_700_000_000_000;
pub const TIMEOUT_MS: i32 = 60_000;

pub struct Sim {
    pub machine: Transactions,
    pub tick_ms: i64,
    next_token: u64,
    pub next_id: i64,
    pub answers: BTreeMap<Token, Reply>,
    pub log: Vec<Record>,
    /// Appends that have not ended.
    pub appends: VecDeque<(WriteId, Record)>,
    /// Markers that have not been written.
    pub markers: VecDeque<Markers>,
    /// Markers that were written, by partition.
    pub written: Vec<(Place, Markers)>,
    /// Nothing ends by itself.
    pub hold: bool,
    pub append_fails_with: Option<ErrorCode>,
    pub marking_ends_with: Marked,
    pub epoch: i32,
    /// How far the clock of the day is off.
    pub wrong_by_ms: i64,
}

impl Sim {
    pub fn new() -> Self {
        let mut sim = Self {
            machine: Transactions::new(TransactionOptions::default(), 3),
            tick_ms: 0,
            next_token: 0,
            next_id: 100,
            answers: BTreeMap::new(),
            log: Vec::new(),
            appends: VecDeque::new(),
            markers: VecDeque::new(),
            written: Vec::new(),
            hold: false,
            append_fails_with: None,
            marking_ends_with: Marked::Done,
            epoch: 3,
            wrong_by_ms: 0,
        };
        sim.load();
        sim
    }

    fn load(&mut self) {
        self.machine = Transactions::new(TransactionOptions::default(), self.epoch);
        for record in &self.log {
            let read = Record::decode(record.key().unwrap(), record.value(1).unwrap()).unwrap().unwrap();
            self.machine.replay(read);
        }
        let effects = self.machine.on_loaded(self.now());
        self.run(effects);
    }

    /// Another coordinator takes over with the log; what had not ended is lost.
    pub fn fail_over(&mut self) {
        self.appends.clear();
        self.markers.clear();
        self.epoch += 1;
        self.load();
    }

    pub fn now(&self) -> Now {
        Now { tick_ms: self.tick_ms, wall_ms: T0 + self.tick_ms + self.wrong_by_ms }
    }

    pub fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    pub fn fresh(&mut self) -> ProducerId {
        self.next_id += 1;
        ProducerId(self.next_id)
    }

    pub fn run(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Reply(token, reply) => {
                    let before = self.answers.insert(token, reply);
                    assert_eq!(before, None, "{token:?} is answered twice");
                }
                Effect::Append(write, record) => self.appends.push_back((write, record)),
                Effect::Mark(markers) => self.markers.push_back(markers),
                Effect::WantId => {
                    let id = self.fresh();
                    self.machine.on_fresh_id(id);
                }
            }
        }
        if !self.hold {
            self.settle();
        }
    }

    /// Lets everything that was begun end.
    pub fn settle(&mut self) {
        while self.end_append() || self.end_marking() {}
    }

    pub fn end_append(&mut self) -> bool {
        let Some((write, record)) = self.appends.pop_front() else { return false };
        let result = match self.append_fails_with {
            Some(code) => Err(code),
            None => {
                self.log.push(record);
                Ok(())
            }
        };
        let effects = self.machine.on_appended(self.now(), write, result);
        self.run(effects);
        true
    }

    pub fn end_marking(&mut self) -> bool {
        let Some(markers) = self.markers.pop_front() else { return false };
        let ends_with = self.marking_ends_with;
        let results: Vec<_> = markers.partitions.iter().map(|place| (place.clone(), ends_with)).collect();
        if ends_with == Marked::Done {
            self.written.extend(markers.partitions.iter().map(|place| (place.clone(), markers.clone())));
        }
        let effects = self.machine.on_marked(self.now(), &markers.id, &results);
        self.run(effects);
        true
    }

    /// Lets time pass, deadline by deadline.
    pub fn pass(&mut self, millis: i64) {
        let end = self.tick_ms + millis;
        while let Some(due) = self.machine.next_deadline().filter(|due| *due <= end) {
            self.tick_ms = due.max(self.tick_ms);
            let effects = self.machine.on_tick(self.now());
            self.run(effects);
        }
        self.tick_ms = end;
    }

    fn replied(&self, token: Token) -> Option<Reply> {
        self.answers.get(&token).cloned()
    }

    pub fn begin_init(&mut self, expected: Option<Producer>) -> Token {
        let fresh = self.fresh();
        let init = Init {
            id: "x".into(),
            timeout_ms: TIMEOUT_MS,
            expected: expected.map(|p| (p.0, p.1)),
            fresh: Some(fresh),
        };
        let token = self.token();
        let effects = self.machine.on_init(self.now(), token, &init);
        self.run(effects);
        token
    }

    pub fn init_as(&mut self, expected: Option<Producer>) -> Result<Producer, ErrorCode> {
        let token = self.begin_init(expected);
        self.result(token)
    }

    pub fn init(&mut self) -> Result<Producer, ErrorCode> {
        self.init_as(None)
    }

    pub fn begin_add(&mut self, who: Producer, partition: i32, version: i16) -> Token {
        let add =
            Add { who: speaker(who), partitions: vec![("t".into(), partition)], client_version: version };
        let token = self.token();
        let effects = self.machine.on_add(self.now(), token, &add);
        self.run(effects);
        token
    }

    pub fn add(&mut self, who: Producer, partition: i32, version: i16) -> ErrorCode {
        let token = self.begin_add(who, partition, version);
        match self.replied(token) {
            Some(Reply::Code(code)) => code,
            other => panic!("{other:?}"),
        }
    }

    pub fn begin_end(&mut self, who: Producer, commit: bool, version: i16) -> Token {
        let fresh = Some(self.fresh());
        let end = End { who: speaker(who), commit, client_version: version, fresh };
        let token = self.token();
        let effects = self.machine.on_end(self.now(), token, &end);
        self.run(effects);
        token
    }

    pub fn end(&mut self, who: Producer, commit: bool, version: i16) -> Result<Producer, ErrorCode> {
        let token = self.begin_end(who, commit, version);
        self.result(token)
    }

    pub fn result(&self, token: Token) -> Result<Producer, ErrorCode> {
        match self.replied(token) {
            Some(Reply::Producer(id, epoch)) => Ok(Producer(id, epoch)),
            Some(Reply::Code(code)) => Err(code),
            other => panic!("{other:?}"),
        }
    }

    pub fn state(&self) -> TransactionState {
        self.machine.describe(&"x".into()).map_or(TransactionState::Dead, |found| found.state)
    }

    /// What is known of the id, to be changed by hand.
    pub fn at_mut(&mut self) -> &mut Transaction {
        &mut self.machine.ids.get_mut(&TransactionalId::from("x")).unwrap().at
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Producer(pub ProducerId, pub ProducerEpoch);

impl Producer {
    pub fn with_epoch(self, by: i16) -> Self {
        Self(self.0, ProducerEpoch(self.1.0 + by))
    }
}

pub fn speaker(who: Producer) -> Speaker {
    Speaker { id: "x".into(), producer: who.0, epoch: who.1 }
}
