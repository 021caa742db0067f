//! Where a transaction stands.

use std::fmt;

/// The state of a transactional id, as Kafka numbers and names it.
///
/// ```text
///                 +--------------- new producer, or new epoch ---------------+
///                 v                                                          |
///              Empty --first partition--> Ongoing --commit--> PrepareCommit --marked--> CompleteCommit
///                 |                          ^  |                                            |
///                 |                          |  +---abort---> PrepareAbort ---marked--> CompleteAbort
///                 |                          |                     ^                         |
///                 |                          +-------- first partition of the next ----------+
///                 +---- abort without a partition, transaction version 2 ----+
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TransactionState {
    /// No transaction since the producer was initialised.
    Empty,
    /// There are partitions in it.
    Ongoing,
    /// Decided; the markers are being written.
    PrepareCommit,
    /// Decided; the markers are being written.
    PrepareAbort,
    /// All markers are written.
    CompleteCommit,
    /// All markers are written.
    CompleteAbort,
    /// The id is being forgotten.
    Dead,
    /// Never in the log: the producer is fenced on the way to an abort.
    PrepareEpochFence,
}

const ALL: &[(TransactionState, i8, &str)] = &[
    (TransactionState::Empty, 0, "Empty"),
    (TransactionState::Ongoing, 1, "Ongoing"),
    (TransactionState::PrepareCommit, 2, "PrepareCommit"),
    (TransactionState::PrepareAbort, 3, "PrepareAbort"),
    (TransactionState::CompleteCommit, 4, "CompleteCommit"),
    (TransactionState::CompleteAbort, 5, "CompleteAbort"),
    (TransactionState::Dead, 6, "Dead"),
    (TransactionState::PrepareEpochFence, 7, "PrepareEpochFence"),
];

impl TransactionState {
    fn row(self) -> (i8, &'static str) {
        ALL.iter().find(|(state, ..)| *state == self).map_or((0, ""), |(_, code, name)| (*code, name))
    }

    /// As in the log.
    pub fn code(self) -> i8 {
        self.row().0
    }

    /// Reads [`TransactionState::code`].
    pub fn from_code(code: i8) -> Option<Self> {
        ALL.iter().find(|(_, known, _)| *known == code).map(|(state, ..)| *state)
    }

    /// As in descriptions and filters.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Reads [`TransactionState::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        ALL.iter().find(|(_, _, known)| *known == name).map(|(state, ..)| *state)
    }

    /// Whether the outcome is decided and not yet known to every partition.
    pub fn is_prepared(self) -> bool {
        matches!(self, Self::PrepareCommit | Self::PrepareAbort)
    }

    /// Whether nothing is open, so that a next transaction may begin.
    pub fn is_at_rest(self) -> bool {
        matches!(self, Self::Empty | Self::CompleteCommit | Self::CompleteAbort)
    }
}

impl fmt::Display for TransactionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_are_read_back() {
        for (state, code, name) in ALL {
            assert_eq!((state.code(), state.name()), (*code, *name));
            assert_eq!(TransactionState::from_code(*code), Some(*state));
            assert_eq!(TransactionState::from_name(name), Some(*state));
        }
        assert_eq!((TransactionState::from_code(8), TransactionState::from_name("empty")), (None, None));
    }
}
