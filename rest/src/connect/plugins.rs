//! `/connector-plugins`: what there is, its settings, and their validation.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;

use super::ConnectApi;
use super::routes::{Endpoint, at};
use crate::body;
use crate::error::{ApiError, ApiResult};
use crate::query::Query;

pub fn endpoints() -> Vec<Endpoint> {
    vec![
        at("/connector-plugins").get(list),
        at("/connector-plugins/{plugin}/config").get(config),
        at("/connector-plugins/{plugin}/config/validate").put(validate),
    ]
}

async fn list(State(api): State<ConnectApi>, RawQuery(query): RawQuery) -> impl IntoResponse {
    let connectors_only =
        Query::parse(query.as_deref()).get("connectorsOnly").is_none_or(|v| v.eq_ignore_ascii_case("true"));
    Json(api.herder.plugins(connectors_only))
}

async fn config(State(api): State<ConnectApi>, Path(plugin): Path<String>) -> ApiResult<impl IntoResponse> {
    Ok(Json(api.herder.plugin_config(&plugin)?))
}

async fn validate(
    State(api): State<ConnectApi>,
    Path(plugin): Path<String>,
    body: Bytes,
) -> ApiResult<impl IntoResponse> {
    let config = body::settings(&body)?;
    if let Some(Some(class)) = config.get("connector.class")
        && !simple(class).ends_with(simple(&plugin))
    {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            format!("Included connector type {class} does not match request type {plugin}"),
        ));
    }
    Ok(Json(api.herder.validate(&config).await?))
}

/// Last part of a class name, without `Connector`.
fn simple(class: &str) -> &str {
    let last = class.trim().rsplit('.').next().unwrap_or(class);
    last.strip_suffix("Connector").unwrap_or(last)
}
