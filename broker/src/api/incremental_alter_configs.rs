//! IncrementalAlterConfigs (KIP-339), versions 0 to 1: changes single values of a resource.

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use aqueduct_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use aqueduct_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

use super::Context;
use super::shared::{Change, ResourceType, alter_each, alterable_resource, broker_resource, own};
use crate::metadata::{Command, ConfigOp, Rejection, Resource};

pub(crate) async fn handle(
    context: Context,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let identity = |r: &AlterConfigsResource| (r.resource_type, r.resource_name.clone());
    let results = alter_each(&context, &request.resources, request.validate_only, identity, command).await;
    let response =
        |(resource, (error_code, error_message)): (AlterConfigsResource, _)| AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
        };
    let responses = request.resources.into_iter().zip(results).map(response).collect();
    IncrementalAlterConfigsResponse { responses, ..Default::default() }
}

fn command(context: &Context, asked: &AlterConfigsResource) -> Result<Change, Rejection> {
    let ops = || -> Result<_, Rejection> {
        asked.configs.iter().map(|config| Ok((own(&config.name), op(config)?))).collect()
    };
    if ResourceType::from_code(asked.resource_type) == ResourceType::BrokerLogger {
        return match broker_resource(&asked.resource_name, context.node.settings.node_id)? {
            Resource::Broker(Some(_)) => Ok(Change::Loggers(ops()?)),
            _ => Err(Rejection::new(
                ErrorCode::InvalidRequest,
                "Broker id must be an integer, but it is empty",
            )),
        };
    }
    let resource = alterable_resource(context, asked.resource_type, &asked.resource_name)?;
    let ops = ops()?;
    Ok(Change::Metadata(Command::AlterConfig { resource, ops }))
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
