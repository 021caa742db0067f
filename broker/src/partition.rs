//! One partition as this node serves it: its log, and who waits for records in it.

use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Release,
};
use std::time::Duration;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{LeaderEpoch, Offset, Uuid};
use aqueduct_storage::{AbortedTransaction, AppendInfo, Error, Log, Slice, Terms, TopicPartition};
use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use crate::clock::Clock;
use crate::fetch::waiters::{Seat, Waiter, Waiters};
use crate::metrics::{self, Traffic};
use crate::partitions::Health;
use crate::recompress::Target;
use crate::replication::{Around, Isolation, Reign, Role, Sides, UnknownEpoch};
use crate::state_log::StateLog;

/// For how long a coordinator waits until its records are committed (`offsets.commit.timeout.ms`).
const COORDINATOR_PATIENCE: Duration = Duration::from_secs(5);

/// A partition whose log is open. Shared in an `Arc`; appends come in connection order and run one at a time.
#[derive(Debug)]
pub(crate) struct Partition {
    pub topic_id: Uuid,
    name: TopicPartition,
    place: ArcSwap<Place>,
    compression: RwLock<Option<Target>>,
    /// What this node is to it; changed in `replication`.
    pub(crate) role: ArcSwap<Role>,
    /// Leader epoch and partition epoch of the image that the role is from. Held while the role changes.
    pub(crate) assumed: Mutex<(LeaderEpoch, i32)>,
    pub(crate) stints: AtomicU64,
    pub(crate) around: Arc<Around>,
    /// `min.insync.replicas`.
    pub(crate) min_isr: AtomicUsize,
    pub(crate) throttled: RwLock<Sides>,
    /// Where the log was cut since the cleaner asked last.
    pub(crate) truncated: AtomicI64,
    waiters: Waiters,
    /// Followers, who read up to the end of the log.
    tail_waiters: Waiters,
    /// What went in and out since it was opened.
    pub traffic: Traffic,
    deleted: AtomicBool,
    /// Its directory failed, or a write did so that the log has to be recovered.
    offline: AtomicBool,
    clock: Clock,
}

/// Where the log of a partition is.
#[derive(Debug)]
pub(crate) struct Place {
    pub log: Arc<Log>,
    /// Index of its directory among `log.dirs`.
    pub directory: usize,
    pub health: Arc<Health>,
}

impl Place {
    fn judge(&self, error: &Error) {
        let probe = || match self.log.dir().parent() {
            Some(parent) => match std::fs::read_dir(parent) {
                Ok(_) => Ok(()),
                Err(source) => Err(Error::Io { action: "list", path: parent.to_owned(), source }),
            },
            None => Ok(()),
        };
        self.health.judge(error, probe);
    }
}

impl Partition {
    /// Without a role yet; what is known to be committed is the high watermark of the log.
    pub fn new(
        topic_id: Uuid,
        log: Log,
        directory: usize,
        health: Arc<Health>,
        clock: Clock,
        around: Arc<Around>,
    ) -> Self {
        Self {
            topic_id,
            role: ArcSwap::from_pointee(Role::Idle(LeaderEpoch(-1))),
            assumed: Mutex::new((LeaderEpoch(-1), -1)),
            stints: AtomicU64::new(0),
            around,
            min_isr: AtomicUsize::new(1),
            throttled: RwLock::default(),
            truncated: AtomicI64::new(i64::MAX),
            tail_waiters: Waiters::default(),
            name: log.partition().clone(),
            place: ArcSwap::from_pointee(Place { log: Arc::new(log), directory, health }),
            compression: RwLock::default(),
            waiters: Waiters::default(),
            traffic: Traffic::default(),
            deleted: AtomicBool::new(false),
            offline: AtomicBool::new(false),
            clock,
        }
    }

    /// The codec that the log is kept in, where that is not the producer's choice.
    pub fn compression(&self) -> Option<Target> {
        *self.compression.read()
    }

    /// Changes [`Partition::compression`].
    pub fn set_compression(&self, target: Option<Target>) {
        *self.compression.write() = target;
    }

    /// Changes how many replicas must have a record before acks=all is answered.
    pub fn set_min_isr(&self, replicas: i32) {
        let replicas = usize::try_from(replicas).unwrap_or(1);
        if self.min_isr.swap(replicas, AcqRel) != replicas
            && let Role::Leader(leader) = &**self.role.load()
        {
            // More may be committed by now.
            self.advance(leader);
        }
    }

    /// Where the log was cut since this was called last, if it was.
    pub fn take_truncation(&self) -> Option<Offset> {
        let at = self.truncated.swap(i64::MAX, AcqRel);
        (at != i64::MAX).then_some(Offset(at))
    }

    /// The newest leader epoch that this node has heard of.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.role.load().epoch()
    }

    /// The epoch in which this node leads it, if it does.
    pub fn leads(&self) -> Option<LeaderEpoch> {
        self.role.load().leads()
    }

    /// The epoch in which this node leads it or follows its leader.
    pub fn serves(&self) -> Option<LeaderEpoch> {
        match &**self.role.load() {
            Role::Idle(_) => None,
            role => Some(role.epoch()),
        }
    }

    /// Its name.
    pub fn name(&self) -> &TopicPartition {
        &self.name
    }

    /// Its log. A log that has been moved to another directory is closed; [`Partition::on_log`] follows it.
    pub fn log(&self) -> Arc<Log> {
        self.place.load().log.clone()
    }

    /// Index of its directory among `log.dirs`.
    pub fn directory(&self) -> usize {
        self.place.load().directory
    }

    /// Has the log that was moved used from now on.
    pub fn move_to(&self, place: Place) {
        place.log.fence(self.leader_epoch());
        self.place.store(Arc::new(place));
        self.wake_all();
    }

    /// Has everybody who waits look again.
    pub(crate) fn wake_all(&self) {
        self.waiters.wake();
        self.tail_waiters.wake();
    }

    /// Has consumers look again: more is committed.
    pub(crate) fn wake_readers(&self) {
        self.waiters.wake();
    }

    /// The clock that records get their times from.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Does `work`, which may be done twice, with its log; again where the log is moved to another directory meanwhile.
    pub fn on_log<T>(&self, work: impl FnMut(&Log) -> T) -> T {
        self.at_place(work).1
    }

    fn at_place<T>(&self, mut work: impl FnMut(&Log) -> T) -> (Arc<Place>, T) {
        loop {
            let place = self.place.load_full();
            let done = work(&place.log);
            if Arc::ptr_eq(&place, &self.place.load()) {
                return (place, done);
            }
        }
    }

    /// Appends one batch, moves the high watermark and wakes who waits for it. Blocks on the page cache.
    pub fn append(self: &Arc<Self>, batch: Bytes, terms: impl Into<Terms>) -> Result<AppendInfo, Error> {
        if self.is_deleted() || self.is_offline() {
            return Err(Error::Closed { partition: self.name.clone() });
        }
        let (size, terms) = (batch.len(), terms.into());
        let (role, place, appended) = loop {
            let role = self.role.load();
            let Some(leader_epoch) = role.leads() else {
                let (found, newest) = (LeaderEpoch(-1), role.epoch());
                return Err(Error::FencedLeaderEpoch { partition: self.name.clone(), found, newest });
            };
            let place = self.place.load_full();
            let now_ms = self.clock.now_ms();
            let appended = place.log.append_as_leader(batch.clone(), leader_epoch, terms, now_ms);
            let is_moved = matches!(appended, Err(Error::Closed { .. })) && !self.is_at(&place);
            // In a newer epoch this node may lead still.
            let is_stale = matches!(appended, Err(Error::FencedLeaderEpoch { .. }))
                && self.leads().is_some_and(|epoch| epoch != leader_epoch);
            if !is_moved && !is_stale {
                break (role, place, appended);
            }
        };
        let info = appended.inspect_err(|error| place.judge(error))?;
        place.health.wrote();
        if !info.duplicate {
            let end = info.last_offset.plus(1);
            match &**role {
                Role::Leader(leader) => {
                    self.tail_waiters.appended(size);
                    self.advance(leader);
                }
                _ => {
                    place.log.raise_high_watermark(end);
                    if !self.is_at(&place) {
                        self.log().raise_high_watermark(end);
                    }
                }
            }
            if terms.is_marker {
                // More may have become readable than was appended.
                self.waiters.wake();
            } else {
                self.waiters.appended(size);
            }
        }
        if info.rolled {
            self.flush_closed();
        }
        Ok(info)
    }

    /// Makes segments durable, in the background, that are not written to any more.
    pub(crate) fn flush_closed(self: &Arc<Self>) {
        let partition = self.clone();
        aqueduct_quorum::blocking::spawn(move || {
            let (place, flushed) = metrics::flushed(|| partition.at_place(Log::flush_closed_segments));
            if let Err(error) = flushed {
                place.judge(&error);
                tracing::warn!(partition = %partition.name, %error, "closed segment is not flushed");
            }
        });
    }

    fn is_at(&self, place: &Arc<Place>) -> bool {
        Arc::ptr_eq(place, &self.place.load())
    }

    /// The offset up to which may be read.
    pub fn readable_end(&self, isolation: Isolation) -> Offset {
        let log = self.log();
        match isolation {
            Isolation::Committed => log.last_stable_offset(),
            Isolation::Uncommitted => log.high_watermark(),
            Isolation::LogEnd => log.log_end_offset(),
        }
    }

    /// The largest epoch that is not above `epoch`, and where it ends; `None` for an epoch that is not known here, be it
    /// older than the log or still to come.
    pub fn epoch_end(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        // The current reign goes on, even if nothing was written in it yet.
        Reign { log: &*self.log(), epoch: self.leader_epoch() }.epoch_end(epoch)
    }

    /// Where a reader's history parts from the log's that is at `offset`, behind a record of `epoch`; `None` where it does
    /// not.
    ///
    /// # Errors
    /// The epoch is not known here.
    pub fn divergence(
        &self,
        epoch: LeaderEpoch,
        offset: Offset,
    ) -> Result<Option<(LeaderEpoch, Offset)>, UnknownEpoch> {
        Reign { log: &*self.log(), epoch: self.leader_epoch() }.divergence(epoch, offset)
    }

    /// Finds records for a consumer; see [`Log::read`].
    pub fn read(
        &self,
        offset: Offset,
        max_bytes: usize,
        end: Offset,
        at_least_one: bool,
    ) -> Result<Slice, Error> {
        if self.is_offline() {
            return Err(Error::Closed { partition: self.name.clone() });
        }
        let (place, read) = self.at_place(|log| log.read(offset, max_bytes, end, at_least_one));
        read.inspect_err(|error| place.judge(error))
    }

    /// The same, with the transactions in them that were aborted; see [`Log::read_with_aborted`].
    pub fn read_with_aborted(
        &self,
        offset: Offset,
        max_bytes: usize,
        end: Offset,
        at_least_one: bool,
    ) -> Result<(Slice, Vec<AbortedTransaction>), Error> {
        if self.is_offline() {
            return Err(Error::Closed { partition: self.name.clone() });
        }
        let (place, read) = self.at_place(|log| log.read_with_aborted(offset, max_bytes, end, at_least_one));
        read.inspect_err(|error| place.judge(error))
    }

    /// Has `waiter` woken by appends. The caller looks at the end once more afterwards.
    pub fn wait(&self, isolation: Isolation, waiter: &Arc<Waiter>) -> Seat {
        self.waiters_of(isolation).add(waiter)
    }

    /// Ends [`Partition::wait`].
    pub fn stop_waiting(&self, isolation: Isolation, seat: Seat) {
        self.waiters_of(isolation).remove(seat);
    }

    fn waiters_of(&self, isolation: Isolation) -> &Waiters {
        match isolation {
            Isolation::LogEnd => &self.tail_waiters,
            Isolation::Committed | Isolation::Uncommitted => &self.waiters,
        }
    }

    /// Whether it cannot be served: its directory failed, or its log is to be opened anew.
    pub fn is_offline(&self) -> bool {
        self.offline.load(Acquire) || self.place.load().health.is_failed()
    }

    /// Takes it out of service for [`Partition::is_offline`]; waiting fetches look again.
    pub fn go_offline(&self) {
        self.offline.store(true, Release);
        self.log().abandon();
        self.end_waits();
    }

    /// Draws the consequences of a failure of its log: for the directory, where the disk is to blame.
    pub fn judge(&self, error: &Error) {
        self.place.load().judge(error);
    }

    /// Whether its topic has been deleted.
    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Acquire)
    }

    /// Takes it out of service: appends fail, waiting fetches look again.
    pub fn delete(&self) {
        self.deleted.store(true, Release);
        // From here on its directory may be another's, and a cleaning must not touch it.
        self.log().abandon();
        self.end_waits();
    }

    fn end_waits(&self) {
        self.wake_all();
        if let Role::Leader(leader) = &**self.role.load() {
            leader.tell();
        }
    }

    /// The wire code of a failure, which for a deleted partition is not that of its closed log.
    pub fn code(&self, error: &Error) -> ErrorCode {
        if self.is_deleted() {
            ErrorCode::UnknownTopicOrPartition
        } else {
            self.judge(error);
            ErrorCode::from_code(error.code())
        }
    }
}

#[async_trait]
impl StateLog for Arc<Partition> {
    async fn append(&self, batch: Bytes, terms: Terms) -> Result<Offset, ErrorCode> {
        let (stint, deadline) = (self.stint(), Instant::now() + COORDINATOR_PATIENCE);
        if !self.has_enough_in_sync() {
            return Err(ErrorCode::NotEnoughReplicas);
        }
        match Partition::append(self, batch, terms) {
            Ok(info) => {
                self.committed(stint, info.last_offset.plus(1), deadline).await?;
                Ok(info.first_offset)
            }
            Err(error @ (Error::InvalidTxnState { .. } | Error::InvalidProducerEpoch { .. })) => {
                Err(self.code(&error))
            }
            Err(error) => {
                tracing::warn!(partition = %self.name, %error, "coordinator state is not written");
                Err(self.code(&error))
            }
        }
    }

    async fn read(&self, from: Offset, max_bytes: usize) -> Result<Bytes, ErrorCode> {
        let partition = self.clone();
        let read = move || {
            let read = partition.on_log(|log| {
                let from = from.max(log.log_start_offset());
                log.read(from, max_bytes, log.log_end_offset(), true)
            });
            let slice = read.map_err(|error| partition.code(&error))?;
            slice.read_to_bytes().map_err(|error| {
                tracing::warn!(partition = %partition.name, %error, "coordinator state is not readable");
                ErrorCode::KafkaStorageError
            })
        };
        aqueduct_quorum::blocking::spawn(read).await.unwrap_or(Err(ErrorCode::CoordinatorNotAvailable))
    }

    fn start_offset(&self) -> Offset {
        self.log().log_start_offset()
    }

    fn end_offset(&self) -> Offset {
        self.log().log_end_offset()
    }
}
