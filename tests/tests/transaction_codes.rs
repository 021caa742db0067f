//! One schedule of transactional requests, run against our broker and against Apache Kafka: the answers must be the same.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use aqueduct_protocol::ids::{ProducerEpoch, ProducerId};
use aqueduct_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use aqueduct_protocol::messages::create_topics_request::CreatableTopic;
use aqueduct_protocol::messages::describe_producers_request::TopicRequest;
use aqueduct_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use aqueduct_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use aqueduct_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use aqueduct_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use aqueduct_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, CreateTopicsRequest, DescribeProducersRequest,
    DescribeTransactionsRequest, EndTxnRequest, FindCoordinatorRequest, InitProducerIdRequest,
    ListTransactionsRequest, OffsetFetchRequest, ProduceRequest, TxnOffsetCommitRequest,
    WriteTxnMarkersRequest,
};
use aqueduct_protocol::records::{BatchBuilder, Compression};
use aqueduct_protocol::{ErrorCode, Request, frame};
use aqueduct_tests::server::{Kind, Server};
use bytes::BytesMut;

/// A producer as it knows itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Who(i64, i16);

const NOBODY: Who = Who(-1, -1);

struct Run {
    stream: TcpStream,
    next: i32,
    id: &'static str,
    /// Producer ids by the order in which they were given.
    ids: Vec<i64>,
    said: Vec<String>,
}

impl Run {
    fn new(bootstrap: &str) -> Result<Self> {
        let stream = TcpStream::connect(bootstrap)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut run = Self { stream, next: 0, id: "", ids: Vec::new(), said: Vec::new() };
        let topic = |name: &str| CreatableTopic {
            name: name.into(),
            num_partitions: 2,
            replication_factor: 1,
            ..Default::default()
        };
        let request = CreateTopicsRequest {
            topics: vec![topic("t"), topic("u")],
            timeout_ms: 60_000,
            ..Default::default()
        };
        run.call(&request, 5)?;
        Ok(run)
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

    fn say(&mut self, what: &str, answer: impl std::fmt::Debug) {
        self.said.push(format!("{} {what}: {answer:?}", self.id));
    }

    /// A producer id that does not differ from run to run.
    fn plain(&mut self, id: i64) -> i64 {
        if id < 0 {
            return id;
        }
        let at = self.ids.iter().position(|known| *known == id).unwrap_or_else(|| {
            self.ids.push(id);
            self.ids.len() - 1
        });
        at as i64
    }

    /// Waits until a coordinator answers.
    fn find(&mut self, key: &str, key_type: i8) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let request = FindCoordinatorRequest { key: key.into(), key_type, ..Default::default() };
        while self.call(&request, 2)?.error_code != 0 {
            ensure!(Instant::now() < deadline, "no coordinator for {key}");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn turn_to(&mut self, id: &'static str) -> Result<()> {
        self.id = id;
        self.find(id, 1)?;
        self.find("g", 0)
    }

    /// Asks again while the answer is one that passes.
    fn patiently(&mut self, mut ask: impl FnMut(&mut Self) -> Result<i16>) -> Result<ErrorCode> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let code = ErrorCode::from_code(ask(self)?);
            let passes = matches!(
                code,
                ErrorCode::ConcurrentTransactions
                    | ErrorCode::CoordinatorLoadInProgress
                    | ErrorCode::CoordinatorNotAvailable
                    | ErrorCode::NotCoordinator
            );
            if !passes || Instant::now() > deadline {
                return Ok(code);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn init(&mut self, what: &str, expected: Who, timeout_ms: i32, version: i16) -> Result<Who> {
        let request = InitProducerIdRequest {
            transactional_id: Some(self.id.into()),
            transaction_timeout_ms: timeout_ms,
            producer_id: if version >= 3 { expected.0 } else { -1 },
            producer_epoch: if version >= 3 { expected.1 } else { -1 },
            ..Default::default()
        };
        let mut who = NOBODY;
        let code = self.patiently(|run| {
            let answer = run.call(&request, version)?;
            who = Who(answer.producer_id, answer.producer_epoch);
            Ok(answer.error_code)
        })?;
        let plain = (self.plain(who.0), who.1);
        self.say(what, (version, code, plain));
        Ok(who)
    }

    fn add(&mut self, what: &str, who: Who, places: &[(&str, i32)], version: i16) -> Result<()> {
        let topics = places.iter().map(|(topic, index)| AddPartitionsToTxnTopic {
            name: (*topic).into(),
            partitions: vec![*index],
        });
        let topics: Vec<_> = topics.collect();
        let request = match version {
            4.. => AddPartitionsToTxnRequest {
                transactions: vec![AddPartitionsToTxnTransaction {
                    transactional_id: self.id.into(),
                    producer_id: who.0,
                    producer_epoch: who.1,
                    verify_only: what.starts_with("verify"),
                    topics,
                }],
                ..Default::default()
            },
            _ => AddPartitionsToTxnRequest {
                v3_and_below_transactional_id: self.id.into(),
                v3_and_below_producer_id: who.0,
                v3_and_below_producer_epoch: who.1,
                v3_and_below_topics: topics,
                ..Default::default()
            },
        };
        let mut codes = Vec::new();
        self.patiently(|run| {
            let answer = run.call(&request, version)?;
            let results = match version {
                4.. => answer.results_by_transaction.into_iter().flat_map(|of| of.topic_results).collect(),
                _ => answer.results_by_topic_v3_and_below,
            };
            let of = |topic: aqueduct_protocol::messages::add_partitions_to_txn_response::AddPartitionsToTxnTopicResult| {
                let name = topic.name.to_string();
                topic.results_by_partition.into_iter().map(move |at| {
                    (name.clone(), at.partition_index, at.partition_error_code)
                })
            };
            codes = results.into_iter().flat_map(of).collect();
            codes.sort_unstable();
            Ok(codes.first().map_or(answer.error_code, |code| code.2))
        })?;
        self.say(what, (version, codes));
        Ok(())
    }

    fn add_offsets(&mut self, what: &str, who: Who, version: i16) -> Result<()> {
        let request = AddOffsetsToTxnRequest {
            transactional_id: self.id.into(),
            producer_id: who.0,
            producer_epoch: who.1,
            group_id: "g".into(),
        };
        let code = self.patiently(|run| Ok(run.call(&request, version)?.error_code))?;
        self.say(what, (version, code));
        Ok(())
    }

    fn end(&mut self, what: &str, who: Who, committed: bool, version: i16) -> Result<Who> {
        let request = EndTxnRequest {
            transactional_id: self.id.into(),
            producer_id: who.0,
            producer_epoch: who.1,
            committed,
        };
        let mut next = NOBODY;
        let code = self.patiently(|run| {
            let answer = run.call(&request, version)?;
            next = Who(answer.producer_id, answer.producer_epoch);
            Ok(answer.error_code)
        })?;
        let plain = (self.plain(next.0), next.1);
        self.say(what, (version, committed, code, plain));
        self.settle()?;
        Ok(next)
    }

    /// Waits until the transaction is over.
    fn settle(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let request = DescribeTransactionsRequest { transactional_ids: vec![self.id.into()] };
        while self.call(&request, 0)?.transaction_states[0].transaction_state.starts_with("Prepare") {
            ensure!(Instant::now() < deadline, "the transaction does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn send(&mut self, what: &str, who: Who, index: i32, sequence: i32, version: i16) -> Result<()> {
        self.send_as(what, Some(self.id), who, index, sequence, version, true)
    }

    #[expect(clippy::too_many_arguments, reason = "what a schedule varies")]
    fn send_as(
        &mut self,
        what: &str,
        id: Option<&str>,
        who: Who,
        index: i32,
        sequence: i32,
        version: i16,
        transactional: bool,
    ) -> Result<()> {
        let mut batch = BatchBuilder::new(Compression::None)
            .producer(ProducerId(who.0), ProducerEpoch(who.1), sequence)
            .transactional(transactional);
        batch.append(1_700_000_000_000, Some(b"k"), Some(b"v"), &[])?;
        let data = PartitionProduceData { index, records: Some(batch.finish()?) };
        let topic = TopicProduceData { name: "t".into(), partition_data: vec![data], ..Default::default() };
        let request = ProduceRequest {
            transactional_id: id.map(Into::into),
            acks: -1,
            timeout_ms: 10_000,
            topic_data: vec![topic],
        };
        let mut offset = -1;
        let code = self.patiently(|run| {
            let answer = run.call(&request, version)?;
            let partition = &answer.responses[0].partition_responses[0];
            offset = partition.base_offset;
            // Old clients hear of what passes in this way.
            match ErrorCode::from_code(partition.error_code) {
                ErrorCode::NotEnoughReplicas => Ok(ErrorCode::ConcurrentTransactions.code()),
                code => Ok(code.code()),
            }
        })?;
        self.say(what, (version, code, offset));
        Ok(())
    }

    fn commit_offsets(&mut self, what: &str, who: Who, member: (i32, &str), version: i16) -> Result<()> {
        let at = |index: i32, metadata: usize| TxnOffsetCommitRequestPartition {
            partition_index: index,
            committed_offset: 7,
            committed_leader_epoch: -1,
            committed_metadata: Some("m".repeat(metadata).into()),
        };
        let topic = |name: &str, partitions| TxnOffsetCommitRequestTopic {
            name: name.into(),
            partitions,
            ..Default::default()
        };
        let request = TxnOffsetCommitRequest {
            transactional_id: self.id.into(),
            group_id: "g".into(),
            producer_id: who.0,
            producer_epoch: who.1,
            generation_id_or_member_epoch: if version >= 3 { member.0 } else { -1 },
            member_id: if version >= 3 { member.1.into() } else { "".into() },
            topics: vec![topic("t", vec![at(0, 3), at(1, 4097), at(9, 0)]), topic("none", vec![at(0, 0)])],
            ..Default::default()
        };
        let mut codes = Vec::new();
        self.patiently(|run| {
            let answer = run.call(&request, version)?;
            let of = |topic: &aqueduct_protocol::messages::txn_offset_commit_response::TxnOffsetCommitResponseTopic| {
                let name = topic.name.to_string();
                let codes = topic.partitions.iter().map(|at| (name.clone(), at.partition_index, at.error_code));
                codes.collect::<Vec<_>>()
            };
            codes = answer.topics.iter().flat_map(of).collect();
            codes.sort_unstable();
            Ok(codes.iter().find(|code| code.0 == "t" && code.1 == 0).map_or(0, |code| code.2))
        })?;
        self.say(what, (version, codes));
        Ok(())
    }

    fn fetch_offsets(&mut self, what: &str) -> Result<()> {
        for require_stable in [false, true] {
            let topic = OffsetFetchRequestTopics {
                name: "t".into(),
                partition_indexes: vec![0],
                ..Default::default()
            };
            let group = OffsetFetchRequestGroup {
                group_id: "g".into(),
                topics: Some(vec![topic]),
                ..Default::default()
            };
            let request = OffsetFetchRequest { groups: vec![group], require_stable, ..Default::default() };
            let answer = self.call(&request, 9)?;
            self.say(what, (require_stable, answer.groups));
        }
        Ok(())
    }

    fn describe(&mut self, what: &str) -> Result<()> {
        let request = DescribeTransactionsRequest { transactional_ids: vec![self.id.into()] };
        let mut found = self.call(&request, 0)?.transaction_states.remove(0);
        found.producer_id = self.plain(found.producer_id);
        found.transaction_start_time_ms = found.transaction_start_time_ms.min(0);
        found.topics.sort_by(|a, b| a.topic.cmp(&b.topic));
        found.topics.iter_mut().for_each(|topic| topic.partitions.sort_unstable());
        self.say(what, found);
        let topic = TopicRequest { name: "t".into(), partition_indexes: vec![0, 1, 5] };
        let mut answer = self.call(&DescribeProducersRequest { topics: vec![topic] }, 0)?;
        for partition in &mut answer.topics[0].partitions {
            partition.error_message = None;
            partition.active_producers.retain(|producer| self.ids.contains(&producer.producer_id));
            for producer in &mut partition.active_producers {
                producer.producer_id =
                    self.ids.iter().position(|id| *id == producer.producer_id).unwrap_or(0) as i64;
                // Our leader begins another reign with every start.
                (producer.last_timestamp, producer.coordinator_epoch) =
                    (0, producer.coordinator_epoch.min(0));
            }
            partition.active_producers.sort_by_key(|producer| producer.producer_id);
        }
        answer.topics[0].partitions.sort_by_key(|partition| partition.partition_index);
        self.say(what, answer.topics);
        Ok(())
    }

    fn list(&mut self, what: &str, states: &[&str], pattern: Option<&str>) -> Result<()> {
        let request = ListTransactionsRequest {
            state_filters: states.iter().map(|state| (*state).into()).collect(),
            duration_filter: -1,
            transactional_id_pattern: pattern.map(Into::into),
            ..Default::default()
        };
        let answer = self.call(&request, 2)?;
        let mut listed: Vec<_> = answer
            .transaction_states
            .iter()
            .map(|listed| (listed.transactional_id.to_string(), listed.transaction_state.to_string()))
            .collect();
        listed.sort_unstable();
        self.say(what, (answer.error_code, answer.unknown_state_filters, listed));
        Ok(())
    }

    fn mark(&mut self, what: &str, who: Who, coordinator_epoch: i32, version: i16) -> Result<()> {
        let topic = |name: &str| WritableTxnMarkerTopic { name: name.into(), partition_indexes: vec![0, 9] };
        let marker = WritableTxnMarker {
            producer_id: who.0,
            producer_epoch: who.1,
            transaction_result: false,
            topics: vec![topic("t"), topic("none")],
            coordinator_epoch,
            transaction_version: if version >= 2 { 2 } else { 0 },
        };
        let answer = self.call(&WriteTxnMarkersRequest { markers: vec![marker] }, version)?;
        let mut codes: Vec<_> = answer.markers[0]
            .topics
            .iter()
            .flat_map(|topic| {
                topic.partitions.iter().map(|at| (&topic.name, at.partition_index, at.error_code))
            })
            .collect();
        codes.sort_unstable();
        self.say(what, (version, codes));
        Ok(())
    }
}

fn schedule(run: &mut Run) -> Result<()> {
    first_version(run)?;
    second_version(run)?;
    resumed(run)?;
    offsets(run)?;
    markers(run)
}

fn first_version(run: &mut Run) -> Result<()> {
    run.turn_to("one")?;
    run.describe("unknown")?;
    run.add("add to an unknown id", Who(1, 0), &[("t", 0)], 3)?;
    run.end("end of an unknown id", Who(1, 0), true, 3)?;
    run.init("no time", NOBODY, 0, 4)?;
    run.init("too much time", NOBODY, 900_001, 4)?;
    run.init("half an identity", Who(5, -1), 600_000, 4)?;
    let who = run.init("init", NOBODY, 600_000, 4)?;
    run.describe("empty")?;
    run.end("nothing to commit", who, true, 3)?;
    run.end("nothing to abort", who, false, 3)?;
    for version in [9, 11] {
        run.send("not added", who, 0, 0, version)?;
    }
    run.send_as("without an id", None, who, 0, 0, 11, true)?;
    run.add("unknown partitions", who, &[("t", 0), ("t", 9), ("none", 0)], 3)?;
    run.add("another producer", Who(who.0 + 1, who.1), &[("t", 0)], 3)?;
    for version in [1, 3] {
        run.add("another epoch", Who(who.0, who.1 + 1), &[("t", 0)], version)?;
    }
    run.add("add", who, &[("t", 0), ("u", 1)], 3)?;
    run.add("verify", who, &[("t", 0), ("t", 1)], 4)?;
    run.add("verify another epoch", Who(who.0, who.1 + 1), &[("t", 0)], 4)?;
    run.describe("ongoing")?;
    run.send("send", who, 0, 0, 11)?;
    run.send("sent again", who, 0, 0, 11)?;
    run.send("a gap", who, 0, 5, 11)?;
    run.send_as("outside of the transaction", Some("one"), who, 0, 1, 11, false)?;
    run.describe("with a record")?;
    for version in [1, 2] {
        run.end("another epoch", Who(who.0, who.1 + 1), true, version)?;
    }
    run.end("commit", who, true, 3)?;
    run.end("commit again", who, true, 3)?;
    run.end("abort then", who, false, 3)?;
    run.describe("committed")?;
    run.add("add", who, &[("t", 0)], 3)?;
    run.send("the next sequence", who, 0, 1, 11)?;
    let next = run.init("another producer", NOBODY, 600_000, 4)?;
    run.describe("fenced")?;
    run.send("a fenced producer", who, 0, 2, 11)?;
    for version in [1, 2, 3] {
        run.end("a fenced producer", who, true, version)?;
        run.add("a fenced producer", who, &[("t", 0)], version)?;
    }
    run.add("add", next, &[("t", 0)], 3)?;
    run.send("the new producer", next, 0, 0, 11)?;
    run.end("abort", next, false, 3)?;
    run.end("commit then", next, true, 3)?;
    run.list("all", &[], None)?;
    run.list("by state", &["CompleteAbort", "Nonsense"], None)?;
    run.list("by no state", &["Nonsense"], None)?;
    run.list("by id", &[], Some("o.*"))?;
    run.list("by part of an id", &[], Some("n"))?;
    run.list("by nonsense", &[], Some("("))
}

fn second_version(run: &mut Run) -> Result<()> {
    run.turn_to("two")?;
    let who = run.init("init", NOBODY, 600_000, 5)?;
    run.send("a gap at first", who, 1, 3, 12)?;
    run.send("send", who, 0, 0, 12)?;
    run.describe("ongoing")?;
    run.send("more", who, 0, 1, 12)?;
    let next = run.end("commit", who, true, 5)?;
    run.end("commit again", who, true, 5)?;
    run.end("abort then", who, false, 5)?;
    run.end("commit of nothing", next, true, 5)?;
    run.send("the last epoch", who, 0, 2, 12)?;
    run.describe("committed")?;
    let next = run.end("abort of nothing", next, false, 5)?;
    run.describe("aborted")?;
    run.send("send", next, 0, 0, 12)?;
    let next = run.end("abort", next, false, 5)?;
    run.end("commit then", next, true, 5)?;
    run.send("send", next, 0, 0, 12)?;
    let new = run.init("another producer", NOBODY, 600_000, 5)?;
    run.describe("fenced")?;
    run.end("a fenced producer", next, true, 5)?;
    run.send("a fenced producer", next, 0, 1, 12)?;
    run.send("send", new, 1, 0, 12)?;
    run.end("an older version", new, true, 4)?;
    run.end("a strange producer", Who(new.0 + 7, 0), true, 5)?;
    Ok(())
}

fn resumed(run: &mut Run) -> Result<()> {
    run.turn_to("three")?;
    let first = run.init("init", NOBODY, 600_000, 4)?;
    let second = run.init("goes on", first, 600_000, 4)?;
    run.init("goes on again", first, 600_000, 4)?;
    run.init("goes on", second, 600_000, 4)?;
    for version in [3, 4] {
        run.init("is fenced", first, 600_000, version)?;
    }
    run.init("is another", Who(first.0 + 1, 0), 600_000, 4)?;
    run.turn_to("four")?;
    run.init("says who it is at first", Who(first.0, 3), 600_000, 4)?;
    Ok(())
}

fn offsets(run: &mut Run) -> Result<()> {
    let anyone = (-1, "");
    run.turn_to("five")?;
    let who = run.init("init", NOBODY, 600_000, 4)?;
    for version in [3, 4] {
        run.commit_offsets("not added", who, anyone, version)?;
    }
    run.add_offsets("another epoch", Who(who.0, who.1 + 1), 1)?;
    run.add_offsets("another epoch", Who(who.0, who.1 + 1), 3)?;
    run.add_offsets("add", who, 3)?;
    run.commit_offsets("commit", who, anyone, 2)?;
    run.commit_offsets("a member of nothing", who, (4, "m"), 3)?;
    run.commit_offsets("commit", who, anyone, 3)?;
    run.fetch_offsets("pending")?;
    run.end("abort", who, false, 3)?;
    run.fetch_offsets("aborted")?;
    run.commit_offsets("adds the group", who, anyone, 5)?;
    run.commit_offsets("another epoch", Who(who.0, who.1 + 1), anyone, 5)?;
    run.fetch_offsets("pending")?;
    let next = run.end("commit", who, true, 5)?;
    run.fetch_offsets("committed")?;
    run.commit_offsets("an old epoch", who, anyone, 5)?;
    run.commit_offsets("the next", next, anyone, 5)?;
    run.end("abort", next, false, 5)?;
    run.fetch_offsets("unchanged")
}

fn markers(run: &mut Run) -> Result<()> {
    run.turn_to("six")?;
    let who = run.init("init", NOBODY, 600_000, 4)?;
    let who = run.init("init", who, 600_000, 4)?;
    run.send("send", who, 0, 0, 12)?;
    run.mark("an old epoch", Who(who.0, who.1 - 1), 99, 1)?;
    run.mark("its own epoch", who, 99, 2)?;
    run.mark("by hand", who, 99, 1)?;
    run.mark("again", who, 99, 2)?;
    run.mark("an old coordinator", who, 98, 1)?;
    run.mark("a new epoch", Who(who.0, who.1 + 1), 99, 2)?;
    run.describe("by hand")
}

#[test]
fn our_answers_are_those_of_apache_kafka() -> Result<()> {
    let mut transcripts = Vec::new();
    for kind in Kind::BOTH {
        let given = match kind {
            Kind::Aqueduct => std::env::var("TXN_OURS").ok(),
            Kind::ApacheKafka => std::env::var("TXN_KAFKA").ok(),
        };
        let mut run = match given {
            Some(address) => Run::new(&address)?,
            None => {
                let settings = [("transaction.state.log.num.partitions", "3")];
                let server = Server::start_with(kind, &settings)?;
                let mut run = Run::new(&server.bootstrap())?;
                schedule(&mut run)?;
                transcripts.push(run.said);
                continue;
            }
        };
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
