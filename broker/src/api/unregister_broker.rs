//! UnregisterBroker (KIP-746), version 0: forgets a broker that will not come back.

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::BrokerId;
use aqueduct_protocol::messages::{UnregisterBrokerRequest, UnregisterBrokerResponse};

use super::Context;
use super::shared::failure;
use crate::controller::still_running;
use crate::metadata::{Command, Rejection};
use crate::security::Operation;

pub(crate) async fn handle(context: Context, request: UnregisterBrokerRequest) -> UnregisterBrokerResponse {
    let (error_code, error_message) = match unregister(&context, BrokerId(request.broker_id)).await {
        Ok(()) => (0, None),
        Err(rejection) => (rejection.code.code(), Some(rejection.message.into())),
    };
    UnregisterBrokerResponse { error_code, error_message, ..Default::default() }
}

async fn unregister(context: &Context, id: BrokerId) -> Result<(), Rejection> {
    if !context.allows_cluster(Operation::Alter) {
        return Err(Rejection::new(ErrorCode::ClusterAuthorizationFailed, "Cluster authorization failed."));
    }
    if id == context.node.settings.node_id {
        return Err(still_running(id));
    }
    // Whether another one runs the controller knows; this node may not have heard yet that it has stopped.
    match context.node.metadata.submit(vec![Command::UnregisterBroker { id }]).await.pop() {
        Some(Err(error)) => {
            let (code, message) = failure(error);
            Err(Rejection::new(code, message))
        }
        _ => Ok(()),
    }
}
