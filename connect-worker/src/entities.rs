//! What REST answers are made of, in the reference's shapes.

use aqueduct_connect_api::ConfigMap;
use serde::Serialize;

use crate::ids::TaskId;
use crate::status::Status;

/// Number of a task and name of its connector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TaskIdEntity {
    pub connector: String,
    pub task: u32,
}

impl From<&TaskId> for TaskIdEntity {
    fn from(id: &TaskId) -> Self {
        Self { connector: id.connector.to_string(), task: id.task }
    }
}

/// A connector and its settings.
#[derive(Clone, Debug, Serialize)]
pub struct ConnectorInfo {
    pub name: String,
    pub config: ConfigMap,
    pub tasks: Vec<TaskIdEntity>,
    #[serde(rename = "type")]
    pub kind: &'static str,
}

/// A task and its settings.
#[derive(Clone, Debug, Serialize)]
pub struct TaskInfo {
    pub id: TaskIdEntity,
    pub config: ConfigMap,
}

/// What an instance does.
#[derive(Clone, Debug, Serialize)]
pub struct InstanceState {
    pub state: &'static str,
    pub worker_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl From<&Status> for InstanceState {
    fn from(status: &Status) -> Self {
        Self {
            state: status.state.name(),
            worker_id: status.worker_id.clone(),
            trace: status.trace.clone().filter(|t| !t.is_empty()),
            version: status.version.clone(),
        }
    }
}

/// What a task does.
#[derive(Clone, Debug, Serialize)]
pub struct TaskState {
    pub id: u32,
    #[serde(flatten)]
    pub state: InstanceState,
}

/// What a connector and its tasks do.
#[derive(Clone, Debug, Serialize)]
pub struct ConnectorState {
    pub name: String,
    pub connector: InstanceState,
    pub tasks: Vec<TaskState>,
    #[serde(rename = "type")]
    pub kind: &'static str,
}

/// Where one partition of a connector is.
#[derive(Clone, Debug, Serialize)]
pub struct ConnectorOffset {
    pub partition: serde_json::Value,
    pub offset: serde_json::Value,
}

/// A plugin.
#[derive(Clone, Debug, Serialize)]
pub struct PluginInfo {
    pub class: &'static str,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub version: &'static str,
}
