//! What the config topic says: connectors, their tasks, target states, the session key.
//!
//! [`ConfigState`] is rebuilt by applying every record of the topic in order, whatever compaction has left of it. Task
//! configurations wait until their commit record arrives; a commit that does not find all of them makes the connector
//! inconsistent until its tasks are published again.

mod fencing;
mod records;

use std::collections::{BTreeMap, BTreeSet};

use aqueduct_connect_api::ConfigMap;

pub use fencing::TaskGenerations;
pub use records::{ConfigRecord, RestartRequest, SessionKey};

use crate::ids::{ConnectorName, TargetState, TaskId};

/// What one record changed, for the herder to act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    ConnectorUpdated(ConnectorName),
    ConnectorRemoved(ConnectorName),
    /// New task configurations are in force; the list holds the tasks that have other settings than before.
    TasksUpdated(ConnectorName, Vec<TaskId>),
    TargetState(ConnectorName),
    Restart(RestartRequest),
    SessionKey,
    LoggerLevel {
        logger: String,
        level: String,
    },
}

#[derive(Clone, Debug, Default)]
struct Connector {
    config: Option<ConfigMap>,
    target: TargetState,
    task_count: u32,
    tasks: BTreeMap<u32, ConfigMap>,
    /// Written but not committed.
    deferred: BTreeMap<u32, ConfigMap>,
    inconsistent: bool,
    /// The connector configuration that the tasks in force were made from.
    applied: Option<ConfigMap>,
}

/// The state of the config topic up to [`ConfigState::offset`].
#[derive(Clone, Debug, Default)]
pub struct ConfigState {
    connectors: BTreeMap<ConnectorName, Connector>,
    session_key: Option<SessionKey>,
    generations: BTreeMap<ConnectorName, TaskGenerations>,
    offset: i64,
}

impl ConfigState {
    /// One more than the offset of the last record: the config offset of the group protocol.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// Notes that records below `offset` have been seen, whether they could be read or not.
    pub fn advance(&mut self, offset: i64) {
        self.offset = self.offset.max(offset);
    }

    /// Names of the connectors, sorted.
    pub fn connectors(&self) -> Vec<ConnectorName> {
        self.connectors.iter().filter(|(_, c)| c.config.is_some()).map(|(n, _)| n.clone()).collect()
    }

    fn existing(&self, name: &str) -> Option<&Connector> {
        self.connectors.get(name).filter(|c| c.config.is_some())
    }

    pub fn contains(&self, name: &str) -> bool {
        self.existing(name).is_some()
    }

    /// Settings of a connector as they were written, `${...}` unresolved.
    pub fn connector_config(&self, name: &str) -> Option<&ConfigMap> {
        self.existing(name)?.config.as_ref()
    }

    /// What the user wants of a connector; `None` where there is no such connector.
    pub fn target_state(&self, name: &str) -> Option<TargetState> {
        self.existing(name).map(|c| c.target)
    }

    /// Tasks in force; none while the connector is inconsistent.
    pub fn tasks(&self, name: &str) -> Vec<TaskId> {
        let Some((name, _)) = self.connectors.get_key_value(name).filter(|(_, c)| c.config.is_some()) else {
            return Vec::new();
        };
        let connector = &self.connectors[name];
        let count = if connector.inconsistent { 0 } else { connector.task_count };
        (0..count).map(|task| TaskId { connector: name.clone(), task }).collect()
    }

    /// All tasks in force of all connectors.
    pub fn all_tasks(&self) -> Vec<TaskId> {
        self.connectors.keys().flat_map(|name| self.tasks(name)).collect()
    }

    /// Settings of a task in force.
    pub fn task_config(&self, id: &TaskId) -> Option<&ConfigMap> {
        let connector = self.existing(&id.connector)?;
        (id.task < connector.task_count && !connector.inconsistent).then(|| connector.tasks.get(&id.task))?
    }

    /// Whether the task records of the connector are incomplete and have to be published again.
    pub fn is_inconsistent(&self, name: &str) -> bool {
        self.existing(name).is_some_and(|c| c.inconsistent)
    }

    /// The connector configuration that the tasks in force were made from; `None` where that is not known.
    pub fn applied_config(&self, name: &str) -> Option<&ConfigMap> {
        self.existing(name)?.applied.as_ref()
    }

    pub fn session_key(&self) -> Option<&SessionKey> {
        self.session_key.as_ref()
    }

    /// Applies the record at `offset`. A key that means nothing here is passed over.
    ///
    /// # Errors
    /// Why the value cannot be read; the record is passed over and the state is as before.
    pub fn apply(&mut self, offset: i64, key: &[u8], value: Option<&[u8]>) -> Result<Option<Change>, String> {
        self.advance(offset + 1);
        match ConfigRecord::parse(key, value)? {
            Some(record) => Ok(self.apply_record(record)),
            None => Ok(None),
        }
    }

    fn apply_record(&mut self, record: ConfigRecord) -> Option<Change> {
        match record {
            ConfigRecord::Connector(name, Some(config)) => {
                self.connectors.entry(name.clone()).or_default().config = Some(config);
                Some(Change::ConnectorUpdated(name))
            }
            ConfigRecord::Connector(name, None) => {
                self.connectors.remove(&name)?.config?;
                Some(Change::ConnectorRemoved(name))
            }
            ConfigRecord::Task(id, config) => {
                self.connectors.entry(id.connector).or_default().deferred.insert(id.task, config);
                None
            }
            ConfigRecord::Commit(name, count) => self.commit(name, count),
            ConfigRecord::TargetState(name, target) => {
                let connector = match target {
                    // Its connector may have been removed by the record before.
                    None => self.connectors.get_mut(&name)?,
                    Some(_) => self.connectors.entry(name.clone()).or_default(),
                };
                connector.target = target.unwrap_or_default();
                connector.config.is_some().then_some(Change::TargetState(name))
            }
            ConfigRecord::Restart(request) => Some(Change::Restart(request)),
            ConfigRecord::TasksFencing(name, count) => {
                self.tasks_recorded(name, count);
                None
            }
            ConfigRecord::SessionKey(key) => {
                self.session_key = Some(key);
                Some(Change::SessionKey)
            }
            ConfigRecord::LoggerLevel { logger, level } => Some(Change::LoggerLevel { logger, level }),
        }
    }

    fn commit(&mut self, name: ConnectorName, count: u32) -> Option<Change> {
        let connector = self.connectors.get_mut(&name)?;
        if connector.config.is_none() {
            // The connector was deleted, and compaction has removed that record and its configuration before it.
            connector.deferred.clear();
            return None;
        }
        let deferred = std::mem::take(&mut connector.deferred);
        let complete = (0..count).all(|task| deferred.contains_key(&task));
        // Converters, transforms and more come from the connector's settings: where those are others, all tasks are.
        let all = connector.inconsistent || !complete || connector.applied != connector.config;
        let same = |task: &u32, config: &ConfigMap| {
            !all && *task < connector.task_count && connector.tasks.get(task) == Some(config)
        };
        let written: BTreeSet<u32> =
            deferred.iter().filter(|(task, config)| !same(task, config)).map(|(task, _)| *task).collect();
        connector.inconsistent = !complete;
        connector.task_count = count;
        if complete {
            connector.tasks.extend(deferred);
            connector.tasks.retain(|task, _| *task < count);
            connector.applied.clone_from(&connector.config);
        }
        let tasks = written.into_iter().map(|task| TaskId { connector: name.clone(), task }).collect();
        self.tasks_committed(name.clone());
        Some(Change::TasksUpdated(name, tasks))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn apply(state: &mut ConfigState, key: &str, value: &str) -> Option<Change> {
        let value = (value != "null").then_some(value.as_bytes());
        state.apply(state.offset(), key.as_bytes(), value).expect("a readable record")
    }

    fn created() -> ConfigState {
        let mut state = ConfigState::default();
        apply(&mut state, "connector-a-1", r#"{"properties":{"name":"a-1","tasks.max":"2"}}"#);
        apply(&mut state, "task-a-1-0", r#"{"properties":{"n":"0"}}"#);
        apply(&mut state, "task-a-1-1", r#"{"properties":{"n":"1"}}"#);
        state
    }

    #[test]
    fn tasks_come_into_force_with_their_commit() {
        let mut state = created();
        assert!(state.tasks("a-1").is_empty());
        let tasks = vec![TaskId::new("a-1", 0), TaskId::new("a-1", 1)];
        assert_eq!(
            apply(&mut state, "commit-a-1", r#"{"tasks":2}"#),
            Some(Change::TasksUpdated("a-1".into(), tasks.clone()))
        );
        assert_eq!(state.tasks("a-1"), tasks);
        assert_eq!(state.task_config(&tasks[1]).map(|c| c["n"].as_str()), Some("1"));
        assert_eq!(state.applied_config("a-1"), state.connector_config("a-1"));
        assert_eq!(state.offset(), 4);
    }

    #[test]
    fn an_incomplete_commit_leaves_the_connector_inconsistent() {
        let mut state = created();
        apply(&mut state, "commit-a-1", r#"{"tasks":3}"#);
        assert!(state.is_inconsistent("a-1"));
        assert!(state.tasks("a-1").is_empty());
        assert_eq!(state.task_config(&TaskId::new("a-1", 0)), None);
        apply(&mut state, "task-a-1-0", r#"{"properties":{"n":"9"}}"#);
        apply(&mut state, "commit-a-1", r#"{"tasks":1}"#);
        assert!(!state.is_inconsistent("a-1"));
        assert_eq!(state.tasks("a-1").len(), 1);
    }

    #[test]
    fn only_tasks_with_other_settings_are_told() {
        let mut state = created();
        apply(&mut state, "commit-a-1", r#"{"tasks":2}"#);
        apply(&mut state, "task-a-1-0", r#"{"properties":{"n":"0"}}"#);
        apply(&mut state, "task-a-1-1", r#"{"properties":{"n":"9"}}"#);
        assert_eq!(
            apply(&mut state, "commit-a-1", r#"{"tasks":2}"#),
            Some(Change::TasksUpdated("a-1".into(), vec![TaskId::new("a-1", 1)]))
        );
        apply(&mut state, "connector-a-1", r#"{"properties":{"name":"a-1","transforms":"t"}}"#);
        apply(&mut state, "task-a-1-0", r#"{"properties":{"n":"0"}}"#);
        apply(&mut state, "task-a-1-1", r#"{"properties":{"n":"9"}}"#);
        assert_eq!(
            apply(&mut state, "commit-a-1", r#"{"tasks":2}"#),
            Some(Change::TasksUpdated("a-1".into(), vec![TaskId::new("a-1", 0), TaskId::new("a-1", 1)]))
        );
    }

    #[test]
    fn stop_is_a_commit_of_no_tasks() {
        let mut state = created();
        apply(&mut state, "commit-a-1", r#"{"tasks":2}"#);
        apply(&mut state, "commit-a-1", r#"{"tasks":0}"#);
        assert!(!state.is_inconsistent("a-1"));
        assert!(state.tasks("a-1").is_empty());
        let change = apply(&mut state, "target-state-a-1", r#"{"state":"PAUSED","state.v2":"STOPPED"}"#);
        assert_eq!(change, Some(Change::TargetState("a-1".into())));
        assert_eq!(state.target_state("a-1"), Some(TargetState::Stopped));
    }

    #[test]
    fn a_target_state_may_come_before_its_connector_and_go_after_it() {
        let mut state = ConfigState::default();
        assert_eq!(apply(&mut state, "target-state-b", r#"{"state":"PAUSED"}"#), None);
        assert!(!state.contains("b"));
        apply(&mut state, "connector-b", r#"{"properties":{}}"#);
        assert_eq!(state.target_state("b"), Some(TargetState::Paused));
        assert_eq!(apply(&mut state, "connector-b", "null"), Some(Change::ConnectorRemoved("b".into())));
        assert_eq!(apply(&mut state, "target-state-b", "null"), None);
        assert!(state.connectors().is_empty());
    }

    #[test]
    fn tasks_of_a_deleted_connector_are_ignored() {
        let mut state = ConfigState::default();
        apply(&mut state, "task-gone-0", r#"{"properties":{}}"#);
        assert_eq!(apply(&mut state, "commit-gone", r#"{"tasks":1}"#), None);
        assert!(state.tasks("gone").is_empty());
        apply(&mut state, "connector-gone", r#"{"properties":{}}"#);
        assert!(state.tasks("gone").is_empty(), "what was buffered before is forgotten");
    }

    #[test]
    fn a_broken_value_is_an_error_and_changes_nothing_but_the_offset() {
        let mut state = created();
        assert!(state.apply(3, b"commit-a-1", Some(b"{")).is_err());
        assert!(state.apply(4, b"commit-a-1", Some(br#"{"tasks":-1}"#)).is_err());
        assert!(state.apply(5, b"connector-a-1", Some(br#"{"properties":3}"#)).is_err());
        assert_eq!(state.apply(6, b"strange", Some(b"x")), Ok(None));
        assert_eq!(state.offset(), 7);
        assert!(state.contains("a-1"));
    }

    proptest! {
        /// Compaction keeps the last record of each key; connectors, target states and, once committed in full, tasks
        /// must come out the same.
        #[test]
        fn compaction_loses_no_connector(ops in proptest::collection::vec((0..3u8, 0..4u8, 0..4u32), 1..40)) {
            let mut log: Vec<(String, String)> = Vec::new();
            for (name, op, n) in ops {
                let name = format!("c{name}");
                match op {
                    0 => log.push((format!("connector-{name}"), format!(r#"{{"properties":{{"v":"{n}"}}}}"#))),
                    1 => {
                        log.push((format!("connector-{name}"), "null".into()));
                        log.push((format!("target-state-{name}"), "null".into()));
                    }
                    2 => log.push((format!("target-state-{name}"), r#"{"state":"PAUSED"}"#.into())),
                    _ => {
                        for task in 0..n {
                            log.push((format!("task-{name}-{task}"), r#"{"properties":{}}"#.into()));
                        }
                        log.push((format!("commit-{name}"), format!(r#"{{"tasks":{n}}}"#)));
                    }
                }
            }
            let compacted: Vec<_> = log.iter().enumerate()
                .filter(|(at, (key, _))| log[at + 1..].iter().all(|(later, _)| later != key))
                .map(|(_, record)| record.clone())
                .collect();
            let (mut full, mut short) = (ConfigState::default(), ConfigState::default());
            log.iter().for_each(|(k, v)| { apply(&mut full, k, v); });
            compacted.iter().for_each(|(k, v)| { apply(&mut short, k, v); });
            prop_assert_eq!(full.connectors(), short.connectors());
            for name in full.connectors() {
                prop_assert_eq!(full.connector_config(&name), short.connector_config(&name));
                prop_assert_eq!(full.target_state(&name), short.target_state(&name));
            }
        }
    }
}
