//! DescribeAcls (KIP-140, KIP-290, KIP-357), versions 1 to 3: the ACLs that a filter finds, by resource.

use std::collections::BTreeMap;

use aqueduct_protocol::messages::describe_acls_response::{AclDescription, DescribeAclsResource};
use aqueduct_protocol::messages::{DescribeAclsRequest, DescribeAclsResponse};

use super::Context;
use super::acls::{Filter, admit};
use crate::security::Operation;

pub(crate) async fn handle(context: Context, request: DescribeAclsRequest) -> DescribeAclsResponse {
    let filter = Filter {
        resource: request.resource_type_filter,
        name: &request.resource_name_filter,
        pattern: request.pattern_type_filter,
        principal: &request.principal_filter,
        host: &request.host_filter,
        operation: request.operation,
        permission: request.permission_type,
    };
    let filter = match admit(&context, Operation::Describe).and_then(|()| filter.read()) {
        Ok(filter) => filter,
        Err(rejection) => {
            return DescribeAclsResponse {
                error_code: rejection.code.code(),
                error_message: Some(rejection.message.into()),
                ..Default::default()
            };
        }
    };
    let image = context.node.metadata.image();
    let mut resources: BTreeMap<_, Vec<AclDescription>> = BTreeMap::new();
    for (_, acl) in image.acls.find(&filter) {
        resources.entry((acl.resource, acl.pattern, &acl.name)).or_default().push(AclDescription {
            principal: acl.principal.to_string().into(),
            host: acl.host.clone(),
            operation: acl.operation.code(),
            permission_type: acl.permission.code(),
        });
    }
    let resources = resources
        .into_iter()
        .map(|((resource, pattern, name), acls)| DescribeAclsResource {
            resource_type: resource.code(),
            resource_name: name.clone(),
            pattern_type: pattern.code(),
            acls,
        })
        .collect();
    DescribeAclsResponse { resources, ..Default::default() }
}
