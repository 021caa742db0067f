//! EndTxn, and what follows from it.

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::ids::ProducerEpoch;

use super::effect::{Effect, Marked, Markers, Reply};
use super::request::{End, Speaker};
use super::state::TransactionState;
use super::transaction::{NO_ID, Place, RAISES_EPOCH, Transaction, is_exhausted};
use super::{Now, Then, Token, TransactionalId, Transactions};

impl Transactions {
    /// Answers when the outcome is in the log, with the producer's id and epoch from then on.
    pub fn on_end(&mut self, now: Now, token: Token, end: &End) -> Vec<Effect> {
        let effect = match self.check_end(end) {
            Ok(Verdict::Decide) => {
                let at = &self.ids[&end.who.id].at;
                let next = match (at.end_needs_id(end.client_version), end.fresh) {
                    (true, None) => return vec![Effect::Reply(token, Reply::NeedsId)],
                    (true, Some(fresh)) => fresh,
                    (false, _) => NO_ID,
                };
                let prepared = at.prepared(end.commit, end.client_version, next, now.wall_ms);
                self.append(&end.who.id, Some(prepared), Then::Prepared { token: Some(token), fences: false })
            }
            Ok(Verdict::Done) => {
                let at = &self.ids[&end.who.id].at;
                Effect::Reply(token, Reply::Producer(at.producer, at.epoch))
            }
            Err(error) => Effect::Reply(token, Reply::Code(error)),
        };
        vec![effect]
    }

    fn check_end(&self, end: &End) -> Result<Verdict, ErrorCode> {
        if end.who.id.as_str().is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        let entry = self.ids.get(&end.who.id).ok_or(ErrorCode::InvalidProducerIdMapping)?;
        if end.client_version >= RAISES_EPOCH {
            if entry.pending {
                return Err(ErrorCode::ConcurrentTransactions);
            }
            check_raising(&entry.at, end)
        } else {
            check_plain(&entry.at, end, entry.pending)
        }
    }

    /// Sends the markers of an outcome that is decided.
    pub(super) fn begin_marking(&mut self, now: Now, id: &TransactionalId, effects: &mut Vec<Effect>) {
        let Some(entry) = self.ids.get_mut(id) else { return };
        entry.pending = true;
        entry.unmarked = entry.at.partitions.clone();
        self.mark(now, id, effects);
    }

    /// Sends the markers that are missing, or completes the transaction where none is.
    pub(super) fn mark(&mut self, now: Now, id: &TransactionalId, effects: &mut Vec<Effect>) {
        let Some(entry) = self.ids.get(id).filter(|entry| entry.at.state.is_prepared()) else { return };
        let at = &entry.at;
        if entry.unmarked.is_empty() {
            let completed = at.completed(now.wall_ms);
            effects.push(self.append(id, Some(completed), Then::Completed));
            return;
        }
        effects.push(Effect::Mark(Markers {
            id: id.clone(),
            producer: at.producer,
            epoch: at.epoch,
            commit: at.state == TransactionState::PrepareCommit,
            coordinator_epoch: self.epoch,
            client_version: at.client_version,
            partitions: entry.unmarked.clone(),
        }));
    }

    /// Takes what became of the markers that [`Effect::Mark`] asked for.
    pub fn on_marked(&mut self, now: Now, id: &TransactionalId, results: &[(Place, Marked)]) -> Vec<Effect> {
        let mut effects = Vec::new();
        let Some(entry) = self.ids.get_mut(id).filter(|entry| entry.at.state.is_prepared()) else {
            return effects;
        };
        for (place, marked) in results {
            match marked {
                Marked::Done => {
                    entry.unmarked.remove(place);
                }
                Marked::Later => {}
                Marked::Fenced => {
                    tracing::error!(%id, topic = %place.0, partition = place.1,
                        "marker is refused: a newer producer or coordinator was there before; the transaction is left to it");
                    return effects;
                }
            }
        }
        if entry.unmarked.is_empty() {
            self.mark(now, id, &mut effects);
        } else {
            self.retry_later(now, id);
        }
        effects
    }
}

enum Verdict {
    /// The outcome is to be written.
    Decide,
    /// It is what was asked for already.
    Done,
}

/// Before transaction version 2.
fn check_plain(at: &Transaction, end: &End, pending: bool) -> Result<Verdict, ErrorCode> {
    use TransactionState as State;
    if at.producer != end.who.producer {
        return Err(ErrorCode::InvalidProducerIdMapping);
    }
    if at.epoch != end.who.epoch {
        return Err(ErrorCode::ProducerFenced);
    }
    if pending {
        return Err(ErrorCode::ConcurrentTransactions);
    }
    match (at.state, end.commit) {
        (State::Ongoing, _) => Ok(Verdict::Decide),
        (State::CompleteCommit, true) | (State::CompleteAbort, false) => Ok(Verdict::Done),
        (State::PrepareCommit, true) | (State::PrepareAbort, false) => Err(ErrorCode::ConcurrentTransactions),
        _ => Err(ErrorCode::InvalidTxnState),
    }
}

/// From transaction version 2 on: the epoch tells a repeat from a new wish, and an abort needs no partition.
fn check_raising(at: &Transaction, end: &End) -> Result<Verdict, ErrorCode> {
    use TransactionState as State;
    let Speaker { producer, epoch, .. } = &end.who;
    let of_last_id = at.previous == *producer
        && at.producer != *producer
        && is_exhausted(*epoch)
        && epoch.0 != i16::MAX
        && at.epoch == ProducerEpoch(0);
    let of_last_epoch = i32::from(at.epoch.0) == i32::from(epoch.0) + 1;
    if at.producer != *producer && !of_last_id {
        return Err(ErrorCode::InvalidProducerIdMapping);
    }
    let is_valid = match at.state {
        State::PrepareCommit | State::PrepareAbort => of_last_epoch,
        State::CompleteCommit | State::CompleteAbort => of_last_epoch || of_last_id || *epoch == at.epoch,
        State::Empty | State::Ongoing | State::Dead | State::PrepareEpochFence => *epoch == at.epoch,
    };
    if !is_valid {
        return Err(ErrorCode::ProducerFenced);
    }
    let repeated = of_last_epoch || of_last_id;
    match (at.state, end.commit) {
        (State::Ongoing, _) | (State::Empty, false) => Ok(Verdict::Decide),
        (State::CompleteCommit, true) | (State::CompleteAbort, false) if repeated => Ok(Verdict::Done),
        (State::CompleteCommit | State::CompleteAbort, false) if !repeated => Ok(Verdict::Decide),
        (State::PrepareCommit, true) | (State::PrepareAbort, false) => Err(ErrorCode::ConcurrentTransactions),
        _ => Err(ErrorCode::InvalidTxnState),
    }
}
