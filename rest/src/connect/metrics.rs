//! `GET /metrics`: what the worker counts, in Prometheus' text format. A name is Kafka's own, `TYPE` and `ATTRIBUTE` of its
//! MBean joined (`sink-task-metrics`, `put-batch-avg-time-ms`: `kafka_connect_sink_task_put_batch_avg_time_ms`), as the
//! usual rules for the JMX exporter make it; the help text names the MBean. There is one series for each task and metric.

mod coordinator;
mod plugins;
mod task;
mod text;

use std::time::Instant;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use self::task::{METRICS, Of};
use self::text::Text;
use super::ConnectApi;
use super::routes::{Endpoint, at};

pub fn endpoints() -> Vec<Endpoint> {
    vec![at("/metrics").get(metrics).any_format()]
}

async fn metrics(State(api): State<ConnectApi>) -> impl IntoResponse {
    let text = render(&api);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

fn render(api: &ConnectApi) -> String {
    let mut text = Text::default();
    worker(api, &mut text);
    rebalances(api, &mut text);
    coordinator::write(api, &mut text);
    connectors(api, &mut text);
    plugins::write(api, &mut text);
    tasks(api, &mut text);
    text.0
}

const WORKER: &str = "connect-worker-metrics";
const REBALANCE: &str = "connect-worker-rebalance-metrics";
const CONNECTOR: &str = "connector-metrics";
const TASK: &str = "connector-task-metrics";

fn worker(api: &ConnectApi, text: &mut Text) {
    let metrics = api.herder.metrics();
    let here = api.herder.worker_id();
    let names = api.herder.connectors();
    let states: Vec<_> = names.iter().filter_map(|name| api.herder.status(name).ok()).collect();
    let own = states.iter().filter(|state| state.connector.worker_id == here).count();
    text.head("app", "info", "gauge", "version and commit-id of this worker, as labels");
    let commit = option_env!("AQUEDUCT_COMMIT").unwrap_or("unknown");
    let labels = [("version", env!("CARGO_PKG_VERSION")), ("commit_id", commit)];
    text.series("app", "info", &labels, 1.0);
    let started = metrics.started_at() as f64;
    text.one(
        "app-info",
        "start-time-ms",
        "gauge",
        "Milliseconds since 1970 when the worker started",
        started,
    );
    text.one(WORKER, "connector-count", "gauge", "Connectors that run on this worker", own as f64);
    let tasks = metrics.tasks().len();
    text.one(WORKER, "task-count", "gauge", "Tasks that run on this worker", tasks as f64);
    for (what, starts) in [("connector", metrics.connector_starts()), ("task", metrics.task_starts())] {
        let [successes, failures] = starts.ratios();
        for (attribute, value) in [
            ("attempts-total", starts.attempts),
            ("success-total", starts.successes),
            ("failure-total", starts.failures),
        ] {
            let help = format!("Starts of {what}s on this worker");
            text.one(WORKER, &format!("{what}-startup-{attribute}"), "counter", &help, value as f64);
        }
        let help = format!("Part of the starts of {what}s, from 0 to 1");
        text.one(WORKER, &format!("{what}-startup-success-percentage"), "gauge", &help, successes);
        text.one(WORKER, &format!("{what}-startup-failure-percentage"), "gauge", &help, failures);
    }
    for state in ["total", "running", "paused", "failed", "unassigned", "destroyed", "restarting"] {
        let attribute = format!("connector-{state}-task-count");
        text.head(WORKER, &attribute, "gauge", "Tasks of a connector in that state, on this worker");
        for status in &states {
            let tasks = status.tasks.iter().filter(|task| task.state.worker_id == here);
            let count =
                tasks.filter(|task| state == "total" || task.state.state.eq_ignore_ascii_case(state)).count();
            text.series(WORKER, &attribute, &[("connector", &status.name)], count as f64);
        }
    }
}

fn rebalances(api: &ConnectApi, text: &mut Text) {
    let rounds = api.herder.metrics().rebalances();
    let millis =
        |span: Option<std::time::Duration>| span.map_or(f64::NAN, |span| span.as_secs_f64() * 1000.0);
    for (attribute, kind, help, value) in [
        (
            "completed-rebalances-total",
            "counter",
            "Rounds of the group that have ended",
            rounds.completed as f64,
        ),
        ("epoch", "gauge", "Generation of the group", f64::from(rounds.epoch)),
        ("rebalancing", "gauge", "1 while a round is under way", f64::from(u8::from(rounds.under_way()))),
        ("rebalance-avg-time-ms", "gauge", "Mean length of a round", millis(rounds.average())),
        ("rebalance-max-time-ms", "gauge", "Length of the longest round", millis(rounds.longest())),
        (
            "time-since-last-rebalance-ms",
            "gauge",
            "Since the last round ended",
            millis(rounds.since_last(Instant::now())),
        ),
    ] {
        text.one(REBALANCE, attribute, kind, help, value);
    }
    let leader = api.herder.leader_url().unwrap_or_default();
    text.head(REBALANCE, "leader-name", "gauge", "URL of the group's leader, as a label");
    text.series(REBALANCE, "leader-name", &[("leader", &leader)], 1.0);
    text.head(REBALANCE, "connect-protocol", "gauge", "The setting connect.protocol, as a label");
    text.series(REBALANCE, "connect-protocol", &[("protocol", &api.herder.protocol())], 1.0);
}

fn connectors(api: &ConnectApi, text: &mut Text) {
    let all: Vec<_> =
        api.herder.connectors().iter().filter_map(|name| api.herder.status(name).ok()).collect();
    text.head(CONNECTOR, "status", "gauge", "State of each connector of the group, as a label");
    for status in &all {
        let state = status.connector.state.to_ascii_lowercase();
        text.series(CONNECTOR, "status", &[("connector", &status.name), ("status", &state)], 1.0);
    }
    text.head(CONNECTOR, "info", "gauge", "connector-class, connector-type and connector-version, as labels");
    for status in &all {
        let info = api.herder.connector(&status.name).ok();
        let class =
            info.as_ref().and_then(|info| info.config.get("connector.class").cloned()).unwrap_or_default();
        let version = status.connector.version.clone().unwrap_or_default();
        let labels = [
            ("connector", status.name.as_str()),
            ("connector_class", &class),
            ("connector_type", status.kind),
            ("connector_version", &version),
        ];
        text.series(CONNECTOR, "info", &labels, 1.0);
    }
    text.head(TASK, "status", "gauge", "State of each task of the group, as a label");
    for status in &all {
        for task in &status.tasks {
            let (id, state) = (task.id.to_string(), task.state.state.to_ascii_lowercase());
            let labels = [("connector", status.name.as_str()), ("task", &id), ("status", &state)];
            text.series(TASK, "status", &labels, 1.0);
        }
    }
}

fn tasks(api: &ConnectApi, text: &mut Text) {
    let limit = api.herder.stuck_after();
    let samples: Vec<_> = api
        .herder
        .metrics()
        .tasks()
        .into_iter()
        .map(|(id, counters)| {
            let kind = api.herder.connector(&id.connector).map_or("unknown", |info| info.kind);
            (id.connector.to_string(), id.task.to_string(), kind, counters.sample(limit))
        })
        .collect();
    for metric in METRICS {
        text.head(metric.mbean, metric.attribute, metric.kind, metric.help);
        for (connector, task, kind, sample) in &samples {
            let shown = match metric.of {
                Of::Task => true,
                Of::Source => *kind == "source",
                Of::Sink => *kind == "sink",
            };
            if shown {
                let labels = [("connector", connector.as_str()), ("task", task.as_str())];
                text.series(metric.mbean, metric.attribute, &labels, (metric.value)(sample));
            }
        }
    }
}

#[cfg(test)]
mod tests;
