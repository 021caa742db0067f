use std::fs::File;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aqueduct_protocol::ids::Offset;
use aqueduct_protocol::records::{BatchHeader, NO_TIMESTAMP, RecordError};
use parking_lot::{Mutex, MutexGuard};

use crate::error::IoContext;
use crate::index::{Entry, IndexFile, OffsetEntry, TimeEntry};
use crate::open_files::{HeldFile, LazyFile};
use crate::scan::{Scan, Step};
use crate::{AbortedTransaction, Error, LogConfig, files, txn_index};

/// A stretch of a log: one `.log` file and its indexes.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) base_offset: Offset,
    file: LazyFile,
    path: Arc<Path>,
    /// Bytes of the log file that hold whole batches; what lies behind is a failed write.
    size: AtomicU64,
    /// Up to here it has left the page cache, or is about to.
    left_cache: AtomicU64,
    indexes: Mutex<Indexes>,
}

/// What is known about a segment beside its batches.
#[derive(Debug)]
struct Indexes {
    offsets: IndexFile<OffsetEntry>,
    times: IndexFile<TimeEntry>,
    /// Largest timestamp so far and the last offset of the batch that has it.
    max: Option<(i64, Offset)>,
    /// Timestamp of the first batch, from which the age of the segment is counted.
    first_timestamp: Option<i64>,
    /// What stands behind the names of the files now.
    suffix: String,
    /// Where the batch of the last index entry ends, or began if there is none.
    indexed_to: u64,
    created_ms: i64,
}

/// A segment whose files are being renamed: nobody opens one of them meanwhile.
pub(crate) struct Held<'a> {
    segment: &'a Segment,
    indexes: MutexGuard<'a, Indexes>,
    file: HeldFile<'a>,
}

impl Held<'_> {
    /// The files now have `suffix` behind their names.
    pub(crate) fn renamed(&mut self, suffix: &str) {
        let path = |kind| self.segment.path_of(kind, suffix);
        self.file.renamed(path(files::LOG).into());
        self.indexes.offsets.renamed(path(files::OFFSET_INDEX).into());
        self.indexes.times.renamed(path(files::TIME_INDEX).into());
        self.indexes.suffix = suffix.to_owned();
    }
}

impl Segment {
    /// A new segment in `dir`; its files replace any that are there.
    pub(crate) fn create(
        dir: &Path,
        base_offset: Offset,
        config: &LogConfig,
        now_ms: i64,
    ) -> Result<Self, Error> {
        let segment = Self::create_as(dir, base_offset, "", now_ms)?;
        if config.preallocate {
            let (file, path) = (segment.file()?, &segment.path);
            let flags = rustix::fs::FallocateFlags::KEEP_SIZE;
            match rustix::fs::fallocate(&*file, flags, 0, config.segment_bytes) {
                // Some file systems cannot; the log works without.
                Err(rustix::io::Errno::OPNOTSUPP) => {}
                done => done.at("preallocate", path)?,
            }
        }
        Ok(segment)
    }

    /// A new segment whose files have `suffix` behind their names until [`Held::renamed`].
    pub(crate) fn create_as(
        dir: &Path,
        base_offset: Offset,
        suffix: &str,
        now_ms: i64,
    ) -> Result<Self, Error> {
        let path = |kind| files::with_suffix(&files::path(dir, base_offset, kind), suffix);
        let log = path(files::LOG);
        File::create(&log).at("create", &log)?;
        Ok(Self {
            base_offset,
            // Most partitions are idle: a descriptor is taken with the first batch.
            file: LazyFile::new(log.into()),
            path: files::path(dir, base_offset, files::LOG).into(),
            size: AtomicU64::new(0),
            left_cache: AtomicU64::new(0),
            indexes: Mutex::new(Indexes {
                offsets: IndexFile::create(path(files::OFFSET_INDEX))?,
                times: IndexFile::create(path(files::TIME_INDEX))?,
                max: None,
                first_timestamp: None,
                suffix: suffix.to_owned(),
                indexed_to: 0,
                created_ms: now_ms,
            }),
        })
    }

    /// The segment that is on disk; says, too, whether its indexes can be trusted. They are empty if not.
    pub(crate) fn open(dir: &Path, base_offset: Offset, now_ms: i64) -> Result<(Self, bool), Error> {
        let path = files::path(dir, base_offset, files::LOG);
        let size = std::fs::metadata(&path).at("open", &path)?.len();
        let offset_path = files::path(dir, base_offset, files::OFFSET_INDEX);
        let time_path = files::path(dir, base_offset, files::TIME_INDEX);
        let found = (IndexFile::open(offset_path.clone())?, IndexFile::open(time_path.clone())?);
        let (offsets, times, sane) = match found {
            (Some(offsets), Some(times)) if sane(&offsets, &times, size) => (offsets, times, true),
            _ => (IndexFile::create(offset_path)?, IndexFile::create(time_path)?, false),
        };
        let max = times.last().map(|e: TimeEntry| (e.timestamp, base_offset.plus(e.relative as i64)));
        let indexed_to = offsets.last().map_or(0, |e: OffsetEntry| e.position as u64);
        let indexes = Indexes {
            offsets,
            times,
            max,
            first_timestamp: None,
            suffix: String::new(),
            indexed_to,
            created_ms: now_ms,
        };
        let path: Arc<Path> = path.into();
        let segment = Self {
            base_offset,
            file: LazyFile::new(path.clone()),
            path,
            size: AtomicU64::new(size),
            left_cache: AtomicU64::new(size),
            indexes: Mutex::new(indexes),
        };
        Ok((segment, sane))
    }

    /// The log file.
    pub(crate) fn file(&self) -> Result<Arc<File>, Error> {
        self.file.get()
    }

    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes note of a batch that was written at `position`, the end of the segment so far.
    pub(crate) fn note(&self, position: u64, header: &BatchHeader, config: &LogConfig) -> Result<(), Error> {
        let mut indexes = self.indexes.lock();
        if position == 0 {
            indexes.first_timestamp = Some(header.max_timestamp);
        }
        if header.max_timestamp > indexes.max.map_or(NO_TIMESTAMP, |(timestamp, _)| timestamp) {
            indexes.max = Some((header.max_timestamp, header.last_offset()));
        }
        if position - indexes.indexed_to > config.index_interval_bytes {
            let relative = self.relative(header.last_offset())?;
            let position32 =
                i32::try_from(position).map_err(|_| Error::damaged(&self.path, "longer than 2 GiB"))?;
            indexes.offsets.push(OffsetEntry { relative, position: position32 })?;
            self.note_time(&mut indexes)?;
            indexes.indexed_to = position;
        }
        self.size.store(position + header.size() as u64, Ordering::Release);
        Ok(())
    }

    fn note_time(&self, indexes: &mut Indexes) -> Result<(), Error> {
        let Some((timestamp, offset)) = indexes.max else { return Ok(()) };
        if indexes.times.last().is_none_or(|last| timestamp > last.timestamp) {
            let relative = self.relative(offset)?;
            indexes.times.push(TimeEntry { timestamp, relative })?;
        }
        Ok(())
    }

    fn relative(&self, offset: Offset) -> Result<i32, Error> {
        i32::try_from(offset.0 - self.base_offset.0).map_err(|_| {
            Error::damaged(&self.path, format!("offset {offset} is too far from the base offset"))
        })
    }

    /// Whether a batch of `size` bytes with these last offset and timestamp belongs into a new segment.
    pub(crate) fn should_roll(
        &self,
        size: usize,
        last_offset: Offset,
        timestamp: i64,
        roll_after_ms: i64,
        config: &LogConfig,
        now_ms: i64,
    ) -> Result<bool, Error> {
        let own = self.size();
        // A follower's offsets can leap, so that not even an empty segment can hold them.
        if last_offset.0 - self.base_offset.0 > i32::MAX as i64 {
            return Ok(true);
        }
        if own == 0 {
            return Ok(false);
        }
        if own + size as u64 > config.segment_bytes {
            return Ok(true);
        }
        let first = self.first_timestamp()?;
        let indexes = self.indexes.lock();
        // The last place in the time index is kept for the entry that closes the segment.
        let full = indexes.offsets.len() as u64 >= config.segment_index_bytes / 8
            || indexes.times.len() as u64 + 1 >= config.segment_index_bytes / 12;
        let age = match first {
            Some(first) if first >= 0 => timestamp.saturating_sub(first),
            _ => now_ms.saturating_sub(indexes.created_ms),
        };
        Ok(full || age > roll_after_ms)
    }

    /// Timestamp of the first batch.
    pub(crate) fn first_timestamp(&self) -> Result<Option<i64>, Error> {
        let known = self.indexes.lock().first_timestamp;
        if known.is_some() || self.size() == 0 {
            return Ok(known);
        }
        let first = match self.scan(0, self.size(), Scan::LOOKUP)?.step()? {
            Step::Batch { header, .. } => Some(header.max_timestamp),
            _ => None,
        };
        self.indexes.lock().first_timestamp = first;
        Ok(first)
    }

    /// Largest timestamp in the segment and the last offset of the batch that has it.
    pub(crate) fn max_timestamp(&self) -> Option<(i64, Offset)> {
        self.indexes.lock().max
    }

    /// Walks over the batches from `position` to `end`.
    pub(crate) fn scan(&self, position: u64, end: u64, chunk: usize) -> Result<Scan<'_>, Error> {
        Ok(Scan::new(self.file()?, &self.path, position..end, chunk))
    }

    /// Where the batch begins that holds `offset`, or the first after it, before `end`.
    pub(crate) fn find(&self, offset: Offset, end: u64) -> Result<Option<(u64, BatchHeader)>, Error> {
        let from = self.position_before(offset)?;
        let mut scan = self.scan(from.min(end), end, Scan::LOOKUP)?;
        loop {
            match scan.step()? {
                Step::Batch { position, header } if header.last_offset() >= offset => {
                    return Ok(Some((position, header)));
                }
                Step::Batch { .. } => {}
                Step::End => return Ok(None),
                Step::Torn(error) => return Err(self.damage(scan.position(), error)),
            }
        }
    }

    /// The error for bytes that are no batch where one should be.
    pub(crate) fn damage(&self, position: u64, source: RecordError) -> Error {
        Error::DamagedLog { path: self.path.to_path_buf(), position, source }
    }

    /// The last entry of an index for which `holds` does. The lock, which appends take, too, is not held over reads.
    fn look_up<E: Entry>(
        &self,
        of: impl Fn(&mut Indexes) -> &mut IndexFile<E>,
        holds: impl Fn(&E) -> bool,
    ) -> Result<Option<E>, Error> {
        let search = match of(&mut self.indexes.lock()).last_where(&holds)? {
            Ok(found) => return Ok(found),
            Err(search) => search,
        };
        let (found, page) = search.last_where(&holds)?;
        of(&mut self.indexes.lock()).remember(page);
        Ok(found)
    }

    /// Where to begin to look for `offset`: at or before its batch.
    pub(crate) fn position_before(&self, offset: Offset) -> Result<u64, Error> {
        let relative = offset.0.saturating_sub(self.base_offset.0);
        let near = self.look_up(|indexes| &mut indexes.offsets, |e| e.relative as i64 <= relative)?;
        Ok(near.map_or(0, |entry| entry.position as u64))
    }

    /// An offset behind all batches that begin before `position`, as near as the index tells; `None` if that is the end.
    pub(crate) fn offset_after(&self, position: u64) -> Result<Option<Offset>, Error> {
        let behind = self.indexes.lock().offsets.first_unless(|e| (e.position as u64) < position)?;
        Ok(behind.map(|entry| self.base_offset.plus(entry.relative as i64 + 1)))
    }

    /// Bytes of offset and time index.
    pub(crate) fn index_sizes(&self) -> (u64, u64) {
        let indexes = self.indexes.lock();
        (indexes.offsets.bytes(), indexes.times.bytes())
    }

    /// The aborted transactions whose marker is in the segment.
    pub(crate) fn aborted_transactions(&self) -> Result<Vec<AbortedTransaction>, Error> {
        let indexes = self.indexes.lock();
        txn_index::read_at(&self.path_of(files::TXN_INDEX, &indexes.suffix))
    }

    /// Where to begin to look for the first record that is not older than `timestamp`.
    pub(crate) fn find_timestamp(&self, timestamp: i64, end: u64) -> Result<u64, Error> {
        // All that the entry covers is older.
        let older = self.look_up(|indexes| &mut indexes.times, |e: &TimeEntry| e.timestamp < timestamp)?;
        let Some(older) = older else { return Ok(0) };
        let near = self.look_up(|indexes| &mut indexes.offsets, |e| e.relative <= older.relative)?;
        Ok(near.map_or(0, |entry| entry.position as u64).min(end))
    }

    /// The last indexed batch: where it begins. Everything behind it is found by walking.
    pub(crate) fn last_indexed(&self) -> u64 {
        self.indexes.lock().offsets.last().map_or(0, |entry| entry.position as u64)
    }

    /// Takes note of the timestamps of a batch that is indexed already.
    pub(crate) fn observe(&self, header: &BatchHeader) {
        let mut indexes = self.indexes.lock();
        if header.max_timestamp > indexes.max.map_or(NO_TIMESTAMP, |(timestamp, _)| timestamp) {
            indexes.max = Some((header.max_timestamp, header.last_offset()));
        }
    }

    /// Empties the indexes, for all batches to be noted again.
    pub(crate) fn reset_indexes(&self) -> Result<(), Error> {
        let mut indexes = self.indexes.lock();
        indexes.offsets.truncate_where(|_| false)?;
        indexes.times.truncate_where(|_| false)?;
        indexes.max = None;
        indexes.first_timestamp = None;
        indexes.indexed_to = 0;
        Ok(())
    }

    /// Cuts the segment at `position`, which is the start of a batch whose offsets begin at or after `offset`.
    pub(crate) fn truncate(&self, position: u64, offset: Offset) -> Result<(), Error> {
        self.file()?.set_len(position).at("truncate", &self.path)?;
        self.size.store(position, Ordering::Release);
        let relative = offset.0 - self.base_offset.0;
        let mut indexes = self.indexes.lock();
        indexes
            .offsets
            .truncate_where(|e| (e.relative as i64) < relative && (e.position as u64) < position)?;
        indexes.times.truncate_where(|e| (e.relative as i64) < relative)?;
        indexes.indexed_to = indexes.offsets.last().map_or(0, |e| e.position as u64);
        indexes.max = indexes.times.last().map(|e| (e.timestamp, self.base_offset.plus(e.relative as i64)));
        if position == 0 {
            indexes.first_timestamp = None;
        }
        let from = indexes.indexed_to;
        drop(indexes);
        // Timestamps behind the last entry are in no index.
        let mut scan = self.scan(from, position, Scan::SEQUENTIAL)?;
        while let Step::Batch { header, .. } = scan.step()? {
            self.observe(&header);
        }
        Ok(())
    }

    /// Completes the indexes; nothing more will be appended, or not soon.
    pub(crate) fn seal(&self) -> Result<(), Error> {
        // Gives back what was preallocated.
        self.file()?.set_len(self.size()).at("trim", &self.path)?;
        let mut indexes = self.indexes.lock();
        self.note_time(&mut indexes)?;
        indexes.offsets.rest()?;
        indexes.times.rest()
    }

    /// Makes log and indexes durable.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        txn_index::sync(&self.path_of(files::TXN_INDEX, &self.indexes.lock().suffix))?;
        self.file()?.sync_data().at("sync", &self.path)?;
        let mut indexes = self.indexes.lock();
        indexes.offsets.sync()?;
        indexes.times.sync()
    }

    /// Has the kernel write what was appended since the last time, and forget what has come to the disk by now: a few MiB at
    /// a time, so that whoever shares the disk does not wait for all of it at once, and the page cache is left to others.
    pub(crate) fn leave_cache(&self) {
        const STRETCH: u64 = 4 << 20;
        /// What was given to the disk before, and may not have been there yet.
        const AGAIN: u64 = 16 << 20;
        let (size, left) = (self.size(), self.left_cache.load(Ordering::Relaxed));
        if size.abs_diff(left) < STRETCH {
            return;
        }
        self.left_cache.store(size, Ordering::Relaxed);
        let from = left.min(size).saturating_sub(AGAIN);
        if let (Ok(file), Some(length)) = (self.file(), NonZeroU64::new(size - from)) {
            // Advice, which the kernel need not follow.
            let _ = rustix::fs::fadvise(&*file, from, Some(length), rustix::fs::Advice::DontNeed);
        }
    }

    /// When the log file was last written to, in milliseconds since 1970.
    pub(crate) fn modified_ms(&self) -> Result<i64, Error> {
        let stat = rustix::fs::stat(&*self.file.path()).at("stat", &self.path)?;
        Ok(stat.st_mtime as i64 * 1000 + stat.st_mtime_nsec as i64 / 1_000_000)
    }

    /// Has everybody who would open a file of the segment wait, while the files are renamed.
    pub(crate) fn hold(&self) -> Held<'_> {
        Held { segment: self, indexes: self.indexes.lock(), file: self.file.hold() }
    }

    /// Renames all files of the segment so that the next start takes them for deleted; returns the new names.
    pub(crate) fn mark_deleted(&self) -> Result<Vec<PathBuf>, Error> {
        let mut held = self.hold();
        let mut renamed = Vec::new();
        let kinds = [files::LOG, files::OFFSET_INDEX, files::TIME_INDEX, files::TXN_INDEX, files::SNAPSHOT];
        for kind in kinds {
            let target = self.path_of(kind, files::DELETED);
            if files::rename(&self.path_of(kind, ""), &target)? {
                renamed.push(target);
            }
        }
        // Readers that still have the segment find its files under their new names.
        held.renamed(files::DELETED);
        Ok(renamed)
    }

    fn path_of(&self, kind: &str, suffix: &str) -> PathBuf {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        files::with_suffix(&files::path(dir, self.base_offset, kind), suffix)
    }
}

/// Whether indexes fit the log file: the last entries must be possible, and not the zeros of a file that was never
/// trimmed.
fn sane(offsets: &IndexFile<OffsetEntry>, times: &IndexFile<TimeEntry>, size: u64) -> bool {
    let offsets_fit = match offsets.last() {
        None => true,
        Some(last) => last.relative >= 0 && last.position > 0 && (last.position as u64) < size,
    };
    let times_fit = match times.last() {
        None => true,
        Some(last) => {
            last.relative >= 0 && last.timestamp >= 0 && size > 0 && (last.timestamp > 0 || times.len() == 1)
        }
    };
    offsets_fit && times_fit
}
