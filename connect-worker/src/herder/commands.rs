//! What others ask of the herder.

use aqueduct_connect_api::{ConfigMap, OffsetMap};
use tokio::sync::oneshot;

use crate::config_state::RestartRequest;
use crate::connector_runner::Started;
use crate::error::Result;
use crate::ids::{ConnectorName, TargetState, TaskId};

pub type Reply<T> = oneshot::Sender<Result<T>>;

/// A change that only the herder may make, one after the other.
pub enum Request {
    /// Writes a connector's settings; the answer says whether it is new.
    PutConnector {
        name: ConnectorName,
        config: ConfigMap,
        initial: Option<TargetState>,
        may_replace: bool,
        reply: Reply<bool>,
    },
    DeleteConnector {
        name: ConnectorName,
        reply: Reply<()>,
    },
    SetTarget {
        name: ConnectorName,
        target: TargetState,
        reply: Reply<()>,
    },
    /// Restarts the connector alone, here; the second answer comes when it has started or failed.
    RestartConnector {
        name: ConnectorName,
        started: Started,
        reply: Reply<()>,
    },
    RestartTask {
        id: TaskId,
        reply: Reply<()>,
    },
    /// Tells all workers to restart what they run of the connector.
    Restart {
        request: RestartRequest,
        reply: Reply<()>,
    },
    /// Answers where this worker leads.
    CheckLeads {
        why: &'static str,
        reply: Reply<()>,
    },
    /// Writes tasks that another worker has made.
    PutTasks {
        name: ConnectorName,
        tasks: Vec<ConfigMap>,
        reply: Reply<()>,
    },
    /// Stores or, with `None`, forgets offsets of a source that is stopped.
    StoreOffsets {
        name: ConnectorName,
        offsets: Vec<(OffsetMap, Option<OffsetMap>)>,
        reply: Reply<()>,
    },
}

impl Request {
    /// Whether it has to reach the worker that runs something: who that is, is not known while a round is to come.
    pub fn needs_owner(&self) -> bool {
        matches!(self, Self::RestartConnector { .. } | Self::RestartTask { .. } | Self::Restart { .. })
    }
}
