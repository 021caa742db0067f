//! The handle to a cluster: connections, versions, metadata.

use std::sync::Arc;
use std::time::Duration;

use aqueduct_protocol::Request;
use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::BrokerId;
use arc_swap::ArcSwap;
use bytestring::ByteString;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::config::ClientConfig;
use crate::coordinator;
use crate::error::{Error, Result};
use crate::metadata::{Ask, Broker, Keeper, Metadata, TopicMetadata};
use crate::net::{Connection, Lane, Pool};
use crate::retry::Retry;

/// Callers that wait for the metadata task.
const ASKS: usize = 64;

/// A cheap handle to a cluster; clones share connections and metadata.
///
/// Connections are made when they are first needed. They are closed by [`Client::close`] or when the last clone is
/// dropped.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Arc<ClientConfig>,
    pool: Arc<Pool>,
    image: Arc<ArcSwap<Metadata>>,
    generation: watch::Receiver<u64>,
    asks: mpsc::Sender<Ask>,
    keeper: JoinHandle<()>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.keeper.abort();
        self.pool.close();
    }
}

impl Client {
    /// A client for the cluster that `config` names; does no I/O. Call it within a tokio runtime.
    pub fn new(config: ClientConfig) -> Self {
        let config = Arc::new(config);
        let pool = Arc::new(Pool::new(config.clone()));
        let image = Arc::new(ArcSwap::from_pointee(Metadata::empty()));
        let (generation_in, generation) = watch::channel(0);
        let (asks, receiver) = mpsc::channel(ASKS);
        let keeper = Keeper {
            pool: pool.clone(),
            config: config.clone(),
            image: image.clone(),
            generation: generation_in,
            tracked: Default::default(),
        };
        let keeper = tokio::spawn(keeper.run(receiver));
        Self { inner: Arc::new(Inner { config, pool, image, generation, asks, keeper }) }
    }

    /// The configuration.
    pub fn config(&self) -> &ClientConfig {
        &self.inner.config
    }

    /// Metadata of `topics`, from the cache where it is younger than `metadata.max.age.ms`. Topics that do not exist are
    /// missing from it; they are created by the broker where both sides allow it.
    ///
    /// # Errors
    /// [`Error::Timeout`] after `default.api.timeout.ms`, with the last failure in it.
    pub async fn metadata(&self, topics: &[ByteString]) -> Result<Arc<Metadata>> {
        let image = self.cached();
        let fresh = image.generation > 0 && image.received.elapsed() < self.inner.config.metadata_max_age;
        if fresh && topics.iter().all(|topic| image.topics.contains_key(topic)) {
            return Ok(image);
        }
        let mut retry = self.retry("metadata", self.inner.config.default_api_timeout);
        loop {
            match self.refresh(Some(topics.to_vec())).await {
                Ok(image) => return Ok(image),
                Err(error) => retry.after(error).await?,
            }
        }
    }

    /// Metadata of all topics, fresh from a broker.
    pub async fn all_metadata(&self) -> Result<Arc<Metadata>> {
        let mut retry = self.retry("metadata of all topics", self.inner.config.default_api_timeout);
        loop {
            match self.refresh(None).await {
                Ok(image) => return Ok(image),
                Err(error) => retry.after(error).await?,
            }
        }
    }

    /// Id of the cluster.
    pub async fn cluster_id(&self) -> Result<Option<ByteString>> {
        Ok(self.metadata(&[]).await?.cluster_id.clone())
    }

    /// Closes all connections; calls under way still end, new ones fail with [`Error::Closed`].
    pub async fn close(&self) {
        self.inner.pool.close();
    }

    /// The latest image, however old.
    pub(crate) fn cached(&self) -> Arc<Metadata> {
        self.inner.image.load_full()
    }

    /// Tells of new images.
    pub(crate) fn generations(&self) -> watch::Receiver<u64> {
        self.inner.generation.clone()
    }

    /// One attempt to get a new image, with these topics or all.
    pub(crate) async fn refresh(&self, topics: Option<Vec<ByteString>>) -> Result<Arc<Metadata>> {
        let (reply, answer) = oneshot::channel();
        let closed = |_| Error::Closed("client");
        self.inner.asks.send(Ask { topics, reply }).await.map_err(|_| Error::Closed("client"))?;
        answer.await.map_err(closed)?
    }

    /// Waits up to `limit` for the topic to exist with at least one partition.
    pub(crate) async fn topic(&self, name: &ByteString, limit: Duration) -> Result<TopicMetadata> {
        let mut image = self.cached();
        let mut retry = self.retry(format!("metadata of topic {name}"), limit);
        loop {
            if let Some(topic) = image.topic(name).filter(|topic| !topic.partitions.is_empty()) {
                return Ok(topic.clone());
            }
            image = match self.refresh(Some(vec![name.clone()])).await {
                Ok(image) => image,
                Err(error) => {
                    retry.after(error).await?;
                    continue;
                }
            };
            let known = image.topic(name).is_some_and(|topic| !topic.partitions.is_empty());
            if !known {
                retry.after(missing(&image, name)).await?;
            }
        }
    }

    /// Retries within `limit`, with `retry.backoff.ms` in between.
    pub(crate) fn retry(&self, what: impl Into<String>, limit: Duration) -> Retry {
        Retry::new(what, limit, self.inner.config.retry_backoff)
    }

    pub(crate) fn new_lane(&self) -> Lane {
        self.inner.pool.new_lane()
    }

    pub(crate) fn drop_lane(&self, lane: Lane) {
        self.inner.pool.drop_lane(lane);
    }

    /// The connection to `broker`, if there is a live one.
    pub(crate) fn live(&self, lane: Lane, broker: BrokerId) -> Option<Connection> {
        self.inner.pool.live(lane, broker)
    }

    /// A connection to `broker`, made now if there is none.
    pub(crate) async fn connect(&self, lane: Lane, broker: &Broker) -> Result<Connection> {
        self.inner.pool.connection(lane, broker.id, &broker.address()).await
    }

    /// One call to one broker.
    pub(crate) async fn call<R: Request>(
        &self,
        lane: Lane,
        broker: &Broker,
        cap: i16,
        make: impl FnOnce(i16) -> R,
    ) -> Result<R::Response> {
        let connection = self.connect(lane, broker).await?;
        connection.call(cap, make, self.inner.config.request_timeout).await
    }

    /// One call to any broker, with the broker that answered.
    pub(crate) async fn call_any<R: Request>(
        &self,
        cap: i16,
        make: impl FnOnce(i16) -> R,
    ) -> Result<(Broker, R::Response)> {
        let broker = self.any_broker().await?;
        let response = self.call(Lane::SHARED, &broker, cap, make).await?;
        Ok((broker, response))
    }

    async fn any_broker(&self) -> Result<Broker> {
        let mut image = self.cached();
        if image.brokers.is_empty() {
            image = self.refresh(Some(Vec::new())).await?;
        }
        // One that is connected already if there is one, else a random one of those that did not fail last.
        let ready = |broker: &&Broker| {
            (self.inner.pool.readiness(Lane::SHARED, broker.id), rand::random_range(0..u32::MAX))
        };
        let broker = image.brokers.values().min_by_key(ready).cloned();
        broker.ok_or(Error::Closed("client"))
    }

    /// Finds the coordinator of a group; one attempt.
    pub(crate) async fn find_group_coordinator(&self, group: &ByteString) -> Result<Broker> {
        let attempt = coordinator::find_group(self, group).await;
        if attempt.as_ref().is_err_and(Error::asks_for_metadata) {
            // The broker that was asked may be gone.
            let _ = self.refresh(Some(Vec::new())).await;
        }
        attempt
    }
}

/// Why a topic is not in an image.
pub(crate) fn missing(image: &Metadata, name: &ByteString) -> Error {
    match image.errors.get(name) {
        None | Some(ErrorCode::UnknownTopicOrPartition) => Error::UnknownTopic { topic: name.to_string() },
        Some(code) => {
            Error::of_code("the cluster", "Metadata", || format!("topic {name}"), code.code(), None)
                .unwrap_or_else(|| Error::UnknownTopic { topic: name.to_string() })
        }
    }
}
