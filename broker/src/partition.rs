//! One partition as this node serves it: its log, and who waits for records in it.

use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Release};

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{LeaderEpoch, Offset, Uuid};
use aqueduct_storage::{AbortedTransaction, AppendInfo, Error, Log, Slice, Terms};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::RwLock;

use crate::clock::Clock;
use crate::fetch::waiters::{Seat, Waiter, Waiters};
use crate::metrics::{self, Traffic};
use crate::partitions::Health;
use crate::recompress::Target;
use crate::state_log::StateLog;

/// A partition whose log is open. Shared in an `Arc`; appends come in connection order and run one at a time.
#[derive(Debug)]
pub(crate) struct Partition {
    pub topic_id: Uuid,
    /// The reign in which this node leads it.
    pub leader_epoch: LeaderEpoch,
    pub log: Log,
    /// Index of its directory among `log.dirs`.
    pub directory: usize,
    health: Arc<Health>,
    compression: RwLock<Option<Target>>,
    waiters: Waiters,
    /// What went in and out since it was opened.
    pub traffic: Traffic,
    deleted: AtomicBool,
    /// Its directory failed, or a write did so that the log has to be recovered.
    offline: AtomicBool,
    clock: Clock,
}

impl Partition {
    pub fn new(
        topic_id: Uuid,
        leader_epoch: LeaderEpoch,
        log: Log,
        directory: usize,
        health: Arc<Health>,
        clock: Clock,
    ) -> Self {
        // The one replica is the whole in-sync set, so all that is in the log is committed.
        log.set_high_watermark(log.log_end_offset());
        Self {
            topic_id,
            leader_epoch,
            log,
            directory,
            health,
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

    /// Appends one batch, moves the high watermark and wakes who waits for it. Blocks on the page cache.
    pub fn append(self: &Arc<Self>, batch: Bytes, terms: impl Into<Terms>) -> Result<AppendInfo, Error> {
        if self.is_deleted() || self.is_offline() {
            return Err(Error::Closed { partition: self.log.partition().clone() });
        }
        let (size, terms) = (batch.len(), terms.into());
        let appended = self.log.append_as_leader(batch, self.leader_epoch, terms, self.clock.now_ms());
        let info = appended.inspect_err(|error| self.judge(error))?;
        self.health.wrote();
        if !info.duplicate {
            self.log.set_high_watermark(info.last_offset.plus(1));
            if terms.is_marker {
                // More may have become readable than was appended.
                self.waiters.wake();
            } else {
                self.waiters.appended(size);
            }
        }
        if info.rolled {
            let partition = self.clone();
            tokio::task::spawn_blocking(move || {
                if let Err(error) = metrics::flushed(|| partition.log.flush_closed_segments()) {
                    partition.judge(&error);
                    tracing::warn!(partition = %partition.log.partition(), %error, "closed segment is not flushed");
                }
            });
        }
        Ok(info)
    }

    /// The offset up to which a consumer may read.
    pub fn readable_end(&self, committed_only: bool) -> Offset {
        if committed_only { self.log.last_stable_offset() } else { self.log.high_watermark() }
    }

    /// The largest epoch that is not above `epoch`, and where it ends; `None` for an epoch that is not known here, be it
    /// older than the log or still to come.
    pub fn epoch_end(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        match epoch.cmp(&self.leader_epoch) {
            Ordering::Less => self.log.epoch_end_offset(epoch),
            // The current reign goes on, even if nothing was written in it yet.
            Ordering::Equal => Some((epoch, self.log.log_end_offset())),
            Ordering::Greater => None,
        }
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
            return Err(Error::Closed { partition: self.log.partition().clone() });
        }
        self.log.read(offset, max_bytes, end, at_least_one).inspect_err(|error| self.judge(error))
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
            return Err(Error::Closed { partition: self.log.partition().clone() });
        }
        let read = self.log.read_with_aborted(offset, max_bytes, end, at_least_one);
        read.inspect_err(|error| self.judge(error))
    }

    /// Has `waiter` woken by appends. The caller looks at the end once more afterwards.
    pub fn wait(&self, waiter: &Arc<Waiter>) -> Seat {
        self.waiters.add(waiter)
    }

    /// Ends [`Partition::wait`].
    pub fn stop_waiting(&self, seat: Seat) {
        self.waiters.remove(seat);
    }

    /// Whether it cannot be served: its directory failed, or its log is to be opened anew.
    pub fn is_offline(&self) -> bool {
        self.offline.load(Acquire) || self.health.is_failed()
    }

    /// Takes it out of service for [`Partition::is_offline`]; waiting fetches look again.
    pub fn go_offline(&self) {
        self.offline.store(true, Release);
        self.log.abandon();
        self.waiters.wake();
    }

    /// Draws the consequences of a failure of its log: for the directory, where the disk is to blame.
    pub fn judge(&self, error: &Error) {
        let probe = || match self.log.dir().parent() {
            Some(parent) => match std::fs::read_dir(parent) {
                Ok(_) => Ok(()),
                Err(source) => Err(Error::Io { action: "list", path: parent.to_owned(), source }),
            },
            None => Ok(()),
        };
        self.health.judge(error, probe);
    }

    /// Whether its topic has been deleted.
    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Acquire)
    }

    /// Takes it out of service: appends fail, waiting fetches look again.
    pub fn delete(&self) {
        self.deleted.store(true, Release);
        // From here on its directory may be another's, and a cleaning must not touch it.
        self.log.abandon();
        self.waiters.wake();
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
        match Partition::append(self, batch, terms) {
            Ok(info) => Ok(info.first_offset),
            Err(error @ (Error::InvalidTxnState { .. } | Error::InvalidProducerEpoch { .. })) => {
                Err(self.code(&error))
            }
            Err(error) => {
                tracing::warn!(partition = %self.log.partition(), %error, "coordinator state is not written");
                Err(self.code(&error))
            }
        }
    }

    async fn read(&self, from: Offset, max_bytes: usize) -> Result<Bytes, ErrorCode> {
        let partition = self.clone();
        let read = move || {
            let from = from.max(partition.log.log_start_offset());
            let end = partition.log.log_end_offset();
            let slice =
                partition.log.read(from, max_bytes, end, true).map_err(|error| partition.code(&error))?;
            slice.read_to_bytes().map_err(|error| {
                tracing::warn!(partition = %partition.log.partition(), %error, "coordinator state is not readable");
                ErrorCode::KafkaStorageError
            })
        };
        tokio::task::spawn_blocking(read).await.unwrap_or(Err(ErrorCode::CoordinatorNotAvailable))
    }

    fn start_offset(&self) -> Offset {
        self.log.log_start_offset()
    }

    fn end_offset(&self) -> Offset {
        self.log.log_end_offset()
    }
}
