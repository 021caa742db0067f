//! Reading the dirty part of a log for its keys, and writing segments anew.

use std::fs::FileTimes;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aqueduct_protocol::ids::Offset;
use aqueduct_protocol::records::{BatchHeader, RecordError, for_each_raw};

use super::filter::{Filter, control_type, plain_records};
use super::reader::{BatchReader, Read};
use super::transactions::Transactions;
use super::{Cleaned, CleanerLimits, OffsetMap, Pace, swap};
use crate::error::IoContext;
use crate::segment::Segment;
use crate::{AbortedTransaction, Error, LogConfig, TopicPartition, files, txn_index};

/// What both passes share.
pub(crate) struct Pass<'a, 'p> {
    pub(crate) partition: &'a TopicPartition,
    pub(crate) limits: &'a CleanerLimits,
    pub(crate) pace: &'a mut Pace<'p>,
    pub(crate) done: Cleaned,
    /// Room to read into.
    pub(crate) buffer: Vec<u8>,
}

impl Pass<'_, '_> {
    fn go_on(&mut self, bytes: u64) -> Result<(), Error> {
        if (self.pace)(bytes) {
            return Ok(());
        }
        Err(Error::CleaningAborted { partition: self.partition.clone() })
    }

    /// Gathers the keys from `from` up to `end`, where the last of `segments` ends, or as many as there is room for.
    /// `aborted` are the transactions that have records there.
    pub(crate) fn gather(
        &mut self,
        segments: &[Arc<Segment>],
        from: Offset,
        end: Offset,
        aborted: Vec<AbortedTransaction>,
    ) -> Result<OffsetMap, Error> {
        let records = end.0.saturating_sub(from.0).max(0) as u64;
        let mut map = OffsetMap::new(self.limits.dedupe_bytes, self.limits.load_factor, records);
        let mut transactions = Transactions::default();
        transactions.announce(aborted);
        for (index, segment) in segments.iter().enumerate() {
            let next = segments.get(index + 1).map_or(end, |next| next.base_offset);
            if !self.gather_segment(segment, from, &mut map, &mut transactions)? {
                break;
            }
            // Where offsets are missing at the end, nothing is missing in the map.
            map.cover(Offset(next.0 - 1));
        }
        self.done.buffer_utilization = map.utilization();
        if map.latest() < from && end > from {
            let why = format!(
                "the batch here has more keys than the {} that log.cleaner.dedupe.buffer.size has room for; \
                 raise it, or lower log.cleaner.threads",
                map.limit()
            );
            return Err(Error::Uncleanable { partition: self.partition.clone(), offset: from, why });
        }
        Ok(map)
    }

    /// Says whether all of the segment found room.
    fn gather_segment(
        &mut self,
        segment: &Segment,
        from: Offset,
        map: &mut OffsetMap,
        transactions: &mut Transactions,
    ) -> Result<bool, Error> {
        let start = segment.position_before(from)?;
        let buffer = std::mem::take(&mut self.buffer);
        let mut reader = BatchReader::new(segment, start..segment.size(), self.limits.io_bytes, buffer);
        let mut plain = Vec::new();
        while let Some(Read { position, header, batch }) = reader.next()? {
            let damage = |source| segment.damage(position, source);
            self.done.map_records_read += header.record_count.max(0) as u64;
            if header.attributes.is_control() {
                let kind = control_type(&header, batch, &mut plain).map_err(damage)?;
                transactions.on_control(&header, kind);
            } else if !transactions.on_batch(&header) {
                let records = plain_records(&header, batch, &mut plain).map_err(damage)?;
                if !put_all(map, &header, records, from).map_err(damage)? {
                    self.done.map_bytes_read += reader.take_bytes_read();
                    self.buffer = reader.into_buffer();
                    return Ok(false);
                }
            }
            if header.last_offset() >= from {
                map.cover(header.last_offset());
            }
            let bytes = reader.take_bytes_read();
            if bytes > 0 {
                self.done.map_bytes_read += bytes;
                self.go_on(bytes)?;
            }
        }
        self.buffer = reader.into_buffer();
        Ok(true)
    }

    /// Feeds a segment to `filter`, and what is left of it to `output`.
    pub(crate) fn rewrite(
        &mut self,
        segment: &Segment,
        filter: &mut Filter<'_>,
        output: &mut Output,
    ) -> Result<(), Error> {
        let buffer = std::mem::take(&mut self.buffer);
        let mut reader = BatchReader::new(segment, 0..segment.size(), self.limits.io_bytes, buffer);
        while let Some(Read { position, header, batch }) = reader.next()? {
            let start = output.buffer.len();
            let aborted = filter
                .apply(&header, batch, &mut output.buffer)
                .map_err(|source| segment.damage(position, source))?;
            output.aborted.extend(aborted);
            output.note(start)?;
            let written = if output.buffer.len() >= self.limits.io_bytes { output.flush()? } else { 0 };
            let bytes = reader.take_bytes_read();
            self.done.bytes_read += bytes;
            if bytes + written > 0 {
                self.go_on(bytes + written)?;
            }
        }
        self.buffer = reader.into_buffer();
        Ok(())
    }
}

/// Says whether all keys found room.
fn put_all(
    map: &mut OffsetMap,
    header: &BatchHeader,
    records: &[u8],
    from: Offset,
) -> Result<bool, RecordError> {
    let mut has_room = true;
    for_each_raw::<RecordError>(records, |_, raw| {
        let offset = Offset(header.base_offset.0 + i64::from(raw.offset_delta));
        if let Some(key) = raw.key.filter(|_| has_room && offset >= from) {
            has_room = map.put(key, offset);
        }
        Ok(())
    })?;
    Ok(has_room)
}

/// The segment that is being written, under names that a start after a crash removes.
#[derive(Debug)]
pub(crate) struct Output {
    segment: Segment,
    config: Arc<LogConfig>,
    /// Whole batches that are noted, but not in the file yet.
    buffer: Vec<u8>,
    written: u64,
    aborted: Vec<AbortedTransaction>,
}

impl Output {
    pub(crate) fn create(
        dir: &Path,
        base: Offset,
        config: Arc<LogConfig>,
        now_ms: i64,
    ) -> Result<Self, Error> {
        let segment = Segment::create_as(dir, base, files::CLEANED, now_ms)?;
        Ok(Self { segment, config, buffer: Vec::new(), written: 0, aborted: Vec::new() })
    }

    /// Takes note of the batch that was put into the buffer from `start` on, if there is one.
    fn note(&mut self, start: usize) -> Result<(), Error> {
        if start == self.buffer.len() {
            return Ok(());
        }
        let position = self.written + start as u64;
        let header = BatchHeader::parse(&self.buffer[start..])
            .map_err(|source| self.segment.damage(position, source))?;
        self.segment.note(position, &header, &self.config)
    }

    /// Returns the bytes written.
    fn flush(&mut self) -> Result<u64, Error> {
        let bytes = self.buffer.len() as u64;
        self.segment.file()?.write_all_at(&self.buffer, self.written).at("write", self.segment.path())?;
        self.written += bytes;
        self.buffer.clear();
        Ok(bytes)
    }

    /// Bytes of the segment so far.
    pub(crate) fn size(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Makes everything durable; the files then say that they were last written at `modified_ms`.
    pub(crate) fn finish(mut self, dir: &Path, modified_ms: i64) -> Result<Segment, Error> {
        self.flush()?;
        if !self.aborted.is_empty() {
            let path = swap::cleaned_path(dir, self.segment.base_offset, files::TXN_INDEX);
            txn_index::create(&path, &self.aborted)?;
        }
        self.segment.seal()?;
        self.segment.sync()?;
        let modified = SystemTime::UNIX_EPOCH + Duration::from_millis(modified_ms.max(0) as u64);
        let times = FileTimes::new().set_modified(modified);
        self.segment.file()?.set_times(times).at("set the time of", self.segment.path())?;
        Ok(self.segment)
    }
}
