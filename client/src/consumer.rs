//! Consuming: partitions of one's own choice, or as a member of a group.

mod assignor;
mod chunk;
mod fetch;
mod fetcher;
mod group_consumer;
mod partition_consumer;
mod positions;
mod protocol;
mod reader;
mod round;

pub use self::chunk::FetchedBatches;
pub use self::group_consumer::{ConsumerEvent, GroupConsumer, Subscription};
pub use self::partition_consumer::PartitionConsumer;

/// The partitions in the assignment of a consumer; none where the bytes are no assignment.
pub(crate) fn assigned_partitions(
    assignment: &bytes::Bytes,
) -> std::collections::BTreeSet<crate::TopicPartition> {
    protocol::decode_assignment(assignment.clone()).unwrap_or_default().into_iter().collect()
}
