//! Records of the config topic: keys and JSON values.

use std::sync::Arc;

use aqueduct_connect_api::ConfigMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};

use crate::ids::{ConnectorName, TargetState, TaskId};

/// A restart that every worker is to carry out for what it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartRequest {
    pub connector: ConnectorName,
    pub include_tasks: bool,
    pub only_failed: bool,
}

impl RestartRequest {
    /// How much it covers: of several requests for one connector the greatest is carried out.
    pub fn impact(&self) -> u8 {
        match (self.only_failed, self.include_tasks) {
            (true, false) => 0,
            (false, false) => 1,
            (true, true) => 2,
            (false, true) => 3,
        }
    }
}

/// The key that workers sign their internal requests with.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionKey {
    pub key: Vec<u8>,
    pub algorithm: String,
    /// Milliseconds since 1970.
    pub created: i64,
}

impl std::fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionKey").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// One record of the config topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigRecord {
    /// `None` deletes.
    Connector(ConnectorName, Option<ConfigMap>),
    Task(TaskId, ConfigMap),
    /// The number of tasks now in force.
    Commit(ConnectorName, u32),
    /// `None` forgets: started.
    TargetState(ConnectorName, Option<TargetState>),
    Restart(RestartRequest),
    TasksFencing(ConnectorName, u32),
    SessionKey(SessionKey),
    LoggerLevel {
        logger: String,
        level: String,
    },
}

const PREFIXES: [&str; 7] = [
    "target-state-",
    "connector-",
    "task-",
    "commit-",
    "restart-connector-",
    "tasks-fencing-",
    "logger-cluster-",
];

fn properties(config: &ConfigMap) -> Value {
    let members: Map<String, Value> =
        config.iter().map(|(k, v)| (k.clone(), Value::String(v.clone()))).collect();
    json!({ "properties": members })
}

fn read_properties(value: &Value) -> Result<ConfigMap, String> {
    let members =
        value.get("properties").and_then(Value::as_object).ok_or("it has no object \"properties\"")?;
    Ok(members
        .iter()
        .filter_map(|(k, v)| match v {
            Value::Null => None,
            Value::String(text) => Some((k.clone(), text.clone())),
            other => Some((k.clone(), other.to_string())),
        })
        .collect())
}

fn read_count(value: &Value, member: &str) -> Result<u32, String> {
    value
        .get(member)
        .and_then(Value::as_u64)
        .and_then(|n| u32::try_from(n).ok())
        .ok_or_else(|| format!("it has no count \"{member}\""))
}

impl ConfigRecord {
    /// Whether only the leader writes such records.
    pub fn is_leaders(&self) -> bool {
        !matches!(self, Self::TargetState(..) | Self::LoggerLevel { .. })
    }

    /// The key in the topic.
    pub fn key(&self) -> String {
        match self {
            Self::Connector(name, _) => format!("connector-{name}"),
            Self::Task(id, _) => format!("task-{id}"),
            Self::Commit(name, _) => format!("commit-{name}"),
            Self::TargetState(name, _) => format!("target-state-{name}"),
            Self::Restart(request) => format!("restart-connector-{}", request.connector),
            Self::TasksFencing(name, _) => format!("tasks-fencing-{name}"),
            Self::SessionKey(_) => "session-key".to_owned(),
            Self::LoggerLevel { logger, .. } => format!("logger-cluster-{logger}"),
        }
    }

    /// The value in the topic.
    pub fn value(&self) -> Option<String> {
        let value = match self {
            Self::Connector(_, None) | Self::TargetState(_, None) => return None,
            Self::Connector(_, Some(config)) | Self::Task(_, config) => properties(config),
            Self::Commit(_, count) => json!({ "tasks": count }),
            Self::TargetState(_, Some(target)) => {
                // Workers before 3.5 do not know STOPPED.
                let old = if *target == TargetState::Stopped { TargetState::Paused } else { *target };
                json!({ "state": old.name(), "state.v2": target.name() })
            }
            Self::Restart(request) => {
                json!({ "include-tasks": request.include_tasks, "only-failed": request.only_failed })
            }
            Self::TasksFencing(_, count) => json!({ "task-count": count }),
            Self::SessionKey(key) => json!({
                "key": BASE64.encode(&key.key),
                "algorithm": key.algorithm,
                "creation-timestamp": key.created,
            }),
            Self::LoggerLevel { level, .. } => json!({ "level": level }),
        };
        Some(value.to_string())
    }

    /// Reads a record; `None` for keys that have no meaning.
    ///
    /// # Errors
    /// What is wrong with the value.
    pub fn parse(key: &[u8], value: Option<&[u8]>) -> Result<Option<Self>, String> {
        let Ok(key) = std::str::from_utf8(key) else { return Ok(None) };
        if key != "session-key" && !PREFIXES.iter().any(|prefix| key.starts_with(prefix)) {
            return Ok(None);
        }
        let value = match value {
            Some(bytes) => serde_json::from_slice(bytes).map_err(|e| format!("it is not JSON: {e}"))?,
            None => Value::Null,
        };
        if let Some(name) = key.strip_prefix("target-state-") {
            return Self::parse_target(name.into(), &value).map(Some);
        }
        if let Some(name) = key.strip_prefix("connector-") {
            let config = if value.is_null() { None } else { Some(read_properties(&value)?) };
            return Ok(Some(Self::Connector(name.into(), config)));
        }
        if value.is_null() {
            return Ok(None);
        }
        if let Some(id) = key.strip_prefix("task-") {
            let (name, number) = id.rsplit_once('-').ok_or("its key has no task number")?;
            let task = number.parse().map_err(|_| "its key has no task number")?;
            return Ok(Some(Self::Task(TaskId::new(name, task), read_properties(&value)?)));
        }
        if let Some(name) = key.strip_prefix("commit-") {
            return Ok(Some(Self::Commit(name.into(), read_count(&value, "tasks")?)));
        }
        if let Some(name) = key.strip_prefix("restart-connector-") {
            let flag = |member: &str| value.get(member).and_then(Value::as_bool).unwrap_or(false);
            return Ok(Some(Self::Restart(RestartRequest {
                connector: Arc::from(name),
                include_tasks: flag("include-tasks"),
                only_failed: flag("only-failed"),
            })));
        }
        if let Some(name) = key.strip_prefix("tasks-fencing-") {
            return Ok(Some(Self::TasksFencing(name.into(), read_count(&value, "task-count")?)));
        }
        if let Some(logger) = key.strip_prefix("logger-cluster-") {
            let level = value.get("level").and_then(Value::as_str).ok_or("it has no text \"level\"")?;
            return Ok(Some(Self::LoggerLevel { logger: logger.to_owned(), level: level.to_owned() }));
        }
        if key == "session-key" {
            return Self::parse_session_key(&value).map(Some);
        }
        Ok(None)
    }

    fn parse_target(name: ConnectorName, value: &Value) -> Result<Self, String> {
        if value.is_null() {
            return Ok(Self::TargetState(name, None));
        }
        let read = |member: &str| value.get(member).and_then(Value::as_str).and_then(TargetState::from_name);
        let target = read("state.v2").or_else(|| read("state")).ok_or("it has no known \"state\"")?;
        Ok(Self::TargetState(name, Some(target)))
    }

    fn parse_session_key(value: &Value) -> Result<Self, String> {
        let text = |member: &str| {
            value.get(member).and_then(Value::as_str).ok_or_else(|| format!("it has no text \"{member}\""))
        };
        let key = BASE64.decode(text("key")?).map_err(|e| format!("its \"key\" is not base64: {e}"))?;
        let created = value
            .get("creation-timestamp")
            .and_then(Value::as_i64)
            .ok_or("it has no \"creation-timestamp\"")?;
        Ok(Self::SessionKey(SessionKey { key, algorithm: text("algorithm")?.to_owned(), created }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_back_what_was_written() {
        let config: ConfigMap = [("connector.class".to_owned(), "X".to_owned())].into();
        let name = ConnectorName::from("a-b");
        for (record, key, value) in [
            (
                ConfigRecord::Connector(name.clone(), Some(config.clone())),
                "connector-a-b",
                Some(r#"{"properties":{"connector.class":"X"}}"#),
            ),
            (ConfigRecord::Connector(name.clone(), None), "connector-a-b", None),
            (
                ConfigRecord::Task(TaskId::new("a-b", 3), config),
                "task-a-b-3",
                Some(r#"{"properties":{"connector.class":"X"}}"#),
            ),
            (ConfigRecord::Commit(name.clone(), 2), "commit-a-b", Some(r#"{"tasks":2}"#)),
            (
                ConfigRecord::TargetState(name.clone(), Some(TargetState::Stopped)),
                "target-state-a-b",
                Some(r#"{"state":"PAUSED","state.v2":"STOPPED"}"#),
            ),
            (ConfigRecord::TargetState(name.clone(), None), "target-state-a-b", None),
            (
                ConfigRecord::Restart(RestartRequest {
                    connector: name.clone(),
                    include_tasks: true,
                    only_failed: false,
                }),
                "restart-connector-a-b",
                Some(r#"{"include-tasks":true,"only-failed":false}"#),
            ),
            (ConfigRecord::TasksFencing(name, 1), "tasks-fencing-a-b", Some(r#"{"task-count":1}"#)),
            (
                ConfigRecord::SessionKey(SessionKey {
                    key: vec![1, 2, 3],
                    algorithm: "HmacSHA256".to_owned(),
                    created: 5,
                }),
                "session-key",
                Some(r#"{"key":"AQID","algorithm":"HmacSHA256","creation-timestamp":5}"#),
            ),
            (
                ConfigRecord::LoggerLevel { logger: "root".to_owned(), level: "DEBUG".to_owned() },
                "logger-cluster-root",
                Some(r#"{"level":"DEBUG"}"#),
            ),
        ] {
            assert_eq!(record.key(), key);
            assert_eq!(record.value().as_deref(), value);
            assert_eq!(
                ConfigRecord::parse(key.as_bytes(), value.map(str::as_bytes)),
                Ok(Some(record)),
                "{key}"
            );
        }
    }
}
