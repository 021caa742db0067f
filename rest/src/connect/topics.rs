//! Topics that a connector has used.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use super::ConnectApi;
use super::routes::{Endpoint, at};
use crate::error::ApiResult;

pub fn endpoints() -> Vec<Endpoint> {
    vec![
        at("/connectors/{connector}/topics").get(list),
        at("/connectors/{connector}/topics/reset").put(reset),
    ]
}

async fn list(State(api): State<ConnectApi>, Path(name): Path<String>) -> ApiResult<Json<Value>> {
    let topics = api.herder.topics(&name)?;
    let mut body = Map::new();
    body.insert(name, json!({ "topics": topics }));
    Ok(Json(Value::Object(body)))
}

async fn reset(State(api): State<ConnectApi>, Path(name): Path<String>) -> ApiResult<StatusCode> {
    api.herder.reset_topics(&name).await?;
    Ok(StatusCode::ACCEPTED)
}
