//! AlterConfigs (KIP-133), versions 0 to 2: sets all values of a resource at once. Superseded by IncrementalAlterConfigs;
//! older clients still use it.

use std::collections::BTreeMap;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::messages::alter_configs_request::AlterConfigsResource;
use aqueduct_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use aqueduct_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};

use super::Context;
use super::shared::{alterable_resource, apply, own};
use crate::metadata::{Command, Rejection};

pub(crate) async fn handle(context: Context, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let mut responses = Vec::with_capacity(request.resources.len());
    for (at, resource) in request.resources.iter().enumerate() {
        let twice = request.resources.iter().enumerate().any(|(other_at, other)| {
            other_at != at
                && (other.resource_type, &other.resource_name)
                    == (resource.resource_type, &resource.resource_name)
        });
        let done = match command(&context, resource, twice) {
            Ok(command) => apply(&context, command, request.validate_only).await,
            Err(rejection) => Err(rejection),
        };
        let (code, message) = match done {
            Ok(()) => (ErrorCode::None, None),
            Err(rejection) => (rejection.code, Some(rejection.message.into())),
        };
        responses.push(AlterConfigsResourceResponse {
            error_code: code.code(),
            error_message: message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
        });
    }
    AlterConfigsResponse { responses, ..Default::default() }
}

fn command(context: &Context, asked: &AlterConfigsResource, twice: bool) -> Result<Command, Rejection> {
    if twice {
        return Err(Rejection::new(ErrorCode::InvalidRequest, "Each resource must appear at most once."));
    }
    let resource = alterable_resource(context, asked.resource_type, &asked.resource_name)?;
    let mut values = BTreeMap::new();
    for config in &asked.configs {
        let Some(value) = &config.value else {
            return Err(Rejection::new(
                ErrorCode::InvalidRequest,
                format!("Null value not supported for : {}", config.name),
            ));
        };
        values.insert(own(&config.name), own(value));
    }
    Ok(Command::ReplaceConfig { resource, values })
}
