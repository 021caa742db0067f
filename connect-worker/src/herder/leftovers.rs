//! Statuses of what is there no more.

use std::time::Duration;

use super::driver::Driver;
use crate::config_state::ConfigState;
use crate::ids::RunState;
use crate::status::{StatusState, Subject};

/// Between two looks for leftovers.
pub(super) const LOOK: Duration = Duration::from_secs(2);

impl Driver {
    /// Takes statuses of deleted connectors and of tasks that their connector has no more out of the topic, where this worker
    /// leads: an owner, of the JVM above all, may say that it has stopped after the leader took note of the end.
    pub(super) async fn forget_leftovers(&self) {
        if !self.shared.leadership.lock().leads {
            return;
        }
        let gone =
            self.shared.config.read(|config| self.shared.status.read(|state| leftovers(config, state)));
        for subject in gone {
            let status = self.shared.environment.status_of(RunState::Destroyed, None, None);
            self.shared.status.put(subject, status).await;
        }
    }
}

/// What has stopped and is not configured; a task that runs may be younger than what is known here of its configuration.
fn leftovers(config: &ConfigState, statuses: &StatusState) -> Vec<Subject> {
    let gone = |subject: &&Subject| match subject {
        Subject::Connector(name) => !config.contains(name),
        Subject::Task(id) => config.task_config(id).is_none(),
    };
    statuses.in_state(RunState::Unassigned).filter(gone).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_stopped_and_is_not_configured_is_forgotten() {
        let mut config = ConfigState::default();
        config.apply(0, b"connector-there", Some(br#"{"properties":{"name":"there"}}"#)).expect("valid");
        let mut statuses = StatusState::new();
        for (key, state) in [
            ("status-connector-there", "UNASSIGNED"),
            ("status-task-there-0", "UNASSIGNED"),
            ("status-task-there-1", "RUNNING"),
            ("status-connector-gone", "UNASSIGNED"),
            ("status-connector-new", "RUNNING"),
        ] {
            let value = format!(r#"{{"state":"{state}","trace":null,"worker_id":"w:1","generation":1}}"#);
            statuses.apply(key.as_bytes(), Some(value.as_bytes())).expect("valid");
        }
        let shown: Vec<String> =
            leftovers(&config, &statuses).iter().map(|subject| format!("{subject:?}")).collect();
        assert_eq!(shown.len(), 2, "{shown:?}");
        assert!(
            shown.iter().any(|s| s.contains("gone")) && shown.iter().any(|s| s.contains("there")),
            "{shown:?}"
        );
    }
}
