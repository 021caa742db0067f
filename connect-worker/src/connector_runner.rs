//! The life of a connector: start, division into tasks, pause, stop, and what a failure or a panic becomes.

use std::sync::Arc;
use std::time::Duration;

use aqueduct_connect_api::connector::ConnectorEvents;
use aqueduct_connect_api::{
    ConfigMap, Connector, ConnectorContext, Error as PluginError, Factory, Plugin, Result as PluginResult,
};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::{ConnectorSettings, connector_plugin, find_connector_plugin};
use crate::ids::{ConnectorName, RunState, TargetState};
use crate::status::Subject;
use crate::task::{CreationRules, TaskEnvironment};

/// Settings of the tasks that a connector wants, before the worker's own are added.
#[derive(Debug)]
pub struct TaskConfigs {
    pub connector: ConnectorName,
    pub configs: Vec<ConfigMap>,
}

/// How a start went, for those who wait for it: the error's text.
pub type Started = oneshot::Sender<Result<(), String>>;

/// A connector that runs, or has failed and was not stopped yet.
pub struct ConnectorHandle {
    stop: CancellationToken,
    target: watch::Sender<TargetState>,
    asks: Arc<Asks>,
    abort: tokio::task::AbortHandle,
    supervisor: JoinHandle<()>,
}

impl ConnectorHandle {
    /// Starts a connector with settings as they were written; `started` learns how that went.
    pub fn start(
        environment: Arc<TaskEnvironment>,
        name: ConnectorName,
        settings: &ConfigMap,
        target: TargetState,
        events: mpsc::Sender<TaskConfigs>,
        started: Option<Started>,
    ) -> Self {
        let stop = CancellationToken::new();
        let asks = Arc::new(Asks::default());
        let (target, targets) = watch::channel(target);
        let runner = Runner {
            settings: environment.config.providers().resolve(settings),
            environment: environment.clone(),
            name: name.clone(),
            stop: stop.clone(),
            target: targets,
            asks: asks.clone(),
            events,
            started,
        };
        let task = tokio::spawn(runner.run());
        let abort = task.abort_handle();
        let supervisor = tokio::spawn(supervise(environment, name, task));
        Self { stop, target, asks, abort, supervisor }
    }

    /// Starts, pauses or stops the connector itself; its tasks are others' business.
    pub fn set_target(&self, target: TargetState) {
        self.target.send_if_modified(|known| std::mem::replace(known, target) != target);
    }

    /// Asks for the division into tasks again.
    pub fn reconfigure(&self) {
        self.asks.notify.notify_one();
    }

    /// Stops the connector; after `timeout` it is cut off.
    pub async fn stop(mut self, timeout: Duration) {
        self.stop.cancel();
        if tokio::time::timeout(timeout, &mut self.supervisor).await.is_err() {
            tracing::warn!("connector did not stop in time and is cut off");
            self.abort.abort();
            // One that hangs without a word cannot be waited for.
            let _ = tokio::time::timeout(CUT_OFF, self.supervisor).await;
        }
    }
}

/// What the connector itself asks for.
#[derive(Default)]
struct Asks {
    error: Mutex<Option<PluginError>>,
    notify: Notify,
}

impl ConnectorEvents for Asks {
    fn request_task_reconfiguration(&self) {
        self.notify.notify_one();
    }

    fn raise_error(&self, error: PluginError) {
        *self.error.lock() = Some(error);
        self.notify.notify_one();
    }
}

async fn supervise(environment: Arc<TaskEnvironment>, name: ConnectorName, task: JoinHandle<()>) {
    let state = match task.await {
        Err(join) if join.is_panic() => {
            let panic = join.into_panic();
            let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            let trace = format!(
                "connector {name} panicked: {text}. This is a defect of the connector's code; restart it to go on"
            );
            tracing::error!(connector = &*name, trace, "connector failed");
            environment.status_of(RunState::Failed, Some(trace), None)
        }
        _ => environment.status_of(RunState::Unassigned, None, None),
    };
    environment.status.put_safe(Subject::Connector(name), state).await;
}

struct Runner {
    environment: Arc<TaskEnvironment>,
    name: ConnectorName,
    settings: ConfigMap,
    stop: CancellationToken,
    target: watch::Receiver<TargetState>,
    asks: Arc<Asks>,
    events: mpsc::Sender<TaskConfigs>,
    started: Option<Started>,
}

/// A started instance.
struct Instance {
    connector: Box<dyn Connector>,
    max_tasks: usize,
    enforce: bool,
    shutdown: CancellationToken,
}

/// How long a connector may take to notice that it was cut off.
const CUT_OFF: Duration = Duration::from_millis(500);
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const MAX_BACKOFF: Duration = Duration::from_secs(60);

impl Runner {
    async fn run(mut self) {
        let stop = self.stop.clone();
        let mut instance: Option<Instance> = None;
        while !stop.is_cancelled() {
            let target = *self.target.borrow_and_update();
            let outcome = match (target, &mut instance) {
                (TargetState::Started, Some(running)) => self.serve(running).await,
                (TargetState::Started, None) => match self.start().await {
                    Ok(started) => {
                        self.environment.metrics.connector_started(true);
                        self.report(RunState::Running, None).await;
                        instance = Some(started);
                        self.asks.notify.notify_one();
                        Ok(())
                    }
                    Err(error) => {
                        self.environment.metrics.connector_started(false);
                        Err(error)
                    }
                },
                (other, _) => {
                    if let Some(mut running) = instance.take() {
                        running.stop().await;
                    }
                    self.report(other.into(), None).await;
                    self.tell_started(Ok(()));
                    self.wait_for_change().await;
                    Ok(())
                }
            };
            if let Err(error) = outcome {
                if stop.is_cancelled() {
                    break;
                }
                self.fail(&error).await;
                if let Some(mut running) = instance.take() {
                    running.stop().await;
                }
                // A failed connector stays failed until it is restarted or its target changes.
                self.wait_for_change().await;
            }
        }
        if let Some(mut running) = instance.take() {
            running.stop().await;
        }
    }

    async fn wait_for_change(&mut self) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            changed = self.target.changed() => {
                if changed.is_err() {
                    self.stop.cancel();
                }
            }
        }
    }

    async fn report(&self, state: RunState, trace: Option<String>) {
        let version = connector_plugin(&self.settings).ok().map(|plugin| plugin.version);
        let status = self.environment.status_of(state, trace, version);
        self.environment.status.put(Subject::Connector(self.name.clone()), status).await;
    }

    async fn fail(&mut self, error: &PluginError) {
        let class = self.settings.get("connector.class").map_or("", String::as_str);
        let trace = format!("{}\n\tin connector {} of {class}", error.trace(), self.name);
        tracing::error!(connector = &*self.name, trace, "connector failed");
        self.tell_started(Err(error.to_string()));
        self.report(RunState::Failed, Some(trace)).await;
    }

    fn tell_started(&mut self, result: Result<(), String>) {
        if let Some(started) = self.started.take() {
            let _ = started.send(result);
        }
    }

    async fn start(&mut self) -> PluginResult<Instance> {
        let plugin = find_connector_plugin(&self.settings).await.map_err(PluginError::connect)?;
        let settings = ConnectorSettings::read(&self.environment.config, plugin, &self.settings)?;
        if matches!(plugin.factory, Factory::Source { .. })
            && self.environment.config.flag("topic.creation.enable")
        {
            // Its tasks go by these; what is wrong with them is wrong with all tasks.
            CreationRules::read(&self.settings)?;
        }
        let (mut connector, is_source) = match plugin.factory {
            Factory::Source { connector, .. } => (connector(), true),
            Factory::Sink { connector, .. } => (connector(), false),
            _ => return Err(PluginError::connect(format!("{} is not a connector", plugin.class))),
        };
        let config = (plugin.config)().parse(&self.settings)?;
        let shutdown = self.stop.child_token();
        let offsets = match is_source {
            true => Some(self.environment.connector_offsets(&self.name, &self.settings).await?),
            false => None,
        };
        let context = ConnectorContext {
            name: self.name.clone(),
            shutdown: shutdown.clone(),
            offsets: offsets.map(|offsets| Arc::new(offsets) as _),
            events: self.asks.clone(),
        };
        let stop = self.stop.clone();
        let started = tokio::select! {
            biased;
            () = stop.cancelled() => Err(PluginError::connect("stopped while it was starting")),
            started = connector.start(context, &config) => started,
        };
        if let Err(error) = started {
            shutdown.cancel();
            connector.stop().await;
            return Err(error);
        }
        self.tell_started(Ok(()));
        let (max_tasks, enforce) = (settings.tasks_max(), settings.tasks_max_enforced());
        Ok(Instance { connector, max_tasks, enforce, shutdown })
    }

    /// Serves a running instance until its target changes or it is to stop.
    async fn serve(&mut self, instance: &mut Instance) -> PluginResult<()> {
        tokio::select! {
            () = self.stop.cancelled() => return Ok(()),
            changed = self.target.changed() => {
                return changed.map_err(|_| PluginError::connect("the worker is gone"));
            }
            () = self.asks.notify.notified() => {}
        }
        if let Some(error) = self.asks.error.lock().take() {
            return Err(error);
        }
        let mut backoff = FIRST_BACKOFF;
        loop {
            match instance.connector.task_configs(instance.max_tasks).await {
                Ok(configs) if configs.len() > instance.max_tasks && instance.enforce => {
                    return Err(too_many(&self.name, configs.len(), instance.max_tasks));
                }
                Ok(configs) => {
                    let _ = self.events.send(TaskConfigs { connector: self.name.clone(), configs }).await;
                    return Ok(());
                }
                Err(error) => {
                    tracing::warn!(connector = &*self.name, %error, ?backoff, "the connector could not say what tasks it needs, trying again");
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                changed = self.target.changed() => {
                    self.asks.notify.notify_one();
                    return changed.map_err(|_| PluginError::connect("the worker is gone"));
                }
                () = tokio::time::sleep(backoff) => {}
            }
            backoff = (backoff * 2).min(MAX_BACKOFF);
        }
    }
}

fn too_many(name: &str, count: usize, max: usize) -> PluginError {
    PluginError::connect(format!(
        "The connector {name} has generated {count} tasks, which is greater than {max}, the maximum number of tasks it is \
         configured to create. Raise tasks.max, or set tasks.max.enforce=false"
    ))
}

impl Instance {
    async fn stop(&mut self) {
        self.shutdown.cancel();
        self.connector.stop().await;
    }
}

/// The class that a JVM worker runs tasks of a connector with; tasks of ours are found by the connector's class alone.
pub fn task_class(plugin: &Plugin, class: &str) -> String {
    // The full name that the user wrote, where it is one, says which family of classes is meant.
    let class = if class.contains('.') { class } else { plugin.class };
    let (package, simple) = class.rsplit_once('.').unwrap_or(("", class));
    match (package, simple) {
        (p, s) if p.starts_with("io.debezium.") => format!("{p}.{s}Task"),
        ("io.confluent.connect.jdbc", "JdbcSourceConnector") => {
            "io.confluent.connect.jdbc.source.JdbcSourceTask".to_owned()
        }
        ("io.confluent.connect.jdbc", "JdbcSinkConnector") => {
            "io.confluent.connect.jdbc.sink.JdbcSinkTask".to_owned()
        }
        (p, s) => format!("{p}.{}Task", s.strip_suffix("Connector").unwrap_or(s)),
    }
}
