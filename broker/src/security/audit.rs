//! The log of decisions, under the name of Kafka's authorizer log: denials at info, permissions at debug.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::authorizer::Rule;
use super::{Operation, ResourceType};
use crate::api::Client;

/// Where filters of the log find it.
const TARGET: &str = "kafka.authorizer.logger";
/// Denials that are logged in one [`WINDOW`]; the others are counted.
const MOST: u32 = 100;
const WINDOW: Duration = Duration::from_secs(1);
/// Longer names are cut: a client chooses them.
const LONGEST_NAME: usize = 300;

/// Logs decisions. A client that is denied again and again fills neither disk nor log.
#[derive(Debug, Default)]
pub(super) struct Audit {
    denials: Mutex<Denials>,
}

#[derive(Debug, Default)]
struct Denials {
    since: Option<Instant>,
    logged: u32,
    left_out: u64,
}

impl Audit {
    pub fn log(
        &self,
        allowed: bool,
        client: &Client,
        operation: Operation,
        (resource, name): (ResourceType, &str),
        rule: Rule<'_>,
    ) {
        let Client { principal, ip, .. } = client;
        let name = name.char_indices().nth(LONGEST_NAME).map_or(name, |(end, _)| &name[..end]);
        if allowed {
            tracing::debug!(target: TARGET, %principal, host = %ip, ?operation, ?resource, name, %rule, "allowed");
            return;
        }
        let admitted = self.denials.lock().admit(Instant::now());
        let Some(left_out) = admitted else { return };
        if left_out > 0 {
            tracing::info!(target: TARGET, left_out, "more was denied than is logged");
        }
        tracing::info!(target: TARGET, %principal, host = %ip, ?operation, ?resource, name, %rule, "denied");
    }
}

impl Denials {
    /// Whether a denial of this moment is logged; if so, how many before it were not.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW) {
            self.since = Some(now);
            self.logged = 0;
        }
        if self.logged == MOST {
            self.left_out += 1;
            return None;
        }
        self.logged += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_denials_is_counted_not_logged() {
        let mut denials = Denials::default();
        let now = Instant::now();
        let logged = (0..1000).filter(|_| denials.admit(now).is_some()).count();
        assert_eq!(logged, MOST as usize);
        assert_eq!(denials.admit(now + WINDOW), Some(900));
        assert_eq!(denials.admit(now + WINDOW), Some(0));
    }
}
