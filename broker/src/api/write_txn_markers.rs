//! WriteTxnMarkers (KIP-98, KIP-890), versions 1 and 2: a transaction coordinator, or an administrator, ends transactions
//! in the partitions that this broker leads.

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{PartitionIndex, ProducerEpoch, ProducerId};
use aqueduct_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use aqueduct_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use aqueduct_protocol::messages::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};
use bytestring::ByteString;
use futures_util::future::join_all;

use super::Context;
use crate::coordinator::Marker;
use crate::security::Operation;

pub(crate) async fn handle(context: Context, request: WriteTxnMarkersRequest) -> WriteTxnMarkersResponse {
    let allowed =
        context.would_allow_cluster(Operation::Alter) || context.allows_cluster(Operation::ClusterAction);
    let mut markers = Vec::with_capacity(request.markers.len());
    for writable in request.markers {
        let marker = Marker {
            producer: ProducerId(writable.producer_id),
            epoch: ProducerEpoch(writable.producer_epoch),
            committed: writable.transaction_result,
            coordinator_epoch: writable.coordinator_epoch,
            transaction_version: writable.transaction_version.into(),
        };
        markers.push(write(&context, writable, marker, allowed).await);
    }
    WriteTxnMarkersResponse { markers }
}

async fn write(
    context: &Context,
    writable: WritableTxnMarker,
    marker: Marker,
    allowed: bool,
) -> WritableTxnMarkerResult {
    // Each waits for its replicas: all at the same time.
    let of_topic = |WritableTxnMarkerTopic { name, partition_indexes }| async move {
        let name: &ByteString = &name;
        let of_partition = |partition_index| async move {
            let code = match allowed {
                // No producer has such an epoch.
                true if marker.epoch.0 < 0 && is_there(context, name, partition_index) => {
                    ErrorCode::InvalidProducerEpoch
                }
                true => context.node.transactions.markers().write(name, partition_index, marker).await,
                false => ErrorCode::ClusterAuthorizationFailed,
            };
            WritableTxnMarkerPartitionResult { partition_index, error_code: code.code() }
        };
        let partitions = join_all(partition_indexes.into_iter().map(of_partition)).await;
        WritableTxnMarkerTopicResult { name: name.clone(), partitions }
    };
    let topics = join_all(writable.topics.into_iter().map(of_topic)).await;
    WritableTxnMarkerResult { producer_id: writable.producer_id, topics }
}

fn is_there(context: &Context, topic: &str, index: i32) -> bool {
    let image = context.node.metadata.image();
    image.topic(topic).is_some_and(|topic| topic.partition(PartitionIndex(index)).is_some())
}
