//! The sockets of the Connect API, and what is asked of requests before they reach it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use aqueduct_connect_worker::WorkerConfig;
use aqueduct_connect_worker::config::{AdminListeners, LOGIN_CONFIG, Listener, Scheme};
use aqueduct_security::tls::TlsOptions;
use axum::Router;
use axum::middleware::from_fn_with_state;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::basic_auth::Users;
use super::cors::{self, Cors};
use super::extra_headers::{self, ExtraHeaders};
use super::{ConnectApi, Part};
use crate::server::{BindError, Server, ServerTls, whole};
use crate::tls::Reloading;

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// A setting, or a file that one names, is wrong.
    #[error("{0}")]
    Setting(String),
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// Sockets that are bound, not serving yet.
pub struct Listeners {
    api: Vec<Server>,
    admin: Option<Vec<Server>>,
    users: Option<Arc<Users>>,
    cors: Option<Arc<Cors>>,
    extra: Arc<ExtraHeaders>,
}

impl Listeners {
    /// Binds `listeners` and `admin.listeners`, and reads what guards them.
    ///
    /// # Errors
    /// Addresses that cannot be bound, settings and files that cannot be used.
    pub async fn bind(config: &WorkerConfig) -> Result<Self, ListenError> {
        let extra =
            ExtraHeaders::read(config.text("response.http.headers.config")).map_err(ListenError::Setting)?;
        let cors = Cors::read(
            config.text("access.control.allow.origin"),
            config.text("access.control.allow.methods"),
        )
        .map_err(ListenError::Setting)?;
        let users = match config.has_basic_auth() {
            true => Some(Arc::new(users(config)?)),
            false => None,
        };
        let api = open(config, &config.listeners(), "listeners", "listeners.https.").await?;
        if api.is_empty() {
            return Err(ListenError::Setting("listeners: at least one address is needed".to_owned()));
        }
        let admin = match config.admin_listeners() {
            AdminListeners::Shared => None,
            AdminListeners::Off => Some(Vec::new()),
            AdminListeners::Own(own) => {
                Some(open(config, &own, "admin.listeners", "admin.listeners.https.").await?)
            }
        };
        Ok(Self { api, admin, users, cors: cors.map(Arc::new), extra: Arc::new(extra) })
    }

    /// Where `listeners` are bound, in their order.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.api.iter().map(Server::address).collect()
    }

    /// Where `admin.listeners` are bound.
    pub fn admin_addresses(&self) -> Vec<SocketAddr> {
        self.admin.iter().flatten().map(Server::address).collect()
    }

    /// Serves the API until `stop` is cancelled; the handles end when the answers under way are out.
    pub fn serve(self, api: &ConnectApi, stop: &CancellationToken) -> Vec<JoinHandle<()>> {
        let part = if self.admin.is_none() { Part::All } else { Part::WithoutAdmin };
        let mut router = whole(api.clone().router(part, self.users.as_ref()));
        // The reference, too, leaves these away from the admin listeners.
        if let Some(cors) = self.cors {
            router = router.layer(from_fn_with_state(cors, cors::share));
        }
        if !self.extra.is_empty() {
            router = router.layer(from_fn_with_state(self.extra, extra_headers::add));
        }
        let admin = whole(api.clone().router(Part::Admin, self.users.as_ref()));
        let serve = |server: Server, router: &Router| server.serve_whole(router.clone(), stop.clone());
        let mut serving: Vec<_> = self.api.into_iter().map(|server| serve(server, &router)).collect();
        serving.extend(self.admin.into_iter().flatten().map(|server| serve(server, &admin)));
        serving
    }
}

fn users(config: &WorkerConfig) -> Result<Users, ListenError> {
    let path = config.originals().get(LOGIN_CONFIG).map(String::as_str).unwrap_or_default();
    Users::load(Path::new(path)).map_err(|why| ListenError::Setting(format!("{LOGIN_CONFIG}: {why}")))
}

async fn open(
    config: &WorkerConfig,
    listeners: &[Listener],
    setting: &'static str,
    prefix: &str,
) -> Result<Vec<Server>, ListenError> {
    let tls = match listeners.iter().any(|listener| listener.scheme == Scheme::Https) {
        true => Some(Arc::new(tls(config, setting, prefix).await?)),
        false => None,
    };
    let mut servers = Vec::with_capacity(listeners.len());
    for listener in listeners {
        let server = Server::bind(&listener.host, listener.port, setting).await?;
        servers.push(match (&tls, listener.scheme) {
            (Some(tls), Scheme::Https) => server.encrypted(tls.clone()),
            _ => server,
        });
    }
    Ok(servers)
}

async fn tls(config: &WorkerConfig, setting: &str, prefix: &str) -> Result<ServerTls, ListenError> {
    let settings = config.rest_ssl_settings(prefix);
    let read = tokio::task::spawn_blocking(move || Reloading::read(&settings, TlsOptions::server)).await;
    let failed =
        |why: String| ListenError::Setting(format!("{setting}: https needs {prefix}ssl.* or ssl.*: {why}"));
    read.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))
}
