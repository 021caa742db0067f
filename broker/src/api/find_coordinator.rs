//! FindCoordinator (KIP-98, KIP-699, KIP-890), versions 0 to 6: where a group or a transactional id is coordinated.
//! Share groups are not served.

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::PartitionIndex;
use aqueduct_protocol::messages::find_coordinator_response::Coordinator;
use aqueduct_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use bytestring::ByteString;

use super::Context;
use crate::coordinator::partition_of;
use crate::node::{OFFSETS_TOPIC, TRANSACTIONS_TOPIC};
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
        // Kafka's words where nothing is wrong.
        error_message: if found.error_code == 0 { Some("NONE".into()) } else { found.error_message },
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
    let name = match key_type {
        GROUP => OFFSETS_TOPIC,
        TRANSACTION => TRANSACTIONS_TOPIC,
        2 => return failed(key, ErrorCode::InvalidRequest, Some("this broker does not serve share groups")),
        _ => return failed(key, ErrorCode::InvalidRequest, Some("unknown coordinator key type")),
    };
    if node.metadata.image().topic(name).is_none() {
        node.create_missing_topics(&[name]).await;
    }
    let image = node.metadata.image();
    let leader = image.topic(name).and_then(|topic| {
        let index = partition_of(&key, topic.partitions.len() as i32);
        topic.partition(PartitionIndex(index)).map(|partition| partition.leader)
    });
    let broker = leader.and_then(|leader| image.brokers.get(&leader));
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
