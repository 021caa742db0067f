//! Members of the consumer protocol (KIP-848), which wait for nobody: so one connection speaks for hundreds of them.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use aqueduct_protocol::messages::ConsumerGroupHeartbeatRequest;
use aqueduct_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use aqueduct_protocol::messages::consumer_group_heartbeat_response::Assignment;
use tokio::task::JoinSet;

use super::{Counts, GROUP, Notes, probe, topic};
use crate::measure::{cpu_seconds, memory_mib};
use crate::peer::Broker;
use crate::wire::Connection;

/// Groups that one connection speaks for.
const GROUPS_EACH: usize = 5;
/// Between two heartbeats of a member: twice what the broker asks for, and far below its session timeout.
const INTERVAL: Duration = Duration::from_secs(10);
const VERSION: i16 = 0;

/// One member as it knows itself.
struct Member {
    group: String,
    topic: String,
    id: String,
    epoch: i32,
    owned: Vec<TopicPartitions>,
}

impl Member {
    fn new(group: usize, topics: usize) -> Self {
        let (group, topic) = (format!("consumers-{group}"), topic(group % topics));
        Self { group, topic, id: String::new(), epoch: 0, owned: Vec::new() }
    }

    fn partitions(&self) -> usize {
        self.owned.iter().map(|topic| topic.partitions.len()).sum()
    }

    /// Joins with the first, stays with every other; takes what it is assigned.
    async fn heartbeat(&mut self, connection: &mut Connection) -> Result<()> {
        let is_joining = self.epoch == 0;
        let request = ConsumerGroupHeartbeatRequest {
            group_id: self.group.as_str().into(),
            member_id: self.id.as_str().into(),
            member_epoch: self.epoch,
            rebalance_timeout_ms: if is_joining { 300_000 } else { -1 },
            subscribed_topic_names: is_joining.then(|| vec![self.topic.as_str().into()]),
            topic_partitions: Some(self.owned.clone()),
            ..Default::default()
        };
        let answer = connection.call(&request, VERSION).await?;
        ensure!(answer.error_code == 0, "{}: code {}", self.group, answer.error_code);
        if let Some(id) = answer.member_id {
            self.id = id.to_string();
        }
        self.epoch = answer.member_epoch;
        if let Some(Assignment { topic_partitions, .. }) = answer.assignment {
            let owned = topic_partitions.into_iter();
            self.owned = owned
                .map(|part| TopicPartitions { topic_id: part.topic_id, partitions: part.partitions })
                .collect();
        }
        Ok(())
    }
}

/// Members that one connection speaks for.
async fn settle(
    port: u16,
    groups: std::ops::Range<usize>,
    topics: usize,
) -> Result<(Connection, Vec<Member>)> {
    let mut connection = Connection::open(port).await?;
    let mut members: Vec<Member> =
        groups.flat_map(|group| (0..GROUP).map(move |_| Member::new(group, topics))).collect();
    let from = Instant::now();
    while members.iter().any(|member| member.partitions() != 1) {
        ensure!(from.elapsed() < Duration::from_secs(300), "{} does not settle", members[0].group);
        for member in &mut members {
            member.heartbeat(&mut connection).await?;
        }
    }
    Ok((connection, members))
}

/// Has all members join, and others be served while all of them send heartbeats.
pub async fn members(broker: &Broker, counts: &Counts, notes: &mut Notes<'_>) -> Result<()> {
    let scenario = format!("{} consumers of {} groups", counts.consumers * GROUP, counts.consumers);
    let before = memory_mib(broker.id())?.0;
    let (from, cpu) = (Instant::now(), cpu_seconds(broker.id())?);
    let mut settling = JoinSet::new();
    for first in (0..counts.consumers).step_by(GROUPS_EACH) {
        let groups = first..(first + GROUPS_EACH).min(counts.consumers);
        settling.spawn(settle(broker.port, groups, counts.topics));
    }
    let settled: Result<Vec<_>> = settling.join_all().await.into_iter().collect();
    notes.add(&scenario, "all assigned, s", from.elapsed().as_secs_f64());
    notes.add(&scenario, "CPU s for that", cpu_seconds(broker.id())? - cpu);
    notes.add(&scenario, "more resident MiB", memory_mib(broker.id())?.0 - before);
    let mut beating = JoinSet::new();
    for (mut connection, mut members) in settled? {
        beating.spawn(async move {
            let mut ticks = tokio::time::interval(INTERVAL / members.len() as u32);
            loop {
                for member in &mut members {
                    ticks.tick().await;
                    member.heartbeat(&mut connection).await?;
                }
            }
        });
    }
    // All of them once before, as some had to wait for the last.
    tokio::time::sleep(INTERVAL).await;
    let (from, cpu) = (Instant::now(), cpu_seconds(broker.id())?);
    probe(broker, "beside heartbeats of all consumers", notes).await?;
    let share = (cpu_seconds(broker.id())? - cpu) * 100.0 / from.elapsed().as_secs_f64();
    notes.add(&scenario, "CPU % of their heartbeats", share);
    // None of them ends by itself but with an error.
    if let Some(ended) = beating.try_join_next() {
        let ended: Result<()> = ended?;
        ended?;
    }
    Ok(())
}
