//! FindCoordinator (KIP-98, KIP-699, KIP-890), versions 0 to 6: where a group is coordinated. Transactions and share
//! groups are not served.

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::messages::find_coordinator_response::Coordinator;
use aqueduct_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use bytestring::ByteString;

use super::Context;
use crate::node::OFFSETS_TOPIC;
use crate::security::{Operation, ResourceType};

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

pub(crate) async fn handle(context: Context, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    if context.version >= 4 {
        let mut coordinators = Vec::with_capacity(request.coordinator_keys.len());
        for key in request.coordinator_keys {
            coordinators.push(find(&context, key, request.key_type).await);
        }
        return FindCoordinatorResponse { coordinators, ..Default::default() };
    }
    let found = find(&context, request.key, request.key_type).await;
    FindCoordinatorResponse {
        error_code: found.error_code,
        error_message: found.error_message,
        node_id: found.node_id,
        host: found.host,
        port: found.port,
        ..Default::default()
    }
}

async fn find(context: &Context, key: ByteString, key_type: i8) -> Coordinator {
    let failed = |key: ByteString, code: ErrorCode, message: Option<&str>| Coordinator {
        key,
        node_id: -1,
        port: -1,
        error_code: code.code(),
        error_message: message.map(Into::into),
        ..Default::default()
    };
    let node = &context.node;
    let denial = match key_type {
        GROUP if !context.allows_group(Operation::Describe, &key) => ErrorCode::GroupAuthorizationFailed,
        TRANSACTION if !context.allows(Operation::Describe, ResourceType::TransactionalId, &key) => {
            ErrorCode::TransactionalIdAuthorizationFailed
        }
        _ => ErrorCode::None,
    };
    if denial != ErrorCode::None {
        return failed(key, denial, Some(denial.message()));
    }
    if key_type != GROUP {
        let message = match key_type {
            TRANSACTION => "this broker does not serve transactions",
            2 => "this broker does not serve share groups",
            _ => "unknown coordinator key type",
        };
        // Clients that speak the oldest versions retry what they do not know for as long as they may, but give up on this.
        let code = match (key_type, context.version) {
            (TRANSACTION, ..3) => ErrorCode::TransactionalIdAuthorizationFailed,
            _ => ErrorCode::InvalidRequest,
        };
        return failed(key, code, Some(message));
    }
    if node.metadata.image().topic(OFFSETS_TOPIC).is_none() {
        node.create_missing_topics(&[OFFSETS_TOPIC]).await;
    }
    let image = node.metadata.image();
    let broker = image.topic(OFFSETS_TOPIC).and_then(|_| image.brokers.get(&node.settings.node_id));
    match broker.and_then(|broker| Some((broker.id, broker.endpoint(&context.client.listener)?))) {
        Some((id, endpoint)) => Coordinator {
            key,
            node_id: id.0,
            host: endpoint.host.clone(),
            port: endpoint.port.into(),
            ..Default::default()
        },
        None => failed(key, ErrorCode::CoordinatorNotAvailable, None),
    }
}
