//! The leader's writes to the config topic, where they are made in transactions: a worker that leads no longer, and does not
//! know it, is fenced by the one that does.

use std::time::Duration;

use aqueduct_client::{Client, ClientConfig, Error as ClientError, Producer, ProducerRecord};
use bytes::Bytes;
use bytestring::ByteString;

use crate::error::{Error, Result};

/// Before the right to write is claimed again by a worker that was fenced and leads nevertheless.
const PAUSE: Duration = Duration::from_millis(250);

/// Who may write what only the leader writes.
pub struct Privileged {
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
        Self { config, topic: topic.into(), state: tokio::sync::Mutex::default() }
    }

    /// This worker leads, or does so no longer. Who leads fences all that led before.
    pub async fn lead(&self, leads: bool) {
        let mut state = self.state.lock().await;
        if !leads {
            state.give_up();
        } else if !state.leads
            && let Err(error) = self.claim(&mut state).await
        {
            tracing::warn!(%error, "claiming the right to write the config topic failed, trying again with the first write");
        }
        state.leads = leads;
    }

    /// Writes records in one transaction.
    pub async fn write(&self, records: Vec<(Bytes, Option<Bytes>)>) -> Result<()> {
        let what = || format!("writing to topic {} as the leader", self.topic);
        let mut state = self.state.lock().await;
        match self.attempt(&mut state, &records).await {
            Err(error) if error.is_fenced() && state.leads => {
                tracing::warn!(%error, "another worker has claimed the right to write the config topic; this one leads and claims it again");
                tokio::time::sleep(PAUSE).await;
                self.attempt(&mut state, &records).await.map_err(Error::kafka(what()))
            }
            done => done.map_err(Error::kafka(what())),
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

    pub async fn close(&self) {
        self.state.lock().await.give_up();
    }
}

impl State {
    fn give_up(&mut self) {
        if let Some(producer) = self.producer.take() {
            producer.abandon();
        }
    }
}
