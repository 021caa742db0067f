//! Which instances a restart request means (KIP-745).

use std::collections::BTreeSet;

use crate::config_state::RestartRequest;
use crate::ids::{RunState, TaskId};
use crate::status::StatusState;

/// What is to be restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartPlan {
    pub connector: bool,
    pub tasks: BTreeSet<TaskId>,
}

impl RestartPlan {
    /// Decides by the statuses; `None` where the connector has none.
    pub fn new(request: &RestartRequest, statuses: &StatusState) -> Option<Self> {
        let wanted = |state: RunState| !request.only_failed || state == RunState::Failed;
        let connector = wanted(statuses.connector(&request.connector)?.state);
        let tasks = if request.include_tasks { statuses.tasks(&request.connector) } else { Vec::new() };
        let tasks = tasks
            .into_iter()
            .filter(|(_, status)| wanted(status.state))
            .map(|(task, _)| TaskId { connector: request.connector.clone(), task })
            .collect();
        Some(Self { connector, tasks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Status, Subject};

    fn statuses(connector: RunState, tasks: &[RunState]) -> StatusState {
        let mut state = StatusState::new();
        let mut put = |subject: Subject, run: RunState| {
            let status =
                Status { state: run, trace: None, worker_id: "w".into(), generation: 1, version: None };
            let value = status.value();
            state.apply(subject.key().as_bytes(), value.as_deref().map(str::as_bytes)).expect("readable");
        };
        put(Subject::Connector("c".into()), connector);
        for (task, run) in (0..).zip(tasks) {
            put(Subject::Task(TaskId::new("c", task)), *run);
        }
        state
    }

    #[test]
    fn flags_choose_among_the_statuses() {
        use RunState::{Failed, Running};
        let statuses = statuses(Running, &[Failed, Running]);
        for (include_tasks, only_failed, connector, tasks) in [
            (false, false, true, vec![]),
            (true, false, true, vec![0, 1]),
            (false, true, false, vec![]),
            (true, true, false, vec![0]),
        ] {
            let request = RestartRequest { connector: "c".into(), include_tasks, only_failed };
            let plan = RestartPlan::new(&request, &statuses).expect("a plan");
            assert_eq!(plan.connector, connector);
            assert_eq!(plan.tasks.iter().map(|id| id.task).collect::<Vec<_>>(), tasks);
        }
        let unknown = RestartRequest { connector: "x".into(), include_tasks: true, only_failed: false };
        assert_eq!(RestartPlan::new(&unknown, &statuses), None);
    }
}
