//! DeleteRecords (KIP-107), versions 0 to 2: moves the log start offset up.

use std::collections::HashMap;
use std::time::Duration;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{Offset, PartitionIndex};
use aqueduct_protocol::messages::delete_records_request::DeleteRecordsPartition;
use aqueduct_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use aqueduct_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use tokio::time::Instant;

use super::Context;
use crate::metadata::TopicImage;
use crate::security::Operation;

/// Stands for the high watermark.
const UP_TO_THE_END: i64 = -1;

pub(crate) async fn handle(context: Context, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let deadline = Instant::now() + timeout;
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        let allowed = context.allows_topic(Operation::Delete, &topic.name);
        // Of several offsets for one partition the last holds.
        let last: HashMap<i32, i64> =
            topic.partitions.iter().map(|p| (p.partition_index, p.offset)).collect();
        for wanted in topic.partitions {
            if last.get(&wanted.partition_index) != Some(&wanted.offset) {
                continue;
            }
            let done = match allowed {
                true => delete(&context, &topic.name, &wanted, deadline).await,
                false => Err(ErrorCode::TopicAuthorizationFailed),
            };
            partitions.push(DeleteRecordsPartitionResult {
                partition_index: wanted.partition_index,
                low_watermark: done.map_or(-1, |start| start.0),
                error_code: done.err().map_or(0, ErrorCode::code),
            });
        }
        if !partitions.is_empty() {
            topics.push(DeleteRecordsTopicResult { name: topic.name, partitions });
        }
    }
    DeleteRecordsResponse { topics, ..Default::default() }
}

async fn delete(
    context: &Context,
    topic: &str,
    wanted: &DeleteRecordsPartition,
    deadline: Instant,
) -> Result<Offset, ErrorCode> {
    let (index, offset) = (wanted.partition_index, wanted.offset);
    let exists = |topic: &TopicImage| topic.partition(PartitionIndex(index)).is_some();
    if context.node.metadata.image().topic(topic).is_some_and(|topic| topic.is_internal() && exists(topic)) {
        return Err(ErrorCode::InvalidTopicException);
    }
    let partition = context.node.partitions.by_name(topic, PartitionIndex(index)).await?;
    if !partition.log().config().delete {
        return Err(ErrorCode::PolicyViolation);
    }
    let offset = match offset {
        UP_TO_THE_END => partition.log().high_watermark(),
        0.. => Offset(offset),
        _ => return Err(ErrorCode::OffsetOutOfRange),
    };
    let now_ms = context.node.clock.now_ms();
    let node = context.node.clone();
    let (stint, replica) = (partition.stint(), partition.clone());
    let work = aqueduct_quorum::blocking::spawn(move || {
        let done = partition
            .on_log(|log| log.delete_records_before(offset))
            .map_err(|error| partition.code(&error))?;
        if let Err(error) = partition.on_log(|log| log.apply_retention(now_ms)) {
            tracing::warn!(partition = %partition.name(), %error, "deleted records stay on disk for now");
        }
        // The answer must hold after a crash too.
        let is_written = node.partitions.checkpoint(crate::partitions::Checkpoint::LogStarts);
        if is_written { Ok(done) } else { Err(ErrorCode::KafkaStorageError) }
    });
    let done = work.await.unwrap_or(Err(ErrorCode::KafkaStorageError))?;
    replica.deleted_everywhere(stint, done, deadline).await.map(|()| done)
}
