//! What is left of a batch.

use std::collections::HashMap;

use aqueduct_protocol::ids::{Offset, ProducerEpoch, ProducerId};
use aqueduct_protocol::records::{
    BatchHeader, BatchRewriter, Compression, ControlType, HEADER_LEN, OutputLimit, RawRecord, RecordError,
    compute_crc, empty_batch, for_each_raw,
};

use super::OffsetMap;
use super::transactions::{Marker, Transactions};
use crate::AbortedTransaction;

/// What a producer that may write again wrote last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastRecord {
    /// The last record in the log; `None` if there is only a marker.
    pub(crate) offset: Option<Offset>,
    pub(crate) epoch: ProducerEpoch,
}

pub(crate) type LastRecords = HashMap<ProducerId, LastRecord>;

/// The rules of one cleaning.
#[derive(Debug)]
pub(crate) struct Rules<'a> {
    pub(crate) map: &'a OffsetMap,
    pub(crate) producers: &'a LastRecords,
    /// The offset after the last that may be cleaned.
    pub(crate) range_end: Offset,
    pub(crate) delete_retention_ms: i64,
    pub(crate) now_ms: i64,
}

/// Counts of what went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) records_read: u64,
    pub(crate) records_kept: u64,
    pub(crate) keyless: u64,
    /// Batches that are not as they were.
    pub(crate) changed: u64,
}

/// Takes the batches of a log from its beginning and gives what compaction keeps of them.
#[derive(Debug)]
pub(crate) struct Filter<'a> {
    rules: Rules<'a>,
    pub(crate) transactions: Transactions,
    pub(crate) counts: Counts,
    /// Decompressed records.
    plain: Vec<u8>,
    body: Vec<u8>,
    keep: Vec<bool>,
}

/// What becomes of the records of a batch.
enum Fate {
    Discarded,
    Sifted { keep_always: bool, is_spent: bool },
}

impl<'a> Filter<'a> {
    pub(crate) fn new(rules: Rules<'a>) -> Self {
        Self {
            rules,
            transactions: Transactions::default(),
            counts: Counts::default(),
            plain: Vec::new(),
            body: Vec::new(),
            keep: Vec::new(),
        }
    }

    /// Appends to `out` what is left of `batch`, which may be nothing. Returns a transaction that belongs into the index of
    /// aborted ones beside the batch.
    pub(crate) fn apply(
        &mut self,
        header: &BatchHeader,
        batch: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<AbortedTransaction>, RecordError> {
        let computed = compute_crc(batch);
        if computed != header.crc {
            let (base_offset, stored) = (header.base_offset.0, header.crc);
            return Err(RecordError::CrcMismatch { base_offset, stored, computed });
        }
        self.counts.records_read += header.record_count.max(0) as u64;
        let (fate, aborted) = self.fate(header, batch)?;
        let before = out.len();
        match fate {
            Fate::Discarded => self.leave_empty(header, out)?,
            Fate::Sifted { keep_always, is_spent } => {
                self.sift(header, batch, keep_always, is_spent, out)?;
            }
        }
        let is_same = out.len() - before == batch.len() && out[before..] == *batch;
        self.counts.changed += u64::from(!is_same);
        Ok(aborted)
    }

    fn fate(
        &mut self,
        header: &BatchHeader,
        batch: &[u8],
    ) -> Result<(Fate, Option<AbortedTransaction>), RecordError> {
        if !header.attributes.is_control() {
            let fate = match self.transactions.on_batch(header) {
                true => Fate::Discarded,
                false => Fate::Sifted { keep_always: false, is_spent: false },
            };
            return Ok((fate, None));
        }
        let kind = control_type(header, batch, &mut self.plain)?;
        let sifted = |is_spent| Fate::Sifted { keep_always: true, is_spent };
        Ok(match self.transactions.on_control(header, kind) {
            Marker::Needed { aborted } => (sifted(false), aborted),
            // As with tombstones, readers get time to come by.
            Marker::Spent if header.delete_horizon().is_some_and(|time| time <= self.rules.now_ms) => {
                (Fate::Discarded, None)
            }
            Marker::Spent => (sifted(true), None),
        })
    }

    fn sift(
        &mut self,
        header: &BatchHeader,
        batch: &[u8],
        keep_always: bool,
        is_spent: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), RecordError> {
        let records = plain_records(header, batch, &mut self.plain)?;
        let (rules, keep) = (&self.rules, &mut self.keep);
        keep.clear();
        let (mut kept, mut keyless, mut has_tombstone) = (0u64, 0, false);
        let found = for_each_raw::<RecordError>(records, |_, raw| {
            let offset = Offset(header.base_offset.0 + i64::from(raw.offset_delta));
            let stays = keep_always || rules.keeps(header, offset, &raw);
            keyless += u64::from(!stays && raw.key.is_none());
            kept += u64::from(stays);
            has_tombstone |= stays && raw.value.is_none();
            keep.push(stays);
            Ok(())
        })?;
        if found != i64::from(header.record_count) {
            let (base_offset, declared) = (header.base_offset.0, header.record_count);
            return Err(RecordError::WrongCount { base_offset, declared, found });
        }
        self.counts.records_kept += kept;
        self.counts.keyless += keyless;
        if kept == 0 {
            return self.leave_empty(header, out);
        }
        let begins_to_age = (has_tombstone || is_spent) && header.delete_horizon().is_none();
        if kept == found as u64 && !begins_to_age {
            out.extend_from_slice(batch);
            return Ok(());
        }
        let horizon = match begins_to_age {
            true => Some(rules.now_ms.saturating_add(rules.delete_retention_ms)),
            false => header.delete_horizon(),
        };
        let mut rewriter = BatchRewriter::new(header, horizon, std::mem::take(&mut self.body));
        for_each_raw::<RecordError>(records, |index, raw| {
            if keep[index as usize] {
                rewriter.keep(&raw);
            }
            Ok(())
        })?;
        self.body = rewriter.finish(out)?;
        Ok(())
    }

    /// No record is left: the batch goes, unless it tells sequence numbers of a producer or where the cleaned range ends.
    fn leave_empty(&self, header: &BatchHeader, out: &mut Vec<u8>) -> Result<(), RecordError> {
        if self.rules.is_last_of_producer(header) || header.next_offset() == self.rules.range_end {
            out.extend_from_slice(&empty_batch(header)?);
        }
        Ok(())
    }
}

impl Rules<'_> {
    fn keeps(&self, header: &BatchHeader, offset: Offset, record: &RawRecord<'_>) -> bool {
        if offset > self.map.latest() {
            return true;
        }
        let Some(key) = record.key else { return false };
        let is_tombstone_past =
            || record.value.is_none() && header.delete_horizon().is_some_and(|time| self.now_ms >= time);
        self.map.get(key).is_none_or(|newest| offset >= newest) && !is_tombstone_past()
    }

    fn is_last_of_producer(&self, header: &BatchHeader) -> bool {
        let last = header.has_producer().then(|| self.producers.get(&header.producer_id)).flatten();
        last.is_some_and(|last| match last.offset {
            Some(offset) => header.last_offset() == offset,
            None => header.attributes.is_control() && header.producer_epoch == last.epoch,
        })
    }
}

/// What the first record of a control batch is, if there is one.
pub(crate) fn control_type(
    header: &BatchHeader,
    batch: &[u8],
    plain: &mut Vec<u8>,
) -> Result<Option<ControlType>, RecordError> {
    let records = plain_records(header, batch, plain)?;
    let mut kind = None;
    for_each_raw::<RecordError>(records, |index, raw| {
        if index == 0 {
            kind = Some(ControlType::parse(raw.key.unwrap_or_default())?);
        }
        Ok(())
    })?;
    Ok(kind)
}

/// The records of a batch without compression.
pub(crate) fn plain_records<'b>(
    header: &BatchHeader,
    batch: &'b [u8],
    plain: &'b mut Vec<u8>,
) -> Result<&'b [u8], RecordError> {
    let packed = batch.get(HEADER_LEN..).unwrap_or_default();
    // A batch that cleaning has emptied says nothing of the codec.
    if packed.is_empty() {
        return Ok(packed);
    }
    match header.attributes.compression()? {
        Compression::None => Ok(packed),
        codec => {
            plain.clear();
            codec.decompress(packed, OutputLimit::default(), plain)?;
            Ok(plain)
        }
    }
}
