//! The task that asks brokers for metadata, on demand and when it gets old.

use std::collections::HashMap;
use std::sync::Arc;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::BrokerId;
use aqueduct_protocol::messages::metadata_request::MetadataRequestTopic;
use aqueduct_protocol::messages::{MetadataRequest, MetadataResponse};
use arc_swap::ArcSwap;
use bytestring::ByteString;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::{Metadata, image};
use crate::config::ClientConfig;
use crate::error::{Error, Result};
use crate::net::{Lane, Pool};

/// A topic that nobody asked for in so many maximal ages is not refreshed any longer.
const IDLE_AGES: u32 = 2;

/// What somebody wants to know.
pub(crate) struct Ask {
    /// These topics besides those tracked already; `None` for all topics there are.
    pub(crate) topics: Option<Vec<ByteString>>,
    pub(crate) reply: oneshot::Sender<Result<Arc<Metadata>>>,
}

/// Keeps the image of the cluster.
pub(crate) struct Keeper {
    pub(crate) pool: Arc<Pool>,
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) image: Arc<ArcSwap<Metadata>>,
    /// Generation of the latest image.
    pub(crate) generation: watch::Sender<u64>,
    pub(crate) tracked: HashMap<ByteString, Instant>,
}

impl Keeper {
    /// Runs until the last sender of `asks` is gone.
    pub(crate) async fn run(mut self, mut asks: mpsc::Receiver<Ask>) {
        let mut due = Instant::now() + self.config.metadata_max_age;
        loop {
            let mut waiting = Vec::new();
            tokio::select! {
                ask = asks.recv() => match ask {
                    Some(ask) => waiting.push(ask),
                    None => return,
                },
                () = tokio::time::sleep_until(due), if !self.tracked.is_empty() => {}
            }
            // Those who came meanwhile are served by the same answer.
            while let Ok(ask) = asks.try_recv() {
                waiting.push(ask);
            }
            let result = self.refresh(&waiting).await;
            if let Err(error) = &result {
                tracing::debug!(%error, "metadata not refreshed");
            }
            let wait =
                if result.is_ok() { self.config.metadata_max_age } else { self.config.retry_backoff.max };
            due = Instant::now() + wait;
            for ask in waiting {
                // Whoever asked may have gone.
                let _ = ask.reply.send(result.clone());
            }
        }
    }

    async fn refresh(&mut self, waiting: &[Ask]) -> Result<Arc<Metadata>> {
        let now = Instant::now();
        for topic in waiting.iter().filter_map(|ask| ask.topics.as_ref()).flatten() {
            self.tracked.insert(topic.clone(), now);
        }
        let idle = self.config.metadata_max_age * IDLE_AGES;
        self.tracked.retain(|_, asked| now.duration_since(*asked) <= idle);
        let all = waiting.iter().any(|ask| ask.topics.is_none());
        let topics = (!all).then(|| self.tracked.keys().cloned().collect());
        let answer = self.ask_any(topics).await?;
        let next = Arc::new(image::next(&self.image.load(), answer));
        self.image.store(next.clone());
        self.generation.send_replace(next.generation);
        Ok(next)
    }

    /// Asks the known brokers in random order, then the bootstrap servers, those that cannot be reached last, until one
    /// answers.
    async fn ask_any(&self, topics: Option<Vec<ByteString>>) -> Result<MetadataResponse> {
        let image = self.image.load_full();
        let mut known: Vec<(BrokerId, String)> =
            image.brokers.values().map(|broker| (broker.id, broker.address())).collect();
        shuffle(&mut known);
        let mut bootstrap: Vec<(BrokerId, String)> = (1..)
            .zip(&self.config.bootstrap_servers)
            .map(|(number, address)| (BrokerId(-number), address.clone()))
            .collect();
        shuffle(&mut bootstrap);
        // A broker that is gone must not keep the others' answer waiting.
        let mut all: Vec<_> = known.into_iter().chain(bootstrap).collect();
        all.sort_by_key(|(id, _)| self.pool.readiness(Lane::SHARED, *id));
        let mut last = None;
        for (id, address) in all {
            match self.ask(id, &address, topics.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(error @ Error::Closed(_)) => return Err(error),
                Err(error) => last = Some(error),
            }
        }
        let last = last.unwrap_or(Error::Closed("client"));
        Err(Error::NoBroker { servers: self.config.bootstrap_servers.join(","), last: Box::new(last) })
    }

    async fn ask(
        &self,
        id: BrokerId,
        address: &str,
        topics: Option<Vec<ByteString>>,
    ) -> Result<MetadataResponse> {
        let connection = self.pool.connection(Lane::SHARED, id, address).await?;
        let request = |_| MetadataRequest {
            topics: topics.map(|names| names.into_iter().map(topic).collect()),
            allow_auto_topic_creation: self.config.allow_auto_create_topics,
            ..Default::default()
        };
        let answer = connection.call(i16::MAX, request, self.config.request_timeout).await;
        if id.0 < 0 {
            // From now on the broker is known by its own id.
            self.pool.forget(Lane::SHARED, id);
        }
        let answer: MetadataResponse = answer?;
        let refused = ErrorCode::from_code(answer.error_code) == ErrorCode::RebootstrapRequired;
        let what = || "the cluster".to_owned();
        match Error::of_code(address, "Metadata", what, answer.error_code, None) {
            Some(error) if refused || answer.brokers.is_empty() => Err(error),
            _ if answer.brokers.is_empty() => Err(Error::Disconnected {
                broker: address.to_owned(),
                api: "Metadata",
                why: "the answer lists no brokers; is it still starting?".to_owned(),
            }),
            _ => Ok(answer),
        }
    }
}

fn topic(name: ByteString) -> MetadataRequestTopic {
    MetadataRequestTopic { name: Some(name), ..Default::default() }
}

fn shuffle<T>(list: &mut [T]) {
    for at in (1..list.len()).rev() {
        list.swap(at, rand::random_range(0..=at));
    }
}
