//! OffsetCommit (KIP-211, KIP-320, KIP-345, KIP-516, KIP-848), versions 2 to 10: offsets of a member, or of a client
//! without a group. Topics by name before version 10, by id since.

use std::sync::Arc;

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::ids::PartitionIndex;
use aqueduct_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use aqueduct_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use aqueduct_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

use super::Context;
use crate::coordinator::{Caller, Commit, CommitOffset, Generation, Reply};
use crate::metadata::{MetadataImage, TopicImage};
use crate::security::Operation;

pub(crate) async fn handle(context: Context, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let image = context.node.metadata.image();
    let may_read = |topic: &str| context.allows_topic(Operation::Read, topic);
    let (mut response, offsets) = split(&image, context.version, &request.topics, may_read);
    if !context.allows_group(Operation::Read, &request.group_id) {
        let all = response.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
        all.for_each(|at| at.error_code = ErrorCode::GroupAuthorizationFailed.code());
        return response;
    }
    if offsets.is_empty() {
        return response;
    }
    let commit = Commit {
        group: (&*request.group_id).into(),
        caller: Caller {
            member_id: (&*request.member_id).into(),
            instance_id: request.group_instance_id.as_deref().map(Into::into),
            generation: Generation(request.generation_id_or_member_epoch),
        },
        retention_ms: Some(request.retention_time_ms).filter(|keep| *keep >= 0),
        knows_unknown_group: context.version >= 9,
        offsets,
    };
    let reply = match context.node.groups.shard(commit.group.as_str()) {
        Ok(shard) => {
            let asked = shard.ask(move |groups, now, token| groups.on_commit(now, token, &commit));
            let limit = context.node.settings.groups.offsets_commit_timeout;
            // It may be written yet, as with Apache Kafka.
            tokio::time::timeout(limit, asked).await.unwrap_or(Err(ErrorCode::CoordinatorNotAvailable))
        }
        Err(code) => Err(code),
    };
    let codes = match reply {
        Ok(Reply::Partitions(codes)) => codes,
        Ok(_) => Err(ErrorCode::UnknownServerError),
        Err(code) => Err(code),
    };
    fill(&mut response, codes);
    response
}

/// The response with the errors that are clear beforehand, and the offsets that are for the group to take.
fn split(
    image: &MetadataImage,
    version: i16,
    topics: &[OffsetCommitRequestTopic],
    may_read: impl Fn(&str) -> bool,
) -> (OffsetCommitResponse, Vec<CommitOffset>) {
    let mut offsets = Vec::new();
    let mut answers = Vec::with_capacity(topics.len());
    for asked in topics {
        let (found, missing) = if version >= 10 {
            (image.topic_by_id(asked.topic_id), ErrorCode::UnknownTopicId)
        } else {
            (image.topic(&asked.name), ErrorCode::UnknownTopicOrPartition)
        };
        let asked_for = found.map(|topic| &topic.name).or((version < 10).then_some(&asked.name));
        let denied = asked_for.is_some_and(|name| !may_read(name));
        let name: Option<Arc<str>> = found.map(|topic| (&*topic.name).into());
        let partitions = asked
            .partitions
            .iter()
            .map(|at| {
                let code = match (found, &name) {
                    _ if denied => ErrorCode::TopicAuthorizationFailed,
                    (Some(topic), Some(name))
                        if topic.partition(PartitionIndex(at.partition_index)).is_some() =>
                    {
                        offsets.push(offset(topic, name, at));
                        ErrorCode::None
                    }
                    (Some(_), _) => ErrorCode::UnknownTopicOrPartition,
                    (None, _) => missing,
                };
                OffsetCommitResponsePartition { partition_index: at.partition_index, error_code: code.code() }
            })
            .collect();
        // A topic without partitions has no answer.
        if !asked.partitions.is_empty() {
            answers.push(OffsetCommitResponseTopic {
                name: asked.name.clone(),
                topic_id: asked.topic_id,
                partitions,
            });
        }
    }
    (OffsetCommitResponse { throttle_time_ms: 0, topics: answers }, offsets)
}

fn offset(topic: &TopicImage, name: &Arc<str>, at: &OffsetCommitRequestPartition) -> CommitOffset {
    CommitOffset {
        topic: name.clone(),
        topic_id: topic.id,
        partition: at.partition_index,
        offset: at.committed_offset,
        leader_epoch: at.committed_leader_epoch,
        metadata: at.committed_metadata.as_deref().map(Into::into),
    }
}

/// Gives the group's answers to the partitions that were handed to it, in order.
fn fill(response: &mut OffsetCommitResponse, codes: Result<Vec<ErrorCode>, ErrorCode>) {
    let accepted =
        response.topics.iter_mut().flat_map(|topic| &mut topic.partitions).filter(|at| at.error_code == 0);
    match codes {
        Ok(codes) => accepted.zip(codes).for_each(|(at, code)| at.error_code = code.code()),
        Err(code) => accepted.for_each(|at| at.error_code = code.code()),
    }
}

#[cfg(test)]
mod tests {
    use aqueduct_protocol::ids::{BrokerId, LeaderEpoch, Uuid};
    use aqueduct_protocol::{Encode, Request};
    use bytes::BytesMut;

    use super::*;
    use crate::metadata::{PartitionImage, Record};

    fn image() -> MetadataImage {
        let mut image = MetadataImage::default();
        let partition = PartitionImage {
            leader: BrokerId(1),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: 0,
            replicas: Vec::new(),
            isr: Vec::new(),
        };
        let partitions = vec![partition.clone(), partition];
        image.apply(&Record::Topic(TopicImage { name: "t".into(), id: Uuid([7; 16]), partitions }));
        image
    }

    fn asked(name: &str, id: u8, partitions: &[i32]) -> OffsetCommitRequestTopic {
        let partition =
            |index: &i32| OffsetCommitRequestPartition { partition_index: *index, ..Default::default() };
        let partitions = partitions.iter().map(partition).collect();
        OffsetCommitRequestTopic { name: name.into(), topic_id: Uuid([id; 16]), partitions }
    }

    #[test]
    fn unknown_topics_and_partitions_are_refused_and_the_rest_goes_to_the_group() {
        let by_name = [asked("t", 0, &[0, 2, 1]), asked("u", 0, &[0])];
        let (mut response, offsets) = split(&image(), 9, &by_name, |_| true);
        let found: Vec<_> = offsets.iter().map(|at| (&*at.topic, at.partition, at.topic_id)).collect();
        assert_eq!(found, [("t", 0, Uuid([7; 16])), ("t", 1, Uuid([7; 16]))]);
        fill(&mut response, Ok(vec![ErrorCode::OffsetMetadataTooLarge, ErrorCode::None]));
        let codes = |response: &OffsetCommitResponse| -> Vec<i16> {
            response.topics.iter().flat_map(|topic| &topic.partitions).map(|at| at.error_code).collect()
        };
        assert_eq!(codes(&response), [12, 3, 0, 3]);

        let by_id = [asked("", 7, &[0, 2]), asked("", 8, &[0])];
        let (mut response, offsets) = split(&image(), 10, &by_id, |_| true);
        assert_eq!((offsets.len(), &*offsets[0].topic, offsets[0].topic_id), (1, "t", Uuid([7; 16])));
        fill(&mut response, Err(ErrorCode::IllegalGeneration));
        assert_eq!(codes(&response), [22, 3, 100]);
        for version in OffsetCommitRequest::MIN_VERSION..=10 {
            let topics = if version >= 10 { &by_id } else { &by_name };
            split(&image(), version, topics, |_| true).0.encode(&mut BytesMut::new(), version).unwrap();
        }
    }
}
