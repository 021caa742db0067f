//! Records to and from the partition.

use std::sync::Arc;

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::ids::Offset;
use aqueduct_protocol::records::{
    BatchBuilder, Batches, Compression, EndTransactionMarker, RecordBatch, RecordError,
};
use aqueduct_storage::{Origin, Terms};
use bytes::Bytes;
use tracing::{error, warn};

use super::effect::{Marker, TransactionalProducer, WriteId};
use super::groups::Groups;
use super::record::Record;
use crate::state_log::StateLog;

/// Batches are closed before they grow beyond this, which is below what `max.message.bytes` allows by default. A record
/// that is larger has a batch to itself.
const BATCH_BYTES: usize = 512 * 1024;

/// What one write appends.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    Records(Arc<[Record]>),
    Transactional(TransactionalProducer, Arc<[Record]>),
    Marker(Marker),
}

/// How an append of several writes ended.
pub(super) struct Appended {
    pub results: Vec<(WriteId, Result<(), ErrorCode>)>,
    /// Set where a batch of plain records could not be appended: nothing after it was tried.
    pub broken: Option<ErrorCode>,
}

/// Appends the writes in order, as few batches as possible, and tells how each ended. A write stands in one batch, unless
/// it is larger than that. After a batch of records that could not be appended nothing more is tried: what comes later may
/// have been decided on the ground of it. What belongs to a transaction may be refused on its own.
pub(super) async fn append(
    log: Arc<dyn StateLog>,
    writes: Vec<(WriteId, Entry)>,
    compression: Compression,
    wall_ms: i64,
) -> Appended {
    let mut appender = Appender {
        log,
        batch: BatchBuilder::new(compression),
        compression,
        wall_ms,
        broken: None,
        results: Vec::with_capacity(writes.len()),
        settled: 0,
    };
    for (write, entry) in writes {
        let outcome = match appender.broken {
            None => appender.take(&entry).await,
            Some(error) => Err(error),
        };
        appender.results.push((write, outcome));
    }
    appender.flush().await;
    Appended { results: appender.results, broken: appender.broken }
}

struct Appender {
    log: Arc<dyn StateLog>,
    batch: BatchBuilder,
    compression: Compression,
    wall_ms: i64,
    broken: Option<ErrorCode>,
    results: Vec<(WriteId, Result<(), ErrorCode>)>,
    /// How many results do not depend on `batch`.
    settled: usize,
}

impl Appender {
    async fn take(&mut self, entry: &Entry) -> Result<(), ErrorCode> {
        let Entry::Records(records) = entry else {
            // It needs a batch of its own, behind what came before it.
            self.flush().await;
            if let Some(error) = self.broken {
                return Err(error);
            }
            let outcome = append_alone(&*self.log, entry, self.compression, self.wall_ms).await;
            self.settled = self.results.len() + 1;
            return outcome;
        };
        let failed = |why: &dyn std::fmt::Display| {
            error!(%why, "group coordinator's record cannot be written");
            ErrorCode::UnknownServerError
        };
        let records = encode(records).map_err(|why| failed(&why))?;
        let size = |(key, value): &(Bytes, Option<Bytes>)| {
            BatchBuilder::record_size_bound(Some(key), value.as_deref(), &[])
        };
        let mut room = records.iter().map(size).sum::<usize>();
        for record in &records {
            if !self.batch.is_empty() && self.batch.size() + room > BATCH_BYTES {
                self.flush().await;
                if let Some(error) = self.broken {
                    return Err(error);
                }
            }
            let (key, value) = record;
            self.batch.append(self.wall_ms, Some(key), value.as_deref(), &[]).map_err(|why| failed(&why))?;
            // Once it has been begun, a write is split only where a batch is full.
            room = size(record);
        }
        Ok(())
    }

    async fn flush(&mut self) {
        let full = std::mem::replace(&mut self.batch, BatchBuilder::new(self.compression));
        let outcome = match full.is_empty() {
            true => Ok(()),
            false => flush(&*self.log, full, Origin::Coordinator.into()).await,
        };
        if let Err(error) = outcome {
            self.broken = Some(error);
            let waiting = self.results.iter_mut().skip(self.settled);
            waiting.filter(|(_, result)| result.is_ok()).for_each(|(_, result)| *result = Err(error));
        }
        self.settled = self.results.len();
    }
}

/// Part of a transaction, or the end of one.
async fn append_alone(
    log: &dyn StateLog,
    entry: &Entry,
    compression: Compression,
    wall_ms: i64,
) -> Result<(), ErrorCode> {
    let (batch, terms) = match entry {
        Entry::Records(records) => {
            (fill(BatchBuilder::new(compression), records, wall_ms), Origin::Coordinator.into())
        }
        Entry::Transactional(producer, records) => {
            let builder =
                BatchBuilder::new(compression).producer(producer.id, producer.epoch, -1).transactional(true);
            (fill(builder, records, wall_ms), Terms::guarded(Origin::Coordinator, producer.guard))
        }
        Entry::Marker(marker) => {
            let end = EndTransactionMarker {
                committed: marker.committed,
                coordinator_epoch: marker.coordinator_epoch,
            };
            let batch = BatchBuilder::end_transaction(marker.producer, marker.epoch, wall_ms, end);
            (Ok(batch), Terms::marker(marker.transaction_version))
        }
    };
    flush(log, batch?, terms).await
}

fn fill(mut batch: BatchBuilder, records: &[Record], wall_ms: i64) -> Result<BatchBuilder, ErrorCode> {
    let failed = |why: &dyn std::fmt::Display| {
        error!(%why, "group coordinator's record cannot be written");
        ErrorCode::UnknownServerError
    };
    for (key, value) in encode(records).map_err(|why| failed(&why))? {
        batch.append(wall_ms, Some(&key), value.as_deref(), &[]).map_err(|why| failed(&why))?;
    }
    Ok(batch)
}

type Encoded = Vec<(Bytes, Option<Bytes>)>;

fn encode(records: &[Record]) -> Result<Encoded, aqueduct_protocol::EncodeError> {
    records.iter().map(|record| Ok((record.key()?, record.value()?))).collect()
}

async fn flush(log: &dyn StateLog, batch: BatchBuilder, terms: Terms) -> Result<(), ErrorCode> {
    let bytes = batch.finish().map_err(|why| {
        error!(%why, "group coordinator's batch cannot be written");
        ErrorCode::UnknownServerError
    })?;
    log.append(bytes, terms)
        .await
        .map(|_| ())
        .inspect_err(|code| warn!(?code, "append to the group coordinator's partition failed"))
}

/// Why a partition could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum LoadError {
    #[error("opening the log: {}", .0.message())]
    Open(ErrorCode),
    #[error("reading at offset {at}: {}", code.message())]
    Read { at: i64, code: ErrorCode },
    #[error("batch at or after offset {at}: {source}")]
    Damaged { at: i64, source: RecordError },
    #[error("nothing can be read at offset {at}, before the end at {end}")]
    Hole { at: i64, end: i64 },
}

impl LoadError {
    /// Whether another attempt may succeed: the partition is about to be led, or its directory to be given up.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Open(_) | Self::Read { .. })
    }
}

/// Feeds `groups` with all that the partition holds, reading about `buffer` bytes at a time.
pub(super) async fn load(log: &dyn StateLog, buffer: usize, groups: &mut Groups) -> Result<(), LoadError> {
    replay(log, buffer, |batch, from| take(batch, from, groups)).await
}

/// Gives every batch that the log holds to `take`, with the offset below which its records are not wanted.
pub(super) async fn replay(
    log: &dyn StateLog,
    buffer: usize,
    mut take: impl FnMut(&RecordBatch, Offset) -> Result<(), RecordError>,
) -> Result<(), LoadError> {
    let (mut at, end) = (log.start_offset(), log.end_offset());
    while at < end {
        let bytes = log.read(at, buffer).await.map_err(|code| LoadError::Read { at: at.0, code })?;
        let before = at;
        for batch in Batches::new(bytes) {
            let batch = batch.and_then(|batch| batch.check_crc().map(|()| batch));
            let batch = batch.map_err(|source| LoadError::Damaged { at: at.0, source })?;
            if batch.header.next_offset() <= at {
                continue;
            }
            take(&batch, at).map_err(|source| LoadError::Damaged { at: at.0, source })?;
            at = batch.header.next_offset();
        }
        if at == before {
            return Err(LoadError::Hole { at: at.0, end: end.0 });
        }
        tokio::task::yield_now().await;
    }
    Ok(())
}

fn take(batch: &RecordBatch, from: Offset, groups: &mut Groups) -> Result<(), RecordError> {
    let (attributes, producer) = (batch.header.attributes, batch.header.producer_id);
    for record in batch.records()? {
        let record = record?;
        if record.offset < from {
            continue;
        }
        if attributes.is_control() {
            let Some(marker) = EndTransactionMarker::parse(&record)? else { continue };
            groups.replay_marker(producer, marker.committed);
            continue;
        }
        let offset = record.offset;
        match Record::decode(record.key.unwrap_or_default(), record.value) {
            Ok(Some(record)) if attributes.is_transactional() => {
                groups.replay_transactional(producer, record)
            }
            Ok(Some(record)) => groups.replay(record),
            Ok(None) => {}
            // The rest of the partition is worth more than the certainty that nothing of this record matters.
            Err(why) => {
                error!(%offset, %why, "record of the group coordinator is skipped: it cannot be read")
            }
        }
    }
    Ok(())
}
