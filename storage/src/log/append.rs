use std::io::IoSlice;
use std::sync::Arc;

use aqueduct_protocol::ids::{LeaderEpoch, Offset, ProducerId};
use aqueduct_protocol::records::{
    BatchHeader, Batches, EndTransactionMarker, HEADER_LEN, RecordBatch, compute_crc, extend_crc,
    patch_base_offset, patch_crc_value, patch_leader_epoch, patch_timestamps,
};
use bytes::Bytes;

use super::{Log, Writer};
use crate::error::IoContext;
use crate::producers::{EndedTransaction, Refusal};
use crate::segment::Segment;
use crate::validate::{self, Checked, Origin};
use crate::{AbortedTransaction, Error, Newcomer, Terms, VerificationGuard, snapshot, txn_index};

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendInfo {
    pub first_offset: Offset,
    pub last_offset: Offset,
    /// For the Produce response: the time of the append on topics with log append time, the stored timestamp for a
    /// duplicate, otherwise -1.
    pub log_append_time: i64,
    pub log_start_offset: Offset,
    /// The batch was in the log already; nothing was written.
    pub duplicate: bool,
    /// A segment was closed, which [`Log::flush_closed_segments`] makes durable.
    pub rolled: bool,
}

impl Log {
    /// Appends one batch as the leader in `leader_epoch`: checks it, gives it offsets and, on topics with log append
    /// time, the time, and writes it to the page cache.
    ///
    /// The high watermark stays where it is. Errors leave the log as it was.
    pub fn append_as_leader(
        &self,
        batch: Bytes,
        leader_epoch: LeaderEpoch,
        terms: impl Into<Terms>,
        now_ms: i64,
    ) -> Result<AppendInfo, Error> {
        let config = self.config();
        let terms = terms.into();
        let checked = validate::check(&self.partition, &batch, &config, terms.origin, now_ms)?;
        let marker = self.marker(&checked.header, &batch)?;
        let mut writer = self.writer.lock();
        self.ensure_open(&writer)?;
        self.ensure_not_fenced(&writer, leader_epoch)?;
        if let Some(duplicate) = self.check_producer(&writer, &checked.header, marker, &terms)? {
            return Ok(duplicate);
        }
        let (head, header) = self.finish_header(&batch, &checked, leader_epoch)?;
        let rolled = self.write_batch(&mut writer, &head, &batch[HEADER_LEN..], &header, marker, now_ms)?;
        self.flush_if_many(&mut writer, config.flush_messages, now_ms)?;
        Ok(AppendInfo {
            first_offset: header.base_offset,
            last_offset: header.last_offset(),
            log_append_time: match checked.stamp {
                Some((aqueduct_protocol::records::TimestampType::LogAppendTime, time)) => time,
                _ => -1,
            },
            log_start_offset: self.log_start_offset(),
            duplicate: false,
            rolled,
        })
    }

    /// Begins to verify that a producer's transaction includes this partition; `None` where nothing has to be verified
    /// because the transaction is open here already. The guard is good for one append, and until the transaction ends.
    pub fn begin_verification(&self, producer: Newcomer, now_ms: i64) -> Option<VerificationGuard> {
        self.writer.lock().producers.begin_verification(producer, now_ms)
    }

    /// Whether a guard that was given to a producer is still good. It is not once one of the producer's transactions has
    /// ended here, be it the one before: its marker may come late.
    pub fn is_verifying(&self, producer: ProducerId, guard: VerificationGuard) -> bool {
        self.writer.lock().producers.is_verifying(producer, guard)
    }

    /// Appends whole batches as their leader wrote them; a last one that is cut short is left out. Returns the new end of
    /// the log. Offsets may not go back, and no batch may come from a leader newer than `leader_epoch`.
    pub fn append_as_follower(
        &self,
        batches: Bytes,
        leader_epoch: LeaderEpoch,
        now_ms: i64,
    ) -> Result<Offset, Error> {
        let corrupt = |source| Error::CorruptMessage { partition: self.partition.clone(), source };
        let mut writer = self.writer.lock();
        self.ensure_open(&writer)?;
        self.ensure_not_fenced(&writer, leader_epoch)?;
        for batch in Batches::new(batches) {
            let batch = batch.map_err(corrupt)?;
            batch.check_crc().map_err(corrupt)?;
            let (header, expected) = (batch.header, self.log_end_offset());
            let partition = self.partition.clone();
            if header.base_offset < expected || header.last_offset_delta < 0 {
                return Err(Error::UnexpectedAppendOffset { partition, found: header.base_offset, expected });
            }
            if header.leader_epoch > leader_epoch {
                let (offset, found) = (header.base_offset, header.leader_epoch);
                return Err(Error::UnexpectedLeaderEpoch {
                    partition,
                    offset,
                    found,
                    expected: leader_epoch,
                });
            }
            let marker = self.marker(&header, &batch.bytes)?;
            let (head, body) = batch.bytes.split_at(HEADER_LEN);
            self.write_batch(&mut writer, head, body, &header, marker, now_ms)?;
        }
        self.flush_if_many(&mut writer, self.config().flush_messages, now_ms)?;
        Ok(self.log_end_offset())
    }

    /// Flushes if `most` records (`flush.messages`) are not on disk for certain.
    fn flush_if_many(&self, writer: &mut Writer, most: i64, now_ms: i64) -> Result<(), Error> {
        if self.log_end_offset().0.saturating_sub(self.recovery_point().0) >= most {
            writer.last_flush_ms = now_ms;
            self.flush()?;
        }
        Ok(())
    }

    /// The transaction marker that a control batch holds.
    pub(super) fn marker(
        &self,
        header: &BatchHeader,
        batch: &Bytes,
    ) -> Result<Option<EndTransactionMarker>, Error> {
        if !header.attributes.is_control() || !header.has_producer() {
            return Ok(None);
        }
        let corrupt = |source| Error::CorruptMessage { partition: self.partition.clone(), source };
        let batch = RecordBatch { header: *header, bytes: batch.clone() };
        match batch.records().map_err(corrupt)?.next() {
            Some(record) => EndTransactionMarker::parse(&record.map_err(corrupt)?).map_err(corrupt),
            None => Ok(None),
        }
    }

    /// `Some` for a batch that is in the log already.
    fn check_producer(
        &self,
        writer: &Writer,
        header: &BatchHeader,
        marker: Option<EndTransactionMarker>,
        terms: &Terms,
    ) -> Result<Option<AppendInfo>, Error> {
        if !header.has_producer() {
            return Ok(None);
        }
        let producers = &writer.producers;
        if let Some(marker) = marker {
            let checked = producers.check_marker(header, marker.coordinator_epoch, terms.transaction_version);
            return checked.map(|()| None).map_err(|r| self.refuse(header, marker.coordinator_epoch, r));
        }
        let repeated = match terms.origin {
            Origin::Client => producers.repeated(header),
            Origin::Coordinator => None,
        };
        if repeated.is_none() {
            // The epoch first: a producer gets over a stale one, and not over a transaction that is unknown.
            let checked = producers.check_epoch(header);
            let checked = checked.and_then(|()| producers.check_verified(header, terms.verification));
            let checked = checked.and_then(|()| match terms.origin {
                Origin::Client => producers.check_sequence(header),
                Origin::Coordinator => Ok(()),
            });
            checked.map_err(|r| self.refuse(header, 0, r))?;
        }
        Ok(repeated.map(|batch| AppendInfo {
            first_offset: batch.first_offset(),
            last_offset: batch.last_offset,
            log_append_time: batch.timestamp,
            log_start_offset: self.log_start_offset(),
            duplicate: true,
            rolled: false,
        }))
    }

    fn refuse(&self, header: &BatchHeader, coordinator_epoch: i32, refusal: Refusal) -> Error {
        let (partition, producer) = (self.partition.clone(), header.producer_id);
        match refusal {
            Refusal::StaleEpoch { newest } => {
                Error::InvalidProducerEpoch { partition, producer, found: header.producer_epoch, newest }
            }
            Refusal::OutOfOrder { last } => {
                Error::OutOfOrderSequence { partition, producer, found: header.base_sequence, last }
            }
            Refusal::InTransaction => {
                let why = "a record outside of its open transaction";
                Error::InvalidTxnState { partition, producer, why }
            }
            Refusal::NotVerified => {
                let why = "a record of a transaction that is not known to include this partition";
                Error::InvalidTxnState { partition, producer, why }
            }
            Refusal::StaleCoordinator { newest } => {
                Error::TransactionCoordinatorFenced { partition, producer, found: coordinator_epoch, newest }
            }
        }
    }

    /// The header as it goes to disk. The batch itself is shared with the request it came in, and is not touched.
    fn finish_header(
        &self,
        batch: &Bytes,
        checked: &Checked,
        leader_epoch: LeaderEpoch,
    ) -> Result<([u8; HEADER_LEN], BatchHeader), Error> {
        let corrupt = |source| Error::CorruptMessage { partition: self.partition.clone(), source };
        let mut head = [0; HEADER_LEN];
        head.copy_from_slice(&batch[..HEADER_LEN]);
        patch_base_offset(&mut head, self.log_end_offset()).map_err(corrupt)?;
        patch_leader_epoch(&mut head, leader_epoch).map_err(corrupt)?;
        if let Some((kind, timestamp)) = checked.stamp {
            patch_timestamps(&mut head, kind, timestamp).map_err(corrupt)?;
            let crc = extend_crc(compute_crc(&head), &batch[HEADER_LEN..]);
            patch_crc_value(&mut head, crc).map_err(corrupt)?;
        }
        let header = BatchHeader::parse(&head).map_err(corrupt)?;
        Ok((head, header))
    }

    /// Writes a batch whose header is final, takes note of it and shows it to readers. Says whether a segment was closed.
    fn write_batch(
        &self,
        writer: &mut Writer,
        head: &[u8],
        body: &[u8],
        header: &BatchHeader,
        marker: Option<EndTransactionMarker>,
        now_ms: i64,
    ) -> Result<bool, Error> {
        let config = self.config();
        let active = self.view.read().active().clone();
        let roll_after = config.roll_after_ms(&self.partition, active.base_offset.0);
        let (size, last, time) = (head.len() + body.len(), header.last_offset(), header.max_timestamp);
        let rolled = active.should_roll(size, last, time, roll_after, &config, now_ms)?;
        let active = if rolled { self.roll(writer, header.base_offset, now_ms)? } else { active };
        if header.base_offset < active.base_offset {
            // An append with a gap before it rolled, and then failed.
            let (partition, found, expected) =
                (self.partition.clone(), header.base_offset, active.base_offset);
            return Err(Error::UnexpectedAppendOffset { partition, found, expected });
        }
        let position = active.size();
        write_at(&active, position, head, body)?;
        let noted = self
            .note_epoch(header.leader_epoch, header.base_offset)
            .and_then(|()| active.note(position, header, &config));
        if let Err(error) = noted {
            // The batch is not acknowledged: it must not stay, or the next one would have its offsets, too.
            if active.truncate(position, header.base_offset).is_err() {
                writer.closed = true;
            }
            return Err(error);
        }
        if let Err(error) = self.note_producer(writer, active.base_offset, header, marker) {
            // What is known of the producer may be ahead of the log. Recovery puts it right.
            writer.closed = true;
            return Err(error);
        }
        let first_unstable = writer.producers.first_unstable();
        self.publish(|view| {
            view.end = header.next_offset();
            view.end_position = position + size as u64;
            view.first_unstable = first_unstable;
        });
        Ok(rolled)
    }

    /// Feeds a batch of the log to the state of its producer, and to the index of aborted transactions.
    pub(super) fn note_producer(
        &self,
        writer: &mut Writer,
        segment_base: Offset,
        header: &BatchHeader,
        marker: Option<EndTransactionMarker>,
    ) -> Result<(), Error> {
        if !header.has_producer() {
            return Ok(());
        }
        let Some(marker) = marker else {
            if !header.attributes.is_control() {
                writer.producers.append(header);
            }
            return Ok(());
        };
        let ended = writer.producers.end_transaction(header, marker.committed, marker.coordinator_epoch);
        match ended.filter(|ended| ended.aborted) {
            None => Ok(()),
            Some(EndedTransaction { producer, first_offset, last_offset, .. }) => {
                let last_stable_offset = writer.producers.first_open().unwrap_or(last_offset.plus(1));
                let producer_id = producer;
                let aborted =
                    AbortedTransaction { producer_id, first_offset, last_offset, last_stable_offset };
                txn_index::append(&self.dir, segment_base, &aborted)
            }
        }
    }

    /// Closes the active segment and begins a new one at `base`.
    pub(super) fn roll(&self, writer: &mut Writer, base: Offset, now_ms: i64) -> Result<Arc<Segment>, Error> {
        let view = self.view.read().clone();
        view.active().seal()?;
        snapshot::write(&self.dir, base, &writer.producers)?;
        writer.snapshot_at = Some(base);
        let segment = Arc::new(Segment::create(&self.dir, base, &self.config(), now_ms)?);
        let mut segments = view.segments.to_vec();
        segments.push(segment.clone());
        self.publish(|view| {
            view.segments = Arc::new(segments);
            view.end_position = 0;
        });
        Ok(segment)
    }
}

/// One gathered write of header and records. What a failed write leaves behind is cut off again, and would be written
/// over in any case.
fn write_at(segment: &Segment, position: u64, head: &[u8], body: &[u8]) -> Result<(), Error> {
    let file = segment.file()?;
    let (mut head, mut body, mut at) = (head, body, position);
    let written = loop {
        if head.is_empty() && body.is_empty() {
            break Ok(());
        }
        match rustix::io::pwritev(&*file, &[IoSlice::new(head), IoSlice::new(body)], at) {
            Ok(0) => break Err(rustix::io::Errno::IO),
            Ok(count) => {
                let of_head = count.min(head.len());
                head = &head[of_head..];
                body = &body[count - of_head..];
                at += count as u64;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => break Err(errno),
        }
    };
    written.at("append to", segment.path()).inspect_err(|_| {
        if let Err(error) = file.set_len(position) {
            tracing::warn!(path = %segment.path().display(), %error, "a failed append is not cut off");
        }
    })
}
