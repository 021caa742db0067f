//! A bucket of tokens: bursts are paid from what was saved, as KIP-599 has it for changes of the metadata.

use super::Windows;

/// Tokens of one client. Times are milliseconds of a clock that does not go back.
#[derive(Debug, Clone, Default)]
pub struct Bucket {
    /// Below 0 while more was taken than there was.
    tokens: f64,
    /// `None` for one that was never used: it is full.
    filled_ms: Option<i64>,
}

impl Bucket {
    /// Takes tokens out, more than there are if need be; a negative amount puts back what was taken too much.
    pub fn take(&mut self, now_ms: i64, amount: f64, limit: f64, windows: Windows) {
        self.fill(now_ms, limit, windows);
        self.tokens = (self.tokens - amount).min(burst(limit, windows));
    }

    /// How long it takes until there is no debt.
    pub fn throttle_ms(&mut self, now_ms: i64, limit: f64, windows: Windows) -> f64 {
        self.fill(now_ms, limit, windows);
        (-self.tokens * 1000.0 / limit).round().max(0.0)
    }

    fn fill(&mut self, now_ms: i64, limit: f64, windows: Windows) {
        let burst = burst(limit, windows);
        self.tokens = match self.filled_ms {
            None => burst,
            Some(filled_ms) => {
                let seconds = (now_ms - filled_ms).max(0) as f64 / 1000.0;
                (self.tokens + seconds * limit).min(burst)
            }
        };
        self.filled_ms = Some(now_ms);
    }
}

/// Tokens of a full bucket.
fn burst(limit: f64, windows: Windows) -> f64 {
    f64::from(windows.count) * windows.size_ms as f64 / 1000.0 * limit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_bucket_pays_a_burst_and_a_debt_is_waited_for() {
        let windows = Windows { count: 11, size_ms: 1000 };
        let mut bucket = Bucket::default();
        bucket.take(0, 20.0, 2.0, windows);
        assert_eq!(bucket.throttle_ms(0, 2.0, windows), 0.0);
        bucket.take(0, 10.0, 2.0, windows);
        assert_eq!(bucket.throttle_ms(0, 2.0, windows), 4000.0);
        assert_eq!(bucket.throttle_ms(3000, 2.0, windows), 1000.0);
        bucket.take(3000, -10.0, 2.0, windows);
        assert_eq!(bucket.throttle_ms(3000, 2.0, windows), 0.0);
        assert_eq!(bucket.throttle_ms(1_000_000, 2.0, windows), 0.0);
        bucket.take(1_000_000, 23.0, 2.0, windows);
        assert_eq!(bucket.throttle_ms(1_000_000, 2.0, windows), 500.0);
    }
}
