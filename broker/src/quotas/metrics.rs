//! What clients with quotas use, for the exporter: read when it asks, so that counting costs nothing.

use std::fmt::Error;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::QuotaKey;
use super::usage::{Tags, Usage};

/// Rates and pauses by user and client id.
#[derive(Debug)]
pub(crate) struct QuotaMetrics(pub Arc<Usage>);

/// A client's labels, what it uses a second, and how long it was told to pause.
type Shown = (Tags, f64, u64);

impl Collector for QuotaMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let usage = &*self.0;
        let now_ms = usage.now_ms();
        for (key, clients) in &usage.rates {
            let (kind, rate, help) = match key {
                QuotaKey::ProducerByteRate => {
                    ("produce", "byte_rate", "Bytes a second of requests to produce")
                }
                QuotaKey::ConsumerByteRate => ("fetch", "byte_rate", "Bytes a second of records fetched"),
                _ => ("request", "request_time", "Percents of a thread that requests take"),
            };
            let shown: Vec<Shown> = clients
                .lock()
                .iter_mut()
                .map(|(tags, client)| {
                    (tags.clone(), client.meter.measure(now_ms, usage.windows).0, client.throttled_ms)
                })
                .collect();
            if shown.is_empty() {
                continue;
            }
            let name = format!("server_{kind}_{rate}");
            let mut family = encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?;
            for (tags, rate, _) in &shown {
                ConstGauge::new(*rate).encode(family.encode_family(&labels(tags))?)?;
            }
            throttles(&mut encoder, kind, &shown)?;
        }
        let changes = usage
            .mutations
            .lock()
            .iter_mut()
            .map(|(tags, client)| (tags.clone(), 0.0, client.throttled_ms))
            .collect::<Vec<_>>();
        if changes.is_empty() { Ok(()) } else { throttles(&mut encoder, "controllermutation", &changes) }
    }
}

fn throttles(encoder: &mut DescriptorEncoder<'_>, kind: &str, shown: &[Shown]) -> Result<(), Error> {
    let name = format!("server_{kind}_throttle_time_milliseconds");
    let help = "Time that clients over their quota were told to pause";
    let mut family = encoder.encode_descriptor(&name, help, None, MetricType::Counter)?;
    for (tags, _, throttled_ms) in shown {
        ConstCounter::new(*throttled_ms).encode(family.encode_family(&labels(tags))?)?;
    }
    Ok(())
}

fn labels(tags: &Tags) -> [(&'static str, String); 2] {
    [("user", tags.user.to_string()), ("client_id", tags.client_id.to_string())]
}
