//! Task configurations on their way into the config topic. The worker that runs a connector makes them, and the leader alone
//! writes them: others send them to it, signed, and try again until it has taken them.

use std::collections::HashMap;
use std::time::Duration;

use aqueduct_connect_api::ConfigMap;
use bytes::Bytes;
use tokio::task::JoinSet;

use super::commands::Reply;
use super::driver::Driver;
use crate::config::{Providers, connector_plugin};
use crate::config_state::{ConfigRecord, ConfigState};
use crate::connector_runner::{TaskConfigs, task_class};
use crate::error::{Error, Result};
use crate::ids::{ConnectorName, TargetState, TaskId};
use crate::internal::{InternalRequest, address, task_configs_body};

const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// Task configurations that are being sent to the leader.
#[derive(Default)]
pub struct Forwards {
    under_way: JoinSet<(ConnectorName, bool)>,
    /// Failures in a row.
    failures: HashMap<ConnectorName, u32>,
}

impl Forwards {
    /// The next one that is done, and whether it was taken. Never, where none is under way.
    pub async fn done(&mut self) -> (ConnectorName, bool) {
        loop {
            match self.under_way.join_next().await {
                Some(Ok(done)) => return done,
                Some(Err(error)) => tracing::error!(%error, "sending task configurations was cut off"),
                None => std::future::pending().await,
            }
        }
    }
}

fn backoff(failures: u32) -> Duration {
    FIRST_BACKOFF.saturating_mul(2u32.saturating_pow(failures)).min(MAX_BACKOFF)
}

/// The tasks that a connector is to have, where they differ from those in force.
fn changed_tasks(state: &ConfigState, made: &TaskConfigs) -> Option<Vec<ConfigMap>> {
    let connector = state.connector_config(&made.connector)?;
    if state.target_state(&made.connector) == Some(TargetState::Stopped) {
        return None;
    }
    let tasks = finish_task_configs(connector, made.configs.clone());
    let in_force: Vec<&ConfigMap> =
        state.tasks(&made.connector).iter().filter_map(|id| state.task_config(id)).collect();
    let same = !state.is_inconsistent(&made.connector)
        && state.applied_config(&made.connector) == Some(connector)
        && in_force.len() == tasks.len()
        && in_force.iter().zip(&tasks).all(|(old, new)| **old == *new);
    (!same).then_some(tasks)
}

fn records(name: &ConnectorName, tasks: Vec<ConfigMap>) -> Vec<ConfigRecord> {
    let count = u32::try_from(tasks.len()).unwrap_or(u32::MAX);
    let task = |(task, config)| ConfigRecord::Task(TaskId { connector: name.clone(), task }, config);
    let mut records: Vec<ConfigRecord> = (0..count).zip(tasks).map(task).collect();
    records.push(ConfigRecord::Commit(name.clone(), count));
    records
}

impl Driver {
    /// Has task configurations written where they differ from those in force.
    pub(super) async fn publish_tasks(&mut self, made: TaskConfigs) {
        let Some(tasks) = self.shared.config.read(|state| changed_tasks(state, &made)) else {
            self.forwards.failures.remove(&made.connector);
            return;
        };
        let name = made.connector;
        if self.shared.leadership.lock().leads {
            if let Err(error) = self.write_tasks(&name, tasks).await {
                tracing::error!(connector = &*name, %error, "writing task configurations failed, trying again");
                self.try_again(&name);
            }
            return;
        }
        let sent = self.tasks_request(&name, &tasks);
        let failures = self.forwards.failures.get(&name).copied().unwrap_or(0);
        let peers = self.shared.peers.clone();
        self.forwards.under_way.spawn(async move {
            let result = match sent {
                Ok(request) => peers.send(request).await,
                Err(error) => Err(error),
            };
            let Err(error) = result else { return (name, true) };
            let pause = backoff(failures);
            tracing::warn!(
                connector = &*name, %error, ?pause,
                "the leader did not take the connector's task configurations, trying again"
            );
            tokio::time::sleep(pause).await;
            (name, false)
        });
    }

    /// The request that hands `tasks` to the leader.
    fn tasks_request(&self, name: &ConnectorName, tasks: &[ConfigMap]) -> Result<InternalRequest> {
        let url =
            self.shared.leadership.lock().url.clone().filter(|url| !url.is_empty()).ok_or_else(|| {
                Error::Conflict("the leader of the group is not known at this moment".to_owned())
            })?;
        let body = task_configs_body(tasks);
        let signature = self.shared.sign(&body)?;
        let url = address(&url, &["connectors", name, "tasks"]);
        Ok(InternalRequest { method: "POST", url, body, signature })
    }

    /// What was sent to the leader is done: where it was not taken, the connector is asked again.
    pub(super) fn forwarded(&mut self, name: &ConnectorName, taken: bool) {
        if taken {
            self.forwards.failures.remove(name);
        } else {
            *self.forwards.failures.entry(name.clone()).or_default() += 1;
            self.try_again(name);
        }
    }

    async fn write_tasks(&mut self, name: &ConnectorName, tasks: Vec<ConfigMap>) -> Result<()> {
        self.shared.config.write(&records(name, tasks)).await
    }

    /// Another worker hands in tasks of a connector that it runs.
    pub(super) async fn put_tasks(&mut self, name: &ConnectorName, tasks: Vec<ConfigMap>, reply: Reply<()>) {
        let done = match self.check_put_tasks(name, &tasks) {
            Ok(()) => self.write_tasks(name, tasks).await,
            Err(error) => Err(error),
        };
        let _ = reply.send(done);
    }

    fn check_put_tasks(&self, name: &ConnectorName, tasks: &[ConfigMap]) -> Result<()> {
        self.shared.leadership.lock().check("Only the leader may write task configurations.")?;
        match self.shared.config.read(|state| state.target_state(name)) {
            None => Err(Error::not_found(format!("Connector {name} not found"))),
            Some(TargetState::Stopped) if !tasks.is_empty() => Err(Error::invalid(format!(
                "Cannot submit non-empty set of task configs for stopped connector {name}"
            ))),
            Some(_) => Ok(()),
        }
    }
}

/// The tasks of a request that hands them in; no body is none.
///
/// # Errors
/// [`Error::Internal`], as the reference has it for malformed JSON.
pub(super) fn read_tasks(body: &Bytes) -> Result<Vec<ConfigMap>> {
    serde_json::from_slice(body).map_err(|e| {
        Error::internal(format!("The request body is not a JSON array of task configurations: {e}"))
    })
}

/// Adds what the worker adds to a task's settings, and puts variables back where the connector has them.
fn finish_task_configs(connector: &ConfigMap, configs: Vec<ConfigMap>) -> Vec<ConfigMap> {
    let plugin = connector_plugin(connector).ok();
    let class = connector.get("connector.class").map_or("", String::as_str).trim();
    let is_sink = plugin.is_some_and(|p| p.factory.type_name() == "sink");
    configs
        .into_iter()
        .map(|mut config| {
            if let Some(plugin) = plugin {
                config.insert("task.class".to_owned(), task_class(plugin, class));
            }
            for (key, value) in connector {
                let topics = is_sink && matches!(key.as_str(), "topics" | "topics.regex");
                if topics || (config.contains_key(key) && Providers::has_variable(value)) {
                    config.insert(key.clone(), value.clone());
                }
            }
            config
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_stay_variables_in_task_configurations() {
        let map = |pairs: &[(&str, &str)]| -> ConfigMap {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let connector = map(&[("password", "${file:/x:y}"), ("user", "u"), ("other", "${env:A}")]);
        let made = finish_task_configs(&connector, vec![map(&[("password", "hunter2"), ("user", "u2")])]);
        assert_eq!(made, [map(&[("password", "${file:/x:y}"), ("user", "u2")])]);
    }

    #[test]
    fn pauses_grow_to_a_minute() {
        let pauses: Vec<u128> = (0..10).map(|n| backoff(n).as_millis()).collect();
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000]);
    }
}
