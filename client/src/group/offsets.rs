//! Committed offsets of groups: OffsetCommit and OffsetFetch.

use std::collections::HashMap;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{LeaderEpoch, Offset, PartitionIndex};
use aqueduct_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use aqueduct_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use aqueduct_protocol::messages::{OffsetCommitRequest, OffsetFetchRequest, OffsetFetchResponse};
use bytestring::ByteString;

use super::calls::Identity;
use super::member::{GroupMember, Shared};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::metadata::Broker;
use crate::net::Lane;
use crate::types::{OffsetAndMetadata, TopicPartition};

const COMMIT: &str = "OffsetCommit";
const FETCH: &str = "OffsetFetch";
/// From version 10 on topics are named by their ids, which a deleted topic has no more.
const BY_NAME: i16 = 9;
/// From this version on several groups are asked at once.
const BATCHED: i16 = 8;

/// The result of a commit, partition by partition.
pub(crate) type Committed = Vec<(TopicPartition, Result<()>)>;

/// Commits offsets at the coordinator; one attempt.
pub(crate) async fn commit_once(
    client: &Client,
    lane: Lane,
    coordinator: &Broker,
    identity: &Identity,
    offsets: &HashMap<TopicPartition, OffsetAndMetadata>,
) -> Result<Committed> {
    let mut topics: Vec<OffsetCommitRequestTopic> = Vec::new();
    for (partition, offset) in offsets {
        let entry = OffsetCommitRequestPartition {
            partition_index: partition.partition.0,
            committed_offset: offset.offset.0,
            committed_leader_epoch: offset.leader_epoch.map_or(-1, |epoch| epoch.0),
            committed_metadata: Some(offset.metadata.clone()),
        };
        match topics.iter_mut().find(|topic| topic.name == partition.topic) {
            Some(topic) => topic.partitions.push(entry),
            None => topics.push(OffsetCommitRequestTopic {
                name: partition.topic.clone(),
                partitions: vec![entry],
                ..Default::default()
            }),
        }
    }
    let request = |version: i16| OffsetCommitRequest {
        group_id: identity.group_id.clone(),
        generation_id_or_member_epoch: identity.generation,
        member_id: identity.member_id.clone(),
        group_instance_id: identity.instance_id.clone().filter(|_| version >= 7),
        topics,
        ..Default::default()
    };
    let answer = client.call(lane, coordinator, BY_NAME, request).await?;
    let address = coordinator.address();
    let mut results = Vec::with_capacity(offsets.len());
    for topic in answer.topics {
        for part in topic.partitions {
            let partition =
                TopicPartition { topic: topic.name.clone(), partition: PartitionIndex(part.partition_index) };
            let what = || format!("{partition} by group {}", identity.group_id);
            let result = Error::check(&address, COMMIT, what, part.error_code, None);
            results.push((partition, result));
        }
    }
    Ok(results)
}

/// Fetches committed offsets at the coordinator, of `partitions` or of all; one attempt. Partitions without one are left
/// out.
pub(crate) async fn fetch_once(
    client: &Client,
    lane: Lane,
    coordinator: &Broker,
    group: &ByteString,
    partitions: Option<&[TopicPartition]>,
) -> Result<HashMap<TopicPartition, OffsetAndMetadata>> {
    let by_topic = partitions.map(|list| {
        let mut topics: Vec<(ByteString, Vec<i32>)> = Vec::new();
        for partition in list {
            match topics.iter_mut().find(|(name, _)| *name == partition.topic) {
                Some((_, indices)) => indices.push(partition.partition.0),
                None => topics.push((partition.topic.clone(), vec![partition.partition.0])),
            }
        }
        topics
    });
    let request = |version: i16| match version {
        BATCHED.. => OffsetFetchRequest {
            groups: vec![OffsetFetchRequestGroup {
                group_id: group.clone(),
                topics: by_topic.map(|topics| {
                    let topics = topics.into_iter();
                    let entry = |(name, partition_indexes)| OffsetFetchRequestTopics {
                        name,
                        partition_indexes,
                        ..Default::default()
                    };
                    topics.map(entry).collect()
                }),
                ..Default::default()
            }],
            require_stable: true,
            ..Default::default()
        },
        _ => OffsetFetchRequest {
            group_id: group.clone(),
            topics: by_topic.map(|topics| {
                let topics = topics.into_iter();
                topics
                    .map(|(name, partition_indexes)| OffsetFetchRequestTopic { name, partition_indexes })
                    .collect()
            }),
            require_stable: version >= 7,
            ..Default::default()
        },
    };
    let answer = client.call(lane, coordinator, BY_NAME, request).await?;
    let mut found = HashMap::new();
    let address = coordinator.address();
    for part in flatten(answer, &address, group)? {
        let what = || format!("{} of group {group}", part.partition);
        Error::check(&address, FETCH, what, part.error_code, None)?;
        if part.offset >= 0 {
            let offset = OffsetAndMetadata {
                offset: Offset(part.offset),
                leader_epoch: Some(LeaderEpoch(part.leader_epoch)).filter(|epoch| epoch.0 >= 0),
                metadata: part.metadata.unwrap_or_default(),
            };
            found.insert(part.partition, offset);
        }
    }
    Ok(found)
}

/// One partition of an answer, whatever its version.
struct Part {
    partition: TopicPartition,
    offset: i64,
    leader_epoch: i32,
    metadata: Option<ByteString>,
    error_code: i16,
}

fn flatten(answer: OffsetFetchResponse, address: &str, group: &ByteString) -> Result<Vec<Part>> {
    let what = || format!("group {group}");
    Error::check(address, FETCH, what, answer.error_code, None)?;
    let mut parts = Vec::new();
    for topic in answer.topics {
        parts.extend(topic.partitions.into_iter().map(|part| Part {
            partition: TopicPartition {
                topic: topic.name.clone(),
                partition: PartitionIndex(part.partition_index),
            },
            offset: part.committed_offset,
            leader_epoch: part.committed_leader_epoch,
            metadata: part.metadata,
            error_code: part.error_code,
        }));
    }
    for of_group in answer.groups {
        Error::check(address, FETCH, what, of_group.error_code, None)?;
        for topic in of_group.topics {
            parts.extend(topic.partitions.into_iter().map(|part| Part {
                partition: TopicPartition {
                    topic: topic.name.clone(),
                    partition: PartitionIndex(part.partition_index),
                },
                offset: part.committed_offset,
                leader_epoch: part.committed_leader_epoch,
                metadata: part.metadata,
                error_code: part.error_code,
            }));
        }
    }
    Ok(parts)
}

impl GroupMember {
    /// Commits offsets as this member, retrying within `default.api.timeout.ms`.
    ///
    /// # Errors
    /// [`Error::NotAMember`] where the group has moved on; `REBALANCE_IN_PROGRESS` between a join and its sync.
    pub async fn commit(&self, offsets: &HashMap<TopicPartition, OffsetAndMetadata>) -> Result<()> {
        let shared = self.shared();
        if offsets.is_empty() {
            return Ok(());
        }
        let config = shared.client.config();
        let what = format!("OffsetCommit of group {}", shared.options.group_id);
        let mut retry = shared.client.retry(what, config.default_api_timeout);
        let mut left = offsets.clone();
        let identity = shared.identity();
        if identity.generation < 0 {
            // The coordinator would take it for the commit of somebody outside of any generation, as tools make them.
            return Err(shared.not_a_member(&identity, ErrorCode::UnknownMemberId));
        }
        loop {
            let error = match self.commit_attempt(&identity, &mut left).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            match error.code() {
                Some(
                    code @ (ErrorCode::UnknownMemberId
                    | ErrorCode::IllegalGeneration
                    | ErrorCode::FencedInstanceId),
                ) => return Err(shared.lose(&identity, code)),
                // The topic is gone: its offset has no place any more.
                Some(ErrorCode::UnknownTopicOrPartition) => return Err(error),
                _ => {
                    shared.doubt_coordinator(&error);
                    retry.after(error).await?;
                }
            }
        }
    }

    /// Takes what was committed out of `left`; the first error, one that is final before others.
    async fn commit_attempt(
        &self,
        identity: &Identity,
        left: &mut HashMap<TopicPartition, OffsetAndMetadata>,
    ) -> Result<()> {
        let shared = self.shared();
        let coordinator = shared.coordinator().await?;
        let results = commit_once(&shared.client, shared.lane, &coordinator, identity, left).await?;
        let mut failed: Option<Error> = None;
        for (partition, result) in results {
            match result {
                Ok(()) => {
                    left.remove(&partition);
                }
                Err(error) => {
                    if failed.as_ref().is_none_or(|first| first.is_retriable() && !error.is_retriable()) {
                        failed = Some(error);
                    }
                }
            }
        }
        match failed {
            Some(error) => Err(error),
            None if left.is_empty() => Ok(()),
            None => {
                let missing = left.keys().next().map_or(String::new(), ToString::to_string);
                Err(Error::left_out(&coordinator.address(), COMMIT, &missing))
            }
        }
    }

    /// Committed offsets of `partitions`, retrying within `default.api.timeout.ms`; those without one are left out.
    pub async fn committed(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<HashMap<TopicPartition, OffsetAndMetadata>> {
        let shared = self.shared();
        if partitions.is_empty() {
            return Ok(HashMap::new());
        }
        let config = shared.client.config();
        let what = format!("OffsetFetch of group {}", shared.options.group_id);
        let mut retry = shared.client.retry(what, config.default_api_timeout);
        loop {
            match fetch_committed(shared, partitions).await {
                Ok(found) => return Ok(found),
                Err(error) => {
                    shared.doubt_coordinator(&error);
                    retry.after(error).await?;
                }
            }
        }
    }
}

async fn fetch_committed(
    shared: &Shared,
    partitions: &[TopicPartition],
) -> Result<HashMap<TopicPartition, OffsetAndMetadata>> {
    let coordinator = shared.coordinator().await?;
    let group = &shared.options.group_id;
    fetch_once(&shared.client, shared.lane, &coordinator, group, Some(partitions)).await
}
