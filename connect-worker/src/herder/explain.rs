//! What a connector and its tasks do, in plain words: state, since when, what they wait for, how far they are, what went
//! wrong last, and what to try.

use std::time::{Duration, Instant};

use aqueduct_connect_api::Told;
use serde::Serialize;

use super::handle::Herder;
use crate::entities::ConnectorState;
use crate::error::Result;
use crate::ids::TaskId;
use crate::metrics::TaskCounters;
use crate::task::progress::{Activity, Progress};

/// A connector, explained.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub state: &'static str,
    pub worker_id: String,
    /// One sentence.
    pub summary: String,
    pub tasks: Vec<TaskExplanation>,
    #[serde(rename = "try")]
    pub advice: Vec<String>,
}

/// A task, explained.
#[derive(Clone, Debug, Serialize)]
pub struct TaskExplanation {
    pub id: u32,
    pub state: &'static str,
    pub worker_id: String,
    /// Whether this worker knows more of the task than its status.
    #[serde(skip)]
    pub is_here: bool,
    pub doing: String,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Detail>,
    pub last_error: Option<ExplainedError>,
    #[serde(rename = "try")]
    pub advice: Vec<String>,
}

/// What only the worker that runs a task knows.
#[derive(Clone, Debug, Serialize)]
pub struct Detail {
    /// When the task was started.
    pub since: String,
    pub stuck: Option<ExplainedStuck>,
    pub records_per_second: PerSecond,
    /// Records of a source that the cluster has not acknowledged.
    pub in_flight: usize,
    /// Records that a sink has not got.
    pub records_behind: i64,
    pub lag: Vec<ExplainedLag>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ExplainedStuck {
    pub lasts_ms: u64,
    pub waits_for: String,
}

/// Over the last minute.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct PerSecond {
    #[serde(rename = "in")]
    pub read: f64,
    pub out: f64,
}

#[derive(Clone, Debug, Serialize)]
pub struct ExplainedLag {
    pub topic: String,
    pub partition: i32,
    /// Offset of the next record.
    pub position: i64,
    /// Offset after the last record.
    pub end: Option<i64>,
    pub behind: i64,
}

#[derive(Clone, Debug, Serialize)]
pub struct ExplainedError {
    /// When; of a task that has failed its status does not tell, and of what still fails it is now.
    pub at: Option<String>,
    pub text: String,
}

impl Herder {
    /// What a connector and its tasks do.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`]
    pub fn explain(&self, name: &str) -> Result<Explanation> {
        let info = self.connector(name)?;
        let status = self.status(name)?;
        let environment = &self.shared.environment;
        let limit = environment.config.stuck_after();
        let running = environment.metrics.tasks();
        let tasks = status.tasks.iter().map(|task| {
            let id = TaskId::new(name, task.id);
            let counters = running.iter().find(|(other, _)| *other == id).map(|(_, counters)| &**counters);
            // A task says that it runs when it has started; until then its last owner has the last word.
            let is_here = task.state.worker_id == environment.worker_id || task.state.state == "UNASSIGNED";
            let known = counters.filter(|_| is_here);
            match (known, task.state.state) {
                (Some(counters), state) if state != "FAILED" => {
                    here(task.id, state, &environment.worker_id, counters, limit)
                }
                (_, "FAILED") => {
                    let due = environment.restarts.lock().due(&id);
                    failed(
                        &id,
                        &task.state.worker_id,
                        task.state.trace.as_deref(),
                        due.map(|at| at.saturating_duration_since(Instant::now())),
                    )
                }
                (_, state) => elsewhere(name, task.id, state, &task.state.worker_id, &environment.worker_id),
            }
        });
        let tasks: Vec<TaskExplanation> = tasks.collect();
        Ok(Explanation {
            name: name.to_owned(),
            kind: info.kind,
            state: status.connector.state,
            worker_id: status.connector.worker_id.clone(),
            summary: summary(&status, &tasks),
            advice: connector_advice(name, &status),
            tasks,
        })
    }
}

fn summary(status: &ConnectorState, tasks: &[TaskExplanation]) -> String {
    let count = |state: &str| tasks.iter().filter(|task| task.state == state).count();
    let stuck =
        tasks.iter().filter(|task| task.detail.as_ref().is_some_and(|detail| detail.stuck.is_some())).count();
    let mut parts = Vec::new();
    for (state, words) in [
        ("RUNNING", "running"),
        ("PAUSED", "paused"),
        ("FAILED", "failed"),
        ("RESTARTING", "restarting"),
        ("UNASSIGNED", "without a worker"),
    ] {
        match count(state) {
            0 => {}
            some => parts.push(format!("{some} {words}")),
        }
    }
    if stuck > 0 {
        parts.push(format!("{stuck} stuck"));
    }
    let of_tasks =
        if parts.is_empty() { "no tasks".to_owned() } else { format!("tasks: {}", parts.join(", ")) };
    format!("The connector {} is {}; {of_tasks}.", status.name, status.connector.state.to_lowercase())
}

fn connector_advice(name: &str, status: &ConnectorState) -> Vec<String> {
    let advice = match status.connector.state {
        "FAILED" => {
            let why = status
                .connector
                .trace
                .as_deref()
                .and_then(|trace| trace.lines().next())
                .unwrap_or("no trace");
            format!(
                "The connector failed: {why}. Correct what it names, then POST /connectors/{name}/restart?includeTasks=true&onlyFailed=true."
            )
        }
        "PAUSED" => format!("PUT /connectors/{name}/resume lets it go on."),
        "STOPPED" => format!(
            "PUT /connectors/{name}/resume starts its tasks again; its offsets can be changed until then."
        ),
        "RUNNING" if status.tasks.is_empty() => {
            "The connector has made no tasks: it has found nothing to do, or has only just started."
                .to_owned()
        }
        _ => return Vec::new(),
    };
    vec![advice]
}

fn here(
    id: u32,
    state: &'static str,
    worker: &str,
    counters: &TaskCounters,
    limit: Duration,
) -> TaskExplanation {
    let totals = counters.totals();
    counters.look(|progress, now| {
        let stuck = progress.stuck(now, limit);
        let [read, out, _] = progress.rates.per_second(now, totals).map(|rate| (rate * 10.0).round() / 10.0);
        let lag = progress.lag().iter().map(|one| ExplainedLag {
            topic: one.partition.topic.to_string(),
            partition: one.partition.partition,
            position: one.position,
            end: one.end,
            behind: one.behind(),
        });
        let age = i64::try_from(progress.age(now).as_millis()).unwrap_or(0);
        let detail = Detail {
            since: timestamp(crate::clock::now_millis() - age),
            stuck: stuck.as_ref().map(|stuck| ExplainedStuck {
                lasts_ms: u64::try_from(stuck.lasts.as_millis()).unwrap_or(u64::MAX),
                waits_for: stuck.waits_for.clone(),
            }),
            records_per_second: PerSecond { read, out },
            in_flight: progress.on_their_way(),
            records_behind: progress.behind(),
            lag: lag.collect(),
        };
        let mut doing = progress.describe(now);
        if let Some(stuck) = &stuck {
            doing = format!("stuck, {stuck}. {doing}");
        }
        TaskExplanation {
            id,
            state,
            worker_id: worker.to_owned(),
            is_here: true,
            doing,
            last_error: last_error(progress),
            advice: advice(progress, stuck.is_some()),
            detail: Some(detail),
        }
    })
}

/// What fails now, or else what could not be handled last.
fn last_error(progress: &Progress) -> Option<ExplainedError> {
    if let Some(Told::Fails { error, .. }) = progress.told() {
        return Some(ExplainedError { at: None, text: error.clone() });
    }
    let error = progress.last_error()?;
    Some(ExplainedError { at: Some(timestamp(error.at)), text: error.text.clone() })
}

/// What helps a running task.
fn advice(progress: &Progress, is_stuck: bool) -> Vec<String> {
    let mut advice = Vec::new();
    if progress.retry().is_some() || matches!(progress.told(), Some(Told::Fails { .. })) {
        advice.push(
            "See what the last error names: the task tries again and goes on by itself once that works.",
        );
    } else if is_stuck {
        advice.push(match progress.activity() {
            Activity::TakingOver(_) => "Look at the worker that leads the group (GET / of each tells), and at the brokers: the coordinator of the transactional id may not be there.",
            Activity::Starting => "Check that the system of the connector can be reached from this worker with the settings given; a restart of the task begins anew.",
            Activity::Polling => "Look at the source: queries that run long, locks, a network that swallows packets. The connector's own timeouts end such calls; a restart of the task begins anew.",
            Activity::Putting(_) => "Look at the sink: load, locks, a network that swallows packets. Smaller batches (consumer.override.max.poll.records) and the connector's own timeouts help; a restart of the task begins anew from the last commit.",
            Activity::Converting(_) => "A transform or converter takes very long: look at its settings, or at a schema registry that does not answer.",
            Activity::Committing => "Look at the sink and at the brokers: either may be slow to confirm.",
            Activity::WaitingForRecords => "Look at the brokers: the leader of the partition may be gone, or a transaction that was not ended holds back what follows (kafka-transactions.sh find-hanging).",
            _ => "Look at the brokers: too few replicas in sync (min.insync.replicas), a full disk or a network cut keep records from being acknowledged.",
        });
    } else if progress.behind() > 0 && matches!(progress.activity(), Activity::Putting(_)) {
        advice.push("If it stays behind, raise tasks.max up to the number of partitions, or the size of its batches (consumer.override.max.poll.records).");
    }
    advice.into_iter().map(str::to_owned).collect()
}

fn failed(id: &TaskId, worker: &str, trace: Option<&str>, restart: Option<Duration>) -> TaskExplanation {
    let restarted = format!("POST /connectors/{}/tasks/{}/restart starts it again", id.connector, id.task);
    let doing = match restart {
        Some(left) => format!("failed; the worker starts it again in {} s", left.as_secs()),
        None => "failed; it is not running".to_owned(),
    };
    let trace = trace.unwrap_or_default();
    let mut advice = vec![format!(
        "Correct what the error names; {restarted}. The whole trace is in GET /connectors/{}/status.",
        id.connector
    )];
    if trace.contains("Tolerance exceeded") {
        advice.insert(0, "A record could not be handled: correct it or the converter, or let such records pass with errors.tolerance=all (sinks: errors.deadletterqueue.topic.name keeps them).".to_owned());
    }
    if let Some(setting) = setting_to_change(trace) {
        advice.insert(0, setting);
    }
    TaskExplanation {
        id: id.task,
        state: "FAILED",
        worker_id: worker.to_owned(),
        is_here: true,
        doing,
        detail: None,
        last_error: Some(ExplainedError { at: None, text: causes(trace) }),
        advice,
    }
}

/// What a converter's explanation says to set.
fn setting_to_change(trace: &str) -> Option<String> {
    let from = ["Set key.converter", "Set value.converter"].iter().find_map(|start| trace.find(start))?;
    let text = trace[from..].lines().next()?;
    Some(format!("{}; then PUT the connector's config.", text.trim_end_matches('.')))
}

/// A trace without the lines of its stack.
fn causes(trace: &str) -> String {
    let told = trace.lines().filter(|line| !line.trim_start().starts_with("at "));
    told.map(str::trim).filter(|line| !line.is_empty()).take(8).collect::<Vec<_>>().join("; ")
}

fn elsewhere(name: &str, id: u32, state: &'static str, worker: &str, own: &str) -> TaskExplanation {
    let is_here = worker == own || state == "UNASSIGNED";
    let doing = match state {
        "UNASSIGNED" => format!(
            "no worker has said that it runs it: one may be starting it, which GET /connectors/{name}/explain there tells, or a \
             rebalance gives it to one, at the latest after scheduled.rebalance.max.delay.ms"
        ),
        _ if is_here => "about to start or to stop".to_owned(),
        _ => {
            format!("it runs on the worker {worker}, which knows more: GET /connectors/{name}/explain there")
        }
    };
    TaskExplanation {
        id,
        state,
        worker_id: worker.to_owned(),
        is_here,
        doing,
        detail: None,
        last_error: None,
        advice: Vec::new(),
    }
}

/// `2026-01-02T03:04:05.678Z`
fn timestamp(millis: i64) -> String {
    chrono::DateTime::from_timestamp_millis(millis)
        .unwrap_or_default()
        .to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_tells_what_it_does_and_what_helps() {
        let counters = TaskCounters::default();
        counters.progress(|progress, now| {
            progress.enter(now.checked_sub(Duration::from_secs(90)).unwrap_or(now), Activity::Putting(500));
        });
        let told = here(0, "RUNNING", "h:1", &counters, Duration::from_secs(60));
        let stuck = told.detail.as_ref().and_then(|detail| detail.stuck.as_ref()).expect("stuck");
        assert!(stuck.lasts_ms >= 90_000 && stuck.waits_for.contains("put()"), "{stuck:?}");
        assert!(told.doing.starts_with("stuck, no progress for 90s"), "{}", told.doing);
        assert!(told.advice[0].contains("max.poll.records"), "{:?}", told.advice);
        let json = serde_json::to_value(&told).expect("JSON");
        assert_eq!(json["records_per_second"]["in"], 0.0);
        assert!(json["since"].as_str().is_some_and(|text| text.ends_with('Z')));
    }

    #[test]
    fn a_failed_task_tells_its_error_and_when_it_is_started_again() {
        let trace = "org.X: Tolerance exceeded in error handler: record t-0@5\n\tat a.b\nCaused by: DataException: not JSON\n";
        let told = failed(&TaskId::new("c", 2), "h:1", Some(trace), Some(Duration::from_secs(9)));
        assert_eq!(told.doing, "failed; the worker starts it again in 9 s");
        let error = told.last_error.expect("an error").text;
        assert!(
            error.contains("t-0@5") && error.contains("not JSON") && !error.contains("at a.b"),
            "{error}"
        );
        assert!(told.advice[0].contains("errors.tolerance=all"));
        assert!(told.advice[1].contains("POST /connectors/c/tasks/2/restart"));
    }

    #[test]
    fn what_a_task_says_of_itself_is_told() {
        let counters = TaskCounters::default();
        let told = |counters: &TaskCounters| here(0, "RUNNING", "h:1", counters, Duration::from_secs(60));
        counters.progress(|progress, now| progress.enter(now, Activity::Polling));
        assert!(told(&counters).doing.contains("none has come in the"), "{}", told(&counters).doing);
        counters.notice.waits_for("the file /x");
        assert_eq!(
            (told(&counters).doing.as_str(), told(&counters).advice.len()),
            ("waiting for the file /x", 0)
        );
        counters.notice.failed(&"database is locked");
        let failing = told(&counters);
        assert!(failing.doing.contains("has failed 1 times, the last time with: database is locked"));
        assert_eq!(failing.last_error.expect("an error").text, "database is locked");
        assert!(failing.advice[0].contains("by itself"), "{:?}", failing.advice);
        counters.notice.clear();
        assert!(told(&counters).last_error.is_none());
    }

    #[test]
    fn a_converters_hint_comes_first() {
        let trace = "X: Tolerance exceeded in error handler\nCaused by: Y: looks like UTF-8 text. Set value.converter=a.b.C\nCaused by: z";
        let told = failed(&TaskId::new("c", 0), "h:1", Some(trace), None);
        assert_eq!(told.advice[0], "Set value.converter=a.b.C; then PUT the connector's config.");
    }

    #[test]
    fn tasks_of_others_say_whom_to_ask() {
        let told = elsewhere("c", 0, "RUNNING", "other:1", "me:1");
        assert!(!told.is_here && told.doing.contains("other:1"));
        assert!(elsewhere("c", 0, "UNASSIGNED", "other:1", "me:1").is_here);
    }
}
