use std::sync::Arc;

use aqueduct_protocol::ids::Offset;

use super::{Doomed, Log, View};
use crate::segment::Segment;
use crate::{Error, LogConfig, files};

impl Log {
    /// Removes the oldest segments that are past `retention.ms` or `retention.bytes`, or lie below the log start offset;
    /// only such as lie below the high watermark. Returns how many.
    ///
    /// Files are renamed; [`Log::reap`] unlinks them when readers have had `file.delete.delay.ms`.
    pub fn apply_retention(&self, now_ms: i64) -> Result<usize, Error> {
        let config = self.config();
        let mut writer = self.writer.lock();
        self.ensure_open(&writer)?;
        let view = self.view.read().clone();
        let count = deletable(&view, &config, now_ms)?;
        if count == 0 {
            return Ok(0);
        }
        if count == view.segments.len() {
            self.roll(&mut writer, view.end, now_ms)?;
        }
        let mut segments = self.view.read().segments.to_vec();
        let old: Vec<_> = segments.drain(..count).collect();
        let first = segments[0].base_offset;
        self.publish(|view| {
            view.segments = Arc::new(segments);
            view.start = view.start.max(first);
            view.high_watermark = view.high_watermark.max(view.start);
        });
        self.forget_epochs_before(self.log_start_offset())?;
        tracing::info!(partition = %self.partition, segments = count, start = first.0, "old segments are removed");
        self.doom(&old, now_ms)?;
        Ok(count)
    }

    /// Moves the log start offset up to `offset`: what lies below is not served any more, and its segments go with the
    /// next [`Log::apply_retention`]. Returns the log start offset.
    pub fn delete_records_before(&self, offset: Offset) -> Result<Offset, Error> {
        let writer = self.writer.lock();
        self.ensure_open(&writer)?;
        let view = self.view.read().clone();
        if offset > view.high_watermark {
            let (start, end) = (view.start, view.high_watermark);
            return Err(Error::OffsetOutOfRange { partition: self.partition.clone(), offset, start, end });
        }
        if offset > view.start {
            self.publish(|view| view.start = offset);
            self.forget_epochs_before(offset)?;
        }
        Ok(offset.max(view.start))
    }

    /// Unlinks files that were removed from the log at least `file.delete.delay.ms` before. Returns how many.
    pub fn reap(&self, now_ms: i64) -> Result<usize, Error> {
        let mut due = Vec::new();
        // A clock that was set back must not keep them for as long as it was ahead.
        let latest = now_ms.saturating_add(self.config().file_delete_delay_ms);
        self.doomed.lock().retain_mut(|doomed| {
            doomed.due_ms = doomed.due_ms.min(latest);
            // One reference is ours; a reader that has another may still open an index.
            let is_due = doomed.due_ms <= now_ms && Arc::strong_count(&doomed.segment) == 1;
            if is_due {
                due.append(&mut doomed.paths);
            }
            !is_due
        });
        due.iter().try_for_each(|path| files::remove(path))?;
        Ok(due.len())
    }

    /// Renames the files of segments that are out of the log, for [`Log::reap`].
    pub(super) fn doom(&self, segments: &[Arc<Segment>], now_ms: i64) -> Result<(), Error> {
        let due_ms = now_ms.saturating_add(self.config().file_delete_delay_ms);
        for segment in segments {
            let paths = segment.mark_deleted()?;
            self.doomed.lock().push(Doomed { due_ms, segment: segment.clone(), paths });
        }
        Ok(())
    }

    fn forget_epochs_before(&self, start: Offset) -> Result<(), Error> {
        let mut epochs = self.epochs.write();
        if epochs.truncate_start(start) { epochs.store() } else { Ok(()) }
    }
}

/// How many segments, from the oldest on, may go.
fn deletable(view: &View, config: &LogConfig, now_ms: i64) -> Result<usize, Error> {
    let mut excess = match u64::try_from(config.retention_bytes) {
        Ok(limit) => view.size().saturating_sub(limit),
        Err(_) => 0,
    };
    let mut count = 0;
    for (index, segment) in view.segments.iter().enumerate() {
        let (next, size) = view.segment_end(index);
        let is_active = index + 1 == view.segments.len();
        if next > view.high_watermark || (is_active && size == 0) {
            break;
        }
        let below_start = !is_active && next <= view.start;
        let too_much = config.delete && size > 0 && excess >= size;
        if !(below_start || too_much || (config.delete && is_old(segment, config, now_ms)?)) {
            break;
        }
        excess = excess.saturating_sub(size);
        count += 1;
    }
    Ok(count)
}

fn is_old(segment: &Segment, config: &LogConfig, now_ms: i64) -> Result<bool, Error> {
    if config.retention_ms < 0 {
        return Ok(false);
    }
    let newest = match segment.max_timestamp() {
        Some((timestamp, _)) => timestamp,
        None => segment.modified_ms()?,
    };
    Ok(now_ms.saturating_sub(newest) > config.retention_ms)
}
