//! Listening, serving, stopping.

use std::future::IntoFuture as _;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{StatusCode, Uri};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::error::ApiError;

/// Largest body that is read.
const BODY_LIMIT: usize = 8 << 20;
/// How long answers under way may take once the server is to stop.
const DRAIN: Duration = Duration::from_secs(5);

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}; choose another port in `{setting}`, or stop what uses it")]
pub struct BindError {
    address: String,
    setting: &'static str,
    source: io::Error,
}

/// A bound listener, not serving yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Listens on `host` (empty for every address) and `port` (0 for any); `setting` names where that comes from.
    ///
    /// # Errors
    /// [`BindError`] where the address is taken or is none of this machine's.
    pub async fn bind(host: &str, port: u16, setting: &'static str) -> Result<Self, BindError> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let host = if host.is_empty() { "0.0.0.0" } else { host };
        let failed = |source| BindError { address: format!("{host}:{port}"), setting, source };
        let listener = TcpListener::bind((host, port)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `router` until `stop` is cancelled; the handle ends when the answers under way are out.
    pub fn serve(self, router: Router, stop: CancellationToken) -> JoinHandle<()> {
        let router = router
            .fallback(|| async { ApiError::bare(StatusCode::NOT_FOUND) })
            .method_not_allowed_fallback(|| async { ApiError::bare(StatusCode::METHOD_NOT_ALLOWED) })
            .layer(DefaultBodyLimit::max(BODY_LIMIT));
        // Routing happens below this layer, so that a path may end in a slash.
        let app = Router::new().fallback_service(router).layer(from_fn(without_last_slash));
        tokio::spawn(async move {
            let drained = stop.clone();
            let serving =
                axum::serve(self.listener, app).with_graceful_shutdown(stop.cancelled_owned()).into_future();
            tokio::select! {
                served = serving => {
                    if let Err(error) = served {
                        tracing::error!(%error, "the HTTP listener failed");
                    }
                }
                () = async { drained.cancelled().await; tokio::time::sleep(DRAIN).await } => {}
            }
        })
    }
}

async fn without_last_slash(mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if path.len() > 1 && path.ends_with('/') {
        let mut changed = path.trim_end_matches('/').to_owned();
        if let Some(query) = request.uri().query() {
            changed.push('?');
            changed.push_str(query);
        }
        if let Ok(uri) = changed.parse::<Uri>() {
            *request.uri_mut() = uri;
        }
    }
    next.run(request).await
}
