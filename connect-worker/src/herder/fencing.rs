//! Zombies of exactly-once sources (KIP-618): before tasks of a new generation write, the producers of those before are
//! fenced, by the leader, once for all tasks of the generation.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_client::{Admin, Client, ClientConfig};
use bytes::Bytes;
use bytestring::ByteString;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::handle::{Herder, Shared};
use super::validate::connector_not_found;
use crate::config::{ClientKind, client_properties, connector_plugin};
use crate::config_state::ConfigRecord;
use crate::error::{Error, Result};
use crate::ids::{ConnectorName, TaskId};
use crate::internal::{InternalRequest, Signature, address};
use crate::task::TaskEnvironment;

/// How long a task waits for its predecessors to be fenced; a rebalance may be under way.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(500);

/// Rounds of fencing, one at a time for each connector.
#[derive(Default)]
pub struct Fencing {
    rounds: Mutex<HashMap<ConnectorName, Arc<tokio::sync::Mutex<()>>>>,
}

impl Fencing {
    fn round(&self, name: &ConnectorName) -> Arc<tokio::sync::Mutex<()>> {
        let mut rounds = self.rounds.lock();
        rounds.retain(|_, round| Arc::strong_count(round) > 1);
        rounds.entry(name.clone()).or_default().clone()
    }
}

impl Shared {
    /// Fences the producers of the tasks that ran before those that are committed now, where that has not been done, and
    /// notes how many there are now. The leader's business.
    ///
    /// # Errors
    /// [`Error::Elsewhere`], [`Error::NotFound`], [`Error::BadRequest`] for a sink, [`Error::Conflict`] where the tasks have
    /// changed meanwhile, [`Error::Kafka`]
    pub async fn fence_zombies(&self, name: &ConnectorName) -> Result<()> {
        self.leadership.lock().check("Only the leader may perform zombie fencing for source connectors.")?;
        let round = self.fencing.round(name);
        let _round = round.lock().await;
        self.read_config().await?;
        let found = self.config.read(|state| {
            let config = state.connector_config(name)?.clone();
            Some((config, state.task_generations(name), state.task_count(name)))
        });
        let Some((config, before, count)) = found else { return Err(connector_not_found(name)) };
        let is_source = connector_plugin(&config).is_ok_and(|plugin| plugin.factory.type_name() == "source");
        if !is_source {
            return Err(Error::invalid(format!("Connector {name} is not a source connector")));
        }
        if !before.pending {
            return Ok(());
        }
        if let Some(old) = before.to_fence(count) {
            self.fence_producers(name, old).await?;
            self.read_config().await?;
            if self.config.read(|state| state.task_generations(name)) != before {
                return Err(Error::Conflict(format!(
                    "Fencing of connector {name} is out of date: it has new task configurations by now"
                )));
            }
        }
        self.config.write(&[ConfigRecord::TasksFencing(name.clone(), count)]).await
    }

    async fn read_config(&self) -> Result<()> {
        let limit = self.environment.config.sync_timeout();
        tokio::time::timeout(limit, self.config.read_to_end())
            .await
            .unwrap_or_else(|_| Err(Error::Timeout("Reading the config topic to its end.".to_owned())))
    }

    /// Fences `count` producers, by the settings of the connector's clients.
    async fn fence_producers(&self, name: &ConnectorName, count: u32) -> Result<()> {
        let worker = &self.environment.config;
        let config = self.config.read(|state| state.connector_config(name).cloned()).unwrap_or_default();
        let config = worker.providers().resolve(&config);
        let properties = client_properties(
            worker,
            ClientKind::Admin,
            &TaskId { connector: name.clone(), task: 0 },
            &config,
        );
        let what = format!("fencing {count} producers of connector {name}");
        let (config, _) = ClientConfig::from_properties(&properties).map_err(Error::kafka(what.clone()))?;
        let id =
            |task| ByteString::from(worker.task_transactional_id(&TaskId { connector: name.clone(), task }));
        let ids: Vec<ByteString> = (0..count).map(id).collect();
        tracing::info!(connector = &**name, count, "fencing the producers of earlier tasks");
        let client = Client::new(config);
        let fenced = Admin::new(client.clone()).fence_producers(&ids).await;
        client.close().await;
        for result in fenced.into_values() {
            result.map_err(Error::kafka(what.clone()))?;
        }
        Ok(())
    }

    /// Has the leader fence, wherever it is.
    async fn have_fenced(&self, name: &ConnectorName) -> Result<()> {
        let leadership = self.leadership.lock().clone();
        if leadership.leads {
            return self.fence_zombies(name).await;
        }
        let url = leadership.url.filter(|url| !url.is_empty()).ok_or_else(|| {
            Error::Conflict("the leader of the group is not known at this moment".to_owned())
        })?;
        let body = Bytes::new();
        let signature = self.sign(&body)?;
        let url = address(&url, &["connectors", name, "fence"]);
        self.peers.send(InternalRequest { method: "PUT", url, body, signature }).await
    }
}

impl Herder {
    /// Fences earlier tasks of a source for a worker that is about to start new ones.
    ///
    /// # Errors
    /// [`Error::BadRequest`] or [`Error::Forbidden`] where the request is not signed as it has to be; else as the leader's
    /// own tasks get them.
    pub async fn fence(&self, name: &str, body: &[u8], signature: Result<Option<Signature>>) -> Result<()> {
        self.check_signature(signature, body)?;
        self.shared.fence_zombies(&name.into()).await
    }
}

impl TaskEnvironment {
    fn herder(&self) -> Result<Arc<Shared>> {
        self.herder.get().and_then(std::sync::Weak::upgrade).ok_or(Error::ShutDown)
    }

    /// Counts the task configurations of a connector that this worker has seen.
    pub fn task_generation(&self, name: &str) -> u64 {
        self.herder().map_or(0, |shared| shared.config.read(|state| state.task_generations(name).generation))
    }

    /// Returns when no task of an earlier generation can write any more.
    ///
    /// # Errors
    /// Why they could not be fenced.
    pub async fn fence_before(&self, id: &TaskId) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let fenced = self.herder()?.have_fenced(&id.connector).await;
            match fenced {
                Err(error) if error.status_code() >= 409 && Instant::now() < deadline => {
                    tracing::warn!(task = %id, %error, "earlier tasks are not fenced yet, trying again");
                    tokio::time::sleep(PAUSE).await;
                }
                done => return done,
            }
        }
    }

    /// Makes sure that a task is of the generation that is in force.
    ///
    /// # Errors
    /// [`Error::Conflict`] where it is not.
    pub async fn check_generation(&self, id: &TaskId, generation: u64) -> Result<()> {
        let shared = self.herder()?;
        shared.read_config().await?;
        let current = shared.config.read(|state| state.task_generations(&id.connector).generation);
        if current == generation {
            return Ok(());
        }
        Err(Error::Conflict(format!(
            "Cannot start source task {id} with exactly-once support, as the connector has already generated a new set of task configs"
        )))
    }
}
