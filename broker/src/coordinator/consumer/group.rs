//! A consumer group at work: its state, and what a broker remembers of it only while it coordinates it.

use super::state::State;

/// A group of the consumer protocol.
#[derive(Debug)]
pub struct ConsumerGroup {
    pub state: State,
    /// Whether topics that it reads may have changed since the last look.
    pub stale: bool,
    /// Whether topics have come or gone since patterns were last resolved.
    pub patterns_stale: bool,
    /// When patterns were last resolved, on the clock of ticks.
    pub patterns_at: Option<i64>,
}

impl ConsumerGroup {
    pub fn new(state: State) -> Self {
        Self { state, stale: true, patterns_stale: true, patterns_at: None }
    }
}

impl Default for ConsumerGroup {
    fn default() -> Self {
        Self::new(State::default())
    }
}
