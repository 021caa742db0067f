//! Random schedules of three clients, some with static ids, against the rules that always hold.

use std::collections::{BTreeMap, BTreeSet};

use aqueduct_protocol::ErrorCode;
use proptest::prelude::*;

use super::sim::*;
use crate::coordinator::*;

const CLIENTS: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Join { client: usize, protocols: u8, forget_id: bool },
    Sync { client: usize },
    Heartbeat { client: usize },
    Leave { client: usize },
    Commit { client: usize },
    Pass { millis: i64 },
    Hold(bool),
    Fail(bool),
    Delete,
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS;
    prop_oneof![
        8 => (client.clone(), 1u8..4, prop::bool::weighted(0.1))
            .prop_map(|(client, protocols, forget_id)| Step::Join { client, protocols, forget_id }),
        8 => client.clone().prop_map(|client| Step::Sync { client }),
        6 => client.clone().prop_map(|client| Step::Heartbeat { client }),
        1 => client.clone().prop_map(|client| Step::Leave { client }),
        2 => client.prop_map(|client| Step::Commit { client }),
        5 => prop_oneof![Just(0), Just(1_000), Just(9_000), Just(61_000), Just(301_000)]
            .prop_map(|millis| Step::Pass { millis }),
        1 => any::<bool>().prop_map(Step::Hold),
        1 => any::<bool>().prop_map(Step::Fail),
        1 => Just(Step::Delete),
    ]
}

/// What one client knows.
#[derive(Default)]
struct Client {
    instance: Option<&'static str>,
    member: String,
    generation: i32,
    leads: Option<JoinReply>,
    joins: Vec<Token>,
    syncs: Vec<Token>,
}

struct World {
    sim: Sim,
    clients: Vec<Client>,
    asked: BTreeSet<Token>,
    /// How many members each generation has, as its leader was told.
    rosters: BTreeMap<i32, usize>,
    /// That of the members that are there.
    generation: i32,
    /// How long the log was when it was last read anew.
    read_to: usize,
}

impl World {
    fn new() -> Self {
        let clients =
            [None, Some("one"), None].map(|instance| Client { instance, ..Client::default() }).into();
        let options = GroupOptions { initial_rebalance_delay_ms: 3_000, ..GroupOptions::default() };
        let sim = Sim::with(options);
        Self { sim, clients, asked: BTreeSet::new(), rosters: BTreeMap::new(), generation: 0, read_to: 0 }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Join { client, protocols, forget_id } => {
                if forget_id {
                    self.clients[client].member.clear();
                }
                let names: Vec<_> = (0..protocols).map(|i| ["a", "b", "c"][usize::from(i)]).collect();
                let me = &self.clients[client];
                let instance_id = me.instance.map(Into::into);
                let token = self.sim.join(Join { instance_id, ..join_with(&me.member, &names) });
                self.clients[client].joins.push(token);
                self.asked.insert(token);
            }
            Step::Sync { client } => {
                let request = match &self.clients[client].leads {
                    Some(leader) if leader.generation.0 == self.clients[client].generation => {
                        assignment(leader)
                    }
                    _ => Sync {
                        caller: self.caller(client),
                        ..sync(&JoinReply::error(ErrorCode::None, "".into()))
                    },
                };
                let token = self.sim.sync(request);
                self.clients[client].syncs.push(token);
                self.asked.insert(token);
            }
            Step::Heartbeat { client } => {
                let caller = self.caller(client);
                self.sim.heartbeat_as(&caller);
            }
            Step::Leave { client } => {
                let (member, instance) = (self.clients[client].member.clone(), self.clients[client].instance);
                self.sim.leave(&[(&member, instance)]);
            }
            Step::Commit { client } => {
                let offset = self.sim.tick_ms;
                let request = Commit { offsets: vec![at("t", 0, offset)], ..commit(self.caller(client)) };
                let token = self.sim.commit(&request);
                self.asked.insert(token);
            }
            Step::Pass { millis } => self.sim.pass(millis),
            Step::Hold(hold) => {
                self.sim.hold = hold;
                if !hold {
                    self.sim.release();
                }
            }
            Step::Fail(fail) => self.sim.append_fails_with = fail.then_some(ErrorCode::NotEnoughReplicas),
            Step::Delete => {
                let token = self.sim.delete("g");
                self.asked.insert(token);
            }
        }
        self.listen();
    }

    fn caller(&self, client: usize) -> Caller {
        let me = &self.clients[client];
        Caller {
            member_id: me.member.as_str().into(),
            instance_id: me.instance.map(Into::into),
            generation: Generation(me.generation),
        }
    }

    /// Lets clients read their answers.
    fn listen(&mut self) {
        for client in &mut self.clients {
            let Client { joins, member, generation, leads, syncs, .. } = client;
            joins.retain(|token| {
                let Some(Reply::Join(reply)) = self.sim.answers.get(token) else { return true };
                match reply.error {
                    ErrorCode::None => {
                        *member = reply.member_id.to_string();
                        *generation = reply.generation.0;
                        *leads = (!reply.members.is_empty()).then(|| reply.clone());
                        check_roster(&mut self.rosters, reply);
                    }
                    ErrorCode::MemberIdRequired => *member = reply.member_id.to_string(),
                    ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => member.clear(),
                    _ => {}
                }
                false
            });
            syncs.retain(|token| self.sim.waits(*token));
        }
    }

    /// What members of a stable group were told is what a reload finds.
    fn check_reload(&mut self) {
        let settled = self.sim.held.is_empty() && self.sim.append_fails_with.is_none();
        if !settled || self.read_to == self.sim.log.len() {
            return;
        }
        self.read_to = self.sim.log.len();
        let Some(ours) = self.sim.groups.describe("g").filter(|group| group.state == GroupState::Stable)
        else {
            return;
        };
        let fresh = self.sim.reloaded(GroupOptions::default());
        let found = fresh.groups.describe("g").expect("it is in the log");
        let told = |group: &DescribedGroup| -> BTreeMap<MemberId, bytes::Bytes> {
            group.members.iter().map(|m| (m.id.clone(), m.assignment.clone())).collect()
        };
        assert_eq!((found.state, told(&found)), (ours.state, told(&ours)));
        let generation = |sim: &Sim| sim.groups.group("g").map(|group| group.generation);
        assert_eq!(generation(&fresh), generation(&self.sim));
    }

    fn check(&mut self) {
        self.check_reload();
        let Some(group) = self.sim.groups.group("g") else {
            // The next group of that name counts its generations anew.
            self.rosters.clear();
            self.generation = 0;
            return;
        };
        let described = self.sim.groups.describe("g").expect("it exists");
        match described.state {
            GroupState::Empty => assert!(described.members.is_empty()),
            GroupState::Stable => {
                assert!(!group.assigning, "its assignment is in the log");
                assert!(described.members.iter().any(|m| Some(&m.id) == group.leader.as_ref()));
                assert!(group.members().all(|m| m.syncing.is_none()), "nobody waits for an assignment");
                assert!(group.protocol.is_some());
            }
            GroupState::CompletingRebalance => assert!(group.protocol.is_some() && group.leader.is_some()),
            GroupState::PreparingRebalance | GroupState::Dead => {}
        }
        if described.members.is_empty() {
            self.generation = 0;
        } else {
            let generation = group.generation.0;
            assert!(self.generation <= generation, "generations never go back while someone is there");
            self.generation = generation;
        }
        assert_eq!(group.joining(), group.members().filter(|m| m.joining.is_some()).count());
        for member in group.members() {
            let key = crate::coordinator::timers::TimerKey::Session("g".into(), member.id.clone());
            let deadline = self.sim.groups.timers().deadline(&key);
            // A session deadline there is, or the member waits for us.
            assert!(deadline.is_some() || member.is_waiting(), "{member:?}");
            let limit = if member.is_new { 300_000 } else { i64::from(member.session_timeout_ms) };
            assert!(deadline.is_none_or(|at| at <= self.sim.tick_ms + limit), "{member:?}");
            if deadline.is_some() && !member.is_waiting() {
                assert!(deadline > Some(self.sim.tick_ms), "it outlived its session: {member:?}");
            }
        }
    }

    /// Everyone goes away: every request must have its answer in the end.
    fn settle(mut self) {
        self.sim.hold = false;
        self.sim.append_fails_with = None;
        self.sim.release();
        self.sim.pass(700_000);
        let waiting: Vec<_> = self.asked.iter().filter(|token| self.sim.waits(**token)).collect();
        assert!(waiting.is_empty(), "never answered: {waiting:?}");
        let state = self.sim.state();
        assert!(matches!(state, GroupState::Empty | GroupState::Dead), "{state}");
        let fresh = self.sim.reloaded(GroupOptions::default());
        assert_eq!(fresh.fetched(), self.sim.fetched(), "a reload finds the same offset");
    }
}

/// Whoever leads a generation is told of the same members, itself among them.
fn check_roster(rosters: &mut BTreeMap<i32, usize>, reply: &JoinReply) {
    if reply.members.is_empty() {
        return;
    }
    assert!(reply.members.iter().any(|m| m.member_id == reply.leader), "the leader is a member: {reply:?}");
    // A static member that comes back changes an id within a generation, never the number of members.
    let first = *rosters.entry(reply.generation.0).or_insert(reply.members.len());
    assert_eq!(first, reply.members.len(), "one roster a generation: {reply:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn the_rules_hold_on_every_schedule(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
            world.check();
        }
        world.settle();
    }
}
