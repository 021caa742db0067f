//! Reading for one Fetch request: partition by partition, within its limits.

use std::sync::Arc;
use std::time::Duration;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::fetch_plan::{FetchPartition, Records};
use aqueduct_protocol::ids::{BrokerId, LeaderEpoch, Offset};
use aqueduct_protocol::messages::fetch_response::{AbortedTransaction, EpochEndOffset, LeaderIdAndEpoch};
use aqueduct_storage::{Error, Slice, if_cached};
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;

use super::session::{PartitionKey, Position, Told};
use super::waiters::{Seat, Waiter};
use crate::metadata::BrokerEpoch;
use crate::partition::Partition;
use crate::replication::{Acknowledged, Isolation, UnknownEpoch};

/// Up to this many bytes are copied into the response: one small write is cheaper than three calls around a `sendfile`.
const COPY_AT_MOST: usize = 16 << 10;

/// A partition to read, as far as it could be found.
pub(crate) struct Target {
    pub key: PartitionKey,
    /// The topic's name, where it is known.
    pub name: Option<ByteString>,
    pub position: Position,
    pub partition: Result<Arc<Partition>, ErrorCode>,
    /// Who leads, to be told to who asks the wrong broker.
    pub leader: Option<(BrokerId, LeaderEpoch)>,
}

/// A follower that fetches, and its registration.
pub(crate) type Replica = (BrokerId, BrokerEpoch);

/// What reading a partition brought.
#[derive(Debug)]
pub(crate) struct Outcome {
    error: ErrorCode,
    /// The topic was deleted under the fetch.
    is_gone: bool,
    high_watermark: i64,
    last_stable_offset: i64,
    log_start: i64,
    diverging: Option<(LeaderEpoch, Offset)>,
    /// The role in which it was read.
    role_epoch: Option<LeaderEpoch>,
    /// Who the consumer is to read from instead.
    preferred: Option<BrokerId>,
    /// More is committed than the follower knows.
    is_news: bool,
    committed_only: bool,
    /// The end that was in force when it was read.
    end: Offset,
    /// For how long a follower gets nothing, as it would copy too fast.
    held_back: Option<Duration>,
    slice: Option<Slice>,
    /// Aborted transactions that the records may belong to.
    aborted: Vec<AbortedTransaction>,
}

/// Reads the partitions of one request, again and again while it waits.
pub(crate) struct Reader {
    pub targets: Vec<Target>,
    pub max_bytes: usize,
    pub isolation: Isolation,
    pub version: i16,
    /// The follower whose fetch is still to be taken note of.
    pub replica: Option<Replica>,
    /// The follower that reads.
    pub follower: Option<BrokerId>,
    /// The rack of a consumer that would rather read from a replica there.
    pub rack: Option<ByteString>,
    /// Whether followers may be read from, too.
    pub from_followers: bool,
}

impl Reader {
    /// Reads all partitions in order; returns the outcomes and the bytes of records in them. `None` where that would take
    /// waiting for the disk.
    pub fn read_cached(&self) -> Option<(Vec<Outcome>, usize)> {
        if_cached(|| self.read_all())
    }

    /// The same, for a thread that may wait.
    pub fn read_waiting(&self) -> (Vec<Outcome>, usize) {
        self.read_all().unwrap_or_default()
    }

    fn read_all(&self) -> Option<(Vec<Outcome>, usize)> {
        let mut bytes = 0;
        let mut outcomes = Vec::with_capacity(self.targets.len());
        for target in &self.targets {
            let outcome = match &target.partition {
                Ok(partition) => self.read_one(partition, &target.position, bytes)?,
                Err(code) => Outcome::failed(*code),
            };
            bytes += outcome.length();
            outcomes.push(outcome);
        }
        Some((outcomes, bytes))
    }

    /// Has the leaders take note of what a follower has; once, or who only waits would seem to be up to date. Done before
    /// records are read, so that the answer tells of what the fetch itself brought about.
    pub fn acknowledge(&mut self) {
        let Some((follower, epoch)) = self.replica.take() else { return };
        for target in &mut self.targets {
            let Ok(partition) = &target.partition else { continue };
            let position = &target.position;
            if check_epoch(partition.leads(), position.current_leader_epoch).is_err() {
                continue;
            }
            if !partition.has_follower(follower) {
                target.partition = Err(match position.current_leader_epoch {
                    ..0 => ErrorCode::NotLeaderOrFollower,
                    // This node may not have heard of it yet.
                    _ => ErrorCode::UnknownLeaderEpoch,
                });
                continue;
            }
            let (end, start) = (Offset(position.fetch_offset), Offset(position.log_start_offset));
            let is_in_line = matches!(diverging(partition, position), Ok(None))
                && partition.on_log(|log| (log.log_start_offset()..=log.log_end_offset()).contains(&end));
            if is_in_line
                && let Err(code) = partition.acknowledged(&Acknowledged { follower, epoch, end, start })
            {
                target.partition = Err(code);
            }
        }
    }

    /// Registers a waiter with all partitions until the guard is dropped.
    pub fn wait(&self, waiter: &Arc<Waiter>) -> Waiting<'_> {
        let isolation = self.isolation;
        let seats = self.partitions().map(|partition| (partition, partition.wait(isolation, waiter)));
        Waiting { isolation, seats: seats.collect() }
    }

    /// Whether no partition has got more to read since the outcomes were read.
    pub fn is_current(&self, outcomes: &[Outcome]) -> bool {
        self.targets.iter().zip(outcomes).all(|(target, outcome)| match &target.partition {
            Ok(partition) => {
                !partition.is_deleted()
                    && !partition.is_offline()
                    && self.role_epoch(partition) == outcome.role_epoch
                    && partition.readable_end(self.isolation) == outcome.end
                    && (self.isolation != Isolation::LogEnd
                        || partition.log().high_watermark().0 <= outcome.high_watermark)
            }
            Err(_) => true,
        })
    }

    /// The epoch in which a partition may be read here.
    fn role_epoch(&self, partition: &Partition) -> Option<LeaderEpoch> {
        match self.from_followers {
            true => partition.serves(),
            false => partition.leads(),
        }
    }

    fn partitions(&self) -> impl Iterator<Item = &Arc<Partition>> {
        self.targets.iter().filter_map(|target| target.partition.as_ref().ok())
    }

    fn read_one(&self, partition: &Partition, position: &Position, bytes_so_far: usize) -> Option<Outcome> {
        if partition.is_deleted() {
            let code = match self.version {
                13.. => ErrorCode::UnknownTopicId,
                _ => ErrorCode::UnknownTopicOrPartition,
            };
            return Some(Outcome { is_gone: true, ..Outcome::failed(code) });
        }
        if let Err(code) = check_epoch(self.role_epoch(partition), position.current_leader_epoch) {
            return Some(Outcome::failed(code));
        }
        let log = partition.log();
        let committed_only = self.isolation == Isolation::Committed;
        let end = partition.readable_end(self.isolation);
        let mut outcome = Outcome {
            error: ErrorCode::None,
            is_gone: false,
            high_watermark: log.high_watermark().0,
            last_stable_offset: log.last_stable_offset().0,
            log_start: log.log_start_offset().0,
            diverging: None,
            role_epoch: self.role_epoch(partition),
            preferred: None,
            is_news: self.isolation == Isolation::LogEnd && position.high_watermark < log.high_watermark().0,
            committed_only,
            end,
            held_back: None,
            slice: None,
            aborted: Vec::new(),
        };
        match diverging(partition, position) {
            Ok(None) => {}
            Ok(found) => return Some(Outcome { diverging: found, ..outcome }),
            Err(UnknownEpoch) => return Some(Outcome::failed(ErrorCode::OffsetOutOfRange)),
        }
        let rack = self.rack.as_deref();
        outcome.preferred =
            rack.and_then(|rack| partition.preferred_replica(rack, Offset(position.fetch_offset)));
        if outcome.preferred.is_some() {
            return Some(outcome);
        }
        let is_throttled = self.follower.is_some_and(|follower| partition.is_throttled_for(follower));
        outcome.held_back = is_throttled.then(|| partition.throttled_for()).flatten();
        if outcome.held_back.is_some() {
            return Some(outcome);
        }
        let left = self.max_bytes.saturating_sub(bytes_so_far);
        let limit = usize::try_from(position.max_bytes).unwrap_or(0).min(left);
        let (offset, at_least_one) = (Offset(position.fetch_offset), bytes_so_far == 0);
        let read = match committed_only {
            true => partition.read_with_aborted(offset, limit, end, at_least_one),
            false => partition.read(offset, limit, end, at_least_one).map(|slice| (slice, Vec::new())),
        };
        match read {
            Ok((mut slice, aborted)) => {
                slice.read_once = is_throttled;
                outcome.aborted = aborted.iter().map(wire).collect();
                outcome.slice = (!slice.is_empty()).then_some(slice);
                Some(outcome)
            }
            Err(error) if error.is_cold() => None,
            Err(error) => {
                if !matches!(error, Error::OffsetOutOfRange { .. } | Error::Closed { .. }) {
                    tracing::error!(partition = %log.partition(), %error, "log cannot be read");
                }
                Some(Outcome::failed(partition.code(&error)))
            }
        }
    }
}

fn wire(aborted: &aqueduct_storage::AbortedTransaction) -> AbortedTransaction {
    AbortedTransaction { producer_id: aborted.producer_id.0, first_offset: aborted.first_offset.0 }
}

/// Compares the leader epoch that a reader believes in with that in which a partition is read here; a negative one is not compared.
fn check_epoch(epoch: Option<LeaderEpoch>, believed: i32) -> Result<(), ErrorCode> {
    let Some(epoch) = epoch else { return Err(ErrorCode::NotLeaderOrFollower) };
    match believed {
        ..0 => Ok(()),
        _ if believed < epoch.0 => Err(ErrorCode::FencedLeaderEpoch),
        _ if believed > epoch.0 => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}

/// Where the reader's history parts from the log's, if it says enough for that.
fn diverging(
    partition: &Partition,
    position: &Position,
) -> Result<Option<(LeaderEpoch, Offset)>, UnknownEpoch> {
    if position.last_fetched_epoch < 0 {
        return Ok(None);
    }
    partition.divergence(LeaderEpoch(position.last_fetched_epoch), Offset(position.fetch_offset))
}

/// Takes a waiter out of its partitions when dropped.
pub(crate) struct Waiting<'a> {
    isolation: Isolation,
    seats: Vec<(&'a Arc<Partition>, Seat)>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Self { isolation, seats } = self;
        seats.iter().for_each(|(partition, seat)| partition.stop_waiting(*isolation, *seat));
    }
}

impl Outcome {
    fn failed(error: ErrorCode) -> Self {
        Self {
            error,
            is_gone: false,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start: -1,
            diverging: None,
            role_epoch: None,
            preferred: None,
            is_news: false,
            committed_only: false,
            end: Offset(-1),
            held_back: None,
            slice: None,
            aborted: Vec::new(),
        }
    }

    /// Bytes of records.
    pub fn length(&self) -> usize {
        self.slice.as_ref().map_or(0, |slice| slice.len)
    }

    /// Whether reading failed.
    pub fn is_error(&self) -> bool {
        self.error != ErrorCode::None
    }

    /// Whether the client must hear of it at once. A partition that is not there next to one that is does not count.
    pub fn ends_the_wait(&self) -> bool {
        (self.is_error() && !self.is_unknown()) || self.is_gone || self.is_redirected()
    }

    /// Whether more is committed than the follower that reads knows.
    pub fn is_news(&self) -> bool {
        self.is_news
    }

    /// For how long there is nothing because of a throttle.
    pub fn held_back(&self) -> Option<Duration> {
        self.held_back
    }

    fn is_redirected(&self) -> bool {
        self.diverging.is_some() || self.preferred.is_some()
    }

    fn is_unknown(&self) -> bool {
        matches!(self.error, ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId)
    }

    /// Whether the client is to look for another leader.
    pub fn is_elsewhere(&self) -> bool {
        matches!(self.error, ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch)
    }

    /// What a session remembers of it.
    pub fn told(&self) -> Told {
        Told {
            error: self.is_error(),
            has_records: self.slice.is_some(),
            redirected: self.is_redirected(),
            high_watermark: self.high_watermark,
            log_start: self.log_start,
        }
    }

    /// As it goes on the wire.
    pub fn into_response(self, index: i32, leader: Option<(BrokerId, LeaderEpoch)>) -> FetchPartition<Slice> {
        let leader = leader.filter(|_| self.is_elsewhere());
        let mut response = FetchPartition {
            partition_index: index,
            error_code: self.error.code(),
            high_watermark: self.high_watermark,
            last_stable_offset: self.last_stable_offset,
            log_start_offset: self.log_start,
            preferred_read_replica: self.preferred.map_or(-1, |id| id.0),
            // Where nothing is known of the partition, Kafka's answer is empty rather than null.
            aborted_transactions: (self.committed_only || self.is_unknown()).then_some(self.aborted),
            ..Default::default()
        };
        if let Some((leader, epoch)) = leader {
            response.current_leader = LeaderIdAndEpoch { leader_id: leader.0, leader_epoch: epoch.0 };
        }
        if let Some((epoch, end)) = self.diverging {
            response.diverging_epoch = EpochEndOffset { epoch: epoch.0, end_offset: end.0 };
        }
        if let Some(slice) = self.slice {
            response.records = Some(match copied(&slice) {
                Some(bytes) => Records::Inline(bytes),
                None => Records::Files { length: slice.len, slices: vec![slice] },
            });
        }
        response
    }
}

/// The bytes of a small slice, where they can be had without waiting for the disk.
fn copied(slice: &Slice) -> Option<Bytes> {
    if slice.len > COPY_AT_MOST {
        return None;
    }
    let mut bytes = BytesMut::zeroed(slice.len);
    let read = slice.read_nowait(0, &mut bytes).ok().flatten()?;
    (read == slice.len).then(|| bytes.freeze())
}
