//! The status topic, read and written.

use std::sync::Arc;

use aqueduct_client::ClientConfig;
use bytes::Bytes;
use parking_lot::RwLock;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::{TopicLog, TopicSpec, report_skipped};
use crate::error::Result;
use crate::ids::TaskId;
use crate::status::{Status, StatusState, Subject, topic_key, topic_value};

enum Write {
    Status {
        subject: Subject,
        status: Status,
        safe: bool,
    },
    Raw {
        key: String,
        value: Option<String>,
    },
    /// Answered when everything before it is written.
    Flush(oneshot::Sender<()>),
    End,
}

/// What connectors and tasks do. Writes go out in the order of the calls, without waiting for the cluster.
#[derive(Clone)]
pub struct StatusStore {
    state: Arc<RwLock<StatusState>>,
    writes: mpsc::Sender<Write>,
    log: Option<Arc<TopicLog>>,
    writer: Arc<Mutex<Option<JoinHandle<()>>>>,
}

const QUEUE: usize = 1024;

impl StatusStore {
    /// Reads the topic.
    ///
    /// # Errors
    /// As for [`TopicLog::open`].
    pub async fn open(config: ClientConfig, spec: &TopicSpec) -> Result<Self> {
        let state = Arc::new(RwLock::new(StatusState::new()));
        let (writes, queue) = mpsc::channel(QUEUE);
        let (target, again) = (state.clone(), writes.downgrade());
        let log = TopicLog::open(config, spec, move |record| {
            let key = record.key.as_deref().unwrap_or_default();
            let applied = target.write().apply(key, record.value.as_deref());
            let say_again = |hidden| {
                if let (Some((subject, status)), Some(writes)) = (hidden, again.upgrade()) {
                    // Who waits here would wait for itself. Where the queue is full there is more to say of it soon.
                    let _ = writes.try_send(Write::Status { subject, status, safe: true });
                }
            };
            report_skipped(&record, applied.map(say_again));
        })
        .await?;
        Ok(Self::start(state, (writes, queue), Some(Arc::new(log))))
    }

    /// A store that is gone with the process.
    pub fn in_memory() -> Self {
        Self::start(Arc::default(), mpsc::channel(QUEUE), None)
    }

    fn start(
        state: Arc<RwLock<StatusState>>,
        (writes, queue): (mpsc::Sender<Write>, mpsc::Receiver<Write>),
        log: Option<Arc<TopicLog>>,
    ) -> Self {
        let writer = tokio::spawn(write_all(queue, state.clone(), log.clone()));
        Self { state, writes, log, writer: Arc::new(Mutex::new(Some(writer))) }
    }

    /// Looks at the state.
    pub fn read<T>(&self, look: impl FnOnce(&StatusState) -> T) -> T {
        look(&self.state.read())
    }

    /// Writes a status.
    pub async fn put(&self, subject: Subject, status: Status) {
        self.write(Write::Status { subject, status, safe: false }).await;
    }

    /// Writes a status unless another worker has spoken since.
    pub async fn put_safe(&self, subject: Subject, status: Status) {
        self.write(Write::Status { subject, status, safe: true }).await;
    }

    /// Notes that a task has used a topic first at `now` (milliseconds since 1970).
    pub async fn put_topic(&self, id: &TaskId, topic: &str, now: i64) {
        let (key, value) = (topic_key(&id.connector, topic), topic_value(id, topic, now));
        self.write(Write::Raw { key, value: Some(value) }).await;
    }

    /// Forgets the topics of a connector.
    pub async fn forget_topics(&self, connector: &str) {
        for topic in self.read(|state| state.topics(connector)) {
            self.write(Write::Raw { key: topic_key(connector, &topic), value: None }).await;
        }
    }

    async fn write(&self, write: Write) {
        if self.writes.send(write).await.is_err() {
            tracing::debug!("a status came after the store was closed");
        }
    }

    /// Returns when everything put before is written, or could not be.
    pub async fn flush(&self) {
        let (reply, done) = oneshot::channel();
        if self.writes.send(Write::Flush(reply)).await.is_ok() {
            let _ = done.await;
        }
    }

    /// Returns when everything in the topic has been applied.
    ///
    /// # Errors
    /// [`crate::Error::Kafka`] where the cluster does not answer.
    pub async fn read_to_end(&self) -> Result<()> {
        match &self.log {
            Some(log) => log.read_to_end().await,
            None => Ok(()),
        }
    }

    /// Writes what is queued, then closes.
    pub async fn close(&self) {
        let _ = self.writes.send(Write::End).await;
        if let Some(writer) = self.writer.lock().await.take() {
            let _ = writer.await;
        }
        if let Some(log) = &self.log {
            log.close().await;
        }
    }
}

/// Carries out writes, a batch at a time.
async fn write_all(
    mut queue: mpsc::Receiver<Write>,
    state: Arc<RwLock<StatusState>>,
    log: Option<Arc<TopicLog>>,
) {
    let mut batch = Vec::new();
    loop {
        batch.clear();
        if queue.recv_many(&mut batch, QUEUE).await == 0 {
            return;
        }
        let safe = |write: &Write| matches!(write, Write::Status { safe: true, .. });
        if let Some(log) = log.as_ref().filter(|_| batch.iter().any(safe)) {
            // What others have said meanwhile counts, also where this worker was cut off from it.
            if let Err(error) = log.read_to_end().await {
                tracing::debug!(%error, "the status topic could not be read to its end");
            }
        }
        let mut end = false;
        let mut flushed = Vec::new();
        let mut records = Vec::with_capacity(batch.len());
        for write in batch.drain(..) {
            let (key, value) = match write {
                Write::Status { subject, status, safe } => {
                    if safe && !state.read().may_write(&subject, &status) {
                        continue;
                    }
                    state.write().say(&subject, &status);
                    (subject.key(), status.value())
                }
                Write::Flush(reply) => {
                    flushed.push(reply);
                    continue;
                }
                Write::End => {
                    end = true;
                    continue;
                }
                Write::Raw { key, value } => (key, value),
            };
            records.push((Bytes::from(key), value.map(Bytes::from)));
        }
        match &log {
            Some(log) => {
                if let Err(error) = log.write(records).await {
                    tracing::warn!(%error, "writing statuses failed");
                }
            }
            None => {
                let mut state = state.write();
                for (key, value) in records {
                    let _ = state.apply(&key, value.as_deref());
                }
            }
        }
        for reply in flushed {
            let _ = reply.send(());
        }
        if end {
            return;
        }
    }
}
