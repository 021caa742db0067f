//! One schedule of group requests, run against our broker and against Apache Kafka: the answers must be the same.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use aqueduct_protocol::messages::create_topics_request::CreatableTopic;
use aqueduct_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use aqueduct_protocol::messages::leave_group_request::MemberIdentity;
use aqueduct_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use aqueduct_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use aqueduct_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use aqueduct_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use aqueduct_protocol::messages::{
    CreateTopicsRequest, DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest,
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, ListGroupsRequest,
    OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, SyncGroupRequest,
};
use aqueduct_protocol::{ErrorCode, Request, frame};
use aqueduct_tests::aqueduct::Broker;
use aqueduct_tests::kafka::Kafka;
use bytes::BytesMut;

const NOBODY: &str = "nobody";

struct Client {
    stream: TcpStream,
    next: i32,
}

impl Client {
    fn connect(bootstrap: &str) -> Result<Self> {
        let stream = TcpStream::connect(bootstrap)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self { stream, next: 0 })
    }

    fn send<R: Request>(&mut self, request: &R, version: i16) -> Result<()> {
        self.next += 1;
        let mut out = BytesMut::new();
        frame::encode_request(&mut out, request, version, self.next, Some(&"test".into()))?;
        Ok(self.stream.write_all(&out)?)
    }

    fn receive<R: Request>(&mut self, version: i16) -> Result<R::Response> {
        let mut size = [0; 4];
        self.stream.read_exact(&mut size)?;
        let mut bytes = vec![0; i32::from_be_bytes(size) as usize];
        self.stream.read_exact(&mut bytes)?;
        Ok(frame::decode_response::<R>(bytes.into(), version)?.1)
    }

    fn call<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response> {
        self.send(request, version)?;
        self.receive::<R>(version)
    }
}

/// Who a request comes from, as the schedule knows them.
#[derive(Clone, Default)]
struct Who {
    id: String,
    instance: Option<&'static str>,
    generation: i32,
}

/// The schedule's view of one broker.
struct Run {
    bootstrap: String,
    client: Client,
    group: String,
    /// What was asked and what was answered, free of what differs from run to run.
    said: Vec<String>,
    names: BTreeMap<String, String>,
}

impl Run {
    fn new(bootstrap: &str) -> Result<Self> {
        let client = Client::connect(bootstrap)?;
        let said = Vec::new();
        let (group, names) = (String::new(), BTreeMap::new());
        let mut run = Self { bootstrap: bootstrap.to_owned(), client, group, said, names };
        let topic = CreatableTopic {
            name: "t".into(),
            num_partitions: 2,
            replication_factor: 1,
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 60_000, ..Default::default() };
        run.client.call(&request, 5)?;
        Ok(run)
    }

    fn say(&mut self, what: &str, answer: impl std::fmt::Debug) {
        let mut text = format!("{what}: {answer:?}");
        for (id, name) in &self.names {
            text = text.replace(id, name);
        }
        self.said.push(text);
    }

    /// Turns to another group, and waits until its coordinator serves it.
    fn turn_to(&mut self, group: &str) -> Result<()> {
        self.group = group.to_owned();
        let deadline = Instant::now() + Duration::from_secs(60);
        let request = FindCoordinatorRequest { key: group.into(), ..Default::default() };
        while self.client.call(&request, 2)?.error_code != 0
            || !matches!(
                self.heartbeat(&Who { id: NOBODY.into(), ..Who::default() })?,
                ErrorCode::UnknownMemberId
            )
        {
            ensure!(Instant::now() < deadline, "no coordinator for {group}");
            std::thread::sleep(Duration::from_millis(50));
        }
        self.say("group", group.to_owned());
        Ok(())
    }

    fn join_request(&self, who: &Who, protocols: &[&str]) -> JoinGroupRequest {
        let protocol = |name: &&str| JoinGroupRequestProtocol {
            name: (*name).into(),
            metadata: vec![0, 0, 0, 0, 0, 1, 0, 1, b't', 0xff, 0xff, 0xff, 0xff].into(),
        };
        JoinGroupRequest {
            group_id: self.group.as_str().into(),
            session_timeout_ms: 120_000,
            rebalance_timeout_ms: 120_000,
            member_id: who.id.as_str().into(),
            group_instance_id: who.instance.map(Into::into),
            protocol_type: "consumer".into(),
            protocols: protocols.iter().map(protocol).collect(),
            ..Default::default()
        }
    }

    fn note(&mut self, what: &str, answer: &JoinGroupResponse) -> Who {
        let id = answer.member_id.to_string();
        if id.contains('-') {
            let name = format!("<{}>", self.names.len());
            self.names.entry(id.clone()).or_insert(name);
        }
        let code = ErrorCode::from_code(answer.error_code);
        let (generation, members) = (answer.generation_id, answer.members.len());
        let skip = answer.skip_assignment;
        let (kind, name) = (answer.protocol_type.clone(), answer.protocol_name.clone());
        self.say(what, (code, generation, kind, name, &answer.leader, &answer.member_id, members, skip));
        Who { id, instance: None, generation }
    }

    fn join(&mut self, what: &str, who: &Who, version: i16) -> Result<Who> {
        let request = self.join_request(who, &["range"]);
        self.join_with(what, &request, version)
    }

    fn join_with(&mut self, what: &str, request: &JoinGroupRequest, version: i16) -> Result<Who> {
        let answer = Client::connect(&self.bootstrap)?.call(request, version)?;
        Ok(Who { instance: None, ..self.note(what, &answer) })
    }

    fn sync(&mut self, what: &str, who: &Who, give: &[(&Who, &str)]) -> Result<()> {
        let assignments = give
            .iter()
            .map(|(who, assignment)| SyncGroupRequestAssignment {
                member_id: who.id.as_str().into(),
                assignment: String::from(*assignment).into(),
            })
            .collect();
        let request = SyncGroupRequest {
            group_id: self.group.as_str().into(),
            generation_id: who.generation,
            member_id: who.id.as_str().into(),
            group_instance_id: who.instance.map(Into::into),
            assignments,
            ..Default::default()
        };
        let answer = self.client.call(&request, 3)?;
        self.say(what, (ErrorCode::from_code(answer.error_code), answer.assignment));
        Ok(())
    }

    fn heartbeat(&mut self, who: &Who) -> Result<ErrorCode> {
        let request = HeartbeatRequest {
            group_id: self.group.as_str().into(),
            generation_id: who.generation,
            member_id: who.id.as_str().into(),
            group_instance_id: who.instance.map(Into::into),
        };
        Ok(ErrorCode::from_code(self.client.call(&request, 4)?.error_code))
    }

    fn say_heartbeat(&mut self, what: &str, who: &Who) -> Result<()> {
        let code = self.heartbeat(who)?;
        self.say(what, code);
        Ok(())
    }

    fn commit(&mut self, what: &str, who: &Who, version: i16) -> Result<()> {
        let at = |index: i32, metadata: usize| OffsetCommitRequestPartition {
            partition_index: index,
            committed_offset: 5,
            committed_metadata: Some("m".repeat(metadata).into()),
            ..Default::default()
        };
        let topic = |name: &str, partitions: Vec<OffsetCommitRequestPartition>| OffsetCommitRequestTopic {
            name: name.into(),
            partitions,
            ..Default::default()
        };
        let request = OffsetCommitRequest {
            group_id: self.group.as_str().into(),
            generation_id_or_member_epoch: who.generation,
            member_id: who.id.as_str().into(),
            group_instance_id: who.instance.filter(|_| version >= 7).map(Into::into),
            topics: vec![topic("t", vec![at(0, 3), at(1, 4097), at(9, 0)]), topic("none", vec![at(0, 0)])],
            ..Default::default()
        };
        let answer = self.client.call(&request, version)?;
        let mut codes: Vec<_> = answer
            .topics
            .iter()
            .flat_map(|topic| {
                topic.partitions.iter().map(|at| (&topic.name, at.partition_index, at.error_code))
            })
            .collect();
        codes.sort_unstable();
        self.say(what, codes);
        Ok(())
    }

    fn fetch(&mut self, what: &str) -> Result<()> {
        let topic =
            OffsetFetchRequestTopics { name: "t".into(), partition_indexes: vec![0], ..Default::default() };
        for topics in [Some(vec![topic]), None] {
            let group_id = self.group.as_str().into();
            let group = OffsetFetchRequestGroup { group_id, topics, ..Default::default() };
            let request = OffsetFetchRequest { groups: vec![group], ..Default::default() };
            let answer = self.client.call(&request, 9)?;
            self.say(what, answer.groups);
        }
        Ok(())
    }

    fn leave(&mut self, what: &str, members: &[(&str, Option<&str>)]) -> Result<()> {
        let member = |(id, instance): &(&str, Option<&str>)| MemberIdentity {
            member_id: (*id).into(),
            group_instance_id: instance.map(Into::into),
            reason: None,
        };
        let request = LeaveGroupRequest {
            group_id: self.group.as_str().into(),
            members: members.iter().map(member).collect(),
            ..Default::default()
        };
        let answer = self.client.call(&request, 5)?;
        self.say(what, (answer.error_code, answer.members));
        Ok(())
    }

    fn describe(&mut self, what: &str) -> Result<()> {
        let groups = vec![self.group.as_str().into()];
        let request = DescribeGroupsRequest { groups, include_authorized_operations: true };
        for version in [5, 6] {
            let mut answer = self.client.call(&request, version)?;
            answer.groups[0].members.sort_by(|a, b| a.group_instance_id.cmp(&b.group_instance_id));
            self.say(what, answer.groups);
        }
        let answer = self.client.call(&ListGroupsRequest::default(), 5)?;
        let listed = answer.groups.into_iter().find(|group| *group.group_id == *self.group);
        self.say("list", listed);
        Ok(())
    }

    fn delete(&mut self, what: &str) -> Result<()> {
        let partition = OffsetDeleteRequestPartition { partition_index: 0 };
        let topic = OffsetDeleteRequestTopic { name: "t".into(), partitions: vec![partition] };
        let request = OffsetDeleteRequest { group_id: self.group.as_str().into(), topics: vec![topic] };
        let answer = self.client.call(&request, 0)?;
        self.say(what, answer);
        let request = DeleteGroupsRequest { groups_names: vec![self.group.as_str().into()] };
        let answer = self.client.call(&request, 2)?;
        self.say(what, answer.results);
        Ok(())
    }
}

fn schedule(run: &mut Run) -> Result<()> {
    strangers(run)?;
    alone(run)?;
    two(run)?;
    statics(run)
}

/// Requests about a group that nobody has made.
fn strangers(run: &mut Run) -> Result<()> {
    run.turn_to("unknown")?;
    let nobody = Who { id: NOBODY.into(), instance: None, generation: 1 };
    let admin = Who { generation: -1, ..Who::default() };
    run.leave("leave", &[(NOBODY, None), (NOBODY, Some("i"))])?;
    run.sync("sync", &nobody, &[])?;
    run.join("join", &nobody, 9)?;
    run.join("join with an instance", &Who { instance: Some("i"), ..nobody.clone() }, 9)?;
    for version in [8, 9] {
        run.commit("commit", &nobody, version)?;
    }
    run.fetch("fetch")?;
    run.delete("delete")?;
    run.describe("describe")?;
    run.commit("commit without a group", &admin, 9)?;
    run.commit("commit of a member", &nobody, 9)?;
    run.fetch("fetch")?;
    run.describe("describe")?;
    run.delete("delete")?;
    run.fetch("fetch after the end")
}

/// The life of a group with one dynamic member.
fn alone(run: &mut Run) -> Result<()> {
    run.turn_to("alone")?;
    let admin = Who { generation: -1, ..Who::default() };
    let mut short = run.join_request(&Who::default(), &["range"]);
    short.session_timeout_ms = 1;
    run.join_with("too short a session", &short, 9)?;
    let request = run.join_request(&Who::default(), &[]);
    run.join_with("no protocols", &request, 9)?;
    let me = run.join("first join", &Who::default(), 9)?;
    let me = run.join("second join", &me, 9)?;
    run.join("join again", &me, 9)?;
    run.say_heartbeat("heartbeat before the assignment", &me)?;
    run.commit("commit before the assignment", &me, 9)?;
    run.commit("commit of an administrator", &admin, 9)?;
    run.describe("describe before the assignment")?;
    run.sync("sync with a wrong generation", &Who { generation: 7, ..me.clone() }, &[])?;
    run.sync("sync", &me, &[(&me, "all")])?;
    run.sync("sync again", &me, &[])?;
    run.describe("describe a stable group")?;
    for (what, who) in [
        ("as it should be", me.clone()),
        ("with a wrong generation", Who { generation: 7, ..me.clone() }),
        ("with an instance", Who { instance: Some("i"), ..me.clone() }),
        ("of a stranger", Who { id: NOBODY.into(), ..me.clone() }),
        ("without a generation", Who { generation: -1, ..me.clone() }),
        ("of an administrator", admin.clone()),
    ] {
        run.say_heartbeat(what, &who)?;
        run.commit(what, &who, 9)?;
    }
    let mut other = run.join_request(&Who::default(), &["range"]);
    other.protocol_type = "connect".into();
    run.join_with("other protocol type", &other, 9)?;
    let other = run.join_request(&Who::default(), &["sticky"]);
    run.join_with("no common protocol", &other, 9)?;
    run.delete("delete a group with members")?;
    let old = me.clone();
    let me = run.join("leader joins again", &me, 9)?;
    run.say_heartbeat("heartbeat of the old generation", &old)?;
    run.leave("leave twice", &[(&me.id, None), (&me.id, None)])?;
    run.say_heartbeat("heartbeat after leaving", &me)?;
    run.join("join after leaving", &me, 9)?;
    run.describe("describe an empty group")?;
    run.commit("commit after leaving", &me, 9)?;
    run.commit("commit of an administrator", &admin, 9)?;
    run.fetch("fetch")?;
    run.delete("delete")
}

/// A second member makes a group rebalance.
fn two(run: &mut Run) -> Result<()> {
    run.turn_to("two")?;
    let one = run.join("one", &Who::default(), 9)?;
    let one = run.join("one", &one, 9)?;
    run.sync("one syncs", &one, &[(&one, "all")])?;
    let two = run.join("two", &Who::default(), 9)?;
    let mut parked = Client::connect(&run.bootstrap)?;
    parked.send(&run.join_request(&two, &["range"]), 9)?;
    let deadline = Instant::now() + Duration::from_secs(60);
    while run.heartbeat(&one)? == ErrorCode::None {
        ensure!(Instant::now() < deadline, "no rebalance");
        std::thread::sleep(Duration::from_millis(20));
    }
    run.say_heartbeat("heartbeat in the rebalance", &one)?;
    run.commit("commit in the rebalance", &one, 9)?;
    run.sync("sync in the rebalance", &one, &[])?;
    let one = run.join("one again", &one, 9)?;
    let answer = parked.receive::<JoinGroupRequest>(9)?;
    let two = run.note("two", &answer);
    run.sync("leader syncs", &one, &[(&two, "two")])?;
    run.sync("follower syncs", &two, &[])?;
    run.join("follower joins again", &two, 9)?;
    run.leave("leader leaves", &[(&one.id, None)])?;
    run.say_heartbeat("heartbeat of the other", &two)?;
    run.join("the other leads", &two, 9)?;
    Ok(())
}

/// Static members come back without a rebalance, and fence their ghosts.
fn statics(run: &mut Run) -> Result<()> {
    run.turn_to("static")?;
    let instance = |instance: &'static str, who: Who| Who { instance: Some(instance), ..who };
    let a = run.join("a", &instance("a", Who::default()), 9)?;
    let a = instance("a", a);
    run.sync("a syncs", &a, &[(&a, "all")])?;
    let mut parked = Client::connect(&run.bootstrap)?;
    parked.send(&run.join_request(&instance("b", Who::default()), &["range"]), 9)?;
    let deadline = Instant::now() + Duration::from_secs(60);
    while run.heartbeat(&a)? == ErrorCode::None {
        ensure!(Instant::now() < deadline, "no rebalance");
        std::thread::sleep(Duration::from_millis(20));
    }
    let a = run.join("a again", &a, 9)?;
    let a = instance("a", a);
    let answer = parked.receive::<JoinGroupRequest>(9)?;
    let b = run.note("b", &answer);
    let b = instance("b", b);
    run.sync("a syncs", &a, &[(&a, "A"), (&b, "B")])?;
    run.sync("b syncs", &b, &[])?;
    let ghost = b.clone();
    let b = run.join("b comes back", &instance("b", Who::default()), 9)?;
    let b = instance("b", b);
    run.say_heartbeat("heartbeat of the ghost", &ghost)?;
    run.commit("commit of the ghost", &ghost, 9)?;
    run.sync("sync of the ghost", &ghost, &[])?;
    run.join("join of the ghost", &ghost, 9)?;
    run.leave("leave of the ghost", &[(&ghost.id, Some("b"))])?;
    run.say_heartbeat("heartbeat without the instance", &Who { instance: None, ..ghost })?;
    run.say_heartbeat("heartbeat of the new one", &b)?;
    run.sync("it keeps its part", &b, &[])?;
    run.join("the leader comes back", &instance("a", Who::default()), 9)?;
    run.join("the leader comes back as an old client", &instance("a", Who::default()), 5)?;
    run.describe("describe")?;
    run.leave("an administrator sends b away", &[("", Some("b")), ("", Some("x"))])?;
    Ok(())
}

#[test]
fn our_answers_are_those_of_apache_kafka() -> Result<()> {
    let ours = Broker::start()?;
    let kafka = Kafka::start()?;
    let mut transcripts = Vec::new();
    for bootstrap in [ours.bootstrap(), kafka.bootstrap()] {
        let mut run = Run::new(&bootstrap)?;
        schedule(&mut run)?;
        transcripts.push(run.said);
    }
    let (ours, kafkas) = (&transcripts[0], &transcripts[1]);
    let differing: Vec<_> = ours.iter().zip(kafkas).filter(|(ours, kafkas)| ours != kafkas).collect();
    if !differing.is_empty() || ours.len() != kafkas.len() {
        for (ours, kafkas) in &differing {
            eprintln!("ours:   {ours}\nkafka:  {kafkas}\n");
        }
        bail!("{} of {} answers differ", differing.len(), ours.len());
    }
    Ok(())
}
