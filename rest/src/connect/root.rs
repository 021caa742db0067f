//! `GET /`: what runs here.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::ConnectApi;

pub fn routes() -> Router<ConnectApi> {
    Router::new().route("/", get(info))
}

async fn info(State(api): State<ConnectApi>) -> Json<Value> {
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "commit": option_env!("AQUEDUCT_COMMIT").unwrap_or("unknown"),
        "kafka_cluster_id": api.herder.cluster_id(),
    }))
}
