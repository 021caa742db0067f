//! Every HTTP surface: one set of listener and error-body plumbing, and a router for each service.
//!
//! - [`Server`] binds, serves a router, encrypted where it is told so, and stops.
//! - [`Outgoing`] is the client by which workers ask each other.
//! - [`error`] is the one shape of errors, `{"error_code":404,"message":"..."}`.
//! - [`connect`] is the Connect API, over a worker's [`aqueduct_connect_worker::Herder`].

mod body;
pub mod connect;
pub mod error;
mod outgoing;
mod query;
mod server;
mod tls;

pub mod node;

pub use connect::{ConnectApi, HttpPeers, ListenError, Listeners, Loggers};
pub use outgoing::Outgoing;
pub use server::{BindError, Server, ServerTls};
pub use tls::Reloading;
