//! Partitions that hold the state of coordinators.

use std::sync::Arc;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{LeaderEpoch, Offset, PartitionIndex};
use aqueduct_storage::Terms;
use async_trait::async_trait;
use bytes::Bytes;

use super::Partitions;
use crate::partition::Partition;
use crate::state_log::StateLog;

/// A partition for as long as one reign of this node over it lasts.
struct Reigned {
    partition: Arc<Partition>,
    epoch: LeaderEpoch,
}

#[async_trait]
impl StateLog for Reigned {
    async fn append(&self, batch: Bytes, terms: Terms) -> Result<Offset, ErrorCode> {
        match self.partition.leads() == Some(self.epoch) {
            true => StateLog::append(&self.partition, batch, terms).await,
            false => Err(ErrorCode::NotLeaderOrFollower),
        }
    }

    async fn read(&self, from: Offset, max_bytes: usize) -> Result<Bytes, ErrorCode> {
        StateLog::read(&self.partition, from, max_bytes).await
    }

    fn start_offset(&self) -> Offset {
        self.partition.start_offset()
    }

    fn end_offset(&self) -> Offset {
        self.partition.end_offset()
    }
}

impl Partitions {
    /// The log of a partition that this node leads in `epoch`.
    ///
    /// # Errors
    /// `NOT_LEADER_OR_FOLLOWER` where it leads the partition in another epoch or does not, yet or any more.
    pub async fn state_log(
        self: Arc<Self>,
        topic: &str,
        index: i32,
        epoch: LeaderEpoch,
    ) -> Result<Arc<dyn StateLog>, ErrorCode> {
        let partition = self.by_name(topic, PartitionIndex(index)).await?;
        // A node alone keeps a log open over epochs: nobody else writes to it.
        let is_alone = !self.metadata.image().is_controlled();
        if !is_alone && partition.leads() != Some(epoch) {
            // The news of the reign may not have come to the partition yet.
            self.settle_soon(&partition).await;
        }
        match (is_alone, partition.leads() == Some(epoch)) {
            (true, _) => Ok(Arc::new(partition)),
            (false, true) => Ok(Arc::new(Reigned { partition, epoch })),
            (false, false) => Err(ErrorCode::NotLeaderOrFollower),
        }
    }
}
