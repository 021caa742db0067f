//! A compacted topic as a shared log: all of it is read at the start and followed from then on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aqueduct_client::{
    Admin, Client, ClientConfig, ConfigResource, ConsumerRecord, Deliveries, NewTopic, PartitionConsumer,
    Producer, ProducerRecord,
};
use aqueduct_connect_api::ConfigMap;
use bytes::Bytes;
use bytestring::ByteString;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::WorkerConfig;
use crate::error::{Error, Result};

/// What an internal topic has to be.
#[derive(Clone, Debug)]
pub struct TopicSpec {
    pub name: String,
    /// Key of the worker's settings that names it, for messages.
    pub setting: &'static str,
    /// -1 for the broker's default.
    pub partitions: i32,
    pub replication_factor: i16,
    /// Settings of the topic beside `cleanup.policy`.
    pub settings: ConfigMap,
    /// Whether it must have one partition, because its order matters.
    pub single_partition: bool,
}

impl TopicSpec {
    /// The worker's offsets topic.
    pub fn offsets(config: &WorkerConfig) -> Self {
        let partitions = config.number("offset.storage.partitions");
        Self::of_worker(config, "offset.storage", "offset.storage.topic", partitions)
    }

    /// An internal topic of the worker, as its settings say.
    pub fn of_worker(config: &WorkerConfig, store: &str, setting: &'static str, partitions: i64) -> Self {
        let replication = config.number(&format!("{store}.replication.factor"));
        Self {
            name: config.text(setting).to_owned(),
            setting,
            partitions: i32::try_from(partitions).unwrap_or(-1),
            replication_factor: i16::try_from(replication).unwrap_or(-1),
            settings: config.topic_settings(store),
            single_partition: false,
        }
    }
}

/// What a log is created, read and written with.
#[derive(Clone)]
pub struct LogClients {
    pub admin: Client,
    pub consumer: Client,
    pub producer: Client,
}

impl From<ClientConfig> for LogClients {
    fn from(config: ClientConfig) -> Self {
        let client = Client::new(config);
        Self { admin: client.clone(), consumer: client.clone(), producer: client }
    }
}

type Reply = oneshot::Sender<Result<()>>;

/// How far to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Up to the first transaction that is open: whoever left it may be waiting for this very log to end it.
    Stable,
    /// All that is there, waiting for open transactions.
    Last,
}

/// A compacted topic, followed by a task of its own that hands each record to a function, in order.
pub struct TopicLog {
    topic: ByteString,
    producer: Producer,
    clients: LogClients,
    to_end: mpsc::Sender<(End, Reply)>,
    refused: Arc<AtomicBool>,
    stop: CancellationToken,
    reader: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

impl TopicLog {
    /// Creates the topic where it is missing, checks it, and returns when everything in it has been given to `apply`.
    ///
    /// # Errors
    /// [`Error::Kafka`] where the cluster does not answer, [`Error::BadRequest`] where the topic exists but is not what
    /// it has to be.
    pub async fn open(
        clients: impl Into<LogClients>,
        spec: &TopicSpec,
        apply: impl FnMut(ConsumerRecord) + Send + 'static,
    ) -> Result<Self> {
        let clients = clients.into();
        ensure_topic(&clients.admin, spec).await?;
        let mut consumer = PartitionConsumer::new(clients.consumer.clone());
        let what = format!("reading topic {} ({})", spec.name, spec.setting);
        let partitions = consumer.assign_topic(&spec.name).await.map_err(Error::kafka(what.clone()))?;
        for partition in &partitions {
            consumer
                .seek_to(partition, aqueduct_client::OffsetSpec::Earliest)
                .map_err(Error::kafka(what.clone()))?;
        }
        let (to_end, requests) = mpsc::channel(16);
        let stop = CancellationToken::new();
        let refused = Arc::new(AtomicBool::new(false));
        let follower = Follower {
            topic: spec.name.clone(),
            consumer,
            requests,
            refused: refused.clone(),
            stop: stop.clone(),
            apply,
        };
        let reader = tokio::spawn(follower.run());
        let log = Self {
            topic: spec.name.as_str().into(),
            producer: Producer::new(clients.producer.clone()),
            clients,
            to_end,
            refused,
            stop,
            reader: tokio::sync::Mutex::new(Some(reader)),
        };
        log.read_to(End::Stable).await?;
        Ok(log)
    }

    /// Its name.
    pub fn topic(&self) -> &ByteString {
        &self.topic
    }

    /// Returns when every record that the topic held at the time of the call has been applied.
    ///
    /// # Errors
    /// [`Error::Kafka`] where the cluster does not answer.
    pub async fn read_to_end(&self) -> Result<()> {
        self.read_to(End::Last).await
    }

    async fn read_to(&self, end: End) -> Result<()> {
        let (reply, done) = oneshot::channel();
        self.to_end.send((end, reply)).await.map_err(|_| Error::ShutDown)?;
        done.await.map_err(|_| Error::ShutDown)?
    }

    /// Makes sure that the cluster still lets this worker in, where there is doubt: what it buffers while it is not let in
    /// would be written whenever it is, long after somebody was told that nothing was done.
    ///
    /// # Errors
    /// [`Error::Kafka`] where it does not.
    pub async fn check_access(&self) -> Result<()> {
        if self.refused.load(Ordering::Relaxed) { self.read_to_end().await } else { Ok(()) }
    }

    /// Buffers records, in order; the result tells what became of them.
    ///
    /// # Errors
    /// [`Error::Kafka`] where they could not be buffered.
    pub async fn send(&self, records: Vec<(Bytes, Option<Bytes>)>) -> Result<Deliveries> {
        let records = records
            .into_iter()
            .map(|(key, value)| ProducerRecord::keyed(self.topic.clone(), key, value))
            .collect();
        self.producer
            .send_all(records)
            .await
            .map_err(Error::kafka(format!("writing to topic {}", self.topic)))
    }

    /// Writes records, in order, and waits until the cluster has acknowledged all of them.
    ///
    /// # Errors
    /// [`Error::Kafka`] for the first record that was not written.
    pub async fn write(&self, records: Vec<(Bytes, Option<Bytes>)>) -> Result<()> {
        for result in self.send(records).await?.await {
            result.map_err(Error::kafka(format!("writing to topic {}", self.topic)))?;
        }
        Ok(())
    }

    /// Writes what is buffered and ends the reader.
    pub async fn close(&self) {
        self.producer.close().await;
        self.stop.cancel();
        if let Some(reader) = self.reader.lock().await.take() {
            let _ = reader.await;
        }
        for client in [&self.clients.admin, &self.clients.consumer, &self.clients.producer] {
            client.close().await;
        }
    }
}

struct Follower<F> {
    topic: String,
    consumer: PartitionConsumer,
    requests: mpsc::Receiver<(End, Reply)>,
    /// The last read failed, and would so again.
    refused: Arc<AtomicBool>,
    stop: CancellationToken,
    apply: F,
}

impl<F: FnMut(ConsumerRecord) + Send> Follower<F> {
    async fn run(mut self) {
        const IDLE: Duration = Duration::from_secs(30);
        const AFTER_ERROR: Duration = Duration::from_secs(1);
        loop {
            let polled = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                request = self.requests.recv() => match request {
                    Some((end, reply)) => {
                        self.read_to(end, reply).await;
                        continue;
                    }
                    None => return,
                },
                polled = self.consumer.poll(IDLE) => polled,
            };
            self.note(polled.as_ref().err());
            match polled {
                Ok(records) => records.into_iter().for_each(&mut self.apply),
                Err(error) => {
                    tracing::warn!(topic = self.topic, %error, "reading an internal topic failed, trying again");
                    tokio::select! {
                        () = self.stop.cancelled() => return,
                        () = tokio::time::sleep(AFTER_ERROR) => {}
                    }
                }
            }
        }
    }

    fn note(&self, error: Option<&aqueduct_client::Error>) {
        self.refused.store(error.is_some_and(|error| !error.is_retriable()), Ordering::Relaxed);
    }

    async fn read_to(&mut self, end: End, reply: Reply) {
        let apply = &mut self.apply;
        let consumer = &mut self.consumer;
        let read = async {
            match end {
                End::Stable => consumer.read_to_stable_end(apply).await,
                End::Last => consumer.read_to_end(apply).await,
            }
        };
        let read = tokio::select! {
            () = self.stop.cancelled() => return,
            read = read => read,
        };
        self.note(read.as_ref().err());
        let _ = reply.send(read.map_err(Error::kafka(format!("reading topic {} to its end", self.topic))));
        // Requests that were waiting meanwhile are about a later end.
    }
}

async fn ensure_topic(client: &Client, spec: &TopicSpec) -> Result<()> {
    let admin = Admin::new(client.clone());
    let mut topic = NewTopic::new(spec.name.as_str(), spec.partitions, spec.replication_factor);
    topic.configs.extend(spec.settings.iter().map(|(k, v)| (k.clone(), v.clone())));
    topic.configs.insert("cleanup.policy".to_owned(), "compact".to_owned());
    let created = admin
        .ensure_topic(&topic)
        .await
        .map_err(Error::kafka(format!("creating topic {} ({})", spec.name, spec.setting)))?;
    if created {
        tracing::info!(topic = spec.name, partitions = spec.partitions, "created internal topic");
        return Ok(());
    }
    check_policy(&admin, spec).await?;
    if spec.single_partition {
        let name = ByteString::from(spec.name.as_str());
        let found = admin
            .describe_topics(std::slice::from_ref(&name))
            .await
            .map_err(Error::kafka(format!("describing topic {}", spec.name)))?;
        if let Some(Ok(description)) = found.get(&name)
            && description.partitions.len() != 1
        {
            return Err(Error::invalid(format!(
                "Topic '{}' supplied via the '{}' property is required to have a single partition in order to guarantee \
                 consistency of connector configurations, but found {} partitions.",
                spec.name,
                spec.setting,
                description.partitions.len()
            )));
        }
    }
    Ok(())
}

/// An existing topic whose records are deleted by age would forget connectors.
async fn check_policy(admin: &Admin, spec: &TopicSpec) -> Result<()> {
    let resource = ConfigResource::Topic(spec.name.as_str().into());
    let configs = match admin.describe_configs(std::slice::from_ref(&resource)).await {
        Ok(configs) => configs,
        Err(error) => {
            tracing::warn!(topic = spec.name, %error, "could not check the topic's cleanup.policy");
            return Ok(());
        }
    };
    let Some(Ok(entries)) = configs.get(&resource) else { return Ok(()) };
    let policy = entries.iter().find(|e| &*e.name == "cleanup.policy").and_then(|e| e.value.as_deref());
    match policy {
        None | Some("compact") => Ok(()),
        Some(policy) => {
            let (name, setting) = (&spec.name, spec.setting);
            let holds = match setting {
                "config.storage.topic" => "connector configurations",
                "status.storage.topic" => "connector and task statuses",
                _ => "source connector offsets",
            };
            Err(Error::invalid(format!(
                "Topic '{name}' supplied via the '{setting}' property is required to have 'cleanup.policy=compact' to guarantee \
                 consistency and durability of {holds}, but found the topic currently has 'cleanup.policy={policy}'. Continuing \
                 would likely result in eventually losing {holds} and problems restarting this Connect cluster in the future. \
                 Change the '{setting}' property in the Connect worker configurations to use a topic with 'cleanup.policy=compact'."
            )))
        }
    }
}
