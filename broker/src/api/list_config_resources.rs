//! ListConfigResources (KIP-1142, before it KIP-1000), versions 0 to 1: what can have a configuration.

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::messages::list_config_resources_response::ConfigResource;
use aqueduct_protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};

use super::Context;
use crate::metadata::Resource;
use crate::security::Operation;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

pub(crate) async fn handle(
    context: Context,
    request: ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    if !context.allows_cluster(Operation::DescribeConfigs) {
        let error_code = ErrorCode::ClusterAuthorizationFailed.code();
        return ListConfigResourcesResponse { error_code, ..Default::default() };
    }
    let image = context.node.metadata.image();
    let types = match (context.version, request.resource_types.is_empty()) {
        // Version 0 knows client metrics alone.
        (0, _) => vec![CLIENT_METRICS],
        (_, true) => vec![TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP],
        _ => request.resource_types,
    };
    let mut config_resources = Vec::new();
    for resource_type in types {
        let mut push = |name: bytestring::ByteString| {
            config_resources.push(ConfigResource { resource_name: name, resource_type });
        };
        match resource_type {
            TOPIC => image.topics().for_each(|topic| push(topic.name.clone())),
            BROKER | BROKER_LOGGER => image.brokers.keys().for_each(|id| push(id.to_string().into())),
            CLIENT_METRICS | GROUP => image.configured().for_each(|resource| match resource {
                Resource::ClientMetrics(name) if resource_type == CLIENT_METRICS => push(name.clone()),
                Resource::Group(name) if resource_type == GROUP => push(name.clone()),
                _ => {}
            }),
            _ => {
                return ListConfigResourcesResponse {
                    error_code: ErrorCode::UnsupportedVersion.code(),
                    ..Default::default()
                };
            }
        }
    }
    ListConfigResourcesResponse { config_resources, ..Default::default() }
}
