//! What the worker counts, for `/metrics`. Tasks hold their own counters, so that no record looks one up.

mod group;
mod plugins;
mod sample;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use aqueduct_connect_api::Notice;
use parking_lot::Mutex;

use crate::ids::TaskId;
use crate::task::progress::Progress;

pub use group::{Calls, Coordination, Rebalances, Startups};
pub use plugins::{NamedPlugin, TaskPlugins};
pub use sample::TaskSample;

/// Counters of one task, and what it does.
#[derive(Debug)]
pub struct TaskCounters {
    progress: Mutex<Progress>,
    has_run: AtomicBool,
    /// Where the task says itself what keeps it from its work.
    pub notice: Notice,
    plugins: OnceLock<TaskPlugins>,
    /// Records polled from the source, or read from topics.
    pub records_in: AtomicU64,
    /// Records written to topics, or put into the sink.
    pub records_out: AtomicU64,
    pub records_skipped: AtomicU64,
    pub record_failures: AtomicU64,
    pub dead_letters: AtomicU64,
    pub commits: AtomicU64,
    pub commit_failures: AtomicU64,
    /// Tries of operations that had failed.
    pub retries: AtomicU64,
    pub errors_logged: AtomicU64,
    pub dead_letter_failures: AtomicU64,
    /// Milliseconds since 1970 of the last record that could not be handled; 0 for never.
    pub last_error: AtomicI64,
}

impl Default for TaskCounters {
    fn default() -> Self {
        Self {
            progress: Mutex::new(Progress::new(Instant::now())),
            has_run: AtomicBool::new(false),
            notice: Notice::default(),
            plugins: OnceLock::new(),
            records_in: AtomicU64::default(),
            records_out: AtomicU64::default(),
            records_skipped: AtomicU64::default(),
            record_failures: AtomicU64::default(),
            dead_letters: AtomicU64::default(),
            commits: AtomicU64::default(),
            commit_failures: AtomicU64::default(),
            retries: AtomicU64::default(),
            errors_logged: AtomicU64::default(),
            dead_letter_failures: AtomicU64::default(),
            last_error: AtomicI64::default(),
        }
    }
}

impl TaskCounters {
    /// Tells or asks what the task does, now. Called for batches, never for single records.
    pub fn progress<T>(&self, with: impl FnOnce(&mut Progress, Instant) -> T) -> T {
        with(&mut self.progress.lock(), Instant::now())
    }

    /// The same, with what the task says of itself taken in.
    pub fn look<T>(&self, with: impl FnOnce(&mut Progress, Instant) -> T) -> T {
        let told = self.notice.read();
        self.progress(|progress, now| {
            progress.tell(now, told);
            with(progress, now)
        })
    }

    /// The plugins that the task works with, once it has read its settings.
    pub fn plugins(&self) -> Option<&TaskPlugins> {
        self.plugins.get()
    }

    /// Says with which plugins the task works.
    pub fn note_plugins(&self, plugins: TaskPlugins) {
        self.plugins.get_or_init(|| plugins);
    }

    /// A record could not be handled.
    pub fn note_failure(&self, text: &str) {
        let now = crate::clock::now_millis();
        count(&self.record_failures, 1);
        self.last_error.store(now, Ordering::Relaxed);
        self.progress(|progress, _| progress.note_error(now, text));
    }

    /// The task has started, or will never have; whether that is news.
    pub fn note_running(&self) -> bool {
        !self.has_run.swap(true, Ordering::Relaxed)
    }

    /// Records in and out, and commits, until now.
    pub fn totals(&self) -> [u64; 3] {
        [&self.records_in, &self.records_out, &self.commits].map(|counter| counter.load(Ordering::Relaxed))
    }
}

/// Shared handle to a task's counters.
pub type TaskMetrics = Arc<TaskCounters>;

/// Adds to a counter.
pub fn count(counter: &AtomicU64, by: usize) {
    counter.fetch_add(by as u64, Ordering::Relaxed);
}

/// What a worker counts, its tasks included.
#[derive(Clone, Debug, Default)]
pub struct WorkerMetrics(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Milliseconds since 1970.
    started: i64,
    tasks: Mutex<BTreeMap<TaskId, TaskMetrics>>,
    rebalances: Mutex<Rebalances>,
    coordination: Mutex<Coordination>,
    connectors: Mutex<Startups>,
    task_starts: Mutex<Startups>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            started: crate::clock::now_millis(),
            tasks: Mutex::default(),
            rebalances: Mutex::default(),
            coordination: Mutex::default(),
            connectors: Mutex::default(),
            task_starts: Mutex::default(),
        }
    }
}

impl WorkerMetrics {
    /// When the worker started, in milliseconds since 1970.
    pub fn started_at(&self) -> i64 {
        self.0.started
    }

    /// The counters of a task; new ones where it has none.
    pub fn task(&self, id: &TaskId) -> TaskMetrics {
        self.0.tasks.lock().entry(id.clone()).or_default().clone()
    }

    /// Drops the counters of a task that has ended.
    pub fn forget_task(&self, id: &TaskId) {
        self.0.tasks.lock().remove(id);
    }

    /// All counters, by task.
    pub fn tasks(&self) -> Vec<(TaskId, TaskMetrics)> {
        self.0.tasks.lock().iter().map(|(id, metrics)| (id.clone(), metrics.clone())).collect()
    }

    /// Rounds of the group.
    pub fn rebalances(&self) -> Rebalances {
        *self.0.rebalances.lock()
    }

    /// A round begins.
    pub fn rebalance_begins(&self) {
        self.0.rebalances.lock().begin(Instant::now());
    }

    /// A round has ended.
    pub fn rebalanced(&self, generation: i32) {
        self.0.rebalances.lock().complete(Instant::now(), generation);
    }

    /// What the worker and the coordinator of its group say to each other.
    pub fn coordination(&self) -> Coordination {
        self.0.coordination.lock().clone()
    }

    /// Notes something of it.
    pub fn coordinated(&self, note: impl FnOnce(&mut Coordination, Instant)) {
        note(&mut self.0.coordination.lock(), Instant::now());
    }

    /// Starts of connectors.
    pub fn connector_starts(&self) -> Startups {
        *self.0.connectors.lock()
    }

    /// A connector has started, or failed to.
    pub fn connector_started(&self, succeeded: bool) {
        self.0.connectors.lock().note(succeeded);
    }

    /// Starts of tasks.
    pub fn task_starts(&self) -> Startups {
        *self.0.task_starts.lock()
    }

    /// A task has started, or failed to.
    pub fn task_started(&self, succeeded: bool) {
        self.0.task_starts.lock().note(succeeded);
    }
}
