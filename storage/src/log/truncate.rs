use std::sync::Arc;

use aqueduct_protocol::ids::Offset;

use super::{Log, Writer};
use crate::segment::Segment;
use crate::{Error, files, snapshot, txn_index};

impl Log {
    /// Removes all batches that reach to `offset` or beyond, so that the log ends at or before it. For followers whose
    /// leader has another history.
    pub fn truncate_to(&self, offset: Offset, now_ms: i64) -> Result<(), Error> {
        let mut writer = self.writer.lock();
        self.ensure_open(&writer)?;
        let view = self.view.read().clone();
        if offset >= view.end {
            // A reign without a record may stand at the end, which the leader has another history for.
            let mut epochs = self.epochs.write();
            return if epochs.truncate_end(offset) { epochs.store() } else { Ok(()) };
        }
        self.end_generation();
        if offset < view.segments[0].base_offset {
            return self.start_over(&mut writer, offset, now_ms);
        }
        let index = view.segment_of(offset);
        let segment = view.segments[index].clone();
        let (_, end) = view.segment_end(index);
        let (position, end) = match segment.find(offset, end)? {
            // The log then ends with the batch before, which compaction may have moved away from `offset`.
            Some((position, header)) => (position, offset.min(header.base_offset)),
            None => (end, offset),
        };
        let removed = view.segments[index + 1..].to_vec();
        let kept = Arc::new(view.segments[..=index].to_vec());
        self.publish(|view| {
            view.segments = kept;
            view.end = end;
            view.end_position = position;
            view.start = view.start.min(end);
            view.high_watermark = view.high_watermark.min(end);
        });
        self.doom(&removed, now_ms)?;
        segment.truncate(position, end)?;
        txn_index::truncate(&self.dir, segment.base_offset, end)?;
        self.after_truncation(&mut writer, end)
    }

    /// Removes everything; the log then is empty and begins at `offset`.
    pub fn truncate_fully_and_start_at(&self, offset: Offset, now_ms: i64) -> Result<(), Error> {
        let mut writer = self.writer.lock();
        self.ensure_open(&writer)?;
        self.start_over(&mut writer, offset, now_ms)
    }

    fn start_over(&self, writer: &mut Writer, offset: Offset, now_ms: i64) -> Result<(), Error> {
        self.end_generation();
        let removed = self.view.read().segments.clone();
        self.doom(&removed, now_ms)?;
        let segment = Segment::create(&self.dir, offset, &self.config(), now_ms)?;
        self.publish(|view| {
            view.segments = Arc::new(vec![Arc::new(segment)]);
            view.start = offset;
            view.end = offset;
            view.end_position = 0;
            view.high_watermark = offset;
        });
        self.after_truncation(writer, offset)
    }

    fn after_truncation(&self, writer: &mut Writer, end: Offset) -> Result<(), Error> {
        self.recovery_point.fetch_min(end.0, std::sync::atomic::Ordering::AcqRel);
        let mut epochs = self.epochs.write();
        if epochs.truncate_end(end) {
            epochs.store()?;
        }
        drop(epochs);
        for name in files::names(&self.dir)? {
            if let Some((at, files::SNAPSHOT)) = files::parse(&name)
                && at > end
            {
                files::remove(&self.dir.join(name))?;
            }
        }
        self.load_producers(writer, end, &files::names(&self.dir)?)?;
        snapshot::write(&self.dir, end, &writer.producers)?;
        writer.snapshot_at = Some(end);
        Ok(())
    }
}
