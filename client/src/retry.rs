//! Retries of one operation: how long yet, and what went wrong last.

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::error::{Error, Result};

/// The retries of one operation within a time limit.
#[derive(Debug)]
pub(crate) struct Retry {
    what: String,
    limit: Duration,
    deadline: Instant,
    backoff: Backoff,
    failures: u32,
}

impl Retry {
    pub(crate) fn new(what: impl Into<String>, limit: Duration, backoff: Backoff) -> Self {
        // Kafka's "for ever" is 2^63 ms; the clock does not reach that far.
        let limit = limit.min(Duration::from_secs(100 * 365 * 24 * 3600));
        Self { what: what.into(), limit, deadline: Instant::now() + limit, backoff, failures: 0 }
    }

    /// Waits until the next attempt is due; gives back `error` where it is final, or [`Error::Timeout`] with it inside
    /// where no time is left.
    pub(crate) async fn after(&mut self, error: Error) -> Result<()> {
        if !error.is_retriable() {
            return Err(error);
        }
        self.failures = self.failures.saturating_add(1);
        let next = Instant::now() + self.backoff.jittered(self.failures);
        if next >= self.deadline {
            return Err(self.timeout(Some(error)));
        }
        tracing::debug!(what = self.what, %error, "will retry");
        tokio::time::sleep_until(next).await;
        Ok(())
    }

    /// [`Error::Timeout`] for this operation.
    pub(crate) fn timeout(&self, last: Option<Error>) -> Error {
        Error::Timeout { what: self.what.clone(), after: self.limit, last: last.map(Box::new) }
    }
}
