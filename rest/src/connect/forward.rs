//! Requests that another worker has to answer are passed on to it: first to the leader, and from there, where that is
//! another, to the worker that runs what the request is about. The parameter `forward` tells how far a request has come, so
//! that it goes over two hops at most.

use aqueduct_connect_worker::internal::{ALGORITHM_HEADER, SIGNATURE_HEADER};
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest as _, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::HttpPeers;
use super::peers::cause;
use crate::error::{ApiError, ApiResult, Elsewhere};
use crate::query::Query;
use crate::server::Scheme;

const TOO_FAR: &str = "Cannot complete request because of a conflicting operation (e.g. worker rebalance)";
const NO_LEADER: &str = "Cannot complete request momentarily due to no known leader URL, likely because a rebalance was underway.";

/// Hands a request to this worker and, where it says that another has to answer, to that one.
pub async fn pass_on(State(peers): State<HttpPeers>, request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    // The limit of bodies is an extension of the request.
    let mut limited = Request::new(body);
    *limited.extensions_mut() = parts.extensions.clone();
    let body = match Bytes::from_request(limited, &()).await {
        Ok(body) => body,
        Err(rejection) => return rejection.into_response(),
    };
    let answer = next.run(Request::from_parts(parts.clone(), Body::from(body.clone()))).await;
    match answer.extensions().get::<Elsewhere>() {
        Some(elsewhere) => {
            forward(&peers, &parts, body, elsewhere).await.unwrap_or_else(ApiError::into_response)
        }
        None => answer,
    }
}

/// What `forward` is for the next worker; `None` where there must not be one.
fn next_hop(query: Option<&str>) -> Option<bool> {
    match Query::parse(query).get("forward") {
        None => Some(true),
        Some(value) if value.eq_ignore_ascii_case("true") => Some(false),
        Some(_) => None,
    }
}

/// The address of the same request at another worker.
fn target(url: &str, path: &str, query: Option<&str>, forward: bool) -> String {
    let mut target = format!("{}{path}?forward={forward}", url.trim_end_matches('/'));
    let others = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    for pair in others.filter(|pair| *pair != "forward" && !pair.starts_with("forward=")) {
        target.push('&');
        target.push_str(pair);
    }
    target
}

async fn forward(
    peers: &HttpPeers,
    parts: &Parts,
    body: Bytes,
    elsewhere: &Elsewhere,
) -> ApiResult<Response> {
    let (path, query) = (parts.uri.path(), parts.uri.query());
    let Some(forward) = next_hop(query) else {
        tracing::error!(method = %parts.method, path, "a request did not reach its worker within two hops");
        return Err(ApiError::new(StatusCode::CONFLICT, TOO_FAR));
    };
    let Some(url) = elsewhere.url.as_deref() else {
        return Err(ApiError::new(StatusCode::CONFLICT, NO_LEADER));
    };
    let target = target(url, path, query, forward);
    tracing::debug!(method = %parts.method, target, "a request is passed on");
    let mut request = peers.request(parts.method.clone(), &target);
    for name in [header::AUTHORIZATION.as_str(), SIGNATURE_HEADER, ALGORITHM_HEADER] {
        if let Some(value) = parts.headers.get(name) {
            request = request.header(name, value);
        }
    }
    if !body.is_empty() {
        request = request.header(header::CONTENT_TYPE, "application/json").body(body);
    }
    let failed = |error: reqwest::Error| {
        let why = cause(&error);
        tracing::error!(target, why, "passing a request on failed");
        let message = format!("IO Error trying to forward REST request: {url}: {why}");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    };
    let answer = request.send().await.map_err(failed)?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let body = answer.bytes().await.map_err(failed)?;
    let mut response = (status, body).into_response();
    response.headers_mut().remove(header::CONTENT_TYPE);
    if let Some(kind) = headers.get(header::CONTENT_TYPE) {
        response.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
    }
    if let Some(location) = headers.get(header::LOCATION) {
        let scheme = parts.extensions.get::<Scheme>().map_or("http", |scheme| scheme.0);
        let own = parts.headers.get(header::HOST).and_then(|host| own_location(location, scheme, host));
        response.headers_mut().insert(header::LOCATION, own.unwrap_or_else(|| location.clone()));
    }
    Ok(response)
}

/// The address of what was created, by the name that the caller has for this worker.
fn own_location(location: &HeaderValue, scheme: &str, host: &HeaderValue) -> Option<HeaderValue> {
    let (_, rest) = location.to_str().ok()?.split_once("://")?;
    let path = rest.find('/').map_or("", |at| &rest[at..]);
    HeaderValue::from_str(&format!("{scheme}://{}{path}", host.to_str().ok()?)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_goes_over_two_hops_at_most() {
        assert_eq!(next_hop(None), Some(true));
        assert_eq!(next_hop(Some("a=b&forward=true")), Some(false));
        assert_eq!(next_hop(Some("forward=false")), None);
    }

    #[test]
    fn other_parameters_go_along() {
        assert_eq!(
            target("http://h:1/", "/connectors/a%20b/restart", Some("includeTasks=true&forward=true"), false),
            "http://h:1/connectors/a%20b/restart?forward=false&includeTasks=true"
        );
    }

    #[test]
    fn locations_name_the_worker_that_was_asked() {
        let own = own_location(
            &HeaderValue::from_static("http://leader:8083/connectors/c"),
            "https",
            &HeaderValue::from_static("me:1"),
        );
        assert_eq!(own, Some(HeaderValue::from_static("https://me:1/connectors/c")));
    }
}
