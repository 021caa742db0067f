//! Pause, resume, stop, restart.

use aqueduct_connect_worker::TargetState;
use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::ConnectApi;
use super::routes::{Endpoint, at};
use super::tasks::task_number;
use crate::error::ApiResult;
use crate::query::Query;

pub fn endpoints() -> Vec<Endpoint> {
    vec![
        at("/connectors/{connector}/pause").put(pause),
        at("/connectors/{connector}/resume").put(resume),
        at("/connectors/{connector}/stop").put(stop),
        at("/connectors/{connector}/restart").post(restart),
        at("/connectors/{connector}/tasks/{task}/restart").post(restart_task),
    ]
}

async fn pause(State(api): State<ConnectApi>, Path(name): Path<String>) -> ApiResult<StatusCode> {
    api.herder.set_target(&name, TargetState::Paused).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn resume(State(api): State<ConnectApi>, Path(name): Path<String>) -> ApiResult<StatusCode> {
    api.herder.set_target(&name, TargetState::Started).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn stop(State(api): State<ConnectApi>, Path(name): Path<String>) -> ApiResult<StatusCode> {
    api.herder.set_target(&name, TargetState::Stopped).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn restart(
    State(api): State<ConnectApi>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> ApiResult<Response> {
    let query = Query::parse(query.as_deref());
    let (include_tasks, only_failed) = (query.flag("includeTasks"), query.flag("onlyFailed"));
    if !include_tasks && !only_failed {
        api.herder.restart_connector(&name).await?;
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let state = api.herder.restart(&name, include_tasks, only_failed).await?;
    Ok((StatusCode::ACCEPTED, Json(state)).into_response())
}

async fn restart_task(
    State(api): State<ConnectApi>,
    Path((name, task)): Path<(String, String)>,
) -> ApiResult<StatusCode> {
    api.herder.restart_task(&name, task_number(&task)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
