//! Names of what a worker runs.

use std::fmt;
use std::sync::Arc;

/// Name of a connector.
pub type ConnectorName = Arc<str>;

/// One task of a connector.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId {
    pub connector: ConnectorName,
    pub task: u32,
}

impl TaskId {
    pub fn new(connector: impl Into<ConnectorName>, task: u32) -> Self {
        Self { connector: connector.into(), task }
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.connector, self.task)
    }
}

/// What the user wants a connector to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetState {
    #[default]
    Started,
    /// Tasks stay assigned and alive but move nothing.
    Paused,
    /// No tasks at all.
    Stopped,
}

impl TargetState {
    /// Its name in the config topic.
    pub fn name(self) -> &'static str {
        match self {
            Self::Started => "STARTED",
            Self::Paused => "PAUSED",
            Self::Stopped => "STOPPED",
        }
    }

    /// The state of that name in the config topic.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Started, Self::Paused, Self::Stopped].into_iter().find(|s| s.name() == name)
    }
}

/// What a connector or task does, as its status says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    Unassigned,
    Running,
    Paused,
    Failed,
    Restarting,
    /// Connectors only.
    Stopped,
    /// Never stored: its record is a tombstone.
    Destroyed,
}

impl RunState {
    /// Its name in the status topic and in REST bodies.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unassigned => "UNASSIGNED",
            Self::Running => "RUNNING",
            Self::Paused => "PAUSED",
            Self::Failed => "FAILED",
            Self::Restarting => "RESTARTING",
            Self::Stopped => "STOPPED",
            Self::Destroyed => "DESTROYED",
        }
    }

    /// The state of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        use RunState::{Destroyed, Failed, Paused, Restarting, Running, Stopped, Unassigned};
        [Unassigned, Running, Paused, Failed, Restarting, Stopped, Destroyed]
            .into_iter()
            .find(|s| s.name() == name)
    }
}

impl From<TargetState> for RunState {
    /// What a connector that works does in that target state.
    fn from(target: TargetState) -> Self {
        match target {
            TargetState::Started => Self::Running,
            TargetState::Paused => Self::Paused,
            TargetState::Stopped => Self::Stopped,
        }
    }
}
