//! DescribeCluster (KIP-700, KIP-919, KIP-1073), versions 0 to 2: the brokers of the cluster and its id.

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use aqueduct_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};

use super::Context;

/// Stands for "authorized operations were not asked for".
pub(super) const OPERATIONS_NOT_ASKED: i32 = i32::MIN;
/// Every operation on the cluster: create, alter, describe, cluster-action, describe-configs, alter-configs,
/// idempotent-write, as bits.
const CLUSTER_OPERATIONS: i32 = 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;
/// `endpoint_type` of brokers.
const BROKERS: i8 = 1;

pub(crate) async fn handle(context: Context, request: DescribeClusterRequest) -> DescribeClusterResponse {
    let image = context.node.metadata.image();
    if context.version >= 1 && request.endpoint_type != BROKERS {
        let (code, message) = match request.endpoint_type {
            2 => {
                (ErrorCode::MismatchedEndpointType, "The request was sent to an endpoint of the wrong type.")
            }
            _ => (ErrorCode::UnsupportedEndpointType, "Unsupported endpoint type."),
        };
        return DescribeClusterResponse {
            error_code: code.code(),
            error_message: Some(message.into()),
            ..Default::default()
        };
    }
    let broker = |broker: &std::sync::Arc<crate::metadata::BrokerImage>| DescribeClusterBroker {
        broker_id: broker.id.0,
        host: broker.host.clone(),
        port: broker.port.into(),
        rack: broker.rack.clone(),
        ..Default::default()
    };
    DescribeClusterResponse {
        endpoint_type: BROKERS,
        cluster_id: image.cluster_id.clone(),
        controller_id: context.node.settings.node_id.0,
        brokers: image.brokers.values().map(broker).collect(),
        cluster_authorized_operations: if request.include_cluster_authorized_operations {
            CLUSTER_OPERATIONS
        } else {
            OPERATIONS_NOT_ASKED
        },
        ..Default::default()
    }
}
