//! What is known of a member's heartbeats, for those who watch it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// For how long a heartbeat counts.
const SPAN: Duration = Duration::from_secs(60);
/// The most that are kept; with less than a heartbeat a second all of the last minute are.
const MOST: usize = 64;

/// Heartbeats of a member. Clones are views of the same, and do not keep the member alive.
#[derive(Clone, Debug, Default)]
pub struct Heartbeats(Arc<Mutex<Beats>>);

#[derive(Debug, Default)]
struct Beats {
    total: u64,
    last: Option<Instant>,
    /// When an answer came, and how long it took.
    recent: VecDeque<(Instant, Duration)>,
}

impl Heartbeats {
    /// How many have been sent.
    pub fn total(&self) -> u64 {
        self.0.lock().total
    }

    /// For how long none has been sent.
    pub fn since_last(&self, now: Instant) -> Option<Duration> {
        self.0.lock().last.map(|last| now.saturating_duration_since(last))
    }

    /// The longest that the coordinator took to answer one in the last minute.
    pub fn longest(&self, now: Instant) -> Option<Duration> {
        let counts = |(at, _): &&(Instant, Duration)| now.saturating_duration_since(*at) <= SPAN;
        self.0.lock().recent.iter().filter(counts).map(|(_, took)| *took).max()
    }

    pub(super) fn sent(&self, now: Instant) {
        let mut beats = self.0.lock();
        beats.total += 1;
        beats.last = Some(now);
    }

    pub(super) fn answered(&self, now: Instant) {
        let mut beats = self.0.lock();
        let took = beats.last.map_or(Duration::ZERO, |sent| now.saturating_duration_since(sent));
        if beats.recent.len() == MOST {
            beats.recent.pop_front();
        }
        beats.recent.push_back((now, took));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_minute_counts() {
        let (beats, start) = (Heartbeats::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!((beats.total(), beats.since_last(start), beats.longest(start)), (0, None, None));
        let view = beats.clone();
        for (sent, answered) in [(1, 6), (10, 11)] {
            beats.sent(at(sent));
            beats.answered(at(answered));
        }
        assert_eq!((view.total(), view.since_last(at(12))), (2, Some(Duration::from_secs(2))));
        assert_eq!(view.longest(at(12)), Some(Duration::from_secs(5)));
        assert_eq!(view.longest(at(70)), Some(Duration::from_secs(1)));
        (0..100).for_each(|second| beats.answered(at(100 + second)));
        assert_eq!(beats.0.lock().recent.len(), MOST);
    }
}
