//! What workers ask of each other. Such requests are signed with the session key of the group; unsigned ones are refused.

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::put;

use super::ConnectApi;
use crate::error::ApiError;

const SIGNATURE: &str = "X-Connect-Authorization";
const ALGORITHM: &str = "X-Connect-Request-Signature-Algorithm";

pub fn routes() -> Router<ConnectApi> {
    Router::new().route("/connectors/{connector}/fence", put(put_tasks))
}

/// Refuses: a worker that leads its group alone has nobody to take such requests from.
pub async fn put_tasks(headers: HeaderMap) -> ApiError {
    if headers.get(SIGNATURE).is_none() || headers.get(ALGORITHM).is_none() {
        return ApiError::new(StatusCode::BAD_REQUEST, "Internal request missing required signature");
    }
    ApiError::new(StatusCode::FORBIDDEN, "Internal request contained invalid signature.")
}
