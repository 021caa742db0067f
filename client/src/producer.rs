//! Producing records: batched, idempotent, in order.

mod accumulator;
mod batch;
mod delivery;
mod flight;
mod memory;
mod partitioner;
mod queue;
mod sender;
mod transaction;
mod transactional;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use bytestring::ByteString;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::accumulator::{Accumulator, Append, record_size};
pub use self::delivery::{Deliveries, Delivery, Settled};
use self::memory::Memory;
use self::sender::{Sender, Shared};
use self::transaction::Transaction;
pub(crate) use self::transaction::{Ending, Identity};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::transactions::Coordinator;
use crate::types::{ProducerRecord, TopicPartition};

/// Sends records in batches; clones share the buffer and the order.
///
/// With `enable.idempotence` (the default) every record is written once and, within its partition, in the order of the
/// calls, whatever is retried. `buffer.memory` bounds what is not yet acknowledged: [`Producer::send`] waits for room.
#[derive(Debug, Clone)]
pub struct Producer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: Client,
    shared: Arc<Shared>,
    sender: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.get_mut().take() {
            sender.abort();
        }
    }
}

impl Producer {
    /// A producer with the settings of `client`. Its sender task runs until [`Producer::close`] or until the last clone
    /// is dropped, which fails what is still buffered.
    pub fn new(client: Client) -> Self {
        let config = client.config();
        let memory = Arc::new(Memory::new(config.buffer_memory));
        let transactional_id = config.transactional_id.as_deref().map(ByteString::from);
        let coordinator = transactional_id
            .clone()
            .map(|id| Coordinator::new(client.clone(), id, config.transaction_timeout));
        let transaction = transactional_id.map(Transaction::new);
        let shared = Arc::new(Shared {
            accumulator: Mutex::new(Accumulator::new(config, memory.clone(), transaction)),
            coordinator,
            memory,
            wake: Notify::new(),
            closing: AtomicBool::new(false),
        });
        let sender = tokio::spawn(Sender::new(shared.clone(), client.clone()).run());
        Self { inner: Arc::new(Inner { client, shared, sender: Mutex::new(Some(sender)) }) }
    }

    /// Puts a record into the batch of its partition. Waits up to `max.block.ms` for metadata and buffer space; returns as
    /// soon as the record is buffered. The [`Delivery`] tells where it went; dropping it does not cancel the record.
    ///
    /// # Errors
    /// [`Error::RecordTooLarge`], [`Error::UnknownPartition`], [`Error::Timeout`] (`max.block.ms`; with
    /// [`Error::UnknownTopic`] inside where that is why), [`Error::Closed`]: the record was not buffered.
    pub async fn send(&self, record: ProducerRecord) -> Result<Delivery> {
        self.append(record).await
    }

    /// As [`Producer::send`] for each record, in order. The result resolves to one result a record, in the same order.
    ///
    /// # Errors
    /// The first record that could not be buffered ends it; those before it are sent nevertheless.
    pub async fn send_all(&self, records: Vec<ProducerRecord>) -> Result<Deliveries> {
        let mut deliveries = Deliveries::with_capacity(records.len());
        let mut records = records.into_iter();
        while let Some(stuck) = self.append_many(&mut records, &mut deliveries)? {
            // It has to wait for memory or metadata; what follows it may go on without.
            deliveries.push(self.append(stuck).await?);
        }
        Ok(deliveries)
    }

    /// Produces one whole record batch (magic 2). Its bytes are sent as they are, but an idempotent producer puts its own
    /// id and sequence numbers into the header, so that a retry does not write it twice. Batches for one partition keep
    /// the order of the calls. The [`Delivery`] tells of the first record.
    ///
    /// # Errors
    /// As [`Producer::send`]; [`Error::BadBatch`] where the bytes are not one whole batch; [`Error::Invalid`] for a producer
    /// with transactions.
    pub async fn produce_raw(&self, partition: TopicPartition, batch: Bytes) -> Result<Delivery> {
        let size = batch.len();
        self.take_memory(&partition.topic, size).await?;
        let mut held = Held { memory: &self.inner.shared.memory, bytes: size };
        loop {
            let now = Instant::now();
            let appended = {
                let mut accumulator = self.inner.shared.accumulator.lock();
                self.check_open()?;
                accumulator.append_raw(now, &partition, batch.clone())?
            };
            if let Some(delivery) = appended {
                held.bytes = 0;
                self.inner.shared.wake.notify_one();
                return Ok(delivery);
            }
            self.learn(&partition.topic).await?;
        }
    }

    /// How many partitions a topic has; waits up to `max.block.ms` for it to exist.
    pub async fn partitions_for(&self, topic: &ByteString) -> Result<usize> {
        let topic = self.inner.client.topic(topic, self.inner.client.config().max_block).await?;
        Ok(topic.partitions.len())
    }

    /// Sends everything buffered now without lingering, and waits until each record is acknowledged or has failed.
    /// Failures are told by the deliveries alone.
    pub async fn flush(&self) {
        let outcomes = self.inner.shared.accumulator.lock().flush();
        self.inner.shared.wake.notify_one();
        for outcome in outcomes {
            // Told by the deliveries.
            let _ = outcome.settled().await;
        }
    }

    /// Flushes, then ends the sender. Sends after it fail with [`Error::Closed`]. An open transaction is aborted.
    pub async fn close(&self) {
        self.abort_open().await;
        {
            let _no_append_meanwhile = self.inner.shared.accumulator.lock();
            self.inner.shared.closing.store(true, Ordering::Release);
        }
        self.inner.shared.memory.close();
        self.flush().await;
        let sender = self.inner.sender.lock().take();
        if let Some(sender) = sender {
            self.inner.shared.wake.notify_one();
            // It ends by itself now; that it panicked would have been logged.
            let _ = sender.await;
        }
    }

    /// Ends the producer at once: nothing that is not on its way to a broker yet is sent any more, and nothing can be
    /// added. For one whose owner does not answer any more.
    pub fn abandon(&self) {
        let waiting = {
            let mut accumulator = self.inner.shared.accumulator.lock();
            self.inner.shared.closing.store(true, Ordering::Release);
            accumulator.abandoned = true;
            accumulator.drain()
        };
        self.inner.shared.memory.close();
        // Dropped batches fail as closed.
        drop(waiting);
        self.inner.shared.wake.notify_one();
    }

    /// Appends without waiting, until a record needs that: it is the result.
    fn append_many(
        &self,
        records: &mut std::vec::IntoIter<ProducerRecord>,
        deliveries: &mut Deliveries,
    ) -> Result<Option<ProducerRecord>> {
        let shared = &self.inner.shared;
        let mut wake_sender = false;
        let stuck = self.append_while(records, |delivery, wake| {
            deliveries.push(delivery);
            wake_sender |= wake;
        });
        if wake_sender {
            shared.wake.notify_one();
        }
        stuck
    }

    fn append_while(
        &self,
        records: &mut std::vec::IntoIter<ProducerRecord>,
        mut done: impl FnMut(Delivery, bool),
    ) -> Result<Option<ProducerRecord>> {
        let (now, wall) = (Instant::now(), wall_clock());
        let memory = &self.inner.shared.memory;
        let mut accumulator = self.inner.shared.accumulator.lock();
        self.check_open()?;
        for record in records {
            let size = record_size(&record);
            if self.check_size(&record.topic, size).is_err() || !memory.try_take(size) {
                return Ok(Some(record));
            }
            let mut held = Held { memory, bytes: size };
            match accumulator.append(now, wall, record, size)? {
                Append::Done { delivery, wake } => {
                    held.bytes = 0;
                    done(delivery, wake);
                }
                Append::UnknownTopic(record) => return Ok(Some(record)),
            }
        }
        Ok(None)
    }

    async fn append(&self, record: ProducerRecord) -> Result<Delivery> {
        let mut next = record;
        let shared = &self.inner.shared;
        let size = record_size(&next);
        self.take_memory(&next.topic, size).await?;
        let mut held = Held { memory: &shared.memory, bytes: size };
        loop {
            let (now, wall) = (Instant::now(), wall_clock());
            let appended = {
                let mut accumulator = shared.accumulator.lock();
                self.check_open()?;
                accumulator.append(now, wall, next, size)?
            };
            match appended {
                Append::Done { delivery, wake } => {
                    held.bytes = 0;
                    if wake {
                        shared.wake.notify_one();
                    }
                    return Ok(delivery);
                }
                Append::UnknownTopic(record) => {
                    self.learn(&record.topic).await?;
                    next = record;
                }
            }
        }
    }

    async fn learn(&self, topic: &ByteString) -> Result<()> {
        let found = self.inner.client.topic(topic, self.inner.client.config().max_block).await?;
        self.inner.shared.accumulator.lock().learn(&found);
        Ok(())
    }

    async fn take_memory(&self, topic: &ByteString, size: usize) -> Result<()> {
        self.check_size(topic, size)?;
        let shared = &self.inner.shared;
        let max_block = self.inner.client.config().max_block;
        shared.memory.take(size, max_block, || shared.wake.notify_one()).await
    }

    fn check_size(&self, topic: &ByteString, size: usize) -> Result<()> {
        let request = self.inner.client.config().max_request_size;
        let memory = self.inner.shared.memory.limit();
        let (setting, limit) =
            if request <= memory { ("max.request.size", request) } else { ("buffer.memory", memory) };
        if size > limit {
            return Err(Error::RecordTooLarge { topic: topic.to_string(), size, setting, limit });
        }
        Ok(())
    }

    fn check_open(&self) -> Result<()> {
        if self.inner.shared.closing.load(Ordering::Acquire) {
            return Err(Error::Closed("producer"));
        }
        Ok(())
    }
}

/// Memory that was taken for a record and goes back unless the record is appended.
struct Held<'a> {
    memory: &'a Memory,
    bytes: usize,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.memory.give(self.bytes);
        }
    }
}

/// Milliseconds since 1970, for records that come without a timestamp.
fn wall_clock() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
