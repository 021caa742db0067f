//! The batches of one partition, in order: what is open, ready, in flight, and come back to be sent again.
//!
//! Sequence numbers are given when a batch is first taken. A batch that failed for a reason that may pass comes back; then
//! nothing more is taken until all in flight are back, and what came back goes out again in its old order under its old
//! sequence numbers, so that the broker recognises what it has already. Only when the broker refuses the *first* of them as
//! out of order is it certain that it has none of them: then the epoch rises and all are numbered anew from 0.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{ProducerEpoch, ProducerId};
use tokio::time::Instant;

use super::batch::{Batch, Stamp};
use super::delivery::Outcome;
use super::transaction::Identity;
use crate::backoff::Backoff;
use crate::error::Error;
use crate::types::TopicPartition;

/// How batches get their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Numbering {
    /// Each partition counts its own epochs of this producer id.
    Own(ProducerId),
    /// The epoch is that of the transaction.
    Transactional(Identity),
}

/// Pause before a batch that comes too early for its transaction is sent again.
const SOON: Duration = Duration::from_millis(20);

/// How often such a batch is sent again at most.
const EARLY: u32 = 10;

/// What the queue needs to know of the settings.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueueOptions {
    pub(super) linger: Duration,
    pub(super) max_in_flight: usize,
    pub(super) retries: u32,
    pub(super) backoff: Backoff,
    pub(super) delivery_timeout: Duration,
    /// Epochs are the transaction's, not the queue's.
    pub(super) transactional: bool,
}

/// The batches of one partition.
#[derive(Debug)]
pub(super) struct PartitionQueue {
    pub(super) partition: TopicPartition,
    options: QueueOptions,
    /// Being filled, and since when.
    open: Option<(Batch, Instant)>,
    ready: VecDeque<Batch>,
    /// Taken and not yet back; oldest first.
    flying: Vec<(u64, Arc<Outcome>)>,
    /// Came back to be sent again.
    returned: Vec<Batch>,
    next_order: u64,
    sequence: Option<Stamp>,
    used_up: Option<ProducerId>,
    /// The broker knows the producer id: it has acknowledged a batch with it.
    known: bool,
    failures: u32,
    resume: Option<Instant>,
}

impl PartitionQueue {
    pub(super) fn new(partition: TopicPartition, options: QueueOptions) -> Self {
        Self {
            partition,
            options,
            open: None,
            ready: VecDeque::new(),
            flying: Vec::new(),
            returned: Vec::new(),
            next_order: 0,
            sequence: None,
            used_up: None,
            known: false,
            failures: 0,
            resume: None,
        }
    }

    /// The number for the next new batch.
    pub(super) fn order(&mut self) -> u64 {
        self.next_order += 1;
        self.next_order
    }

    /// The batch that is being filled.
    pub(super) fn open_batch(&mut self) -> Option<&mut Batch> {
        self.open.as_mut().map(|(batch, _)| batch)
    }

    /// Begins to fill `batch`, after what is open is closed.
    pub(super) fn begin(&mut self, batch: Batch, now: Instant) -> &mut Batch {
        self.close_open();
        &mut self.open.insert((batch, now)).0
    }

    /// Adds a whole batch.
    pub(super) fn push(&mut self, batch: Batch) {
        self.close_open();
        self.ready.push_back(batch);
    }

    /// Makes the open batch ready.
    pub(super) fn close_open(&mut self) {
        if let Some((batch, _)) = self.open.take() {
            self.ready.push_back(batch);
        }
    }

    /// Whether nothing is left.
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_none() && self.ready.is_empty() && self.flying.is_empty() && self.returned.is_empty()
    }

    /// The outcomes of all batches that are not settled.
    pub(super) fn outcomes(&self) -> impl Iterator<Item = Arc<Outcome>> {
        let held = self.returned.iter().chain(&self.ready).chain(self.open.as_ref().map(|(batch, _)| batch));
        self.flying.iter().map(|(_, outcome)| outcome.clone()).chain(held.map(|batch| batch.outcome.clone()))
    }

    /// Whether a batch can be taken now. `hurry` ends the lingering of the open one.
    pub(super) fn is_due(&self, now: Instant, hurry: bool) -> bool {
        // A broker takes any sequence number from a producer that it does not know, so that the second batch could be
        // written while the first is refused.
        let alone = self.sequence.is_some() && !self.known;
        let most = if alone { 1 } else { self.options.max_in_flight };
        if !self.returned.is_empty() || self.flying.len() >= most || self.resume.is_some_and(|at| at > now) {
            return false;
        }
        // A broker recognises the latest batches only. Were more behind the oldest that is on its way, those among them that
        // are acknowledged included, it might have forgotten that one when it comes again, and refuse what it has.
        let next = self.ready.front().or(self.open.as_ref().map(|(batch, _)| batch)).map(|batch| batch.order);
        let oldest = self.flying.iter().map(|(order, _)| *order).min();
        if oldest.zip(next).is_some_and(|(oldest, next)| next >= oldest + self.options.max_in_flight as u64) {
            return false;
        }
        let lingered = |since: &Instant| hurry || now >= *since + self.options.linger;
        !self.ready.is_empty() || self.open.as_ref().is_some_and(|(_, since)| lingered(since))
    }

    /// When time alone will make a batch due or expire one; `None` where nothing waits for that.
    pub(super) fn next_event(&self) -> Option<Instant> {
        let first = self.ready.front().or(self.open.as_ref().map(|(batch, _)| batch));
        let expires = first.map(|batch| batch.deadline);
        let resumes = self.resume.filter(|_| first.is_some());
        let lingers =
            self.open.as_ref().filter(|_| self.ready.is_empty()).map(|(_, at)| *at + self.options.linger);
        let due = if resumes.is_some() { resumes } else { lingers };
        [expires, due].into_iter().flatten().min()
    }

    /// Size of the batch that [`PartitionQueue::take`] would give.
    pub(super) fn next_size(&self) -> usize {
        self.ready.front().or(self.open.as_ref().map(|(batch, _)| batch)).map_or(0, Batch::size)
    }

    /// Takes the next batch to send it, numbered if it is to be. To be called when it is due.
    pub(super) fn take(&mut self, numbering: Option<Numbering>) -> Option<Batch> {
        if self.ready.is_empty() {
            self.close_open();
        }
        let mut batch = self.ready.pop_front()?;
        self.resume = None;
        if batch.stamp.is_none() {
            batch.stamp = numbering.map(|numbering| self.number(numbering, batch.records));
        }
        batch.attempts += 1;
        self.flying.push((batch.order, batch.outcome.clone()));
        Some(batch)
    }

    fn number(&mut self, numbering: Numbering, records: i32) -> Stamp {
        let stamp = match numbering {
            Numbering::Own(id) => {
                let first = Stamp { id, epoch: ProducerEpoch(0), sequence: 0 };
                *self.sequence.get_or_insert(first)
            }
            Numbering::Transactional(Identity { id, epoch }) => {
                let first = Stamp { id, epoch, sequence: 0 };
                let last = self.sequence.filter(|last| (last.id, last.epoch) == (id, epoch));
                self.known &= self.sequence.is_none_or(|last| last.id == id);
                last.unwrap_or(first)
            }
        };
        // 2^31-1 is followed by 0.
        let next = (i64::from(stamp.sequence) + i64::from(records)) & i64::from(i32::MAX);
        self.sequence = Some(Stamp { sequence: next as i32, ..stamp });
        stamp
    }

    /// A taken batch was written.
    pub(super) fn succeeded(&mut self, order: u64) {
        self.failures = 0;
        self.known = true;
        self.landed(order);
        self.settle(None);
    }

    /// A taken batch failed. Gives it back where it failed for good; otherwise it will be sent again.
    pub(super) fn failed(&mut self, now: Instant, mut batch: Batch, error: Error) -> Option<(Batch, Error)> {
        self.landed(batch.order);
        let refused = batch.stamp.is_some() && refuses_sequence(&error);
        // A transaction cannot be numbered anew, but what follows a batch that comes again was refused for that alone.
        let follows = |queue: &Self| {
            queue.returned.iter().any(|earlier| earlier.order < batch.order)
                || queue.flying.iter().any(|(earlier, _)| *earlier < batch.order)
        };
        let renumber = refused && (!self.options.transactional || follows(self));
        let early = self.options.transactional && batch.attempts <= EARLY && comes_early(&error);
        let again = (error.is_retriable() || renumber || early) && batch.attempts <= self.options.retries;
        if !again {
            self.settle(Some(batch.stamp));
            return Some((batch, error));
        }
        if now >= batch.deadline {
            self.settle(Some(batch.stamp));
            let error = self.expired(Some(error));
            return Some((batch, error));
        }
        batch.error = Some(error);
        self.returned.push(batch);
        self.failures = self.failures.saturating_add(1);
        let pause = match batch_error(&self.returned) {
            // The end of the transaction before is on its way to this partition.
            Some(ErrorCode::ConcurrentTransactions | ErrorCode::InvalidTxnState) => SOON,
            _ => self.options.backoff.jittered(self.failures),
        };
        self.resume = Some(now + pause);
        self.settle(None);
        None
    }

    /// Takes out batches that waited beyond `delivery.timeout.ms`.
    pub(super) fn expire(&mut self, now: Instant, out: &mut Vec<(Batch, Error)>) {
        while self.ready.front().is_some_and(|batch| now >= batch.deadline) {
            if let Some(mut batch) = self.ready.pop_front() {
                let error = self.expired(batch.error.take());
                self.settle(Some(batch.stamp));
                out.push((batch, error));
            }
        }
        if self.ready.is_empty() && self.open.as_ref().is_some_and(|(batch, _)| now >= batch.deadline) {
            let (batch, _) = self.open.take().expect("checked just now");
            let error = self.expired(None);
            out.push((batch, error));
        }
    }

    fn expired(&self, last: Option<Error>) -> Error {
        Error::Timeout {
            what: format!("batch for {} not delivered (delivery.timeout.ms)", self.partition),
            after: self.options.delivery_timeout,
            last: last.map(Box::new),
        }
    }

    fn landed(&mut self, order: u64) {
        self.flying.retain(|(flying, _)| *flying != order);
    }

    /// Puts what came back in front again, once all are back. `lost` is the stamp of a batch that was given up just now.
    fn settle(&mut self, lost: Option<Option<Stamp>>) {
        if !self.flying.is_empty() {
            return;
        }
        self.returned.sort_by_key(|batch| batch.order);
        let refused =
            self.returned.first().and_then(|batch| batch.error.as_ref()).is_some_and(refuses_sequence);
        let kept = self.returned.len() + self.ready.iter().filter(|batch| batch.stamp.is_some()).count();
        if self.options.transactional {
            // Nothing is numbered anew; what is lost fails the transaction.
        } else if refused {
            for batch in &mut self.returned {
                batch.stamp = None;
            }
            self.raise_epoch();
        } else if kept == 0 && lost.flatten().is_some() {
            // The numbers of the lost batch may or may not be taken, and nothing that is left depends on them.
            self.raise_epoch();
        }
        for batch in self.returned.drain(..).rev() {
            self.ready.push_front(batch);
        }
    }

    /// The next number is 0 of the next epoch, or of another producer id where this one has no more epochs.
    fn raise_epoch(&mut self) {
        let Some(last) = self.sequence.take() else { return };
        match last.epoch.0.checked_add(1) {
            Some(epoch) => {
                self.sequence = Some(Stamp { id: last.id, epoch: ProducerEpoch(epoch), sequence: 0 })
            }
            None => {
                self.used_up = Some(last.id);
                self.known = false;
            }
        }
    }

    /// Takes out what is not on its way.
    pub(super) fn drain(&mut self) -> Vec<Batch> {
        self.close_open();
        self.returned.drain(..).chain(self.ready.drain(..)).collect()
    }

    /// A producer id that may not number batches of this partition any more.
    pub(super) fn used_up(&self) -> Option<ProducerId> {
        self.used_up
    }
}

/// Whether a batch was refused because the end of the transaction before came to its partition just then, so that the
/// broker forgot that this one has begun. It is not written. Where the transaction is over indeed, the next answer tells.
fn comes_early(error: &Error) -> bool {
    error.code() == Some(ErrorCode::InvalidTxnState)
}

/// Why the batch that came back last did.
fn batch_error(returned: &[Batch]) -> Option<ErrorCode> {
    returned.last()?.error.as_ref()?.code()
}

/// Whether the broker refused a batch for its place in the sequence, and so surely has not written it.
fn refuses_sequence(error: &Error) -> bool {
    matches!(
        error.code(),
        Some(
            ErrorCode::OutOfOrderSequenceNumber
                | ErrorCode::UnknownProducerId
                | ErrorCode::InvalidProducerEpoch
        )
    )
}

#[cfg(test)]
mod tests;
