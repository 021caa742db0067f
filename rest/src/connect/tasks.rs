//! `/connectors/{connector}/tasks`: settings and statuses of tasks.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;

use super::routes::{Endpoint, at};
use super::{ConnectApi, internal};
use crate::error::{ApiError, ApiResult};

pub fn endpoints() -> Vec<Endpoint> {
    vec![
        at("/connectors/{connector}/tasks").get(list).post(internal::put_tasks),
        at("/connectors/{connector}/tasks/{task}/status").get(status),
    ]
}

/// The number in a path: one of Java's integers.
pub fn task_number(text: &str) -> ApiResult<u32> {
    let number = text.parse::<u32>().ok().filter(|number| i32::try_from(*number).is_ok());
    number.ok_or_else(|| ApiError::bare(StatusCode::NOT_FOUND))
}

async fn list(State(api): State<ConnectApi>, Path(name): Path<String>) -> ApiResult<impl IntoResponse> {
    Ok(Json(api.herder.tasks(&name)?))
}

async fn status(
    State(api): State<ConnectApi>,
    Path((name, task)): Path<(String, String)>,
) -> ApiResult<impl IntoResponse> {
    Ok(Json(api.herder.task_status(&name, task_number(&task)?)?))
}
