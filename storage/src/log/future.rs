//! A copy of a log in another data directory, which takes the log's place when it has caught up (KIP-113).

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use aqueduct_protocol::ids::{LeaderEpoch, Offset, Uuid};
use aqueduct_protocol::records::{BatchHeader, extend_crc};

use super::{Log, Recovery};
use crate::error::IoContext;
use crate::log_dir::FutureName;
use crate::scan::{Scan, Step};
use crate::{Error, TopicPartition, files, snapshot};

/// Appends wait while so many bytes are copied at the end; more than that is copied before.
const LAST_BYTES: usize = 1 << 20;

/// A log in the making, in a directory that is named `<topic>-<partition>.<unique>-future`. It is always a beginning of
/// the log that it is copied from: batches byte for byte, with all that follows from them. One thread works on it.
#[derive(Debug)]
pub struct FutureLog {
    log: Log,
    /// The generation of the source that it was last known to be a beginning of.
    generation: AtomicU64,
}

/// What a step of copying came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    pub bytes: usize,
    /// Offsets that are still missing.
    pub lag: i64,
}

impl FutureLog {
    /// Begins a copy of `source` in `data_dir`.
    pub fn create(data_dir: &Path, source: &Log, unique: Uuid, now_ms: i64) -> Result<Self, Error> {
        let name = FutureName::new(source.partition.clone(), unique);
        let (start, config) = (source.log_start_offset(), (*source.config()).clone());
        let (dir, topic_id) = (data_dir.join(name.to_string()), source.topic_id());
        let generation = AtomicU64::new(source.generation.load(Ordering::Acquire));
        let log = Log::create_in(dir, &source.partition, topic_id, start, config, now_ms)?;
        Ok(Self { log, generation })
    }

    /// Opens a copy that was begun before.
    pub fn open(
        dir: &Path,
        partition: &TopicPartition,
        config: crate::LogConfig,
        recovery: Recovery,
        now_ms: i64,
    ) -> Result<Self, Error> {
        let log = Log::open_as(dir, partition.clone(), config, recovery, now_ms)?;
        // Of no generation, so that it is compared with its source before it is added to.
        Ok(Self { log, generation: AtomicU64::new(u64::MAX) })
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        self.log.dir()
    }

    /// The offset after what has been copied.
    pub fn log_end_offset(&self) -> Offset {
        self.log.log_end_offset()
    }

    /// The offset below which everything is on disk for certain.
    pub fn recovery_point(&self) -> Offset {
        self.log.recovery_point()
    }

    /// The first offset that may be read.
    pub fn log_start_offset(&self) -> Offset {
        self.log.log_start_offset()
    }

    /// Forgets records before `offset`, as its log has.
    pub fn set_log_start(&self, offset: Offset) {
        self.log.publish(|view| view.start = offset.clamp(view.start, view.end));
    }

    /// Makes what will not be added to durable.
    pub fn flush_closed_segments(&self) -> Result<(), Error> {
        self.log.flush_closed_segments().map(|_| ())
    }

    /// Makes all durable, for the process to end; nothing can be copied any more.
    pub fn close(&self) -> Result<(), Error> {
        self.log.close()
    }

    /// Bytes of its segments.
    pub fn size(&self) -> u64 {
        self.log.size()
    }

    /// Whether all of it is in `source`, so that copying may go on where it stopped.
    pub fn is_beginning_of(&self, source: &Log) -> Result<bool, Error> {
        is_beginning(&self.log, source)
    }

    /// Whether all of `source` is in it, and more: it had taken the log's place already when the process was stopped.
    pub fn is_continuation_of(&self, source: &Log) -> Result<bool, Error> {
        Ok(source.log_end_offset() < self.log.log_end_offset() && is_beginning(source, &self.log)?)
    }

    /// Throws away what was copied.
    pub fn start_over(&self, source: &Log, now_ms: i64) -> Result<(), Error> {
        self.log.truncate_fully_and_start_at(source.log_start_offset(), now_ms)
    }

    /// Copies about `max_bytes`, at least one batch where one is missing.
    pub fn copy(&self, source: &Log, max_bytes: usize, now_ms: i64) -> Result<Copied, Error> {
        let (start, end) = {
            let view = source.view.read();
            (view.start, view.end)
        };
        let generation = source.generation.load(Ordering::Acquire);
        // A follower's log may have been cut since, and gone on with other records.
        let is_known = self.generation.swap(generation, Ordering::AcqRel) == generation;
        let at = self.log.log_end_offset();
        if at < start || at > end || !(is_known || is_beginning(&self.log, source)?) {
            // Records that it has not got yet were deleted.
            self.start_over(source, now_ms)?;
        }
        let at = self.log.log_end_offset();
        let slice = match source.read(at, max_bytes, end, true) {
            // The same, just now.
            Err(Error::OffsetOutOfRange { .. }) => {
                return Ok(Copied { bytes: 0, lag: (end.0 - at.0).max(1) });
            }
            read => read?,
        };
        if slice.is_empty() {
            if at < end {
                self.skip_to(end, now_ms)?;
            }
            return Ok(self.copied(0, source));
        }
        let bytes = slice.read_to_bytes().at("read", source.dir())?;
        if slice.base_offset < at && self.log.log_start_offset() == at {
            // The log begins within a batch, since records were deleted.
            self.log.truncate_fully_and_start_at(slice.base_offset, now_ms)?;
        }
        let count = bytes.len();
        self.log.append_as_follower(bytes, LeaderEpoch(i32::MAX), now_ms)?;
        self.log.set_high_watermark(self.log.log_end_offset());
        Ok(self.copied(count, source))
    }

    fn copied(&self, bytes: usize, source: &Log) -> Copied {
        let lag = source.log_end_offset().0 - self.log.log_end_offset().0;
        Copied { bytes, lag }
    }

    /// Follows a log whose last offsets have no batch any more, because compaction or retention took them.
    fn skip_to(&self, end: Offset, now_ms: i64) -> Result<(), Error> {
        if self.log.view.read().segments.len() == 1 && self.log.size() == 0 {
            return self.log.truncate_fully_and_start_at(end, now_ms);
        }
        let mut writer = self.log.writer.lock();
        self.log.ensure_open(&writer)?;
        self.log.roll(&mut writer, end, now_ms)?;
        self.log.publish(|view| view.end = end);
        Ok(())
    }

    /// Makes what was copied durable.
    pub fn flush(&self) -> Result<(), Error> {
        self.log.flush().map(|_| ())
    }

    /// Takes the place of `source`, if hardly anything is missing: the rest is copied while appends wait, the directory
    /// gets its final name, and `publish` is called with the log, from when on it alone may be used: `source` is closed.
    /// Its directory is left for the caller to remove. Says whether that was done.
    ///
    /// An error leaves `source` as it is; the copy then has to be opened anew.
    pub fn take_over(
        &self,
        source: &Log,
        now_ms: i64,
        publish: impl FnOnce(Log) -> std::sync::Arc<Log>,
    ) -> Result<bool, Error> {
        let mut writer = source.writer.lock();
        source.ensure_open(&writer)?;
        let mut bytes = 0;
        loop {
            let copied = self.copy(source, LAST_BYTES, now_ms)?;
            bytes += copied.bytes;
            if copied.lag == 0 {
                break;
            }
            if bytes > LAST_BYTES {
                return Ok(false);
            }
        }
        let view = source.view.read().clone();
        self.take_state(source, &writer, &view)?;
        self.log.finish()?;
        let durable = self.log.recovery_point();
        let place = self.log.dir().with_file_name(source.partition.to_string());
        if std::fs::symlink_metadata(&place).is_ok() {
            return Err(Error::AlreadyExists { path: place });
        }
        std::fs::rename(self.log.dir(), &place).at("rename", self.log.dir())?;
        let recovery = Recovery { clean: true, recovery_point: durable, log_start: view.start };
        let opened = Log::open_as(
            &place,
            source.partition.clone(),
            (*source.config()).clone(),
            recovery,
            now_ms,
        )
        .and_then(|log| match log.log_end_offset() == view.end {
            true => Ok(log),
            false => Err(Error::damaged(&place, "the copy does not end where the log does")),
        })
        .inspect_err(|_| {
            if let Err(error) = std::fs::rename(&place, self.log.dir()) {
                tracing::error!(path = %place.display(), %error, "a copy has kept the name of its log");
            }
        })?;
        {
            let mut own = opened.writer.lock();
            (own.producers, own.fence) = (writer.producers.clone(), writer.fence);
        }
        // Opening forgets an epoch in which nothing was written yet.
        opened.epochs.write().follow(&source.epochs.read());
        opened.publish(|new| {
            (new.high_watermark, new.first_unstable) = (view.high_watermark, view.first_unstable);
        });
        // Its new name, and what was copied last, are not on disk yet.
        opened.recovery_point.store(durable.0, std::sync::atomic::Ordering::Release);
        opened.is_new.store(true, std::sync::atomic::Ordering::Release);
        let opened = publish(opened);
        writer.closed = true;
        source.end_generation();
        // An append that was made before may have moved it just now.
        opened.raise_high_watermark(source.high_watermark());
        Ok(true)
    }

    /// What does not follow from the batches: producers of records that are gone, with the last batches of each, leader
    /// epochs, and the log start.
    fn take_state(&self, source: &Log, writer: &super::Writer, view: &super::View) -> Result<(), Error> {
        let mut own = self.log.writer.lock();
        own.producers = writer.producers.clone();
        snapshot::write(self.log.dir(), view.end, &own.producers)?;
        own.snapshot_at = Some(view.end);
        drop(own);
        self.log.publish(|own| {
            own.start = view.start;
            own.high_watermark = view.high_watermark;
            own.first_unstable = view.first_unstable;
        });
        let mut epochs = self.log.epochs.write();
        epochs.follow(&source.epochs.read());
        epochs.store()
    }

    /// Gives the copy the name of its log, where there is no such log any more. It has to be opened anew.
    pub fn promote(self) -> Result<(), Error> {
        self.log.close()?;
        rename_to_current(self.log.dir(), &self.log.partition)
    }

    /// Refuses to copy from now on: the directory is about to be removed.
    pub fn abandon(&self) {
        self.log.abandon();
    }
}

/// Gives the directory of a copy the name of its log.
pub(crate) fn rename_to_current(dir: &Path, partition: &TopicPartition) -> Result<(), Error> {
    let place = dir.with_file_name(partition.to_string());
    if std::fs::symlink_metadata(&place).is_ok() {
        return Err(Error::AlreadyExists { path: place });
    }
    std::fs::rename(dir, &place).at("rename", dir)?;
    files::sync_dir(dir.parent().unwrap_or(Path::new(".")))
}

/// Whether `longer` has all batches of `shorter`, by offsets and checksums. Logs that are not compacted have one history up
/// to the first batch in which they differ, so that the last one is enough.
fn is_beginning(shorter: &Log, longer: &Log) -> Result<bool, Error> {
    let (end, other) = (shorter.log_end_offset(), longer.view.read().clone());
    if end > other.end {
        return Ok(false);
    }
    let Some(last) = last_batch(shorter)? else { return Ok(true) };
    if last.last_offset() < other.start {
        // Where it is told by nothing else: the longer one has gone on without it.
        return Ok(end <= other.start);
    }
    if longer.config().compact {
        let from = other.start.max(shorter.log_start_offset());
        return Ok(batches(shorter, from, end)? == batches(longer, from, end)?);
    }
    let segment = &other.segments[other.segment_of(last.base_offset)];
    let (_, until) = other.segment_end(other.segment_of(last.base_offset));
    let found = segment.find(last.base_offset, until)?;
    Ok(found.is_some_and(|(_, header)| (header.base_offset, header.crc) == (last.base_offset, last.crc)))
}

/// A digest of the batches that begin from `from` on and before `to`.
fn batches(log: &Log, from: Offset, to: Offset) -> Result<u32, Error> {
    let (view, mut digest) = (log.view.read().clone(), 0);
    for index in view.segment_of(from)..view.segments.len() {
        let (_, end) = view.segment_end(index);
        let mut scan = view.segments[index].scan(0, end, Scan::SEQUENTIAL)?;
        while let Step::Batch { header, .. } = scan.step()? {
            if header.base_offset >= from && header.base_offset < to {
                digest = extend_crc(digest, &header.base_offset.0.to_be_bytes());
                digest = extend_crc(digest, &header.crc.to_be_bytes());
            }
        }
    }
    Ok(digest)
}

fn last_batch(log: &Log) -> Result<Option<BatchHeader>, Error> {
    let view = log.view.read().clone();
    for index in (0..view.segments.len()).rev() {
        let segment = &view.segments[index];
        let (_, end) = view.segment_end(index);
        let mut scan = segment.scan(segment.last_indexed().min(end), end, Scan::LOOKUP)?;
        let mut last = None;
        while let Step::Batch { header, .. } = scan.step()? {
            last = Some(header);
        }
        if last.is_some() {
            return Ok(last);
        }
    }
    Ok(None)
}

#[cfg(test)]
#[path = "future_tests.rs"]
mod tests;
