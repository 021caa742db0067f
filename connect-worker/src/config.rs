//! Settings: of the worker, of connectors, and of the clients that both lead to.

mod clients;
mod connector;
mod exactly_once;
mod providers;
mod rest;
mod tables;
mod worker;

pub use aqueduct_client::parse_properties;
pub use clients::{ClientKind, OverridePolicy, client_properties};
pub use connector::{
    ConnectorSettings, ErrorSettings, Tolerance, TransformStep, base_table, condition_table,
    connector_plugin, find_connector_plugin,
};
pub use exactly_once::{ExactlyOnceSource, TransactionBoundary, own_offsets_topic};
pub use providers::Providers;
pub use rest::{AdminListeners, Advertised, BASIC_AUTH, LOGIN_CONFIG, Listener, Scheme};
pub use tables::{Defaults, classes, sink_table, source_table};
pub use worker::{Mode, WorkerConfig};
