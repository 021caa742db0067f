//! What the config topic says of the generations of a connector's tasks, for exactly-once sources: how many producers the
//! last fenced generation has, and whether tasks have been committed since.

use crate::ids::ConnectorName;

use super::ConfigState;

/// Generations of the tasks of one connector. Outlives the connector: one of the same name must fence its tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskGenerations {
    /// Tasks of the last generation that could start (`tasks-fencing-…`).
    pub recorded: Option<u32>,
    /// Tasks were committed after that record: before they start, those of before have to be fenced.
    pub pending: bool,
    /// Counts commits that this worker has read.
    pub generation: u64,
}

impl TaskGenerations {
    /// How many producers of the generation before have to be fenced, given that `count` tasks are to start. None where
    /// none can have been started; and where one task follows another, the new one fences the old by its own.
    pub fn to_fence(self, count: u32) -> Option<u32> {
        self.recorded.filter(|old| self.pending && (*old != 1 || count != 1))
    }
}

impl ConfigState {
    /// The generations of a connector's tasks.
    pub fn task_generations(&self, name: &str) -> TaskGenerations {
        self.generations.get(name).copied().unwrap_or_default()
    }

    /// The number of tasks that were committed last, complete or not.
    pub fn task_count(&self, name: &str) -> u32 {
        self.existing(name).map_or(0, |connector| connector.task_count)
    }

    pub(super) fn tasks_recorded(&mut self, name: ConnectorName, count: u32) {
        let generations = self.generations.entry(name).or_default();
        generations.recorded = Some(count);
        generations.pending = false;
    }

    pub(super) fn tasks_committed(&mut self, name: ConnectorName) {
        let generations = self.generations.entry(name).or_default();
        generations.pending = true;
        generations.generation += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(state: &mut ConfigState, key: &str, value: Option<&str>) {
        state.apply(state.offset(), key.as_bytes(), value.map(str::as_bytes)).expect("readable");
    }

    #[test]
    fn every_generation_is_fenced_once_before_the_next_starts() {
        let mut state = ConfigState::default();
        apply(&mut state, "connector-c", Some(r#"{"properties":{}}"#));
        assert_eq!(state.task_generations("c"), TaskGenerations::default());
        let commit = |state: &mut ConfigState, count: u32| {
            for task in 0..count {
                apply(state, &format!("task-c-{task}"), Some(r#"{"properties":{}}"#));
            }
            apply(state, "commit-c", Some(&format!(r#"{{"tasks":{count}}}"#)));
        };
        commit(&mut state, 1);
        let first = state.task_generations("c");
        assert_eq!((first.to_fence(1), first.pending, first.generation), (None, true, 1), "there were none");
        apply(&mut state, "tasks-fencing-c", Some(r#"{"task-count":1}"#));
        assert!(!state.task_generations("c").pending);
        commit(&mut state, 1);
        assert_eq!(state.task_generations("c").to_fence(1), None, "its successor fences it");
        commit(&mut state, 2);
        assert_eq!(state.task_generations("c").to_fence(2), Some(1));
        apply(&mut state, "tasks-fencing-c", Some(r#"{"task-count":2}"#));
        assert_eq!(state.task_generations("c").to_fence(2), None, "done for this generation");
        commit(&mut state, 0);
        assert_eq!(state.task_generations("c").to_fence(0), Some(2));
        apply(&mut state, "connector-c", None);
        assert_eq!(state.task_generations("c").recorded, Some(2), "its tasks may still run somewhere");
    }
}
