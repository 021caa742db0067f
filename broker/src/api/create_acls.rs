//! CreateAcls (KIP-140, KIP-290), versions 1 to 3. One that is there already stays, and that is no error.

use aqueduct_protocol::messages::create_acls_request::AclCreation;
use aqueduct_protocol::messages::create_acls_response::AclCreationResult;
use aqueduct_protocol::messages::{CreateAclsRequest, CreateAclsResponse};

use super::Context;
use super::acls::{Binding, admit};
use super::shared::failure;
use crate::metadata::{Command, MetadataError};
use crate::node::random_uuid;
use crate::security::Operation;

pub(crate) async fn handle(context: Context, request: CreateAclsRequest) -> CreateAclsResponse {
    let admitted = admit(&context, Operation::Alter);
    let mut commands = Vec::new();
    let mut decided: Vec<Result<(), MetadataError>> = Vec::with_capacity(request.creations.len());
    for creation in &request.creations {
        let acl = admitted.clone().and_then(|()| binding(creation).read());
        decided.push(
            acl.map(|acl| commands.push(Command::CreateAcl { id: random_uuid(), acl })).map_err(Into::into),
        );
    }
    let mut outcomes = context.node.metadata.submit(commands).await.into_iter();
    let result = |decided: Result<(), MetadataError>| {
        let outcome =
            decided.and_then(|()| outcomes.next().unwrap_or(Err(MetadataError::Stopping)).map(|_| ()));
        match outcome {
            Ok(()) => AclCreationResult::default(),
            Err(error) => {
                let (code, message) = failure(error);
                AclCreationResult { error_code: code.code(), error_message: Some(message.into()) }
            }
        }
    };
    CreateAclsResponse { results: decided.into_iter().map(result).collect(), ..Default::default() }
}

fn binding(creation: &AclCreation) -> Binding<'_> {
    Binding {
        resource: creation.resource_type,
        name: &creation.resource_name,
        pattern: creation.resource_pattern_type,
        principal: &creation.principal,
        host: &creation.host,
        operation: creation.operation,
        permission: creation.permission_type,
    }
}
