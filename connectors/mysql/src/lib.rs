//! Change capture from the MySQL and MariaDB binlog, in the records, keys and offsets of Debezium's two connectors.
//!
//! ```text
//! Task ── queue ── Engine ─┬─ Snapshot   all rows as of one position, resumable
//!                          └─ Stream     events ─ binlog/ ─ Tables ─ value/ ─ Envelopes ─ records
//! ```
//!
//! Table definitions come from the server: from the events themselves where it writes `binlog_row_metadata=FULL`, from
//! `information_schema` otherwise. No history topic is written or read. Without full metadata, events that are older
//! than a later change of their table are refused, unless number and types of the columns still fit; a column that was
//! only renamed shows under its new name then.

mod binlog;
mod clock;
mod config;
mod connector;
mod ddl;
mod engine;
mod envelope;
mod fault;
mod gtid;
mod offset;
mod output;
mod schema;
mod schema_change;
mod server;
mod snapshot;
mod stream;
mod table;
mod tables;
mod task;
mod value;

use aqueduct_connect_api::{Factory, Plugin, inventory};

use config::{Flavor, config_def};
use connector::ChangeCapture;
use task::Task;

inventory::submit! {
    Plugin {
        class: "io.debezium.connector.mysql.MySqlConnector",
        aliases: &[],
        version: env!("CARGO_PKG_VERSION"),
        config: &|| config_def(Flavor::MySql),
        factory: Factory::Source {
            connector: &|| Box::new(ChangeCapture::new(Flavor::MySql)),
            task: &|| Box::new(Task::new(Flavor::MySql)),
        },
    }
}

inventory::submit! {
    Plugin {
        class: "io.debezium.connector.mariadb.MariaDbConnector",
        aliases: &[],
        version: env!("CARGO_PKG_VERSION"),
        config: &|| config_def(Flavor::MariaDb),
        factory: Factory::Source {
            connector: &|| Box::new(ChangeCapture::new(Flavor::MariaDb)),
            task: &|| Box::new(Task::new(Flavor::MariaDb)),
        },
    }
}
