//! `GET /`: what runs here.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::ConnectApi;
use super::routes::{Endpoint, at};

pub fn endpoints() -> Vec<Endpoint> {
    vec![at("/").get(info)]
}

async fn info(State(api): State<ConnectApi>) -> Json<Value> {
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "commit": option_env!("AQUEDUCT_COMMIT").unwrap_or("unknown"),
        "kafka_cluster_id": api.herder.cluster_id(),
    }))
}
