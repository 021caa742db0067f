//! OffsetDelete (KIP-496), version 0: a group forgets offsets of topics that its members do not read.

use std::sync::Arc;

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::ids::PartitionIndex;
use aqueduct_protocol::messages::offset_delete_request::OffsetDeleteRequestTopic;
use aqueduct_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use aqueduct_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use super::Context;
use crate::coordinator::{GroupId, Reply};
use crate::metadata::MetadataImage;
use crate::security::Operation;

pub(crate) async fn handle(context: Context, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    if !context.allows_group(Operation::Delete, &request.group_id) {
        let error_code = ErrorCode::GroupAuthorizationFailed.code();
        return OffsetDeleteResponse { error_code, ..Default::default() };
    }
    let group = GroupId::from(&*request.group_id);
    let may_read = |topic: &str| context.allows_topic(Operation::Read, topic);
    let (mut topics, known) = split(&context.node.metadata.image(), request.topics, may_read);
    let reply = match context.node.groups.shard(group.as_str()) {
        Ok(shard) => {
            shard.ask(move |groups, now, token| groups.on_offset_delete(now, token, &group, &known)).await
        }
        Err(code) => Err(code),
    };
    let codes = match reply {
        Ok(Reply::Partitions(codes)) => codes,
        Ok(_) => Err(ErrorCode::UnknownServerError),
        Err(code) => Err(code),
    };
    match codes {
        Ok(codes) => {
            let accepted =
                topics.iter_mut().flat_map(|topic| &mut topic.partitions).filter(|at| at.error_code == 0);
            accepted.zip(codes).for_each(|(at, code)| at.error_code = code.code());
            OffsetDeleteResponse { topics, ..Default::default() }
        }
        Err(code) => OffsetDeleteResponse { error_code: code.code(), ..Default::default() },
    }
}

/// The response with unknown partitions and forbidden ones refused, and the partitions that are for the group to decide on.
fn split(
    image: &MetadataImage,
    asked: Vec<OffsetDeleteRequestTopic>,
    may_read: impl Fn(&str) -> bool,
) -> (Vec<OffsetDeleteResponseTopic>, Vec<(Arc<str>, i32)>) {
    let mut known = Vec::new();
    let mut topics = Vec::with_capacity(asked.len());
    for topic in asked {
        let allowed = may_read(&topic.name);
        let found = image.topic(&topic.name).filter(|_| allowed);
        let name: Arc<str> = (&*topic.name).into();
        let partitions = topic
            .partitions
            .iter()
            .map(|at| {
                let index = at.partition_index;
                let exists = found.is_some_and(|topic| topic.partition(PartitionIndex(index)).is_some());
                if exists {
                    known.push((name.clone(), index));
                }
                let code = match (allowed, exists) {
                    (false, _) => ErrorCode::TopicAuthorizationFailed,
                    (_, true) => ErrorCode::None,
                    (_, false) => ErrorCode::UnknownTopicOrPartition,
                };
                OffsetDeleteResponsePartition { partition_index: index, error_code: code.code() }
            })
            .collect();
        topics.push(OffsetDeleteResponseTopic { name: topic.name, partitions });
    }
    (topics, known)
}
