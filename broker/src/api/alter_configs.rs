//! AlterConfigs (KIP-133), versions 0 to 2: sets all values of a resource at once. Superseded by IncrementalAlterConfigs;
//! older clients still use it.

use std::collections::BTreeMap;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::messages::alter_configs_request::AlterConfigsResource;
use aqueduct_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use aqueduct_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};

use super::Context;
use super::shared::{Change, alter_each, alterable_resource, own};
use crate::metadata::{Command, Rejection};

pub(crate) async fn handle(context: Context, request: AlterConfigsRequest) -> AlterConfigsResponse {
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
    AlterConfigsResponse { responses, ..Default::default() }
}

fn command(context: &Context, asked: &AlterConfigsResource) -> Result<Change, Rejection> {
    let mut values = BTreeMap::new();
    for config in &asked.configs {
        let Some(value) = &config.value else {
            return Err(Rejection::new(
                ErrorCode::InvalidRequest,
                format!("Null value not supported for : {}", config.name),
            ));
        };
        if values.insert(own(&config.name), own(value)).is_some() {
            return Err(Rejection::new(
                ErrorCode::InvalidRequest,
                format!("Error due to duplicate config keys: {}", config.name),
            ));
        }
    }
    let resource = alterable_resource(context, asked.resource_type, &asked.resource_name)?;
    Ok(Change::Metadata(Command::ReplaceConfig { resource, values }))
}
