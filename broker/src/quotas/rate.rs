//! How fast something goes, measured over sliding windows as Kafka does it.

use std::collections::VecDeque;

/// The windows of a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// How many there are, the one in progress included.
    pub count: u32,
    pub size_ms: i64,
}

impl Windows {
    fn span_ms(self) -> i64 {
        i64::from(self.count) * self.size_ms
    }

    /// Seconds of all windows that are complete.
    pub fn complete_seconds(self) -> f64 {
        (i64::from(self.count) - 1).max(0) as f64 * self.size_ms as f64 / 1000.0
    }
}

/// Amounts of the last windows. Times are milliseconds of a clock that does not go back.
#[derive(Debug, Clone, Default)]
pub struct Rate {
    samples: VecDeque<Sample>,
}

#[derive(Debug, Clone)]
struct Sample {
    start_ms: i64,
    last_ms: i64,
    sum: f64,
}

impl Rate {
    /// Adds an amount; a negative one takes back what was added too much.
    pub fn record(&mut self, now_ms: i64, amount: f64, windows: Windows) {
        let is_full = |sample: &Sample| now_ms - sample.start_ms >= windows.size_ms;
        if self.samples.back().is_none_or(is_full) {
            self.forget(now_ms, windows);
            // One more than the windows: the oldest may reach into them.
            if self.samples.len() > windows.count as usize {
                self.samples.pop_front();
            }
            self.samples.push_back(Sample { start_ms: now_ms, last_ms: now_ms, sum: 0.0 });
        }
        if let Some(sample) = self.samples.back_mut() {
            sample.sum += amount;
            sample.last_ms = now_ms;
        }
    }

    fn forget(&mut self, now_ms: i64, windows: Windows) {
        while self.samples.front().is_some_and(|sample| now_ms - sample.last_ms >= windows.span_ms()) {
            self.samples.pop_front();
        }
    }

    /// All that the windows hold, and the milliseconds since the oldest of them began.
    fn total(&mut self, now_ms: i64, windows: Windows) -> (f64, i64) {
        self.forget(now_ms, windows);
        let elapsed = self.samples.front().map_or(0, |sample| now_ms - sample.start_ms);
        (self.samples.iter().map(|sample| sample.sum).sum(), elapsed)
    }

    /// Amount a second, and the milliseconds that it was measured over. A measurement that has just begun counts as if
    /// nothing had happened in the windows before it.
    pub fn measure(&mut self, now_ms: i64, windows: Windows) -> (f64, f64) {
        let (total, mut elapsed) = self.total(now_ms, windows);
        let missing = i64::from(windows.count) - 1 - elapsed / windows.size_ms;
        elapsed += missing.max(0) * windows.size_ms;
        let window_ms = elapsed.max(1) as f64;
        (total * 1000.0 / window_ms, window_ms)
    }

    /// How long the one who was measured since its oldest window began has to pause until no more than `limit` a second went
    /// since then; 0 where that is so. What has just begun has the credit of `credit_ms`. Replicas are throttled by this one.
    pub fn pause_ms(&mut self, now_ms: i64, limit: f64, windows: Windows, credit_ms: i64) -> f64 {
        let (total, elapsed) = self.total(now_ms, windows);
        let due = total * 1000.0 / limit;
        if due <= elapsed.max(credit_ms) as f64 { 0.0 } else { due - elapsed as f64 }
    }

    /// How long the one who was measured has to pause to come down to `limit`; 0 where the rate is within it.
    pub fn throttle_ms(&mut self, now_ms: i64, limit: f64, windows: Windows) -> f64 {
        let (rate, window_ms) = self.measure(now_ms, windows);
        if rate <= limit { 0.0 } else { ((rate - limit) / limit * window_ms).round() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOWS: Windows = Windows { count: 11, size_ms: 1000 };

    #[test]
    fn a_burst_is_measured_over_ten_windows_and_throttled_to_the_limit() {
        let mut rate = Rate::default();
        rate.record(0, 1000.0, WINDOWS);
        let (per_second, window_ms) = rate.measure(0, WINDOWS);
        assert_eq!((per_second, window_ms), (100.0, 10_000.0));
        assert_eq!(rate.throttle_ms(0, 100.0, WINDOWS), 0.0);
        rate.record(500, 1100.0, WINDOWS);
        // 2100 in 10.5 s is twice the limit: as long again brings it down.
        assert_eq!(rate.throttle_ms(500, 100.0, WINDOWS), 10_500.0);
    }

    #[test]
    fn what_lies_behind_all_windows_is_forgotten() {
        let mut rate = Rate::default();
        rate.record(0, 1000.0, WINDOWS);
        assert!(rate.measure(10_999, WINDOWS).0 > 0.0);
        assert_eq!(rate.measure(11_000, WINDOWS).0, 0.0);
        rate.record(50_000, -5.0, WINDOWS);
        assert!(rate.measure(50_000, WINDOWS).0 < 0.0);
    }

    proptest! {
        // Of requests larger than the limit of a second each has its ten windows free once the one before is forgotten, as
        // with Apache Kafka.
        #[test]
        fn whoever_pauses_as_told_stays_near_the_limit(
            limit in 1e6..1e9f64, sizes in proptest::collection::vec(1.0..1e6f64, 50..200),
        ) {
            let mut rate = Rate::default();
            let (mut now, mut sent) = (0i64, 0.0);
            for size in &sizes {
                rate.record(now, *size, WINDOWS);
                sent += size;
                now += rate.throttle_ms(now, limit, WINDOWS) as i64 + 1;
                prop_assert!(rate.samples.len() <= 12);
            }
            // Free at the start: ten windows of the limit, and the last request.
            let most = limit * (now as f64 / 1000.0 + 11.0) + 1e6;
            prop_assert!(sent <= most, "{sent} in {now} ms at {limit}/s");
        }
    }
}
