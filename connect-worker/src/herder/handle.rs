//! The handle to a worker: what REST calls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aqueduct_client::Client;
use aqueduct_connect_api::config::trim;
use aqueduct_connect_api::{Factory, Plugin};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::commands::{Reply, Request};
use super::fencing::Fencing;
use super::leadership::Leadership;
use super::task_configs::read_tasks;
use super::validate::{self, ConfigInfos, KeyInfo, RawConfig, connector_not_found, present};
use crate::config::{base_table, connector_plugin};
use crate::config_state::{ConfigState, RestartRequest};
use crate::entities::{ConnectorInfo, ConnectorState, InstanceState, PluginInfo, TaskInfo, TaskState};
use crate::error::{Error, Result};
use crate::herder::restart::RestartPlan;
use crate::ids::{ConnectorName, RunState, TargetState, TaskId};
use crate::internal::{Peers, Signature};
use crate::metrics::WorkerMetrics;
use crate::store::{ConfigStore, StatusStore};
use crate::task::TaskEnvironment;

/// How long a request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(90);

/// What driver and handle share.
pub struct Shared {
    pub config: ConfigStore,
    pub status: StatusStore,
    pub environment: Arc<TaskEnvironment>,
    /// Whether the worker has joined its group and read its topics.
    pub ready: AtomicBool,
    pub leadership: Mutex<Leadership>,
    pub peers: Arc<dyn Peers>,
    pub fencing: Fencing,
    pub cluster_id: Option<String>,
    /// For admin calls; `None` never, even a worker that is alone moves data through a cluster.
    pub client: Client,
}

/// A connector to create.
#[derive(Clone, Debug, Default)]
pub struct NewConnector {
    pub name: String,
    pub config: RawConfig,
    pub initial_state: Option<TargetState>,
}

/// Whether the worker can serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Starting,
    Healthy,
    /// The herder does not answer any more.
    Unhealthy,
}

/// A cheap handle to the herder.
#[derive(Clone)]
pub struct Herder {
    pub(super) shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
}

impl Herder {
    pub(crate) fn new(shared: Arc<Shared>, requests: mpsc::Sender<Request>) -> Self {
        Self { shared, requests }
    }

    /// Id of the cluster that the worker is connected to.
    pub fn cluster_id(&self) -> Option<&str> {
        self.shared.cluster_id.as_deref()
    }

    /// Advertised `host:port` of this worker.
    pub fn worker_id(&self) -> &str {
        &self.shared.environment.worker_id
    }

    /// URL of the group's leader, once there is one.
    pub fn leader_url(&self) -> Option<String> {
        self.shared.leadership.lock().url.clone()
    }

    /// Counters of the tasks that run here.
    pub fn metrics(&self) -> &WorkerMetrics {
        &self.shared.environment.metrics
    }

    /// How long a task may get nowhere before it counts as stuck.
    pub fn stuck_after(&self) -> Duration {
        self.shared.environment.config.stuck_after()
    }

    /// The setting `connect.protocol`; `standalone` where there is no group.
    pub fn protocol(&self) -> String {
        let config = &self.shared.environment.config;
        match config.mode() {
            crate::config::Mode::Distributed => config.text("connect.protocol").to_ascii_lowercase(),
            crate::config::Mode::Standalone => "standalone".to_owned(),
        }
    }

    pub fn health(&self) -> Health {
        match (self.requests.is_closed(), self.shared.ready.load(Ordering::Acquire)) {
            (true, _) => Health::Unhealthy,
            (false, true) => Health::Healthy,
            (false, false) => Health::Starting,
        }
    }

    pub(super) async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.shared.config.check_access().await?;
            self.requests.send(request(reply)).await.map_err(|_| Error::ShutDown)?;
            answer.await.map_err(|_| Error::ShutDown)?
        };
        tokio::time::timeout(REQUEST_TIMEOUT, asked).await.unwrap_or_else(|_| {
            let stage = if self.shared.ready.load(Ordering::Acquire) {
                "The worker is busy with another request or a rebalance."
            } else {
                "The worker has not joined its group yet."
            };
            Err(Error::Timeout(stage.to_owned()))
        })
    }

    /// Names of all connectors.
    pub fn connectors(&self) -> Vec<ConnectorName> {
        self.shared.config.read(ConfigState::connectors)
    }

    /// A connector and its settings.
    ///
    /// # Errors
    /// [`Error::NotFound`]
    pub fn connector(&self, name: &str) -> Result<ConnectorInfo> {
        self.shared
            .config
            .read(|state| {
                let config = state.connector_config(name)?.clone();
                let tasks = state.tasks(name).iter().map(Into::into).collect();
                Some(ConnectorInfo { name: name.to_owned(), kind: kind_of(&config), config, tasks })
            })
            .ok_or_else(|| connector_not_found(name))
    }

    /// Tasks in force with their settings.
    ///
    /// # Errors
    /// [`Error::NotFound`]
    pub fn tasks(&self, name: &str) -> Result<Vec<TaskInfo>> {
        self.shared.config.read(|state| {
            if !state.contains(name) {
                return Err(connector_not_found(name));
            }
            let info = |id: &TaskId| TaskInfo {
                id: id.into(),
                config: state.task_config(id).cloned().unwrap_or_default(),
            };
            Ok(state.tasks(name).iter().map(info).collect())
        })
    }

    /// What a connector and its tasks do.
    ///
    /// # Errors
    /// [`Error::NotFound`]
    pub fn status(&self, name: &str) -> Result<ConnectorState> {
        let kind = self.shared.config.read(|state| state.connector_config(name).map_or("unknown", kind_of));
        self.shared
            .status
            .read(|state| {
                let connector = InstanceState::from(state.connector(name)?);
                let tasks = state
                    .tasks(name)
                    .into_iter()
                    .map(|(id, status)| TaskState { id, state: status.into() })
                    .collect();
                Some(ConnectorState { name: name.to_owned(), connector, tasks, kind })
            })
            .ok_or_else(|| Error::not_found(format!("No status found for connector {name}")))
    }

    /// What a task does.
    ///
    /// # Errors
    /// [`Error::NotFound`]
    pub fn task_status(&self, name: &str, task: u32) -> Result<TaskState> {
        let id = TaskId::new(name, task);
        self.shared
            .status
            .read(|state| state.task(&id).map(|status| TaskState { id: task, state: status.into() }))
            .ok_or_else(|| Error::not_found(format!("No status found for task {id}")))
    }

    /// Creates a connector.
    ///
    /// # Errors
    /// [`Error::BadRequest`] where its settings are wrong, [`Error::Conflict`] where it exists.
    pub async fn create(&self, new: NewConnector) -> Result<ConnectorInfo> {
        let NewConnector { name, config, initial_state } = new;
        self.put(trim(&name), config, initial_state, false).await.map(|(_, info)| info)
    }

    /// Creates a connector or replaces its settings; says whether it is new.
    ///
    /// # Errors
    /// [`Error::BadRequest`] where its settings are wrong.
    pub async fn put_config(&self, name: &str, config: RawConfig) -> Result<(bool, ConnectorInfo)> {
        self.put(name, config, None, true).await
    }

    /// Changes some settings of a connector; `None` takes one away.
    ///
    /// # Errors
    /// [`Error::NotFound`], or [`Error::BadRequest`] where the settings are wrong then.
    pub async fn patch_config(&self, name: &str, patch: RawConfig) -> Result<ConnectorInfo> {
        self.check_leads("Only the leader can set connector configs.").await?;
        let mut config: RawConfig =
            self.connector(name)?.config.into_iter().map(|(k, v)| (k, Some(v))).collect();
        for (key, value) in patch {
            match value {
                Some(value) => config.insert(key, Some(value)),
                None => config.remove(&key),
            };
        }
        self.put(name, config, None, true).await.map(|(_, info)| info)
    }

    async fn put(
        &self,
        name: &str,
        mut config: RawConfig,
        initial: Option<TargetState>,
        may_replace: bool,
    ) -> Result<(bool, ConnectorInfo)> {
        match config.get("name") {
            Some(Some(own)) if own != name => {
                return Err(Error::invalid(format!(
                    "Connector name configuration ({own}) doesn't match connector name in the URL ({name})"
                )));
            }
            Some(_) => {}
            None => {
                config.insert("name".to_owned(), Some(name.to_owned()));
            }
        }
        let infos = self.validate(&config).await?;
        if let Some(error) = validate::refusal(&infos) {
            return Err(error);
        }
        let name = ConnectorName::from(name);
        let config = present(&config);
        let (to_write, written) = (name.clone(), config.clone());
        let created = self
            .ask(|reply| Request::PutConnector {
                name: to_write,
                config: written,
                initial,
                may_replace,
                reply,
            })
            .await?;
        let mut info = self.connector(&name)?;
        if created {
            // Whatever has happened since: a new connector has no tasks at this moment.
            info.tasks.clear();
        }
        info.config = config;
        Ok((created, info))
    }

    /// Checks settings; errors are in the result.
    ///
    /// # Errors
    /// [`Error::BadRequest`] where they name no known class.
    pub async fn validate(&self, config: &RawConfig) -> Result<ConfigInfos> {
        validate::validate(&self.shared.environment.config, config).await
    }

    /// Lets only the leader of the group go on.
    pub(super) async fn check_leads(&self, why: &'static str) -> Result<()> {
        self.ask(|reply| Request::CheckLeads { why, reply }).await
    }

    /// Checks that a member of the group has sent `body`.
    ///
    /// # Errors
    /// [`Error::BadRequest`], [`Error::Forbidden`] or [`Error::Unavailable`].
    pub fn check_signature(&self, signature: Result<Option<Signature>>, body: &[u8]) -> Result<()> {
        self.shared.check_signature(signature?.as_ref(), body)
    }

    /// Takes tasks that another worker has made for a connector that it runs: the body of its request and its signature.
    ///
    /// # Errors
    /// [`Error::BadRequest`] or [`Error::Forbidden`] where it is not signed as it has to be, [`Error::NotFound`],
    /// [`Error::Elsewhere`] where this worker does not lead.
    pub async fn put_tasks(
        &self,
        name: &str,
        body: &bytes::Bytes,
        signature: Result<Option<Signature>>,
    ) -> Result<()> {
        let tasks = read_tasks(body)?;
        self.shared.check_signature(signature?.as_ref(), body)?;
        self.ask(|reply| Request::PutTasks { name: name.into(), tasks, reply }).await
    }

    /// Deletes a connector; its offsets stay.
    ///
    /// # Errors
    /// [`Error::NotFound`]
    pub async fn delete(&self, name: &str) -> Result<()> {
        self.ask(|reply| Request::DeleteConnector { name: name.into(), reply }).await
    }

    /// Starts, pauses or stops a connector.
    ///
    /// # Errors
    /// [`Error::NotFound`]
    pub async fn set_target(&self, name: &str, target: TargetState) -> Result<()> {
        self.ask(|reply| Request::SetTarget { name: name.into(), target, reply }).await
    }

    /// Restarts the connector, not its tasks, and waits until it has started.
    ///
    /// # Errors
    /// [`Error::NotFound`], or [`Error::Internal`] where it fails again.
    pub async fn restart_connector(&self, name: &str) -> Result<()> {
        let (started, outcome) = oneshot::channel();
        self.ask(|reply| Request::RestartConnector { name: name.into(), started, reply }).await?;
        match tokio::time::timeout(REQUEST_TIMEOUT, outcome).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(why))) => Err(Error::internal(format!("Failed to start connector: {name}: {why}"))),
            Ok(Err(_)) => Err(Error::internal(format!("Failed to start connector: {name}"))),
            Err(_) => Err(Error::Timeout(format!("The connector {name} is still starting."))),
        }
    }

    /// Restarts a task.
    ///
    /// # Errors
    /// [`Error::NotFound`]
    pub async fn restart_task(&self, name: &str, task: u32) -> Result<()> {
        self.ask(|reply| Request::RestartTask { id: TaskId::new(name, task), reply }).await
    }

    /// Restarts what the flags mean, on whichever worker it runs; the answer shows what will be restarted.
    ///
    /// # Errors
    /// [`Error::NotFound`]
    pub async fn restart(
        &self,
        name: &str,
        include_tasks: bool,
        only_failed: bool,
    ) -> Result<ConnectorState> {
        if !self.shared.config.read(|state| state.contains(name)) {
            return Err(Error::not_found(format!("Unknown connector: {name}")));
        }
        let request = RestartRequest { connector: name.into(), include_tasks, only_failed };
        let missing = || Error::not_found(format!("Status for connector {name} not found"));
        let plan = self.shared.status.read(|state| RestartPlan::new(&request, state)).ok_or_else(missing)?;
        let mut state = self.status(name).map_err(|_| missing())?;
        self.ask(|reply| Request::Restart { request, reply }).await?;
        // Why it failed stays to be seen until it runs again.
        let mark = |instance: &mut InstanceState| instance.state = RunState::Restarting.name();
        if plan.connector {
            mark(&mut state.connector);
        }
        let tasks: BTreeMap<u32, ()> = plan.tasks.iter().map(|id| (id.task, ())).collect();
        state.tasks.iter_mut().filter(|t| tasks.contains_key(&t.id)).for_each(|t| mark(&mut t.state));
        Ok(state)
    }

    /// Topics that a connector has used.
    ///
    /// # Errors
    /// [`Error::Forbidden`] where that is not tracked.
    pub fn topics(&self, name: &str) -> Result<Vec<String>> {
        if !self.shared.environment.config.flag("topic.tracking.enable") {
            return Err(Error::Forbidden("Topic tracking is disabled.".to_owned()));
        }
        Ok(self.shared.status.read(|state| state.topics(name)))
    }

    /// Forgets the topics that a connector has used.
    ///
    /// # Errors
    /// [`Error::Forbidden`] where that is not tracked, or must not be forgotten.
    pub async fn reset_topics(&self, name: &str) -> Result<()> {
        self.topics(name)?;
        if !self.shared.environment.config.flag("topic.tracking.allow.reset") {
            return Err(Error::Forbidden("Topic tracking reset is disabled.".to_owned()));
        }
        self.shared.status.forget_topics(name).await;
        self.shared.status.read_to_end().await
    }

    /// All plugins, or only connectors.
    pub fn plugins(&self, connectors_only: bool) -> Vec<PluginInfo> {
        const TYPES: [&str; 6] =
            ["sink", "source", "transformation", "predicate", "converter", "header_converter"];
        let types = if connectors_only { &TYPES[..2] } else { &TYPES[..] };
        let mut plugins = Vec::new();
        for kind in types {
            let mut of_kind: Vec<_> = Plugin::all()
                .filter(|p| p.factory.type_name() == *kind)
                .map(|p| PluginInfo { class: p.class, kind, version: p.version })
                .collect();
            of_kind.sort_unstable_by_key(|p| p.class);
            plugins.extend(of_kind);
        }
        plugins
    }

    /// The table of a plugin's settings.
    ///
    /// # Errors
    /// [`Error::NotFound`]
    pub fn plugin_config(&self, name: &str) -> Result<Vec<KeyInfo>> {
        let plugin = Plugin::by_class(name)
            .or_else(|| Plugin::connector(name))
            .or_else(|| Plugin::all().find(|plugin| plugin.class.rsplit('.').next() == Some(name)))
            .ok_or_else(|| Error::not_found(format!("Unknown plugin {name}.")))?;
        let mut table = (plugin.config)();
        if matches!(plugin.factory, Factory::Source { .. } | Factory::Sink { .. }) {
            for key in base_table(&self.shared.environment.config, plugin, &BTreeMap::new()).keys() {
                if table.get(&key.name).is_none() {
                    table.add(key.clone());
                }
            }
        }
        Ok(table.keys().iter().map(KeyInfo::from).collect())
    }
}

/// `source`, `sink` or `unknown`.
pub(super) fn kind_of(config: &aqueduct_connect_api::ConfigMap) -> &'static str {
    connector_plugin(config).map_or("unknown", |plugin| plugin.factory.type_name())
}
