//! Exponential backoff with jitter, as Kafka's clients wait before they retry or reconnect.

use std::time::Duration;

/// How far a wait may be off its nominal length, either way.
const JITTER: f64 = 0.2;

/// Bounds of an exponential backoff: `retry.backoff.ms` and `retry.backoff.max.ms`, or their `reconnect.` counterparts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first wait.
    pub initial: Duration,
    /// What no wait exceeds (jitter aside).
    pub max: Duration,
}

impl Backoff {
    /// The wait before attempt `failures + 1`, given `random` in `0.0..1.0`: `initial · 2^(failures-1)` up to `max`, ±20 %.
    pub fn delay(&self, failures: u32, random: f64) -> Duration {
        if failures == 0 {
            return Duration::ZERO;
        }
        let doubled = self.initial.saturating_mul(1u32.checked_shl(failures - 1).unwrap_or(u32::MAX).max(1));
        doubled.min(self.max).mul_f64(1.0 - JITTER + 2.0 * JITTER * random.clamp(0.0, 1.0))
    }

    /// [`Backoff::delay`] with a random number of its own.
    pub fn jittered(&self, failures: u32) -> Duration {
        self.delay(failures, rand::random())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_maximum() {
        let backoff = Backoff { initial: Duration::from_millis(100), max: Duration::from_millis(1000) };
        let nominal: Vec<u128> = (0..7).map(|n| backoff.delay(n, 0.5).as_millis()).collect();
        assert_eq!(nominal, [0, 100, 200, 400, 800, 1000, 1000]);
        assert_eq!(backoff.delay(u32::MAX, 0.5).as_millis(), 1000);
    }

    #[test]
    fn jitter_stays_within_a_fifth() {
        let backoff = Backoff { initial: Duration::from_millis(100), max: Duration::from_millis(1000) };
        assert_eq!(backoff.delay(1, 0.0).as_millis(), 80);
        assert_eq!(backoff.delay(1, 1.0).as_millis(), 120);
    }
}
