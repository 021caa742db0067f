//! Consuming: partitions of one's own choice, or as a member of a group.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use aqueduct_protocol::ids::{LeaderEpoch, Offset};
use bytes::Bytes;
use bytestring::ByteString;

use crate::client::Client;
use crate::error::{Error, Result};
use crate::types::{ConsumerRecord, OffsetAndMetadata, OffsetSpec, TopicPartition};

/// What one Fetch brought of one partition, as the broker stores it.
#[derive(Debug, Clone)]
pub struct FetchedBatches {
    pub partition: TopicPartition,
    /// The position that was asked for; the first batch may begin before it.
    pub fetch_offset: Offset,
    /// Whole record batches, one after the other; a batch cut short at the end is already taken off.
    pub batches: Bytes,
    pub high_watermark: Offset,
    pub log_start_offset: Offset,
    pub leader_epoch: LeaderEpoch,
}

/// Reads partitions that the caller assigns; no group is involved.
///
/// A partition without a position starts as `auto.offset.reset` says. All methods are cancel-safe: a dropped poll loses
/// nothing.
#[derive(Debug)]
pub struct PartitionConsumer {}

impl PartitionConsumer {
    /// A consumer with the settings of `client` and no partitions.
    pub fn new(_client: Client) -> Self {
        Self {}
    }

    /// Replaces the assignment. Partitions that stay keep position and buffered records.
    pub fn assign(&mut self, _partitions: impl IntoIterator<Item = TopicPartition>) {}

    /// Assigns all partitions of `topic`; returns them.
    pub async fn assign_topic(&mut self, _topic: &str) -> Result<Vec<TopicPartition>> {
        Err(Error::Closed("consumer"))
    }

    /// The partitions assigned now.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        Vec::new()
    }

    /// Sets where the next poll reads from. An error if the partition is not assigned.
    pub fn seek(&mut self, _partition: &TopicPartition, _offset: Offset) -> Result<()> {
        Err(Error::Closed("consumer"))
    }

    /// Sets where the next poll reads from; the offset is looked up when it is needed.
    pub fn seek_to(&mut self, _partition: &TopicPartition, _spec: OffsetSpec) -> Result<()> {
        Err(Error::Closed("consumer"))
    }

    /// Offset of the next record that `poll` would return; `None` until it is known.
    pub fn position(&self, _partition: &TopicPartition) -> Option<Offset> {
        None
    }

    /// Stops returning records of these partitions until they are resumed.
    pub fn pause(&mut self, _partitions: &[TopicPartition]) {}

    /// Ends a pause.
    pub fn resume(&mut self, _partitions: &[TopicPartition]) {}

    /// Up to `max.poll.records` records, in offset order within each partition; empty when `timeout` passed without any.
    pub async fn poll(&mut self, _timeout: Duration) -> Result<Vec<ConsumerRecord>> {
        Err(Error::Closed("consumer"))
    }

    /// As [`PartitionConsumer::poll`], but the bytes as they came. Do not mix both on one consumer.
    pub async fn poll_batches(&mut self, _timeout: Duration) -> Result<Vec<FetchedBatches>> {
        Err(Error::Closed("consumer"))
    }

    /// Reads all assigned partitions up to the ends that they have now, and gives each record to `each`.
    pub async fn read_to_end(&mut self, _each: impl FnMut(ConsumerRecord)) -> Result<()> {
        Err(Error::Closed("consumer"))
    }

    /// Looks up offsets of any partitions.
    pub async fn offsets(
        &self,
        _partitions: &[TopicPartition],
        _spec: OffsetSpec,
    ) -> Result<HashMap<TopicPartition, Offset>> {
        Err(Error::Closed("consumer"))
    }
}

/// What a group consumer reads.
#[derive(Debug, Clone)]
pub enum Subscription {
    /// These topics.
    Topics(Vec<ByteString>),
    /// All topics whose whole name matches, internal ones excluded; new ones are found when metadata is refreshed.
    Pattern(regex::Regex),
}

/// What a poll of a group consumer brings.
#[derive(Debug)]
pub enum ConsumerEvent {
    /// Records, in offset order within each partition; never empty.
    Records(Vec<ConsumerRecord>),
    /// These partitions were added; the positions are those committed, or as `auto.offset.reset` says.
    Assigned(Vec<TopicPartition>),
    /// These partitions are about to be given up: they are still owned until the next poll, so commit now.
    Revoked(Vec<TopicPartition>),
    /// These partitions are gone, perhaps owned by others already; committing them fails.
    Lost(Vec<TopicPartition>),
    /// The time passed with nothing to tell.
    Idle,
}

/// A member of a classic consumer group.
#[derive(Debug)]
pub struct GroupConsumer {}

impl GroupConsumer {
    /// A member of `group.id`; it joins with the first poll.
    ///
    /// # Errors
    /// [`Error::Config`] without a `group.id`.
    pub fn new(_client: Client, _subscription: Subscription) -> Result<Self> {
        Err(Error::Closed("consumer"))
    }

    /// Records or a rebalance event, whichever comes first within `timeout`. Has to be called every
    /// `max.poll.interval.ms`; heartbeats go on in between. Cancel-safe.
    pub async fn poll(&mut self, _timeout: Duration) -> Result<ConsumerEvent> {
        Err(Error::Closed("consumer"))
    }

    /// Commits offsets for partitions that this member owns. The future may be spawned; commits are retried within
    /// `default.api.timeout.ms`.
    ///
    /// # Errors
    /// [`Error::NotAMember`] where the group has moved on: the partitions are lost.
    pub fn commit(
        &self,
        _offsets: HashMap<TopicPartition, OffsetAndMetadata>,
    ) -> impl Future<Output = Result<()>> + Send + 'static {
        async { Err(Error::Closed("consumer")) }
    }

    /// Committed offsets; partitions without one are missing.
    pub async fn committed(
        &self,
        _partitions: &[TopicPartition],
    ) -> Result<HashMap<TopicPartition, OffsetAndMetadata>> {
        Err(Error::Closed("consumer"))
    }

    /// The partitions owned now.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        Vec::new()
    }

    /// As [`PartitionConsumer::position`].
    pub fn position(&self, _partition: &TopicPartition) -> Option<Offset> {
        None
    }

    /// As [`PartitionConsumer::seek`].
    pub fn seek(&mut self, _partition: &TopicPartition, _offset: Offset) -> Result<()> {
        Err(Error::Closed("consumer"))
    }

    /// As [`PartitionConsumer::pause`].
    pub fn pause(&mut self, _partitions: &[TopicPartition]) {}

    /// As [`PartitionConsumer::resume`].
    pub fn resume(&mut self, _partitions: &[TopicPartition]) {}

    /// Leaves the group and closes the connections; does not commit.
    pub async fn close(self) -> Result<()> {
        Ok(())
    }
}
