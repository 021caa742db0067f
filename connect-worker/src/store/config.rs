//! The config topic, read and written.

use std::sync::Arc;

use aqueduct_client::ClientConfig;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use super::privileged::Privileged;
use super::{TopicLog, TopicSpec, report_skipped};
use crate::config_state::{Change, ConfigRecord, ConfigState};
use crate::error::Result;

/// Connectors and all that is configured, shared by the workers of a group.
#[derive(Clone)]
pub struct ConfigStore {
    shared: Arc<Shared>,
    backend: Arc<Backend>,
}

enum Backend {
    /// With what the leader writes with, where that is something else.
    Topic(TopicLog, Option<Box<Privileged>>),
    /// Nothing outlives the process.
    Memory,
}

#[derive(Default)]
struct Shared {
    state: RwLock<ConfigState>,
    /// What has changed and was not taken yet; each change at most once.
    changes: Mutex<Vec<Change>>,
    changed: Notify,
}

impl Shared {
    fn apply(&self, offset: i64, key: &[u8], value: Option<&[u8]>) -> Result<(), String> {
        let applied = self.state.write().apply(offset, key, value)?;
        if let Some(change) = applied {
            note(&mut self.changes.lock(), change);
            self.changed.notify_one();
        }
        Ok(())
    }
}

impl ConfigStore {
    /// Reads the topic; `leader` has a transactional id, where the leader is to write in transactions. Changes up to now are in the state and not among [`ConfigStore::take_changes`].
    ///
    /// # Errors
    /// As for [`TopicLog::open`].
    pub async fn open(config: ClientConfig, spec: &TopicSpec, leader: Option<ClientConfig>) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let target = shared.clone();
        let log = TopicLog::open(config, spec, move |record| {
            let key = record.key.as_deref().unwrap_or_default();
            let applied = target.apply(record.offset.0, key, record.value.as_deref());
            report_skipped(&record, applied);
        })
        .await?;
        shared.changes.lock().clear();
        let privileged = leader.map(|config| Privileged::new(config, &spec.name));
        Ok(Self { shared, backend: Arc::new(Backend::Topic(log, privileged.map(Box::new))) })
    }

    /// A store that is gone with the process.
    pub fn in_memory() -> Self {
        Self { shared: Arc::default(), backend: Arc::new(Backend::Memory) }
    }

    /// Looks at the state; keep it short, readers hold up the follower.
    pub fn read<T>(&self, look: impl FnOnce(&ConfigState) -> T) -> T {
        look(&self.shared.state.read())
    }

    /// Changes since the last call, oldest first.
    pub fn take_changes(&self) -> Vec<Change> {
        std::mem::take(&mut self.shared.changes.lock())
    }

    /// Returns when there are changes to take.
    pub async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    /// Writes records in order, waits for the acknowledgement and reads them back.
    ///
    /// # Errors
    /// [`crate::Error::Kafka`] for the first record that was not written.
    pub async fn write(&self, records: &[ConfigRecord]) -> Result<()> {
        match &*self.backend {
            Backend::Topic(log, privileged) => {
                self.check_access().await?;
                let pairs = records.iter().map(|r| (Bytes::from(r.key()), r.value().map(Bytes::from)));
                match privileged {
                    Some(privileged) if records.iter().any(ConfigRecord::is_leaders) => {
                        privileged.write(pairs.collect()).await?;
                    }
                    _ => log.write(pairs.collect()).await?,
                }
                let read = log.read_to_end().await;
                read.map_err(|error| error.within("the change is written, and in force when it can be read"))
            }
            Backend::Memory => {
                for record in records {
                    let offset = self.read(ConfigState::offset);
                    let value = record.value();
                    let value = value.as_deref().map(str::as_bytes);
                    self.shared
                        .apply(offset, record.key().as_bytes(), value)
                        .map_err(crate::Error::internal)?;
                }
                Ok(())
            }
        }
    }

    /// As [`TopicLog::check_access`].
    ///
    /// # Errors
    /// [`crate::Error::Kafka`] where the cluster does not let this worker in.
    pub async fn check_access(&self) -> Result<()> {
        match &*self.backend {
            Backend::Topic(log, _) => log.check_access().await,
            Backend::Memory => Ok(()),
        }
    }

    /// This worker leads the group, or does so no longer.
    pub async fn lead(&self, leads: bool) {
        if let Backend::Topic(_, Some(privileged)) = &*self.backend {
            privileged.lead(leads).await;
        }
    }

    /// Returns when everything in the topic has been applied.
    ///
    /// # Errors
    /// [`crate::Error::Kafka`] where the cluster does not answer.
    pub async fn read_to_end(&self) -> Result<()> {
        match &*self.backend {
            Backend::Topic(log, _) => log.read_to_end().await,
            Backend::Memory => Ok(()),
        }
    }

    pub async fn close(&self) {
        if let Backend::Topic(log, privileged) = &*self.backend {
            if let Some(privileged) = privileged {
                privileged.close().await;
            }
            log.close().await;
        }
    }
}

/// Adds a change. The latest state counts, so that one notice of each kind is enough; it has to be the last. Of restarts of
/// one connector the one that covers most is left.
fn note(changes: &mut Vec<Change>, mut change: Change) {
    changes.retain(|known| match (known, &mut change) {
        (Change::Restart(known), Change::Restart(new)) if known.connector == new.connector => {
            if known.impact() > new.impact() {
                *new = known.clone();
            }
            false
        }
        (known, new) => *known != *new,
    });
    changes.push(change);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config_state::RestartRequest;

    #[test]
    fn changes_are_noted_once_and_restarts_coalesce() {
        let restart = |include_tasks, only_failed| {
            Change::Restart(RestartRequest { connector: "c".into(), include_tasks, only_failed })
        };
        let mut changes = Vec::new();
        note(&mut changes, Change::ConnectorUpdated("c".into()));
        note(&mut changes, restart(true, false));
        note(&mut changes, restart(false, true));
        note(&mut changes, Change::ConnectorUpdated("c".into()));
        assert_eq!(changes, [restart(true, false), Change::ConnectorUpdated("c".into())]);
    }

    #[tokio::test]
    async fn a_store_in_memory_reads_back_what_was_written() {
        let store = ConfigStore::in_memory();
        let record = ConfigRecord::Connector("c".into(), Some([("a".to_owned(), "b".to_owned())].into()));
        store.write(&[record]).await.expect("written");
        assert!(store.read(|state| state.contains("c")));
        assert_eq!(store.take_changes(), [Change::ConnectorUpdated("c".into())]);
        assert!(store.take_changes().is_empty());
    }
}
