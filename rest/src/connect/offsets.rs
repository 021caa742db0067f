//! `/connectors/{connector}/offsets` (KIP-875).

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use super::ConnectApi;
use super::routes::{Endpoint, at};
use crate::body;
use crate::error::{ApiError, ApiResult};

pub fn endpoints() -> Vec<Endpoint> {
    vec![at("/connectors/{connector}/offsets").get(list).patch(alter).delete(reset)]
}

async fn list(State(api): State<ConnectApi>, Path(name): Path<String>) -> ApiResult<Json<Value>> {
    let offsets = api.herder.offsets(&name).await?;
    Ok(Json(json!({ "offsets": offsets })))
}

const OFFSETS: &str = "org.apache.kafka.connect.runtime.rest.entities.ConnectorOffsets";
const OFFSET: &str = "org.apache.kafka.connect.runtime.rest.entities.ConnectorOffset";

async fn alter(
    State(api): State<ConnectApi>,
    Path(name): Path<String>,
    body: Bytes,
) -> ApiResult<Json<Value>> {
    let mut members = body::object(&body, OFFSETS, &["offsets"])?;
    let wanted = match members.remove("offsets") {
        Some(Value::Array(items)) => items.into_iter().map(read_offset).collect::<ApiResult<Vec<_>>>()?,
        _ => Vec::new(),
    };
    let message = api.herder.alter_offsets(&name, wanted).await?;
    Ok(Json(json!({ "message": message })))
}

type Wanted = (Map<String, Value>, Option<Map<String, Value>>);

fn read_offset(item: Value) -> ApiResult<Wanted> {
    let wrong = |what: &str| {
        ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("Cannot deserialize value of type `{OFFSET}`: {what}"),
        )
    };
    let Value::Object(mut item) = item else { return Err(wrong("it has to be an object")) };
    let offset = match item.remove("offset") {
        None | Some(Value::Null) => None,
        Some(Value::Object(offset)) => Some(offset),
        Some(_) => return Err(wrong("\"offset\" has to be an object or null")),
    };
    match item.remove("partition") {
        Some(Value::Object(partition)) => Ok((partition, offset)),
        None | Some(Value::Null) => Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "The partition for a connector offset must not be null or missing: give an object \"partition\"",
        )),
        Some(_) => Err(wrong("\"partition\" has to be an object")),
    }
}

async fn reset(State(api): State<ConnectApi>, Path(name): Path<String>) -> ApiResult<Json<Value>> {
    let message = api.herder.reset_offsets(&name).await?;
    Ok(Json(json!({ "message": message })))
}
