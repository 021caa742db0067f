//! `/connectors`: list, create, read, change, delete.

use aqueduct_connect_worker::entities::ConnectorInfo;
use aqueduct_connect_worker::{NewConnector, TargetState};
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::{Map, Value, json};

use super::ConnectApi;
use super::routes::{Endpoint, at};
use crate::body::{self, Members};
use crate::error::{ApiError, ApiResult};
use crate::query::Query;
use crate::server::Scheme;

pub fn endpoints() -> Vec<Endpoint> {
    vec![
        at("/connectors").get(list).post(create),
        at("/connectors/{connector}").get(read).delete(delete),
        at("/connectors/{connector}/config").get(read_config).put(put_config).patch(patch_config),
        at("/connectors/{connector}/status").get(status),
    ]
}

async fn list(State(api): State<ConnectApi>, RawQuery(query): RawQuery) -> Json<Value> {
    let query = Query::parse(query.as_deref());
    let names = api.herder.connectors();
    if query.get("expand").is_none() {
        return Json(names.iter().map(|name| Value::from(&**name)).collect());
    }
    let mut all = Map::new();
    for name in names {
        let mut members = Map::new();
        let mut gone = false;
        for expand in query.all("expand") {
            let found = match expand {
                "info" => api.herder.connector(&name).map(|info| json!(info)),
                "status" => api.herder.status(&name).map(|status| json!(status)),
                _ => continue,
            };
            match found {
                Ok(value) => drop(members.insert(expand.to_owned(), value)),
                // It was deleted meanwhile, or has no status yet.
                Err(_) => gone = true,
            }
        }
        if !gone {
            all.insert(name.to_string(), Value::Object(members));
        }
    }
    Json(Value::Object(all))
}

const CREATE: &str = "org.apache.kafka.connect.runtime.rest.entities.CreateConnectorRequest";

async fn create(
    State(api): State<ConnectApi>,
    Extension(scheme): Extension<Scheme>,
    headers: HeaderMap,
    body: Bytes,
) -> ApiResult<Response> {
    let members = Members::of(&body, CREATE, &["config", "name", "initial_state"])?;
    let name = members.text("name")?.unwrap_or_default();
    let initial_state = members.text("initial_state")?.map(|s| initial_state(&s)).transpose()?;
    let config = members.json("config").ok_or_else(|| {
        body::malformed("The request has no \"config\": an object of the connector's settings")
    })?;
    let config = body::settings_within(config)?;
    let created = api.herder.create(NewConnector { name, config, initial_state }).await?;
    Ok(created_response(&api, scheme, &headers, &created))
}

fn initial_state(text: &str) -> ApiResult<TargetState> {
    match text.to_ascii_uppercase().as_str() {
        "RUNNING" => Ok(TargetState::Started),
        "PAUSED" => Ok(TargetState::Paused),
        "STOPPED" => Ok(TargetState::Stopped),
        other => Err(ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!(
                "Cannot construct instance of `{CREATE}$InitialState`: {other} is none of RUNNING, PAUSED, STOPPED"
            ),
        )),
    }
}

/// 201 with the address of what was created.
fn created_response(api: &ConnectApi, scheme: Scheme, headers: &HeaderMap, info: &ConnectorInfo) -> Response {
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or(api.herder.worker_id());
    let location = format!("{}://{host}/connectors/{}", scheme.0, encode_segment(&info.name));
    (StatusCode::CREATED, [(header::LOCATION, location)], Json(info)).into_response()
}

/// A name as a path segment.
pub fn encode_segment(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&b);
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

async fn read(State(api): State<ConnectApi>, Path(name): Path<String>) -> ApiResult<Json<ConnectorInfo>> {
    Ok(Json(api.herder.connector(&name)?))
}

async fn read_config(
    State(api): State<ConnectApi>,
    Path(name): Path<String>,
) -> ApiResult<impl IntoResponse> {
    Ok(Json(api.herder.connector(&name)?.config))
}

async fn put_config(
    State(api): State<ConnectApi>,
    Path(name): Path<String>,
    Extension(scheme): Extension<Scheme>,
    headers: HeaderMap,
    body: Bytes,
) -> ApiResult<Response> {
    let (created, info) = api.herder.put_config(&name, body::settings(&body)?).await?;
    Ok(if created { created_response(&api, scheme, &headers, &info) } else { Json(info).into_response() })
}

async fn patch_config(
    State(api): State<ConnectApi>,
    Path(name): Path<String>,
    body: Bytes,
) -> ApiResult<Json<ConnectorInfo>> {
    if body.trim_ascii() == b"null" {
        // No change of nothing.
        api.herder.connector(&name)?;
    }
    Ok(Json(api.herder.patch_config(&name, body::settings(&body)?).await?))
}

async fn delete(State(api): State<ConnectApi>, Path(name): Path<String>) -> ApiResult<StatusCode> {
    api.herder.delete(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn status(State(api): State<ConnectApi>, Path(name): Path<String>) -> ApiResult<impl IntoResponse> {
    Ok(Json(api.herder.status(&name)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_in_locations() {
        assert_eq!(encode_segment("a b/é"), "a%20b%2F%C3%A9");
    }
}
