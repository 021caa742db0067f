//! `/connectors/{connector}/offsets` (KIP-875).

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::ConnectApi;
use super::routes::{Endpoint, at};
use crate::body::{self, Members};
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
    let members = Members::of(&body, OFFSETS, &["offsets"])?;
    let wanted = match members.json("offsets") {
        Some(list) => {
            let items: Vec<&RawValue> = serde_json::from_str(list)
                .map_err(|_| body::malformed(format!("Cannot deserialize value of type `java.util.ArrayList<{OFFSET}>`: \"offsets\" has to be an array")))?;
            items.into_iter().map(|item| read_offset(item.get())).collect::<ApiResult<Vec<_>>>()?
        }
        None => Vec::new(),
    };
    let message = api.herder.alter_offsets(&name, wanted).await?;
    Ok(Json(json!({ "message": message })))
}

type Wanted = (Map<String, Value>, Option<Map<String, Value>>);

fn read_offset(item: &str) -> ApiResult<Wanted> {
    let item = Members::within(item, OFFSET, &["partition", "offset"])?;
    let part = |name: &str| {
        let read = item.json(name).map(serde_json::from_str::<Map<String, Value>>).transpose();
        read.map_err(|_| {
            body::malformed(format!(
                "Cannot deserialize value of type `{OFFSET}`: \"{name}\" has to be an object"
            ))
        })
    };
    let (partition, offset) = (part("partition")?, part("offset")?);
    let partition = partition.ok_or_else(|| {
        let why =
            "The partition for a connector offset must not be null or missing: give an object \"partition\"";
        ApiError::new(StatusCode::BAD_REQUEST, why)
    })?;
    Ok((partition, offset))
}

async fn reset(State(api): State<ConnectApi>, Path(name): Path<String>) -> ApiResult<Json<Value>> {
    let message = api.herder.reset_offsets(&name).await?;
    Ok(Json(json!({ "message": message })))
}
