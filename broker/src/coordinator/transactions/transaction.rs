//! What is known of one transactional id, and how it changes: each `fn` gives the next value and leaves this one alone,
//! for the log comes first.

use std::collections::BTreeSet;
use std::sync::Arc;

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::ids::{ProducerEpoch, ProducerId};

use super::state::TransactionState;

/// A partition in a transaction: topic name and partition index.
pub type Place = (Arc<str>, i32);

/// Stands for no producer id.
pub const NO_ID: ProducerId = ProducerId(-1);
/// Stands for no epoch.
pub const NO_EPOCH: ProducerEpoch = ProducerEpoch(-1);

/// The version of the client's transaction protocol from which every end raises the epoch.
pub const RAISES_EPOCH: i16 = 2;

/// A transactional id's producer and its transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    pub producer: ProducerId,
    /// The id that the producer had before; what a client may still know.
    pub previous: ProducerId,
    /// The id that the producer has after the transaction, where its epochs are used up.
    pub next: ProducerId,
    pub epoch: ProducerEpoch,
    /// The epoch before this one, for a client that missed an answer. Not in the log.
    pub last_epoch: ProducerEpoch,
    pub timeout_ms: i32,
    pub state: TransactionState,
    pub partitions: BTreeSet<Place>,
    /// When the transaction began, in milliseconds since 1970; -1 before the first.
    pub start_ms: i64,
    /// When this was written.
    pub updated_ms: i64,
    /// Version of the protocol in which the client speaks of this transaction.
    pub client_version: i16,
}

impl Transaction {
    /// A transactional id that nobody has used.
    pub fn new(producer: ProducerId, timeout_ms: i32, now_ms: i64) -> Self {
        Self {
            producer,
            previous: NO_ID,
            next: NO_ID,
            epoch: NO_EPOCH,
            last_epoch: NO_EPOCH,
            timeout_ms,
            state: TransactionState::Empty,
            partitions: BTreeSet::new(),
            start_ms: -1,
            updated_ms: now_ms,
            client_version: 0,
        }
    }

    /// Whether no epoch is left for another producer: the last one is kept for fencing.
    pub fn is_exhausted(&self) -> bool {
        is_exhausted(self.epoch)
    }

    /// Whether the next end of a transaction needs another producer id.
    pub fn end_needs_id(&self, client_version: i16) -> bool {
        client_version >= RAISES_EPOCH && self.is_exhausted()
    }

    fn to(&self, state: TransactionState, now_ms: i64) -> Self {
        Self { previous: self.producer, state, updated_ms: now_ms, ..self.clone() }
    }

    /// The producer begins anew in the next epoch; `expected` is the epoch that it believes to have.
    pub fn with_next_epoch(
        &self,
        timeout_ms: i32,
        expected: Option<ProducerEpoch>,
        now_ms: i64,
    ) -> Result<Self, ErrorCode> {
        let raised = ProducerEpoch(self.epoch.0.saturating_add(1));
        let (epoch, last_epoch) = match expected {
            None => (raised, NO_EPOCH),
            Some(epoch) if self.epoch == NO_EPOCH || epoch == self.epoch => (raised, self.epoch),
            // Sent again by a client that missed the answer.
            Some(epoch) if epoch == self.last_epoch => (self.epoch, self.last_epoch),
            Some(_) => return Err(ErrorCode::ProducerFenced),
        };
        let empty = self.emptied(timeout_ms, now_ms);
        Ok(Self { epoch, last_epoch, ..empty })
    }

    /// The producer begins anew under another id. `keep_last` is for a client that said which epoch it has.
    pub fn with_next_id(&self, id: ProducerId, timeout_ms: i32, keep_last: bool, now_ms: i64) -> Self {
        let last_epoch = if keep_last { self.epoch } else { NO_EPOCH };
        Self { producer: id, epoch: ProducerEpoch(0), last_epoch, ..self.emptied(timeout_ms, now_ms) }
    }

    fn emptied(&self, timeout_ms: i32, now_ms: i64) -> Self {
        let (partitions, start_ms) = (BTreeSet::new(), -1);
        Self { timeout_ms, partitions, start_ms, ..self.to(TransactionState::Empty, now_ms) }
    }

    /// Partitions join the transaction, which begins if there is none.
    pub fn with_partitions(&self, more: &[Place], client_version: i16, now_ms: i64) -> Self {
        let start_ms = if self.state.is_at_rest() { now_ms } else { self.start_ms };
        let partitions = self.partitions.iter().chain(more).cloned().collect();
        Self { partitions, start_ms, client_version, ..self.to(TransactionState::Ongoing, now_ms) }
    }

    /// The outcome is decided. `next` is the producer id to come, where [`Transaction::end_needs_id`].
    pub fn prepared(&self, commit: bool, client_version: i16, next: ProducerId, now_ms: i64) -> Self {
        let state = if commit { TransactionState::PrepareCommit } else { TransactionState::PrepareAbort };
        let start_ms = if self.state.is_at_rest() { now_ms } else { self.start_ms };
        let (epoch, last_epoch) = match client_version >= RAISES_EPOCH {
            // The last epoch of all has nothing above it to rise to.
            true => (ProducerEpoch(self.epoch.0.saturating_add(1)), self.epoch),
            false => (self.epoch, self.last_epoch),
        };
        Self { next, epoch, last_epoch, start_ms, client_version, ..self.to(state, now_ms) }
    }

    /// Every partition knows of the outcome.
    pub fn completed(&self, now_ms: i64) -> Self {
        let state = match self.state {
            TransactionState::PrepareCommit => TransactionState::CompleteCommit,
            _ => TransactionState::CompleteAbort,
        };
        let (producer, epoch) = match self.client_version >= RAISES_EPOCH && self.next != NO_ID {
            true => (self.next, ProducerEpoch(0)),
            false => (self.producer, self.epoch),
        };
        Self { producer, epoch, next: NO_ID, partitions: BTreeSet::new(), ..self.to(state, now_ms) }
    }
}

/// Whether a producer may not get a later epoch than this.
pub fn is_exhausted(epoch: ProducerEpoch) -> bool {
    epoch.0 >= i16::MAX - 1
}
