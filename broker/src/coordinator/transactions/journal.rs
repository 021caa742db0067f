//! Records to and from the partition.

use std::sync::Arc;

use aqueduct_protocol::ids::Offset;
use aqueduct_protocol::records::{BatchBuilder, Compression, RecordBatch, RecordError};
use aqueduct_protocol::{EncodeError, ErrorCode};
use aqueduct_storage::Origin;
use tracing::{error, warn};

use super::Transactions;
use super::record::Record;
use crate::coordinator::effect::WriteId;
use crate::coordinator::journal::{LoadError, replay};
use crate::state_log::StateLog;

/// A batch is closed before it grows beyond this, which is below what `max.message.bytes` allows by default. A record that
/// is larger has a batch to itself.
const BATCH_BYTES: usize = 512 * 1024;

type Appended = Vec<(WriteId, Result<(), ErrorCode>)>;

/// Appends the records in order, in as few batches as possible, their values in `version`; tells how each ended.
pub(super) async fn append(
    log: Arc<dyn StateLog>,
    writes: Vec<(WriteId, Record)>,
    version: i16,
    wall_ms: i64,
) -> Appended {
    let mut results: Appended = Vec::with_capacity(writes.len());
    let mut batch = BatchBuilder::new(Compression::None);
    let mut in_batch = Vec::new();
    for (write, record) in &writes {
        let (key, value) = match encode(record, version) {
            Ok(encoded) => encoded,
            Err(why) => {
                error!(id = %record.id, %why, "transaction cannot be written");
                results.push((*write, Err(ErrorCode::UnknownServerError)));
                continue;
            }
        };
        let size = BatchBuilder::record_size_bound(Some(&key), value.as_deref(), &[]);
        if !batch.is_empty() && batch.size() + size > BATCH_BYTES {
            let full = std::mem::replace(&mut batch, BatchBuilder::new(Compression::None));
            let outcome = flush(&*log, full).await;
            results.extend(in_batch.drain(..).map(|write| (write, outcome)));
        }
        match batch.append(wall_ms, Some(&key), value.as_deref(), &[]) {
            Ok(()) => in_batch.push(*write),
            Err(why) => {
                error!(id = %record.id, %why, "transaction cannot be written");
                results.push((*write, Err(ErrorCode::UnknownServerError)));
            }
        }
    }
    if !batch.is_empty() {
        let outcome = flush(&*log, batch).await;
        results.extend(in_batch.into_iter().map(|write| (write, outcome)));
    }
    results
}

fn encode(record: &Record, version: i16) -> Result<(bytes::Bytes, Option<bytes::Bytes>), EncodeError> {
    Ok((record.key()?, record.value(version)?))
}

async fn flush(log: &dyn StateLog, batch: BatchBuilder) -> Result<(), ErrorCode> {
    let bytes = batch.finish().map_err(|why| {
        error!(%why, "batch of transactions cannot be written");
        ErrorCode::UnknownServerError
    })?;
    let appended = log.append(bytes, Origin::Coordinator.into()).await;
    appended
        .map(|_| ())
        .inspect_err(|code| warn!(?code, "append to the transaction coordinator's partition failed"))
}

/// Feeds `transactions` with all that the partition holds, reading about `buffer` bytes at a time.
pub(super) async fn load(
    log: &dyn StateLog,
    buffer: usize,
    transactions: &mut Transactions,
) -> Result<(), LoadError> {
    replay(log, buffer, |batch, from| take(batch, from, transactions)).await
}

fn take(batch: &RecordBatch, from: Offset, transactions: &mut Transactions) -> Result<(), RecordError> {
    if batch.header.attributes.is_control() {
        return Ok(());
    }
    for record in batch.records()? {
        let record = record?;
        if record.offset < from {
            continue;
        }
        let offset = record.offset;
        match Record::decode(record.key.unwrap_or_default(), record.value) {
            Ok(Some(record)) => transactions.replay(record),
            Ok(None) => {
                warn!(%offset, "record of the transaction coordinator is of an unknown kind and skipped")
            }
            // The rest of the partition is worth more than the certainty that nothing of this record matters.
            Err(why) => {
                error!(%offset, %why, "record of the transaction coordinator is skipped: it cannot be read")
            }
        }
    }
    Ok(())
}
