//! A Kafka-compatible broker node.
//!
//! [`Broker::start`] takes [`Options`] and gives a [`Handle`]; several may run in one process.
//!
//! - [`config`]: the table of every key, `server.properties`, and the typed [`config::Settings`].
//! - [`metadata`]: the image of the cluster and the backend that changes it.
//! - [`format`]: empty directories are made those of a node of a cluster.
//! - [`controller`]: the pure decisions of a cluster of several brokers.
//! - [`replicated`]: the metadata of a cluster of several nodes, over a quorum.
//! - `api`: the table of APIs served, one file each.
//! - `network`: listener, connections, frames, `sendfile`.
//! - `coordinator`: groups and committed offsets.
//! - [`security`]: principals, operations, resources, and the authorizer; [`quotas`]: limits by client.
//! - `membership`: this node as a member of a cluster of several nodes.
//! - `peers`: connections to other nodes.
//! - `partitions`, `partition`, `fetch`: logs that are open, and who reads or waits for them; `replication`: who leads and who
//!   follows.

// Helpers that tests of this crate share with those beside it name it as the latter do.
#[cfg(test)]
extern crate self as aqueduct_broker;

mod api;
mod broker;
mod cleaner;
pub mod clock;
pub mod config;
pub mod controller;
mod coordinator;
#[doc(hidden)]
pub mod decoders;
mod error;
mod fetch;
pub mod format;
mod housekeeping;
mod loggers;
mod membership;
pub mod metadata;
mod metrics;
mod mover;
mod network;
mod node;
mod partition;
mod partitions;
mod peers;
pub mod quotas;
mod recompress;
pub mod replicated;
mod replication;
pub mod security;
mod state_log;
mod tasks;

pub use broker::{Broker, Handle, Options, raise_file_limit};
pub use error::Error;
pub use loggers::LogLevels;
