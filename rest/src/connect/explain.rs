//! `GET /connectors/{connector}/explain`, not in Kafka: what a connector and its tasks do, in plain words. Other workers
//! are asked for the tasks that they run; where one does not answer its tasks say whom to ask.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, header};
use reqwest::Method;
use serde_json::{Value, json};

use super::ConnectApi;
use super::connectors::encode_segment;
use super::routes::{Endpoint, at};
use crate::error::ApiResult;
use crate::query::Query;

/// How long another worker may take.
const PATIENCE: Duration = Duration::from_secs(3);

pub fn endpoints() -> Vec<Endpoint> {
    vec![at("/connectors/{connector}/explain").get(explain)]
}

async fn explain(
    State(api): State<ConnectApi>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> ApiResult<Json<Value>> {
    let told = api.herder.explain(&name)?;
    let others: BTreeSet<String> =
        told.tasks.iter().filter(|task| !task.is_here).map(|task| task.worker_id.clone()).collect();
    let mut told = json!(told);
    // A worker that was asked by another asks nobody.
    if Query::parse(query.as_deref()).get("forward").is_none() {
        let asked = others.iter().map(|worker| ask(&api, worker, &name, &headers));
        for tasks in futures_util::future::join_all(asked).await.into_iter().flatten() {
            merge(&mut told, tasks);
        }
    }
    Ok(Json(told))
}

/// Takes over what another worker says of its tasks.
fn merge(told: &mut Value, theirs: Vec<Value>) {
    let Some(tasks) = told.get_mut("tasks").and_then(Value::as_array_mut) else { return };
    for their in theirs {
        if let Some(ours) = tasks.iter_mut().find(|ours| ours["id"] == their["id"]) {
            *ours = their;
        }
    }
}

/// The tasks that `worker` runs, by its own account.
async fn ask(api: &ConnectApi, worker: &str, name: &str, headers: &HeaderMap) -> Option<Vec<Value>> {
    // Workers of a group speak the same protocol with each other.
    let scheme = api.herder.leader_url().filter(|url| url.starts_with("https:")).map_or("http", |_| "https");
    let url = format!("{scheme}://{worker}/connectors/{}/explain?forward=false", encode_segment(name));
    let mut request = api.peers.request(Method::GET, &url).timeout(PATIENCE);
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        request = request.header(header::AUTHORIZATION, value);
    }
    let answer = request.send().await.ok().filter(|answer| answer.status().is_success())?;
    let mut body: Value = serde_json::from_slice(&answer.bytes().await.ok()?).ok()?;
    let tasks = std::mem::take(body.get_mut("tasks")?.as_array_mut()?);
    Some(tasks.into_iter().filter(|task| task["worker_id"] == worker).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_of_their_tasks_is_taken_over() {
        let mut told = json!({"tasks": [{"id": 0, "doing": "a"}, {"id": 1, "doing": "?"}]});
        merge(&mut told, vec![json!({"id": 1, "doing": "b"}), json!({"id": 7, "doing": "c"})]);
        assert_eq!(told, json!({"tasks": [{"id": 0, "doing": "a"}, {"id": 1, "doing": "b"}]}));
    }
}
