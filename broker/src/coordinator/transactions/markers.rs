//! Writes transaction markers into the partitions that this broker leads.

use std::sync::Arc;

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::ids::PartitionIndex;
use aqueduct_protocol::records::{BatchBuilder, EndTransactionMarker};
use aqueduct_storage::Terms;

use super::effect::{Marked, Markers};
use super::transaction::Place;
use crate::clock::Clock;
use crate::coordinator::effect::Reply;
use crate::coordinator::{Coordinator, Marker};
use crate::metadata::MetadataBackend;
use crate::node::OFFSETS_TOPIC;
use crate::partitions::Partitions;

/// Ends transactions in partitions; cheap to clone.
#[derive(Clone)]
pub(crate) struct MarkerWriter {
    pub metadata: Arc<dyn MetadataBackend>,
    pub partitions: Arc<Partitions>,
    pub groups: Coordinator,
    pub clock: Clock,
}

impl MarkerWriter {
    /// Writes one marker; returns when it has taken effect. Offsets of groups are ended by their coordinator.
    pub async fn write(&self, topic: &str, index: i32, marker: Marker) -> ErrorCode {
        if topic == OFFSETS_TOPIC {
            return self.end_offsets(index, marker).await;
        }
        let partition = match self.partitions.by_name(topic, PartitionIndex(index)).await {
            Ok(partition) => partition,
            Err(code) => return code,
        };
        let end =
            EndTransactionMarker { committed: marker.committed, coordinator_epoch: marker.coordinator_epoch };
        let batch = BatchBuilder::end_transaction(marker.producer, marker.epoch, self.clock.now_ms(), end);
        let bytes = match batch.finish() {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::error!(%error, "transaction marker cannot be written");
                return ErrorCode::UnknownServerError;
            }
        };
        match partition.append(bytes, Terms::marker(marker.transaction_version)) {
            Ok(_) => ErrorCode::None,
            Err(error) => {
                tracing::warn!(partition = %partition.name(), %error, "transaction marker is not written");
                partition.code(&error)
            }
        }
    }

    async fn end_offsets(&self, index: i32, marker: Marker) -> ErrorCode {
        let reply = match self.groups.shard_of(index) {
            Ok(shard) => shard.ask(move |groups, now, token| groups.on_marker(now, token, marker)).await,
            Err(code) => Err(code),
        };
        match reply {
            Ok(Reply::Marker(code)) => leader_error(code),
            Ok(_) => ErrorCode::UnknownServerError,
            Err(code) => leader_error(code),
        }
    }

    /// Writes all of a transaction's markers, and tells what became of each.
    pub(super) async fn write_all(&self, markers: &Markers) -> Vec<(Place, Marked)> {
        let marker = Marker {
            producer: markers.producer,
            epoch: markers.epoch,
            committed: markers.commit,
            coordinator_epoch: markers.coordinator_epoch,
            transaction_version: markers.client_version,
        };
        let mut results = Vec::with_capacity(markers.partitions.len());
        for place in &markers.partitions {
            let marked = match self.exists(place) {
                // A topic that was deleted has nothing to be ended.
                false => Marked::Done,
                true => outcome(self.write(&place.0, place.1, marker).await),
            };
            results.push((place.clone(), marked));
        }
        results
    }

    fn exists(&self, (topic, index): &Place) -> bool {
        let image = self.metadata.image();
        image.topic(topic).is_some_and(|topic| topic.partition(PartitionIndex(*index)).is_some())
    }
}

/// A coordinator's error in the terms of a partition's leader, which whoever sends markers tries again.
fn leader_error(code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::CoordinatorNotAvailable
        | ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::NotCoordinator => ErrorCode::NotLeaderOrFollower,
        other => other,
    }
}

fn outcome(code: ErrorCode) -> Marked {
    match code {
        ErrorCode::None => Marked::Done,
        ErrorCode::InvalidProducerEpoch | ErrorCode::TransactionCoordinatorFenced => Marked::Fenced,
        _ => Marked::Later,
    }
}
