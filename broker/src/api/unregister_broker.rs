//! UnregisterBroker (KIP-746), version 0: forgets a broker that will not come back.

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::BrokerId;
use aqueduct_protocol::messages::{UnregisterBrokerRequest, UnregisterBrokerResponse};

use super::Context;
use super::shared::failure;
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
    let image = context.node.metadata.image();
    if id == context.node.settings.node_id || image.is_controlled() && image.is_unfenced(id) {
        let why = format!(
            "Broker {id} is running, or was until a moment ago: stop it, and wait for broker.session.timeout.ms if it was killed"
        );
        return Err(Rejection::new(ErrorCode::InvalidRequest, why));
    }
    match context.node.metadata.submit(vec![Command::UnregisterBroker { id }]).await.pop() {
        Some(Err(error)) => {
            let (code, message) = failure(error);
            Err(Rejection::new(code, message))
        }
        _ => Ok(()),
    }
}
