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

/// Appends the writes in order, as few batches as possible, and tells how each ended.
pub(super) async fn append(
    log: Arc<dyn StateLog>,
    writes: Vec<(WriteId, Entry)>,
    compression: Compression,
    wall_ms: i64,
) -> Vec<(WriteId, Result<(), ErrorCode>)> {
    let mut results: Vec<_> = writes.iter().map(|(write, _)| (*write, Ok(()))).collect();
    let mut batch = BatchBuilder::new(compression);
    // The first write with a record in `batch`.
    let mut from = 0;
    for (at, (_, entry)) in writes.iter().enumerate() {
        let Entry::Records(records) = entry else {
            // It needs a batch of its own, behind what came before it.
            if !batch.is_empty() {
                let full = std::mem::replace(&mut batch, BatchBuilder::new(compression));
                note(&mut results[from..at], flush(&*log, full, Origin::Coordinator.into()).await);
            }
            from = at + 1;
            results[at].1 = append_alone(&*log, entry, compression, wall_ms).await;
            continue;
        };
        let encoded = match encode(records) {
            Ok(encoded) => encoded,
            Err(why) => {
                error!(%why, "group coordinator's record cannot be written");
                results[at].1 = Err(ErrorCode::UnknownServerError);
                continue;
            }
        };
        for (key, value) in encoded {
            let size = BatchBuilder::record_size_bound(Some(&key), value.as_deref(), &[]);
            if !batch.is_empty() && batch.size() + size > BATCH_BYTES {
                let full = std::mem::replace(&mut batch, BatchBuilder::new(compression));
                // Its last record may be of an earlier write than this one; the error of one more does no harm, as
                // the write is retried as a whole.
                note(&mut results[from..=at], flush(&*log, full, Origin::Coordinator.into()).await);
                from = at;
            }
            if let Err(why) = batch.append(wall_ms, Some(&key), value.as_deref(), &[]) {
                error!(%why, "group coordinator's record cannot be written");
                results[at].1 = Err(ErrorCode::UnknownServerError);
            }
        }
    }
    if !batch.is_empty() {
        note(&mut results[from..], flush(&*log, batch, Origin::Coordinator.into()).await);
    }
    results
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

fn note(results: &mut [(WriteId, Result<(), ErrorCode>)], outcome: Result<(), ErrorCode>) {
    if let Err(code) = outcome {
        for (_, result) in results.iter_mut().filter(|(_, result)| result.is_ok()) {
            *result = Err(code);
        }
    }
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

/// Feeds `groups` with all that the partition holds, reading about `buffer` bytes at a time.
pub(super) async fn load(log: &dyn StateLog, buffer: usize, groups: &mut Groups) -> Result<(), LoadError> {
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
            take(&batch, at, groups).map_err(|source| LoadError::Damaged { at: at.0, source })?;
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
