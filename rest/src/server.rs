//! Listening, serving, stopping.

mod encrypted;
mod etiquette;

use std::future::IntoFuture as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::from_fn;
use axum::{Extension, Router};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::encrypted::Encrypted;
use crate::error::ApiError;
use crate::tls::Reloading;

/// Largest body that is read.
pub(crate) const BODY_LIMIT: usize = 8 << 20;
/// How long answers under way may take once the server is to stop.
const DRAIN: Duration = Duration::from_secs(5);

/// The TLS of listeners: the configuration for connections that begin now.
pub type ServerTls = Reloading<Arc<ServerConfig>>;

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}; choose another port in `{setting}`, or stop what uses it")]
pub struct BindError {
    address: String,
    setting: &'static str,
    source: io::Error,
}

/// How a request has come in, as an extension of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scheme(pub &'static str);

/// Adds what answers requests that have no route, and the limit of bodies.
pub(crate) fn whole(router: Router) -> Router {
    router
        .fallback(|| async { ApiError::bare(StatusCode::NOT_FOUND) })
        .method_not_allowed_fallback(|| async { ApiError::bare(StatusCode::METHOD_NOT_ALLOWED) })
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
}

/// A bound listener, not serving yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<ServerTls>>,
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
        Ok(Self { listener, address, tls: None })
    }

    /// Speaks HTTPS.
    #[must_use]
    pub fn encrypted(self, tls: Arc<ServerTls>) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `router` until `stop` is cancelled; the handle ends when the answers under way are out.
    pub fn serve(self, router: Router, stop: CancellationToken) -> JoinHandle<()> {
        self.serve_whole(whole(router), stop)
    }

    /// Serves a router that [`whole`] has made.
    pub(crate) fn serve_whole(self, router: Router, stop: CancellationToken) -> JoinHandle<()> {
        let scheme = Scheme(if self.tls.is_some() { "https" } else { "http" });
        // Routing happens below these layers, which may change the path.
        let app =
            Router::new().fallback_service(router).layer(from_fn(etiquette::keep)).layer(Extension(scheme));
        let stopped = stop.clone();
        tokio::spawn(async move {
            let drained = stop.clone();
            let serving = async {
                match self.tls {
                    None => {
                        let serving = axum::serve(self.listener, app);
                        serving.with_graceful_shutdown(stopped.cancelled_owned()).into_future().await
                    }
                    Some(tls) => {
                        let serving = axum::serve(Encrypted::new(self.listener, self.address, tls), app);
                        serving.with_graceful_shutdown(stopped.cancelled_owned()).into_future().await
                    }
                }
            };
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
