//! What one Fetch brought of one partition, and the records in it.

use std::collections::HashSet;

use aqueduct_protocol::ids::{LeaderEpoch, Offset, ProducerId};
use aqueduct_protocol::messages::fetch_response::AbortedTransaction;
use aqueduct_protocol::records::{
    BatchHeader, Batches, EndTransactionMarker, RecordBatch, RecordError, Records,
};
use bytes::Bytes;

use crate::error::{Error, Result};
use crate::types::{ConsumerRecord, TopicPartition};

/// What one Fetch brought of one partition, as the broker stores it.
#[derive(Debug, Clone)]
pub struct FetchedBatches {
    pub partition: TopicPartition,
    /// The position that was asked for; the first batch may begin before it.
    pub fetch_offset: Offset,
    /// Where the next fetch begins: after the last batch.
    pub next_offset: Offset,
    /// Whole record batches, one after the other; a batch cut short at the end is already taken off.
    pub batches: Bytes,
    pub high_watermark: Offset,
    pub log_start_offset: Offset,
}

/// Takes off the batch that is cut short at the end; gives what is left and the offset after it.
pub(super) fn whole_batches(records: Bytes) -> Result<(Bytes, Option<Offset>), RecordError> {
    let (mut end, mut next) = (0, None);
    while records.len() - end > 0 {
        let rest = &records[end..];
        let header = match BatchHeader::parse(rest) {
            Ok(header) => header,
            Err(RecordError::Truncated { .. }) => break,
            Err(error) => return Err(error),
        };
        if header.size() > rest.len() {
            break;
        }
        end += header.size();
        next = Some(header.next_offset());
    }
    Ok((records.slice(..end), next))
}

/// The records of fetched batches from a position on: no control records, none of aborted transactions.
#[derive(Debug)]
pub(super) struct RecordStream {
    partition: TopicPartition,
    batches: Batches,
    current: Option<(BatchHeader, Records)>,
    position: Offset,
    check_crcs: bool,
    /// Of transactions that were aborted, by first offset; `None` where all records are wanted.
    aborted: Option<Vec<(Offset, ProducerId)>>,
    /// Producers whose records are skipped until their marker comes.
    skipped: HashSet<ProducerId>,
}

impl RecordStream {
    pub(super) fn new(
        fetched: &FetchedBatches,
        aborted: Option<Vec<AbortedTransaction>>,
        check_crcs: bool,
    ) -> Self {
        let aborted = aborted.map(|list| {
            let mut list: Vec<_> =
                list.iter().map(|one| (Offset(one.first_offset), ProducerId(one.producer_id))).collect();
            // Taken from the back, so that the earliest comes first.
            list.sort_by(|a, b| b.cmp(a));
            list
        });
        Self {
            partition: fetched.partition.clone(),
            batches: Batches::new(fetched.batches.clone()),
            current: None,
            position: fetched.fetch_offset,
            check_crcs,
            aborted,
            skipped: HashSet::new(),
        }
    }

    pub(super) fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    /// Offset of the next record that is not returned yet, or the one after the last batch.
    pub(super) fn position(&self) -> Offset {
        self.position
    }

    /// The next record; `None` at the end.
    pub(super) fn next(&mut self) -> Option<Result<ConsumerRecord>> {
        self.try_next().map_err(|why| self.bad(why)).transpose()
    }

    fn try_next(&mut self) -> Result<Option<ConsumerRecord>, RecordError> {
        loop {
            if let Some((header, records)) = &mut self.current {
                let header = *header;
                for record in records {
                    let record = record?;
                    if record.offset < self.position {
                        continue;
                    }
                    self.position = record.offset.plus(1);
                    return Ok(Some(ConsumerRecord {
                        topic: self.partition.topic.clone(),
                        partition: self.partition.partition,
                        offset: record.offset,
                        timestamp: record.timestamp,
                        timestamp_type: header.attributes.timestamp_type(),
                        leader_epoch: LeaderEpoch(header.leader_epoch.0),
                        key: record.key,
                        value: record.value,
                        headers: record.headers,
                    }));
                }
                self.current = None;
                self.position = self.position.max(header.next_offset());
            }
            let Some(batch) = self.batches.next().transpose()? else { return Ok(None) };
            if self.check_crcs {
                batch.check_crc()?;
            }
            if self.wants(&batch)? {
                self.current = Some((batch.header, batch.records()?));
            } else {
                self.position = self.position.max(batch.header.next_offset());
            }
        }
    }

    /// Whether the records of a batch are for the application.
    fn wants(&mut self, batch: &RecordBatch) -> Result<bool, RecordError> {
        let header = &batch.header;
        if let Some(aborted) = &mut self.aborted {
            while aborted.last().is_some_and(|(first, _)| *first <= header.last_offset()) {
                self.skipped.extend(aborted.pop().map(|(_, producer)| producer));
            }
            if header.attributes.is_control() {
                for record in batch.records()? {
                    if EndTransactionMarker::parse(&record?)?.is_some_and(|marker| !marker.committed) {
                        self.skipped.remove(&header.producer_id);
                    }
                }
            } else if header.attributes.is_transactional() && self.skipped.contains(&header.producer_id) {
                return Ok(false);
            }
        }
        Ok(!header.attributes.is_control() && header.next_offset() > self.position)
    }

    fn bad(&self, why: RecordError) -> Error {
        let why = why.to_string();
        Error::BadBatch { partition: self.partition.clone(), offset: self.position, why }
    }
}

#[cfg(test)]
mod tests {
    use aqueduct_protocol::ids::ProducerEpoch;
    use aqueduct_protocol::records::{BatchBuilder, Compression};

    use super::*;

    fn batch(base: i64, records: i64, producer: Option<i64>) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Compression::Lz4).base_offset(Offset(base));
        if let Some(id) = producer {
            builder = builder.producer(ProducerId(id), ProducerEpoch(0), 0).transactional(true);
        }
        for n in 0..records {
            builder.append(1000 + n, None, Some(b"v"), &[]).expect("fits");
        }
        builder.finish().expect("valid").to_vec()
    }

    fn marker(base: i64, id: i64, committed: bool) -> Vec<u8> {
        let marker = EndTransactionMarker { committed, coordinator_epoch: 0 };
        let (id, epoch) = (ProducerId(id), ProducerEpoch(0));
        let builder = BatchBuilder::end_transaction(id, epoch, 0, marker).base_offset(Offset(base));
        builder.finish().expect("valid").to_vec()
    }

    fn stream(bytes: Vec<u8>, from: i64, aborted: Option<Vec<AbortedTransaction>>) -> RecordStream {
        let (batches, next) = whole_batches(bytes.into()).expect("sound");
        let fetched = FetchedBatches {
            partition: TopicPartition::new("t", 0),
            fetch_offset: Offset(from),
            next_offset: next.expect("not empty"),
            batches,
            high_watermark: Offset(100),
            log_start_offset: Offset(0),
        };
        RecordStream::new(&fetched, aborted, true)
    }

    fn offsets(stream: &mut RecordStream) -> Vec<i64> {
        std::iter::from_fn(|| stream.next()).map(|record| record.expect("sound").offset.0).collect()
    }

    #[test]
    fn starts_within_a_batch_and_drops_the_cut_one() {
        let mut bytes = [batch(0, 3, None), batch(3, 3, None), batch(6, 3, None)].concat();
        bytes.truncate(bytes.len() - 5);
        let mut stream = stream(bytes, 1, None);
        assert_eq!(stream.next().expect("one").expect("sound").offset, Offset(1));
        assert_eq!(stream.position(), Offset(2));
        assert_eq!(offsets(&mut stream), [2, 3, 4, 5]);
        assert_eq!(stream.position(), Offset(6));
    }

    #[test]
    fn leaves_out_aborted_transactions_and_markers() {
        let bytes = [
            batch(0, 2, Some(1)),
            batch(2, 2, Some(2)),
            marker(4, 1, false),
            batch(5, 1, Some(1)),
            marker(6, 2, true),
            marker(7, 1, true),
            batch(8, 1, None),
        ]
        .concat();
        let aborted = vec![AbortedTransaction { producer_id: 1, first_offset: 0 }];
        assert_eq!(offsets(&mut stream(bytes.clone(), 0, Some(aborted))), [2, 3, 5, 8]);
        let mut all = stream(bytes, 0, None);
        assert_eq!(offsets(&mut all), [0, 1, 2, 3, 5, 8]);
        assert_eq!(all.position(), Offset(9));
    }

    #[test]
    fn control_batches_alone_still_move_the_position() {
        let mut stream = stream(marker(4, 1, true), 4, Some(Vec::new()));
        assert!(stream.next().is_none());
        assert_eq!(stream.position(), Offset(5));
    }

    #[test]
    fn a_flipped_bit_is_found_and_placed() {
        let mut bytes = batch(0, 3, None);
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        let error = stream(bytes, 0, None).next().expect("one").expect_err("damaged");
        assert!(error.to_string().starts_with("t-0@0: bad record batch: "), "{error}");
    }
}
