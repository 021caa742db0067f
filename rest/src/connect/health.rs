//! `GET /health` as the reference has it, and the probes `/health/live` and `/health/ready` that all our roles have.

use aqueduct_connect_worker::Health;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::json;

use super::ConnectApi;
use super::routes::{Endpoint, at};

pub fn endpoints() -> Vec<Endpoint> {
    vec![
        at("/health").get(health),
        at("/health/ready").get(health).any_format(),
        at("/health/live").get(|| async { Json(json!({ "status": "alive" })) }),
    ]
}

async fn health(State(api): State<ConnectApi>) -> impl IntoResponse {
    let (code, status, message) = match api.herder.health() {
        Health::Healthy => {
            (StatusCode::OK, "healthy", "Worker has completed startup and is ready to handle requests.")
        }
        Health::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting", "Worker is still starting up."),
        Health::Unhealthy => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "unhealthy",
            "Worker was unable to handle this request and may be unable to handle other requests.",
        ),
    };
    (code, Json(json!({ "status": status, "message": message })))
}
