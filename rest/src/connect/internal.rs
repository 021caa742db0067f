//! What workers ask of each other. Such requests are signed with the session key of the group; others are refused.

use aqueduct_connect_worker::Error;
use aqueduct_connect_worker::internal::{ALGORITHM_HEADER, SIGNATURE_HEADER, Signature};
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};

use super::ConnectApi;
use super::routes::{Endpoint, at};
use crate::error::ApiResult;

pub fn endpoints() -> Vec<Endpoint> {
    vec![at("/connectors/{connector}/fence").put(fence)]
}

/// The signature of a request.
fn signature(headers: &HeaderMap) -> Result<Option<Signature>, Error> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    Signature::from_headers(text(SIGNATURE_HEADER), text(ALGORITHM_HEADER))
}

/// Takes the tasks of a connector that another worker runs.
pub async fn put_tasks(
    State(api): State<ConnectApi>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> ApiResult<StatusCode> {
    api.herder.put_tasks(&name, &body, signature(&headers)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Fences tasks of a source that ran before, for a worker that is about to start new ones.
async fn fence(
    State(api): State<ConnectApi>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> ApiResult<StatusCode> {
    api.herder.fence(&name, &body, signature(&headers)).await?;
    Ok(StatusCode::NO_CONTENT)
}
