//! Pauses between attempts.

use std::time::Duration;

/// The longest pause: a server that was away for long should not be waited for as long again.
const LONGEST: Duration = Duration::from_secs(30);

/// The pause before attempt `attempt`, which counts from 1 for the first retry: random below `base` × 2^`attempt`, so that
/// several tasks do not come back at once. `random` is from 0 to 1.
pub fn pause(base: Duration, attempt: u32, random: f64) -> Duration {
    let most = base.saturating_mul(1u32.checked_shl(attempt).unwrap_or(u32::MAX)).min(LONGEST);
    most.mul_f64(random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit() {
        let base = Duration::from_millis(100);
        assert_eq!(pause(base, 1, 1.0), Duration::from_millis(200));
        assert_eq!(pause(base, 5, 0.5), Duration::from_millis(1600));
        assert_eq!(pause(base, 60, 1.0), LONGEST);
        assert_eq!(pause(base, 3, 0.0), Duration::ZERO);
    }
}
