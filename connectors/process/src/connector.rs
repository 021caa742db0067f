//! A plugin's connector: a process for as long as it has something to say.

use std::sync::Arc;
use std::time::Duration;

use aqueduct_connect_api::config::{ConfigType, ConfigValueInfo};
use aqueduct_connect_api::connector::ConnectorEvents;
use aqueduct_connect_api::{
    Config, ConfigMap, Connector, ConnectorContext, Error, ExactlyOnceSupport, OffsetMap, Result,
};
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::describe::{ConnectorDescription, Kind};
use crate::process::{CallError, Process};
use crate::program::Program;
use crate::secrets::Secrets;
use crate::session::Fault;

/// How long a plugin may take to stop in order.
pub const STOP: Duration = Duration::from_secs(3);
/// Time between questions whether the division into tasks has changed.
const MONITOR: Duration = Duration::from_secs(2);

/// A connector that a plugin serves, found on the plugin path.
#[derive(Debug)]
pub struct Served {
    pub program: Program,
    pub description: ConnectorDescription,
}

/// A connector in a process of its own.
pub struct ProcessConnector {
    served: Arc<Served>,
    started: Option<Started>,
}

struct Started {
    context: ConnectorContext,
    settings: ConfigMap,
    /// The process, while there is one: those that do not monitor are ended once they have said what tasks they want.
    process: Arc<Mutex<Option<Process>>>,
    monitor: Option<CancellationToken>,
}

#[derive(Deserialize)]
struct TaskConfigs {
    configs: Vec<ConfigMap>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Validated {
    errors: std::collections::BTreeMap<String, Vec<String>>,
    recommended: std::collections::BTreeMap<String, Vec<String>>,
    hidden: Vec<String>,
}

/// An answer in the form that is expected.
pub(crate) fn read<'a, T: Deserialize<'a>>(call: &str, answer: &'a str) -> Result<T> {
    serde_json::from_str(answer)
        .map_err(|e| Error::connect(format!("the plugin's answer to `{call}` is wrong: {e}")))
}

impl Served {
    /// A process for a single question.
    async fn ask(
        &self,
        call: &'static str,
        settings: &ConfigMap,
        params: serde_json::Value,
    ) -> Result<String> {
        let process = Process::start(&self.program, call, None, self.secrets(settings)).await?;
        let answer = process.call(call, params.to_string().into_bytes()).await;
        process.stop(STOP).await;
        answer
    }

    fn secret(&self, key: &str) -> bool {
        let is = |k: &&crate::describe::KeyDescription| k.name == key;
        let found = self.description.config.iter().find(is).and_then(|k| k.kind.as_deref());
        found.is_some_and(|kind| kind.eq_ignore_ascii_case(ConfigType::Password.name()))
    }

    /// What the plugin must not show of these settings.
    pub(crate) fn secrets(&self, settings: &ConfigMap) -> Secrets {
        Secrets::of(settings, |key| self.secret(key))
    }

    /// A fault as an error; one about a setting shows its value, unless that is a secret.
    pub(crate) fn error(&self, error: CallError, settings: &ConfigMap) -> Error {
        match error {
            CallError::Dead(why) => Error::connect(why),
            CallError::Fault(Fault { kind, message, name: Some(name), .. }) if kind == "config" => {
                let value = settings.get(&name).map_or("null", String::as_str);
                let value = if self.secret(&name) { "[hidden]" } else { value };
                Error::config(name, value, message)
            }
            CallError::Fault(fault) => crate::process::fault_error(fault),
        }
    }
}

impl ProcessConnector {
    pub fn new(served: Arc<Served>) -> Self {
        Self { served, started: None }
    }

    async fn launch(&self, context: &ConnectorContext, settings: &ConfigMap) -> Result<Process> {
        let role = format!("connector {}", context.name);
        let process = Process::start(
            &self.served.program,
            &role,
            context.offsets.clone(),
            self.served.secrets(settings),
        )
        .await?;
        let class = &self.served.description.class;
        let params = json!({"class": class, "connector": &*context.name, "config": settings});
        match process.try_call("start_connector", params.to_string().into_bytes()).await {
            Ok(_) => Ok(process),
            Err(error) => {
                process.stop(STOP).await;
                Err(self.served.error(error, settings))
            }
        }
    }
}

/// Asks a connector from time to time whether its tasks have changed.
async fn monitor(
    process: Arc<Mutex<Option<Process>>>,
    events: Arc<dyn ConnectorEvents>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(MONITOR) => {}
        }
        let process = process.lock().await;
        let Some(process) = process.as_ref() else { return };
        let answer = tokio::select! {
            () = stop.cancelled() => return,
            answer = process.call("tasks_changed", b"{}".to_vec()) => answer,
        };
        let changed = answer.and_then(|answer| read::<serde_json::Value>("tasks_changed", &answer));
        match changed {
            Ok(answer) if answer["changed"] == true => events.request_task_reconfiguration(),
            Ok(_) => {}
            Err(error) if error.is_retriable() => {
                tracing::warn!(%error, "the connector could not tell whether its tasks have changed, asking again");
            }
            Err(error) => return events.raise_error(error),
        }
    }
}

#[async_trait]
impl Connector for ProcessConnector {
    async fn validate(&self, config: &ConfigMap, infos: &mut [ConfigValueInfo]) {
        if !self.served.description.validates {
            return;
        }
        let params = json!({"class": self.served.description.class, "config": config});
        let answer = self.served.ask("validate", config, params).await;
        let validated = answer.and_then(|answer| read::<Validated>("validate", &answer));
        let validated = match validated {
            Ok(validated) => validated,
            Err(error) => {
                tracing::warn!(class = self.served.description.class, %error, "a plugin could not validate settings");
                if let Some(first) = infos.first_mut() {
                    first.errors.push(format!("The settings could not be checked: {error}"));
                }
                return;
            }
        };
        for (key, errors) in validated.errors {
            let value = config.get(&key).map_or("null", String::as_str);
            let value = if self.served.secret(&key) { "[hidden]" } else { value };
            // What is about no setting of the connector's own still has to be seen.
            let place = infos.iter().position(|info| info.key.name == key).unwrap_or(0);
            let Some(info) = infos.get_mut(place) else { continue };
            info.errors.extend(errors.iter().map(|e| Error::config(&*key, value, e).to_string()));
        }
        for info in infos.iter_mut() {
            if let Some(values) = validated.recommended.get(&*info.key.name) {
                info.recommended_values.clone_from(values);
            }
            info.visible &= !validated.hidden.iter().any(|name| *name == info.key.name);
        }
    }

    async fn start(&mut self, context: ConnectorContext, config: &Config) -> Result<()> {
        let settings = config.originals().clone();
        let process = Arc::new(Mutex::new(Some(self.launch(&context, &settings).await?)));
        let monitor = self.served.description.monitors.then(|| {
            let stop = context.shutdown.child_token();
            tokio::spawn(monitor(process.clone(), context.events.clone(), stop.clone()));
            stop
        });
        self.started = Some(Started { context, settings, process, monitor });
        Ok(())
    }

    async fn task_configs(&mut self, max_tasks: usize) -> Result<Vec<ConfigMap>> {
        let Some(started) = &self.started else { return Err(Error::connect("the connector is not started")) };
        let mut process = started.process.lock().await;
        if process.is_none() {
            *process = Some(self.launch(&started.context, &started.settings).await?);
        }
        let Some(running) = process.as_ref() else { return Err(Error::connect("the plugin has no process")) };
        let params = json!({"max_tasks": max_tasks}).to_string().into_bytes();
        let answer = running.call("task_configs", params).await;
        if !self.served.description.monitors
            && let Some(done) = process.take()
        {
            done.stop(STOP).await;
        }
        Ok(read::<TaskConfigs>("task_configs", &answer?)?.configs)
    }

    async fn stop(&mut self) {
        let Some(started) = self.started.take() else { return };
        if let Some(monitor) = started.monitor {
            monitor.cancel();
        }
        if let Some(process) = started.process.lock().await.take() {
            process.stop(STOP).await;
        }
    }

    fn exactly_once_support(&self, _: &ConfigMap) -> ExactlyOnceSupport {
        match self.served.description.exactly_once {
            Some(true) => ExactlyOnceSupport::Supported,
            Some(false) => ExactlyOnceSupport::Unsupported,
            None => ExactlyOnceSupport::Unknown,
        }
    }

    async fn alter_offsets(
        &self,
        config: &ConfigMap,
        offsets: &[(OffsetMap, Option<OffsetMap>)],
    ) -> Result<bool> {
        if !self.served.description.alters_offsets || self.served.description.kind == Kind::Sink {
            return Ok(false);
        }
        let params = json!({"class": self.served.description.class, "config": config, "offsets": offsets});
        let answer = self.served.ask("alter_offsets", config, params).await?;
        Ok(read::<serde_json::Value>("alter_offsets", &answer)?["checked"] == true)
    }
}
