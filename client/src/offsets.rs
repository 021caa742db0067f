//! Looking up offsets by timestamp or by place (ListOffsets), at whoever leads the partitions.

use std::collections::HashMap;
use std::time::Duration;

use aqueduct_protocol::ids::{LeaderEpoch, Offset, PartitionIndex};
use aqueduct_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use aqueduct_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use bytestring::ByteString;
use futures_util::future::join_all;

use crate::client::{Client, missing};
use crate::config::IsolationLevel;
use crate::error::{Error, Result};
use crate::metadata::{Broker, Metadata};
use crate::net::Lane;
use crate::types::{OffsetSpec, TopicPartition};

const API: &str = "ListOffsets";

/// An offset that was looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedOffset {
    /// -1 where no record has such a timestamp.
    pub offset: Offset,
    /// Timestamp of the record there; -1 where it was not looked up by timestamp.
    pub timestamp: i64,
    pub leader_epoch: Option<LeaderEpoch>,
}

/// What is found of each partition.
pub(crate) type Found = HashMap<TopicPartition, Result<ListedOffset>>;

/// Looks up all of `wanted`, retrying what can be retried for `limit`. Partitions that failed for good, or to the end, have
/// their own error.
pub(crate) async fn list(
    client: &Client,
    wanted: HashMap<TopicPartition, OffsetSpec>,
    isolation: IsolationLevel,
    limit: Duration,
) -> Found {
    let mut found = Found::with_capacity(wanted.len());
    let mut retry = client.retry("ListOffsets", limit);
    let mut left = wanted;
    loop {
        let attempt = once(client, &left, isolation).await;
        let mut again = HashMap::new();
        let mut last = None;
        for (partition, result) in attempt {
            match (result, left.remove(&partition)) {
                (Err(error), Some(spec)) if error.is_retriable() => {
                    last = Some(error.clone());
                    found.insert(partition.clone(), Err(error));
                    again.insert(partition, spec);
                }
                (result, _) => {
                    found.insert(partition, result);
                }
            }
        }
        left = again;
        let Some(error) = last else { return found };
        if retry.after(error).await.is_err() {
            return found;
        }
        let topics = left.keys().map(|partition| partition.topic.clone()).collect();
        // If it fails, the next attempt does as well.
        let _ = client.refresh(Some(topics)).await;
    }
}

/// One attempt; every partition of `wanted` is in the result.
async fn once(
    client: &Client,
    wanted: &HashMap<TopicPartition, OffsetSpec>,
    isolation: IsolationLevel,
) -> Found {
    let mut topics: Vec<ByteString> = wanted.keys().map(|partition| partition.topic.clone()).collect();
    topics.sort();
    topics.dedup();
    let image = match client.metadata(&topics).await {
        Ok(image) => image,
        Err(error) => {
            return wanted.keys().map(|partition| (partition.clone(), Err(error.clone()))).collect();
        }
    };
    let mut found = Found::new();
    let mut by_leader: HashMap<_, (Broker, Vec<(TopicPartition, OffsetSpec)>)> = HashMap::new();
    for (partition, spec) in wanted {
        match leader(&image, partition) {
            Ok(leader) => {
                let (_, asked) = by_leader.entry(leader.id).or_insert_with(|| (leader.clone(), Vec::new()));
                asked.push((partition.clone(), *spec));
            }
            Err(error) => {
                found.insert(partition.clone(), Err(error));
            }
        }
    }
    let calls = by_leader.into_values().map(|(leader, asked)| ask(client, leader, asked, isolation));
    found.extend(join_all(calls).await.into_iter().flatten());
    found
}

/// Who leads `partition`, or why nobody does.
pub(crate) fn leader<'a>(image: &'a Metadata, partition: &TopicPartition) -> Result<&'a Broker> {
    let Some(topic) = image.topic(&partition.topic) else { return Err(missing(image, &partition.topic)) };
    if usize::try_from(partition.partition.0).map_or(true, |index| index >= topic.partitions.len()) {
        let count = topic.partitions.len();
        return Err(Error::UnknownPartition { partition: partition.clone(), count });
    }
    image
        .leader(&partition.topic, partition.partition)
        .ok_or_else(|| Error::NoLeader { partition: partition.clone() })
}

async fn ask(
    client: &Client,
    leader: Broker,
    asked: Vec<(TopicPartition, OffsetSpec)>,
    isolation: IsolationLevel,
) -> Vec<(TopicPartition, Result<ListedOffset>)> {
    let mut topics: Vec<ListOffsetsTopic> = Vec::new();
    for (partition, spec) in &asked {
        let entry = ListOffsetsPartition {
            partition_index: partition.partition.0,
            current_leader_epoch: -1,
            timestamp: spec.wire(),
        };
        match topics.iter_mut().find(|topic| topic.name == partition.topic) {
            Some(topic) => topic.partitions.push(entry),
            None => topics.push(ListOffsetsTopic { name: partition.topic.clone(), partitions: vec![entry] }),
        }
    }
    let timeout_ms = i32::try_from(client.config().request_timeout.as_millis()).unwrap_or(i32::MAX);
    let request = |version: i16| ListOffsetsRequest {
        replica_id: -1,
        isolation_level: isolation.wire(),
        topics,
        timeout_ms: if version >= 10 { timeout_ms } else { 0 },
    };
    let address = leader.address();
    let answer = client.call(Lane::SHARED, &leader, i16::MAX, request).await;
    match answer {
        Ok(answer) => sort_out(&address, asked, answer),
        Err(error) => asked.into_iter().map(|(partition, _)| (partition, Err(error.clone()))).collect(),
    }
}

fn sort_out(
    address: &str,
    asked: Vec<(TopicPartition, OffsetSpec)>,
    answer: ListOffsetsResponse,
) -> Vec<(TopicPartition, Result<ListedOffset>)> {
    let mut parts: HashMap<TopicPartition, _> = HashMap::new();
    for topic in answer.topics {
        for part in topic.partitions {
            let index = PartitionIndex(part.partition_index);
            parts.insert(TopicPartition { topic: topic.name.clone(), partition: index }, part);
        }
    }
    asked
        .into_iter()
        .map(|(partition, _)| {
            let result = match parts.remove(&partition) {
                Some(part) => Error::check(address, API, || partition.to_string(), part.error_code, None)
                    .map(|()| ListedOffset {
                        offset: Offset(part.offset),
                        timestamp: part.timestamp,
                        leader_epoch: Some(LeaderEpoch(part.leader_epoch)).filter(|epoch| epoch.0 >= 0),
                    }),
                None => Err(Error::left_out(address, API, &partition)),
            };
            (partition, result)
        })
        .collect()
}
