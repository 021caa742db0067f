//! Quotas as handlers meet them: what a request uses is charged, and the connection pauses after its answer.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytestring::ByteString;

use super::{Client, Context};
use crate::node::Node;
use crate::quotas::{QuotaExceeded, QuotaKey, Who};

/// How long a connection is to be left alone once the request in progress has been answered.
#[derive(Debug, Default)]
pub(crate) struct Throttle(AtomicU32);

impl Throttle {
    /// Asks for a pause; the longest that is asked for counts.
    pub fn raise(&self, milliseconds: u32) {
        self.0.fetch_max(milliseconds, Ordering::Relaxed);
    }

    /// What the client is told.
    pub fn milliseconds(&self) -> i32 {
        self.0.load(Ordering::Relaxed) as i32
    }

    /// The pause that is due, which is begun anew with the next request.
    pub fn take(&self) -> Option<Duration> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            _ => Some(Duration::from_millis(self.0.swap(0, Ordering::Relaxed).into())),
        }
    }
}

impl Context {
    fn client_id(&self) -> ByteString {
        self.client_id.clone().unwrap_or_default()
    }

    /// Counts `amount` against the client's quota of this kind, and asks for the pause that it costs.
    pub fn charge(&self, key: QuotaKey, amount: f64) -> u32 {
        let quotas = &self.node.metadata.image().quotas;
        if quotas.is_empty() {
            return 0;
        }
        let who = Who { user: &self.client.principal.name, client_id: &self.client_id() };
        let pause = self.node.usage.charge(quotas, key, who, amount);
        self.throttle.raise(pause);
        pause
    }

    /// Takes back what was counted and then not given; the pause stays.
    pub fn refund(&self, key: QuotaKey, amount: f64) {
        let quotas = &self.node.metadata.image().quotas;
        let who = Who { user: &self.client.principal.name, client_id: &self.client_id() };
        self.node.usage.refund(quotas, key, who, amount);
    }

    /// The most bytes that a consumer can be given at once without being throttled for it for sure.
    pub fn most_fetched_at_once(&self) -> usize {
        let quotas = &self.node.metadata.image().quotas;
        if quotas.is_empty() {
            return usize::MAX;
        }
        let who = Who { user: &self.client.principal.name, client_id: &self.client_id() };
        let most = self.node.usage.most_at_once(quotas, QuotaKey::ConsumerByteRate, who);
        most.map_or(usize::MAX, |most| most as usize)
    }

    /// Whether changes of the metadata are limited for anybody.
    pub fn counts_mutations(&self) -> bool {
        self.node.metadata.image().quotas.has(QuotaKey::ControllerMutationRate)
    }

    /// Charges the client for `count` changes of the metadata, and asks for the pause that they cost.
    ///
    /// # Errors
    /// With `strict`, that the client is over its quota already, so that the change is not to be made.
    pub fn charge_mutations(&self, count: usize, strict: bool) -> Result<(), QuotaExceeded> {
        let quotas = &self.node.metadata.image().quotas;
        if !quotas.has(QuotaKey::ControllerMutationRate) {
            return Ok(());
        }
        let who = Who { user: &self.client.principal.name, client_id: &self.client_id() };
        let pause = self.node.usage.mutate(quotas, who, count as f64, strict);
        self.throttle.raise(pause.unwrap_or_else(|pause| pause));
        pause.map(|_| ()).map_err(|_| QuotaExceeded)
    }
}

/// Measures the time that a request keeps a thread busy: that of waiting is not counted, nor is work handed to others.
pub(super) struct Work {
    node: Arc<Node>,
    client: Arc<Client>,
    client_id: ByteString,
    throttle: Arc<Throttle>,
    busy: Duration,
}

impl Work {
    /// `None` where nobody's time is limited.
    pub fn begin(context: &Context) -> Option<Self> {
        if !context.node.metadata.image().quotas.has(QuotaKey::RequestPercentage) {
            return None;
        }
        Some(Self {
            node: context.node.clone(),
            client: context.client.clone(),
            client_id: context.client_id(),
            throttle: context.throttle.clone(),
            busy: Duration::ZERO,
        })
    }

    /// Carries out a part of the request.
    pub async fn time<F: Future>(work: &mut Option<Self>, part: F) -> F::Output {
        let Some(work) = work else { return part.await };
        let mut part = pin!(part);
        std::future::poll_fn(|context| {
            let started = Instant::now();
            let polled: Poll<F::Output> = part.as_mut().poll(context);
            work.busy += started.elapsed();
            polled
        })
        .await
    }

    /// Charges what was measured.
    pub fn charge(work: Option<Self>) {
        let Some(work) = work else { return };
        let quotas = &work.node.metadata.image().quotas;
        let who = Who { user: &work.client.principal.name, client_id: &work.client_id };
        let percent_seconds = work.busy.as_secs_f64() * 100.0;
        let pause = work.node.usage.charge(quotas, QuotaKey::RequestPercentage, who, percent_seconds);
        work.throttle.raise(pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_pause_counts_once() {
        let throttle = Throttle::default();
        assert_eq!(throttle.take(), None);
        throttle.raise(5);
        throttle.raise(3);
        assert_eq!(throttle.milliseconds(), 5);
        assert_eq!(throttle.take(), Some(Duration::from_millis(5)));
        assert_eq!(throttle.take(), None);
    }
}
