//! All batches of a producer, by topic and partition. Pure: time comes in, batches come out.

use std::collections::HashMap;
use std::sync::Arc;

use aqueduct_protocol::ids::{BrokerId, Offset, PartitionIndex, ProducerId, Uuid};
use aqueduct_protocol::records::{BatchBuilder, BatchHeader, Compression, RecordBatch};
use bytes::Bytes;
use bytestring::ByteString;
use tokio::time::Instant;

use super::batch::Batch;
use super::delivery::{Delivery, Outcome};
use super::memory::Memory;
use super::partitioner::{self, Sticky};
use super::queue::{Numbering, PartitionQueue, QueueOptions};
use super::transaction::Transaction;
use crate::config::ClientConfig;
use crate::error::{Error, Result};
use crate::metadata::{Metadata, TopicMetadata};
use crate::types::{ProducerRecord, TopicPartition};

/// Batches for one partition and all others.
#[derive(Debug)]
pub(super) struct Accumulator {
    queue_options: QueueOptions,
    batch_size: usize,
    compression: Compression,
    level: Option<i32>,
    memory: Arc<Memory>,
    topics: HashMap<ByteString, Topic>,
    queues: Vec<PartitionQueue>,
    /// Where the next round over the queues begins, so that none is always last.
    start: usize,
    /// Nothing is to be sent any more.
    pub(super) abandoned: bool,
    /// Of a producer with a `transactional.id`.
    pub(super) transaction: Option<Transaction>,
}

/// What is known of a topic.
#[derive(Debug, Default)]
struct Topic {
    /// How many partitions it has.
    count: usize,
    /// Those with a leader.
    available: Vec<i32>,
    sticky: Sticky,
    /// The queue of each partition, once it has one.
    queues: Vec<Option<usize>>,
}

/// What became of an append.
#[derive(Debug)]
pub(super) enum Append {
    /// The record is in a batch. `wake` says that the sender has to look.
    Done { delivery: Delivery, wake: bool },
    /// The topic is not known here yet; the record comes back.
    UnknownTopic(ProducerRecord),
}

/// A batch that was taken to be sent.
#[derive(Debug)]
pub(super) struct Taken {
    /// Index of its queue.
    pub(super) queue: usize,
    pub(super) partition: TopicPartition,
    /// Id of its topic when it was taken.
    pub(super) id: Uuid,
    pub(super) batch: Batch,
}

/// What there is to send to one broker, or to do before.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// Leaders that have batches due.
    pub(super) brokers: Vec<BrokerId>,
    /// Some partition with a batch has no leader.
    pub(super) leaderless: bool,
    /// Some partition has to become part of the transaction first.
    pub(super) joins: bool,
    /// When to look again, if nothing else happens.
    pub(super) next: Option<Instant>,
}

impl Accumulator {
    pub(super) fn new(config: &ClientConfig, memory: Arc<Memory>, transaction: Option<Transaction>) -> Self {
        let (compression, level) = config.compression();
        let queue_options = QueueOptions {
            linger: config.linger,
            max_in_flight: config.max_in_flight_requests_per_connection,
            retries: config.retries,
            backoff: config.retry_backoff,
            delivery_timeout: config.delivery_timeout,
            transactional: transaction.is_some(),
        };
        Self {
            queue_options,
            batch_size: config.batch_size,
            compression,
            level,
            memory,
            topics: HashMap::new(),
            queues: Vec::new(),
            start: 0,
            abandoned: false,
            transaction,
        }
    }

    /// Takes over how many partitions a topic has, and which of them have leaders.
    pub(super) fn learn(&mut self, topic: &TopicMetadata) {
        let known = self.topics.entry(topic.name.clone()).or_default();
        known.count = topic.partitions.len();
        let led = topic.partitions.iter().filter(|partition| partition.leader.is_some());
        known.available = led.map(|partition| partition.partition.0).collect();
    }

    /// Takes over what an image says of the topics in use.
    pub(super) fn learn_all(&mut self, image: &Metadata) {
        let known: Vec<&TopicMetadata> = self
            .topics
            .keys()
            .filter_map(|name| image.topic(name))
            .filter(|t| !t.partitions.is_empty())
            .collect();
        for topic in known {
            self.learn(topic);
        }
    }

    /// Names of the topics in use.
    pub(super) fn topics(&self) -> Vec<ByteString> {
        self.topics.keys().cloned().collect()
    }

    /// Puts a record into a batch. `size` is what [`record_size`] says, for which memory was taken; on error it is still
    /// the caller's. `wall` is the time of day for records without a timestamp.
    pub(super) fn append(
        &mut self,
        now: Instant,
        wall: i64,
        record: ProducerRecord,
        size: usize,
    ) -> Result<Append> {
        self.check_transaction()?;
        let Some(topic) = self.topics.get_mut(&record.topic) else { return Ok(Append::UnknownTopic(record)) };
        let partition = match (record.partition, &record.key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => PartitionIndex(partitioner::for_key(key, topic.count)),
            (None, None) => PartitionIndex(topic.sticky.next(
                size,
                self.batch_size,
                &topic.available,
                topic.count,
                rand::random,
            )),
        };
        check_partition(&record.topic, partition, topic.count)?;
        let at = queue_of(&mut self.queues, topic, &record.topic, partition, self.queue_options);
        let queue = &mut self.queues[at];
        let timestamp = record.timestamp.unwrap_or(wall);
        let fits = |batch: &mut Batch| batch.size() + size <= self.batch_size;
        let mut wake = false;
        if !queue.open_batch().is_some_and(fits) {
            let order = queue.order();
            let builder = BatchBuilder::new(self.compression)
                .reserve(self.batch_size.max(size))
                .transactional(self.queue_options.transactional);
            let builder = match self.level {
                Some(level) => builder.compression_level(level),
                None => builder,
            };
            let deadline = now + self.queue_options.delivery_timeout;
            queue.begin(Batch::open(order, builder, deadline, self.memory.clone()), now);
            wake = true;
        }
        let batch = queue.open_batch().expect("there was one or it was begun just now");
        let index = batch.records as u32;
        let builder = batch.builder().expect("the open batch is open");
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        builder.append(timestamp, key, value, &record.headers).map_err(|why| {
            Error::Invalid(format!("record for {}-{partition} cannot be written: {why}", record.topic))
        })?;
        batch.grown(size);
        let delivery = Delivery { outcome: batch.outcome.clone(), index, timestamp };
        if batch.size() >= self.batch_size {
            queue.close_open();
            wake = true;
        }
        Ok(Append::Done { delivery, wake })
    }

    /// Adds a whole batch, for which its length of memory was taken; on error it is still the caller's. `None` where the
    /// topic is not known here yet.
    pub(super) fn append_raw(
        &mut self,
        now: Instant,
        to: &TopicPartition,
        bytes: Bytes,
    ) -> Result<Option<Delivery>> {
        self.check_transaction()?;
        if self.transaction.is_some() {
            return Err(Error::Invalid(
                "whole batches cannot be part of a transaction; send records".to_owned(),
            ));
        }
        let Some(topic) = self.topics.get_mut(&to.topic) else { return Ok(None) };
        check_partition(&to.topic, to.partition, topic.count)?;
        let header = parse_raw(to, &bytes)?;
        let at = queue_of(&mut self.queues, topic, &to.topic, to.partition, self.queue_options);
        let queue = &mut self.queues[at];
        let (order, deadline) = (queue.order(), now + self.queue_options.delivery_timeout);
        let batch = Batch::sealed(order, bytes, header.record_count, deadline, self.memory.clone());
        let delivery = Delivery { outcome: batch.outcome.clone(), index: 0, timestamp: header.max_timestamp };
        queue.push(batch);
        Ok(Some(delivery))
    }

    /// Ends all lingering, and gives the outcomes of everything that is not settled.
    pub(super) fn flush(&mut self) -> Vec<Arc<Outcome>> {
        self.queues.iter_mut().for_each(PartitionQueue::close_open);
        self.queues.iter().flat_map(PartitionQueue::outcomes).collect()
    }

    fn check_transaction(&self) -> Result<()> {
        self.transaction.as_ref().map_or(Ok(()), Transaction::check_append)
    }

    /// Takes out everything that is not on its way.
    pub(super) fn drain(&mut self) -> Vec<Batch> {
        self.queues.iter_mut().flat_map(PartitionQueue::drain).collect()
    }

    /// What will not be sent because the producer or its transaction is given up.
    pub(super) fn doomed(&mut self) -> Vec<(Batch, Error)> {
        let error = match (self.abandoned, &self.transaction) {
            (true, _) => Some(Error::Closed("producer")),
            (false, transaction) => transaction.as_ref().and_then(Transaction::dooms),
        };
        let Some(error) = error else { return Vec::new() };
        self.drain().into_iter().map(|batch| (batch, error.clone())).collect()
    }

    /// Whether nothing is left to send or to wait for.
    pub(super) fn is_idle(&self) -> bool {
        self.queues.iter().all(PartitionQueue::is_idle)
    }

    /// Takes out what waited for too long.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<(Batch, Error)> {
        let mut expired = Vec::new();
        for queue in &mut self.queues {
            queue.expire(now, &mut expired);
        }
        if let Some(transaction) = &mut self.transaction {
            expired.iter().for_each(|(batch, error)| transaction.failed(error, batch.attempts > 0));
        }
        expired
    }

    /// Which brokers have batches due.
    pub(super) fn due(&mut self, now: Instant, image: &Metadata) -> Due {
        let hurry = self.memory.is_short();
        let mut due = Due::default();
        for queue in &self.queues {
            if queue.is_due(now, hurry) {
                let joined = |t: &mut Transaction| t.admits(&queue.partition);
                match image.leader(&queue.partition.topic, queue.partition.partition) {
                    Some(_) if !self.transaction.as_mut().is_none_or(joined) => {}
                    Some(leader) if due.brokers.contains(&leader.id) => {}
                    Some(leader) => due.brokers.push(leader.id),
                    None => due.leaderless = true,
                }
            }
            let next = queue.next_event().filter(|at| *at > now);
            due.next = due.next.into_iter().chain(next).min();
        }
        due.joins = self.transaction.as_ref().is_some_and(Transaction::has_wanted);
        due
    }

    /// Takes one batch of each due partition that `broker` leads, up to `limit` bytes, but at least one.
    pub(super) fn take(
        &mut self,
        now: Instant,
        image: &Metadata,
        broker: BrokerId,
        limit: usize,
        numbering: Option<Numbering>,
    ) -> Vec<Taken> {
        let hurry = self.memory.is_short();
        let (count, mut size, mut taken) = (self.queues.len(), 0, Vec::new());
        let start = self.start;
        for step in 0..count {
            let at = (start + step) % count;
            let queue = &mut self.queues[at];
            let leads = |queue: &PartitionQueue| {
                image
                    .leader(&queue.partition.topic, queue.partition.partition)
                    .is_some_and(|leader| leader.id == broker)
            };
            if !queue.is_due(now, hurry) || !leads(queue) {
                continue;
            }
            let joined = |t: &mut Transaction| t.admits(&queue.partition);
            if !self.transaction.as_mut().is_none_or(joined) {
                continue;
            }
            size += queue.next_size();
            if size > limit && !taken.is_empty() {
                self.start = at;
                break;
            }
            let partition = queue.partition.clone();
            let id = image.topic(&partition.topic).map_or(Uuid::ZERO, |topic| topic.id);
            if let Some(transaction) = &mut self.transaction {
                transaction.sending(&partition);
            }
            taken.extend(queue.take(numbering).map(|batch| Taken { queue: at, partition, id, batch }));
        }
        taken
    }

    /// The queue with that index.
    pub(super) fn queue(&mut self, at: usize) -> &mut PartitionQueue {
        &mut self.queues[at]
    }

    /// Whether some partition has used up the epochs of `id`.
    pub(super) fn used_up(&self, id: ProducerId) -> bool {
        self.queues.iter().any(|queue| queue.used_up() == Some(id))
    }
}

/// Bytes that a record takes in a batch at most, the batch's own header aside.
pub(super) fn record_size(record: &ProducerRecord) -> usize {
    BatchBuilder::record_size_bound(record.key.as_deref(), record.value.as_deref(), &record.headers)
}

fn check_partition(topic: &ByteString, partition: PartitionIndex, count: usize) -> Result<()> {
    if usize::try_from(partition.0).is_ok_and(|index| index < count) {
        return Ok(());
    }
    Err(Error::UnknownPartition { partition: TopicPartition { topic: topic.clone(), partition }, count })
}

fn parse_raw(to: &TopicPartition, bytes: &Bytes) -> Result<BatchHeader> {
    let batch = RecordBatch::parse(bytes.clone()).map_err(|why| {
        let why = why.to_string();
        Error::BadBatch { partition: to.clone(), offset: Offset(0), why }
    })?;
    Ok(batch.header)
}

fn queue_of(
    queues: &mut Vec<PartitionQueue>,
    topic: &mut Topic,
    name: &ByteString,
    partition: PartitionIndex,
    options: QueueOptions,
) -> usize {
    // Not negative: it was checked against the topic's count.
    let index = usize::try_from(partition.0).unwrap_or_default();
    if topic.queues.len() <= index {
        topic.queues.resize(index + 1, None);
    }
    *topic.queues[index].get_or_insert_with(|| {
        queues.push(PartitionQueue::new(TopicPartition { topic: name.clone(), partition }, options));
        queues.len() - 1
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aqueduct_protocol::ids::LeaderEpoch;

    use super::*;
    use crate::metadata::{Broker, PartitionMetadata};

    fn image(leaders: &[i32]) -> Metadata {
        let partitions = (0..).zip(leaders).map(|(index, leader)| PartitionMetadata {
            partition: PartitionIndex(index),
            leader: Some(BrokerId(*leader)).filter(|id| id.0 >= 0),
            leader_epoch: LeaderEpoch(0),
            replicas: Vec::new(),
            isr: Vec::new(),
        });
        let topic = TopicMetadata {
            name: "t".into(),
            id: Default::default(),
            internal: false,
            partitions: partitions.collect(),
        };
        let broker = |id| Broker { id: BrokerId(id), host: "h".into(), port: 1, rack: None };
        let mut image = Metadata::empty();
        image.brokers = [1, 2].map(|id| (BrokerId(id), broker(id))).into();
        image.topics.insert("t".into(), topic);
        image
    }

    fn accumulator(settings: &[(&str, &str)], image: &Metadata) -> Accumulator {
        let all = settings.iter().copied().chain([("bootstrap.servers", "h:1")]);
        let (config, _) = ClientConfig::from_properties(all).expect("valid");
        let mut accumulator = Accumulator::new(&config, Arc::new(Memory::new(1 << 20)), None);
        accumulator.learn(image.topic("t").expect("there"));
        accumulator
    }

    fn append(accumulator: &mut Accumulator, now: Instant, record: ProducerRecord) -> bool {
        let size = record_size(&record);
        match accumulator.append(now, 1000, record, size).expect("appended") {
            Append::Done { wake, .. } => wake,
            Append::UnknownTopic(record) => panic!("{record:?}"),
        }
    }

    #[test]
    fn batches_fill_up_and_wake_the_sender_once() {
        let now = Instant::now();
        let image = image(&[1]);
        let mut accumulator = accumulator(&[("batch.size", "1000"), ("linger.ms", "10")], &image);
        let record = || ProducerRecord::new("t", vec![0; 300]).with_partition(0);
        let wakes: Vec<bool> = (0..5).map(|_| append(&mut accumulator, now, record())).collect();
        assert_eq!(wakes, [true, false, true, false, true], "first in a batch");
        let due = accumulator.due(now, &image);
        assert_eq!(due.brokers, [BrokerId(1)]);
        let taken = accumulator.take(now, &image, BrokerId(1), 1 << 20, None);
        assert_eq!(taken.iter().map(|taken| taken.batch.records).collect::<Vec<_>>(), [2], "one a partition");
        assert_eq!(accumulator.take(now, &image, BrokerId(1), 1 << 20, None).len(), 1);
        assert!(accumulator.take(now, &image, BrokerId(1), 1 << 20, None).is_empty(), "the last one lingers");
        assert_eq!(accumulator.due(now, &image).next, Some(now + Duration::from_millis(10)));
        assert_eq!(accumulator.flush().len(), 3);
        assert_eq!(accumulator.take(now, &image, BrokerId(1), 1 << 20, None).len(), 1);
    }

    #[test]
    fn requests_are_limited_and_every_partition_gets_its_turn() {
        let now = Instant::now();
        let image = image(&[1, 1, 1, 2, -1]);
        let mut accumulator = accumulator(&[("linger.ms", "0")], &image);
        for partition in 0..5 {
            let record = ProducerRecord::new("t", vec![0; 300]).with_partition(partition);
            append(&mut accumulator, now, record);
        }
        let due = accumulator.due(now, &image);
        assert_eq!(due.brokers, [BrokerId(1), BrokerId(2)]);
        assert!(due.leaderless);
        let mut take = || {
            let taken = accumulator.take(now, &image, BrokerId(1), 800, None);
            taken.iter().map(|taken| taken.queue).collect::<Vec<_>>()
        };
        assert_eq!([take(), take(), take()], [vec![0, 1], vec![2], vec![]]);
    }

    #[test]
    fn refuses_partitions_that_are_not_there_and_asks_for_unknown_topics() {
        let now = Instant::now();
        let mut accumulator = accumulator(&[], &image(&[1, 1]));
        let error = accumulator.append(now, 0, ProducerRecord::new("t", "x").with_partition(2), 100);
        assert_eq!(error.expect_err("refused").to_string(), "t-2 does not exist: the topic has 2 partitions");
        let append = accumulator.append(now, 0, ProducerRecord::new("u", "x"), 100).expect("no error");
        assert!(matches!(append, Append::UnknownTopic(_)));
    }
}
