//! Reading partitions of one's own choice.

use std::collections::HashMap;
use std::time::Duration;

use aqueduct_protocol::ids::Offset;
use tokio::time::Instant;

use super::chunk::FetchedBatches;
use super::reader::Reader;
use crate::client::Client;
use crate::config::IsolationLevel;
use crate::error::{Error, Result};
use crate::offsets;
use crate::types::{ConsumerRecord, OffsetSpec, TopicPartition};

/// Reads partitions that the caller assigns; no group is involved.
///
/// A partition without a position starts as `auto.offset.reset` says. All methods are cancel-safe: a dropped poll loses
/// nothing.
#[derive(Debug)]
pub struct PartitionConsumer {
    client: Client,
    reader: Reader,
}

impl PartitionConsumer {
    /// A consumer with the settings of `client` and no partitions.
    pub fn new(client: Client) -> Self {
        Self { reader: Reader::new(client.clone()), client }
    }

    /// Replaces the assignment. Partitions that stay keep position and buffered records.
    ///
    /// # Errors
    /// [`Error::NoOffset`] with `auto.offset.reset=none`: use [`PartitionConsumer::assign_at`] then.
    pub fn assign(&mut self, partitions: impl IntoIterator<Item = TopicPartition>) -> Result<()> {
        self.reader.assign(partitions.into_iter().map(|partition| (partition, None)).collect())
    }

    /// As [`PartitionConsumer::assign`]; partitions that are new start at the given offsets.
    pub fn assign_at(
        &mut self,
        partitions: impl IntoIterator<Item = (TopicPartition, Offset)>,
    ) -> Result<()> {
        self.reader.assign(partitions.into_iter().map(|(partition, at)| (partition, Some(at))).collect())
    }

    /// Assigns all partitions of `topic`, for which it waits up to `default.api.timeout.ms`; returns them.
    pub async fn assign_topic(&mut self, topic: &str) -> Result<Vec<TopicPartition>> {
        let limit = self.client.config().default_api_timeout;
        let found = self.client.topic(&topic.into(), limit).await?;
        let partitions = found
            .partitions
            .iter()
            .map(|partition| TopicPartition { topic: found.name.clone(), partition: partition.partition });
        let partitions: Vec<TopicPartition> = partitions.collect();
        self.assign(partitions.iter().cloned())?;
        Ok(partitions)
    }

    /// The partitions assigned now, sorted.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.reader.assignment()
    }

    /// Sets where the next poll reads from. An error if the partition is not assigned.
    pub fn seek(&mut self, partition: &TopicPartition, offset: Offset) -> Result<()> {
        self.reader.seek(partition, offset)
    }

    /// Sets where the next poll reads from; the offset is looked up when it is needed.
    pub fn seek_to(&mut self, partition: &TopicPartition, spec: OffsetSpec) -> Result<()> {
        self.reader.seek_to(partition, spec)
    }

    /// Offset of the next record that `poll` would return; `None` until it is known.
    pub fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        self.reader.position(partition)
    }

    /// Stops returning records of these partitions until they are resumed.
    pub fn pause(&mut self, partitions: &[TopicPartition]) {
        self.reader.set_paused(partitions, true);
    }

    /// Ends a pause.
    pub fn resume(&mut self, partitions: &[TopicPartition]) {
        self.reader.set_paused(partitions, false);
    }

    /// The partitions that are paused.
    pub fn paused(&self) -> Vec<TopicPartition> {
        self.reader.paused()
    }

    /// Up to `max.poll.records` records, in offset order within each partition; empty when `timeout` passed without any.
    pub async fn poll(&mut self, timeout: Duration) -> Result<Vec<ConsumerRecord>> {
        let most = self.client.config().max_poll_records;
        self.reader.records(most, Instant::now() + timeout).await
    }

    /// As [`PartitionConsumer::poll`], but the bytes of one fetched partition as they came; `None` when `timeout` passed
    /// without any. Do not mix both on one consumer. Batches of aborted transactions and control batches are included.
    pub async fn poll_batches(&mut self, timeout: Duration) -> Result<Option<FetchedBatches>> {
        self.reader.batches(Instant::now() + timeout).await
    }

    /// Reads all assigned partitions up to the ends that they have now, and gives each record to `each`. With
    /// `isolation.level=read_committed` that includes transactions that are open now: it waits until they have ended. What failed to be
    /// read is retried for `default.api.timeout.ms` without progress.
    pub async fn read_to_end(&mut self, each: impl FnMut(ConsumerRecord)) -> Result<()> {
        self.read_up_to(IsolationLevel::ReadUncommitted, each).await
    }

    /// As [`PartitionConsumer::read_to_end`], but with `isolation.level=read_committed` only up to the first transaction
    /// that is open now.
    pub async fn read_to_stable_end(&mut self, each: impl FnMut(ConsumerRecord)) -> Result<()> {
        self.read_up_to(self.client.config().isolation_level, each).await
    }

    async fn read_up_to(
        &mut self,
        isolation: IsolationLevel,
        mut each: impl FnMut(ConsumerRecord),
    ) -> Result<()> {
        let limit = self.client.config().default_api_timeout;
        self.reader.fetcher.find_positions(Instant::now() + limit).await?;
        // Not through `self`, so that the future is `Send`.
        let (client, assignment) = (self.client.clone(), self.assignment());
        let mut ends = look_up(&client, &assignment, OffsetSpec::Latest, isolation).await?;
        loop {
            ends.retain(|partition, end| self.position(partition).is_some_and(|at| at < *end));
            if ends.is_empty() {
                return Ok(());
            }
            let most = self.client.config().max_poll_records;
            // What ends the log may be invisible: nobody else's record is to be waited for.
            let (records, is_late) = self.reader.step(most, Instant::now() + limit).await?;
            if is_late {
                let left = ends.keys().next().map_or(String::new(), ToString::to_string);
                let what = format!("reading {left} to its end");
                return Err(Error::Timeout { what, after: limit, last: None });
            }
            records.into_iter().for_each(&mut each);
        }
    }

    /// Looks up offsets of any partitions; the first failure fails it all.
    pub async fn offsets(
        &self,
        partitions: &[TopicPartition],
        spec: OffsetSpec,
    ) -> Result<HashMap<TopicPartition, Offset>> {
        look_up(&self.client, partitions, spec, self.client.config().isolation_level).await
    }
}

async fn look_up(
    client: &Client,
    partitions: &[TopicPartition],
    spec: OffsetSpec,
    isolation: IsolationLevel,
) -> Result<HashMap<TopicPartition, Offset>> {
    let config = client.config();
    let wanted = partitions.iter().map(|partition| (partition.clone(), spec)).collect();
    let found = offsets::list(client, wanted, isolation, config.default_api_timeout).await;
    found.into_iter().map(|(partition, listed)| Ok((partition, listed?.offset))).collect()
}
