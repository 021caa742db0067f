//! DescribeTopicPartitions (KIP-966), version 0: topics page by page.

use std::collections::BTreeSet;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::PartitionIndex;
use aqueduct_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use aqueduct_protocol::messages::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};

use super::Context;
use super::shared::OPERATIONS_NOT_ASKED;
use super::view::{View, numbers};
use crate::metadata::{PartitionImage, TopicImage, check_topic_name};
use crate::security::{Operation, ResourceType};

pub(crate) async fn handle(
    context: Context,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let image = context.node.metadata.image();
    let view = View { image: &image, listener: &context.client.listener };
    let limit = context.node.settings.max_request_partitions;
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(0).clamp(1, limit);
    let (first, skip) = match &request.cursor {
        Some(cursor) => (&*cursor.topic_name, usize::try_from(cursor.partition_index).unwrap_or(0)),
        None => ("", 0),
    };
    if let Some(cursor) = &request.cursor
        && (cursor.partition_index < 0
            || !request.topics.is_empty()
                && !request.topics.iter().any(|topic| topic.name == cursor.topic_name))
    {
        // Nothing can be gone on with.
        let topics = request.topics.iter().map(|topic| failed(&topic.name, ErrorCode::InvalidRequest));
        return DescribeTopicPartitionsResponse { topics: topics.collect(), ..Default::default() };
    }
    let may_see = |name: &str| context.would_allow(Operation::Describe, ResourceType::Topic, name);
    let mut names: BTreeSet<&str> = match request.topics.is_empty() {
        true => image.topics_from(first).map(|topic| &*topic.name).filter(|name| may_see(name)).collect(),
        false => request.topics.iter().map(|topic| &*topic.name).filter(|name| *name >= first).collect(),
    };
    let mut denied = BTreeSet::new();
    if !request.topics.is_empty() && context.node.authorizer.is_enabled() {
        names.retain(|name| {
            let allowed = context.allows_topic(Operation::Describe, name);
            if !allowed {
                denied.insert(*name);
            }
            allowed
        });
    }
    let mut response = DescribeTopicPartitionsResponse::default();
    let mut left = limit;
    for name in names {
        if left == 0 {
            response.next_cursor = Some(Cursor { topic_name: name.into(), partition_index: 0 });
            break;
        }
        let Some(topic) = image.topic(name) else {
            response.topics.push(missing(name));
            continue;
        };
        let from = if name == first { skip.min(topic.partitions.len()) } else { 0 };
        let count = (topic.partitions.len() - from).min(left);
        response.topics.push(known(view, topic, from, count));
        left -= count;
        if from + count < topic.partitions.len() {
            let partition_index = (from + count) as i32;
            response.next_cursor = Some(Cursor { topic_name: topic.name.clone(), partition_index });
            break;
        }
    }
    for topic in &mut response.topics {
        let name = topic.name.as_deref().unwrap_or_default();
        topic.topic_authorized_operations = context.authorized_operations(ResourceType::Topic, name);
    }
    // They say nothing of whether there is such a topic, and stand outside of the pages.
    response.topics.extend(denied.into_iter().map(|name| failed(name, ErrorCode::TopicAuthorizationFailed)));
    response
}

fn failed(name: &str, code: ErrorCode) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        error_code: code.code(),
        name: Some(name.into()),
        topic_authorized_operations: OPERATIONS_NOT_ASKED,
        ..Default::default()
    }
}

fn missing(name: &str) -> DescribeTopicPartitionsResponseTopic {
    let code = match check_topic_name(name) {
        Ok(()) => ErrorCode::UnknownTopicOrPartition,
        Err(_) => ErrorCode::InvalidTopicException,
    };
    failed(name, code)
}

fn known(
    view: View<'_>,
    topic: &TopicImage,
    from: usize,
    count: usize,
) -> DescribeTopicPartitionsResponseTopic {
    let partition = |(at, partition): (usize, &PartitionImage)| {
        let index = PartitionIndex(at as i32);
        let state = view.image.partition_state(topic.id, index);
        let leader = view.leader(partition);
        DescribeTopicPartitionsResponsePartition {
            error_code: leader.err().map_or(0, ErrorCode::code),
            partition_index: index.0,
            leader_id: leader.map_or(-1, |leader| leader.0),
            leader_epoch: partition.leader_epoch.0,
            replica_nodes: numbers(&partition.replicas),
            isr_nodes: numbers(&partition.isr),
            eligible_leader_replicas: Some(numbers(&state.elr)),
            last_known_elr: Some(numbers(&state.last_known_leader)),
            offline_replicas: view.offline(topic.id, index, partition),
        }
    };
    DescribeTopicPartitionsResponseTopic {
        error_code: 0,
        name: Some(topic.name.clone()),
        topic_id: topic.id,
        is_internal: topic.is_internal(),
        partitions: topic.partitions.iter().enumerate().skip(from).take(count).map(partition).collect(),
        topic_authorized_operations: OPERATIONS_NOT_ASKED,
    }
}
