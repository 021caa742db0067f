//! Groups of the consumer protocol (KIP-848): stock clients, Kafka's tools and a schedule of requests, on our broker and on
//! Apache Kafka.

#[path = "consumer_groups/members.rs"]
mod members;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aqueduct_protocol::ids::Uuid;
use aqueduct_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
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
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, CreateTopicsRequest, DeleteGroupsRequest,
    DescribeGroupsRequest, FindCoordinatorRequest, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest,
    ListGroupsRequest, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, SyncGroupRequest,
};
use aqueduct_protocol::{Request, frame};
use aqueduct_tests::server::{Kind, Server};
use bytes::{BufMut as _, BytesMut};

/// Heartbeats often, so that members are quick to follow.
const QUICK: &[(&str, &str)] = &[
    ("group.consumer.min.heartbeat.interval.ms", "500"),
    ("group.consumer.heartbeat.interval.ms", "500"),
    ("group.consumer.assignment.interval.ms", "0"),
];

#[test]
fn our_answers_are_those_of_apache_kafka() -> Result<()> {
    let mut transcripts = Vec::new();
    for kind in Kind::BOTH {
        let server = Server::start_with(kind, QUICK)?;
        let mut run = Run::new(&server.bootstrap())?;
        schedule(&mut run).with_context(|| format!("{kind:?} after {:?}", run.said.last()))?;
        transcripts.push(run.said);
    }
    let (ours, kafkas) = (&transcripts[0], &transcripts[1]);
    let differing: Vec<_> = ours.iter().zip(kafkas).filter(|(ours, kafkas)| ours != kafkas).collect();
    for (ours, kafkas) in &differing {
        eprintln!("ours:   {ours}\nkafka:  {kafkas}\n");
    }
    ensure!(
        differing.is_empty() && ours.len() == kafkas.len(),
        "{} of {} answers differ",
        differing.len(),
        ours.len()
    );
    Ok(())
}

/// librdkafka and Java at the same time, each in groups of its own.
#[test]
fn stock_clients_share_their_topics_and_change_their_protocol() -> Result<()> {
    let server = Server::start_with(Kind::Aqueduct, QUICK)?;
    std::thread::scope(|scope| {
        let librdkafka = scope.spawn(|| members::librdkafka(&server));
        let java = members::java_members(&server);
        librdkafka.join().map_err(|_| anyhow::anyhow!("librdkafka's checks panicked"))??;
        java
    })
}

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

    fn call<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response> {
        self.next += 1;
        let mut out = BytesMut::new();
        frame::encode_request(&mut out, request, version, self.next, Some(&"test".into()))?;
        self.stream.write_all(&out)?;
        let mut size = [0; 4];
        self.stream.read_exact(&mut size)?;
        let mut bytes = vec![0; i32::from_be_bytes(size) as usize];
        self.stream.read_exact(&mut bytes)?;
        Ok(frame::decode_response::<R>(bytes.into(), version)?.1)
    }

    fn create(&mut self, name: &str, num_partitions: i32) -> Result<Uuid> {
        let topic = CreatableTopic {
            name: name.to_owned().into(),
            num_partitions,
            replication_factor: 1,
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 60_000, ..Default::default() };
        let answer = self.call(&request, 7)?;
        ensure!(answer.topics[0].error_code == 0, "{answer:?}");
        Ok(answer.topics[0].topic_id)
    }
}

/// The schedule's view of one broker.
struct Run {
    client: Client,
    group: &'static str,
    topics: BTreeMap<Uuid, &'static str>,
    /// What was asked and what was answered, free of what differs from run to run.
    said: Vec<String>,
    names: BTreeMap<String, String>,
}

/// What a heartbeat says beyond group, member and epoch.
#[derive(Default)]
struct Says<'a> {
    instance: Option<&'a str>,
    rack: Option<&'a str>,
    rebalance_timeout: i32,
    topics: Option<&'a [&'a str]>,
    pattern: Option<&'a str>,
    assignor: Option<&'a str>,
    owned: Option<&'a [i32]>,
}

impl<'a> Says<'a> {
    /// All that a member says when it joins.
    fn joins(topics: &'a [&'a str]) -> Self {
        Self { rebalance_timeout: 30_000, topics: Some(topics), owned: Some(&[]), ..Self::nothing() }
    }

    fn nothing() -> Self {
        Self { rebalance_timeout: -1, ..Self::default() }
    }
}

fn text<T: From<String>>(text: &str) -> T {
    text.to_owned().into()
}

impl Run {
    fn new(bootstrap: &str) -> Result<Self> {
        let mut client = Client::connect(bootstrap)?;
        let topics = BTreeMap::from([(client.create("t", 4)?, "t"), (client.create("u", 2)?, "u")]);
        Ok(Self { client, group: "", topics, said: Vec::new(), names: BTreeMap::new() })
    }

    fn say(&mut self, what: &str, answer: impl std::fmt::Debug) {
        let mut text = format!("{} {what}: {answer:?}", self.group);
        for (id, name) in &self.names {
            text = text.replace(id, name);
        }
        self.said.push(text);
    }

    /// Turns to another group, and waits until its coordinator serves it.
    fn turn_to(&mut self, group: &'static str) -> Result<()> {
        self.group = group;
        let deadline = Instant::now() + Duration::from_secs(60);
        let find = FindCoordinatorRequest { key: group.into(), ..Default::default() };
        let beat =
            HeartbeatRequest { group_id: group.into(), member_id: "nobody".into(), ..Default::default() };
        while self.client.call(&find, 2)?.error_code != 0 || self.client.call(&beat, 4)?.error_code != 25 {
            ensure!(Instant::now() < deadline, "no coordinator for {group}");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn topic(&self, name: &str) -> Uuid {
        *self.topics.iter().find(|(_, known)| **known == name).expect("a topic of the test").0
    }

    fn beat(&mut self, what: &str, member: &str, epoch: i32, says: &Says<'_>) -> Result<()> {
        self.beat_in(1, what, member, epoch, says)
    }

    fn beat_in(&mut self, version: i16, what: &str, member: &str, epoch: i32, says: &Says<'_>) -> Result<()> {
        let owned = |indexes: &[i32]| match indexes.is_empty() {
            true => Vec::new(),
            false => vec![TopicPartitions { topic_id: self.topic("t"), partitions: indexes.to_vec() }],
        };
        let request = ConsumerGroupHeartbeatRequest {
            group_id: self.group.into(),
            member_id: text(member),
            member_epoch: epoch,
            instance_id: says.instance.map(text),
            rack_id: says.rack.map(text),
            rebalance_timeout_ms: says.rebalance_timeout,
            subscribed_topic_names: says.topics.map(|names| names.iter().map(|name| text(name)).collect()),
            subscribed_topic_regex: says.pattern.map(text),
            server_assignor: says.assignor.map(text),
            topic_partitions: says.owned.map(owned),
        };
        let answer = self.client.call(&request, version)?;
        let id = answer.member_id.map(|id| if member.is_empty() { "<given>".into() } else { id });
        let assignment = answer.assignment.map(|given| {
            let mut parts = Vec::new();
            for topic in given.topic_partitions {
                let name = self.topics.get(&topic.topic_id).copied().unwrap_or("?");
                parts.extend(topic.partitions.iter().map(|index| format!("{name}-{index}")));
            }
            parts.sort();
            parts
        });
        // What is wrong with an expression is told in other words.
        let message = answer.error_message.filter(|_| answer.error_code != 128);
        self.say(
            what,
            (answer.error_code, message, id, answer.member_epoch, answer.heartbeat_interval_ms, assignment),
        );
        Ok(())
    }

    fn commit(&mut self, what: &str, member: &str, epoch: i32, version: i16) -> Result<()> {
        let partitions = [0, 3].map(|index| OffsetCommitRequestPartition {
            partition_index: index,
            committed_offset: 5,
            ..Default::default()
        });
        let topic = OffsetCommitRequestTopic {
            name: if version < 10 { "t".into() } else { "".into() },
            topic_id: if version < 10 { Uuid::ZERO } else { self.topic("t") },
            partitions: partitions.to_vec(),
        };
        let request = OffsetCommitRequest {
            group_id: self.group.into(),
            generation_id_or_member_epoch: epoch,
            member_id: text(member),
            topics: vec![topic],
            ..Default::default()
        };
        let answer = self.client.call(&request, version)?;
        let codes: Vec<_> =
            answer.topics.iter().flat_map(|topic| topic.partitions.iter().map(|at| at.error_code)).collect();
        self.say(what, codes);
        Ok(())
    }

    fn fetch(&mut self, what: &str, member: Option<&str>, epoch: i32) -> Result<()> {
        let topic =
            OffsetFetchRequestTopics { name: "t".into(), partition_indexes: vec![0], ..Default::default() };
        let group = OffsetFetchRequestGroup {
            group_id: self.group.into(),
            member_id: member.map(text),
            member_epoch: epoch,
            topics: Some(vec![topic]),
        };
        let request = OffsetFetchRequest { groups: vec![group], ..Default::default() };
        let answer = self.client.call(&request, 9)?;
        self.say(what, answer.groups);
        Ok(())
    }

    fn describe(&mut self, what: &str) -> Result<()> {
        let group_ids = vec![self.group.into(), "no such group".into()];
        for version in [0, 1] {
            let request = ConsumerGroupDescribeRequest {
                group_ids: group_ids.clone(),
                include_authorized_operations: true,
            };
            let mut answer = self.client.call(&request, version)?;
            for member in answer.groups.iter_mut().flat_map(|group| &mut group.members) {
                for topic in member
                    .assignment
                    .topic_partitions
                    .iter_mut()
                    .chain(&mut member.target_assignment.topic_partitions)
                {
                    topic.topic_id = Uuid::ZERO;
                    topic.partitions.sort_unstable();
                }
            }
            answer.groups[0].members.sort_by(|a, b| a.member_id.cmp(&b.member_id));
            self.say(what, answer.groups);
        }
        for version in [5, 6] {
            let groups = vec![self.group.into()];
            let request = DescribeGroupsRequest { groups, include_authorized_operations: false };
            let answer = self.client.call(&request, version)?;
            // Members of a classic group carry what is of this run alone.
            let told: Vec<_> = answer
                .groups
                .iter()
                .map(|g| (g.error_code, &g.error_message, &g.group_state, &g.protocol_type, g.members.len()))
                .collect();
            self.said.push(format!("{} {what}: {told:?}", self.group));
        }
        let answer = self.client.call(&ListGroupsRequest::default(), 5)?;
        let listed = answer.groups.into_iter().find(|group| *group.group_id == *self.group);
        self.say("list", listed);
        Ok(())
    }

    fn delete(&mut self, what: &str) -> Result<()> {
        let request = DeleteGroupsRequest { groups_names: vec![self.group.into()] };
        let answer = self.client.call(&request, 2)?;
        self.say(what, answer.results[0].error_code);
        Ok(())
    }

    fn delete_offsets(&mut self, what: &str) -> Result<()> {
        let topic = |name: &str| OffsetDeleteRequestTopic {
            name: text(name),
            partitions: vec![OffsetDeleteRequestPartition { partition_index: 0 }],
        };
        let request =
            OffsetDeleteRequest { group_id: self.group.into(), topics: vec![topic("t"), topic("u")] };
        let answer = self.client.call(&request, 0)?;
        let mut codes: Vec<_> =
            answer.topics.iter().map(|topic| (topic.name.clone(), topic.partitions[0].error_code)).collect();
        codes.sort();
        self.say(what, (answer.error_code, codes));
        Ok(())
    }

    /// A classic member's JoinGroup; gives its id and generation.
    fn join(&mut self, what: &str, id: &str, owned: &[i32]) -> Result<(String, i32)> {
        let mut metadata = BytesMut::new();
        metadata.put_slice(&[0, 1, 0, 0, 0, 1, 0, 1, b't', 255, 255, 255, 255]);
        metadata.put_i32(i32::from(!owned.is_empty()));
        if !owned.is_empty() {
            metadata.put_slice(&[0, 1, b't']);
            metadata.put_i32(owned.len() as i32);
            owned.iter().for_each(|index| metadata.put_i32(*index));
        }
        let protocol = JoinGroupRequestProtocol { name: "range".into(), metadata: metadata.freeze() };
        let request = JoinGroupRequest {
            group_id: self.group.into(),
            session_timeout_ms: 30_000,
            rebalance_timeout_ms: 30_000,
            member_id: text(id),
            protocol_type: "consumer".into(),
            protocols: vec![protocol],
            ..Default::default()
        };
        let answer = self.client.call(&request, 7)?;
        let given = answer.member_id.to_string();
        if id.is_empty() {
            let name = format!("<{}>", self.names.len());
            self.names.insert(given.clone(), name);
        }
        let told = (answer.error_code, answer.generation_id, &answer.protocol_type, &answer.protocol_name);
        self.say(what, (told, &answer.leader, answer.members.len()));
        Ok((given, answer.generation_id))
    }

    fn sync(&mut self, what: &str, member: &(String, i32)) -> Result<()> {
        self.sync_giving(what, member, None)
    }

    /// The leader gives itself partitions.
    fn sync_giving(
        &mut self,
        what: &str,
        (id, generation): &(String, i32),
        given: Option<&[i32]>,
    ) -> Result<()> {
        let assignment = |given: &[i32]| {
            let mut assignment = BytesMut::new();
            assignment.put_slice(&[0, 1, 0, 0, 0, 1, 0, 1, b't']);
            assignment.put_i32(given.len() as i32);
            given.iter().for_each(|index| assignment.put_i32(*index));
            assignment.put_i32(-1);
            SyncGroupRequestAssignment { member_id: text(id), assignment: assignment.freeze() }
        };
        let request = SyncGroupRequest {
            group_id: self.group.into(),
            generation_id: *generation,
            member_id: text(id),
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            assignments: given.map(assignment).into_iter().collect(),
            ..Default::default()
        };
        let answer = self.client.call(&request, 5)?;
        self.say(what, (answer.error_code, answer.protocol_type, answer.protocol_name, answer.assignment));
        Ok(())
    }

    fn classic_beat(&mut self, what: &str, (id, generation): &(String, i32)) -> Result<()> {
        let request = HeartbeatRequest {
            group_id: self.group.into(),
            generation_id: *generation,
            member_id: text(id),
            group_instance_id: None,
        };
        let code = self.client.call(&request, 4)?.error_code;
        self.say(what, code);
        Ok(())
    }

    fn leave(&mut self, what: &str, ids: &[&str]) -> Result<()> {
        let member = |id: &&str| MemberIdentity { member_id: text(id), ..Default::default() };
        let request = LeaveGroupRequest {
            group_id: self.group.into(),
            members: ids.iter().map(member).collect(),
            ..Default::default()
        };
        let answer = self.client.call(&request, 5)?;
        let codes: Vec<_> = answer.members.iter().map(|member| member.error_code).collect();
        self.say(what, (answer.error_code, codes));
        Ok(())
    }
}

fn schedule(run: &mut Run) -> Result<()> {
    refusals(run)?;
    two_members(run)?;
    statics(run)?;
    migration(run)
}

fn refusals(run: &mut Run) -> Result<()> {
    run.turn_to("refused")?;
    let full = || Says::joins(&["t"]);
    run.beat("unknown group", "m", 5, &Says::nothing())?;
    run.beat("leaves unknown group", "m", -1, &Says::nothing())?;
    run.beat("away without instance", "m", -2, &Says::nothing())?;
    run.beat("epoch -3", "m", -3, &Says::nothing())?;
    run.beat("no timeout", "m", 0, &Says { rebalance_timeout: -1, ..full() })?;
    run.beat("no partitions", "m", 0, &Says { owned: None, ..full() })?;
    run.beat("partitions at the start", "m", 0, &Says { owned: Some(&[1]), ..full() })?;
    run.beat("no topics", "m", 0, &Says { topics: None, ..full() })?;
    run.beat("no id", "", 0, &full())?;
    run.beat_in(0, "no id later", "", 3, &Says::nothing())?;
    run.beat("empty instance", "m", 0, &Says { instance: Some(""), ..full() })?;
    run.beat("empty rack", "m", 0, &Says { rack: Some(""), ..full() })?;
    run.beat("strange assignor", "m", 0, &Says { assignor: Some("sticky"), ..full() })?;
    run.beat("strange pattern", "m", 0, &Says { pattern: Some("["), topics: None, ..full() })?;
    run.group = "";
    run.beat("no group", "m", 0, &full())?;
    run.group = "refused";
    run.beat_in(0, "an id is given", "", 0, &full())?;
    run.beat("stranger", "x", 2, &Says::nothing())?;
    run.beat("stranger leaves", "x", -1, &Says::nothing())
}

fn two_members(run: &mut Run) -> Result<()> {
    run.turn_to("two")?;
    run.beat("one joins", "one", 0, &Says::joins(&["t"]))?;
    run.beat("one joins again", "one", 0, &Says::joins(&["t"]))?;
    run.beat("one has it all", "one", 2, &Says { owned: Some(&[0, 1, 2, 3]), ..Says::nothing() })?;
    run.beat("old epoch", "one", 1, &Says::nothing())?;
    run.beat("future epoch", "one", 7, &Says::nothing())?;
    run.commit("one commits", "one", 2, 9)?;
    run.commit("by id", "one", 2, 10)?;
    run.commit("too old a version", "one", 2, 8)?;
    run.commit("stranger commits", "x", 2, 9)?;
    run.commit("nobody commits", "", -1, 9)?;
    run.commit("future commit", "one", 3, 9)?;
    run.fetch("fetch", None, -1)?;
    run.fetch("member fetches", Some("one"), 2)?;
    run.fetch("late member fetches", Some("one"), 1)?;
    run.fetch("stranger fetches", Some("x"), 2)?;
    run.describe("one")?;
    run.beat("two joins", "two", 0, &Says::joins(&["t"]))?;
    run.beat("two waits", "two", 3, &Says::nothing())?;
    run.describe("reconciling")?;
    run.beat("one must give up", "one", 2, &Says::nothing())?;
    run.beat("one has not", "one", 2, &Says { owned: Some(&[0, 1, 2, 3]), ..Says::nothing() })?;
    run.beat("one has", "one", 2, &Says { owned: Some(&[0, 1]), ..Says::nothing() })?;
    run.beat("one says so again", "one", 2, &Says { owned: Some(&[0, 1]), ..Says::nothing() })?;
    run.beat("one has too much", "one", 2, &Says { owned: Some(&[0, 1, 2]), ..Says::nothing() })?;
    run.beat("two gets", "two", 3, &Says::nothing())?;
    run.commit("commit with the last epoch", "one", 2, 9)?;
    run.commit("commit from before", "two", 2, 9)?;
    run.describe("two")?;
    run.delete("delete with members")?;
    run.delete_offsets("delete offsets")?;
    run.beat("one reads another topic", "one", 3, &Says { topics: Some(&["u"]), ..Says::nothing() })?;
    run.beat("one gave up", "one", 3, &Says { owned: Some(&[]), ..Says::nothing() })?;
    run.beat("two gets the rest", "two", 3, &Says::nothing())?;
    run.describe("each its own topic")?;
    run.beat("two leaves", "two", -1, &Says::nothing())?;
    run.beat("two has left", "two", 4, &Says::nothing())?;
    run.delete_offsets("delete offsets that nobody reads")?;
    run.beat("one leaves", "one", -1, &Says::nothing())?;
    run.describe("empty")?;
    run.commit("commit to an empty group", "", -1, 9)?;
    run.delete("delete")?;
    run.delete("delete again")?;
    run.turn_to("offsets only")?;
    run.commit("commit", "", -1, 9)?;
    run.delete_offsets("delete the offset")?;
    run.fetch("fetch", None, -1)?;
    run.delete("delete a group whose offset was deleted")
}

fn statics(run: &mut Run) -> Result<()> {
    run.turn_to("static")?;
    let named = |says| Says { instance: Some("i"), ..says };
    run.beat("joins", "one", 0, &named(Says::joins(&["t"])))?;
    run.beat("joins under its id", "one", 0, &named(Says::joins(&["t"])))?;
    run.beat("another joins", "two", 0, &named(Says::joins(&["t"])))?;
    run.beat("another speaks", "two", 2, &named(Says::nothing()))?;
    run.beat("unknown instance", "one", 2, &Says { instance: Some("j"), ..Says::nothing() })?;
    run.beat("another goes away", "two", -2, &named(Says::nothing()))?;
    run.beat("goes away", "one", -2, &named(Says::nothing()))?;
    run.commit("commit while away", "one", 2, 9)?;
    run.beat("speaks while away", "one", 2, &named(Says::nothing()))?;
    run.beat("comes back", "two", 0, &named(Says::joins(&["t"])))?;
    run.beat("the old one leaves", "one", -1, &named(Says::nothing()))?;
    run.describe("back")?;
    run.beat("leaves for good", "two", -1, &named(Says::nothing()))
}

fn migration(run: &mut Run) -> Result<()> {
    run.turn_to("moved")?;
    let (id, _) = run.join("first", "", &[])?;
    let mut old = run.join("with its id", &id, &[])?;
    // Without, who gets which would depend on how its id sorts.
    run.sync_giving("sync", &old, Some(&[0, 1, 2, 3]))?;
    run.beat("stranger", "new", 3, &Says::nothing())?;
    run.beat("new joins", "new", 0, &Says::joins(&["t"]))?;
    run.describe("mixed")?;
    run.classic_beat("old must rejoin", &old)?;
    run.sync("old syncs too early", &old)?;
    old = run.join("old rejoins", &id, &[])?;
    run.sync("old syncs", &old)?;
    run.classic_beat("old beats", &old)?;
    run.classic_beat("new in the wrong tongue", &("new".to_owned(), 2))?;
    run.commit("old commits", &old.0.clone(), old.1, 9)?;
    run.commit("old commits late", &old.0.clone(), old.1 - 1, 9)?;
    run.beat("new gets", "new", 2, &Says::nothing())?;
    run.describe("settled")?;
    run.leave("new is sent away", &["new", "x"])?;
    run.beat("new has left", "new", -1, &Says::nothing())?;
    run.classic_beat("old must rejoin", &old)?;
    old = run.join("old leads", &id, &[])?;
    run.sync("old syncs alone", &old)?;
    run.describe("classic again")?;
    run.leave("old leaves", &[&old.0.clone()])?;
    run.beat("new joins the empty group", "new", 0, &Says::joins(&["t"]))?;
    let (id, _) = run.join("classic id", "", &[])?;
    let old = run.join("classic joins", &id, &[])?;
    run.sync("classic syncs", &old)?;
    run.leave("classic leaves", &[&old.0.clone()])?;
    run.beat("new leaves", "new", -1, &Says::nothing())
}
