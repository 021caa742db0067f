//! Errors as every service of ours answers them.

use aqueduct_connect_worker::Error as WorkerError;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// A status and a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    pub status: StatusCode,
    pub message: String,
    /// Another worker has to answer.
    pub elsewhere: Option<Elsewhere>,
}

/// The worker that has to answer a request, where it is known; an extension of the answer for who passes requests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    pub url: Option<String>,
}

/// What handlers return.
pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), elsewhere: None }
    }

    /// The words that the reference's server has for a bare status.
    pub fn bare(status: StatusCode) -> Self {
        let reason = status.canonical_reason().unwrap_or_default();
        Self::new(status, format!("HTTP {} {reason}", status.as_u16()))
    }
}

impl From<WorkerError> for ApiError {
    fn from(error: WorkerError) -> Self {
        let status = StatusCode::from_u16(error.status_code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let elsewhere = match &error {
            WorkerError::Elsewhere { url, .. } => Some(Elsewhere { url: url.clone() }),
            _ => None,
        };
        Self { elsewhere, ..Self::new(status, error.to_string()) }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({ "error_code": self.status.as_u16(), "message": self.message });
        let mut response = (self.status, Json(body)).into_response();
        if let Some(elsewhere) = self.elsewhere {
            response.extensions_mut().insert(elsewhere);
        }
        response
    }
}
