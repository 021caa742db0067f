//! OffsetForLeaderEpoch (KIP-101, KIP-279, KIP-320), versions 2 to 4: where a leader epoch ends.

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{LeaderEpoch, Offset, PartitionIndex};
use aqueduct_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use aqueduct_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use aqueduct_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::Context;
use super::shared::check_leader_epoch;
use crate::security::Operation;

pub(crate) async fn handle(
    context: Context,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    // Asked by followers at first, and by consumers since KIP-320.
    let is_broker = context.would_allow_cluster(Operation::ClusterAction);
    for topic in request.topics {
        let allowed = is_broker || context.allows_topic(Operation::Describe, &topic.topic);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in topic.partitions {
            let found = match allowed {
                true => find(&context, &topic.topic, &wanted).await,
                false => Err(ErrorCode::TopicAuthorizationFailed),
            };
            let (error_code, (epoch, end)) = match found {
                Ok(found) => (0, found.unwrap_or((LeaderEpoch(-1), Offset(-1)))),
                Err(code) => (code.code(), (LeaderEpoch(-1), Offset(-1))),
            };
            partitions.push(EpochEndOffset {
                error_code,
                partition: wanted.partition,
                leader_epoch: epoch.0,
                end_offset: end.0,
            });
        }
        topics.push(OffsetForLeaderTopicResult { topic: topic.topic, partitions });
    }
    OffsetForLeaderEpochResponse { topics, ..Default::default() }
}

async fn find(
    context: &Context,
    topic: &str,
    wanted: &OffsetForLeaderPartition,
) -> Result<Option<(LeaderEpoch, Offset)>, ErrorCode> {
    let partition = context.node.partitions.by_name(topic, PartitionIndex(wanted.partition)).await?;
    check_leader_epoch(&partition, wanted.current_leader_epoch)?;
    Ok(partition.epoch_end(LeaderEpoch(wanted.leader_epoch)))
}
