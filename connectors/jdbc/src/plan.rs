//! One query: what to ask for, worked out on the connection that asks.

use std::sync::Arc;

use chrono_tz::Tz;

use crate::column::{Column, SqlType};
use crate::config::Settings;
use crate::criteria::{Criteria, Style};
use crate::dialect::{Dialect, Session};
use crate::error::DbError;
use crate::offset::Offset;
use crate::reader::{Begun, Rows};
use crate::table::TableId;
use crate::time::Moment;

/// Where rows come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Table(TableId),
    /// The text of `query`.
    Query(String),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Table(table) => write!(f, "table {table}"),
            Self::Query(_) => f.write_str("the configured query"),
        }
    }
}

/// A query to come.
pub struct Plan {
    pub settings: Arc<Settings>,
    pub dialect: Arc<dyn Dialect>,
    pub source: Source,
    pub offset: Offset,
}

impl Plan {
    /// Reads the columns and the clock, says how it begins, and streams the rows.
    pub async fn run(&self, session: &mut dyn Session, rows: &mut Rows) -> Result<(), DbError> {
        let columns = match &self.source {
            Source::Table(table) => session.columns(table).await,
            Source::Query(query) => session.describe(query).await,
        }
        .map_err(|e| e.during(format_args!("reading the columns of {}", self.source)))?;
        if columns.is_empty() {
            let message =
                format!("{} has no columns: it does not exist, or this user may not see it", self.source);
            return Err(DbError { message, transient: matches!(self.source, Source::Table(_)) });
        }
        let criteria = self.settings.criteria(&self.source, &columns)?;
        let mut offset = self.offset;
        let mut end = None;
        if !criteria.timestamps.is_empty() {
            let now = session.now().await.map_err(|e| e.during("reading the database's clock"))?;
            end = Some(now - self.settings.timestamp_delay);
            offset.timestamp = offset.timestamp.or_else(|| self.settings.timestamp_initial(now));
        }
        let zone = self.comparison_zone(&criteria, &columns);
        let (columns, left_out) = self.readable(columns);
        let sql = self.sql(&criteria, &columns, zone, &offset, end);
        tracing::debug!(source = %self.source, sql, "query starts");
        if !rows.begin(Begun { columns, left_out, criteria, offset }).await {
            return Ok(());
        }
        session.stream(&sql, rows).await.map_err(|e| {
            let shown = if self.settings.query_is_secret { "a masked query" } else { &sql };
            e.during(format_args!("reading {} of {} with {shown}", self.source, self.dialect.place()))
        })
    }

    /// The columns that a record can carry, and what the others are. Of a query all are read: its text says what it gives.
    fn readable(&self, columns: Vec<Column>) -> (Vec<Column>, Vec<String>) {
        let (readable, left_out): (Vec<_>, Vec<_>) = columns.into_iter().partition(|column| {
            column.sql_type != SqlType::Unsupported || matches!(self.source, Source::Query(_))
        });
        (readable, left_out.into_iter().map(|c| format!("{} ({})", c.name, c.type_name)).collect())
    }

    /// The zone of the first timestamp column's wall clocks.
    fn comparison_zone(&self, criteria: &Criteria, columns: &[Column]) -> Tz {
        let first = criteria.timestamps.first();
        match columns.iter().find(|c| Some(&c.name) == first).map(|c| &c.sql_type) {
            Some(SqlType::Timestamp { zoned: true }) => Tz::UTC,
            _ => self.settings.rules.zone,
        }
    }

    fn sql(
        &self,
        criteria: &Criteria,
        columns: &[Column],
        zone: Tz,
        offset: &Offset,
        end: Option<Moment>,
    ) -> String {
        let style = Style { dialect: &*self.dialect, quote: self.settings.quote_identifiers, zone };
        let mut sql = match &self.source {
            Source::Query(query) => query.clone(),
            Source::Table(table) => {
                // Named columns, so that one that is added meanwhile does not shift the others.
                let names: Vec<String> = columns.iter().map(|c| style.name(&c.name)).collect();
                let table = match self.settings.quote_identifiers {
                    true => table.quoted(self.dialect.quote()),
                    false => table.to_string(),
                };
                format!("SELECT {} FROM {table}", names.join(", "))
            }
        };
        sql += &criteria.clauses(style, offset, end);
        if !self.settings.query_suffix.is_empty() {
            sql.push(' ');
            sql += &self.settings.query_suffix;
        }
        sql
    }
}
