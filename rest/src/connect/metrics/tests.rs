//! The names are compared with those of the JVM worker.

use std::collections::BTreeSet;

use super::task::METRICS;
use super::text::name;

/// Attributes of the JVM worker's MBeans of tasks, 4.3; those that are texts are labels, and compared by a system test.
const OF_TASKS: &[(&str, &[&str])] = &[
    (
        "connector-task-metrics",
        &[
            "status",
            "running-ratio",
            "pause-ratio",
            "batch-size-avg",
            "batch-size-max",
            "offset-commit-avg-time-ms",
            "offset-commit-max-time-ms",
            "offset-commit-success-percentage",
            "offset-commit-failure-percentage",
        ],
    ),
    (
        "source-task-metrics",
        &[
            "source-record-poll-total",
            "source-record-poll-rate",
            "source-record-write-total",
            "source-record-write-rate",
            "poll-batch-avg-time-ms",
            "poll-batch-max-time-ms",
            "source-record-active-count",
            "source-record-active-count-avg",
            "source-record-active-count-max",
            "transaction-size-avg",
            "transaction-size-min",
            "transaction-size-max",
        ],
    ),
    (
        "sink-task-metrics",
        &[
            "sink-record-read-total",
            "sink-record-read-rate",
            "sink-record-send-total",
            "sink-record-send-rate",
            "sink-record-lag-max",
            "sink-record-active-count",
            "sink-record-active-count-avg",
            "sink-record-active-count-max",
            "partition-count",
            "offset-commit-seq-no",
            "offset-commit-completion-total",
            "offset-commit-completion-rate",
            "offset-commit-skip-total",
            "offset-commit-skip-rate",
            "put-batch-avg-time-ms",
            "put-batch-max-time-ms",
        ],
    ),
    (
        "task-error-metrics",
        &[
            "total-record-failures",
            "total-record-errors",
            "total-records-skipped",
            "total-retries",
            "total-errors-logged",
            "deadletterqueue-produce-requests",
            "deadletterqueue-produce-failures",
            "last-error-timestamp",
        ],
    ),
];

#[test]
fn every_metric_of_the_jvm_workers_tasks_is_there() {
    let ours: BTreeSet<(&str, &str)> =
        METRICS.iter().map(|metric| (metric.mbean, metric.attribute)).collect();
    let mut known = BTreeSet::new();
    for (mbean, attributes) in OF_TASKS {
        for attribute in *attributes {
            known.insert((*mbean, *attribute));
            // The state is a label, written beside the table.
            assert!(ours.contains(&(mbean, attribute)) || *attribute == "status", "{mbean}: {attribute}");
        }
    }
    for (mbean, attribute) in ours {
        assert!(
            known.contains(&(mbean, attribute)) || mbean.starts_with("aqueduct"),
            "{mbean}: {attribute} is not Kafka's"
        );
    }
}

#[test]
fn names_are_what_prometheus_takes_and_different() {
    let mut seen = BTreeSet::new();
    for metric in METRICS {
        let name = name(metric.mbean, metric.attribute);
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'), "{name}");
        assert!(seen.insert(name.clone()), "{name} twice");
    }
}
