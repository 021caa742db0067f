use std::time::{Duration, Instant};

/// Spreads work over time: who wants to move bytes is told how long to wait before.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    /// When all that was granted before will have had its time.
    free_at: Option<Instant>,
}

/// A wait that is longer says nothing more.
const LONGEST: Duration = Duration::from_secs(3600);

impl Throttle {
    /// Grants `bytes` at `rate` bytes a second.
    pub fn grant(&mut self, now: Instant, bytes: u64, rate: f64) -> Duration {
        let cost = Duration::try_from_secs_f64(bytes as f64 / rate).unwrap_or(LONGEST).min(LONGEST);
        if cost.is_zero() {
            return cost;
        }
        let start = self.free_at.map_or(now, |free_at| free_at.max(now));
        self.free_at = Some(start + cost);
        start.saturating_duration_since(now) + cost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_their_time_together() {
        let mut throttle = Throttle::default();
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        assert_eq!(throttle.grant(start, 500, 1000.0), second / 2);
        assert_eq!(
            throttle.grant(start, 1000, 1000.0),
            second * 3 / 2,
            "a second thread waits for the first"
        );
        assert_eq!(throttle.grant(start + second * 2, 1000, 1000.0), second, "nothing is saved up");
        assert_eq!(throttle.grant(start, 1 << 30, f64::MAX), Duration::ZERO);
        assert_eq!(throttle.grant(start + second * 9, 1, 0.0), LONGEST);
    }
}
