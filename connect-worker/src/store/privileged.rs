//! The leader's writes to the config topic, where they are made in transactions: a worker that leads no longer, and does not
//! know it, is fenced by the one that does.

use std::sync::Arc;
use std::time::Duration;

use aqueduct_client::{Client, ClientConfig, Error as ClientError, Producer, ProducerRecord};
use bytes::Bytes;
use bytestring::ByteString;

use crate::error::{Error, Result};

/// Before the right to write is claimed again by a worker that was fenced and leads nevertheless.
const PAUSE: Duration = Duration::from_millis(250);

/// Who may write what only the leader writes.
pub struct Privileged {
    shared: Arc<Shared>,
}

struct Shared {
    config: ClientConfig,
    topic: ByteString,
    state: tokio::sync::Mutex<State>,
}

#[derive(Default)]
struct State {
    leads: bool,
    producer: Option<Producer>,
}

impl Privileged {
    /// `config` has a transactional id.
    pub fn new(config: ClientConfig, topic: &str) -> Self {
        let state = tokio::sync::Mutex::default();
        Self { shared: Arc::new(Shared { config, topic: topic.into(), state }) }
    }

    /// This worker leads, or does so no longer. Who leads fences all that led before.
    pub async fn lead(&self, leads: bool) {
        let shared = &self.shared;
        let mut state = shared.state.lock().await;
        if !leads {
            state.give_up();
        } else if !state.leads {
            shared.claim_or_warn(&mut state).await;
        }
        state.leads = leads;
    }

    /// Writes records in one transaction. It goes on where the caller gives up: a transaction that is left open holds up
    /// all who read the topic.
    pub async fn write(&self, records: Vec<(Bytes, Option<Bytes>)>) -> Result<()> {
        let shared = self.shared.clone();
        tokio::spawn(async move { shared.write(&records).await }).await.unwrap_or(Err(Error::ShutDown))
    }

    pub async fn close(&self) {
        self.shared.state.lock().await.give_up();
    }
}

impl Shared {
    async fn write(self: &Arc<Self>, records: &[(Bytes, Option<Bytes>)]) -> Result<()> {
        let what = || format!("writing to topic {} as the leader", self.topic);
        let mut state = self.state.lock().await;
        let mut done = self.attempt(&mut state, records).await;
        if let Err(error) = &done
            && error.is_fenced()
            && state.leads
        {
            tracing::warn!(%error, "another worker has claimed the right to write the config topic; this one leads and claims it again");
            tokio::time::sleep(PAUSE).await;
            done = self.attempt(&mut state, records).await;
        }
        if done.is_err() && state.leads {
            let shared = self.clone();
            tokio::spawn(async move { shared.end_what_failed().await });
        }
        done.map_err(Error::kafka(what()))
    }

    /// A claim ends the transaction that a failed write may have left open.
    async fn end_what_failed(&self) {
        let mut state = self.state.lock().await;
        if state.leads && state.producer.is_none() {
            self.claim_or_warn(&mut state).await;
        }
    }

    async fn claim_or_warn(&self, state: &mut State) {
        if let Err(error) = self.claim(state).await {
            tracing::warn!(%error, "claiming the right to write the config topic failed, trying again with the next write");
        }
    }

    async fn attempt(
        &self,
        state: &mut State,
        records: &[(Bytes, Option<Bytes>)],
    ) -> Result<(), ClientError> {
        if state.producer.is_none() {
            self.claim(state).await?;
        }
        // Taken out, so that one that fails half-way is not used again.
        let Some(producer) = state.producer.take() else { return Err(ClientError::Closed("producer")) };
        let record = |(key, value): &(Bytes, Option<Bytes>)| {
            ProducerRecord::keyed(self.topic.clone(), key.clone(), value.clone())
        };
        producer.begin_transaction()?;
        drop(producer.send_all(records.iter().map(record).collect()).await?);
        producer.commit_transaction().await?;
        state.producer = Some(producer);
        Ok(())
    }

    async fn claim(&self, state: &mut State) -> Result<(), ClientError> {
        state.give_up();
        let producer = Producer::new(Client::new(self.config.clone()));
        producer.init_transactions().await?;
        state.producer = Some(producer);
        Ok(())
    }
}

impl State {
    fn give_up(&mut self) {
        if let Some(producer) = self.producer.take() {
            producer.abandon();
        }
    }
}
