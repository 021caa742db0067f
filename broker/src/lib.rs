//! A Kafka-compatible broker node.
//!
//! - [`config`]: the table of every key, `server.properties`, and the typed [`config::Settings`].
//! - [`metadata`]: the image of the cluster and the backend that changes it.
//! - `api`: the table of APIs served, one file each.
//! - `network`: listener, connections, frames, `sendfile`.

mod api;
pub mod clock;
pub mod config;
pub mod metadata;
mod node;
mod state_log;
mod tasks;

pub mod coordinator;
