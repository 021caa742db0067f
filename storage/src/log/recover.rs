//! What is done with the files of a log before it is served.

use std::collections::BTreeSet;
use std::path::Path;

use aqueduct_protocol::ids::Offset;
use aqueduct_protocol::records::{BatchHeader, RecordError};

use super::read::read_batch;
use super::{Log, Recovery, View, Writer};
use crate::epochs::LeaderEpochs;
use crate::producers::Producers;
use crate::scan::{Scan, Step};
use crate::segment::Segment;
use crate::{Error, LogConfig, TopicPartition, files, snapshot, txn_index};

/// Loads the segments of a directory.
pub(super) struct Loader<'a> {
    pub(super) dir: &'a Path,
    pub(super) partition: &'a TopicPartition,
    pub(super) config: &'a LogConfig,
    pub(super) now_ms: i64,
    pub(super) epochs: LeaderEpochs,
    /// The files of the directory.
    pub(super) names: Vec<String>,
    /// Base of the first segment that was not taken as it is.
    pub(super) first_recovered: Option<Offset>,
}

impl Loader<'_> {
    /// The sound segments in order, and the offset after the last of them. None if the log must start over.
    pub(super) fn load(&mut self, recovery: &Recovery) -> Result<(Vec<Segment>, Offset), Error> {
        // Listed once, where there are thousands of logs to open.
        self.names = files::names(self.dir)?;
        if self
            .names
            .iter()
            .any(|name| [files::CLEANED, files::SWAP, files::DELETED].iter().any(|s| name.ends_with(s)))
        {
            self.finish_replacements()?;
            self.names = files::names(self.dir)?;
        }
        let bases = self.sweep()?;
        let mut segments = Vec::with_capacity(bases.len());
        let mut sane = Vec::with_capacity(bases.len());
        for base in &bases {
            let (segment, is_sane) = Segment::open(self.dir, *base, self.now_ms)?;
            segments.push(segment);
            sane.push(is_sane);
        }
        let mut end = recovery.log_start;
        for index in 0..segments.len() {
            let next_base = segments.get(index + 1).map(|s| s.base_offset);
            let uncertain = !recovery.clean && next_base.is_none_or(|next| next > recovery.recovery_point);
            let segment = &segments[index];
            let sound = match next_base {
                _ if uncertain || !sane[index] => None,
                Some(next) => Some(next),
                None => self.walk_tail(segment)?,
            };
            end = match sound {
                Some(end) => end,
                None => {
                    let (recovered, cut) = self.recover(segment, next_base)?;
                    if cut && next_base.is_some() {
                        self.drop_from(&mut segments, index + 1)?;
                        end = recovered;
                        break;
                    }
                    next_base.unwrap_or(recovered)
                }
            };
        }
        if end < recovery.log_start {
            tracing::warn!(partition = %self.partition, end = end.0, start = recovery.log_start.0,
                "the log ends before its start offset and starts over");
            self.drop_from(&mut segments, 0)?;
            self.epochs.clear();
            return Ok((Vec::new(), recovery.log_start));
        }
        if self.epochs.latest().is_none() {
            self.find_epochs(&segments)?;
        }
        Ok((segments, end))
    }

    /// Completes or undoes what compaction was about when it was stopped: `.swap` files replace the segments that they
    /// were made from, unless some of their kind are still `.cleaned`.
    fn finish_replacements(&self) -> Result<(), Error> {
        let names = &self.names;
        let with = |suffix: &str| -> Vec<(Offset, &str)> {
            let found =
                names.iter().filter_map(|name| Some((files::parse(name.strip_suffix(suffix)?)?.0, &**name)));
            found.collect()
        };
        let first_cleaned = with(files::CLEANED).first().map(|(base, _)| *base);
        for name in names.iter().filter(|n| n.ends_with(files::CLEANED) || n.ends_with(files::DELETED)) {
            files::remove(&self.dir.join(name))?;
        }
        let (undone, swaps): (Vec<_>, Vec<_>) = with(files::SWAP)
            .into_iter()
            .partition(|(base, _)| first_cleaned.is_some_and(|first| *base >= first));
        for (_, name) in undone {
            files::remove(&self.dir.join(name))?;
        }
        let mut replaced: Option<(Offset, Offset)> = None;
        for (base, name) in &swaps {
            if files::parse(name).is_some_and(|(_, kind)| kind.starts_with("log.")) {
                let end = self.end_of_file(*base, &self.dir.join(name))?;
                let (low, high) = replaced.unwrap_or((*base, end));
                replaced = Some((low.min(*base), high.max(end)));
            }
        }
        if let Some((low, high)) = replaced {
            for name in names {
                let kinds = [files::LOG, files::OFFSET_INDEX, files::TIME_INDEX, files::TXN_INDEX];
                if let Some((base, kind)) = files::parse(name)
                    && kinds.contains(&kind)
                    && (low..high).contains(&base)
                {
                    files::remove(&self.dir.join(name))?;
                }
            }
        }
        for (_, name) in swaps {
            let plain = name.strip_suffix(files::SWAP).unwrap_or(name);
            files::rename(&self.dir.join(name), &self.dir.join(plain))?;
        }
        Ok(())
    }

    /// The offset after the last batch of a log file.
    fn end_of_file(&self, base: Offset, path: &Path) -> Result<Offset, Error> {
        use crate::error::IoContext;
        let file = std::sync::Arc::new(std::fs::File::open(path).at("open", path)?);
        let size = file.metadata().at("stat", path)?.len();
        let mut scan = Scan::new(file, path, 0..size, Scan::SEQUENTIAL);
        let mut end = base;
        while let Step::Batch { header, .. } = scan.step()? {
            end = header.next_offset();
        }
        Ok(end)
    }

    /// Removes indexes without a log and unfinished writes; returns the base offsets of the segments.
    fn sweep(&self) -> Result<BTreeSet<Offset>, Error> {
        let parsed = || self.names.iter().filter_map(|name| Some((files::parse(name)?, name)));
        let bases: BTreeSet<Offset> =
            parsed().filter(|((_, kind), _)| *kind == files::LOG).map(|((base, _), _)| base).collect();
        for ((base, kind), name) in parsed() {
            let is_index = [files::OFFSET_INDEX, files::TIME_INDEX, files::TXN_INDEX].contains(&kind);
            if is_index && !bases.contains(&base) {
                tracing::warn!(partition = %self.partition, file = name, "an index without its log is removed");
                files::remove(&self.dir.join(name))?;
            }
        }
        Ok(bases)
    }

    /// Walks over what the indexes of a trusted segment do not cover; returns the offset after the segment, or `None` if
    /// it is not sound after all.
    fn walk_tail(&self, segment: &Segment) -> Result<Option<Offset>, Error> {
        let mut scan = segment.scan(segment.last_indexed(), segment.size(), Scan::LOOKUP)?;
        let mut end = segment.base_offset;
        loop {
            match scan.step()? {
                Step::Batch { header, .. } => {
                    segment.observe(&header);
                    end = header.next_offset();
                }
                Step::End => return Ok(Some(end)),
                Step::Torn(_) => return Ok(None),
            }
        }
    }

    /// Reads a segment, builds its indexes anew and cuts it before the first batch that is not sound. Returns the offset
    /// after it and whether it was cut.
    fn recover(&mut self, segment: &Segment, next_base: Option<Offset>) -> Result<(Offset, bool), Error> {
        self.first_recovered.get_or_insert(segment.base_offset);
        segment.reset_indexes()?;
        let size = segment.size();
        let mut scan = segment.scan(0, size, Scan::SEQUENTIAL)?;
        let mut end = segment.base_offset;
        // The last batch, if offsets leap to it, and the offset before the leap. Compaction leaves such gaps, and so does
        // damage to a base offset, which no checksum covers.
        let mut leap = None;
        let mut new_epochs = false;
        let torn = loop {
            let (position, header) = match scan.step()? {
                Step::Batch { position, header } => (position, header),
                Step::End => break None,
                Step::Torn(error) => break Some((scan.position(), error)),
            };
            if let Err(error) = check_offsets(&header, segment.base_offset, end, next_base) {
                let (position, before) = leap.unwrap_or((position, end));
                end = before;
                break Some((position, error));
            }
            if let Err(error) = scan.check_crc(position, &header)? {
                break Some((position, error));
            }
            segment.note(position, &header, self.config)?;
            new_epochs |= self.epochs.insert(header.leader_epoch, header.base_offset);
            leap = (header.base_offset > end).then_some((position, end));
            end = header.next_offset();
        };
        if let Some((position, error)) = &torn {
            tracing::warn!(partition = %self.partition, segment = segment.base_offset.0, position, lost = size - position,
                %error, "the log is cut before bytes that are not a sound batch");
            segment.truncate(*position, end)?;
        }
        segment.seal()?;
        txn_index::truncate(self.dir, segment.base_offset, end)?;
        if new_epochs {
            self.epochs.store()?;
        }
        Ok((end, torn.is_some()))
    }

    fn find_epochs(&mut self, segments: &[Segment]) -> Result<(), Error> {
        for segment in segments {
            let mut scan = segment.scan(0, segment.size(), Scan::SEQUENTIAL)?;
            while let Step::Batch { header, .. } = scan.step()? {
                self.epochs.insert(header.leader_epoch, header.base_offset);
            }
        }
        if self.epochs.latest().is_some() { self.epochs.store() } else { Ok(()) }
    }

    fn drop_from(&self, segments: &mut Vec<Segment>, index: usize) -> Result<(), Error> {
        for segment in segments.drain(index..) {
            tracing::warn!(partition = %self.partition, segment = segment.base_offset.0, "a segment is dropped");
            for path in segment.mark_deleted()? {
                files::remove(&path)?;
            }
        }
        Ok(())
    }
}

/// Whether a batch of the segment that begins at `base` may stand where the offsets have come to `end`. What is further from
/// the base than an index can say was never written: its base offset is damaged.
fn check_offsets(
    header: &BatchHeader,
    base: Offset,
    end: Offset,
    next_base: Option<Offset>,
) -> Result<(), RecordError> {
    let is_near = header.base_offset >= end
        && header.last_offset_delta >= 0
        && header
            .base_offset
            .0
            .checked_add(header.last_offset_delta.into())
            .is_some_and(|last| i32::try_from(last - base.0).is_ok());
    if is_near && next_base.is_none_or(|next| header.last_offset() < next) {
        return Ok(());
    }
    let (found, expected) = (header.base_offset.0, end.0);
    Err(RecordError::WrongBaseOffset { found, expected })
}

impl Log {
    /// Loads the producers from the newest sound snapshot at or before `newest`, and reads the log from there on.
    pub(super) fn load_producers(
        &self,
        writer: &mut Writer,
        newest: Offset,
        names: &[String],
    ) -> Result<(), Error> {
        let view = self.view.read().clone();
        let (found, producers) = self.newest_snapshot(newest, view.end, names)?;
        writer.producers = producers;
        writer.snapshot_at = found;
        if let Some(at) = found {
            self.recall_batches(writer, &view, at)?;
        }
        let mut from = found.unwrap_or(Offset(0));
        from = from.max(view.segments[0].base_offset);
        for index in view.segment_of(from)..view.segments.len() {
            let (segment, (next, end)) = (&view.segments[index], view.segment_end(index));
            if from >= next {
                continue;
            }
            let Some((start, _)) = segment.find(from, end)? else { continue };
            let mut scan = segment.scan(start, end, Scan::SEQUENTIAL)?;
            while let Step::Batch { position, header } = scan.step()? {
                if !header.has_producer() || header.base_offset < from {
                    continue;
                }
                let marker = match header.attributes.is_control() {
                    true => self.marker(&header, &read_batch(segment, position, header)?.bytes)?,
                    false => None,
                };
                self.note_producer(writer, segment.base_offset, &header, marker)?;
            }
        }
        writer.producers.on_high_watermark(view.high_watermark);
        let first_unstable = writer.producers.first_unstable();
        self.publish(|view| view.first_unstable = first_unstable);
        Ok(())
    }

    /// A snapshot has the last batch of each producer, as Kafka's do; a client may send those before it again, too. They are looked
    /// for where they are likely to be: in the last part of the log before the snapshot.
    fn recall_batches(&self, writer: &mut Writer, view: &View, at: Offset) -> Result<(), Error> {
        /// More than five batches of several producers of the usual size.
        const PART: u64 = 4 << 20;
        const MOST_SEGMENTS: usize = 8;
        if writer.producers.is_empty() || at <= view.segments[0].base_offset {
            return Ok(());
        }
        let (mut left, mut parts) = (PART, Vec::new());
        let last = view.segment_of(Offset(at.0 - 1));
        for index in (0..=last).rev().take(MOST_SEGMENTS) {
            let (segment, (_, mut end)) = (&view.segments[index], view.segment_end(index));
            if index == last {
                end = segment.find(at, end)?.map_or(end, |(position, _)| position);
            }
            let from = match end.checked_sub(left) {
                Some(position) => segment.offset_after(position)?,
                None => Some(segment.base_offset),
            };
            let found = from.and_then(|from| segment.find(from, end).transpose()).transpose()?;
            let Some((start, _)) = found else { break };
            // Only headers count: with batches of the usual size their records are passed over.
            let mut headers = Vec::new();
            let mut scan = segment.scan(start, end, Scan::LOOKUP)?;
            while let Step::Batch { header, .. } = scan.step()? {
                if header.has_producer() {
                    headers.push(header);
                }
            }
            parts.push(headers);
            left = left.saturating_sub(end - start);
            if left == 0 {
                break;
            }
        }
        writer.producers.recall(parts.into_iter().rev().flatten());
        Ok(())
    }

    /// Removes snapshots of former shutdowns: only those where a segment begins, and the newest, are of use.
    pub(super) fn remove_stray_snapshots(&self, names: &[String]) -> Result<(), Error> {
        let is_snapshot =
            |name: &&String| files::parse(name).is_some_and(|(_, kind)| kind == files::SNAPSHOT);
        if names.iter().filter(is_snapshot).count() <= 1 {
            return Ok(());
        }
        let view = self.view.read().clone();
        let names = files::names(&self.dir)?;
        let snapshots: Vec<_> = names
            .iter()
            .filter_map(|name| {
                files::parse(name).filter(|(_, kind)| *kind == files::SNAPSHOT).map(|(at, _)| (at, name))
            })
            .collect();
        let older = snapshots.split_last().map_or(&[][..], |(_, older)| older);
        for (at, name) in older {
            if view.segments.binary_search_by_key(at, |s| s.base_offset).is_err() {
                files::remove(&self.dir.join(name))?;
            }
        }
        Ok(())
    }

    /// The newest snapshot at or before `newest` that can be read; damaged ones and those behind `end` are removed.
    fn newest_snapshot(
        &self,
        newest: Offset,
        end: Offset,
        names: &[String],
    ) -> Result<(Option<Offset>, Producers), Error> {
        for name in names.iter().rev() {
            let Some((at, files::SNAPSHOT)) = files::parse(name) else { continue };
            if newest < at && at <= end {
                continue;
            }
            if at <= newest {
                match snapshot::read(&self.dir, at) {
                    Ok(producers) => return Ok((Some(at), producers)),
                    Err(error) => {
                        tracing::warn!(partition = %self.partition, %error, "a snapshot is passed over")
                    }
                }
            }
            files::remove(&self.dir.join(name))?;
        }
        Ok((None, Producers::default()))
    }
}
