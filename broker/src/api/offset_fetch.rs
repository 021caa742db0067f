//! OffsetFetch (KIP-320, KIP-447, KIP-516, KIP-709, KIP-848), versions 1 to 10: committed offsets. One group before
//! version 8, several since; named topics or all of them; topics by id since version 10.

use std::collections::HashSet;
use std::sync::Arc;

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::ids::Uuid;
use aqueduct_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use aqueduct_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use aqueduct_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse};

use super::Context;
use super::shared::own;
use crate::coordinator::{Committed, FetchTopic, FetchedTopic, Groups, MemberId};
use crate::metadata::MetadataImage;
use crate::security::{Operation, ResourceType};

pub(crate) async fn handle(context: Context, request: OffsetFetchRequest) -> OffsetFetchResponse {
    if context.version >= 8 {
        let mut groups = Vec::with_capacity(request.groups.len());
        for group in request.groups {
            groups.push(fetch(&context, group, request.require_stable).await);
        }
        return OffsetFetchResponse { groups, ..Default::default() };
    }
    let topics = request.topics.map(|topics| {
        let topic = |topic: aqueduct_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic| {
            OffsetFetchRequestTopics {
                name: topic.name,
                topic_id: Uuid::ZERO,
                partition_indexes: topic.partition_indexes,
            }
        };
        topics.into_iter().map(topic).collect()
    });
    let asked = OffsetFetchRequestGroup { group_id: request.group_id, topics, ..Default::default() };
    let group = fetch(&context, asked.clone(), request.require_stable).await;
    single(context.version, asked, group)
}

/// One group, in the form of version 8 and later.
async fn fetch(
    context: &Context,
    asked: OffsetFetchRequestGroup,
    require_stable: bool,
) -> OffsetFetchResponseGroup {
    let image = context.node.metadata.image();
    let by_id = context.version >= 10;
    let OffsetFetchRequestGroup { group_id, topics: mut wanted, .. } = asked;
    if !context.allows_group(Operation::Describe, &group_id) {
        let error_code = ErrorCode::GroupAuthorizationFailed.code();
        return OffsetFetchResponseGroup { group_id, topics: Vec::new(), error_code };
    }
    let names_none = wanted.is_none();
    let denied = wanted.as_mut().map(|topics| take_denied(context, &image, topics)).unwrap_or_default();
    // Topics by the names under which offsets are kept; unknown ids have none.
    let named: Option<Vec<FetchTopic>> =
        wanted.as_ref().map(|topics| topics.iter().filter_map(|topic| named(&image, by_id, topic)).collect());
    let group = own(&group_id);
    let (member, epoch) = (asked.member_id.as_deref().map(MemberId::from), asked.member_epoch);
    let fetched = match context.node.groups.shard(&group) {
        Ok(shard) => {
            let look = move |groups: &Groups| {
                groups.may_fetch(&group, member.as_ref(), epoch)?;
                let unstable = match require_stable {
                    true => groups.unstable(&group, named.as_deref()),
                    false => Default::default(),
                };
                Ok((groups.fetch(&group, named.as_deref()), unstable))
            };
            shard.look(look).await.and_then(|fetched| fetched)
        }
        Err(code) => Err(code),
    };
    let (fetched, unstable) = match fetched {
        Ok(fetched) => fetched,
        Err(code) => {
            return OffsetFetchResponseGroup { group_id, topics: Vec::new(), error_code: code.code() };
        }
    };
    let is_shown = |topic: &FetchedTopic| {
        !names_none || context.would_allow(Operation::Describe, ResourceType::Topic, &topic.name)
    };
    let shown = fetched.into_iter().filter(is_shown);
    let mut topics: Vec<_> = shown.filter_map(|topic| found(&image, by_id, topic, &unstable)).collect();
    let unauthorized = ErrorCode::TopicAuthorizationFailed;
    topics.extend(denied.iter().map(|topic| failed_topic(topic, unauthorized)));
    if by_id {
        let unknown = |topic: &&OffsetFetchRequestTopics| image.topic_by_id(topic.topic_id).is_none();
        topics.extend(wanted.iter().flatten().filter(unknown).map(unknown_topic));
    }
    OffsetFetchResponseGroup { group_id, topics, error_code: 0 }
}

/// Takes the topics out that the client may not see. An id that is unknown has no name to ask for.
fn take_denied(
    context: &Context,
    image: &MetadataImage,
    topics: &mut Vec<OffsetFetchRequestTopics>,
) -> Vec<OffsetFetchRequestTopics> {
    let is_denied = |topic: &mut OffsetFetchRequestTopics| {
        let name = match context.version {
            10.. => image.topic_by_id(topic.topic_id).map(|topic| &topic.name),
            _ => Some(&topic.name),
        };
        name.is_some_and(|name| !context.allows_topic(Operation::Describe, name))
    };
    topics.extract_if(.., is_denied).collect()
}

fn named(image: &MetadataImage, by_id: bool, topic: &OffsetFetchRequestTopics) -> Option<FetchTopic> {
    let name = if by_id { &image.topic_by_id(topic.topic_id)?.name } else { &topic.name };
    let id = current_id(image, name);
    Some(FetchTopic { name: (&**name).into(), id, partitions: topic.partition_indexes.clone() })
}

/// The id of the topic that has the name now; zero where there is none.
fn current_id(image: &MetadataImage, name: &str) -> Uuid {
    image.topic(name).map(|topic| topic.id).unwrap_or_default()
}

/// `None` for what the version cannot name: topics that are gone have no id.
fn found(
    image: &MetadataImage,
    by_id: bool,
    topic: FetchedTopic,
    unstable: &HashSet<(Arc<str>, i32)>,
) -> Option<OffsetFetchResponseTopics> {
    let id = current_id(image, &topic.name);
    if by_id && id.is_zero() {
        return None;
    }
    let is_current = |at: &Committed| at.is_of(id);
    let partitions: Vec<_> = topic
        .partitions
        .iter()
        .filter(|(_, at)| at.as_ref().is_none_or(is_current))
        .map(|(index, at)| match unstable.contains(&(topic.name.clone(), *index)) {
            // A transaction that has not ended may change it.
            true => OffsetFetchResponsePartitions {
                error_code: ErrorCode::UnstableOffsetCommit.code(),
                ..partition(*index, None)
            },
            false => partition(*index, at.as_ref()),
        })
        .collect();
    let (name, topic_id) = if by_id { (Default::default(), id) } else { (own(&topic.name), Uuid::ZERO) };
    Some(OffsetFetchResponseTopics { name, topic_id, partitions })
}

fn partition(partition_index: i32, at: Option<&Committed>) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: at.map_or(-1, |at| at.offset),
        committed_leader_epoch: at.map_or(-1, |at| at.leader_epoch),
        metadata: Some(at.map_or_else(Default::default, |at| own(&at.metadata))),
        error_code: 0,
    }
}

fn unknown_topic(topic: &OffsetFetchRequestTopics) -> OffsetFetchResponseTopics {
    OffsetFetchResponseTopics { name: Default::default(), ..failed_topic(topic, ErrorCode::UnknownTopicId) }
}

fn failed_topic(topic: &OffsetFetchRequestTopics, code: ErrorCode) -> OffsetFetchResponseTopics {
    let failed =
        |index: &i32| OffsetFetchResponsePartitions { error_code: code.code(), ..partition(*index, None) };
    let partitions = topic.partition_indexes.iter().map(failed).collect();
    OffsetFetchResponseTopics { name: topic.name.clone(), topic_id: topic.topic_id, partitions }
}

/// The answer of the versions that know one group.
fn single(
    version: i16,
    asked: OffsetFetchRequestGroup,
    group: OffsetFetchResponseGroup,
) -> OffsetFetchResponse {
    let mut topics = group.topics;
    if version < 2 && group.error_code != 0 {
        // There is no room for an error but in the partitions.
        topics = asked.topics.iter().flatten().map(unknown_topic).collect();
        for (topic, asked) in topics.iter_mut().zip(asked.topics.into_iter().flatten()) {
            topic.name = asked.name;
            topic.partitions.iter_mut().for_each(|at| at.error_code = group.error_code);
        }
    }
    let partition = |at: OffsetFetchResponsePartitions| OffsetFetchResponsePartition {
        partition_index: at.partition_index,
        committed_offset: at.committed_offset,
        committed_leader_epoch: at.committed_leader_epoch,
        metadata: at.metadata,
        error_code: at.error_code,
    };
    let topic = |topic: OffsetFetchResponseTopics| OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(partition).collect(),
    };
    let topics = topics.into_iter().map(topic).collect();
    let error_code = if version >= 2 { group.error_code } else { 0 };
    OffsetFetchResponse { topics, error_code, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use aqueduct_protocol::Encode;
    use bytes::BytesMut;

    use super::*;

    fn group(error_code: i16) -> OffsetFetchResponseGroup {
        let at = Committed {
            offset: 5,
            leader_epoch: 1,
            metadata: "m".into(),
            commit_ms: 0,
            expire_ms: None,
            topic_id: Uuid::ZERO,
        };
        let partitions = vec![partition(0, Some(&at)), partition(1, None)];
        let topic = OffsetFetchResponseTopics { name: "t".into(), topic_id: Uuid::ZERO, partitions };
        let topics = if error_code == 0 { vec![topic] } else { Vec::new() };
        OffsetFetchResponseGroup { group_id: "g".into(), topics, error_code }
    }

    fn asked() -> OffsetFetchRequestGroup {
        let topic = OffsetFetchRequestTopics {
            name: "t".into(),
            partition_indexes: vec![0, 1],
            ..Default::default()
        };
        OffsetFetchRequestGroup { group_id: "g".into(), topics: Some(vec![topic]), ..Default::default() }
    }

    #[test]
    fn every_version_carries_offsets_and_errors() {
        for version in 1..=7 {
            let response = single(version, asked(), group(0));
            let at = &response.topics[0].partitions;
            assert_eq!((at[0].committed_offset, at[0].metadata.as_deref()), (5, Some("m")));
            assert_eq!(
                (at[1].committed_offset, at[1].committed_leader_epoch, at[1].metadata.as_deref()),
                (-1, -1, Some(""))
            );
            response.encode(&mut BytesMut::new(), version).unwrap();
            let response = single(version, asked(), group(14));
            let in_partitions: Vec<_> = response
                .topics
                .iter()
                .flat_map(|t| &t.partitions)
                .map(|at| (at.committed_offset, at.error_code))
                .collect();
            match version {
                1 => assert_eq!((response.error_code, in_partitions), (0, vec![(-1, 14), (-1, 14)])),
                _ => assert_eq!((response.error_code, in_partitions), (14, vec![])),
            }
            response.encode(&mut BytesMut::new(), version).unwrap();
        }
        for version in 8..=10 {
            let mut group = group(0);
            if version >= 10 {
                group.topics = vec![unknown_topic(&OffsetFetchRequestTopics {
                    topic_id: Uuid([1; 16]),
                    partition_indexes: vec![0],
                    ..Default::default()
                })];
                assert_eq!(group.topics[0].partitions[0].error_code, 100);
            }
            let response = OffsetFetchResponse { groups: vec![group], ..Default::default() };
            response.encode(&mut BytesMut::new(), version).unwrap();
        }
    }
}
