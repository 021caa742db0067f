//! What the worker counts, for `/metrics`. Tasks hold their own counters, so that no record looks one up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::ids::TaskId;

/// Counters of one task.
#[derive(Debug, Default)]
pub struct TaskCounters {
    /// Records polled from the source, or read from topics.
    pub records_in: AtomicU64,
    /// Records written to topics, or put into the sink.
    pub records_out: AtomicU64,
    pub records_skipped: AtomicU64,
    pub record_failures: AtomicU64,
    pub dead_letters: AtomicU64,
    pub commits: AtomicU64,
    pub commit_failures: AtomicU64,
}

/// Shared handle to a task's counters.
pub type TaskMetrics = Arc<TaskCounters>;

/// Adds to a counter.
pub fn count(counter: &AtomicU64, by: usize) {
    counter.fetch_add(by as u64, Ordering::Relaxed);
}

/// Counters of all tasks of a worker.
#[derive(Clone, Debug, Default)]
pub struct WorkerMetrics(Arc<Mutex<BTreeMap<TaskId, TaskMetrics>>>);

impl WorkerMetrics {
    /// The counters of a task; new ones where it has none.
    pub fn task(&self, id: &TaskId) -> TaskMetrics {
        self.0.lock().entry(id.clone()).or_default().clone()
    }

    /// Drops the counters of a task that has ended.
    pub fn forget_task(&self, id: &TaskId) {
        self.0.lock().remove(id);
    }

    /// All counters, by task.
    pub fn tasks(&self) -> Vec<(TaskId, TaskMetrics)> {
        self.0.lock().iter().map(|(id, metrics)| (id.clone(), metrics.clone())).collect()
    }
}
