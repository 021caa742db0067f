//! When a voter that hears of no leader stands for election.
//!
//! openraft draws a node's patience once for its whole life, and looks at the clock in steps of a heartbeat and a half.
//! Nodes that were started together share these steps, and where their patience ends in the same step they stand against
//! each other again and again. So its own timer is off, and this one draws anew each time, to the millisecond.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use openraft::ServerState;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::types::{NodeId, Raft};

/// The time that is left for a leader to be heard of.
#[derive(Debug)]
pub struct Patience {
    /// For so long after it heard of a leader a node grants nobody else its vote.
    lease: Duration,
    /// At most so much is added.
    spread: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    seed: u64,
    /// Times that the node stood since it heard of anybody.
    rounds: u32,
    due: Instant,
}

/// Doublings of the time between two rounds.
const DOUBLINGS: u32 = 4;

impl Patience {
    /// `seed` tells nodes apart, and the lives of one node.
    pub fn new(lease: Duration, spread: Duration, seed: impl Hash) -> Self {
        let state = Mutex::new(State { seed: hash(&seed), rounds: 0, due: Instant::now() });
        let patience = Self { lease, spread, state };
        patience.heard();
        patience
    }

    /// A leader showed that it lives, or somebody was granted the vote who may be leader soon.
    pub fn heard(&self) {
        let mut state = self.state.lock();
        state.rounds = 0;
        state.begin(self.lease, self.spread);
    }

    /// The node stood for election. Nobody has a lease, so the next round can be soon; but where votes are slow to come,
    /// a new round voids those that are under way, so each waits for longer.
    fn stood(&self) {
        let mut state = self.state.lock();
        let factor = 1 << state.rounds.min(DOUBLINGS);
        state.rounds += 1;
        state.begin(self.lease / 4 * factor, self.spread * factor);
    }

    fn due(&self) -> Instant {
        self.state.lock().due
    }

    /// Has the node stand whenever its patience has ended, for as long as it runs.
    pub async fn watch(&self, id: NodeId, raft: &Raft) {
        let metrics = raft.metrics();
        loop {
            let due = self.due();
            if due > Instant::now() {
                sleep_until(due).await;
                continue;
            }
            let waits = {
                let now = metrics.borrow();
                let votes = now.membership_config.membership().voter_ids().any(|voter| voter == id);
                votes && matches!(now.state, ServerState::Follower | ServerState::Candidate)
            };
            if !waits {
                self.heard();
                continue;
            }
            tracing::info!("no leader of the metadata quorum is heard of: this node stands for election");
            self.stood();
            if raft.trigger().elect().await.is_err() {
                return;
            }
        }
    }
}

impl State {
    fn begin(&mut self, least: Duration, spread: Duration) {
        self.seed = hash(&self.seed);
        let spread = u64::try_from(spread.as_micros()).unwrap_or(u64::MAX).max(1);
        self.due = Instant::now() + least + Duration::from_micros(self.seed % spread);
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_millis(400);
    const SPREAD: Duration = Duration::from_millis(200);

    #[tokio::test(start_paused = true)]
    async fn candidates_part_within_a_few_rounds() {
        for seed in 0..1000_u64 {
            let (one, other) =
                (Patience::new(LEASE, SPREAD, (seed, 1)), Patience::new(LEASE, SPREAD, (seed, 2)));
            let apart = |one: Instant, other: Instant| one.max(other) - one.min(other);
            let mut rounds = 0;
            // A vote takes a few milliseconds.
            while apart(one.due(), other.due()) < Duration::from_millis(10) {
                one.stood();
                other.stood();
                rounds += 1;
                assert!(rounds < 10, "seed {seed}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rounds_wait_for_slow_votes() {
        let patience = Patience::new(LEASE, SPREAD, 7);
        let lefts: Vec<Duration> = (0..8)
            .map(|_| {
                patience.stood();
                patience.due() - Instant::now()
            })
            .collect();
        assert!(lefts[0] < Duration::from_millis(300), "{lefts:?}");
        assert!(lefts[4..].iter().all(|left| *left >= Duration::from_millis(1600)), "{lefts:?}");
        patience.heard();
        patience.stood();
        assert!(patience.due() - Instant::now() < Duration::from_millis(300));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_stands_while_others_hold_to_a_leader() {
        let patience = Patience::new(LEASE, SPREAD, 7);
        for _ in 0..100 {
            patience.heard();
            let left = patience.due() - Instant::now();
            assert!(left >= LEASE && left <= LEASE + SPREAD, "{left:?}");
        }
    }
}
