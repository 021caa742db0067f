//! Rounds of the group, calls to its coordinator, and starts of connectors and tasks.

use std::time::{Duration, Instant};

use aqueduct_client::Heartbeats;

use crate::task::window::Window;

/// Rounds of the group that this worker took part in.
#[derive(Clone, Copy, Debug)]
pub struct Rebalances {
    pub completed: u64,
    /// The generation of the last.
    pub epoch: i32,
    began: Option<Instant>,
    ended: Option<Instant>,
    total: Duration,
    longest: Duration,
}

impl Default for Rebalances {
    fn default() -> Self {
        Self {
            completed: 0,
            epoch: -1,
            began: None,
            ended: None,
            total: Duration::ZERO,
            longest: Duration::ZERO,
        }
    }
}

impl Rebalances {
    pub fn begin(&mut self, now: Instant) {
        self.began.get_or_insert(now);
    }

    pub fn complete(&mut self, now: Instant, epoch: i32) {
        let took = self.began.take().map_or(Duration::ZERO, |began| now.saturating_duration_since(began));
        self.completed += 1;
        self.epoch = epoch;
        self.ended = Some(now);
        self.total += took;
        self.longest = self.longest.max(took);
    }

    /// Whether a round is under way.
    pub fn under_way(&self) -> bool {
        self.began.is_some()
    }

    /// Mean length of a round.
    pub fn average(&self) -> Option<Duration> {
        let completed = u32::try_from(self.completed).ok().filter(|count| *count > 0)?;
        Some(self.total / completed)
    }

    /// Time of all rounds.
    pub fn total(&self) -> Duration {
        self.total
    }

    /// The longest round.
    pub fn longest(&self) -> Option<Duration> {
        (self.completed > 0).then_some(self.longest)
    }

    /// Since the last round ended.
    pub fn since_last(&self, now: Instant) -> Option<Duration> {
        self.ended.map(|ended| now.saturating_duration_since(ended))
    }
}

/// Calls of one kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Calls {
    pub total: u64,
    /// Milliseconds.
    times: Option<Window>,
}

impl Calls {
    /// One has ended, and took so long.
    pub fn note(&mut self, now: Instant, took: Duration) {
        self.total += 1;
        self.times.get_or_insert_with(|| Window::new(now)).add(now, took.as_secs_f64() * 1000.0);
    }

    /// Mean time of those of the last minute, in milliseconds.
    pub fn average(&self, now: Instant) -> Option<f64> {
        self.times.and_then(|times| times.average(now))
    }

    /// Time of the longest of the last minute, in milliseconds.
    pub fn longest(&self, now: Instant) -> Option<f64> {
        self.times.and_then(|times| times.max(now))
    }
}

/// What the worker and the coordinator of its group say to each other.
#[derive(Clone, Debug, Default)]
pub struct Coordination {
    pub joins: Calls,
    pub syncs: Calls,
    /// Rounds that had to be begun again.
    pub failed_rounds: u64,
    /// Connectors and tasks that are this worker's.
    pub assigned: [usize; 2],
    pub heartbeats: Heartbeats,
}

/// Starts of connectors or tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Startups {
    pub attempts: u64,
    pub successes: u64,
    pub failures: u64,
}

impl Startups {
    pub fn note(&mut self, succeeded: bool) {
        self.attempts += 1;
        *(if succeeded { &mut self.successes } else { &mut self.failures }) += 1;
    }

    /// Parts of a whole that succeeded and failed, from 0 to 1, as the reference's "percentages" are.
    pub fn ratios(&self) -> [f64; 2] {
        [self.successes, self.failures].map(|part| match self.attempts {
            0 => 0.0,
            attempts => part as f64 / attempts as f64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_and_starts_are_counted() {
        let now = Instant::now();
        let mut rounds = Rebalances::default();
        assert_eq!((rounds.average(), rounds.longest()), (None, None));
        for (seconds, epoch) in [(2, 1), (4, 2)] {
            rounds.begin(now);
            rounds.begin(now + Duration::from_secs(1));
            assert!(rounds.under_way());
            rounds.complete(now + Duration::from_secs(seconds), epoch);
        }
        assert_eq!(rounds.average(), Some(Duration::from_secs(3)));
        assert_eq!(rounds.longest(), Some(Duration::from_secs(4)));
        assert_eq!(rounds.since_last(now + Duration::from_secs(5)), Some(Duration::from_secs(1)));
        assert_eq!((rounds.completed, rounds.epoch, rounds.under_way()), (2, 2, false));

        let mut calls = Calls::default();
        assert_eq!((calls.average(now), calls.longest(now)), (None, None));
        calls.note(now, Duration::from_millis(10));
        calls.note(now, Duration::from_millis(30));
        assert_eq!((calls.total, calls.average(now), calls.longest(now)), (2, Some(20.0), Some(30.0)));

        let mut starts = Startups::default();
        assert_eq!(starts.ratios(), [0.0, 0.0]);
        [true, true, false, true].into_iter().for_each(|succeeded| starts.note(succeeded));
        assert_eq!(starts, Startups { attempts: 4, successes: 3, failures: 1 });
        assert_eq!(starts.ratios(), [0.75, 0.25]);
    }
}
