//! When failed tasks are started again on their own: after a pause that doubles with each failure, until the task has run
//! for a while.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::config::WorkerConfig;
use crate::ids::TaskId;

/// What the settings say.
#[derive(Clone, Copy, Debug)]
pub struct RestartPolicy {
    pub enabled: bool,
    /// The pause after the first failure.
    pub first: Duration,
    /// The longest pause.
    pub most: Duration,
    /// A task that has run for so long starts over with the first pause.
    pub calm: Duration,
}

impl RestartPolicy {
    pub fn read(config: &WorkerConfig) -> Self {
        let millis = |name| config.millis(name);
        Self {
            enabled: config.flag("aqueduct.task.restart.enabled"),
            first: millis("aqueduct.task.restart.backoff.ms"),
            most: millis("aqueduct.task.restart.backoff.max.ms"),
            calm: millis("aqueduct.task.restart.reset.ms"),
        }
    }
}

/// A restart that is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    pub pause: Duration,
    /// 1 for the first of a row.
    pub attempt: u32,
}

#[derive(Debug)]
struct History {
    failures: u32,
    due: Option<Instant>,
}

/// Failures of the tasks of this worker.
#[derive(Debug)]
pub struct AutoRestarts {
    policy: RestartPolicy,
    tasks: HashMap<TaskId, History>,
}

impl AutoRestarts {
    pub fn new(policy: RestartPolicy) -> Self {
        Self { policy, tasks: HashMap::new() }
    }

    /// A task that had run for `ran` has failed; `None` where it is left alone.
    pub fn failed(&mut self, id: &TaskId, ran: Duration, now: Instant) -> Option<Planned> {
        let RestartPolicy { enabled, first, most, calm } = self.policy;
        if !enabled {
            return None;
        }
        let history = self.tasks.entry(id.clone()).or_insert(History { failures: 0, due: None });
        if ran >= calm {
            history.failures = 0;
        }
        let pause = first.saturating_mul(2u32.saturating_pow(history.failures)).min(most.max(first));
        history.failures = history.failures.saturating_add(1);
        history.due = Some(now + pause);
        Some(Planned { pause, attempt: history.failures })
    }

    /// When a failed task is due.
    pub fn due(&self, id: &TaskId) -> Option<Instant> {
        self.tasks.get(id)?.due
    }

    /// When the next task is due.
    pub fn next(&self) -> Option<Instant> {
        self.tasks.values().filter_map(|history| history.due).min()
    }

    /// The tasks that are due, in order; each is named once.
    pub fn take_due(&mut self, now: Instant) -> Vec<TaskId> {
        let due = |(_, history): &(&TaskId, &mut History)| history.due.is_some_and(|due| due <= now);
        let mut ids: Vec<TaskId> = self
            .tasks
            .iter_mut()
            .filter(due)
            .map(|(id, history)| {
                history.due = None;
                id.clone()
            })
            .collect();
        ids.sort();
        ids
    }

    /// A task that was due cannot be started now, since its connector is paused.
    pub fn later(&mut self, id: &TaskId, now: Instant) {
        if let Some(history) = self.tasks.get_mut(id) {
            history.due = Some(now + self.policy.first.max(Duration::from_secs(1)));
        }
    }

    /// A task was stopped, restarted by hand or configured anew.
    pub fn forget(&mut self, id: &TaskId) {
        self.tasks.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn restarts(enabled: bool) -> AutoRestarts {
        AutoRestarts::new(RestartPolicy { enabled, first: SECOND, most: 5 * SECOND, calm: 60 * SECOND })
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_start_over_after_calm() {
        let (mut restarts, id, now) = (restarts(true), TaskId::new("c", 0), Instant::now());
        let mut pause = |ran| restarts.failed(&id, ran, now).expect("planned");
        for (attempt, seconds) in [(1, 1), (2, 2), (3, 4), (4, 5), (5, 5)] {
            assert_eq!(pause(SECOND), Planned { pause: seconds * SECOND, attempt });
        }
        assert_eq!(pause(60 * SECOND), Planned { pause: SECOND, attempt: 1 });
    }

    #[test]
    fn a_task_is_due_once() {
        let (mut restarts, id, now) = (restarts(true), TaskId::new("c", 0), Instant::now());
        restarts.failed(&id, SECOND, now);
        assert_eq!(restarts.next(), Some(now + SECOND));
        assert!(restarts.take_due(now).is_empty());
        assert_eq!(restarts.take_due(now + SECOND), std::slice::from_ref(&id));
        assert!(restarts.take_due(now + 9 * SECOND).is_empty());
        restarts.later(&id, now);
        assert_eq!(restarts.next(), Some(now + SECOND));
        restarts.forget(&id);
        assert_eq!(restarts.next(), None);
    }

    #[test]
    fn nothing_is_planned_where_it_is_off() {
        let mut restarts = restarts(false);
        assert_eq!(restarts.failed(&TaskId::new("c", 0), SECOND, Instant::now()), None);
    }
}
