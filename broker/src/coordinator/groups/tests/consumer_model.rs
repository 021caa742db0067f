//! Random schedules of members of both protocols, against the rules that always hold: no partition is read by two, epochs
//! never go back, a reload at any point finds what was told, and in the end everything is read.

use std::collections::{BTreeMap, BTreeSet};

use aqueduct_protocol::ErrorCode;
use proptest::prelude::*;

use super::migration::assignment_of;
use super::sim::*;
use crate::coordinator::consumer::embedded;
use crate::coordinator::*;

const CLIENTS: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    /// The client does what is next for it.
    Act(usize),
    /// The same, and the answer is lost.
    Lose(usize),
    Leave(usize),
    /// It vanishes and comes back as someone else, perhaps of the other protocol.
    Crash(usize, bool),
    Subscribe(usize, u8),
    Pass(i64),
    Grow,
    Hold(bool),
    Fail(bool),
    Reload,
}

fn step(switch: bool) -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS;
    prop_oneof![
        20 => client.clone().prop_map(Step::Act),
        2 => client.clone().prop_map(Step::Lose),
        1 => client.clone().prop_map(Step::Leave),
        1 => (client.clone(), any::<bool>()).prop_map(move |(client, other)| Step::Crash(client, other && switch)),
        1 => (client, 1u8..4).prop_map(|(client, topics)| Step::Subscribe(client, topics)),
        4 => prop_oneof![Just(500), Just(1_500), Just(6_000), Just(46_000), Just(61_000)].prop_map(Step::Pass),
        1 => Just(Step::Grow),
        1 => any::<bool>().prop_map(Step::Hold),
        1 => any::<bool>().prop_map(Step::Fail),
        1 => Just(Step::Reload),
    ]
}

#[derive(Clone, Debug, PartialEq)]
enum Phase {
    /// Outside, or told to come in anew.
    Out,
    /// In the group; of the classic protocol, with an assignment.
    In,
    /// Joined and yet to ask for its assignment: the leader with those it leads.
    Joined(Vec<JoinMember>),
}

/// A consumer that follows its protocol to the letter. One of the classic protocol is eager: it gives up everything
/// before it rejoins.
#[derive(Debug)]
struct Client {
    name: String,
    lives: u32,
    classic: bool,
    id: String,
    epoch: i32,
    phase: Phase,
    topics: u8,
    resubscribed: bool,
    /// What it reads right now.
    reads: BTreeSet<(u8, i32)>,
    /// Whether what it reads is yet to be said.
    unsaid: bool,
    waits: Option<Token>,
    sent_at: i64,
    heard_at: i64,
}

impl Client {
    fn new(at: usize, classic: bool) -> Self {
        Self {
            name: format!("c{at}"),
            lives: 0,
            classic,
            id: String::new(),
            epoch: 0,
            phase: Phase::Out,
            topics: 1,
            resubscribed: false,
            reads: BTreeSet::new(),
            unsaid: false,
            waits: None,
            sent_at: 0,
            heard_at: 0,
        }
    }

    fn start_anew(&mut self) {
        self.phase = Phase::Out;
        self.epoch = 0;
        self.reads.clear();
    }

    fn names(&self) -> Vec<&'static str> {
        ["a", "b"]
            .into_iter()
            .enumerate()
            .filter(|(at, _)| self.topics & (1 << at) != 0)
            .map(|(_, n)| n)
            .collect()
    }

    fn session_ms(&self) -> i64 {
        if self.classic { i64::from(SESSION_MS) } else { 45_000 }
    }
}

struct World {
    sim: Sim,
    clients: Vec<Client>,
    counts: BTreeMap<&'static str, i32>,
    /// The highest epoch that was told to anyone since the group last was empty.
    told: i32,
    /// How long the log was when it was last read anew.
    looked_at: usize,
    next_life: u32,
}

fn options() -> GroupOptions {
    GroupOptions { initial_rebalance_delay_ms: 0, ..GroupOptions::default() }
}

impl World {
    fn new(classic: [bool; CLIENTS]) -> Self {
        let clients = classic.into_iter().enumerate().map(|(at, classic)| Client::new(at, classic)).collect();
        let mut world = Self {
            sim: Sim::with(options()),
            clients,
            counts: BTreeMap::from([("a", 3), ("b", 2)]),
            told: 0,
            looked_at: 0,
            next_life: 0,
        };
        world.tell_topics();
        world
    }

    fn tell_topics(&mut self) {
        let topics: Vec<_> = self.counts.iter().map(|(name, count)| (*name, *count)).collect();
        self.sim.topics(&topics);
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Act(at) => self.act(at),
            Step::Lose(at) => {
                self.act(at);
                self.clients[at].waits = None;
                if self.clients[at].classic {
                    // It rejoins when the connection is gone, and gives up everything for that.
                    self.clients[at].start_anew();
                }
                self.clients[at].unsaid = true;
            }
            Step::Leave(at) => self.leave(at),
            Step::Crash(at, switch) => {
                let client = &mut self.clients[at];
                client.start_anew();
                client.id.clear();
                client.waits = None;
                client.classic ^= switch;
            }
            Step::Subscribe(at, topics) => {
                let client = &mut self.clients[at];
                if client.topics != topics {
                    client.topics = topics;
                    client.resubscribed = true;
                    // What it does not read any more it gives up at once.
                    client.reads.retain(|(topic, _)| topics & (1 << topic) != 0);
                    client.unsaid = true;
                }
            }
            Step::Pass(millis) => {
                self.sim.pass(millis);
            }
            Step::Grow => {
                let count = self.counts.entry("a").or_default();
                if *count < 8 {
                    *count += 1;
                    self.tell_topics();
                }
            }
            Step::Hold(hold) => {
                self.sim.hold = hold;
                if !hold {
                    self.sim.release();
                }
            }
            Step::Fail(fail) => self.sim.append_fails_with = fail.then_some(ErrorCode::NotEnoughReplicas),
            Step::Reload => self.reload(),
        }
        self.listen();
        // A client whose session is over knows that, and stops to read.
        let now = self.sim.tick_ms;
        for client in &mut self.clients {
            if client.phase != Phase::Out && now - client.heard_at >= client.session_ms() {
                client.start_anew();
            }
        }
    }

    /// The coordinator moves: what was not written is lost, and so are the answers.
    fn reload(&mut self) {
        let (hold, fails) = (self.sim.hold, self.sim.append_fails_with);
        self.sim = self.sim.reloaded(options());
        (self.sim.hold, self.sim.append_fails_with) = (hold, fails);
        self.tell_topics();
        for client in &mut self.clients {
            if client.waits.take().is_some() {
                client.unsaid = true;
                if client.classic {
                    client.start_anew();
                }
            }
        }
    }

    fn act(&mut self, at: usize) {
        if self.clients[at].waits.is_some() {
            return;
        }
        let token = if self.clients[at].classic { self.act_classic(at) } else { self.act_consumer(at) };
        self.clients[at].waits = token;
        self.clients[at].sent_at = self.sim.tick_ms;
        self.listen();
    }

    fn act_consumer(&mut self, at: usize) -> Option<Token> {
        if self.clients[at].id.is_empty() || self.clients[at].phase == Phase::Out {
            let life = self.next_life;
            let client = &mut self.clients[at];
            if client.id.is_empty() {
                self.next_life += 1;
                client.id = format!("{}-{life}", client.name);
            }
            (client.epoch, client.unsaid, client.resubscribed) = (0, false, false);
            client.lives += 1;
            let asked = joins(&client.id, &client.names());
            return Some(self.sim.consumer_heartbeat(asked));
        }
        let client = &mut self.clients[at];
        let mut asked = says(&client.id, client.epoch);
        if std::mem::take(&mut client.unsaid) {
            let mut owned: BTreeMap<u8, Vec<i32>> = BTreeMap::new();
            client.reads.iter().for_each(|(topic, index)| owned.entry(*topic).or_default().push(*index));
            let owned: Vec<_> =
                owned.iter().map(|(topic, parts)| (["a", "b"][usize::from(*topic)], &parts[..])).collect();
            asked = has(&client.id, client.epoch, &owned);
        }
        if client.resubscribed || asked.owned.is_some() {
            asked.topics = Some(client.names().into_iter().map(Into::into).collect());
            asked.rebalance_timeout_ms = REBALANCE_MS;
        }
        client.resubscribed = false;
        Some(self.sim.consumer_heartbeat(asked))
    }

    fn act_classic(&mut self, at: usize) -> Option<Token> {
        let client = &mut self.clients[at];
        if client.resubscribed {
            client.resubscribed = false;
            client.phase = Phase::Out;
        }
        match client.phase.clone() {
            Phase::Out => {
                client.reads.clear();
                let names = client.names();
                let mut metadata = vec![0, 0];
                metadata.extend((names.len() as i32).to_be_bytes());
                for name in names {
                    metadata.extend([0, 1, name.as_bytes()[0]]);
                }
                metadata.extend([255; 4]);
                let protocols = vec![Protocol { name: "range".into(), metadata: metadata.into() }];
                let asked = Join { protocols, ..join(&client.id) };
                Some(self.sim.join(asked))
            }
            Phase::Joined(members) => {
                let assignments = if members.is_empty() { Vec::new() } else { self.plan(&members) };
                let client = &self.clients[at];
                let caller = Caller {
                    member_id: client.id.as_str().into(),
                    instance_id: None,
                    generation: Generation(client.epoch),
                };
                let asked =
                    Sync { group: "g".into(), caller, protocol_type: None, protocol: None, assignments };
                Some(self.sim.sync(asked))
            }
            Phase::In => {
                let caller = Caller {
                    member_id: client.id.as_str().into(),
                    instance_id: None,
                    generation: Generation(client.epoch),
                };
                client.sent_at = self.sim.tick_ms;
                let code = self.sim.heartbeat_as(&caller);
                self.heard(at, code);
                None
            }
        }
    }

    /// What the leader of a classic group gives to its members: each topic in turn to those who read it.
    fn plan(&self, members: &[JoinMember]) -> Vec<(MemberId, bytes::Bytes)> {
        let mut given: BTreeMap<MemberId, BTreeMap<&str, Vec<i32>>> = BTreeMap::new();
        for (name, count) in &self.counts {
            let reads = |m: &&JoinMember| {
                embedded::read_subscription(&m.metadata).is_some_and(|s| s.topics.contains(*name))
            };
            let readers: Vec<_> = members.iter().filter(reads).collect();
            for index in 0..*count {
                if let Some(reader) = readers.get(index as usize % readers.len().max(1)) {
                    given.entry(reader.member_id.clone()).or_default().entry(*name).or_default().push(index);
                }
            }
        }
        let none = assignment_of(&[]);
        let of = |m: &JoinMember| {
            given.get(&m.member_id).map_or(none.clone(), |g| embedded::write_assignment(0, g))
        };
        members.iter().map(|m| (m.member_id.clone(), of(m))).collect()
    }

    fn leave(&mut self, at: usize) {
        let client = &mut self.clients[at];
        if client.id.is_empty() || client.waits.is_some() {
            return;
        }
        client.start_anew();
        let (id, classic) = (client.id.clone(), client.classic);
        client.id.clear();
        if classic {
            let token = self.sim.token();
            let leave = Leave { group: "g".into(), members: vec![(id.as_str().into(), None)] };
            let effects = self.sim.groups.on_leave(self.sim.now(), token, &leave);
            self.sim.run(effects);
        } else {
            self.sim.consumer_heartbeat(says(&id, -1));
        }
    }

    fn heard(&mut self, at: usize, code: ErrorCode) {
        let client = &mut self.clients[at];
        match code {
            ErrorCode::None => client.heard_at = client.sent_at,
            ErrorCode::RebalanceInProgress => {
                // It gives up everything and rejoins under its name.
                let id = std::mem::take(&mut client.id);
                client.start_anew();
                client.id = id;
            }
            ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId | ErrorCode::FencedMemberEpoch => {
                client.start_anew();
                client.id.clear();
            }
            ErrorCode::IllegalGeneration => client.start_anew(),
            // Retried, in full.
            _ if client.classic => client.start_anew(),
            _ => client.unsaid = true,
        }
    }

    fn listen(&mut self) {
        for at in 0..self.clients.len() {
            let Some(token) = self.clients[at].waits else { continue };
            let Some(answer) = self.sim.answers.get(&token).cloned() else { continue };
            self.clients[at].waits = None;
            let late = self.sim.tick_ms - self.clients[at].sent_at >= self.clients[at].session_ms();
            if late && !matches!(answer, Reply::Join(_)) {
                // Its session may have ended while the answer was on its way.
                self.clients[at].start_anew();
                continue;
            }
            match answer {
                Reply::ConsumerHeartbeat(Ok(reply)) => self.hear_consumer(at, reply),
                Reply::ConsumerHeartbeat(Err(refusal)) => self.heard(at, refusal.code),
                Reply::Join(reply) if reply.error == ErrorCode::MemberIdRequired => {
                    self.clients[at].id = reply.member_id.to_string();
                }
                Reply::Join(reply) if reply.error == ErrorCode::None => {
                    self.heard(at, ErrorCode::None);
                    let client = &mut self.clients[at];
                    client.id = reply.member_id.to_string();
                    client.epoch = reply.generation.0;
                    client.phase = Phase::Joined(reply.members);
                }
                Reply::Join(reply) => self.heard(at, reply.error),
                Reply::Sync(reply) if reply.error == ErrorCode::None => {
                    self.heard(at, ErrorCode::None);
                    let client = &mut self.clients[at];
                    let given = embedded::read_assignment(&reply.assignment).expect("an assignment");
                    client.reads =
                        given.into_iter().map(|(name, index)| (name.as_bytes()[0] - b'a', index)).collect();
                    client.phase = Phase::In;
                }
                Reply::Sync(reply) => self.heard(at, reply.error),
                other => panic!("{other:?}"),
            }
        }
    }

    fn hear_consumer(&mut self, at: usize, reply: ConsumerHeartbeatReply) {
        self.heard(at, ErrorCode::None);
        let client = &mut self.clients[at];
        assert_eq!(reply.member_id.as_str(), client.id);
        assert!(client.phase == Phase::Out || reply.epoch >= client.epoch, "{client:?} {reply:?}");
        client.epoch = reply.epoch;
        client.phase = Phase::In;
        if let Some(assignment) = reply.assignment {
            let given: BTreeSet<_> = assignment
                .into_iter()
                .flat_map(|(topic, parts)| parts.into_iter().map(move |index| (topic.0[0] - b'a', index)))
                .collect();
            // It gives up first, says so, and reads what it was given besides.
            client.unsaid |= client.reads.iter().any(|partition| !given.contains(partition));
            client.reads = given.into_iter().filter(|(topic, _)| client.topics & (1 << topic) != 0).collect();
        }
    }

    fn check(&mut self) {
        let mut seen = BTreeMap::new();
        for client in &self.clients {
            for partition in &client.reads {
                if let Some(other) = seen.insert(*partition, &client.name) {
                    panic!("{other} and {} both read {partition:?}: {:#?}", client.name, self.clients);
                }
            }
        }
        let group = self.sim.groups.group("g");
        if group.is_none_or(|group| group.has_no_members()) {
            // The next group of that name counts anew.
            self.told = 0;
        }
        let Some((group, consumer)) = group.and_then(|group| Some((group, group.as_consumer()?))) else {
            return;
        };
        consumer.state.check();
        if group.unwritten.is_empty() && self.looked_at != self.sim.log.len() {
            self.looked_at = self.sim.log.len();
            assert!(consumer.state.epoch() >= self.told, "the epoch went back");
            self.told = consumer.state.epoch();
            let fresh = self.sim.reloaded(options());
            let reloaded =
                fresh.groups.group("g").and_then(|group| group.as_consumer()).expect("it is in the log");
            assert_eq!(reloaded.state, consumer.state, "a reload finds the same");
        }
        for (id, _) in consumer.state.members() {
            let key = crate::coordinator::timers::TimerKey::Session("g".into(), id.clone());
            assert!(self.sim.groups.timers().deadline(&key).is_some(), "{id} would stay for ever");
        }
    }

    /// With time and a log that works, everything is read by someone, and nobody has more to do.
    fn settle(mut self) {
        self.sim.hold = false;
        self.sim.append_fails_with = None;
        self.sim.release();
        self.listen();
        for _ in 0..60 {
            for at in 0..CLIENTS {
                self.act(at);
                self.take(&Step::Pass(0));
                self.check();
            }
            self.take(&Step::Pass(1_200));
        }
        let mut expected = BTreeSet::new();
        for (topic, (_, count)) in self.counts.iter().enumerate() {
            if self.clients.iter().any(|client| client.topics & (1 << topic) != 0) {
                expected.extend((0..*count).map(|index| (topic as u8, index)));
            }
        }
        let read: BTreeSet<_> = self.clients.iter().flat_map(|client| client.reads.iter().copied()).collect();
        assert_eq!(read, expected, "{:#?}", self.clients);
        let any_consumer = self.clients.iter().any(|client| !client.classic);
        assert_eq!(
            self.sim.groups.describe_consumer("g").flatten().is_some(),
            any_consumer,
            "the protocol fits"
        );
        if any_consumer {
            assert_eq!(self.sim.described().state, "Stable");
        }
    }
}

fn run(classic: [bool; CLIENTS], steps: &[Step]) {
    let mut world = World::new(classic);
    for step in steps {
        world.take(step);
        world.check();
    }
    world.settle();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn the_rules_hold_for_members_of_the_consumer_protocol(steps in prop::collection::vec(step(false), 1..80)) {
        run([false; CLIENTS], &steps);
    }

    #[test]
    fn the_rules_hold_for_members_of_both_protocols(
        classic in prop::array::uniform4(any::<bool>()),
        steps in prop::collection::vec(step(true), 1..80),
    ) {
        run(classic, &steps);
    }
}

/// Every schedule of a few steps of two members.
#[test]
fn the_rules_hold_on_every_short_schedule() {
    let moves = [
        Step::Act(0),
        Step::Act(1),
        Step::Lose(0),
        Step::Leave(1),
        Step::Pass(1_500),
        Step::Fail(true),
        Step::Reload,
    ];
    const LENGTH: u32 = 4;
    for number in 0..(moves.len() as u32).pow(LENGTH) {
        let mut world = World::new([false; CLIENTS]);
        world.take(&Step::Act(0));
        let mut rest = number as usize;
        for _ in 0..LENGTH {
            world.take(&moves[rest % moves.len()]);
            world.sim.append_fails_with = None;
            world.check();
            rest /= moves.len();
        }
    }
}
