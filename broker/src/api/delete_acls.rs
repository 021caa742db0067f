//! DeleteAcls (KIP-140, KIP-290), versions 1 to 3: everything that the filters find, and what that was.

use aqueduct_protocol::messages::delete_acls_request::DeleteAclsFilter;
use aqueduct_protocol::messages::delete_acls_response::{DeleteAclsFilterResult, DeleteAclsMatchingAcl};
use aqueduct_protocol::messages::{DeleteAclsRequest, DeleteAclsResponse};

use super::Context;
use super::acls::{Filter, admit};
use super::shared::failure;
use crate::metadata::{Command, MetadataError, Outcome};
use crate::security::{Acl, Operation};

pub(crate) async fn handle(context: Context, request: DeleteAclsRequest) -> DeleteAclsResponse {
    let admitted = admit(&context, Operation::Alter);
    let mut commands = Vec::new();
    let mut decided: Vec<Result<(), MetadataError>> = Vec::with_capacity(request.filters.len());
    for asked in &request.filters {
        let found = admitted.clone().and_then(|()| filter(asked).read());
        decided.push(found.map(|filter| commands.push(Command::DeleteAcls { filter })).map_err(Into::into));
    }
    let mut outcomes = context.node.metadata.submit(commands).await.into_iter();
    let result = |decided: Result<(), MetadataError>| match decided
        .and_then(|()| outcomes.next().unwrap_or(Err(MetadataError::Stopping)))
    {
        Ok(Outcome::Acls(acls)) => DeleteAclsFilterResult {
            matching_acls: acls.iter().map(|acl| deleted(acl)).collect(),
            ..Default::default()
        },
        Ok(_) => DeleteAclsFilterResult::default(),
        Err(error) => {
            let (code, message) = failure(error);
            DeleteAclsFilterResult {
                error_code: code.code(),
                error_message: Some(message.into()),
                matching_acls: Vec::new(),
            }
        }
    };
    DeleteAclsResponse { filter_results: decided.into_iter().map(result).collect(), ..Default::default() }
}

fn filter(asked: &DeleteAclsFilter) -> Filter<'_> {
    Filter {
        resource: asked.resource_type_filter,
        name: &asked.resource_name_filter,
        pattern: asked.pattern_type_filter,
        principal: &asked.principal_filter,
        host: &asked.host_filter,
        operation: asked.operation,
        permission: asked.permission_type,
    }
}

fn deleted(acl: &Acl) -> DeleteAclsMatchingAcl {
    DeleteAclsMatchingAcl {
        error_code: 0,
        error_message: None,
        resource_type: acl.resource.code(),
        resource_name: acl.name.clone(),
        pattern_type: acl.pattern.code(),
        principal: acl.principal.to_string().into(),
        host: acl.host.clone(),
        operation: acl.operation.code(),
        permission_type: acl.permission.code(),
    }
}
