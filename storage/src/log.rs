//! One partition's log.

mod append;
mod clean;
mod future;
mod open;
mod read;
mod recover;
mod retention;
mod truncate;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use aqueduct_protocol::ids::{LeaderEpoch, Offset, Uuid};
use parking_lot::{Mutex, RwLock};

use crate::epochs::LeaderEpochs;
use crate::producers::Producers;
use crate::segment::Segment;
use crate::{Error, LogConfig, TopicPartition, files, partition_metadata, snapshot};

pub use append::AppendInfo;
pub(crate) use future::rename_to_current;
pub use future::{Copied, FutureLog};
pub use open::Recovery;
pub use read::{Slice, TimestampedOffset};

/// One partition's log in one directory. Share it in an `Arc`.
///
/// One append runs at a time; readers never wait for it, only for the moment in which its result is published. Nothing
/// here reads a clock: callers pass the time, in milliseconds since 1970. Calls touch the disk and may block.
#[derive(Debug)]
pub struct Log {
    partition: TopicPartition,
    dir: PathBuf,
    config: RwLock<Arc<LogConfig>>,
    view: RwLock<View>,
    writer: Mutex<Writer>,
    epochs: RwLock<LeaderEpochs>,
    /// Everything below is on disk for certain.
    recovery_point: AtomicI64,
    doomed: Mutex<Vec<Doomed>>,
    /// Held by the one cleaning that may go on.
    cleaning: Mutex<()>,
    /// Counts what a cleaning that has begun before may not outlive: truncation and the end of the log.
    generation: AtomicU64,
    topic_id: RwLock<Option<Uuid>>,
    /// The directory may be known to the page cache only; the first flush sees to it.
    is_new: AtomicBool,
}

/// What readers see, replaced as a whole.
#[derive(Clone, Debug)]
struct View {
    /// In order, never empty; the last one is appended to.
    segments: Arc<Vec<Arc<Segment>>>,
    start: Offset,
    end: Offset,
    /// Where `end` is in the last segment.
    end_position: u64,
    high_watermark: Offset,
    first_unstable: Option<Offset>,
}

impl View {
    fn active(&self) -> &Arc<Segment> {
        self.segments.last().expect("a log has at least one segment")
    }

    fn last_stable(&self) -> Offset {
        self.first_unstable.map_or(self.high_watermark, |first| first.min(self.high_watermark))
    }

    /// The offset after the last one of segment `index`, and how many of its bytes may be read.
    fn segment_end(&self, index: usize) -> (Offset, u64) {
        match self.segments.get(index + 1) {
            Some(next) => (next.base_offset, self.segments[index].size()),
            None => (self.end, self.end_position),
        }
    }

    /// Index of the segment in which `offset` is, or would be.
    fn segment_of(&self, offset: Offset) -> usize {
        self.segments.partition_point(|s| s.base_offset <= offset).saturating_sub(1)
    }
}

/// What only the one who appends needs.
#[derive(Debug)]
struct Writer {
    producers: Producers,
    closed: bool,
    /// Appends of older leader epochs are refused.
    fence: LeaderEpoch,
    last_flush_ms: i64,
    /// The offset of the newest snapshot on disk.
    snapshot_at: Option<Offset>,
}

/// Files that have been renamed and are removed when readers have had time to finish.
#[derive(Debug)]
struct Doomed {
    due_ms: i64,
    segment: Arc<Segment>,
    paths: Vec<PathBuf>,
}

impl Log {
    /// The partition that this is the log of.
    pub fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    /// The directory of its files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The settings in force.
    pub fn config(&self) -> Arc<LogConfig> {
        self.config.read().clone()
    }

    /// Changes the settings; the next append goes by them.
    pub fn set_config(&self, config: LogConfig) {
        *self.config.write() = Arc::new(config);
    }

    /// The topic's id from `partition.metadata`.
    pub fn topic_id(&self) -> Option<Uuid> {
        *self.topic_id.read()
    }

    /// Writes `partition.metadata`, for a log that has none yet.
    pub fn set_topic_id(&self, id: Uuid) -> Result<(), Error> {
        let mut known = self.topic_id.write();
        if known.is_none() {
            partition_metadata::write(&self.dir, id)?;
            *known = Some(id);
        }
        Ok(())
    }

    /// The first offset that may be read.
    pub fn log_start_offset(&self) -> Offset {
        self.view.read().start
    }

    /// The offset that the next record gets.
    pub fn log_end_offset(&self) -> Offset {
        self.view.read().end
    }

    /// The offset up to which consumers may read; after opening it is the log start.
    pub fn high_watermark(&self) -> Offset {
        self.view.read().high_watermark
    }

    /// Moves the high watermark, held to what is in the log; returns where it then is.
    pub fn set_high_watermark(&self, offset: Offset) -> Offset {
        self.move_high_watermark(|_| offset)
    }

    /// The same, but never back: of several that come at once the highest counts.
    pub fn raise_high_watermark(&self, offset: Offset) -> Offset {
        self.move_high_watermark(|now| now.max(offset))
    }

    fn move_high_watermark(&self, to: impl Fn(Offset) -> Offset) -> Offset {
        let mut view = self.view.write();
        let mark = to(view.high_watermark).clamp(view.start, view.end);
        if view.first_unstable.is_none() || mark == view.high_watermark {
            view.high_watermark = mark;
            return mark;
        }
        drop(view);
        // Transactions that have ended may become stable. Producers first, as appends lock in this order.
        let mut writer = self.writer.lock();
        let mut view = self.view.write();
        let mark = to(view.high_watermark).clamp(view.start, view.end);
        view.high_watermark = mark;
        writer.producers.on_high_watermark(mark);
        view.first_unstable = writer.producers.first_unstable();
        mark
    }

    /// The offset up to which consumers of committed records may read.
    pub fn last_stable_offset(&self) -> Offset {
        self.view.read().last_stable()
    }

    /// Bytes in all segments.
    pub fn size(&self) -> u64 {
        let view = self.view.read().clone();
        view.segments.iter().map(|s| s.size()).sum()
    }

    /// How many segments there are.
    pub fn segments(&self) -> usize {
        self.view.read().segments.len()
    }

    /// The newest leader epoch in the log.
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.epochs.read().latest()
    }

    /// The largest epoch in the log that is not above `epoch`, and the offset where it ends; `None` if all are above.
    pub fn epoch_end_offset(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let end = self.log_end_offset();
        self.epochs.read().end_offset(epoch, end)
    }

    /// The epoch of the leader that wrote `offset`.
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.epochs.read().at(offset)
    }

    /// Notes that the reign of `epoch` begins at the end of the log.
    pub fn begin_epoch(&self, epoch: LeaderEpoch) -> Result<(), Error> {
        let writer = self.writer.lock();
        self.ensure_open(&writer)?;
        let end = self.log_end_offset();
        self.note_epoch(epoch, end)
    }

    /// Refuses appends of epochs older than `epoch` from now on; an append that goes on has ended when this returns.
    pub fn fence(&self, epoch: LeaderEpoch) {
        let mut writer = self.writer.lock();
        writer.fence = writer.fence.max(epoch);
    }

    fn ensure_not_fenced(&self, writer: &Writer, found: LeaderEpoch) -> Result<(), Error> {
        if found < writer.fence {
            let (partition, newest) = (self.partition.clone(), writer.fence);
            return Err(Error::FencedLeaderEpoch { partition, found, newest });
        }
        Ok(())
    }

    fn note_epoch(&self, epoch: LeaderEpoch, offset: Offset) -> Result<(), Error> {
        if self.epochs.read().is_current(epoch) {
            return Ok(());
        }
        let mut epochs = self.epochs.write();
        let is_new = epochs.insert(epoch, offset);
        if is_new || epochs.is_unstored() { epochs.store() } else { Ok(()) }
    }

    /// Forgets idempotent producers that have been silent for `expiration_ms` (`producer.id.expiration.ms`).
    pub fn expire_producers(&self, now_ms: i64, expiration_ms: i64) {
        self.writer.lock().producers.expire(now_ms, expiration_ms);
    }

    /// Every producer that is known here, by id.
    pub fn active_producers(&self) -> Vec<crate::ActiveProducer> {
        self.writer.lock().producers.active()
    }

    /// Whether some transaction has been open without a record for longer than `limit_ms`.
    pub fn has_late_transaction(&self, now_ms: i64, limit_ms: i64) -> bool {
        if self.view.read().first_unstable.is_none() {
            return false;
        }
        self.writer.lock().producers.has_late_transaction(now_ms, limit_ms)
    }

    /// The offset below which everything is on disk for certain.
    pub fn recovery_point(&self) -> Offset {
        Offset(self.recovery_point.load(Ordering::Acquire))
    }

    /// Makes everything durable that has been appended so far; returns the new recovery point.
    pub fn flush(&self) -> Result<Offset, Error> {
        let view = self.view.read().clone();
        self.flush_to(&view, view.segments.len(), view.end)
    }

    /// Has what is appended leave the page cache for the disk, some MiB at a time; to be called after each append of what
    /// nobody is about to read.
    pub fn leave_cache(&self) {
        let active = self.view.read().active().clone();
        active.leave_cache();
    }

    /// Makes all segments durable that are not appended to any more; meant for a background thread, after
    /// [`AppendInfo::rolled`].
    pub fn flush_closed_segments(&self) -> Result<Offset, Error> {
        let view = self.view.read().clone();
        self.flush_to(&view, view.segments.len() - 1, view.active().base_offset)
    }

    fn flush_to(&self, view: &View, segments: usize, end: Offset) -> Result<Offset, Error> {
        let done = self.recovery_point();
        if end <= done {
            return Ok(done);
        }
        for index in view.segment_of(done)..segments {
            view.segments[index].sync()?;
        }
        let is_new = self.is_new.swap(false, Ordering::AcqRel);
        let names = self.sync_names(is_new, view.active().base_offset >= done);
        names.inspect_err(|_| self.is_new.store(is_new, Ordering::Release))?;
        self.epochs.write().sync()?;
        self.recovery_point.fetch_max(end.0, Ordering::AcqRel);
        Ok(self.recovery_point())
    }

    /// Makes the names of the files durable, and of a new log that of its directory.
    fn sync_names(&self, is_new: bool, new_segment: bool) -> Result<(), Error> {
        if is_new {
            partition_metadata::sync(&self.dir)?;
        }
        if is_new || new_segment {
            files::sync_dir(&self.dir)?;
        }
        match self.dir.parent() {
            Some(parent) if is_new => files::sync_dir(parent),
            _ => Ok(()),
        }
    }

    /// Flushes if `flush.ms` has passed since the last time.
    pub fn flush_if_due(&self, now_ms: i64) -> Result<(), Error> {
        let due = self.config().flush_ms;
        let mut writer = self.writer.lock();
        // A clock that was set back must not put it off for as long as it was ahead.
        writer.last_flush_ms = writer.last_flush_ms.min(now_ms);
        if now_ms.saturating_sub(writer.last_flush_ms) >= due {
            writer.last_flush_ms = now_ms;
            drop(writer);
            self.flush()?;
        }
        Ok(())
    }

    /// Makes everything durable and refuses appends from now on; what was opened for reading stays readable. A log that
    /// was closed needs no recovery, provided that its directory is marked clean.
    pub fn close(&self) -> Result<(), Error> {
        self.finish()?;
        self.flush().map(|_| ())
    }

    /// The first half of [`Log::close`]: writes out what is held in memory and refuses appends from now on. Says whether
    /// there is anything that is not durable yet; then [`Log::flush`] has to follow, or a sync of the whole file system
    /// and [`Log::flushed_with_others`].
    pub fn finish(&self) -> Result<bool, Error> {
        let mut writer = self.writer.lock();
        let view = self.view.read().clone();
        if !writer.closed {
            writer.closed = true;
            self.end_generation();
            if view.end_position > 0 || self.config().preallocate {
                view.active().seal()?;
            }
            // Without one, the next start would read the whole log for its producers.
            if writer.snapshot_at != Some(view.end) && view.end > view.segments[0].base_offset {
                snapshot::write(&self.dir, view.end, &writer.producers)?;
                writer.snapshot_at = Some(view.end);
            }
        }
        Ok(view.end > self.recovery_point())
    }

    /// Takes note that all files of the closed log are durable, because their file system was synced after
    /// [`Log::finish`].
    pub fn flushed_with_others(&self) {
        self.is_new.store(false, Ordering::Release);
        self.recovery_point.fetch_max(self.log_end_offset().0, Ordering::AcqRel);
    }

    /// Refuses appends from now on, and makes nothing durable: for a log that is about to be deleted.
    pub fn abandon(&self) {
        self.writer.lock().closed = true;
        self.end_generation();
    }

    /// Has a cleaning that goes on give up, if there is one: what it has not put into the log by now will not come.
    pub fn interrupt_cleaning(&self) {
        let _writer = self.writer.lock();
        self.end_generation();
    }

    /// Has a cleaning that goes on find out that it is in vain.
    fn end_generation(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    fn ensure_open(&self, writer: &Writer) -> Result<(), Error> {
        if writer.closed {
            return Err(Error::Closed { partition: self.partition.clone() });
        }
        Ok(())
    }

    /// Shows `change` to readers.
    fn publish(&self, change: impl FnOnce(&mut View)) {
        change(&mut self.view.write());
    }
}
