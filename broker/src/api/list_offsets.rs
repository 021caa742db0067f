//! ListOffsets (KIP-79, KIP-207, KIP-320, KIP-405, KIP-734, KIP-1023), versions 1 to 11: offsets by timestamp or by name.

use std::collections::HashMap;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{LeaderEpoch, Offset, PartitionIndex};
use aqueduct_protocol::messages::list_offsets_request::ListOffsetsPartition;
use aqueduct_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use aqueduct_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use aqueduct_storage::{Error, TimestampedOffset};
use bytestring::ByteString;

use super::Context;
use super::shared::check_leader_epoch;
use crate::partition::Partition;
use crate::replication::Isolation;
use crate::security::Operation;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;
const READ_UNCOMMITTED: i8 = 0;
const READ_COMMITTED: i8 = 1;
/// Versions from which the answer holds leader epochs.
const EPOCHS_SINCE: i16 = 4;
/// Versions that have a code for what a new leader does not know yet.
const AVAILABLE_SINCE: i16 = 5;

pub(crate) async fn handle(context: Context, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let isolation = match request.isolation_level {
        _ if request.replica_id >= 0 => Isolation::LogEnd,
        READ_COMMITTED => Isolation::Committed,
        _ => Isolation::Uncommitted,
    };
    let is_known_level = matches!(request.isolation_level, READ_UNCOMMITTED | READ_COMMITTED);
    let mut asked: HashMap<(ByteString, i32), bool> = HashMap::new();
    for topic in &request.topics {
        for wanted in &topic.partitions {
            let key = (topic.name.clone(), wanted.partition_index);
            asked.entry(key).and_modify(|twice| *twice = true).or_insert(false);
        }
    }
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        let allowed = context.allows_topic(Operation::Describe, &topic.name);
        for wanted in topic.partitions {
            // Each is answered once.
            let Some(twice) = asked.remove(&(topic.name.clone(), wanted.partition_index)) else { continue };
            let mut found = match allowed {
                _ if !is_known_level => Err(ErrorCode::InvalidRequest),
                true if twice => Err(ErrorCode::InvalidRequest),
                true => find(&context, &topic.name, &wanted, isolation).await,
                false => Err(ErrorCode::TopicAuthorizationFailed),
            };
            if let Ok(Some(found)) = &mut found
                && context.version < EPOCHS_SINCE
            {
                found.leader_epoch = LeaderEpoch(-1);
            }
            partitions.push(response(wanted.partition_index, found));
        }
        if !partitions.is_empty() {
            topics.push(ListOffsetsTopicResponse { name: topic.name, partitions });
        }
    }
    ListOffsetsResponse { topics, ..Default::default() }
}

fn response(
    partition_index: i32,
    found: Result<Option<TimestampedOffset>, ErrorCode>,
) -> ListOffsetsPartitionResponse {
    let none = TimestampedOffset { offset: Offset(-1), timestamp: -1, leader_epoch: LeaderEpoch(-1) };
    let (error_code, found) = match found {
        Ok(found) => (0, found.unwrap_or(none)),
        Err(code) => (code.code(), none),
    };
    ListOffsetsPartitionResponse {
        partition_index,
        error_code,
        timestamp: found.timestamp,
        offset: found.offset.0,
        leader_epoch: found.leader_epoch.0,
    }
}

async fn find(
    context: &Context,
    topic: &str,
    wanted: &ListOffsetsPartition,
    isolation: Isolation,
) -> Result<Option<TimestampedOffset>, ErrorCode> {
    let timestamp = wanted.timestamp;
    if timestamp < LATEST_TIERED.min(EARLIEST_PENDING_UPLOAD) || context.version < since(timestamp) {
        return Err(ErrorCode::UnsupportedVersion);
    }
    let partition = context.node.partitions.by_name(topic, PartitionIndex(wanted.partition_index)).await?;
    check_leader_epoch(&partition, wanted.current_leader_epoch)?;
    let log = partition.log();
    let named =
        |offset: Offset, leader_epoch| Ok(Some(TimestampedOffset { offset, timestamp: -1, leader_epoch }));
    match timestamp {
        LATEST => {
            check_available(context, &partition, isolation)?;
            named(partition.readable_end(isolation), partition.leader_epoch())
        }
        EARLIEST | EARLIEST_LOCAL => {
            let start = log.log_start_offset();
            // An empty log will begin with the epoch of its leader.
            named(start, log.epoch_at(start).unwrap_or(partition.leader_epoch()))
        }
        // Without tiered storage nothing is tiered, and nothing waits for it.
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => Ok(None),
        _ => {
            let found = search(partition.clone(), timestamp).await?;
            match found.filter(|found| found.offset < partition.readable_end(isolation)) {
                Some(found) => Ok(Some(found)),
                // What is not there yet may be by the time that all is known that is committed.
                None => check_available(context, &partition, isolation).map(|()| None),
            }
        }
    }
}

/// A new leader does not know yet what is committed, until its followers have shown what they have (KIP-207).
fn check_available(context: &Context, partition: &Partition, isolation: Isolation) -> Result<(), ErrorCode> {
    if isolation == Isolation::LogEnd || partition.knows_what_is_committed() {
        return Ok(());
    }
    Err(match context.version {
        AVAILABLE_SINCE.. => ErrorCode::OffsetNotAvailable,
        _ => ErrorCode::LeaderNotAvailable,
    })
}

/// The version in which a special timestamp came.
fn since(timestamp: i64) -> i16 {
    match timestamp {
        MAX_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        EARLIEST_PENDING_UPLOAD => 11,
        _ => 1,
    }
}

/// Looks into the log, which may mean reading from disk.
async fn search(
    partition: std::sync::Arc<Partition>,
    timestamp: i64,
) -> Result<Option<TimestampedOffset>, ErrorCode> {
    let work = aqueduct_quorum::blocking::spawn(move || {
        let found = match timestamp {
            MAX_TIMESTAMP => partition.on_log(|log| log.max_timestamp()),
            _ => partition.on_log(|log| log.offset_for_timestamp(timestamp)),
        };
        found.map_err(|error: Error| {
            tracing::warn!(partition = %partition.name(), %error, "offset of a timestamp cannot be found");
            partition.code(&error)
        })
    });
    work.await.unwrap_or(Err(ErrorCode::KafkaStorageError))
}
