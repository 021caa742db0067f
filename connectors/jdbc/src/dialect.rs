//! What differs from database to database.

mod mysql;
mod postgres;
mod sqlite;

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono_tz::Tz;

use crate::column::Column;
use crate::error::DbError;
use crate::reader::Rows;
use crate::table::TableId;
use crate::time::{Moment, wall_text};
use crate::url::{JdbcUrl, Kind};

pub use mysql::MySql;
pub use postgres::Postgres;
pub use sqlite::Sqlite;

/// A database product: its SQL, and how to reach it.
#[async_trait]
pub trait Dialect: Send + Sync {
    /// The character around names.
    fn quote(&self) -> char;

    /// Where it is, for messages; without secrets.
    fn place(&self) -> &str;

    /// The expression by which a timestamp column is compared.
    fn timestamp_expression(&self, column: &str) -> String {
        column.to_owned()
    }

    /// `moment` as SQL, to compare with a timestamp column of wall clocks in `zone`.
    fn timestamp_literal(&self, moment: Moment, zone: Tz) -> String {
        format!("'{}'", wall_text(moment, zone, 6))
    }

    /// `moment` as the database sees it in comparisons.
    fn as_compared(&self, moment: Moment) -> Moment {
        moment
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// With the place, the user and what to check.
    async fn connect(&self) -> Result<Box<dyn Session>, DbError>;
}

/// A connection.
#[async_trait]
pub trait Session: Send {
    /// The tables in `scope`, in order of their names.
    async fn tables(&mut self, scope: &Scope) -> Result<Vec<TableId>, DbError>;

    /// The columns of a table, in order; none where there is no such table.
    async fn columns(&mut self, table: &TableId) -> Result<Vec<Column>, DbError>;

    /// The columns of a query's result.
    async fn describe(&mut self, query: &str) -> Result<Vec<Column>, DbError>;

    /// The database's clock.
    async fn now(&mut self) -> Result<Moment, DbError>;

    /// Runs `sql` and gives its rows to `rows`, as fast as they are taken.
    async fn stream(&mut self, sql: &str, rows: &mut Rows) -> Result<(), DbError>;
}

/// Which tables to look at.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// `table.types`, in capitals.
    pub types: Vec<String>,
    /// `catalog.pattern`, with the wildcards of `LIKE`.
    pub catalog: Option<String>,
    /// `schema.pattern`, likewise.
    pub schema: Option<String>,
}

impl Scope {
    fn has(&self, table_type: &str) -> bool {
        self.types.iter().any(|t| t == table_type)
    }
}

/// What a connection needs beside the URL.
#[derive(Clone, Default)]
pub struct Login {
    pub user: Option<String>,
    pub password: Option<String>,
    /// Standard name of the isolation level, if one is asked for.
    pub isolation: Option<&'static str>,
}

/// The dialect of a URL. Parameters that mean nothing here are named in the log and left alone.
///
/// # Errors
/// A parameter's value that is none.
pub fn for_url(url: JdbcUrl, login: Login) -> Result<Box<dyn Dialect>, String> {
    Ok(match url.kind {
        Kind::MySql => Box::new(MySql::new(&url, login)?),
        Kind::Postgres => Box::new(Postgres::new(&url, login)?),
        Kind::Sqlite => Box::new(Sqlite::new(&url)),
    })
}

/// Says which parameters of a URL are without effect.
fn warn_of_unknown(parameters: &BTreeMap<String, String>, known: &[&str]) {
    let unknown: Vec<&str> = parameters.keys().map(String::as_str).filter(|p| !known.contains(p)).collect();
    if !unknown.is_empty() {
        tracing::warn!(?unknown, "parameters of connection.url that have no effect here");
    }
}

/// A text as an SQL literal.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
