use std::collections::{BTreeSet, HashMap, HashSet};

use aqueduct_protocol::ids::{Offset, ProducerId};
use aqueduct_protocol::records::{BatchHeader, ControlType};

use crate::AbortedTransaction;

/// Follows transactions through a log from its beginning, to tell which batches were aborted and which markers have
/// nothing left to mark.
///
/// Everything that it is shown lies below the last stable offset, so that the fate of each batch is known beforehand.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    /// Those that have not been come to yet, the first one first.
    ahead: BTreeSet<Ahead>,
    aborted: HashMap<ProducerId, Aborted>,
    committed: HashSet<ProducerId>,
}

/// Ordered by where the transaction begins.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ahead {
    first_offset: Offset,
    last_offset: Offset,
    last_stable_offset: Offset,
    producer: ProducerId,
}

#[derive(Debug)]
struct Aborted {
    transaction: AbortedTransaction,
    has_batches: bool,
}

/// What a marker is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marker {
    /// Batches of its transaction are there still; `aborted` belongs into the index of the segment that the marker is in.
    Needed { aborted: Option<AbortedTransaction> },
    /// None of its transaction is there any more.
    Spent,
}

impl Transactions {
    /// Announces transactions that were aborted; the same ones may come again.
    pub(crate) fn announce(&mut self, aborted: Vec<AbortedTransaction>) {
        self.ahead.extend(aborted.into_iter().map(|transaction| Ahead {
            first_offset: transaction.first_offset,
            last_offset: transaction.last_offset,
            last_stable_offset: transaction.last_stable_offset,
            producer: transaction.producer_id,
        }));
    }

    /// Comes to a batch of records; says whether they were aborted.
    pub(crate) fn on_batch(&mut self, header: &BatchHeader) -> bool {
        self.advance(header.last_offset());
        if !header.attributes.is_transactional() {
            return false;
        }
        match self.aborted.get_mut(&header.producer_id) {
            Some(aborted) => {
                aborted.has_batches = true;
                true
            }
            None => {
                self.committed.insert(header.producer_id);
                false
            }
        }
    }

    /// Comes to a control batch; `kind` is that of its record, `None` where cleaning has removed that.
    pub(crate) fn on_control(&mut self, header: &BatchHeader, kind: Option<ControlType>) -> Marker {
        self.advance(header.last_offset());
        match kind {
            None => Marker::Spent,
            Some(ControlType::Abort) => match self.aborted.remove(&header.producer_id) {
                Some(Aborted { transaction, has_batches: true }) => {
                    Marker::Needed { aborted: Some(transaction) }
                }
                _ => Marker::Spent,
            },
            Some(ControlType::Commit) if !self.committed.remove(&header.producer_id) => Marker::Spent,
            Some(_) => Marker::Needed { aborted: None },
        }
    }

    fn advance(&mut self, offset: Offset) {
        while self.ahead.first().is_some_and(|next| next.first_offset <= offset) {
            let Some(next) = self.ahead.pop_first() else { return };
            let transaction = AbortedTransaction {
                producer_id: next.producer,
                first_offset: next.first_offset,
                last_offset: next.last_offset,
                last_stable_offset: next.last_stable_offset,
            };
            self.aborted.entry(next.producer).or_insert(Aborted { transaction, has_batches: false });
        }
    }
}
