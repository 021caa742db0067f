//! DescribeTransactions and ListTransactions.

use std::collections::BTreeSet;

use aqueduct_protocol::ids::{ProducerEpoch, ProducerId};

use super::Transactions;
use super::request::Filter;
use super::state::TransactionState;
use super::transaction::Place;
use crate::coordinator::ids::TransactionalId;

/// A transaction in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    pub state: TransactionState,
    pub timeout_ms: i32,
    /// In milliseconds since 1970; -1 where there was none yet.
    pub start_ms: i64,
    pub producer: ProducerId,
    pub epoch: ProducerEpoch,
    pub partitions: BTreeSet<Place>,
}

/// A transaction as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub id: TransactionalId,
    pub producer: ProducerId,
    pub state: TransactionState,
}

impl Transactions {
    /// One transaction; `None` where the id is not known.
    pub fn describe(&self, id: &TransactionalId) -> Option<Described> {
        let at = &self.ids.get(id)?.at;
        Some(Described {
            state: at.state,
            timeout_ms: at.timeout_ms,
            start_ms: at.start_ms,
            producer: at.producer,
            epoch: at.epoch,
            partitions: at.partitions.clone(),
        })
    }

    /// Those that `filter` lets through, in no order.
    pub fn list(&self, now_ms: i64, filter: &Filter) -> Vec<Listed> {
        let shows = |id: &TransactionalId, at: &super::Transaction| {
            (filter.states.is_empty() || filter.states.contains(&at.state))
                && (filter.producers.is_empty() || filter.producers.contains(&at.producer))
                && (filter.longer_than_ms < 0 || now_ms.saturating_sub(at.start_ms) > filter.longer_than_ms)
                && filter.pattern.as_ref().is_none_or(|pattern| pattern.is_match(id.as_str()))
        };
        let shown = self.ids.iter().filter(|(id, entry)| shows(id, &entry.at));
        shown
            .map(|(id, entry)| Listed { id: id.clone(), producer: entry.at.producer, state: entry.at.state })
            .collect()
    }
}
