//! What the worker and the coordinator of its group say to each other.

use std::time::Instant;

use super::super::ConnectApi;
use super::text::Text;

const COORDINATOR: &str = "connect-coordinator-metrics";

pub fn write(api: &ConnectApi, text: &mut Text) {
    let metrics = api.herder.metrics();
    let (known, rounds, now) = (metrics.coordination(), metrics.rebalances(), Instant::now());
    let nan = |value: Option<f64>| value.unwrap_or(f64::NAN);
    let millis = |span: Option<std::time::Duration>| nan(span.map(|span| span.as_secs_f64() * 1000.0));
    let seconds = |span: Option<std::time::Duration>| nan(span.map(|span| span.as_secs_f64()));
    let [connectors, tasks] = known.assigned.map(|count| count as f64);
    let beats = &known.heartbeats;
    let (counter, gauge) = ("counter", "gauge");
    for (attribute, kind, help, value) in [
        ("assigned-connectors", gauge, "Connectors that the group has given to this worker", connectors),
        ("assigned-tasks", gauge, "Tasks that the group has given to this worker", tasks),
        ("heartbeat-total", counter, "Heartbeats sent to the coordinator", beats.total() as f64),
        (
            "heartbeat-response-time-max",
            gauge,
            "Longest wait for the answer to a heartbeat in the last minute, milliseconds",
            millis(beats.longest(now)),
        ),
        ("last-heartbeat-seconds-ago", gauge, "Since the last heartbeat", seconds(beats.since_last(now))),
        ("join-total", counter, "Joins of the group", known.joins.total as f64),
        (
            "join-time-avg",
            gauge,
            "Mean time of a join in the last minute, milliseconds",
            nan(known.joins.average(now)),
        ),
        (
            "join-time-max",
            gauge,
            "Longest join in the last minute, milliseconds",
            nan(known.joins.longest(now)),
        ),
        ("sync-total", counter, "Assignments asked for", known.syncs.total as f64),
        (
            "sync-time-avg",
            gauge,
            "Mean wait for an assignment in the last minute, milliseconds",
            nan(known.syncs.average(now)),
        ),
        (
            "sync-time-max",
            gauge,
            "Longest wait for an assignment in the last minute, milliseconds",
            nan(known.syncs.longest(now)),
        ),
        ("rebalance-total", counter, "Rounds of the group that have ended", rounds.completed as f64),
        ("failed-rebalance-total", counter, "Rounds that had to be begun again", known.failed_rounds as f64),
        ("rebalance-latency-avg", gauge, "Mean length of a round, milliseconds", millis(rounds.average())),
        (
            "rebalance-latency-max",
            gauge,
            "Length of the longest round, milliseconds",
            millis(rounds.longest()),
        ),
        (
            "rebalance-latency-total",
            counter,
            "Length of all rounds, milliseconds",
            millis(Some(rounds.total())),
        ),
        ("last-rebalance-seconds-ago", gauge, "Since the last round ended", seconds(rounds.since_last(now))),
    ] {
        text.one(COORDINATOR, attribute, kind, help, value);
    }
}
