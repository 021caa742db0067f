//! Many partitions, many connections, many parked fetches, many group members: what they cost, and whether the others
//! notice.

mod consumers;

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use aqueduct_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use aqueduct_protocol::messages::join_group_response::JoinGroupResponseMember;
use aqueduct_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use aqueduct_protocol::messages::{
    ApiVersionsRequest, FetchRequest, FindCoordinatorRequest, HeartbeatRequest, JoinGroupRequest,
    SyncGroupRequest,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::task::JoinSet;

use crate::measure::{Percentiles, cpu_seconds, memory_mib};
use crate::peer::Broker;
use crate::report::Report;
use crate::wire::{self, Connection};

/// Partitions of one topic, and of one request.
const GROUP: usize = 100;
/// Requests that probe how the others are served.
const PROBES: usize = 500;

#[derive(clap::Args)]
pub struct Args {
    /// Runs of each peer.
    #[arg(long, default_value_t = 1)]
    rounds: u32,
    #[arg(long, default_value_t = 10_000)]
    partitions: usize,
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Partitions that parked fetches wait for, a hundred by each connection.
    #[arg(long, default_value_t = 100_000)]
    parked: usize,
    /// Members of classic groups of a hundred, each with a connection of its own.
    #[arg(long, default_value_t = 8_000)]
    members: usize,
    /// Members of groups of a hundred by the consumer protocol.
    #[arg(long, default_value_t = 100_000)]
    consumers: usize,
    /// The share of all that which the peer is given, so that a run ends in time.
    #[arg(long, default_value_t = 0.2)]
    peer_share: f64,
    /// Only ours.
    #[arg(long)]
    ours: bool,
}

struct Counts {
    topics: usize,
    connections: usize,
    parked: usize,
    groups: usize,
    consumers: usize,
}

impl Args {
    fn counts(&self, share: f64) -> Counts {
        let part = |count: usize| (count as f64 * share) as usize;
        Counts {
            topics: part(self.partitions).div_ceil(GROUP),
            connections: part(self.connections),
            parked: part(self.parked).div_ceil(GROUP),
            groups: part(self.members).div_ceil(GROUP),
            consumers: part(self.consumers).div_ceil(GROUP),
        }
    }
}

/// Runs all of it against both peers.
pub fn run(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut report = Report::new("scale");
    // Their directories stay until the end: ext4 passes inodes that were freed a moment ago over one by one.
    let mut ended = Vec::new();
    for round in 1..=args.rounds {
        let ours = Broker::ours()?;
        eprintln!("round {round} of {}: {}", args.rounds, ours.name);
        ended.push(runtime.block_on(one(ours, &args.counts(1.0), &mut report))?);
        if !args.ours {
            let kafka = Broker::kafka()?;
            eprintln!(
                "round {round} of {}: {} with {} of the counts",
                args.rounds, kafka.name, args.peer_share
            );
            ended.push(runtime.block_on(one(kafka, &args.counts(args.peer_share), &mut report))?);
        }
    }
    report.finish()
}

/// Notes figures of one peer; counts stand in the names, as the peers may have others.
struct Notes<'a> {
    report: &'a mut Report,
    name: &'static str,
}

impl Notes<'_> {
    fn add(&mut self, scenario: &str, measure: &str, value: f64) {
        eprintln!("  {}: {scenario}: {measure}: {value:.2}", self.name);
        self.report.add(scenario, measure, self.name, value);
    }
}

async fn one(mut broker: Broker, counts: &Counts, report: &mut Report) -> Result<Broker> {
    let mut notes = Notes { report, name: broker.name };
    partitions(&mut broker, counts, &mut notes).await?;
    connections(&broker, counts, &mut notes).await?;
    Connection::open(broker.port).await?.create(&["probe".to_owned()], 1).await?;
    probe(&broker, "beside nothing", &mut notes).await?;
    parked(&broker, counts, &mut notes).await?;
    members(&broker, counts, &mut notes).await?;
    consumers::members(&broker, counts, &mut notes).await?;
    broker.stop()?;
    Ok(broker)
}

fn topic(number: usize) -> String {
    format!("scale-{number:04}")
}

async fn partitions(broker: &mut Broker, counts: &Counts, notes: &mut Notes<'_>) -> Result<()> {
    let count = counts.topics * GROUP;
    let scenario = format!("{count} partitions");
    let names: Vec<String> = (0..counts.topics).map(topic).collect();
    let (from, cpu) = (Instant::now(), cpu_seconds(broker.id())?);
    let mut connection = Connection::open(broker.port).await?;
    for names in names.chunks(10) {
        connection.create(names, GROUP as i32).await?;
    }
    while connection.led().await? < count {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    notes.add(&scenario, "created, s", from.elapsed().as_secs_f64());
    for name in &names {
        connection.produce(name, GROUP as i32).await?;
    }
    notes.add(&scenario, "and a record in each, s", from.elapsed().as_secs_f64());
    notes.add(&scenario, "CPU s for that", cpu_seconds(broker.id())? - cpu);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let cpu = cpu_seconds(broker.id())?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    notes.add(&scenario, "idle, CPU %", (cpu_seconds(broker.id())? - cpu) * 10.0);
    notes.add(&scenario, "idle, resident MiB", memory_mib(broker.id())?.0);
    drop(connection);

    let from = Instant::now();
    broker.stop()?;
    notes.add(&scenario, "clean stop, s", from.elapsed().as_secs_f64());
    let from = Instant::now();
    broker.restart()?;
    notes.add(&scenario, "restart to first answer, s", from.elapsed().as_secs_f64());
    let mut connection = Connection::open(broker.port).await?;
    for name in &names {
        while !matches!(connection.ends(name, GROUP as i32).await, Ok(ends) if ends.iter().all(|end| *end == 1))
        {
            ensure!(from.elapsed() < Duration::from_secs(300), "{name} is not served after the restart");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    notes.add(&scenario, "restart to all served, s", from.elapsed().as_secs_f64());
    notes.add(&scenario, "restarted, resident MiB", memory_mib(broker.id())?.0);
    Ok(())
}

async fn open_many(port: u16, count: usize) -> Result<Vec<Connection>> {
    let open = |_| async move { Connection::open(port).await };
    stream::iter(0..count).map(open).buffer_unordered(64).try_collect().await
}

async fn connections(broker: &Broker, counts: &Counts, notes: &mut Notes<'_>) -> Result<()> {
    let scenario = format!("{} idle connections", counts.connections);
    let before = memory_mib(broker.id())?.0;
    let connections = open_many(broker.port, counts.connections).await?;
    let asked = stream::iter(connections).map(|mut connection| async move {
        connection.call(&ApiVersionsRequest::default(), 0).await?;
        Ok::<_, anyhow::Error>(connection)
    });
    let connections: Vec<Connection> = asked.buffer_unordered(64).try_collect().await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    notes.add(&scenario, "more resident MiB", memory_mib(broker.id())?.0 - before);
    let cpu = cpu_seconds(broker.id())?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    notes.add(&scenario, "idle, CPU %", (cpu_seconds(broker.id())? - cpu) * 20.0);
    drop(connections);
    Ok(())
}

/// How long one producer and one consumer wait for each of their answers.
async fn probe(broker: &Broker, beside: &str, notes: &mut Notes<'_>) -> Result<()> {
    let mut connection = Connection::open(broker.port).await?;
    let mut offset = loop {
        match connection.ends("probe", 1).await {
            Ok(ends) => break ends[0],
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let (mut produced, mut fetched) = (Percentiles::new(), Percentiles::new());
    for _ in 0..PROBES {
        let from = Instant::now();
        connection.produce("probe", 1).await?;
        produced.add(from.elapsed());
        let from = Instant::now();
        connection.call(&wire::fetch("probe", &[offset], 1000), wire::FETCH).await?;
        fetched.add(from.elapsed());
        offset += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    for (verb, times) in [("produce", &produced), ("fetch", &fetched)] {
        notes.add(&format!("one producer and consumer {beside}"), &format!("{verb} p50, ms"), times.at(50.0));
        notes.add(&format!("one producer and consumer {beside}"), &format!("{verb} p99, ms"), times.at(99.0));
    }
    Ok(())
}

async fn parked(broker: &Broker, counts: &Counts, notes: &mut Notes<'_>) -> Result<()> {
    let scenario = format!("{} x {GROUP} parked fetches", counts.parked);
    let before = memory_mib(broker.id())?.0;
    let mut waiting = Vec::with_capacity(counts.parked);
    for (number, mut connection) in open_many(broker.port, counts.parked).await?.into_iter().enumerate() {
        let topic = topic(number % counts.topics);
        let id = connection.send(&wire::fetch(&topic, &[1; GROUP], 600_000), wire::FETCH).await?;
        waiting.push((topic, id, connection));
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    notes.add(&scenario, "more resident MiB", memory_mib(broker.id())?.0 - before);
    probe(broker, "beside parked fetches", notes).await?;
    // One record for each topic wakes all.
    let (from, cpu) = (Instant::now(), cpu_seconds(broker.id())?);
    let mut producer = Connection::open(broker.port).await?;
    for number in 0..counts.topics.min(counts.parked) {
        producer.produce(&topic(number), 1).await?;
    }
    let woken = stream::iter(waiting).map(|(_, id, mut connection)| async move {
        connection.receive::<FetchRequest>(wire::FETCH, id).await.map(|_| ())
    });
    woken.buffer_unordered(64).try_collect::<Vec<()>>().await?;
    notes.add(&scenario, "all woken, s", from.elapsed().as_secs_f64());
    notes.add(&scenario, "CPU s for that", cpu_seconds(broker.id())? - cpu);
    Ok(())
}

/// One member of a group; `complete` is the generation in which all of its members are.
struct Member {
    connection: Connection,
    group: String,
    complete: Arc<AtomicI32>,
    id: String,
    generation: i32,
}

impl Member {
    /// Joins until the group is complete.
    async fn settle(mut self) -> Result<Self> {
        let from = Instant::now();
        loop {
            ensure!(from.elapsed() < Duration::from_secs(300), "{} does not settle", self.group);
            if !self.join().await? {
                continue;
            }
            loop {
                let code = self.heartbeat().await?;
                if code != 0 {
                    break;
                }
                if self.complete.load(Ordering::Acquire) == self.generation {
                    return Ok(self);
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }

    async fn join(&mut self) -> Result<bool> {
        let request = JoinGroupRequest {
            group_id: self.group.as_str().into(),
            session_timeout_ms: 60_000,
            rebalance_timeout_ms: 60_000,
            member_id: self.id.as_str().into(),
            protocol_type: "bench".into(),
            protocols: vec![JoinGroupRequestProtocol { name: "p".into(), metadata: "m".into() }],
            ..Default::default()
        };
        let joined = self.connection.call(&request, 3).await?;
        self.id = joined.member_id.to_string();
        if joined.error_code != 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            return Ok(false);
        }
        self.generation = joined.generation_id;
        let assignment = |member: &JoinGroupResponseMember| SyncGroupRequestAssignment {
            member_id: member.member_id.clone(),
            assignment: "a".into(),
        };
        let request = SyncGroupRequest {
            group_id: self.group.as_str().into(),
            generation_id: self.generation,
            member_id: joined.member_id.clone(),
            assignments: joined.members.iter().map(assignment).collect(),
            ..Default::default()
        };
        let is_settled = self.connection.call(&request, 2).await?.error_code == 0;
        if is_settled && joined.members.len() == GROUP {
            self.complete.store(self.generation, Ordering::Release);
        }
        Ok(is_settled)
    }

    async fn heartbeat(&mut self) -> Result<i16> {
        let request = HeartbeatRequest {
            group_id: self.group.as_str().into(),
            generation_id: self.generation,
            member_id: self.id.as_str().into(),
            group_instance_id: None,
        };
        Ok(self.connection.call(&request, 2).await?.error_code)
    }
}

async fn members(broker: &Broker, counts: &Counts, notes: &mut Notes<'_>) -> Result<()> {
    let scenario = format!("{} members of {} groups", counts.groups * GROUP, counts.groups);
    let before = memory_mib(broker.id())?.0;
    // The first request to a coordinator makes its topic.
    let mut connection = Connection::open(broker.port).await?;
    let request = FindCoordinatorRequest { key: "bench-0".into(), ..Default::default() };
    while connection.call(&request, 1).await?.error_code != 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let complete: Vec<_> = (0..counts.groups).map(|_| Arc::new(AtomicI32::new(-1))).collect();
    let (from, cpu) = (Instant::now(), cpu_seconds(broker.id())?);
    let connections = open_many(broker.port, counts.groups * GROUP).await?;
    let mut settling = JoinSet::new();
    for (number, connection) in connections.into_iter().enumerate() {
        let group = number % counts.groups;
        let complete = complete[group].clone();
        let group = format!("bench-{group}");
        let member = Member { connection, group, complete, id: String::new(), generation: -1 };
        settling.spawn(member.settle());
    }
    let mut members = Vec::new();
    while let Some(settled) = settling.join_next().await {
        members.push(settled??);
    }
    notes.add(&scenario, "all groups complete, s", from.elapsed().as_secs_f64());
    notes.add(&scenario, "CPU s for that", cpu_seconds(broker.id())? - cpu);
    notes.add(&scenario, "more resident MiB", memory_mib(broker.id())?.0 - before);
    let mut beating = JoinSet::new();
    for (number, mut member) in members.into_iter().enumerate() {
        beating.spawn(async move {
            tokio::time::sleep(Duration::from_millis(number as u64 % 3000)).await;
            loop {
                ensure!(member.heartbeat().await? == 0, "{} rebalances", member.group);
                tokio::time::sleep(Duration::from_secs(3)).await;
            }
        });
    }
    probe(broker, "beside heartbeats of all members", notes).await?;
    // None of them ends by itself but with an error.
    if let Some(ended) = beating.try_join_next() {
        let ended: Result<()> = ended?;
        ended?;
    }
    Ok(())
}
