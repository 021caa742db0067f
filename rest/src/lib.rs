//! Every HTTP surface: one set of listener and error-body plumbing, and a router for each service.
//!
//! - [`Server`] binds, serves a router and stops.
//! - [`error`] is the one shape of errors, `{"error_code":404,"message":"..."}`.
//! - [`connect`] is the Connect API, over a worker's [`aqueduct_connect_worker::Herder`].

mod body;
pub mod connect;
pub mod error;
mod query;
mod server;

pub mod node;

pub use connect::{ConnectApi, HttpPeers, Loggers};
pub use server::{BindError, Server};
