//! Connections to brokers: one pipelined socket each, and the pool that keeps them.

mod connection;
mod handshake;
mod pool;
mod versions;

pub(crate) use connection::{Connection, PendingResponse};
pub(crate) use pool::{Lane, Pool};
