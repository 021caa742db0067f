//! DescribeCluster (KIP-700, KIP-919, KIP-1073), versions 0 to 2: the brokers of the cluster and its id.

use std::sync::Arc;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use aqueduct_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};

use super::Context;
use super::shared::OPERATIONS_NOT_ASKED;
use super::view::View;
use crate::metadata::{BrokerImage, Endpoint};

/// `endpoint_type` of brokers; 2 is that of controllers.
const BROKERS: i8 = 1;

pub(crate) async fn handle(context: Context, request: DescribeClusterRequest) -> DescribeClusterResponse {
    let image = context.node.metadata.image();
    if context.version >= 1 && request.endpoint_type != BROKERS {
        let (code, message) = match request.endpoint_type {
            2 => (
                ErrorCode::MismatchedEndpointType,
                "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER",
            ),
            _ => (ErrorCode::UnsupportedEndpointType, "Unsupported endpoint type"),
        };
        return DescribeClusterResponse {
            error_code: code.code(),
            error_message: Some(message.into()),
            ..Default::default()
        };
    }
    let view = View { image: &image, listener: &context.client.listener };
    let broker = |(broker, endpoint): (&Arc<BrokerImage>, &Endpoint)| DescribeClusterBroker {
        broker_id: broker.id.0,
        host: endpoint.host.clone(),
        port: endpoint.port.into(),
        rack: broker.rack.clone(),
        is_fenced: !image.is_unfenced(broker.id),
    };
    let brokers = match context.version >= 2 && request.include_fenced_brokers {
        true => view.registered().map(broker).collect(),
        false => view.brokers().map(broker).collect(),
    };
    let operations = match request.include_cluster_authorized_operations {
        true => context.authorized_cluster_operations(),
        false => OPERATIONS_NOT_ASKED,
    };
    DescribeClusterResponse {
        endpoint_type: BROKERS,
        cluster_id: image.cluster_id.clone(),
        controller_id: view.controller(context.node.settings.node_id),
        brokers,
        cluster_authorized_operations: operations,
        ..Default::default()
    }
}
