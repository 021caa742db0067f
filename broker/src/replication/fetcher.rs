//! Fetches from one leader's broker over a connection of its own, until nothing is wanted from there any more.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_client::Connection;
use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{LeaderEpoch, Offset};
use aqueduct_protocol::messages::fetch_request::ReplicaState;
use aqueduct_protocol::messages::fetch_response::PartitionData;
use aqueduct_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use aqueduct_protocol::messages::{FetchRequest, FetchResponse, ListOffsetsRequest};
use aqueduct_storage::Error;
use tokio::time::Instant;

use super::fetchers::{Feed, Fetchers, Lane, Wanted};
use super::following::{Fetched, Followed};
use super::session::{FetchSession, Key};
use crate::api::own;
use crate::fetch::session::Position;
use crate::node::Node;
use crate::peers::PeerError;

/// Versions in which the follower's registration has a place.
const STATE_SINCE: i16 = 15;
const MOST: i16 = 18;
const LIST_MOST: i16 = 8;
/// After a first failure; doubled with each further one, up to `replica.fetch.backoff.ms`.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

/// For more partitions that come to be followed, before a fetch that does not have them is given up; doubled each time, up
/// to `replica.fetch.wait.max.ms`, until there was nothing new for [`CALM`].
const GATHER: Duration = Duration::from_millis(10);
const CALM: Duration = Duration::from_secs(1);

/// A partition that is not fetched for a while.
#[derive(Debug)]
struct Held {
    until: Instant,
    failures: u32,
}

/// One feed's task.
struct Fetcher {
    node: Arc<Node>,
    feed: Arc<Feed>,
    session: FetchSession,
    link: Option<Connection>,
    held: HashMap<Key, Held>,
    /// Times in a row that the broker did not answer.
    failures: u32,
    /// When a fetch was given up last for one with more partitions, and how long is waited for more the next time.
    overtaken: Instant,
    gather: Duration,
}

/// What became of one partition's part of an answer.
enum Outcome {
    Fine,
    /// Tried again after a pause.
    Later(&'static str),
    OutOfRange,
    /// Its log has to be opened anew.
    Broken,
}

pub(super) async fn run(node: Arc<Node>, fetchers: Arc<Fetchers>, feed: Arc<Feed>) {
    let tasks = node.tasks.clone();
    let mut fetcher = Fetcher {
        node,
        feed,
        session: FetchSession::default(),
        link: None,
        held: HashMap::new(),
        failures: 0,
        overtaken: Instant::now(),
        gather: GATHER,
    };
    fetcher.gather = fetcher.first_gather();
    tokio::select! {
        () = fetcher.run(&fetchers) => {}
        () = tasks.stopping() => {}
    }
}

impl Fetcher {
    async fn run(mut self, fetchers: &Arc<Fetchers>) {
        loop {
            let mut wanted = self.feed.wanted();
            if self.feed.lane() == Lane::CatchUp {
                let in_sync = wanted.extract_if(|_, wanted| wanted.partition.is_in_sync());
                in_sync.for_each(|(key, _)| fetchers.shift(&self.node, &self.feed, key));
            }
            if wanted.is_empty() {
                if fetchers.retire(&self.feed) {
                    return;
                }
                continue;
            }
            let positions = self.positions(&wanted);
            if positions.is_empty() {
                let held = self.held.values().map(|held| held.until);
                let throttled = self.throttled_for().map(|pause| Instant::now() + pause);
                let until = held.chain(throttled).min();
                let until = until.unwrap_or_else(|| Instant::now() + self.node.settings.replication.backoff);
                tokio::select! {
                    () = tokio::time::sleep_until(until) => {}
                    () = self.feed.news.notified() => {}
                }
                continue;
            }
            if self.overtaken.elapsed() > CALM {
                self.gather = self.first_gather();
            }
            let (feed, gather) = (self.feed.clone(), self.gather);
            let fetched = tokio::select! {
                fetched = self.fetch(&positions) => fetched,
                () = overtaken(&feed, &wanted, gather) => {
                    // The leader may wait for records for a long time, and those of other partitions wait for this follower.
                    (self.link, self.overtaken) = (None, Instant::now());
                    self.session.reset();
                    self.gather = (gather * 2).min(self.longest_wait());
                    continue;
                }
            };
            match fetched {
                Ok(response) => {
                    self.failures = 0;
                    for behind in self.take(wanted, positions, response).await {
                        fetchers.shift(&self.node, &self.feed, behind);
                    }
                }
                Err(error) => {
                    if self.failures == 0 {
                        tracing::warn!(leader = %self.feed.leader(), %error, "leader cannot be fetched from; it is tried again");
                    }
                    (self.link, self.failures) = (None, self.failures.saturating_add(1));
                    self.session.reset();
                    let pause = pause(self.failures, self.node.settings.replication.backoff);
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// From where to fetch each partition that is not held back.
    fn positions(&mut self, wanted: &HashMap<Key, Wanted>) -> HashMap<Key, Position> {
        let now = Instant::now();
        self.held.retain(|key, _| wanted.contains_key(key));
        let most = self.node.settings.replication.fetch_max_bytes;
        let ready = wanted.iter().filter(|(key, _)| self.held.get(key).is_none_or(|held| held.until <= now));
        let position = |(key, wanted): (&Key, &Wanted)| {
            Some((*key, wanted.partition.fetch_position(wanted.epoch, most)?))
        };
        ready.filter_map(position).collect()
    }

    async fn connection(&mut self) -> Result<Connection, PeerError> {
        if let Some(link) = self.link.as_ref().filter(|link| !link.is_closed()) {
            return Ok(link.clone());
        }
        // What another connection was told holds for that one only as long as it is known to have arrived.
        self.session.reset();
        let link = self.node.peers.dedicated(self.feed.leader()).await?;
        self.link = Some(link.clone());
        Ok(link)
    }

    async fn fetch(&mut self, positions: &HashMap<Key, Position>) -> Result<FetchResponse, PeerError> {
        let link = self.connection().await?;
        let settings = &self.node.settings.replication;
        let (mut max_wait, mut max_bytes) = (self.longest_wait(), settings.response_max_bytes);
        if self.feed.lane() == Lane::CatchUp && self.node.partitions.around().fetched.is_limited() {
            // A little at a time, and on with it as soon as the throttle lets it.
            max_bytes = max_bytes.min(settings.fetch_max_bytes);
            max_wait = self.throttled_for().map_or(max_wait, |pause| max_wait.min(pause));
        }
        let told = self.session.next(positions);
        let (id, epoch) = (self.node.settings.node_id.0, self.node.metadata.broker_epoch().0);
        let request = move |version: i16| FetchRequest {
            replica_id: if version < STATE_SINCE { id } else { -1 },
            replica_state: match version < STATE_SINCE {
                true => ReplicaState::default(),
                false => ReplicaState { replica_id: id, replica_epoch: epoch },
            },
            max_wait_ms: i32::try_from(max_wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: settings.fetch_min_bytes,
            max_bytes,
            session_id: told.id,
            session_epoch: told.epoch,
            topics: told.topics,
            forgotten_topics_data: told.forgotten,
            ..Default::default()
        };
        Ok(link.call(MOST, request, self.longest_wait() + settings.socket_timeout).await?)
    }

    /// How long a fetch may go on that lacks new partitions. One that copies much is not given up for them.
    fn first_gather(&self) -> Duration {
        match self.feed.lane() {
            Lane::InSync => GATHER,
            Lane::CatchUp => self.longest_wait(),
        }
    }

    /// For how long followers here may not copy what is throttled.
    fn throttled_for(&self) -> Option<Duration> {
        let around = self.node.partitions.around();
        around.fetched.pause(around.now_ms())
    }

    fn longest_wait(&self) -> Duration {
        let wait = self.node.settings.replication.fetch_wait_max_ms;
        Duration::from_millis(u64::try_from(wait).unwrap_or(0))
    }

    /// Does what the leader's answer says; gives the partitions that are to be fetched over the lane of those that catch up.
    async fn take(
        &mut self,
        wanted: HashMap<Key, Wanted>,
        positions: HashMap<Key, Position>,
        response: FetchResponse,
    ) -> Vec<Key> {
        let mut behind = Vec::new();
        let code = ErrorCode::from_code(response.error_code);
        if code != ErrorCode::None {
            self.session.reset();
            let is_forgotten =
                matches!(code, ErrorCode::FetchSessionIdNotFound | ErrorCode::InvalidFetchSessionEpoch);
            if !is_forgotten {
                tracing::warn!(leader = %self.feed.leader(), code = code.name(), "leader refuses to be fetched from");
                tokio::time::sleep(self.node.settings.replication.backoff).await;
            }
            return behind;
        }
        self.session.answered(response.session_id);
        let keys: Vec<Key> = wanted.keys().copied().collect();
        let work = aqueduct_quorum::blocking::spawn(move || {
            let mut outcomes = Vec::new();
            for topic in response.responses {
                for data in topic.partitions {
                    let key = (topic.topic_id, data.partition_index);
                    let (Some(wanted), Some(position)) = (wanted.get(&key), positions.get(&key)) else {
                        continue;
                    };
                    outcomes.push((key, wanted.clone(), apply(wanted, position, data)));
                }
            }
            outcomes
        });
        let Ok(outcomes) = work.await else {
            // A panic: all are held back, or it would go on and on.
            keys.into_iter().for_each(|key| self.hold(key, "the answer could not be taken"));
            return behind;
        };
        for (key, wanted, outcome) in outcomes {
            match outcome {
                Outcome::Fine => {
                    self.held.remove(&key);
                    if self.feed.lane() == Lane::InSync && wanted.partition.is_behind() {
                        behind.push(key);
                    }
                }
                Outcome::Later(why) => self.hold(key, why),
                Outcome::Broken => {
                    self.node.partitions.reopen(&wanted.partition);
                    self.hold(key, "its log is to be recovered");
                }
                Outcome::OutOfRange => match self.repair(&wanted).await {
                    Ok(()) => {}
                    Err(error) => {
                        tracing::warn!(partition = %wanted.partition.name(), %error, "leader does not say where its log lies");
                        self.hold(key, "its log is elsewhere than the leader's");
                    }
                },
            }
        }
        behind
    }

    fn hold(&mut self, key: Key, why: &'static str) {
        let failures = self.held.get(&key).map_or(0, |held| held.failures).saturating_add(1);
        if failures == 8 {
            tracing::warn!(leader = %self.feed.leader(), topic_id = %key.0, partition = key.1, why,
                "partition cannot be followed; it is tried again and again");
        }
        let until = Instant::now() + pause(failures, self.node.settings.replication.backoff);
        self.held.insert(key, Held { until, failures });
    }

    /// Asks where the leader's log lies, and gets the own one in line.
    async fn repair(&mut self, wanted: &Wanted) -> Result<(), PeerError> {
        let partition = &wanted.partition;
        let start = self.list(partition.name(), wanted.epoch, EARLIEST).await?;
        let end = self.list(partition.name(), wanted.epoch, LATEST).await?;
        let (Some(start), Some(end)) = (start, end) else {
            self.hold(
                (partition.topic_id, partition.name().partition.0),
                "the leader does not say where its log lies",
            );
            return Ok(());
        };
        let (partition, epoch) = (partition.clone(), wanted.epoch);
        let work = aqueduct_quorum::blocking::spawn(move || {
            if let Followed::Failed(error) = partition.repair(epoch, start, end) {
                tracing::error!(partition = %partition.name(), %error, "log cannot be brought in line with the leader's");
            }
        });
        let _ = work.await;
        Ok(())
    }

    async fn list(
        &mut self,
        partition: &aqueduct_storage::TopicPartition,
        epoch: LeaderEpoch,
        timestamp: i64,
    ) -> Result<Option<Offset>, PeerError> {
        let link = self.connection().await?;
        let asked = ListOffsetsPartition {
            partition_index: partition.partition.0,
            current_leader_epoch: epoch.0,
            timestamp,
        };
        let topics = vec![ListOffsetsTopic { name: own(&partition.topic), partitions: vec![asked] }];
        let replica_id = self.node.settings.node_id.0;
        let request = move |_| ListOffsetsRequest { replica_id, topics, ..Default::default() };
        let limit = self.node.settings.replication.socket_timeout;
        let response = link.call::<ListOffsetsRequest>(LIST_MOST, request, limit).await?;
        let found = response.topics.first().and_then(|topic| topic.partitions.first());
        Ok(found.filter(|found| found.error_code == 0).map(|found| Offset(found.offset)))
    }
}

/// Resolves when more is wanted than what is asked for.
async fn overtaken(feed: &Feed, asked: &HashMap<Key, Wanted>, gather: Duration) {
    loop {
        feed.news.notified().await;
        tokio::time::sleep(gather).await;
        if feed.wants_more_than(asked) {
            return;
        }
    }
}

fn pause(failures: u32, most: Duration) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(most)
}

/// Does what the leader's answer says with one partition. Blocks.
fn apply(wanted: &Wanted, position: &Position, data: PartitionData) -> Outcome {
    let (partition, epoch) = (&wanted.partition, wanted.epoch);
    match ErrorCode::from_code(data.error_code) {
        ErrorCode::None => {}
        ErrorCode::OffsetOutOfRange => return Outcome::OutOfRange,
        code => return Outcome::Later(code.name()),
    }
    let diverging = data.diverging_epoch;
    let followed = if diverging.epoch >= 0 || diverging.end_offset >= 0 {
        let at = (LeaderEpoch(diverging.epoch), Offset(diverging.end_offset));
        partition.truncate_diverged(epoch, position, at)
    } else {
        let fetched = Fetched {
            records: data.records.unwrap_or_default(),
            high_watermark: Offset(data.high_watermark),
            log_start: Offset(data.log_start_offset),
        };
        partition.append_fetched(epoch, position, &fetched)
    };
    match followed {
        Followed::Done | Followed::Void => Outcome::Fine,
        Followed::Failed(Error::Closed { .. }) => Outcome::Broken,
        Followed::Failed(error) => {
            tracing::error!(partition = %partition.name(), %error, "log cannot follow its leader");
            Outcome::Later("its log cannot be written to")
        }
    }
}
