//! IncrementalAlterConfigs (KIP-339), versions 0 to 1: changes single values of a resource.

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use aqueduct_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use aqueduct_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

use super::Context;
use super::shared::{alterable_resource, apply, own};
use crate::metadata::{Command, ConfigOp, Rejection};

pub(crate) async fn handle(
    context: Context,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
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
    IncrementalAlterConfigsResponse { responses, ..Default::default() }
}

fn command(context: &Context, asked: &AlterConfigsResource, twice: bool) -> Result<Command, Rejection> {
    if twice {
        return Err(Rejection::new(ErrorCode::InvalidRequest, "Each resource must appear at most once."));
    }
    let resource = alterable_resource(context, asked.resource_type, &asked.resource_name)?;
    let ops =
        asked.configs.iter().map(|config| Ok((own(&config.name), op(config)?))).collect::<Result<_, _>>()?;
    Ok(Command::AlterConfig { resource, ops })
}

fn op(config: &AlterableConfig) -> Result<ConfigOp, Rejection> {
    if config.config_operation == 1 {
        return Ok(ConfigOp::Delete);
    }
    let Some(value) = config.value.as_deref().map(own) else {
        return Err(Rejection::new(
            ErrorCode::InvalidRequest,
            format!("Null value not supported for : {}", config.name),
        ));
    };
    match config.config_operation {
        0 => Ok(ConfigOp::Set(value)),
        2 => Ok(ConfigOp::Append(value)),
        3 => Ok(ConfigOp::Subtract(value)),
        other => Err(Rejection::new(
            ErrorCode::InvalidRequest,
            format!("Unknown operation type {other} for {}", config.name),
        )),
    }
}
