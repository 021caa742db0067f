//! The only place that reads the time of day.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Gives the time in milliseconds since 1970, as Kafka's timestamps are. Clones share one clock.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// Where set (not 0), the time stands at this value; tests move it.
    fixed: Arc<AtomicI64>,
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that stands at `now_ms` (above 0) until it is moved.
    pub fn fixed(now_ms: i64) -> Self {
        Self { fixed: Arc::new(AtomicI64::new(now_ms)) }
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        match self.fixed.load(Ordering::Relaxed) {
            0 => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64),
            fixed => fixed,
        }
    }

    /// Moves a fixed clock on.
    pub fn advance(&self, millis: i64) {
        self.fixed.fetch_add(millis, Ordering::Relaxed);
    }
}
