//! Where the time of a request goes: RequestMetrics by stage.

use std::cell::Cell;
use std::future::Future;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::histogram::Histogram;
use super::text::Text;

tokio::task_local! {
    /// Microseconds that the request at hand has been parked.
    static PARKED: Cell<u64>;
}

/// The stages, as Kafka names them.
const STAGES: [(&str, &str); 6] = [
    ("RequestQueueTimeMs", "until it is begun with"),
    ("LocalTimeMs", "at work on it"),
    ("RemoteTimeMs", "parked, for records or for other members"),
    ("ResponseQueueTimeMs", "until the answer is begun to be sent"),
    ("ResponseSendTimeMs", "sending the answer"),
    ("TotalTimeMs", "from the request to the end of its answer"),
];
const QUANTILES: [f64; 5] = [0.5, 0.75, 0.95, 0.99, 0.999];

/// The times of one API.
#[derive(Debug, Default)]
pub(crate) struct Stages([Histogram; STAGES.len()]);

/// How long one request was in each stage.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub queued: Duration,
    pub handled: Duration,
    /// Part of `handled`.
    pub parked: Duration,
    pub answer_queued: Duration,
    pub sent: Duration,
}

impl Stages {
    /// Counts one request.
    pub fn record(&self, times: Times) {
        let local = times.handled.saturating_sub(times.parked);
        let total = times.queued + times.handled + times.answer_queued + times.sent;
        let all = [times.queued, local, times.parked, times.answer_queued, times.sent, total];
        self.0.iter().zip(all).for_each(|(histogram, time)| histogram.record(time));
    }
}

/// Writes the times of all APIs that were asked.
pub(super) fn write<'a>(all: impl Iterator<Item = (&'static str, &'a Stages)> + Clone, text: &mut Text) {
    let all = all.map(|(api, stages)| (api, stages.0.each_ref().map(Histogram::snapshot)));
    let all: Vec<_> = all.filter(|(_, stages)| stages.last().is_some_and(|total| total.count > 0)).collect();
    for (at, (name, doc)) in STAGES.iter().enumerate() {
        let family = format!("kafka_network_requestmetrics_{}", name.to_ascii_lowercase());
        let help = format!(
            "kafka.network:type=RequestMetrics,name={name},request=... Milliseconds of a request {doc}"
        );
        text.family(&family, "summary", &help);
        for (api, stages) in &all {
            let snapshot = &stages[at];
            for quantile in QUANTILES {
                let labels = [("request", *api), ("quantile", &quantile.to_string())];
                text.sample("", &labels, snapshot.quantile(quantile) as f64 / 1000.0);
            }
            text.sample("_sum", &[("request", *api)], snapshot.micros as f64 / 1000.0);
            text.sample("_count", &[("request", *api)], snapshot.count as f64);
        }
    }
}

/// Runs a handler and tells how long it was parked meanwhile.
pub(crate) async fn with_parked<F: Future>(handler: F) -> (F::Output, Duration) {
    let timed = async {
        let output = handler.await;
        (output, Duration::from_micros(PARKED.with(Cell::get)))
    };
    PARKED.scope(Cell::new(0), timed).await
}

/// Requests that are parked for the same reason: a purgatory.
#[derive(Debug, Default)]
pub(crate) struct Purgatory(AtomicI64);

impl Purgatory {
    /// Counts a request as parked until the guard is dropped.
    pub fn park(&self) -> Parked<'_> {
        self.0.fetch_add(1, Relaxed);
        Parked { purgatory: self, since: Instant::now() }
    }

    /// Requests that are parked now.
    pub fn size(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// Holds a request's place in a purgatory.
#[derive(Debug)]
pub(crate) struct Parked<'a> {
    purgatory: &'a Purgatory,
    since: Instant,
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.purgatory.0.fetch_sub(1, Relaxed);
        let micros = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        // Outside of a handler nobody asks.
        let _ = PARKED.try_with(|parked| parked.set(parked.get().saturating_add(micros)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_parked_is_not_work() {
        let purgatory = Purgatory::default();
        let (_, parked) = with_parked(async {
            let place = purgatory.park();
            assert_eq!(purgatory.size(), 1);
            tokio::time::sleep(Duration::from_millis(30)).await;
            drop(place);
        })
        .await;
        assert!(parked >= Duration::from_millis(30), "{parked:?}");
        assert_eq!(purgatory.size(), 0);
        let stages = Stages::default();
        let ms = Duration::from_millis;
        stages.record(Times { queued: ms(0), handled: ms(40), parked, answer_queued: ms(0), sent: ms(1) });
        let mut text = Text::default();
        write([("Fetch", &stages)].into_iter(), &mut text);
        let text = text.finish(String::new());
        assert!(
            text.contains("kafka_network_requestmetrics_totaltimems_count{request=\"Fetch\"} 1"),
            "{text}"
        );
        assert!(text.contains("name=RemoteTimeMs"), "{text}");
    }
}
