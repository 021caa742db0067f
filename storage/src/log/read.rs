use std::fs::File;
use std::io::IoSliceMut;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use aqueduct_protocol::ids::{LeaderEpoch, Offset};
use aqueduct_protocol::records::{BatchHeader, NO_TIMESTAMP, RecordBatch};
use bytes::Bytes;

use super::{Log, View};
use crate::error::IoContext;
use crate::scan::{Scan, Step};
use crate::segment::Segment;
use crate::{AbortedTransaction, Error};

/// Batches that lie one after the other in a log file. The file stays readable while the slice lives, even if retention
/// removes it from the log.
#[derive(Clone, Debug)]
pub struct Slice {
    /// None where there is nothing to read.
    file: Option<Arc<File>>,
    /// Where the first batch begins.
    pub position: u64,
    /// Bytes; 0 where there is nothing to read. The last batch may be cut, as Fetch allows, the first one is whole.
    pub len: usize,
    /// Base offset of the first batch, which may lie below the offset asked for; the offset asked for if there is none.
    pub base_offset: Offset,
    /// Whether it is copied to another broker, and need not stay in the page cache for that.
    pub read_once: bool,
}

impl Slice {
    /// Whether there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A stretch of any file.
    pub fn new(file: Arc<File>, position: u64, len: usize, base_offset: Offset) -> Self {
        Self { file: Some(file), position, len, base_offset, read_once: false }
    }

    /// The file that the bytes are in.
    ///
    /// # Errors
    /// Where there is nothing to read, and so no file.
    pub fn file(&self) -> std::io::Result<&File> {
        self.file.as_deref().ok_or_else(|| std::io::Error::other("a slice of nothing has no file"))
    }

    /// Copies the bytes out of the file; blocks where they are not in the page cache.
    pub fn read_to_bytes(&self) -> std::io::Result<Bytes> {
        if self.is_empty() {
            return Ok(Bytes::new());
        }
        let mut bytes = vec![0; self.len];
        self.file()?.read_exact_at(&mut bytes, self.position)?;
        Ok(bytes.into())
    }

    /// Copies as many bytes, from `from` bytes into the slice on, as can be had without waiting for the disk; `None`
    /// where that is none.
    pub fn read_nowait(&self, from: usize, into: &mut [u8]) -> std::io::Result<Option<usize>> {
        let want = into.len().min(self.len.saturating_sub(from));
        let mut buffers = [IoSliceMut::new(&mut into[..want])];
        let flags = rustix::io::ReadWriteFlags::NOWAIT;
        match rustix::io::preadv2(self.file()?, &mut buffers, self.position + from as u64, flags) {
            Ok(count) => Ok(Some(count)),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::OPNOTSUPP) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// A record found by its timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampedOffset {
    pub offset: Offset,
    pub timestamp: i64,
    /// Of the leader that wrote it; -1 where unknown.
    pub leader_epoch: LeaderEpoch,
}

impl Log {
    /// Finds the batches from `offset` on that end below `upper_bound`, at most `max_bytes` of one segment.
    ///
    /// The slice starts with the batch that holds `offset`. If that batch alone is larger than `max_bytes`, it is
    /// returned whole with `at_least_one`, and nothing is returned without. Nothing, too, if `offset` is at or above
    /// `upper_bound`. [`Error::OffsetOutOfRange`] if the log does not reach from below to `offset`.
    pub fn read(
        &self,
        offset: Offset,
        max_bytes: usize,
        upper_bound: Offset,
        at_least_one: bool,
    ) -> Result<Slice, Error> {
        let view = self.view.read().clone();
        Ok(self.find(&view, offset, max_bytes, upper_bound, at_least_one)?.0)
    }

    /// The same, with the aborted transactions that may have records in the slice, for a Fetch of committed records. They
    /// are those of the segments that the slice was found in, even if compaction puts others in their place meanwhile.
    pub fn read_with_aborted(
        &self,
        offset: Offset,
        max_bytes: usize,
        upper_bound: Offset,
        at_least_one: bool,
    ) -> Result<(Slice, Vec<AbortedTransaction>), Error> {
        let view = self.view.read().clone();
        let (slice, index) = self.find(&view, offset, max_bytes, upper_bound, at_least_one)?;
        if slice.is_empty() {
            return Ok((slice, Vec::new()));
        }
        let end = slice.position + slice.len as u64;
        let behind = view.segments[index].offset_after(end)?;
        let to = behind.unwrap_or(view.segment_end(index).0);
        let aborted = aborted_between(&view.segments[index..], offset, to)?;
        Ok((slice, aborted))
    }

    /// A slice, and the index of its segment.
    pub(super) fn find(
        &self,
        view: &View,
        offset: Offset,
        max_bytes: usize,
        upper_bound: Offset,
        at_least_one: bool,
    ) -> Result<(Slice, usize), Error> {
        if offset < view.start || offset > view.end {
            let (start, end) = (view.start, view.end);
            return Err(Error::OffsetOutOfRange { partition: self.partition.clone(), offset, start, end });
        }
        let active = view.segments.len() - 1;
        let nothing = Slice { file: None, position: 0, len: 0, base_offset: offset, read_once: false };
        if offset >= upper_bound {
            return Ok((nothing, active));
        }
        // The batch can be in a later segment, where compaction removed the end of one.
        for index in view.segment_of(offset)..view.segments.len() {
            let segment = &view.segments[index];
            let (next, end) = view.segment_end(index);
            let Some((position, header)) = segment.find(offset, end)? else { continue };
            let end = if upper_bound >= next {
                end
            } else {
                segment.find(upper_bound, end)?.map_or(end, |(position, _)| position)
            };
            let (first, available) = (header.size(), end.saturating_sub(position));
            if available < first as u64 || (max_bytes < first && !at_least_one) {
                return Ok((nothing, active));
            }
            let len = max_bytes.max(first).min(usize::try_from(available).unwrap_or(usize::MAX));
            return Ok((Slice::new(segment.file()?, position, len, header.base_offset), index));
        }
        Ok((nothing, active))
    }

    /// The first record that is not older than `timestamp`; `None` if all are.
    pub fn offset_for_timestamp(&self, timestamp: i64) -> Result<Option<TimestampedOffset>, Error> {
        let view = self.view.read().clone();
        for (index, segment) in view.segments.iter().enumerate() {
            if segment.max_timestamp().is_none_or(|(max, _)| max < timestamp) {
                continue;
            }
            let (_, end) = view.segment_end(index);
            let mut scan = segment.scan(segment.find_timestamp(timestamp, end)?, end, Scan::LOOKUP)?;
            while let Some((position, header)) = self.next_batch(segment, &mut scan)? {
                if header.max_timestamp < timestamp || header.last_offset() < view.start {
                    continue;
                }
                let found = self.first_record(segment, position, header, |offset, time| {
                    time >= timestamp && offset >= view.start
                })?;
                if found.is_some() {
                    return Ok(found);
                }
            }
        }
        Ok(None)
    }

    /// The first record with the largest timestamp; `None` if the log is empty or no record has a timestamp.
    pub fn max_timestamp(&self) -> Result<Option<TimestampedOffset>, Error> {
        let view = self.view.read().clone();
        let mut newest: Option<(usize, i64, Offset)> = None;
        for (index, segment) in view.segments.iter().enumerate() {
            let Some((timestamp, offset)) = segment.max_timestamp() else { continue };
            if newest.is_none_or(|(_, known, _)| timestamp > known) {
                newest = Some((index, timestamp, offset));
            }
        }
        let Some((index, timestamp, offset)) = newest else { return Ok(None) };
        let (segment, (_, end)) = (&view.segments[index], view.segment_end(index));
        let Some((position, header)) = segment.find(offset, end)? else { return Ok(None) };
        self.first_record(segment, position, header, |_, time| time >= timestamp)
    }

    /// The aborted transactions that have records from `from` to before `to`. For what goes with a slice of the log, see
    /// [`Log::read_with_aborted`].
    pub fn aborted_transactions(&self, from: Offset, to: Offset) -> Result<Vec<AbortedTransaction>, Error> {
        let view = self.view.read().clone();
        aborted_between(&view.segments[view.segment_of(from)..], from, to)
    }

    fn next_batch(
        &self,
        segment: &Segment,
        scan: &mut Scan<'_>,
    ) -> Result<Option<(u64, BatchHeader)>, Error> {
        match scan.step()? {
            Step::Batch { position, header } => Ok(Some((position, header))),
            Step::End => Ok(None),
            Step::Torn(error) => Err(segment.damage(scan.position(), error)),
        }
    }

    fn first_record(
        &self,
        segment: &Segment,
        position: u64,
        header: BatchHeader,
        wanted: impl Fn(Offset, i64) -> bool,
    ) -> Result<Option<TimestampedOffset>, Error> {
        let corrupt = |source| Error::CorruptMessage { partition: self.partition.clone(), source };
        let batch = read_batch(segment, position, header)?;
        for record in batch.records().map_err(corrupt)? {
            let record = record.map_err(corrupt)?;
            if record.timestamp != NO_TIMESTAMP && wanted(record.offset, record.timestamp) {
                let (offset, timestamp) = (record.offset, record.timestamp);
                return Ok(Some(TimestampedOffset { offset, timestamp, leader_epoch: header.leader_epoch }));
            }
        }
        Ok(None)
    }
}

/// The aborted transactions that have records from `from`, which is in the first of `segments`, to before `to`.
pub(super) fn aborted_between(
    segments: &[Arc<Segment>],
    from: Offset,
    to: Offset,
) -> Result<Vec<AbortedTransaction>, Error> {
    let mut found = Vec::new();
    for segment in segments {
        for aborted in segment.aborted_transactions()? {
            if aborted.last_offset >= from && aborted.first_offset < to {
                found.push(aborted);
            }
            if aborted.last_stable_offset >= to {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

/// Reads one batch that a scan has found.
pub(super) fn read_batch(
    segment: &Segment,
    position: u64,
    header: BatchHeader,
) -> Result<RecordBatch, Error> {
    // The scan has made sure that the file holds as many bytes.
    let mut bytes = vec![0; header.size()];
    segment.file()?.read_exact_at(&mut bytes, position).at("read", segment.path())?;
    Ok(RecordBatch { header, bytes: bytes.into() })
}

impl View {
    /// Bytes of all segments.
    pub(super) fn size(&self) -> u64 {
        self.segments.iter().map(|s| s.size()).sum()
    }
}
