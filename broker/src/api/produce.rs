//! Produce (KIP-98, KIP-467, KIP-516, KIP-890, KIP-951), versions 3 to 13; versions 0 to 2 are advertised because old librdkafka
//! looks for them before it compresses, and refused.

mod guards;

use std::sync::Arc;
use std::time::Duration;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{BrokerId, Offset, PartitionIndex};
use aqueduct_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use aqueduct_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use aqueduct_protocol::messages::{ProduceRequest, ProduceResponse};
use aqueduct_protocol::records::{Compression, LENGTH_PREFIX, RecordBatch};
use aqueduct_protocol::{Decode, frame};
use aqueduct_storage::{AppendInfo, Error, Fault, Terms};
use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use self::guards::Guards;
use super::{Answer, Context, HandlerFuture, Refusal, Work};
use crate::metadata::{MetadataImage, TopicImage};
use crate::partition::Partition;
use crate::partitions::Closed;
use crate::quotas::QuotaKey;
use crate::recompress::recompress;
use crate::security::{Operation, ResourceType};

/// Versions from which zstd may be used.
const ZSTD_SINCE: i16 = 7;
/// Versions from which the answer says who leads instead.
const LEADERS_SINCE: i16 = 10;
/// Versions from which topics go by id.
const IDS_SINCE: i16 = 13;
/// Where a batch has its length, its magic and its attributes.
const LENGTH_AT: usize = 8;
const MAGIC_AT: usize = 16;
const ATTRIBUTES_AT: usize = 21;
/// The one client that may write to internal topics.
const ADMIN_CLIENT: &str = "__admin_client";

/// Decodes, handles and encodes; not the plain way, because a producer may want no answer.
pub(crate) fn serve(context: Context, mut body: Bytes) -> HandlerFuture {
    Box::pin(async move {
        let (version, correlation_id) = (context.version, context.correlation_id);
        let request = ProduceRequest::decode(&mut body, version)?;
        drop(body);
        let acks = request.acks;
        let mut work = Work::begin(&context).filter(|_| acks != 0);
        let mut response = Work::time(&mut work, handle(&context, request)).await;
        Work::charge(work);
        context.charge(QuotaKey::ProducerByteRate, context.request_bytes as f64);
        if acks == 0 {
            let partitions = || response.responses.iter().flat_map(|topic| &topic.partition_responses);
            return match partitions().find(|partition| partition.error_code != 0) {
                None => Ok(Answer::Nothing),
                Some(failed) => {
                    Err(Refusal::Unacknowledged(ErrorCode::from_code(failed.error_code).name().to_owned()))
                }
            };
        }
        response.throttle_time_ms = context.throttle.milliseconds();
        let mut out = BytesMut::with_capacity(128);
        let key = aqueduct_protocol::api::ApiKey::PRODUCE;
        frame::encode_response(&mut out, &response, key, version, correlation_id)?;
        Ok(Answer::Frame(out))
    })
}

/// What the producer wants to know of its records.
#[derive(Debug, Clone, Copy)]
struct Acks {
    /// Others are refused, after what is wrong with the partition and its records.
    are_known: bool,
    /// That all in-sync replicas have them.
    all: bool,
}

/// Records whose answer has to wait for followers.
struct Uncommitted {
    /// Indices of the topic and of the partition in the answer.
    at: (usize, usize),
    partition: Arc<Partition>,
    stint: u64,
    end: Offset,
}

/// What became of one partition's records.
struct Produced {
    response: PartitionProduceResponse,
    /// What they wait for, were they written: the partition, its stint before, the end of the records.
    wait: Option<(Arc<Partition>, u64, Offset)>,
}

impl From<PartitionProduceResponse> for Produced {
    fn from(response: PartitionProduceResponse) -> Self {
        Self { response, wait: None }
    }
}

async fn handle(context: &Context, request: ProduceRequest) -> ProduceResponse {
    let image = context.node.metadata.image();
    let mut whole = refusal_of_all(context, &request);
    let allowed: Vec<bool> = request.topic_data.iter().map(|data| may_write(context, &image, data)).collect();
    let closed = closed(context, &image, &request, &allowed);
    context.node.partitions.open_at_once(closed).await;
    let acks = Acks { are_known: matches!(request.acks, -1..=1), all: request.acks == -1 };
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let deadline = Instant::now() + timeout;
    let guards = match whole {
        _ if whole.is_some() || !acks.are_known => Guards::default(),
        _ => Guards::obtain(context, &image, &request, &allowed).await.unwrap_or_else(|code| {
            whole = Some((code, None));
            Guards::default()
        }),
    };
    let mut responses = Vec::with_capacity(request.topic_data.len());
    let mut waits = Vec::new();
    for (topic, allowed) in request.topic_data.into_iter().zip(allowed) {
        let refused = whole.or((!allowed).then_some((ErrorCode::TopicAuthorizationFailed, None)));
        let (response, waiting) = produce_topic(context, &image, topic, refused, &guards, acks).await;
        let at = responses.len();
        waits.extend(waiting.into_iter().map(|(index, (partition, stint, end))| Uncommitted {
            at: (at, index),
            partition,
            stint,
            end,
        }));
        // A topic without partitions has no answer.
        if !response.partition_responses.is_empty() {
            responses.push(response);
        }
    }
    settle(&mut responses, waits, deadline).await;
    let node_endpoints = endpoints(context, &responses);
    ProduceResponse { responses, node_endpoints, ..Default::default() }
}

/// Waits until all in-sync replicas have what was written, as long as the producer would.
async fn settle(responses: &mut [TopicProduceResponse], waits: Vec<Uncommitted>, deadline: Instant) {
    for Uncommitted { at: (topic, index), partition, stint, end } in waits {
        if let Err(code) = partition.committed(stint, end, deadline).await {
            let response = &mut responses[topic].partition_responses[index];
            *response = failed(response.index, code, None);
        }
    }
}

/// Where the leaders are that the answer names.
fn endpoints(context: &Context, responses: &[TopicProduceResponse]) -> Vec<NodeEndpoint> {
    let partitions = responses.iter().flat_map(|topic| &topic.partition_responses);
    let leaders = partitions.map(|partition| BrokerId(partition.current_leader.leader_id));
    let leaders = leaders.filter(|id| id.0 >= 0 && context.version >= LEADERS_SINCE);
    let endpoint = |at: super::shared::LeaderEndpoint| NodeEndpoint {
        node_id: at.id.0,
        host: at.host,
        port: at.port,
        rack: at.rack,
    };
    super::shared::leader_endpoints(context, leaders).into_iter().map(endpoint).collect()
}

/// What is wrong with the request as a whole.
fn refusal_of_all(context: &Context, request: &ProduceRequest) -> Option<(ErrorCode, Option<&'static str>)> {
    let mut partitions = request.topic_data.iter().flat_map(|topic| &topic.partition_data);
    if partitions.any(|partition| partition.records.as_deref().is_some_and(is_transactional)) {
        let code = ErrorCode::TransactionalIdAuthorizationFailed;
        match request.transactional_id.as_deref() {
            Some(id) if context.allows(Operation::Write, ResourceType::TransactionalId, id) => {}
            Some(_) => return Some((code, None)),
            None => {
                return Some((code, Some("transactional records in a request without a transactional id")));
            }
        }
    }
    None
}

/// Whether the client may write to a topic. An id that is unknown has no name to ask for.
fn may_write(context: &Context, image: &MetadataImage, data: &TopicProduceData) -> bool {
    match find(image, context, data) {
        Some(topic) => context.allows_topic(Operation::Write, &topic.name),
        None => context.version >= IDS_SINCE || context.allows_topic(Operation::Write, &data.name),
    }
}

fn closed(
    context: &Context,
    image: &MetadataImage,
    request: &ProduceRequest,
    allowed: &[bool],
) -> Vec<Closed> {
    let allowed = request.topic_data.iter().zip(allowed).filter(|(_, allowed)| **allowed);
    let named = allowed.filter_map(|(data, _)| Some((find(image, context, data)?, data)));
    let wanted = named.flat_map(|(topic, data)| data.partition_data.iter().map(move |p| (topic, p.index)));
    context.node.partitions.closed(wanted)
}

fn find<'a>(
    image: &'a MetadataImage,
    context: &Context,
    data: &TopicProduceData,
) -> Option<&'a Arc<TopicImage>> {
    match context.version {
        IDS_SINCE.. => image.topic_by_id(data.topic_id),
        _ => image.topic(&data.name),
    }
}

async fn produce_topic(
    context: &Context,
    image: &MetadataImage,
    data: TopicProduceData,
    refused: Option<(ErrorCode, Option<&'static str>)>,
    guards: &Guards,
    acks: Acks,
) -> (TopicProduceResponse, Vec<(usize, (Arc<Partition>, u64, Offset))>) {
    let by_id = context.version >= IDS_SINCE;
    let topic = find(image, context, &data);
    let mut partition_responses = Vec::with_capacity(data.partition_data.len());
    let mut waits = Vec::new();
    for partition in data.partition_data {
        let index = partition.index;
        let Produced { mut response, wait } = match (refused, topic) {
            (Some((code, why)), _) => failed(index, code, why.map(str::to_owned)).into(),
            (None, Some(topic)) => match guards.terms(topic.id, index) {
                Ok(terms) => produce_partition(context, topic, partition, terms, acks).await,
                Err(code) => failed(index, code, None).into(),
            },
            (None, None) if by_id => failed(index, ErrorCode::UnknownTopicId, None).into(),
            (None, None) => failed(index, ErrorCode::UnknownTopicOrPartition, None).into(),
        };
        waits.extend(wait.map(|wait| (partition_responses.len(), wait)));
        if response.error_code == ErrorCode::NotLeaderOrFollower.code()
            && context.version >= LEADERS_SINCE
            && let Some(known) = topic.and_then(|topic| topic.partition(PartitionIndex(index)))
        {
            let (leader_id, leader_epoch) = (known.leader.0, known.leader_epoch.0);
            response.current_leader = LeaderIdAndEpoch { leader_id, leader_epoch };
        }
        if response.error_code != 0 {
            context.node.metrics.produce_failures.inc();
        }
        partition_responses.push(response);
    }
    (TopicProduceResponse { name: data.name, topic_id: data.topic_id, partition_responses }, waits)
}

async fn produce_partition(
    context: &Context,
    topic: &Arc<TopicImage>,
    data: PartitionProduceData,
    terms: Terms,
    acks: Acks,
) -> Produced {
    let index = data.index;
    let partition = match context.node.partitions.get(topic, PartitionIndex(index)).await {
        Ok(partition) => partition,
        Err(code) => return failed(index, code, None).into(),
    };
    let refused = |code, why: &str| Produced::from(failed(index, code, Some(why.to_owned())));
    let mut records = data.records.unwrap_or_default();
    drop_partial_batch(&mut records);
    let header = match RecordBatch::parse(records.clone()) {
        Ok(batch) => batch.header,
        Err(error) if is_of_the_future(&records) => {
            return refused(ErrorCode::CorruptMessage, &error.to_string());
        }
        Err(error) => return refused(ErrorCode::InvalidRecord, &error.to_string()),
    };
    if !acks.are_known {
        return refused(ErrorCode::InvalidRequiredAcks, "acks must be -1, 0 or 1");
    }
    if topic.is_internal() && context.client_id.as_deref() != Some(ADMIN_CLIENT) {
        return refused(ErrorCode::InvalidTopicException, "internal topics are written by the broker only");
    }
    let zstd = header.attributes.compression().is_ok_and(|codec| codec == Compression::Zstd);
    if zstd && context.version < ZSTD_SINCE {
        return refused(ErrorCode::UnsupportedCompressionType, "zstd needs Produce version 7 or newer");
    }
    let count = header.record_count;
    if let Some(target) = partition.compression() {
        match recompress(&records, target) {
            Ok(Some(changed)) => records = changed,
            Ok(None) => {}
            Err(error) => return refused(ErrorCode::CorruptMessage, &error.to_string()),
        }
    }
    let size = records.len();
    // Before the append: what is lost meanwhile is not waited for.
    let stint = partition.stint();
    if acks.all && !partition.has_enough_in_sync() {
        return refused(
            ErrorCode::NotEnoughReplicas,
            "fewer replicas are in sync than min.insync.replicas asks for",
        );
    }
    match partition.append(records, terms) {
        Ok(info) => {
            if info.duplicate {
                partition.traffic.produced(Ok(0), 0);
            } else {
                context.node.metrics.messages_in.inc_by(count.max(0) as u64);
                context.node.metrics.bytes_in.inc_by(size as u64);
                partition.traffic.produced(Ok(count.max(0) as u64), size as u64);
            }
            let end = info.last_offset.plus(1);
            let waits = acks.all && partition.has_followers();
            Produced { response: appended(index, info), wait: waits.then_some((partition, stint, end)) }
        }
        Err(error) => {
            partition.traffic.produced(Err(()), size as u64);
            if matches!(error, Error::Closed { .. }) && !partition.is_offline() {
                context.node.partitions.reopen(&partition);
            }
            rejected(index, &partition, &error).into()
        }
    }
}

/// Whether the attributes say so; the rest of the batch has not been looked at.
fn is_transactional(records: &[u8]) -> bool {
    const BIT: u8 = 0x10;
    records.get(ATTRIBUTES_AT + 1).is_some_and(|low| low & BIT != 0)
}

/// Whether the magic is above 2.
fn is_of_the_future(records: &[u8]) -> bool {
    records.get(MAGIC_AT).is_some_and(|magic| (3..=127).contains(magic))
}

/// Drops what follows the first batch without being a whole batch itself, as the reference does.
fn drop_partial_batch(records: &mut Bytes) {
    let size_at = |at: usize| -> Option<usize> {
        let length = records.get(at + LENGTH_AT..at + LENGTH_PREFIX)?;
        let length = i32::from_be_bytes(length.try_into().ok()?);
        Some(LENGTH_PREFIX + usize::try_from(length).ok()?)
    };
    let Some(first) = size_at(0).filter(|first| *first < records.len()) else { return };
    let rest = records.len() - first;
    if rest <= MAGIC_AT || size_at(first).is_some_and(|size| size > rest) {
        records.truncate(first);
    }
}

fn appended(index: i32, info: AppendInfo) -> PartitionProduceResponse {
    PartitionProduceResponse {
        index,
        base_offset: info.first_offset.0,
        log_append_time_ms: info.log_append_time,
        log_start_offset: info.log_start_offset.0,
        ..Default::default()
    }
}

fn rejected(index: i32, partition: &Partition, error: &Error) -> PartitionProduceResponse {
    let code = partition.code(error);
    let record_errors = error
        .record_issues()
        .iter()
        .map(|issue| BatchIndexAndErrorMessage {
            batch_index: issue.index,
            batch_index_error_message: Some(issue.message.clone().into()),
        })
        .collect();
    // A full or failed disk has been told of.
    if code == ErrorCode::KafkaStorageError && error.fault() == Fault::Unclear {
        tracing::error!(partition = %partition.name(), %error, "append failed");
    }
    // As the reference has it, the start is told only with what was found wrong beyond size and checksum.
    let log_start_offset = match error {
        Error::MessageTooLarge { .. } | Error::CorruptMessage { .. } => -1,
        _ => partition.log().log_start_offset().0,
    };
    PartitionProduceResponse {
        log_start_offset,
        record_errors,
        ..failed(index, code, Some(error.to_string()))
    }
}

fn failed(index: i32, code: ErrorCode, message: Option<String>) -> PartitionProduceResponse {
    PartitionProduceResponse {
        index,
        error_code: code.code(),
        base_offset: -1,
        log_append_time_ms: -1,
        log_start_offset: -1,
        error_message: message.map(Into::into),
        ..Default::default()
    }
}
