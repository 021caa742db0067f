//! The life of a task: start, status, stop, and what a failure or a panic becomes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use aqueduct_client::{Client, ClientConfig};
use aqueduct_connect_api::{ConfigMap, Error as PluginError, Factory, Plugin, Result as PluginResult};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::errors::{ErrorPolicy, Failure};
use super::lifeline::Lifeline;
use super::progress::{Activity, Change};
use super::sink::SinkRunner;
use super::source::SourceRunner;
use crate::config::{
    ClientKind, ConnectorSettings, TransactionBoundary, WorkerConfig, client_properties,
    find_connector_plugin,
};
use crate::herder::{AutoRestarts, Planned, Shared};
use crate::ids::{ConnectorName, RunState, TargetState, TaskId};
use crate::metrics::{TaskMetrics, WorkerMetrics, count};
use crate::status::{Status, Subject};
use crate::store::{ConnectorOffsets, OffsetsStore, StatusStore};

/// What tasks share with their worker.
pub struct TaskEnvironment {
    pub config: WorkerConfig,
    pub status: StatusStore,
    pub offsets: OffsetsStore,
    /// `host:port`, as statuses show it.
    pub worker_id: String,
    /// Generation of the group that the worker is in.
    pub generation: AtomicI32,
    pub metrics: WorkerMetrics,
    /// Failed tasks that are to be started again, and the word that there is another one.
    pub restarts: Mutex<AutoRestarts>,
    pub failed: Notify,
    /// For what only the herder knows; set when there is one.
    pub herder: OnceLock<Weak<Shared>>,
}

impl TaskEnvironment {
    /// A status of this worker.
    pub fn status_of(&self, state: RunState, trace: Option<String>, version: Option<&str>) -> Status {
        Status {
            state,
            trace,
            worker_id: self.worker_id.clone(),
            generation: self.generation.load(Ordering::Relaxed),
            version: version.map(str::to_owned),
        }
    }

    fn plan_restart(&self, id: &TaskId, ran: Duration) -> Option<Planned> {
        let planned = self.restarts.lock().failed(id, ran, Instant::now());
        self.failed.notify_one();
        planned
    }

    /// Returns when a failed task is due to be started again.
    pub async fn restart_due(&self) {
        loop {
            let next = self.restarts.lock().next();
            let due = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => return,
                () = self.failed.notified() => {}
            }
        }
    }

    /// Starts a task with the settings of its connector and its own, both as they were written.
    pub fn start_task(
        self: &Arc<Self>,
        id: TaskId,
        connector: &ConfigMap,
        task: &ConfigMap,
        target: TargetState,
    ) -> TaskHandle {
        let stop = CancellationToken::new();
        let (target, targets) = watch::channel(target);
        let lifeline = Lifeline::default();
        let start = TaskStart {
            generation: self.task_generation(&id.connector),
            lifeline: lifeline.clone(),
            id: id.clone(),
            connector: self.config.providers().resolve(connector),
            settings: self.config.providers().resolve(task),
            environment: self.clone(),
            stop: stop.clone(),
            target: targets,
            metrics: self.metrics.task(&id),
        };
        let class = connector.get("connector.class").cloned().unwrap_or_default();
        let task = tokio::spawn(start.run());
        let abort = task.abort_handle();
        let given_up = lifeline.clone();
        let supervisor = supervise(self.clone(), id.clone(), class, task, stop.clone(), given_up);
        let supervisor = tokio::spawn(supervisor);
        TaskHandle { id, environment: self.clone(), stop, target, abort, supervisor, lifeline }
    }

    /// The offsets of a source with these settings.
    pub async fn connector_offsets(
        &self,
        name: &ConnectorName,
        settings: &ConfigMap,
    ) -> PluginResult<ConnectorOffsets> {
        ConnectorOffsets::open(&self.config, &self.offsets, name.clone(), settings).await.map_err(|e| {
            PluginError::connect(format!("the offsets of connector {name} cannot be used")).caused_by(e)
        })
    }
}

/// What a status says of a restart that is to come.
fn restart_note(id: &TaskId, planned: Planned) -> String {
    let Planned { pause, attempt } = planned;
    format!(
        "\n\tThe worker starts it again in {pause:?}, time {attempt} in a row; POST /connectors/{}/tasks/{}/restart does it now, \
         aqueduct.task.restart.enabled=false turns this off",
        id.connector, id.task
    )
}

/// Between two looks at what a task does.
const LOOK: Duration = Duration::from_secs(5);

/// Waits for a task's end. Says when it is stuck, and when it gets on again.
async fn watched(
    environment: &TaskEnvironment,
    id: &TaskId,
    mut task: JoinHandle<PluginResult<()>>,
    stop: &CancellationToken,
) -> Result<PluginResult<()>, tokio::task::JoinError> {
    let metrics = environment.metrics.task(id);
    let limit = environment.config.stuck_after();
    let look = LOOK.min(limit / 2).max(Duration::from_millis(50));
    let mut stopping = false;
    loop {
        tokio::select! {
            ended = &mut task => return ended,
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                metrics.progress(|progress, now| progress.enter(now, Activity::Stopping));
            }
            () = tokio::time::sleep(look) => {
                let totals = metrics.totals();
                let change = metrics.look(|progress, now| {
                    progress.rates.note(now, totals);
                    progress.observe(now, limit)
                });
                match change {
                    Some(Change::Began(stuck)) => tracing::warn!(
                        task = %id,
                        lasts = ?stuck.lasts,
                        waits_for = stuck.waits_for,
                        "task is stuck; GET /connectors/{}/explain says more",
                        id.connector
                    ),
                    Some(Change::Ended(after)) => tracing::info!(task = %id, ?after, "task is not stuck any more"),
                    None => {}
                }
            }
        }
    }
}

/// Waits for a task's end and says how it ended.
async fn supervise(
    environment: Arc<TaskEnvironment>,
    id: TaskId,
    class: String,
    task: JoinHandle<PluginResult<()>>,
    stop: CancellationToken,
    lifeline: Lifeline,
) {
    let started = Instant::now();
    let ended = watched(&environment, &id, task, &stop).await;
    let failure = match ended {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("{}\n\tin task {id} of {class}", error.trace())),
        Err(join) if join.is_panic() => {
            let panic = join.into_panic();
            let text = panic
                .downcast_ref::<&str>()
                .map(|s| (*s).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "no message".to_owned());
            Some(format!(
                "task {id} panicked: {text}. This is a defect of the connector's code; restart the task to go on"
            ))
        }
        Err(_) => None,
    };
    if lifeline.is_cut() {
        // Who gave it up has said so; by now there may be another one.
        return;
    }
    if failure.is_some() && environment.metrics.task(&id).note_running() {
        environment.metrics.task_started(false);
    }
    environment.metrics.forget_task(&id);
    let status = match failure {
        Some(mut trace) => {
            // One that fails while it is being stopped has had its last word.
            if !stop.is_cancelled()
                && let Some(planned) = environment.plan_restart(&id, started.elapsed())
            {
                trace.push_str(&restart_note(&id, planned));
            }
            tracing::error!(task = %id, trace, "task failed");
            let version = Plugin::connector(class.trim()).map(|plugin| plugin.version);
            environment.status_of(RunState::Failed, Some(trace), version)
        }
        None => environment.status_of(RunState::Unassigned, None, None),
    };
    environment.status.put_safe(Subject::Task(id), status).await;
}

/// A task that runs, or has failed and was not stopped yet.
pub struct TaskHandle {
    id: TaskId,
    environment: Arc<TaskEnvironment>,
    stop: CancellationToken,
    target: watch::Sender<TargetState>,
    abort: tokio::task::AbortHandle,
    supervisor: JoinHandle<()>,
    lifeline: Lifeline,
}

impl TaskHandle {
    /// Pauses or resumes.
    pub fn set_target(&self, target: TargetState) {
        self.target.send_if_modified(|known| std::mem::replace(known, target) != target);
    }

    /// Asks the task to stop; it flushes what it holds.
    pub fn begin_stop(&self) {
        self.stop.cancel();
    }

    /// Stops the task. After `timeout` it is given up: from then on nothing of it reaches the cluster, whenever it ends.
    pub async fn stop(mut self, timeout: Duration) {
        self.stop.cancel();
        if tokio::time::timeout(timeout, &mut self.supervisor).await.is_ok() {
            return;
        }
        tracing::warn!(
            task = %self.id, ?timeout,
            "the task did not stop within task.shutdown.graceful.timeout.ms and is given up; what it has not committed comes again"
        );
        self.lifeline.cut();
        self.abort.abort();
        let status = self.environment.status_of(RunState::Unassigned, None, None);
        self.environment.status.put_safe(Subject::Task(self.id), status).await;
    }
}

/// How much longer than its interval a transaction may last.
const SLACK: Duration = Duration::from_secs(60);
/// Brokers' default of `transaction.max.timeout.ms`.
const LONGEST_TRANSACTION: Duration = Duration::from_secs(900);

/// All that a task needs to start.
pub(super) struct TaskStart {
    pub id: TaskId,
    /// Settings of the connector, variables resolved.
    pub connector: ConfigMap,
    /// Settings of the task, variables resolved.
    pub settings: ConfigMap,
    pub environment: Arc<TaskEnvironment>,
    pub stop: CancellationToken,
    pub target: watch::Receiver<TargetState>,
    pub metrics: TaskMetrics,
    /// Counts the task configurations of the connector that this worker had seen when it started the task.
    pub generation: u64,
    pub lifeline: Lifeline,
}

impl TaskStart {
    async fn run(self) -> PluginResult<()> {
        let plugin = find_connector_plugin(&self.connector).await.map_err(PluginError::connect)?;
        match plugin.factory {
            Factory::Source { task, .. } => SourceRunner::open(self, plugin, task()).await?.run().await,
            Factory::Sink { task, .. } => SinkRunner::open(self, plugin, task()).await?.run().await,
            _ => Err(PluginError::connect(format!("{} is not a connector", plugin.class))),
        }
    }

    /// The class by which the reference names the task.
    pub fn task_class(&self) -> &str {
        self.settings.get("task.class").map_or("", String::as_str)
    }

    /// Settings that every connector has.
    pub fn connector_settings(&self, plugin: &Plugin) -> PluginResult<ConnectorSettings> {
        ConnectorSettings::read(&self.environment.config, plugin, &self.connector)
    }

    /// Settings of a client of this task.
    pub fn client_config(&self, kind: ClientKind) -> PluginResult<ClientConfig> {
        self.read_client(client_properties(&self.environment.config, kind, &self.id, &self.connector))
    }

    /// The client of a source's producer; one with transactions where there are boundaries for them.
    pub fn source_producer(&self, boundary: Option<TransactionBoundary>) -> PluginResult<Client> {
        let worker = &self.environment.config;
        let mut properties = client_properties(worker, ClientKind::SourceProducer, &self.id, &self.connector);
        if let Some(boundary) = boundary {
            if let TransactionBoundary::Interval(every) = boundary {
                // A transaction that lasts for the whole interval is not to expire with it.
                let timeout = (every + SLACK).min(LONGEST_TRANSACTION).as_millis().to_string();
                properties.entry("transaction.timeout.ms".to_owned()).or_insert(timeout);
            }
            let forced = [
                ("transactional.id", worker.task_transactional_id(&self.id)),
                ("enable.idempotence", "true".to_owned()),
            ];
            for (key, value) in forced {
                let given = properties.insert(key.to_owned(), value.clone());
                if given.is_some_and(|given| given != value) {
                    tracing::warn!(task = %self.id, key, "the setting of the producer is not used: the worker sets it");
                }
            }
        }
        self.read_client(properties).map(Client::new)
    }

    fn read_client(&self, properties: BTreeMap<String, String>) -> PluginResult<ClientConfig> {
        let (config, unknown) = ClientConfig::from_properties(&properties).map_err(|e| {
            PluginError::connect(format!("task {}: wrong client setting", self.id)).caused_by(e)
        })?;
        if !unknown.is_empty() {
            tracing::warn!(task = %self.id, keys = unknown.join(", "), "unknown client settings are ignored");
        }
        Ok(config)
    }

    pub fn client(&self, kind: ClientKind) -> PluginResult<Client> {
        self.client_config(kind).map(Client::new)
    }

    /// Says what the task does.
    pub async fn report(&self, state: RunState, plugin: &Plugin) {
        if self.metrics.note_running() {
            self.environment.metrics.task_started(true);
        }
        let status = self.environment.status_of(state, None, Some(plugin.version));
        self.environment.status.put(Subject::Task(self.id.clone()), status).await;
    }

    /// Says what the task begins.
    pub fn doing(&self, activity: Activity) {
        self.metrics.progress(|progress, now| progress.enter(now, activity));
    }

    /// Something failed and is tried again after `delay`.
    pub fn tries_again(&self, error: &PluginError, delay: Duration) {
        count(&self.metrics.retries, 1);
        let why = error.to_string();
        self.metrics.progress(|progress, now| progress.failed(now, &why, delay));
    }

    /// A record could not be handled.
    pub fn note_failure(&self, errors: &ErrorPolicy, failure: &Failure, record: &dyn fmt::Display) {
        if errors.settings().log {
            count(&self.metrics.errors_logged, 1);
        }
        let Failure { stage, error, .. } = failure;
        self.metrics.note_failure(&format!("{record}, stage {}: {error}", stage.name()));
    }

    /// Notes that the task has used a topic.
    pub async fn note_topic(&self, topic: &str) {
        if self.environment.config.flag("topic.tracking.enable")
            && !self.environment.status.read(|s| s.has_topic(&self.id.connector, topic))
        {
            self.environment.status.put_topic(&self.id, topic, crate::clock::now_millis()).await;
        }
    }
}
