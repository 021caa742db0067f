//! Counts of what a node decided while it led the quorum, over all its terms.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::controller::Tally;

/// What was decided; what was not agreed on in the end is counted, too.
#[derive(Debug, Default)]
pub struct Decided {
    elections: AtomicU64,
    unclean: AtomicU64,
    eligible: AtomicU64,
    timed_out: AtomicU64,
    terms: AtomicU64,
}

impl Decided {
    pub(super) fn add(&self, tally: Tally) {
        let pairs = [
            (&self.elections, tally.elections),
            (&self.unclean, tally.unclean),
            (&self.eligible, tally.eligible),
            (&self.timed_out, tally.timed_out),
        ];
        for (count, more) in pairs.into_iter().filter(|(_, more)| *more > 0) {
            count.fetch_add(more, Relaxed);
        }
    }

    pub(super) fn became_active(&self) {
        self.terms.fetch_add(1, Relaxed);
    }

    /// What the controllers of this node counted.
    pub fn tally(&self) -> Tally {
        Tally {
            elections: self.elections.load(Relaxed),
            unclean: self.unclean.load(Relaxed),
            eligible: self.eligible.load(Relaxed),
            timed_out: self.timed_out.load(Relaxed),
        }
    }

    /// How often this node became the active controller.
    pub fn terms(&self) -> u64 {
        self.terms.load(Relaxed)
    }
}
