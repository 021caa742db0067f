//! DescribeCluster (KIP-700, KIP-919, KIP-1073), versions 0 to 2: the brokers of the cluster and its id.

use std::sync::Arc;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use aqueduct_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};

use super::Context;
use super::shared::OPERATIONS_NOT_ASKED;
use super::view::View;
use crate::metadata::{BrokerImage, Endpoint};

/// `endpoint_type` of brokers, and that of controllers.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(crate) async fn handle(context: Context, request: DescribeClusterRequest) -> DescribeClusterResponse {
    let image = context.node.metadata.image();
    if context.node.is_of_controllers(&context.client.listener) {
        return controllers(&context, &request);
    }
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

/// The controllers, for who asks one of them.
fn controllers(context: &Context, request: &DescribeClusterRequest) -> DescribeClusterResponse {
    let failed = |code: ErrorCode, message: &'static str| DescribeClusterResponse {
        error_code: code.code(),
        error_message: Some(message.into()),
        ..Default::default()
    };
    match request.endpoint_type {
        CONTROLLERS => {}
        BROKERS => {
            return failed(
                ErrorCode::MismatchedEndpointType,
                "The request was sent to an endpoint of type CONTROLLER, but we wanted an endpoint of type BROKER",
            );
        }
        _ => return failed(ErrorCode::UnsupportedEndpointType, "Unsupported endpoint type"),
    }
    let Some(status) = context.node.member.as_ref().map(|member| member.status()) else {
        return failed(ErrorCode::UnsupportedEndpointType, "Unsupported endpoint type");
    };
    let id = |node: u64| i32::try_from(node).unwrap_or(-1);
    let voter = |member: &aqueduct_quorum::Member| DescribeClusterBroker {
        broker_id: id(member.id),
        host: member.peer.host.as_str().into(),
        port: member.peer.port.into(),
        ..Default::default()
    };
    let operations = match request.include_cluster_authorized_operations {
        true => context.authorized_cluster_operations(),
        false => OPERATIONS_NOT_ASKED,
    };
    DescribeClusterResponse {
        endpoint_type: CONTROLLERS,
        cluster_id: context.node.metadata.image().cluster_id.clone(),
        controller_id: status.leader.map_or(-1, id),
        brokers: status.members.iter().filter(|member| member.votes).map(voter).collect(),
        cluster_authorized_operations: operations,
        ..Default::default()
    }
}
