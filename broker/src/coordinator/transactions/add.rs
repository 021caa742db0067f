//! AddPartitionsToTxn and AddOffsetsToTxn: the transaction begins, or grows.

use aqueduct_protocol::ErrorCode;

use super::effect::{Effect, Reply};
use super::request::{Add, Speaker};
use super::state::TransactionState;
use super::transaction::{Place, Transaction};
use super::{Now, Then, Token, Transactions};

impl Transactions {
    /// Answers when the partitions are in the log; at once where they are there already.
    pub fn on_add(&mut self, now: Now, token: Token, add: &Add) -> Vec<Effect> {
        let effect = match self.check_add(add) {
            Ok(at) if at.state == TransactionState::Ongoing && includes(at, &add.partitions) => {
                Effect::Reply(token, Reply::Code(ErrorCode::None))
            }
            Ok(at) => {
                let next = at.with_partitions(&add.partitions, add.client_version, now.wall_ms);
                self.append(&add.who.id, Some(next), Then::Added(token))
            }
            Err(error) => Effect::Reply(token, Reply::Code(error)),
        };
        vec![effect]
    }

    fn check_add(&self, add: &Add) -> Result<&Transaction, ErrorCode> {
        let who = &add.who;
        if who.id.as_str().is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        let entry = self.ids.get(&who.id).ok_or(ErrorCode::InvalidProducerIdMapping)?;
        // Before the producer is looked at: it may be about to get another id.
        if entry.pending {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        check_speaker(&entry.at, who)?;
        if entry.at.state.is_prepared() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        Ok(&entry.at)
    }

    /// Whether the partitions are in the producer's open transaction: one code for each, in their order.
    pub fn verify(&self, who: &Speaker, partitions: &[Place]) -> Result<Vec<ErrorCode>, ErrorCode> {
        if who.id.as_str().is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        // A change that is on its way is no obstacle: the guard of the append notices an end in between.
        let at = &self.ids.get(&who.id).ok_or(ErrorCode::InvalidProducerIdMapping)?.at;
        check_speaker(at, who)?;
        if at.state.is_prepared() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        let code = |place: &Place| match at.partitions.contains(place) {
            true => ErrorCode::None,
            false => ErrorCode::TransactionAbortable,
        };
        Ok(partitions.iter().map(code).collect())
    }
}

fn includes(at: &Transaction, partitions: &[Place]) -> bool {
    partitions.iter().all(|place| at.partitions.contains(place))
}

fn check_speaker(at: &Transaction, who: &Speaker) -> Result<(), ErrorCode> {
    if at.producer != who.producer {
        return Err(ErrorCode::InvalidProducerIdMapping);
    }
    if at.epoch != who.epoch {
        return Err(ErrorCode::ProducerFenced);
    }
    Ok(())
}
