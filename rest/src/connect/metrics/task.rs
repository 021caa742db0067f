//! The metrics of tasks, as a table.

use aqueduct_connect_worker::TaskSample;

/// Whose metric it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    Task,
    Source,
    Sink,
}

/// One metric.
pub struct Metric {
    pub mbean: &'static str,
    pub attribute: &'static str,
    pub kind: &'static str,
    pub help: &'static str,
    pub of: Of,
    pub value: fn(&TaskSample) -> f64,
}

const fn gauge(
    of: Of,
    mbean: &'static str,
    attribute: &'static str,
    help: &'static str,
    value: fn(&TaskSample) -> f64,
) -> Metric {
    Metric { mbean, attribute, kind: "gauge", help, of, value }
}

const fn counter(
    of: Of,
    mbean: &'static str,
    attribute: &'static str,
    help: &'static str,
    value: fn(&TaskSample) -> f64,
) -> Metric {
    Metric { mbean, attribute, kind: "counter", help, of, value }
}

const TASK: &str = "connector-task-metrics";
const SOURCE: &str = "source-task-metrics";
const SINK: &str = "sink-task-metrics";
const ERROR: &str = "task-error-metrics";

fn part(some: f64, other: f64) -> f64 {
    if some + other > 0.0 { some / (some + other) } else { 0.0 }
}

/// All of them.
pub const METRICS: &[Metric] = &[
    gauge(Of::Task, TASK, "running-ratio", "Part of its life that the task was not paused", |s| {
        s.running_ratio
    }),
    gauge(Of::Task, TASK, "pause-ratio", "Part of its life that the task was paused", |s| s.pause_ratio),
    gauge(Of::Task, TASK, "batch-size-avg", "Mean number of records in a batch of the last minute", |s| {
        s.batch_avg
    }),
    gauge(Of::Task, TASK, "batch-size-max", "Records in the largest batch of the last minute", |s| {
        s.batch_max
    }),
    gauge(
        Of::Task,
        TASK,
        "offset-commit-avg-time-ms",
        "Mean time of commits of offsets in the last minute",
        |s| s.commit_avg_ms,
    ),
    gauge(Of::Task, TASK, "offset-commit-max-time-ms", "Longest commit of offsets in the last minute", |s| {
        s.commit_max_ms
    }),
    gauge(
        Of::Task,
        TASK,
        "offset-commit-success-percentage",
        "Part of the commits of offsets that succeeded, from 0 to 1",
        |s| part(s.commits, s.commit_failures),
    ),
    gauge(
        Of::Task,
        TASK,
        "offset-commit-failure-percentage",
        "Part of the commits of offsets that failed, from 0 to 1",
        |s| part(s.commit_failures, s.commits),
    ),
    counter(
        Of::Source,
        SOURCE,
        "source-record-poll-total",
        "Records polled from the source, before transforms",
        |s| s.records_in,
    ),
    gauge(
        Of::Source,
        SOURCE,
        "source-record-poll-rate",
        "Records polled a second over the last minute",
        |s| s.in_rate,
    ),
    counter(
        Of::Source,
        SOURCE,
        "source-record-write-total",
        "Records handed to the producer, after transforms",
        |s| s.records_out,
    ),
    gauge(
        Of::Source,
        SOURCE,
        "source-record-write-rate",
        "Records handed to the producer a second over the last minute",
        |s| s.out_rate,
    ),
    gauge(Of::Source, SOURCE, "poll-batch-avg-time-ms", "Mean time of a poll that gave records", |s| {
        s.batch_avg_ms
    }),
    gauge(
        Of::Source,
        SOURCE,
        "poll-batch-max-time-ms",
        "Longest poll that gave records, of the last minute",
        |s| s.batch_max_ms,
    ),
    gauge(
        Of::Source,
        SOURCE,
        "source-record-active-count",
        "Records polled that the cluster has not acknowledged",
        |s| s.active,
    ),
    gauge(
        Of::Source,
        SOURCE,
        "source-record-active-count-avg",
        "Mean of the records on their way, whenever that changed in the last minute",
        |s| s.active_avg,
    ),
    gauge(
        Of::Source,
        SOURCE,
        "source-record-active-count-max",
        "Most records on their way in the last minute",
        |s| s.active_max,
    ),
    gauge(
        Of::Source,
        SOURCE,
        "transaction-size-avg",
        "Mean number of records in the transactions of the last minute",
        |s| s.transaction_avg,
    ),
    gauge(
        Of::Source,
        SOURCE,
        "transaction-size-min",
        "Records in the smallest transaction of the last minute",
        |s| s.transaction_min,
    ),
    gauge(
        Of::Source,
        SOURCE,
        "transaction-size-max",
        "Records in the largest transaction of the last minute",
        |s| s.transaction_max,
    ),
    counter(Of::Sink, SINK, "sink-record-read-total", "Records read from topics, before transforms", |s| {
        s.records_in
    }),
    gauge(Of::Sink, SINK, "sink-record-read-rate", "Records read a second over the last minute", |s| {
        s.in_rate
    }),
    counter(
        Of::Sink,
        SINK,
        "sink-record-send-total",
        "Records that put() has taken, after transforms",
        |s| s.records_out,
    ),
    gauge(
        Of::Sink,
        SINK,
        "sink-record-send-rate",
        "Records that put() has taken a second over the last minute",
        |s| s.out_rate,
    ),
    gauge(
        Of::Sink,
        SINK,
        "sink-record-lag-max",
        "Records that the sink has not got, of the partition where that is most",
        |s| s.lag_max,
    ),
    gauge(Of::Sink, SINK, "sink-record-active-count", "Records that the task works on", |s| s.active),
    gauge(
        Of::Sink,
        SINK,
        "sink-record-active-count-avg",
        "Mean of the records that the task worked on, whenever that changed in the last minute",
        |s| s.active_avg,
    ),
    gauge(
        Of::Sink,
        SINK,
        "sink-record-active-count-max",
        "Most records that the task worked on in the last minute",
        |s| s.active_max,
    ),
    gauge(Of::Sink, SINK, "partition-count", "Partitions that the task reads", |s| s.partitions),
    gauge(Of::Sink, SINK, "offset-commit-seq-no", "Number of the last commit of offsets", |s| {
        s.commits + s.commit_failures
    }),
    counter(Of::Sink, SINK, "offset-commit-completion-total", "Commits of offsets that succeeded", |s| {
        s.commits
    }),
    gauge(
        Of::Sink,
        SINK,
        "offset-commit-completion-rate",
        "Commits of offsets that succeeded, a second over the last minute",
        |s| s.commit_rate,
    ),
    counter(
        Of::Sink,
        SINK,
        "offset-commit-skip-total",
        "Commits whose answer came too late to count: none, each is waited for",
        |_| 0.0,
    ),
    gauge(
        Of::Sink,
        SINK,
        "offset-commit-skip-rate",
        "Commits whose answer came too late to count, a second: none, each is waited for",
        |_| 0.0,
    ),
    gauge(Of::Sink, SINK, "put-batch-avg-time-ms", "Mean time of a put() with records", |s| s.batch_avg_ms),
    gauge(Of::Sink, SINK, "put-batch-max-time-ms", "Longest put() with records, of the last minute", |s| {
        s.batch_max_ms
    }),
    counter(Of::Task, ERROR, "total-record-failures", "Records that could not be handled", |s| {
        s.record_failures
    }),
    counter(Of::Task, ERROR, "total-record-errors", "Records that could not be handled", |s| {
        s.record_failures
    }),
    counter(Of::Task, ERROR, "total-records-skipped", "Records that were skipped", |s| s.records_skipped),
    counter(Of::Task, ERROR, "total-retries", "Operations tried again", |s| s.retries),
    counter(Of::Task, ERROR, "total-errors-logged", "Errors logged by errors.log.enable", |s| {
        s.errors_logged
    }),
    counter(
        Of::Sink,
        ERROR,
        "deadletterqueue-produce-requests",
        "Records sent to the dead-letter topic",
        |s| s.dead_letters + s.dead_letter_failures,
    ),
    counter(
        Of::Sink,
        ERROR,
        "deadletterqueue-produce-failures",
        "Records that the dead-letter topic did not take",
        |s| s.dead_letter_failures,
    ),
    gauge(
        Of::Task,
        ERROR,
        "last-error-timestamp",
        "Milliseconds since 1970 of the last record that could not be handled, 0 for none",
        |s| s.last_error,
    ),
    gauge(
        Of::Task,
        "aqueduct-connect-task",
        "stuck",
        "1 while a task gets nowhere though it has input",
        |s| s.stuck,
    ),
];
