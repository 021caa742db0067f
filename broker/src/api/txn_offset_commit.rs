//! TxnOffsetCommit (KIP-98, KIP-447, KIP-890), versions 0 to 5: offsets of a group that count when a transaction is
//! committed. Since version 3 members say who they are; version 5 adds the group to the transaction as well.

use std::sync::Arc;

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::ids::{PartitionIndex, ProducerEpoch, ProducerId};
use aqueduct_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use aqueduct_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use aqueduct_protocol::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};
use aqueduct_storage::{Newcomer, VerificationGuard};

use super::Context;
use crate::coordinator::{
    Caller, CommitOffset, Entrance, Generation, Reply, Support, TransactionalCommit, TransactionalProducer,
};
use crate::metadata::{MetadataImage, TopicImage};
use crate::node::OFFSETS_TOPIC;
use crate::security::{Operation, ResourceType};

/// Versions whose clients wait for a coordinator that loads.
const LOADING_SINCE: i16 = 2;

pub(crate) async fn handle(context: Context, request: TxnOffsetCommitRequest) -> TxnOffsetCommitResponse {
    let image = context.node.metadata.image();
    let may_read = |topic: &str| context.allows_topic(Operation::Read, topic);
    let (mut response, offsets) = split(&image, &request.topics, may_read);
    let denial = denial(&context, &request);
    if denial != ErrorCode::None {
        let all = response.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
        all.for_each(|at| at.error_code = denial.code());
        return response;
    }
    if offsets.is_empty() {
        return response;
    }
    if request.group_id.is_empty() {
        fill(&mut response, Err(ErrorCode::InvalidGroupId));
        return response;
    }
    let codes = commit(&context, &request, offsets).await.map_err(|code| match code {
        ErrorCode::CoordinatorLoadInProgress if context.version < LOADING_SINCE => {
            ErrorCode::CoordinatorNotAvailable
        }
        code => code,
    });
    fill(&mut response, codes);
    response
}

fn denial(context: &Context, request: &TxnOffsetCommitRequest) -> ErrorCode {
    if !context.allows(Operation::Write, ResourceType::TransactionalId, &request.transactional_id) {
        ErrorCode::TransactionalIdAuthorizationFailed
    } else if !context.allows_group(Operation::Read, &request.group_id) {
        ErrorCode::GroupAuthorizationFailed
    } else {
        ErrorCode::None
    }
}

async fn commit(
    context: &Context,
    request: &TxnOffsetCommitRequest,
    offsets: Vec<CommitOffset>,
) -> Result<Vec<ErrorCode>, ErrorCode> {
    let shard = context.node.groups.shard(&request.group_id)?;
    let guard = admit(context, request).await?;
    let commit = TransactionalCommit {
        group: (&*request.group_id).into(),
        caller: Caller {
            member_id: (&*request.member_id).into(),
            instance_id: request.group_instance_id.as_deref().map(Into::into),
            generation: Generation(request.generation_id_or_member_epoch),
        },
        producer: TransactionalProducer {
            id: ProducerId(request.producer_id),
            epoch: ProducerEpoch(request.producer_epoch),
            guard,
        },
        offsets,
    };
    let asked = shard.ask(move |groups, now, token| groups.on_transactional_commit(now, token, &commit));
    let limit = context.node.settings.groups.offsets_commit_timeout;
    // It may be written yet, as with Apache Kafka.
    match tokio::time::timeout(limit, asked).await.unwrap_or(Err(ErrorCode::CoordinatorNotAvailable))? {
        Reply::Partitions(codes) => codes,
        _ => Err(ErrorCode::UnknownServerError),
    }
}

/// Sees to it that the transaction's coordinator knows of the group's partition.
async fn admit(
    context: &Context,
    request: &TxnOffsetCommitRequest,
) -> Result<Option<VerificationGuard>, ErrorCode> {
    let node = &context.node;
    let index = node.groups.partition_of(&request.group_id).ok_or(ErrorCode::NotCoordinator)?;
    let opened = node.partitions.by_name(OFFSETS_TOPIC, PartitionIndex(index)).await;
    let partition = opened.map_err(|_| ErrorCode::NotCoordinator)?;
    let support = Support::of_offset_commit(context.version);
    let newcomer = Newcomer {
        id: ProducerId(request.producer_id),
        epoch: ProducerEpoch(request.producer_epoch),
        sequence: -1,
        raises_epoch: support == Support::Add,
    };
    let entrance = Entrance { partition, place: (Arc::from(OFFSETS_TOPIC), index), newcomer };
    let id = (&*request.transactional_id).into();
    let admitted = node.transactions.admit(&id, &[entrance], support, &node.clock).await.pop();
    admitted.unwrap_or(Err(ErrorCode::UnknownServerError))
}

/// The response with the errors that are clear beforehand, and the offsets that are for the group to take.
fn split(
    image: &MetadataImage,
    topics: &[TxnOffsetCommitRequestTopic],
    may_read: impl Fn(&str) -> bool,
) -> (TxnOffsetCommitResponse, Vec<CommitOffset>) {
    let mut offsets = Vec::new();
    let mut answers = Vec::with_capacity(topics.len());
    for asked in topics {
        let found = image.topic(&asked.name);
        let denied = !may_read(&asked.name);
        let name: Arc<str> = (&*asked.name).into();
        let answer = |at: &TxnOffsetCommitRequestPartition| {
            let exists =
                |topic: &&Arc<TopicImage>| topic.partition(PartitionIndex(at.partition_index)).is_some();
            let code = match found.filter(exists) {
                _ if denied => ErrorCode::TopicAuthorizationFailed,
                Some(topic) => {
                    offsets.push(offset(topic, &name, at));
                    ErrorCode::None
                }
                None => ErrorCode::UnknownTopicOrPartition,
            };
            TxnOffsetCommitResponsePartition { partition_index: at.partition_index, error_code: code.code() }
        };
        let partitions = asked.partitions.iter().map(answer).collect();
        answers.push(TxnOffsetCommitResponseTopic {
            name: asked.name.clone(),
            partitions,
            ..Default::default()
        });
    }
    (TxnOffsetCommitResponse { topics: answers, ..Default::default() }, offsets)
}

fn offset(topic: &TopicImage, name: &Arc<str>, at: &TxnOffsetCommitRequestPartition) -> CommitOffset {
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
fn fill(response: &mut TxnOffsetCommitResponse, codes: Result<Vec<ErrorCode>, ErrorCode>) {
    let accepted =
        response.topics.iter_mut().flat_map(|topic| &mut topic.partitions).filter(|at| at.error_code == 0);
    match codes {
        Ok(codes) => accepted.zip(codes).for_each(|(at, code)| at.error_code = code.code()),
        Err(code) => accepted.for_each(|at| at.error_code = code.code()),
    }
}
