//! JDBC source connector: rows of SQLite, MySQL, MariaDB and PostgreSQL tables, or of a query, as records.
//!
//! Class names, settings, partitions, offsets and data types are those of the JDBC source connector in common use
//! (`io.confluent.connect.jdbc.JdbcSourceConnector`), so that a configuration and its stored offsets move over unchanged.
//!
//! ```text
//! connector ── table list ──> tasks (tables divided between them)
//!   monitor: reconfigures when tables come and go
//! task: one connection, one querier a table
//!   querier: due (interval or cron) → columns → SQL from mode and offset → rows streamed in batches → records
//! ```
//!
//! Where the reference can lose data, this one differs on purpose:
//! - the first query in a mode with an incrementing or timestamp column has no lower bound, so that negative ids and times
//!   before 1970 are read;
//! - a `LIMIT` in `query.suffix` cannot cut a group of equal timestamps in two;
//! - the upper bound of a timestamp query is a whole second of the database's clock, so that columns without fractions do
//!   not hide rows that are written later in the same second;
//! - integers and floats of SQLite have 64 bits, as the database stores them;
//! - decimals without a declared scale keep all their digits.

mod column;
mod config;
mod connector;
mod convert;
mod criteria;
mod dialect;
mod error;
mod mapping;
mod offset;
mod plan;
mod querier;
mod reader;
mod schedule;
mod table;
mod task;
mod time;
mod url;

pub use connector::JdbcSource;
pub use task::JdbcSourceTask;
