//! The Connect API, port 8083: the same paths, codes and bodies as Apache Kafka Connect.

mod basic_auth;
mod connectors;
mod cors;
mod explain;
mod extra_headers;
mod forward;
mod health;
mod internal;
mod lifecycle;
mod listeners;
mod loggers;
mod metrics;
mod offsets;
mod openapi;
mod peers;
mod plugins;
mod root;
mod routes;
mod tasks;
mod topics;

use std::sync::Arc;

use aqueduct_connect_worker::Herder;
use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::MethodRouter;

use self::basic_auth::Users;
use self::routes::Endpoint;

pub use listeners::{ListenError, Listeners};
pub use loggers::Loggers;
pub use peers::HttpPeers;

/// Which paths a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    All,
    WithoutAdmin,
    Admin,
}

/// All endpoints of a part.
fn endpoints(part: Part) -> Vec<Endpoint> {
    let public = || {
        [
            root::endpoints(),
            health::endpoints(),
            metrics::endpoints(),
            openapi::endpoints(),
            connectors::endpoints(),
            explain::endpoints(),
            tasks::endpoints(),
            lifecycle::endpoints(),
            topics::endpoints(),
            offsets::endpoints(),
            plugins::endpoints(),
            internal::endpoints(),
        ]
        .into_iter()
        .flatten()
    };
    match part {
        Part::All => public().chain(loggers::endpoints()).collect(),
        Part::WithoutAdmin => public().collect(),
        Part::Admin => loggers::endpoints(),
    }
}

/// The API over one worker.
#[derive(Clone)]
pub struct ConnectApi {
    herder: Herder,
    loggers: Loggers,
    peers: HttpPeers,
}

impl ConnectApi {
    /// `peers` is how requests that another worker has to answer reach it.
    pub fn new(herder: Herder, loggers: Loggers, peers: HttpPeers) -> Self {
        Self { herder, loggers, peers }
    }

    /// The routes of a part; with `users`, these alone may use them.
    pub(crate) fn router(self, part: Part, users: Option<&Arc<Users>>) -> Router {
        let guard = users.map(|users| from_fn_with_state(users.clone(), basic_auth::guard));
        let guarded = |handlers: MethodRouter<Self>| match &guard {
            Some(guard) => handlers.route_layer(guard.clone()),
            None => handlers,
        };
        let add = |router: Router<Self>, endpoint: Endpoint| {
            router.route(endpoint.path, endpoint.into_handlers(guarded))
        };
        let router = endpoints(part).into_iter().fold(Router::new(), add);
        router.layer(from_fn_with_state(self.peers.clone(), forward::pass_on)).with_state(self)
    }
}
