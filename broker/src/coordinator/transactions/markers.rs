//! Writes transaction markers into the partitions that this broker leads, and has others written by their leaders.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::ids::{BrokerId, PartitionIndex};
use aqueduct_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use aqueduct_protocol::messages::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};
use aqueduct_protocol::records::{BatchBuilder, EndTransactionMarker};
use aqueduct_storage::Terms;
use bytestring::ByteString;
use futures_util::future::join_all;

use super::effect::{Marked, Markers};
use super::others::Others;
use super::transaction::Place;
use crate::clock::Clock;
use crate::coordinator::effect::Reply;
use crate::coordinator::{Coordinator, Marker};
use crate::metadata::{MetadataBackend, MetadataImage};
use crate::node::OFFSETS_TOPIC;
use crate::partitions::Partitions;
use crate::state_log::StateLog;

/// Ends transactions in partitions; cheap to clone.
#[derive(Clone)]
pub(crate) struct MarkerWriter {
    pub node_id: BrokerId,
    pub metadata: Arc<dyn MetadataBackend>,
    pub partitions: Arc<Partitions>,
    pub groups: Coordinator,
    pub clock: Clock,
    /// The leaders of other partitions.
    pub others: Arc<dyn Others>,
}

impl MarkerWriter {
    /// Writes one marker; returns when it has taken effect and cannot be lost. Offsets of groups are ended by their coordinator.
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
        let written = StateLog::append(&partition, bytes, Terms::marker(marker.transaction_version)).await;
        match written {
            Ok(_) => ErrorCode::None,
            Err(code) => {
                tracing::warn!(partition = %partition.name(), ?code, "transaction marker is not written");
                code
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

    /// Writes all of a transaction's markers, here and by other leaders, and tells what became of each.
    pub(super) async fn write_all(&self, markers: &Markers) -> Vec<(Place, Marked)> {
        let marker = Marker {
            producer: markers.producer,
            epoch: markers.epoch,
            committed: markers.commit,
            coordinator_epoch: markers.coordinator_epoch,
            transaction_version: markers.client_version,
        };
        let Sorted { here, there, mut results } = self.sort(markers);
        let here = here.into_iter().map(|place| async move {
            let marked = outcome(self.write(&place.0, place.1, marker).await);
            (place, marked)
        });
        let there = there.into_iter().map(|(leader, places)| self.send(leader, places, marker));
        let (here, there) = tokio::join!(join_all(here), join_all(there));
        results.extend(here);
        results.extend(there.into_iter().flatten());
        results
    }

    /// Who is to write which of the markers, by the newest image.
    fn sort(&self, markers: &Markers) -> Sorted {
        let image = self.metadata.image();
        let mut sorted = Sorted::default();
        for place in &markers.partitions {
            match leader(&image, place) {
                // A topic that was deleted has nothing to be ended.
                None => sorted.results.push((place.clone(), Marked::Done)),
                Some(leader) if leader == self.node_id => sorted.here.push(place.clone()),
                Some(leader) if leader.0 < 0 => sorted.results.push((place.clone(), Marked::Later)),
                Some(leader) => sorted.there.entry(leader).or_default().push(place.clone()),
            }
        }
        sorted
    }

    async fn send(&self, to: BrokerId, places: Vec<Place>, marker: Marker) -> Vec<(Place, Marked)> {
        let asked = self.others.write_markers(to, request(&places, marker));
        let answer = tokio::select! {
            answer = asked => answer.inspect_err(
                |error| tracing::debug!(%error, broker = %to, "markers are sent again, perhaps to others"),
            ).ok(),
            () = moved(&*self.metadata, to, &places) => None,
        };
        match answer {
            Some(answer) => read(places, &answer),
            None => places.into_iter().map(|place| (place, Marked::Later)).collect(),
        }
    }
}

/// The markers of a transaction, by who is to write them.
#[derive(Default)]
struct Sorted {
    here: Vec<Place>,
    there: BTreeMap<BrokerId, Vec<Place>>,
    results: Vec<(Place, Marked)>,
}

/// Who leads a partition: -1 where nobody does, `None` where there is no such partition.
fn leader(image: &MetadataImage, (topic, index): &Place) -> Option<BrokerId> {
    image.topic(topic)?.partition(PartitionIndex(*index)).map(|partition| partition.leader)
}

/// Resolves when one of the partitions is not led by `to` any more: who was asked may never answer.
pub(super) async fn moved(metadata: &dyn MetadataBackend, to: BrokerId, places: &[Place]) {
    let mut images = metadata.watch();
    loop {
        let image = images.borrow_and_update().clone();
        if places.iter().any(|place| leader(&image, place) != Some(to)) {
            return;
        }
        if images.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

fn request(places: &[Place], marker: Marker) -> WriteTxnMarkersRequest {
    let mut topics: Vec<WritableTxnMarkerTopic> = Vec::new();
    // They are in the order of their topics.
    for (topic, index) in places {
        match topics.last_mut().filter(|last| *last.name == **topic) {
            Some(last) => last.partition_indexes.push(*index),
            None => topics.push(WritableTxnMarkerTopic {
                name: ByteString::from(&**topic),
                partition_indexes: vec![*index],
            }),
        }
    }
    let marker = WritableTxnMarker {
        producer_id: marker.producer.0,
        producer_epoch: marker.epoch.0,
        transaction_result: marker.committed,
        topics,
        coordinator_epoch: marker.coordinator_epoch,
        // 2 is the newest.
        transaction_version: i8::try_from(marker.transaction_version).unwrap_or(i8::MAX),
    };
    WriteTxnMarkersRequest { markers: vec![marker] }
}

/// What became of the markers that were sent; those that the answer does not tell of are sent again.
fn read(places: Vec<Place>, answer: &WriteTxnMarkersResponse) -> Vec<(Place, Marked)> {
    let topics = answer.markers.iter().flat_map(|marker| &marker.topics);
    let codes: HashMap<(&str, i32), i16> = topics
        .flat_map(|topic| {
            topic.partitions.iter().map(|at| ((&*topic.name, at.partition_index), at.error_code))
        })
        .collect();
    let marked = |place: &Place| match codes.get(&(&*place.0, place.1)) {
        Some(code) => outcome(ErrorCode::from_code(*code)),
        None => Marked::Later,
    };
    places
        .into_iter()
        .map(|place| {
            let marked = marked(&place);
            (place, marked)
        })
        .collect()
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

#[cfg(test)]
mod tests {
    use aqueduct_protocol::ids::{ProducerEpoch, ProducerId};
    use aqueduct_protocol::messages::write_txn_markers_response::{
        WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
    };

    use super::*;

    #[test]
    fn what_leaders_say_of_markers_is_told_for_each_partition() {
        let places: Vec<Place> = vec![("a".into(), 0), ("a".into(), 3), ("b".into(), 0), ("b".into(), 1)];
        let marker = Marker {
            producer: ProducerId(7),
            epoch: ProducerEpoch(2),
            committed: true,
            coordinator_epoch: 4,
            transaction_version: 2,
        };
        let sent = request(&places, marker);
        let topics = &sent.markers[0].topics;
        let named = |at: usize| (&*topics[at].name, &topics[at].partition_indexes[..]);
        assert_eq!((topics.len(), named(0), named(1)), (2, ("a", &[0, 3][..]), ("b", &[0, 1][..])));
        assert_eq!((sent.markers[0].coordinator_epoch, sent.markers[0].transaction_version), (4, 2));
        let partition = |partition_index, code: ErrorCode| WritableTxnMarkerPartitionResult {
            partition_index,
            error_code: code.code(),
        };
        let topic =
            |name: &'static str, partitions| WritableTxnMarkerTopicResult { name: name.into(), partitions };
        let a = vec![partition(3, ErrorCode::NotLeaderOrFollower), partition(0, ErrorCode::None)];
        let b = vec![partition(0, ErrorCode::TransactionCoordinatorFenced)];
        let topics = vec![topic("a", a), topic("b", b)];
        let answer =
            WriteTxnMarkersResponse { markers: vec![WritableTxnMarkerResult { producer_id: 7, topics }] };
        let marked: Vec<Marked> = read(places, &answer).into_iter().map(|(_, marked)| marked).collect();
        assert_eq!(marked, [Marked::Done, Marked::Later, Marked::Fenced, Marked::Later]);
    }
}
