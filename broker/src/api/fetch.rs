//! Fetch (KIP-74, KIP-98, KIP-227, KIP-320, KIP-392, KIP-516, KIP-903, KIP-951, KIP-1166), versions 4 to 18.
//!
//! Records go from the log's files to the socket; this file decides which, and waits for them where there are none.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_protocol::Decode;
use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::fetch_plan::{FetchPlan, FetchTopic};
use aqueduct_protocol::ids::{BrokerId, PartitionIndex, Uuid};
use aqueduct_protocol::messages::FetchRequest;
use aqueduct_protocol::messages::fetch_request;
use aqueduct_protocol::messages::fetch_response::NodeEndpoint;
use aqueduct_storage::Slice;
use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::{Answer, Context, HandlerFuture, Work, own};
use crate::fetch::context::About;
use crate::fetch::context::FetchContext;
use crate::fetch::read::{Outcome, Reader, Replica, Target};
use crate::fetch::session::{PartitionKey, Position, TopicKey};
use crate::fetch::waiters::Waiter;
use crate::metadata::{BrokerEpoch, MetadataImage, TopicImage};
use crate::quotas::QuotaKey;
use crate::replication::Isolation;
use crate::security::Operation;

/// Versions from which topics go by id.
const IDS_SINCE: i16 = 13;
/// Versions from which the answer has a code of its own.
const CODE_SINCE: i16 = 7;
/// Versions in which a consumer may read from a follower.
const RACKS_SINCE: i16 = 11;
/// Versions from which the answer says who leads instead.
const LEADERS_SINCE: i16 = 16;
/// What is committed a follower hears of so soon without a record to go with it. Where records keep coming that is for
/// nothing.
const NEWS_WITHIN: Duration = Duration::from_millis(20);
const READ_UNCOMMITTED: i8 = 0;
const READ_COMMITTED: i8 = 1;

/// Decodes, handles and encodes; not the plain way, because the records stay in their files.
pub(crate) fn serve(context: Context, mut body: Bytes) -> HandlerFuture {
    Box::pin(async move {
        let (version, correlation_id) = (context.version, context.correlation_id);
        let request = FetchRequest::decode(&mut body, version)?;
        drop(body);
        let mut work = Work::begin(&context);
        let handled = Work::time(&mut work, handle(&context, request)).await;
        Work::charge(work);
        let plan = handled.finish(&context);
        Ok(Answer::Chunks(plan.into_frame(version, correlation_id)?))
    })
}

/// What became of a request, before it is settled what is told of it.
enum Handled {
    Failed(ErrorCode),
    Read { session: FetchContext, targets: Vec<Target>, outcomes: Vec<Outcome>, is_follower: bool },
}

impl Handled {
    /// Charges the client for what was read, and writes the answer. Over its quota it gets nothing but the pause; the
    /// session stays as it was, so that the next request is told all of this.
    fn finish(self, context: &Context) -> FetchPlan<Slice> {
        let node = &context.node;
        let throttle_time_ms = context.throttle.milliseconds();
        let (session, targets, outcomes, is_follower) = match self {
            Self::Read { session, targets, outcomes, is_follower } => {
                (session, targets, outcomes, is_follower)
            }
            Self::Failed(code) => {
                return FetchPlan { throttle_time_ms, error_code: code.code(), ..Default::default() };
            }
        };
        if !is_follower {
            let bytes = outcomes.iter().map(Outcome::length).sum::<usize>() as f64;
            context.charge(QuotaKey::ConsumerByteRate, bytes);
            let throttle_time_ms = context.throttle.milliseconds();
            if throttle_time_ms > 0 {
                context.refund(QuotaKey::ConsumerByteRate, bytes);
                return FetchPlan { throttle_time_ms, session_id: session.id(), ..Default::default() };
            }
        }
        for (target, outcome) in targets.iter().zip(&outcomes) {
            if let Ok(partition) = &target.partition {
                match is_follower {
                    true => partition.sent(outcome.length()),
                    false => partition.traffic.fetched(outcome.length() as u64, outcome.is_error()),
                }
            }
            if !is_follower {
                node.metrics.bytes_out.inc_by(outcome.length() as u64);
            }
            if outcome.is_error() {
                node.metrics.fetch_failures.inc();
            }
        }
        let keys =
            targets.into_iter().map(|target| (target.key, (target.name, target.leader), target.position));
        let (session_id, told) =
            session.finish(&node.fetch_sessions, keys.zip(outcomes), node.clock.now_ms());
        let told_leaders = context.version >= LEADERS_SINCE;
        let elsewhere = told.iter().filter(|(_, _, outcome)| told_leaders && outcome.is_elsewhere());
        let leaders = elsewhere.filter_map(|(_, (_, leader), _)| Some(leader.as_ref()?.0));
        let node_endpoints = endpoints(context, leaders);
        FetchPlan { session_id, topics: topics(told), node_endpoints, ..Default::default() }
    }
}

async fn handle(context: &Context, request: FetchRequest) -> Handled {
    let node = &context.node;
    let by_id = context.version >= IDS_SINCE;
    let is_known = matches!(request.isolation_level, READ_UNCOMMITTED | READ_COMMITTED);
    let replica = replica(&request);
    let is_follower = replica.is_some();
    let wanted = wanted(&request.topics, by_id);
    let forgotten = forgotten(&request.forgotten_topics_data, by_id);
    let now_ms = node.clock.now_ms();
    let (id, epoch) = match context.version {
        7.. => (request.session_id, request.session_epoch),
        _ => (0, -1),
    };
    let session =
        match FetchContext::begin(&node.fetch_sessions, (id, epoch), by_id, wanted, forgotten, now_ms) {
            Ok(session) => session,
            Err(code) => return Handled::Failed(code),
        };
    let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0).min(node.settings.fetch_max_bytes);
    let max_bytes = if is_follower { max_bytes } else { max_bytes.min(context.most_fetched_at_once()) };
    let from_followers = !is_follower && context.version >= RACKS_SINCE;
    let mut targets = targets(context, session.positions(), is_follower, from_followers).await;
    // Matters where there is something to read.
    if !is_known && targets.iter().any(|target| target.partition.is_ok()) {
        if context.version >= CODE_SINCE {
            return Handled::Failed(ErrorCode::InvalidRequest);
        }
        let readable = targets.iter_mut().filter(|target| target.partition.is_ok());
        readable.for_each(|target| target.partition = Err(ErrorCode::InvalidRequest));
    }
    let isolation = match request.isolation_level {
        _ if is_follower => Isolation::LogEnd,
        READ_COMMITTED => Isolation::Committed,
        _ => Isolation::Uncommitted,
    };
    let wants_rack = from_followers && node.settings.replication.rack_aware_reads;
    let rack = wants_rack.then(|| own(&request.rack_id)).filter(|rack| !rack.is_empty());
    let version = context.version;
    let follower = replica.map(|(id, _)| id);
    let mut reader =
        Reader { targets, max_bytes, isolation, version, replica, follower, rack, from_followers };
    reader.acknowledge();
    let max_wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let min_bytes = usize::try_from(request.min_bytes).unwrap_or(0).min(max_bytes);
    let (reader, outcomes) = read_or_wait(context, reader, min_bytes, max_wait).await;
    Handled::Read { session, targets: reader.targets, outcomes, is_follower }
}

/// The follower that asks, if it is one.
fn replica(request: &FetchRequest) -> Option<Replica> {
    let state = &request.replica_state;
    let (id, epoch) = match request.replica_id {
        0.. => (request.replica_id, BrokerEpoch::NONE),
        _ => (state.replica_id, BrokerEpoch(state.replica_epoch)),
    };
    (id >= 0).then_some((BrokerId(id), epoch))
}

/// Where the leaders are, as the client's listener reaches them.
fn endpoints(context: &Context, leaders: impl Iterator<Item = BrokerId>) -> Vec<NodeEndpoint> {
    let endpoint = |at: super::shared::LeaderEndpoint| NodeEndpoint {
        node_id: at.id.0,
        host: at.host,
        port: at.port,
        rack: at.rack,
    };
    super::shared::leader_endpoints(context, leaders).into_iter().map(endpoint).collect()
}

/// Reads, and waits for more as long as that is worth while and allowed.
async fn read_or_wait(
    context: &Context,
    mut reader: Reader,
    min_bytes: usize,
    max_wait: Duration,
) -> (Reader, Vec<Outcome>) {
    let deadline = Instant::now() + max_wait;
    let mut news_by = None;
    loop {
        let (outcomes, bytes);
        (reader, outcomes, bytes) = read(reader).await;
        let at_once = max_wait.is_zero()
            || bytes >= min_bytes
            || !reader.targets.iter().any(|target| target.partition.is_ok())
            || outcomes.iter().any(Outcome::ends_the_wait);
        if news_by.is_none() && outcomes.iter().any(Outcome::is_news) {
            news_by = Some(Instant::now() + NEWS_WITHIN);
        }
        let until = news_by.map_or(deadline, |by| deadline.min(by));
        if at_once || Instant::now() >= until {
            return (reader, outcomes);
        }
        // Nobody is woken when a throttle lets more through.
        let held_back = outcomes.iter().filter_map(Outcome::held_back).min();
        let look_again = held_back.map(|pause| Instant::now() + pause).filter(|at| *at < until);
        let waiter = Waiter::new((min_bytes - bytes) as i64);
        let waiting = reader.wait(&waiter);
        // What was appended between reading and registering woke nobody.
        if !reader.is_current(&outcomes) {
            continue;
        }
        let parked = context.node.metrics.fetches_parked.park();
        let woken = tokio::select! {
            woken = timeout_at(look_again.unwrap_or(until), waiter.woken()) => {
                woken.is_ok() || look_again.is_some()
            }
            () = context.node.tasks.stopping() => false,
        };
        drop((waiting, parked));
        if !woken {
            return (reader, outcomes);
        }
    }
}

/// Reads on this thread where all that takes is in memory, else on one that may wait for the disk.
async fn read(reader: Reader) -> (Reader, Vec<Outcome>, usize) {
    if let Some((outcomes, bytes)) = reader.read_cached() {
        return (reader, outcomes, bytes);
    }
    let reading = aqueduct_quorum::blocking::spawn(move || {
        let (outcomes, bytes) = reader.read_waiting();
        (reader, outcomes, bytes)
    });
    // It is only interrupted when the runtime ends, and this task with it.
    match reading.await {
        Ok(read) => read,
        Err(_) => std::future::pending().await,
    }
}

async fn targets(
    context: &Context,
    positions: Vec<(PartitionKey, Position)>,
    is_follower: bool,
    from_followers: bool,
) -> Vec<Target> {
    let image = context.node.metadata.image();
    let mut targets = Vec::with_capacity(positions.len());
    let wanted = positions.iter().filter_map(|(key, _)| Some((find(&image, key)?, key.index)));
    let closed = context.node.partitions.closed(wanted);
    context.node.partitions.open_at_once(closed).await;
    let mut access = Access::new(context, is_follower);
    for (key, position) in positions {
        let topic = find(&image, &key);
        let denied = access.is_denied(&key.topic, topic.map(|topic| &*topic.name));
        targets.push(target(context, topic, key, position, denied, from_followers).await);
    }
    targets
}

fn find<'a>(image: &'a MetadataImage, key: &PartitionKey) -> Option<&'a Arc<TopicImage>> {
    match &key.topic {
        TopicKey::Name(name) => image.topic(name),
        TopicKey::Id(id) => image.topic_by_id(*id),
    }
}

/// What the client may read; neighbours of one topic are asked about once.
struct Access<'a> {
    context: &'a Context,
    /// Whether it is a follower that may follow.
    follows: Option<bool>,
    last: Option<(TopicKey, bool)>,
}

impl<'a> Access<'a> {
    fn new(context: &'a Context, is_follower: bool) -> Self {
        let follows = is_follower.then(|| context.allows_cluster(Operation::ClusterAction));
        Self { context, follows, last: None }
    }

    /// An id that is unknown has no name to ask for.
    fn is_denied(&mut self, key: &TopicKey, name: Option<&str>) -> bool {
        if let Some(follows) = self.follows {
            return !follows;
        }
        if !self.context.node.authorizer.is_enabled() {
            return false;
        }
        if let Some((last, denied)) = &self.last
            && last == key
        {
            return *denied;
        }
        let name = match key {
            TopicKey::Name(name) => Some(&**name),
            TopicKey::Id(_) => name,
        };
        let denied = name.is_some_and(|name| !self.context.allows_topic(Operation::Read, name));
        self.last = Some((key.clone(), denied));
        denied
    }
}

async fn target(
    context: &Context,
    topic: Option<&Arc<TopicImage>>,
    key: PartitionKey,
    position: Position,
    denied: bool,
    from_followers: bool,
) -> Target {
    let unknown = match &key.topic {
        TopicKey::Name(_) => ErrorCode::UnknownTopicOrPartition,
        TopicKey::Id(_) => ErrorCode::UnknownTopicId,
    };
    let name = topic.map(|topic| topic.name.clone());
    let partition = match topic {
        _ if denied => Err(ErrorCode::TopicAuthorizationFailed),
        None => Err(unknown),
        Some(topic) if from_followers => {
            context.node.partitions.readable(topic, PartitionIndex(key.index)).await
        }
        Some(topic) => context.node.partitions.get(topic, PartitionIndex(key.index)).await,
    };
    let leader = topic.and_then(|topic| topic.partition(PartitionIndex(key.index)));
    let leader = leader.map(|partition| (partition.leader, partition.leader_epoch));
    Target { key, name, position, partition, leader }
}

fn wanted(topics: &[fetch_request::FetchTopic], by_id: bool) -> Vec<(PartitionKey, Position)> {
    let mut wanted = Vec::with_capacity(topics.iter().map(|topic| topic.partitions.len()).sum());
    for topic in topics {
        let key = topic_key(&topic.topic, topic.topic_id, by_id);
        wanted.extend(topic.partitions.iter().map(|partition| {
            let position = Position {
                current_leader_epoch: partition.current_leader_epoch,
                fetch_offset: partition.fetch_offset,
                last_fetched_epoch: partition.last_fetched_epoch,
                log_start_offset: partition.log_start_offset,
                high_watermark: partition.high_watermark,
                max_bytes: partition.partition_max_bytes,
            };
            (PartitionKey { topic: key.clone(), index: partition.partition }, position)
        }));
    }
    once(wanted)
}

/// Of a partition that is asked for several times the last position holds.
fn once(wanted: Vec<(PartitionKey, Position)>) -> Vec<(PartitionKey, Position)> {
    let mut last: HashMap<&PartitionKey, usize> = HashMap::with_capacity(wanted.len());
    for (at, (key, _)) in wanted.iter().enumerate() {
        last.insert(key, at);
    }
    if last.len() == wanted.len() {
        return wanted;
    }
    let mut kept: Vec<usize> = last.into_values().collect();
    kept.sort_unstable();
    kept.into_iter().map(|at| wanted[at].clone()).collect()
}

fn forgotten(topics: &[fetch_request::ForgottenTopic], by_id: bool) -> Vec<PartitionKey> {
    let mut forgotten = Vec::new();
    for topic in topics {
        let key = topic_key(&topic.topic, topic.topic_id, by_id);
        forgotten
            .extend(topic.partitions.iter().map(|index| PartitionKey { topic: key.clone(), index: *index }));
    }
    forgotten
}

fn topic_key(name: &str, id: Uuid, by_id: bool) -> TopicKey {
    if by_id { TopicKey::Id(id) } else { TopicKey::Name(own(name)) }
}

/// Neighbours of one topic are put under one head.
fn topics(told: Vec<(PartitionKey, About, Outcome)>) -> Vec<FetchTopic<Slice>> {
    let mut topics: Vec<FetchTopic<Slice>> = Vec::new();
    for (key, (known_name, leader), outcome) in told {
        let (topic, topic_id) = match key.topic {
            TopicKey::Name(name) => (name, Uuid::ZERO),
            TopicKey::Id(id) => (known_name.unwrap_or_default(), id),
        };
        let partition = outcome.into_response(key.index, leader);
        match topics.last_mut() {
            Some(last) if last.topic == topic && last.topic_id == topic_id => last.partitions.push(partition),
            _ => topics.push(FetchTopic { topic, topic_id, partitions: vec![partition] }),
        }
    }
    topics
}
