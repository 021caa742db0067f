//! `GET /metrics`: what the worker counts, in Prometheus' text format. Names follow Kafka Connect's metrics.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use aqueduct_connect_worker::TaskCounters;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::ConnectApi;
use super::routes::{Endpoint, at};

pub fn endpoints() -> Vec<Endpoint> {
    vec![at("/metrics").get(metrics).any_format()]
}

type Counter = fn(&TaskCounters) -> &AtomicU64;

const COUNTERS: [(&str, &str, Counter); 7] = [
    ("task_record_read", "Records polled from the source or read from topics", |c| &c.records_in),
    ("task_record_write", "Records written to topics or put into the sink", |c| &c.records_out),
    ("task_error_record_failures", "Records that could not be handled", |c| &c.record_failures),
    ("task_error_records_skipped", "Records that were skipped", |c| &c.records_skipped),
    ("task_error_deadletterqueue_produce_requests", "Records sent to a dead-letter topic", |c| {
        &c.dead_letters
    }),
    ("task_offset_commit_success", "Commits of offsets", |c| &c.commits),
    ("task_offset_commit_failure", "Commits of offsets that failed", |c| &c.commit_failures),
];

async fn metrics(State(api): State<ConnectApi>) -> impl IntoResponse {
    let text = render(&api);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

fn render(api: &ConnectApi) -> String {
    let mut out = String::new();
    let names = api.herder.connectors();
    let mut gauge = |name: &str, help: &str, value: usize| {
        let _ = write!(
            out,
            "# HELP kafka_connect_{name} {help}.\n# TYPE kafka_connect_{name} gauge\nkafka_connect_{name} {value}\n"
        );
    };
    gauge("worker_connector_count", "Connectors of the group", names.len());
    let tasks = api.herder.metrics().tasks();
    gauge("worker_task_count", "Tasks that run here", tasks.len());
    for (name, help, counter) in COUNTERS {
        let _ = write!(
            out,
            "# HELP kafka_connect_{name}_total {help}.\n# TYPE kafka_connect_{name}_total counter\n"
        );
        for (id, counters) in &tasks {
            let value = counter(counters).load(Ordering::Relaxed);
            let connector = escape(&id.connector);
            let _ = writeln!(
                out,
                "kafka_connect_{name}_total{{connector=\"{connector}\",task=\"{}\"}} {value}",
                id.task
            );
        }
    }
    let _ = write!(
        out,
        "# HELP kafka_connect_connector_status State of each connector.\n# TYPE kafka_connect_connector_status gauge\n"
    );
    for name in &names {
        if let Ok(status) = api.herder.status(name) {
            let (connector, state) = (escape(name), status.connector.state.to_ascii_lowercase());
            let _ = writeln!(
                out,
                "kafka_connect_connector_status{{connector=\"{connector}\",status=\"{state}\"}} 1"
            );
        }
    }
    let _ = write!(
        out,
        "# HELP kafka_connect_connector_task_status State of each task.\n# TYPE kafka_connect_connector_task_status gauge\n"
    );
    for name in &names {
        for task in api.herder.status(name).map(|s| s.tasks).unwrap_or_default() {
            let (connector, state) = (escape(name), task.state.state.to_ascii_lowercase());
            let _ = writeln!(
                out,
                "kafka_connect_connector_task_status{{connector=\"{connector}\",task=\"{}\",status=\"{state}\"}} 1",
                task.id
            );
        }
    }
    out
}

/// A label's value.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
