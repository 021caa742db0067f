//! How fast replicas that are not in sync may be copied, so that moving them leaves room for clients (KIP-73).

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::quotas::{Rate, Windows};

/// As `replication.quota.window.num` and `replication.quota.window.size.seconds` have it by default.
const WINDOWS: Windows = Windows { count: 11, size_ms: 1000 };
const NO_LIMIT: i64 = i64::MAX;

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

    /// Whether throttled replicas have to wait.
    pub fn is_exceeded(&self, now_ms: i64) -> bool {
        let limit = self.limit.load(Relaxed);
        limit != NO_LIMIT && self.rate.lock().measure(now_ms, WINDOWS).0 > limit as f64
    }

    /// Takes note of bytes of throttled replicas.
    pub fn record(&self, now_ms: i64, bytes: usize) {
        if bytes > 0 && self.limit.load(Relaxed) != NO_LIMIT {
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
        throttle.record(0, 10_000);
        assert!(!throttle.is_exceeded(0));
        throttle.record(1, 5_000);
        assert!(throttle.is_exceeded(1));
        assert!(!throttle.is_exceeded(20_000));
        throttle.record(20_001, 100_000);
        throttle.set_limit(None);
        assert!(!throttle.is_exceeded(20_001));
    }
}
