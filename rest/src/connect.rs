//! The Connect API, port 8083: the same paths, codes and bodies as Apache Kafka Connect.

mod connectors;
mod forward;
mod health;
mod internal;
mod lifecycle;
mod loggers;
mod metrics;
mod offsets;
mod peers;
mod plugins;
mod root;
mod tasks;
mod topics;

use aqueduct_connect_worker::Herder;
use axum::Router;
use axum::middleware::from_fn_with_state;

pub use loggers::Loggers;
pub use peers::HttpPeers;

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

    /// All of its routes.
    pub fn router(self) -> Router {
        Router::new()
            .merge(root::routes())
            .merge(health::routes())
            .merge(metrics::routes())
            .merge(connectors::routes())
            .merge(tasks::routes())
            .merge(lifecycle::routes())
            .merge(topics::routes())
            .merge(offsets::routes())
            .merge(plugins::routes())
            .merge(loggers::routes())
            .merge(internal::routes())
            .layer(from_fn_with_state(self.peers.clone(), forward::pass_on))
            .with_state(self)
    }
}
