//! InitProducerId: a producer takes possession of its transactional id, and whoever had it before is fenced.

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::ids::{ProducerEpoch, ProducerId};

use super::effect::{Effect, Reply};
use super::request::Init;
use super::state::TransactionState;
use super::transaction::{NO_EPOCH, RAISES_EPOCH, Transaction, is_exhausted};
use super::{Entry, Now, Then, Token, TransactionalId, Transactions};

impl Transactions {
    /// Answers with the producer's id and epoch when they are in the log; a transaction that is open is aborted first,
    /// and the client comes again.
    pub fn on_init(&mut self, now: Now, token: Token, init: &Init) -> Vec<Effect> {
        let mut effects = Vec::new();
        match self.init(now, token, init, &mut effects) {
            Ok(()) => {}
            Err(reply) => effects.push(Effect::Reply(token, reply)),
        }
        effects
    }

    fn init(&mut self, now: Now, token: Token, init: &Init, effects: &mut Vec<Effect>) -> Result<(), Reply> {
        if init.timeout_ms <= 0 || init.timeout_ms > self.options.max_timeout_ms {
            return Err(Reply::Code(ErrorCode::InvalidTransactionTimeout));
        }
        if !self.ids.contains_key(&init.id) {
            let fresh = init.fresh.ok_or(Reply::NeedsId)?;
            let new = Transaction::new(fresh, init.timeout_ms, now.wall_ms);
            self.ids.insert(init.id.clone(), Entry::new(new));
        }
        let entry = &self.ids[&init.id];
        if entry.pending {
            return Err(Reply::Code(ErrorCode::ConcurrentTransactions));
        }
        let at = &entry.at;
        if init.expected.is_some_and(|expected| !is_known(at, expected)) {
            return Err(Reply::Code(ErrorCode::ProducerFenced));
        }
        match at.state {
            TransactionState::Empty | TransactionState::CompleteCommit | TransactionState::CompleteAbort => {
                let next = initialised(at, init, now.wall_ms)?;
                effects.push(self.append(&init.id, Some(next), Then::Initialised(token)));
                Ok(())
            }
            TransactionState::Ongoing => {
                let fenced = self.fence(now, &init.id, Some(token), init.fresh)?;
                effects.push(fenced);
                Ok(())
            }
            TransactionState::PrepareCommit | TransactionState::PrepareAbort => {
                Err(Reply::Code(ErrorCode::ConcurrentTransactions))
            }
            TransactionState::Dead | TransactionState::PrepareEpochFence => {
                Err(Reply::Code(ErrorCode::UnknownServerError))
            }
        }
    }

    /// Aborts an open transaction in an epoch that its producer does not have, so that it can write no more.
    pub(super) fn fence(
        &mut self,
        now: Now,
        id: &TransactionalId,
        token: Option<Token>,
        fresh: Option<ProducerId>,
    ) -> Result<Effect, Reply> {
        let entry = self.ids.get_mut(id).ok_or(Reply::Code(ErrorCode::InvalidProducerIdMapping))?;
        let version = entry.at.client_version;
        let next = match entry.at.end_needs_id(version) {
            true => fresh.ok_or(Reply::NeedsId)?,
            false => super::NO_ID,
        };
        if version < RAISES_EPOCH {
            if !entry.fence_failed {
                entry.at.epoch = ProducerEpoch(entry.at.epoch.0.saturating_add(1));
            }
            entry.at.last_epoch = NO_EPOCH;
        }
        let aborted = entry.at.prepared(false, version, next, now.wall_ms);
        Ok(self.append(id, Some(aborted), Then::Prepared { token, fences: true }))
    }
}

/// Whether a client that says who it is may go on: a new id has had nobody, the present producer's epoch is looked at
/// later, and one whose epochs were used up may not have heard of its next id.
fn is_known(at: &Transaction, (producer, epoch): (ProducerId, ProducerEpoch)) -> bool {
    at.epoch == NO_EPOCH || producer == at.producer || producer == at.previous && is_exhausted(epoch)
}

fn initialised(at: &Transaction, init: &Init, now_ms: i64) -> Result<Transaction, Reply> {
    let expected = init.expected.map(|(_, epoch)| epoch);
    if at.is_exhausted() && expected.is_none_or(|epoch| epoch == at.epoch) {
        let fresh = init.fresh.ok_or(Reply::NeedsId)?;
        return Ok(at.with_next_id(fresh, init.timeout_ms, expected.is_some(), now_ms));
    }
    at.with_next_epoch(init.timeout_ms, expected, now_ms).map_err(Reply::Code)
}
