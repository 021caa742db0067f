//! How fast replicas that are not in sync may be copied, so that moving them leaves room for clients (KIP-73).

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

use crate::quotas::{Rate, Windows};

/// As `replication.quota.window.num` and `replication.quota.window.size.seconds` have it by default.
const WINDOWS: Windows = Windows { count: 11, size_ms: 1000 };
const NO_LIMIT: i64 = i64::MAX;
/// How much of the limit may be used up at once after nothing was copied for a while. What is copied in one go keeps clients
/// waiting.
const CREDIT_MS: i64 = 100;
/// The longest pause that is told; whoever pauses looks again.
const LONGEST_MS: f64 = 1000.0;

/// The limit of one direction, for all throttled replicas of the broker together.
#[derive(Debug)]
pub(crate) struct Throttle {
    /// Bytes a second.
    limit: AtomicI64,
    rate: Mutex<Rate>,
}

impl Default for Throttle {
    fn default() -> Self {
        Self { limit: AtomicI64::new(NO_LIMIT), rate: Mutex::default() }
    }
}

impl Throttle {
    /// Changes the limit; `None` takes it away.
    pub fn set_limit(&self, bytes_per_second: Option<i64>) {
        self.limit.store(bytes_per_second.unwrap_or(NO_LIMIT), Relaxed);
    }

    /// Whether there is a limit.
    pub fn is_limited(&self) -> bool {
        self.limit.load(Relaxed) != NO_LIMIT
    }

    /// Whether throttled replicas have to wait.
    pub fn is_exceeded(&self, now_ms: i64) -> bool {
        self.pause(now_ms).is_some()
    }

    /// For how long throttled replicas have to wait, if they have to.
    pub fn pause(&self, now_ms: i64) -> Option<Duration> {
        let limit = self.limit.load(Relaxed);
        if limit == NO_LIMIT {
            return None;
        }
        let pause = self.rate.lock().pause_ms(now_ms, limit as f64, WINDOWS, CREDIT_MS);
        (pause > 0.0).then(|| Duration::from_millis(pause.clamp(1.0, LONGEST_MS).ceil() as u64))
    }

    /// Takes note of bytes of throttled replicas.
    pub fn record(&self, now_ms: i64, bytes: usize) {
        if bytes > 0 && self.is_limited() {
            self.rate.lock().record(now_ms, bytes as f64, WINDOWS);
        }
    }
}

/// Which sides of a replica are throttled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sides {
    pub as_leader: bool,
    pub as_follower: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_holds_back_until_the_burst_is_paid_for() {
        let throttle = Throttle::default();
        throttle.record(0, 1 << 30);
        assert!(!throttle.is_exceeded(0), "there is no limit");
        throttle.set_limit(Some(1000));
        throttle.record(0, 100);
        assert!(!throttle.is_exceeded(0));
        throttle.record(1, 3_900);
        assert!(throttle.is_exceeded(1), "there is no credit of a time before");
        assert_eq!(throttle.pause(3_500), Some(Duration::from_millis(500)));
        assert!(throttle.is_exceeded(3_999));
        assert!(!throttle.is_exceeded(4_000));
        throttle.record(20_001, 100_000);
        assert_eq!(throttle.pause(20_001), Some(Duration::from_secs(1)));
        throttle.set_limit(None);
        assert!(!throttle.is_exceeded(20_001));
    }
}
