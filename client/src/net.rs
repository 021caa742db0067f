//! Connections to brokers: one pipelined socket each, and the pool that keeps them.

mod connection;
mod handshake;
pub mod injected;
mod pool;
mod renewal;
mod sasl;
mod stream;
mod tokens;
mod versions;

pub use connection::{Connection, PendingResponse};
pub use pool::{Lane, Pool};
pub(crate) use tokens::Tokens;
