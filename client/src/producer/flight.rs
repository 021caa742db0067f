//! One Produce request: from batches to its bytes, and from the answer back to batches.

use std::time::Duration;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{BrokerId, Offset};
use aqueduct_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use aqueduct_protocol::messages::produce_response::PartitionProduceResponse;
use aqueduct_protocol::messages::{ProduceRequest, ProduceResponse};
use bytes::Bytes;
use bytestring::ByteString;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::accumulator::Taken;
use super::delivery::Written;
use crate::config::{Acks, ClientConfig};
use crate::error::{Error, Result};
use crate::net::{Connection, PendingResponse};

const API: &str = "Produce";
/// From this version on topics are named by their ids.
const BY_ID: i16 = 13;
/// From this version on a batch makes its partition part of the transaction.
const JOINS: i16 = 12;
/// A broker gives up waiting for replicas before the client gives up waiting for the broker.
const MARGIN: Duration = Duration::from_millis(500);

/// The transaction that a request is part of.
pub(super) struct Mark {
    pub(super) transactional_id: ByteString,
    /// Partitions join it with their first batch.
    pub(super) implicit: bool,
}

/// What became of the batches of one request.
pub(super) struct Landed {
    pub(super) broker: BrokerId,
    pub(super) batches: Vec<(Taken, Result<Written>)>,
}

/// Seals the batches and puts the request into the connection's queue before it returns, so that requests keep the order
/// of these calls. The future waits for the answer.
pub(super) fn launch(
    connection: &Connection,
    broker: BrokerId,
    taken: Vec<Taken>,
    transaction: Option<Mark>,
    config: &ClientConfig,
) -> BoxFuture<'static, Landed> {
    let mut landed = Landed { broker, batches: Vec::with_capacity(taken.len()) };
    let mut flying = Vec::with_capacity(taken.len());
    for mut taken in taken {
        match taken.batch.seal() {
            Ok(bytes) => flying.push((taken, bytes)),
            Err(why) => {
                let error = Error::Invalid(format!("batch for {} cannot be written: {why}", taken.partition));
                landed.batches.push((taken, Err(error)));
            }
        }
    }
    let started = start(connection, &flying, transaction, config);
    let flying: Vec<Taken> = flying.into_iter().map(|(taken, _)| taken).collect();
    let address = connection.broker().to_owned();
    let acks = config.acks;
    async move {
        let answer = match started {
            Ok(pending) if acks == Acks::None => pending.written().await.map(|()| None),
            Ok(pending) => pending.await.map(Some),
            Err(error) => Err(error),
        };
        landed.batches.extend(match answer {
            Ok(Some(answer)) => sort_out(&address, flying, answer),
            Ok(None) => flying.into_iter().map(unanswered).collect(),
            Err(error) => flying.into_iter().map(|taken| (taken, Err(error.clone()))).collect(),
        });
        landed
    }
    .boxed()
}

fn start(
    connection: &Connection,
    flying: &[(Taken, Bytes)],
    transaction: Option<Mark>,
    config: &ClientConfig,
) -> Result<PendingResponse<ProduceRequest>> {
    let by_id = flying.iter().all(|(taken, _)| !taken.id.is_zero());
    let cap = match &transaction {
        Some(mark) if !mark.implicit => JOINS - 1,
        _ if by_id => i16::MAX,
        _ => BY_ID - 1,
    };
    let version = connection.version::<ProduceRequest>(cap)?;
    let mut topics: Vec<TopicProduceData> = Vec::new();
    for (taken, bytes) in flying {
        let data = PartitionProduceData { index: taken.partition.partition.0, records: Some(bytes.clone()) };
        match topics.iter_mut().find(|topic| topic.name == taken.partition.topic) {
            Some(topic) => topic.partition_data.push(data),
            None => topics.push(TopicProduceData {
                name: taken.partition.topic.clone(),
                topic_id: taken.id,
                partition_data: vec![data],
            }),
        }
    }
    let timeout = config.request_timeout;
    let request = ProduceRequest {
        transactional_id: transaction.map(|mark| mark.transactional_id),
        acks: config.acks.wire(),
        timeout_ms: i32::try_from(timeout.saturating_sub(MARGIN).as_millis()).unwrap_or(i32::MAX),
        topic_data: topics,
    };
    connection.start(version, &request, timeout, config.acks != Acks::None)
}

fn unanswered(taken: Taken) -> (Taken, Result<Written>) {
    let partition = taken.partition.partition;
    (taken, Ok(Written { partition, base_offset: None, log_append_time: None }))
}

/// Gives each batch the part of the answer that is about it.
fn sort_out(address: &str, flying: Vec<Taken>, answer: ProduceResponse) -> Vec<(Taken, Result<Written>)> {
    let mut parts: Vec<_> = answer
        .responses
        .into_iter()
        .flat_map(|topic| {
            let (name, id) = (topic.name, topic.topic_id);
            topic.partition_responses.into_iter().map(move |part| (name.clone(), id, part))
        })
        .collect();
    let mut find = |taken: &Taken| {
        let of = &taken.partition;
        // An answer by id has no names; the ids of one request differ from each other.
        let at = parts.iter().position(|(name, id, part)| {
            part.index == of.partition.0 && if name.is_empty() { taken.id == *id } else { *name == of.topic }
        })?;
        Some(parts.swap_remove(at).2)
    };
    flying
        .into_iter()
        .map(|taken| {
            let result = match find(&taken) {
                Some(part) => result_of(address, &taken, &part),
                None => Err(Error::left_out(address, API, &taken.partition)),
            };
            (taken, result)
        })
        .collect()
}

fn result_of(address: &str, taken: &Taken, part: &PartitionProduceResponse) -> Result<Written> {
    let partition = taken.partition.partition;
    let written = Written {
        partition,
        base_offset: Some(Offset(part.base_offset)).filter(|offset| offset.0 >= 0),
        log_append_time: Some(part.log_append_time_ms).filter(|time| *time >= 0),
    };
    if ErrorCode::from_code(part.error_code) == ErrorCode::DuplicateSequenceNumber {
        // Written before, too long ago for the broker to know where.
        return Ok(Written { base_offset: None, ..written });
    }
    let mut message = part.error_message.as_ref().map(ToString::to_string);
    for record in &part.record_errors {
        let why = record.batch_index_error_message.as_deref().unwrap_or("refused");
        let text = message.get_or_insert_default();
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(&format!("record {} of the batch: {why}", record.batch_index));
    }
    if ErrorCode::from_code(part.error_code) == ErrorCode::MessageTooLarge {
        let size = taken.batch.size();
        message = Some(format!(
            "the batch has {size} bytes; raise the topic's max.message.bytes or lower batch.size"
        ));
    }
    let what = || taken.partition.to_string();
    Error::check(address, API, what, part.error_code, message.as_deref()).map(|()| written)
}
