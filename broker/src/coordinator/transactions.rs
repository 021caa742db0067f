//! The transaction coordinator: transactional ids, who their producer is, and how far their transactions have come.
//!
//! An id belongs to one partition of `__transaction_state`; whoever leads the partition coordinates its transactions.
//! [`Transactions`] is all ids of one partition: a synchronous state machine, events in and effects out. Nothing in it
//! waits, reads a clock or draws random numbers. A change is appended first, takes effect when it is in the log, and is
//! answered then; a reload reads the same state from the log, but for what a client may be told twice. While a change is
//! on its way, everything else about its id is refused as concurrent.
//!
//! An end is decided by the record of `PrepareCommit` or `PrepareAbort`. What follows cannot fail, only take time: markers
//! go to every partition, again and again until all have them, and the record of the completion ends it.

mod add;
mod effect;
mod end;
mod init;
mod journal;
mod markers;
mod others;
mod producer_ids;
mod query;
mod record;
mod remote;
mod request;
mod scans;
mod service;
mod shard;
mod state;
mod transaction;
mod verification;

use std::collections::{BTreeSet, HashMap};

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::ids::ProducerId;

use super::effect::{Token, WriteId};
use super::ids::TransactionalId;
use super::request::Now;

pub(crate) use effect::Reply;
pub(crate) use markers::MarkerWriter;
pub(crate) use others::Lines;
pub(crate) use producer_ids::ProducerIds;
pub(crate) use query::{Described, Listed};
pub(crate) use record::Record;
pub(crate) use request::{Add, End, Filter, Init, Speaker};
pub(crate) use service::TransactionCoordinator;
pub(crate) use state::TransactionState;
pub(crate) use transaction::{NO_EPOCH, NO_ID, Place};
pub(crate) use verification::{Admission, Entrance, Support};

use effect::Effect;
use transaction::Transaction;

/// What can be set about transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionOptions {
    /// `transaction.max.timeout.ms`
    pub max_timeout_ms: i32,
    /// `transactional.id.expiration.ms`
    pub id_expiration_ms: i64,
    /// `transaction.abort.timed.out.transaction.cleanup.interval.ms`
    pub timeout_check_interval_ms: i64,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`
    pub expiry_check_interval_ms: i64,
    /// How long to wait before what failed is tried again.
    pub retry_backoff_ms: i64,
}

impl Default for TransactionOptions {
    fn default() -> Self {
        Self {
            max_timeout_ms: 900_000,
            id_expiration_ms: 7 * 24 * 3_600_000,
            timeout_check_interval_ms: 10_000,
            expiry_check_interval_ms: 3_600_000,
            retry_backoff_ms: 100,
        }
    }
}

/// One transactional id.
#[derive(Clone, Debug)]
struct Entry {
    at: Transaction,
    /// A change is on its way, and everything else has to wait.
    pending: bool,
    /// Partitions that do not know of the outcome yet.
    unmarked: BTreeSet<Place>,
    /// An abort on behalf of another producer could not be written; its epoch is taken already.
    fence_failed: bool,
}

impl Entry {
    fn new(at: Transaction) -> Self {
        Self { at, pending: false, unmarked: BTreeSet::new(), fence_failed: false }
    }
}

/// What is done when an append is over.
#[derive(Clone, Debug)]
enum Then {
    /// The producer is told who it is.
    Initialised(Token),
    /// Partitions were added.
    Added(Token),
    /// The outcome is decided. `fences` an older producer of the id.
    Prepared { token: Option<Token>, fences: bool },
    /// The transaction is over.
    Completed,
    /// The id is forgotten.
    Removed,
}

/// The transactional ids that hash to one partition.
#[derive(Debug)]
pub struct Transactions {
    options: TransactionOptions,
    /// Reign of this coordinator; in every marker.
    epoch: i32,
    ids: HashMap<TransactionalId, Entry>,
    writes: HashMap<WriteId, (Record, Then)>,
    last_write: u64,
    timeouts_at: i64,
    expiry_at: i64,
    /// What has to be tried again, and when.
    retries: BTreeSet<(i64, TransactionalId)>,
    /// For transactions that end by themselves.
    spare_id: Option<ProducerId>,
}

impl Transactions {
    /// No ids; fed by [`Transactions::replay`] and then [`Transactions::on_loaded`]. `epoch` is that of the leader.
    pub fn new(options: TransactionOptions, epoch: i32) -> Self {
        Self {
            options,
            epoch,
            ids: HashMap::new(),
            writes: HashMap::new(),
            last_write: 0,
            timeouts_at: i64::MAX,
            expiry_at: i64::MAX,
            retries: BTreeSet::new(),
            spare_id: None,
        }
    }

    /// Takes a record of the log, in order; before anything else happens here.
    pub fn replay(&mut self, record: Record) {
        match record.value {
            Some(at) => {
                self.ids.insert(record.id, Entry::new(at));
            }
            None => {
                self.ids.remove(&record.id);
            }
        }
    }

    /// The log has been read to its end: outcomes that were decided are carried through.
    pub fn on_loaded(&mut self, now: Now) -> Vec<Effect> {
        self.timeouts_at = now.tick_ms.saturating_add(self.options.timeout_check_interval_ms);
        self.expiry_at = now.tick_ms.saturating_add(self.options.expiry_check_interval_ms);
        let prepared = self.ids.iter().filter(|(_, entry)| entry.at.state.is_prepared());
        let mut prepared: Vec<_> = prepared.map(|(id, _)| id.clone()).collect();
        prepared.sort_unstable();
        tracing::info!(ids = self.ids.len(), unfinished = prepared.len(), "transactional ids are loaded");
        let mut effects = Vec::new();
        for id in prepared {
            self.begin_marking(now, &id, &mut effects);
        }
        effects
    }

    /// When [`Transactions::on_tick`] is due, on the clock of [`Now::tick_ms`].
    pub fn next_deadline(&self) -> Option<i64> {
        let retry = self.retries.first().map(|(at_ms, _)| *at_ms);
        let next = self.timeouts_at.min(self.expiry_at).min(retry.unwrap_or(i64::MAX));
        (next < i64::MAX).then_some(next)
    }

    /// Takes the outcome of an append; appends end in the order in which they were asked for.
    pub fn on_appended(&mut self, now: Now, write: WriteId, result: Result<(), ErrorCode>) -> Vec<Effect> {
        let mut effects = Vec::new();
        let Some((record, then)) = self.writes.remove(&write) else { return effects };
        let (id, result) = (record.id, result.map_err(append_error));
        let Some(entry) = self.ids.get_mut(&id) else { return effects };
        entry.pending = false;
        match (result, record.value) {
            (Ok(()), Some(at)) => {
                entry.at = at;
                self.appended(now, &id, then, &mut effects);
            }
            (Ok(()), None) => {
                self.ids.remove(&id);
            }
            (Err(error), _) => self.not_appended(now, &id, then, error, &mut effects),
        }
        effects
    }

    fn appended(&mut self, now: Now, id: &TransactionalId, then: Then, effects: &mut Vec<Effect>) {
        let Some(entry) = self.ids.get_mut(id) else { return };
        match then {
            Then::Initialised(token) => {
                effects.push(Effect::Reply(token, Reply::Producer(entry.at.producer, entry.at.epoch)));
            }
            Then::Added(token) => effects.push(Effect::Reply(token, Reply::Code(ErrorCode::None))),
            Then::Prepared { token, fences } => {
                entry.fence_failed = false;
                let after = entry.at.completed(now.wall_ms);
                let reply = match fences {
                    // The new producer asks again until the old one's transaction is over.
                    true => Reply::Code(ErrorCode::ConcurrentTransactions),
                    false => Reply::Producer(after.producer, after.epoch),
                };
                effects.extend(token.map(|token| Effect::Reply(token, reply)));
                self.begin_marking(now, id, effects);
            }
            Then::Completed | Then::Removed => {}
        }
    }

    fn not_appended(
        &mut self,
        now: Now,
        id: &TransactionalId,
        then: Then,
        error: ErrorCode,
        effects: &mut Vec<Effect>,
    ) {
        let Some(entry) = self.ids.get_mut(id) else { return };
        match then {
            Then::Initialised(token) | Then::Added(token) => {
                effects.push(Effect::Reply(token, Reply::Code(error)));
            }
            Then::Prepared { token, fences } => {
                entry.fence_failed |= fences;
                effects.extend(token.map(|token| Effect::Reply(token, Reply::Code(error))));
            }
            Then::Completed => {
                entry.pending = true;
                self.retry_later(now, id);
            }
            Then::Removed => {}
        }
    }

    /// Appends what the id is to be.
    fn append(&mut self, id: &TransactionalId, value: Option<Transaction>, then: Then) -> Effect {
        if let Some(entry) = self.ids.get_mut(id) {
            entry.pending = true;
        }
        self.last_write += 1;
        let (write, record) = (WriteId(self.last_write), Record { id: id.clone(), value });
        self.writes.insert(write, (record.clone(), then));
        Effect::Append(write, record)
    }

    fn retry_later(&mut self, now: Now, id: &TransactionalId) {
        let at_ms = now.tick_ms.saturating_add(self.options.retry_backoff_ms);
        self.retries.insert((at_ms, id.clone()));
    }
}

/// What a client is told when the partition could not take a record.
fn append_error(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::RequestTimedOut => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch | ErrorCode::KafkaStorageError => {
            ErrorCode::NotCoordinator
        }
        _ => ErrorCode::UnknownServerError,
    }
}

#[cfg(test)]
mod tests;
