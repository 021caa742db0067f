//! A partition as a follower: it appends what its leader has, and cuts off what its leader has not.

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};

use aqueduct_protocol::ids::{LeaderEpoch, Offset};
use aqueduct_protocol::records::BatchHeader;
use aqueduct_storage::{Error, Log};
use bytes::Bytes;

use super::history::{Repair, cut, repair};
use super::role::Role;
use crate::fetch::session::Position;
use crate::partition::Partition;

/// What a leader answered for one partition.
#[derive(Debug)]
pub(super) struct Fetched {
    pub records: Bytes,
    pub high_watermark: Offset,
    /// Where the leader's log begins.
    pub log_start: Offset,
}

/// What became of an answer.
#[derive(Debug)]
pub(super) enum Followed {
    Done,
    /// The node follows this leader in this epoch no more, or the log has changed since: the answer is void.
    Void,
    Failed(Error),
}

impl From<Result<Worked, Error>> for Followed {
    fn from(done: Result<Worked, Error>) -> Self {
        match done {
            Ok(Worked::Done) => Self::Done,
            Ok(Worked::Stale) | Err(Error::FencedLeaderEpoch { .. }) => Self::Void,
            Err(error) => Self::Failed(error),
        }
    }
}

/// What became of work on a log.
enum Worked {
    Done,
    /// The log is not any more as it was when the leader was asked.
    Stale,
}

/// Whether a log is still as it was when the leader was asked. Its end alone does not tell: it may have been cut, and have
/// grown to the same length with other records.
fn is_as_asked(log: &Log, asked: &Position) -> bool {
    log.log_end_offset().0 == asked.fetch_offset && last_epoch(log) == asked.last_fetched_epoch
}

fn last_epoch(log: &Log) -> i32 {
    log.latest_epoch().map_or(-1, |epoch| epoch.0)
}

impl Partition {
    /// From where a follower in `epoch` goes on; `None` where this node is none.
    pub(super) fn fetch_position(&self, epoch: LeaderEpoch, max_bytes: i32) -> Option<Position> {
        let role = self.role.load();
        let Role::Follower(follower) = &**role else { return None };
        if follower.epoch != epoch || self.is_deleted() || self.is_offline() || self.is_held_back() {
            return None;
        }
        Some(self.on_log(|log| Position {
            current_leader_epoch: epoch.0,
            fetch_offset: log.log_end_offset().0,
            last_fetched_epoch: last_epoch(log),
            log_start_offset: log.log_start_offset().0,
            high_watermark: log.high_watermark().0,
            max_bytes,
        }))
    }

    /// Does `work` on the log while this node follows in `epoch`; again where the log is moved to another directory.
    fn as_follower(
        self: &Arc<Self>,
        epoch: LeaderEpoch,
        mut work: impl FnMut(&Log) -> Result<Worked, Error>,
    ) -> Followed {
        let role = self.role.load_full();
        let Role::Follower(follower) = &*role else { return Followed::Void };
        let over = follower.over.lock();
        if *over || follower.epoch != epoch || self.is_deleted() || self.is_offline() {
            return Followed::Void;
        }
        loop {
            let log = self.log();
            let done = work(&log);
            if matches!(done, Err(Error::Closed { .. })) && !Arc::ptr_eq(&log, &self.log()) {
                continue;
            }
            if let Err(error) = &done {
                self.judge(error);
            }
            return done.into();
        }
    }

    /// Appends what the leader sent. Blocks.
    pub(super) fn append_fetched(
        self: &Arc<Self>,
        epoch: LeaderEpoch,
        asked: &Position,
        fetched: &Fetched,
    ) -> Followed {
        let now_ms = self.clock().now_ms();
        let mut rolled = false;
        let followed = self.as_follower(epoch, |log| {
            if !is_as_asked(log, asked) {
                return Ok(Worked::Stale);
            }
            let (segments, before) = (log.segments(), log.high_watermark());
            if !fetched.records.is_empty() {
                let is_throttled = self.throttled.read().as_follower;
                if is_throttled {
                    self.around.fetched.record(self.around.now_ms(), fetched.records.len());
                }
                append(log, &fetched.records, epoch, now_ms)?;
                if is_throttled && !self.is_in_sync() {
                    log.leave_cache();
                }
                self.around.bytes_in.fetch_add(fetched.records.len() as u64, Relaxed);
            }
            if let Role::Follower(follower) = &**self.role.load() {
                let lag = fetched.high_watermark.0 - log.log_end_offset().0;
                follower.lag.store(lag.max(0), Relaxed);
            }
            rolled = log.segments() > segments;
            let mark = log.raise_high_watermark(fetched.high_watermark);
            let start = fetched.log_start.min(mark);
            if start > log.log_start_offset() {
                log.delete_records_before(start)?;
            }
            if mark > before {
                self.wake_readers();
            }
            Ok(Worked::Done)
        });
        if rolled {
            self.flush_closed();
        }
        followed
    }

    /// Cuts the log where the leader says that the histories part. Blocks.
    pub(super) fn truncate_diverged(
        self: &Arc<Self>,
        epoch: LeaderEpoch,
        asked: &Position,
        at: (LeaderEpoch, Offset),
    ) -> Followed {
        self.as_follower(epoch, |log| {
            if !is_as_asked(log, asked) {
                return Ok(Worked::Stale);
            }
            self.truncate(log, cut(log, at))
        })
    }

    /// Gets a log in line whose end is not in the leader's. Blocks.
    pub(super) fn repair(
        self: &Arc<Self>,
        epoch: LeaderEpoch,
        leader_start: Offset,
        leader_end: Offset,
    ) -> Followed {
        self.as_follower(epoch, |log| match repair(log.log_end_offset(), leader_start, leader_end) {
            Repair::TruncateTo(offset) => self.truncate(log, offset),
            Repair::StartAt(offset) => {
                tracing::info!(partition = %self.name(), %offset, "log begins anew where the leader's does");
                self.note_truncation(Offset(0));
                log.truncate_fully_and_start_at(offset, self.clock().now_ms())?;
                Ok(Worked::Done)
            }
            Repair::FetchAgain => Ok(Worked::Done),
        })
    }

    fn truncate(&self, log: &Log, to: Offset) -> Result<Worked, Error> {
        let (end, mark) = (log.log_end_offset(), log.high_watermark());
        if to < mark {
            tracing::warn!(partition = %self.name(), %to, %end, high_watermark = %mark,
                "log is cut below the high watermark: its leader does not have what was committed");
        } else if to < end {
            tracing::info!(partition = %self.name(), %to, %end, "log is cut where the leader's history is another");
        }
        self.note_truncation(to);
        log.truncate_to(to, self.clock().now_ms())?;
        Ok(Worked::Done)
    }

    fn note_truncation(&self, to: Offset) {
        self.truncated.fetch_min(to.0, AcqRel);
    }
}

/// Appends as the leader wrote it. An empty log that begins in the midst of a batch, where records were deleted, takes the
/// whole batch.
fn append(log: &Log, records: &Bytes, epoch: LeaderEpoch, now_ms: i64) -> Result<(), Error> {
    match log.append_as_follower(records.clone(), epoch, now_ms) {
        Err(Error::UnexpectedAppendOffset { found, expected, .. })
            if found < expected
                && log.log_start_offset() == log.log_end_offset()
                && BatchHeader::parse(records).is_ok_and(|first| first.next_offset() > expected) =>
        {
            log.truncate_fully_and_start_at(found, now_ms)?;
            log.append_as_follower(records.clone(), epoch, now_ms).map(drop)
        }
        done => done.map(drop),
    }
}
