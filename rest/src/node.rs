//! Metrics and health of a broker node.

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

/// `/metrics` with what `metrics` gives, in the OpenMetrics text format, and `/health/live` and `/health/ready`, which
/// answer 200 while the node serves.
pub fn router(metrics: impl Fn() -> String + Clone + Send + Sync + 'static) -> Router {
    let healthy = || async { axum::Json(serde_json::json!({"status": "healthy"})) };
    let metrics = move || {
        let text = metrics();
        async move {
            ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
                .into_response()
        }
    };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/health/live", get(healthy))
        .route("/health/ready", get(healthy))
}
