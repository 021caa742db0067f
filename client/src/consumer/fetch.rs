//! One Fetch request to one broker, and what its answer says of each partition.

use aqueduct_protocol::ids::{BrokerId, Offset, PartitionIndex, Uuid};
use aqueduct_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use aqueduct_protocol::messages::fetch_response::{AbortedTransaction, PartitionData};
use aqueduct_protocol::messages::{FetchRequest, FetchResponse};
use bytestring::ByteString;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::chunk::{FetchedBatches, whole_batches};
use crate::client::Client;
use crate::config::{ClientConfig, IsolationLevel};
use crate::error::{Error, Result};
use crate::metadata::{Broker, Metadata};
use crate::net::Lane;
use crate::types::TopicPartition;

const API: &str = "Fetch";
/// From this version on topics are named by their ids.
const BY_ID: i16 = 13;

/// A partition to fetch.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) partition: TopicPartition,
    pub(super) at: Offset,
    /// [`super::positions::Assigned::epoch`] of when it was asked.
    pub(super) epoch: u64,
}

/// What came of one partition.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) fetched: FetchedBatches,
    pub(super) aborted: Option<Vec<AbortedTransaction>>,
}

/// What an answer says of one partition.
#[derive(Debug, Default)]
pub(super) struct Brought {
    /// `None` where there was nothing.
    pub(super) chunk: Option<Chunk>,
    /// The high watermark, where the answer has it.
    pub(super) end: Option<Offset>,
}

/// A finished request.
pub(super) struct Fetched {
    pub(super) broker: BrokerId,
    /// Each partition that was asked for, and what came of it.
    pub(super) parts: Vec<(Wanted, Result<Brought>)>,
}

/// Starts one request.
pub(super) fn start(
    client: &Client,
    lane: Lane,
    image: &Metadata,
    leader: Broker,
    wanted: Vec<Wanted>,
    max_bytes: usize,
) -> BoxFuture<'static, Fetched> {
    let limit = i32::try_from(client.config().max_partition_fetch_bytes).unwrap_or(i32::MAX);
    let topics = topics(image, &wanted, limit);
    let by_id = topics.iter().all(|topic| !topic.topic_id.is_zero());
    let names: Vec<(ByteString, Uuid)> = topics.iter().map(|t| (t.topic.clone(), t.topic_id)).collect();
    let request = request(client.config(), topics, max_bytes);
    let cap = if by_id { i16::MAX } else { BY_ID - 1 };
    let client = client.clone();
    async move {
        let answer = call(&client, lane, &leader, cap, request).await;
        let address = leader.address();
        let isolation = client.config().isolation_level;
        let parts = match answer {
            Ok(answer) => sort_out(&address, &names, wanted, answer, isolation),
            Err(error) => wanted.into_iter().map(|one| (one, Err(error.clone()))).collect(),
        };
        Fetched { broker: leader.id, parts }
    }
    .boxed()
}

async fn call(
    client: &Client,
    lane: Lane,
    leader: &Broker,
    cap: i16,
    request: FetchRequest,
) -> Result<FetchResponse> {
    let connection = client.connect(lane, leader).await?;
    let config = client.config();
    let timeout = config.request_timeout + config.fetch_max_wait;
    connection.call(cap, |_| request, timeout).await
}

fn request(config: &ClientConfig, topics: Vec<FetchTopic>, max_bytes: usize) -> FetchRequest {
    let int = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    FetchRequest {
        max_wait_ms: i32::try_from(config.fetch_max_wait.as_millis()).unwrap_or(i32::MAX),
        min_bytes: int(config.fetch_min_bytes),
        max_bytes: int(max_bytes),
        isolation_level: config.isolation_level.wire(),
        session_id: 0,
        session_epoch: -1,
        topics,
        ..Default::default()
    }
}

fn topics(image: &Metadata, wanted: &[Wanted], limit: i32) -> Vec<FetchTopic> {
    let mut topics: Vec<FetchTopic> = Vec::new();
    for one in wanted {
        let of = &one.partition;
        let epoch = image.partition(&of.topic, of.partition).map_or(-1, |known| known.leader_epoch.0);
        let partition = FetchPartition {
            partition: of.partition.0,
            current_leader_epoch: epoch,
            fetch_offset: one.at.0,
            partition_max_bytes: limit,
            ..Default::default()
        };
        match topics.iter_mut().find(|topic| topic.topic == of.topic) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(FetchTopic {
                topic: of.topic.clone(),
                topic_id: image.topic(&of.topic).map_or(Uuid::ZERO, |topic| topic.id),
                partitions: vec![partition],
            }),
        }
    }
    topics
}

fn sort_out(
    address: &str,
    names: &[(ByteString, Uuid)],
    wanted: Vec<Wanted>,
    answer: FetchResponse,
    isolation: IsolationLevel,
) -> Vec<(Wanted, Result<Brought>)> {
    if let Err(error) = Error::check(address, API, || "this consumer".to_owned(), answer.error_code, None) {
        return wanted.into_iter().map(|one| (one, Err(error.clone()))).collect();
    }
    let mut parts = std::collections::HashMap::new();
    for topic in answer.responses {
        let name = match names.iter().find(|(_, id)| topic.topic.is_empty() && *id == topic.topic_id) {
            Some((name, _)) => name.clone(),
            None => topic.topic,
        };
        for part in topic.partitions {
            let partition = PartitionIndex(part.partition_index);
            parts.insert(TopicPartition { topic: name.clone(), partition }, part);
        }
    }
    wanted
        .into_iter()
        .map(|one| {
            // A partition that is left out has no news.
            let result = match parts.remove(&one.partition) {
                Some(part) => {
                    let end = (part.high_watermark >= 0).then_some(Offset(part.high_watermark));
                    chunk(address, &one, part, isolation).map(|chunk| Brought { chunk, end })
                }
                None => Ok(Brought::default()),
            };
            (one, result)
        })
        .collect()
}

fn chunk(
    address: &str,
    one: &Wanted,
    part: PartitionData,
    isolation: IsolationLevel,
) -> Result<Option<Chunk>> {
    Error::check(address, API, || format!("{}@{}", one.partition, one.at), part.error_code, None)?;
    let records = part.records.unwrap_or_default();
    if records.is_empty() {
        return Ok(None);
    }
    let bad = |why: String| Error::BadBatch { partition: one.partition.clone(), offset: one.at, why };
    let bytes = records.len();
    let (batches, next) = whole_batches(records).map_err(|why| bad(why.to_string()))?;
    let next_offset = next.ok_or_else(|| {
        bad(format!("{bytes} bytes without one whole batch; raise max.partition.fetch.bytes"))
    })?;
    let read_committed = isolation == IsolationLevel::ReadCommitted;
    let aborted = read_committed.then(|| part.aborted_transactions.unwrap_or_default());
    let fetched = FetchedBatches {
        partition: one.partition.clone(),
        fetch_offset: one.at,
        next_offset: next_offset.max(one.at),
        batches,
        high_watermark: Offset(part.high_watermark),
        log_start_offset: Offset(part.log_start_offset),
    };
    Ok(Some(Chunk { fetched, aborted }))
}
