//! Consuming: partitions of one's own choice, or as a member of a group.

mod chunk;
mod fetch;
mod fetcher;
mod partition_consumer;
mod positions;
mod reader;

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use aqueduct_protocol::ids::Offset;
use bytestring::ByteString;

pub use self::chunk::FetchedBatches;
pub use self::partition_consumer::PartitionConsumer;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::types::{ConsumerRecord, OffsetAndMetadata, TopicPartition};

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
