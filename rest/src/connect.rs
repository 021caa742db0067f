//! The Connect API, port 8083: the same paths, codes and bodies as Apache Kafka Connect.

mod connectors;
mod health;
mod internal;
mod lifecycle;
mod loggers;
mod metrics;
mod offsets;
mod plugins;
mod root;
mod tasks;
mod topics;

use aqueduct_connect_worker::Herder;
use axum::Router;

pub use loggers::Loggers;

/// The API over one worker.
#[derive(Clone)]
pub struct ConnectApi {
    herder: Herder,
    loggers: Loggers,
}

impl ConnectApi {
    pub fn new(herder: Herder, loggers: Loggers) -> Self {
        Self { herder, loggers }
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
            .with_state(self)
    }
}
