//! Partitions that hold the state of coordinators.

use std::sync::Arc;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{LeaderEpoch, PartitionIndex};

use super::Partitions;
use crate::state_log::StateLog;

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
        match is_alone || partition.leads() == Some(epoch) {
            true => Ok(Arc::new(partition)),
            false => Err(ErrorCode::NotLeaderOrFollower),
        }
    }
}
