//! What connectors and tasks do, as the status topic says, and which topics they have used.
//!
//! [`StatusState`] holds what has been read from the topic and decides which records may be written and which are to be
//! believed: a worker that has lost a task must not overwrite what its new owner says.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::ids::{ConnectorName, RunState, TaskId};

/// What a connector or task does, who says so, and in which generation of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub state: RunState,
    /// Why it failed.
    pub trace: Option<String>,
    /// `host:port` of the worker's REST address.
    pub worker_id: String,
    pub generation: i32,
    /// Version of the plugin, where it is known.
    pub version: Option<String>,
}

impl Status {
    /// The value in the topic; `None`, a tombstone, for what is destroyed.
    pub fn value(&self) -> Option<String> {
        (self.state != RunState::Destroyed).then(|| {
            json!({
                "state": self.state.name(),
                "trace": self.trace,
                "worker_id": self.worker_id,
                "generation": self.generation,
                "version": self.version,
            })
            .to_string()
        })
    }

    fn parse(value: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(value).map_err(|e| format!("it is not JSON: {e}"))?;
        let text = |member: &str| value.get(member).and_then(Value::as_str).map(str::to_owned);
        let state =
            text("state").as_deref().and_then(RunState::from_name).ok_or("it has no known \"state\"")?;
        Ok(Self {
            state,
            trace: text("trace"),
            worker_id: text("worker_id").ok_or("it has no text \"worker_id\"")?,
            generation: value
                .get("generation")
                .and_then(Value::as_i64)
                .and_then(|g| i32::try_from(g).ok())
                .ok_or("it has no number \"generation\"")?,
            version: text("version"),
        })
    }
}

/// Whose status a record carries.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    Connector(ConnectorName),
    Task(TaskId),
}

impl Subject {
    /// The key in the topic.
    pub fn key(&self) -> String {
        match self {
            Self::Connector(name) => format!("status-connector-{name}"),
            Self::Task(id) => format!("status-task-{id}"),
        }
    }
}

/// Key of the record that says that `connector` has used `topic`.
pub fn topic_key(connector: &str, topic: &str) -> String {
    format!("status-topic-{topic}:connector-{connector}")
}

/// Value of the record that says that a task has used `topic` first at `discovered` (milliseconds since 1970).
pub fn topic_value(id: &TaskId, topic: &str, discovered: i64) -> String {
    json!({"topic": {
        "name": topic, "connector": &*id.connector, "task": id.task, "discoverTimestamp": discovered,
    }})
    .to_string()
}

/// The state of the status topic.
#[derive(Debug, Default)]
pub struct StatusState {
    statuses: BTreeMap<Subject, Status>,
    topics: BTreeMap<ConnectorName, BTreeMap<String, u32>>,
    /// What this worker has said last of what it runs.
    said: BTreeMap<Subject, Status>,
}

impl StatusState {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn connector(&self, name: &str) -> Option<&Status> {
        self.statuses.get(&Subject::Connector(name.into()))
    }

    pub fn task(&self, id: &TaskId) -> Option<&Status> {
        self.statuses.get(&Subject::Task(id.clone()))
    }

    /// Statuses of a connector's tasks, by task number.
    pub fn tasks(&self, connector: &str) -> Vec<(u32, &Status)> {
        let first = Subject::Task(TaskId::new(connector, 0));
        self.statuses
            .range(first..)
            .map_while(|(subject, status)| match subject {
                Subject::Task(id) if &*id.connector == connector => Some((id.task, status)),
                _ => None,
            })
            .collect()
    }

    /// What is in a state.
    pub fn in_state(&self, state: RunState) -> impl Iterator<Item = &Subject> {
        self.statuses.iter().filter(move |(_, status)| status.state == state).map(|(subject, _)| subject)
    }

    /// Topics that the connector has used, sorted.
    pub fn topics(&self, connector: &str) -> Vec<String> {
        self.topics.get(connector).map(|topics| topics.keys().cloned().collect()).unwrap_or_default()
    }

    pub fn has_topic(&self, connector: &str, topic: &str) -> bool {
        self.topics.get(connector).is_some_and(|topics| topics.contains_key(topic))
    }

    /// Whether a worker that may have lost `subject` may still write `status`: nobody else has spoken of it since.
    pub fn may_write(&self, subject: &Subject, status: &Status) -> bool {
        self.statuses
            .get(subject)
            .is_none_or(|known| known.worker_id == status.worker_id || known.generation <= status.generation)
    }

    /// Takes note of what this worker says.
    pub fn say(&mut self, subject: &Subject, status: &Status) {
        match status.state {
            RunState::Unassigned | RunState::Destroyed => self.said.remove(subject),
            _ => self.said.insert(subject.clone(), status.clone()),
        };
    }

    /// Applies a record of the topic. Keys that mean nothing here are passed over. Returns what this worker has to say again: a
    /// worker of the past has said otherwise, which came late, as the brokers did not answer.
    ///
    /// # Errors
    /// Why the record cannot be read; it is passed over.
    pub fn apply(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<Option<(Subject, Status)>, String> {
        let Ok(key) = std::str::from_utf8(key) else { return Ok(None) };
        if let Some(name) = key.strip_prefix("status-connector-") {
            self.set(Subject::Connector(name.into()), value)
        } else if let Some(id) = key.strip_prefix("status-task-") {
            let (name, task) = id.rsplit_once('-').ok_or("its key has no task number")?;
            let task = task.parse().map_err(|_| "its key has no task number")?;
            self.set(Subject::Task(TaskId::new(name, task)), value)
        } else if let Some(rest) = key.strip_prefix("status-topic-") {
            self.set_topic(rest, value).map(|()| None)
        } else {
            Ok(None)
        }
    }

    fn set(&mut self, subject: Subject, value: Option<&[u8]>) -> Result<Option<(Subject, Status)>, String> {
        let Some(value) = value else {
            self.statuses.remove(&subject);
            return Ok(None);
        };
        let status = Status::parse(value)?;
        // A worker that gives something up may say so after the new owner has said that it runs, which may be itself: what
        // it said before it was killed can be on its way for long.
        let late = status.state == RunState::Unassigned
            && self.statuses.get(&subject).is_some_and(|known| {
                let is_other = known.worker_id != status.worker_id;
                known.state == RunState::Running
                    && (known.generation > status.generation
                        || known.generation == status.generation && is_other)
            });
        if late {
            return Ok(None);
        }
        let is_past =
            |said: &&Status| said.worker_id != status.worker_id && said.generation > status.generation;
        let hidden = self.said.get(&subject).filter(is_past).map(|said| (subject.clone(), said.clone()));
        self.statuses.insert(subject, status);
        Ok(hidden)
    }

    fn set_topic(&mut self, key: &str, value: Option<&[u8]>) -> Result<(), String> {
        let (topic, connector) =
            key.split_once(":connector-").ok_or("its key names no topic and connector")?;
        if value.is_none() {
            if let Some(topics) = self.topics.get_mut(connector) {
                topics.remove(topic);
                if topics.is_empty() {
                    self.topics.remove(connector);
                }
            }
            return Ok(());
        }
        let value: Value =
            serde_json::from_slice(value.unwrap_or_default()).map_err(|e| format!("it is not JSON: {e}"))?;
        let task = value
            .pointer("/topic/task")
            .and_then(Value::as_u64)
            .and_then(|t| u32::try_from(t).ok())
            .ok_or("it has no number \"task\"")?;
        self.topics.entry(connector.into()).or_default().insert(topic.to_owned(), task);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: RunState, worker: &str, generation: i32) -> Status {
        Status { state, trace: None, worker_id: worker.to_owned(), generation, version: None }
    }

    fn put(state: &mut StatusState, subject: &Subject, status: &Status) -> Option<(Subject, Status)> {
        state
            .apply(subject.key().as_bytes(), status.value().as_deref().map(str::as_bytes))
            .expect("a readable record")
    }

    #[test]
    fn values_are_those_of_the_reference() {
        let mut running = status(RunState::Running, "127.0.0.1:8083", 2);
        running.version = Some("4.3.1".to_owned());
        assert_eq!(
            running.value().as_deref(),
            Some(
                r#"{"state":"RUNNING","trace":null,"worker_id":"127.0.0.1:8083","generation":2,"version":"4.3.1"}"#
            )
        );
        assert_eq!(status(RunState::Destroyed, "w", 1).value(), None);
        assert_eq!(
            topic_value(&TaskId::new("c", 0), "t", 5),
            r#"{"topic":{"name":"t","connector":"c","task":0,"discoverTimestamp":5}}"#
        );
    }

    #[test]
    fn what_is_given_up_late_does_not_hide_its_new_owner() {
        let mut state = StatusState::new();
        let connector = Subject::Connector("c".into());
        put(&mut state, &connector, &status(RunState::Running, "new", 5));
        put(&mut state, &connector, &status(RunState::Unassigned, "old", 4));
        assert_eq!(state.connector("c").map(|s| s.state), Some(RunState::Running));
        let task = Subject::Task(TaskId::new("c-1", 10));
        put(&mut state, &task, &status(RunState::Running, "new", 5));
        put(&mut state, &task, &status(RunState::Unassigned, "old", 4));
        assert_eq!(state.task(&TaskId::new("c-1", 10)).map(|s| s.state), Some(RunState::Running));
        put(&mut state, &task, &status(RunState::Unassigned, "new", 4));
        assert_eq!(state.task(&TaskId::new("c-1", 10)).map(|s| s.state), Some(RunState::Running));
        put(&mut state, &task, &status(RunState::Unassigned, "new", 5));
        assert_eq!(state.tasks("c-1").first().map(|(_, s)| s.state), Some(RunState::Unassigned));
    }

    #[test]
    fn what_a_worker_of_the_past_hides_is_said_again() {
        let mut state = StatusState::new();
        let subject = Subject::Connector("c".into());
        let own = status(RunState::Running, "new", 5);
        state.say(&subject, &own);
        for fine in [
            own.clone(),
            status(RunState::Paused, "other", 6),
            status(RunState::Running, "other", 5),
            status(RunState::Failed, "new", 4),
        ] {
            assert_eq!(put(&mut state, &subject, &fine), None, "of the present, or its own");
        }
        let late = status(RunState::Running, "old", 4);
        assert_eq!(put(&mut state, &subject, &late), Some((subject.clone(), own.clone())));
        assert_eq!(put(&mut state, &subject, &own), None);
        state.say(&subject, &status(RunState::Unassigned, "new", 5));
        let late = status(RunState::Failed, "old", 4);
        assert_eq!(put(&mut state, &subject, &late), None, "it does not run it any more");
    }

    #[test]
    fn only_the_latest_generation_or_the_same_worker_may_write_safely() {
        let mut state = StatusState::new();
        let subject = Subject::Connector("c".into());
        assert!(state.may_write(&subject, &status(RunState::Failed, "a", 1)));
        put(&mut state, &subject, &status(RunState::Running, "b", 5));
        assert!(!state.may_write(&subject, &status(RunState::Failed, "a", 4)));
        assert!(state.may_write(&subject, &status(RunState::Failed, "a", 5)));
        assert!(state.may_write(&subject, &status(RunState::Failed, "b", 4)));
    }

    #[test]
    fn tombstones_remove_and_broken_records_are_errors() {
        let mut state = StatusState::new();
        let task = Subject::Task(TaskId::new("c", 0));
        put(&mut state, &task, &status(RunState::Running, "w", 1));
        put(&mut state, &task, &status(RunState::Destroyed, "w", 1));
        assert!(state.tasks("c").is_empty());
        assert!(state.apply(b"status-task-c", Some(b"{}")).is_err());
        assert!(state.apply(b"status-connector-c", Some(br#"{"state":"ODD"}"#)).is_err());
        assert!(state.apply(b"other", Some(b"{")).is_ok());
    }

    #[test]
    fn active_topics_come_and_go() {
        let mut state = StatusState::new();
        let value = topic_value(&TaskId::new("c", 0), "t:x", 5);
        state.apply(topic_key("c", "t:x").as_bytes(), Some(value.as_bytes())).expect("readable");
        assert_eq!(state.topics("c"), ["t:x"]);
        state.apply(topic_key("c", "t:x").as_bytes(), None).expect("readable");
        assert!(state.topics("c").is_empty());
    }
}
