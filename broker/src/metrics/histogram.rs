//! Counts durations by size, with atomics alone: four buckets to each power of two, so that a percentile is off by a fifth
//! at most.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Durations of up to 2^32 microseconds, over an hour, are told apart.
const BUCKETS: usize = 4 * 31 + 4;

/// What is added up of many durations.
#[derive(Debug)]
pub(crate) struct Histogram {
    count: AtomicU64,
    micros: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

/// The state of a histogram at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub count: u64,
    pub micros: u64,
    buckets: Vec<u64>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl Histogram {
    pub const fn new() -> Self {
        Self {
            count: AtomicU64::new(0),
            micros: AtomicU64::new(0),
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
        }
    }

    /// Counts one duration.
    pub fn record(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.count.fetch_add(1, Relaxed);
        self.micros.fetch_add(micros, Relaxed);
        self.buckets[bucket(micros)].fetch_add(1, Relaxed);
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            count: self.count.load(Relaxed),
            micros: self.micros.load(Relaxed),
            buckets: self.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect(),
        }
    }
}

/// Below four each number has a bucket; above, the two bits after the highest choose among four.
fn bucket(micros: u64) -> usize {
    if micros < 4 {
        return micros as usize;
    }
    let power = micros.ilog2() as usize;
    let quarter = (micros >> (power - 2)) as usize & 3;
    (4 * (power - 1) + quarter).min(BUCKETS - 1)
}

/// The largest number of a bucket.
fn upper(bucket: usize) -> u64 {
    if bucket < 4 {
        return bucket as u64;
    }
    let (power, quarter) = (bucket / 4 + 1, bucket as u64 % 4);
    ((4 + quarter + 1) << (power - 2)) - 1
}

impl Snapshot {
    /// The duration that so large a share of all is not above, in microseconds; 0 where there are none.
    pub fn quantile(&self, share: f64) -> u64 {
        let total: u64 = self.buckets.iter().sum();
        let wanted = (share * total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (at, count) in self.buckets.iter().enumerate() {
            seen += count;
            if total > 0 && seen >= wanted {
                return upper(at);
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_within_its_bucket() {
        let mut last = 0;
        for micros in (0..10_000).chain((14..40).map(|power| (1u64 << power) + 5)) {
            let at = bucket(micros);
            assert!(at >= last && at < BUCKETS);
            assert!(upper(at) >= micros || at == BUCKETS - 1, "{micros}");
            assert!(at == 0 || upper(at - 1) < micros, "{micros}");
            last = at;
        }
    }

    #[test]
    fn percentiles_are_near() {
        let histogram = Histogram::default();
        assert_eq!(histogram.snapshot().quantile(0.99), 0);
        (1..=1000).for_each(|micros| histogram.record(Duration::from_micros(micros)));
        let snapshot = histogram.snapshot();
        assert_eq!((snapshot.count, snapshot.micros), (1000, 500_500));
        for (share, exact) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = snapshot.quantile(share) as f64;
            assert!((found - exact).abs() / exact < 0.2, "{share}: {found}");
        }
    }
}
