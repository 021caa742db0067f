//! A coordinator with a clock and a log in hand.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::ids::{BrokerId, LeaderEpoch, Uuid};
use bytes::Bytes;

use crate::coordinator::groups::Groups;
use crate::coordinator::*;
use crate::metadata::{MetadataImage, PartitionImage, Record as MetadataRecord, TopicImage};

pub const T0: i64 = 1_700_000_000_000;
pub const SESSION_MS: i32 = 10_000;
pub const REBALANCE_MS: i32 = 60_000;

pub struct Sim {
    pub groups: Groups,
    pub tick_ms: i64,
    next_token: u64,
    pub answers: BTreeMap<Token, Reply>,
    pub log: Vec<Record>,
    /// Appends wait here while `hold` is set.
    pub held: VecDeque<(WriteId, Arc<[Record]>)>,
    pub hold: bool,
    /// Whether appends are ending: those that follow from them are next.
    releasing: bool,
    pub append_fails_with: Option<ErrorCode>,
}

impl Sim {
    pub fn new() -> Self {
        Self::with(GroupOptions { initial_rebalance_delay_ms: 0, ..GroupOptions::default() })
    }

    pub fn with(options: GroupOptions) -> Self {
        let mut sim = Self {
            groups: Groups::new(options),
            tick_ms: 0,
            next_token: 0,
            answers: BTreeMap::new(),
            log: Vec::new(),
            held: VecDeque::new(),
            hold: false,
            releasing: false,
            append_fails_with: None,
        };
        let effects = sim.groups.on_loaded(sim.now());
        sim.run(effects);
        sim
    }

    /// A fresh coordinator that has read this one's log.
    pub fn reloaded(&self, options: GroupOptions) -> Self {
        let mut sim = Self::with(options);
        sim.tick_ms = self.tick_ms;
        sim.next_token = self.next_token;
        sim.groups = Groups::new(sim.groups.options.clone());
        sim.groups.on_metadata(&self.groups.image, &[]);
        for record in &self.log {
            let (key, value) = (record.key().unwrap(), record.value().unwrap());
            let read = Record::decode(key, value).unwrap().unwrap();
            sim.groups.replay(read);
        }
        sim.log = self.log.clone();
        let effects = sim.groups.on_loaded(sim.now());
        sim.run(effects);
        sim
    }

    pub fn now(&self) -> Now {
        Now { tick_ms: self.tick_ms, wall_ms: T0 + self.tick_ms }
    }

    pub fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    pub fn run(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Reply(token, reply) => {
                    let before = self.answers.insert(token, reply);
                    assert_eq!(before, None, "{token:?} is answered twice");
                }
                Effect::Append(write, records) => self.held.push_back((write, records)),
                other => unreachable!("nothing here is part of a transaction: {other:?}"),
            }
        }
        if !self.hold && !self.releasing {
            self.release();
        }
    }

    /// Lets the appends that are held end.
    pub fn release(&mut self) {
        self.releasing = true;
        while let Some((write, records)) = self.held.pop_front() {
            let result = match self.append_fails_with {
                Some(error) => Err(error),
                None => {
                    self.log.extend(records.iter().cloned());
                    Ok(())
                }
            };
            let effects = self.groups.on_appended(self.now(), write, result);
            self.run(effects);
        }
        self.releasing = false;
    }

    /// Lets time pass, deadline by deadline.
    pub fn pass(&mut self, millis: i64) {
        let end = self.tick_ms + millis;
        while let Some(due) = self.groups.next_deadline().filter(|due| *due <= end) {
            self.tick_ms = due.max(self.tick_ms);
            let effects = self.groups.on_tick(self.now());
            self.run(effects);
        }
        self.tick_ms = end;
    }

    /// Tells of topics: name and number of partitions.
    pub fn topics(&mut self, topics: &[(&str, i32)]) {
        let old = self.groups.image.clone();
        let mut image = image(topics);
        image.version = old.version + 1;
        let image = Arc::new(image);
        let same = |name: &str| old.topic(name) == image.topic(name);
        let names = old.topics().chain(image.topics()).map(|topic| topic.name.to_string());
        let changed: Vec<Arc<str>> = names.filter(|name| !same(name)).map(Into::into).collect();
        self.groups.on_metadata(&image, &changed);
    }

    pub fn consumer_heartbeat(&mut self, asked: ConsumerHeartbeat) -> Token {
        let token = self.token();
        let asked = ConsumerHeartbeat { fresh: format!("fresh-{}", token.0), ..asked };
        let effects = self.groups.on_consumer_heartbeat(self.now(), token, &asked);
        self.run(effects);
        token
    }

    /// The answer to a heartbeat that changes nothing that is not written at once.
    pub fn beat(&mut self, asked: ConsumerHeartbeat) -> Result<ConsumerHeartbeatReply, ErrorCode> {
        let token = self.consumer_heartbeat(asked);
        match self.answer(token) {
            Reply::ConsumerHeartbeat(reply) => reply.map_err(|refusal| refusal.code),
            other => panic!("{other:?}"),
        }
    }

    pub fn described(&self) -> DescribedConsumerGroup {
        self.groups.describe_consumer("g").flatten().expect("it is a consumer group")
    }

    pub fn answer(&mut self, token: Token) -> Reply {
        self.answers.get(&token).cloned().unwrap_or_else(|| panic!("{token:?} waits"))
    }

    pub fn waits(&self, token: Token) -> bool {
        !self.answers.contains_key(&token)
    }

    pub fn join(&mut self, join: Join) -> Token {
        let token = self.token();
        let join = Join { fresh: format!("{}", token.0), ..join };
        let effects = self.groups.on_join(self.now(), token, &join);
        self.run(effects);
        token
    }

    pub fn joined(&mut self, token: Token) -> JoinReply {
        match self.answer(token) {
            Reply::Join(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    pub fn sync(&mut self, sync: Sync) -> Token {
        let token = self.token();
        let effects = self.groups.on_sync(self.now(), token, &sync);
        self.run(effects);
        token
    }

    pub fn synced(&mut self, token: Token) -> SyncReply {
        match self.answer(token) {
            Reply::Sync(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    pub fn heartbeat(&mut self, who: &JoinReply) -> ErrorCode {
        self.heartbeat_as(&caller(who))
    }

    pub fn heartbeat_as(&mut self, caller: &Caller) -> ErrorCode {
        let token = self.token();
        let effects = self.groups.on_heartbeat(self.now(), token, &"g".into(), caller);
        self.run(effects);
        match self.answer(token) {
            Reply::Heartbeat(code) => code,
            other => panic!("{other:?}"),
        }
    }

    pub fn leave(&mut self, members: &[(&str, Option<&str>)]) -> Vec<ErrorCode> {
        let token = self.token();
        let members = members.iter().map(|(id, instance)| ((*id).into(), instance.map(Into::into))).collect();
        let effects = self.groups.on_leave(self.now(), token, &Leave { group: "g".into(), members });
        self.run(effects);
        match self.answer(token) {
            Reply::Leave(codes) => codes.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    pub fn commit(&mut self, commit: &Commit) -> Token {
        let token = self.token();
        let effects = self.groups.on_commit(self.now(), token, commit);
        self.run(effects);
        token
    }

    pub fn partitions(&mut self, token: Token) -> Result<Vec<ErrorCode>, ErrorCode> {
        match self.answer(token) {
            Reply::Partitions(codes) => codes,
            other => panic!("{other:?}"),
        }
    }

    /// Commits one offset of topic `t`, partition 0.
    pub fn commit_at(&mut self, caller: Caller, offset: i64) -> Result<Vec<ErrorCode>, ErrorCode> {
        let token = self.commit(&Commit { offsets: vec![at("t", 0, offset)], ..commit(caller) });
        self.partitions(token)
    }

    pub fn delete(&mut self, group: &str) -> Token {
        let token = self.token();
        let effects = self.groups.on_delete(self.now(), token, &group.into());
        self.run(effects);
        token
    }

    pub fn deleted(&mut self, token: Token) -> ErrorCode {
        match self.answer(token) {
            Reply::Delete(code) => code,
            other => panic!("{other:?}"),
        }
    }

    pub fn offset_delete(&mut self, partitions: &[(&str, i32)]) -> Result<Vec<ErrorCode>, ErrorCode> {
        let token = self.token();
        let partitions: Vec<_> =
            partitions.iter().map(|(topic, index)| (Arc::from(*topic), *index)).collect();
        let effects = self.groups.on_offset_delete(self.now(), token, &"g".into(), &partitions);
        self.run(effects);
        self.partitions(token)
    }

    /// The offset of topic `t`, partition 0.
    pub fn fetched(&self) -> Option<i64> {
        let topic = FetchTopic { name: "t".into(), id: Uuid::ZERO, partitions: vec![0] };
        let topics = self.groups.fetch("g", Some(&[topic]));
        topics[0].partitions[0].1.as_ref().map(|at| at.offset)
    }

    pub fn state(&self) -> GroupState {
        self.groups.describe("g").map_or(GroupState::Dead, |group| group.state)
    }

    /// A new dynamic member's JoinGroup, the round for its id included; it is parked or answered.
    pub fn enter(&mut self) -> Token {
        let first = self.join(join(""));
        let id = self.joined(first).member_id;
        self.join(join(id.as_str()))
    }

    /// A stable group of `count` members; the first leads.
    pub fn stable(count: usize) -> (Self, Vec<JoinReply>) {
        let mut sim = Self::new();
        let members = sim.stabilize(count);
        (sim, members)
    }

    pub fn stabilize(&mut self, count: usize) -> Vec<JoinReply> {
        let tokens: Vec<_> = (0..count).map(|_| self.enter()).collect();
        self.pass(0);
        let members: Vec<_> = tokens.into_iter().map(|token| self.joined(token)).collect();
        self.assign(&members);
        assert_eq!(self.state(), GroupState::Stable);
        members
    }

    /// Everyone syncs, the leader last; each gets `for <id>`.
    pub fn assign(&mut self, members: &[JoinReply]) {
        let leader =
            members.iter().find(|m| m.leader == m.member_id).expect("the leader is among them").clone();
        let others: Vec<_> = members.iter().filter(|m| m.leader != m.member_id).map(sync).collect();
        let tokens: Vec<_> = others.into_iter().map(|other| self.sync(other)).collect();
        assert!(tokens.iter().all(|token| self.waits(*token)));
        self.sync(assignment(&leader));
        for token in tokens {
            assert_eq!(self.synced(token).error, ErrorCode::None);
        }
    }

    /// Rejoins everyone at once and assigns.
    pub fn rejoin_all(&mut self, members: &[JoinReply]) -> Vec<JoinReply> {
        let tokens: Vec<_> = members.iter().map(|m| self.join(join(m.member_id.as_str()))).collect();
        let members: Vec<_> = tokens.into_iter().map(|token| self.joined(token)).collect();
        self.assign(&members);
        members
    }
}

pub fn subscription(topic: &str) -> Bytes {
    let mut metadata = vec![0, 0, 0, 0, 0, 1, 0, topic.len() as u8];
    metadata.extend(topic.as_bytes());
    metadata.into()
}

pub fn protocol(name: &str) -> Protocol {
    Protocol { name: name.into(), metadata: subscription("t") }
}

pub fn join(member: &str) -> Join {
    Join {
        group: "g".into(),
        member_id: member.into(),
        instance_id: None,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        protocol_type: "consumer".into(),
        protocols: vec![protocol("range")],
        session_timeout_ms: SESSION_MS,
        rebalance_timeout_ms: REBALANCE_MS,
        needs_member_id: true,
        may_skip_assignment: true,
        fresh: String::new(),
    }
}

pub fn join_with(member: &str, protocols: &[&str]) -> Join {
    Join { protocols: protocols.iter().map(|name| protocol(name)).collect(), ..join(member) }
}

pub fn static_join(instance: &str, member: &str) -> Join {
    Join { instance_id: Some(instance.into()), ..join(member) }
}

pub fn caller(who: &JoinReply) -> Caller {
    Caller { member_id: who.member_id.clone(), instance_id: None, generation: who.generation }
}

pub fn nobody() -> Caller {
    Caller { generation: Generation::NONE, ..Caller::default() }
}

pub fn sync(who: &JoinReply) -> Sync {
    Sync {
        group: "g".into(),
        caller: caller(who),
        protocol_type: None,
        protocol: None,
        assignments: Vec::new(),
    }
}

/// The leader's: everyone gets `for <id>`.
pub fn assignment(leader: &JoinReply) -> Sync {
    let give = |m: &JoinMember| (m.member_id.clone(), Bytes::from(format!("for {}", m.member_id)));
    Sync { assignments: leader.members.iter().map(give).collect(), ..sync(leader) }
}

pub fn commit(caller: Caller) -> Commit {
    Commit { group: "g".into(), caller, retention_ms: None, knows_unknown_group: true, offsets: Vec::new() }
}

pub fn at(topic: &str, partition: i32, offset: i64) -> CommitOffset {
    CommitOffset {
        topic: topic.into(),
        topic_id: Uuid::ZERO,
        partition,
        offset,
        leader_epoch: 2,
        metadata: None,
    }
}

/// Topics whose ids are made of the last byte of their names.
pub fn image(topics: &[(&str, i32)]) -> MetadataImage {
    let mut image = MetadataImage::default();
    for (name, count) in topics {
        let partition = PartitionImage {
            leader: BrokerId(1),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: 0,
            replicas: vec![BrokerId(1)],
            isr: vec![BrokerId(1)],
        };
        let partitions = vec![partition; *count as usize];
        image.apply(&MetadataRecord::Topic(TopicImage {
            name: (*name).into(),
            id: topic_id(name),
            partitions,
        }));
    }
    image
}

pub fn topic_id(name: &str) -> Uuid {
    Uuid([name.as_bytes()[name.len() - 1]; 16])
}

/// What a member of the consumer protocol says when it joins.
pub fn joins(member: &str, topics: &[&str]) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        topics: Some(topics.iter().map(|topic| Arc::from(*topic)).collect()),
        rebalance_timeout_ms: REBALANCE_MS,
        owned: Some(Vec::new()),
        ..says(member, 0)
    }
}

/// A heartbeat that says nothing new.
pub fn says(member: &str, epoch: i32) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        group: "g".into(),
        member_id: member.into(),
        epoch,
        rebalance_timeout_ms: -1,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        names_itself: true,
        ..ConsumerHeartbeat::default()
    }
}

/// A heartbeat that says what the member has.
pub fn has(member: &str, epoch: i32, owned: &[(&str, &[i32])]) -> ConsumerHeartbeat {
    let owned = owned.iter().map(|(topic, indexes)| (topic_id(topic), indexes.to_vec())).collect();
    ConsumerHeartbeat { owned: Some(owned), ..says(member, epoch) }
}

pub fn parts(partitions: &[(&str, &[i32])]) -> AssignedPartitions {
    partitions.iter().map(|(topic, indexes)| (topic_id(topic), indexes.iter().copied().collect())).collect()
}

impl Sim {
    /// The epoch of a member of the consumer protocol.
    pub fn described_epoch(&self, id: &str) -> i32 {
        let group = self.groups.group("g").and_then(|group| group.as_consumer()).expect("a consumer group");
        group.state.member(&id.into()).expect("a member").standing.epoch
    }
}
