//! SQLite.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono_tz::Tz;
use futures_util::TryStreamExt;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Column as _, ConnectOptions, Executor, Row as _, Statement, TypeInfo, ValueRef};

use super::{Dialect, Scope, Session, literal, warn_of_unknown};
use crate::column::{Cell, Column, SqlType};
use crate::error::DbError;
use crate::reader::Rows;
use crate::table::{TableId, quoted};
use crate::time::{Moment, parse_moment, rounded_to_millis, wall_text};
use crate::url::JdbcUrl;

/// How long to wait for a writer that holds the file.
const BUSY: Duration = Duration::from_secs(5);

/// A file of SQLite. It is opened for reading and never created.
pub struct Sqlite {
    options: SqliteConnectOptions,
    place: String,
}

impl Sqlite {
    pub fn new(url: &JdbcUrl) -> Self {
        warn_of_unknown(&url.parameters, &[]);
        let options = SqliteConnectOptions::new()
            .filename(url.database.as_deref().unwrap_or_default())
            .create_if_missing(false)
            .busy_timeout(BUSY)
            .pragma("query_only", "ON")
            .disable_statement_logging();
        Self { options, place: url.place() }
    }
}

#[async_trait]
impl Dialect for Sqlite {
    fn quote(&self) -> char {
        '"'
    }

    fn place(&self) -> &str {
        &self.place
    }

    /// Times are text in one of several forms, or milliseconds: both are brought to one form.
    fn timestamp_expression(&self, column: &str) -> String {
        format!(
            "CASE typeof({column}) WHEN 'text' THEN strftime('%Y-%m-%d %H:%M:%f', {column}) \
             ELSE strftime('%Y-%m-%d %H:%M:%f', {column} / 1000.0, 'unixepoch') END"
        )
    }

    fn timestamp_literal(&self, moment: Moment, zone: Tz) -> String {
        format!("'{}'", wall_text(rounded_to_millis(moment), zone, 3))
    }

    fn as_compared(&self, moment: Moment) -> Moment {
        rounded_to_millis(moment)
    }

    async fn connect(&self) -> Result<Box<dyn Session>, DbError> {
        let connection = self.options.connect().await.map_err(|e| {
            let hint =
                "check that the path in connection.url exists on the worker and that the worker may read it";
            let error = DbError::from(e);
            DbError { message: format!("cannot open the {}: {}; {hint}", self.place, error.message), ..error }
        })?;
        Ok(Box::new(SqliteSession(connection)))
    }
}

struct SqliteSession(SqliteConnection);

#[async_trait]
impl Session for SqliteSession {
    async fn tables(&mut self, scope: &Scope) -> Result<Vec<TableId>, DbError> {
        let kinds: Vec<String> = ["table", "view"]
            .into_iter()
            .filter(|kind| scope.has(&kind.to_ascii_uppercase()))
            .map(literal)
            .collect();
        let sql = format!(
            "SELECT name FROM sqlite_master WHERE type IN ({}) AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name",
            kinds.join(",")
        );
        let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut self.0).await?;
        rows.iter()
            .map(|row| Ok(TableId { catalog: None, schema: None, name: row.try_get_unchecked(0)? }))
            .collect()
    }

    async fn columns(&mut self, table: &TableId) -> Result<Vec<Column>, DbError> {
        let sql = format!("PRAGMA table_info({})", quoted(&table.name, '"'));
        let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut self.0).await?;
        let keys =
            rows.iter().filter(|row| row.try_get_unchecked::<i64, _>(5).is_ok_and(|pk| pk > 0)).count();
        rows.iter()
            .map(|row| {
                let type_name: String = row.try_get_unchecked(2)?;
                // The one integer primary key is the row id: never null, and given out by the database.
                let row_id = keys == 1
                    && row.try_get_unchecked::<i64, _>(5)? > 0
                    && type_name.eq_ignore_ascii_case("INTEGER");
                Ok(Column {
                    name: row.try_get_unchecked(1)?,
                    sql_type: sql_type(&type_name),
                    nullable: row.try_get_unchecked::<i64, _>(3)? == 0 && !row_id,
                    auto_increment: row_id,
                    type_name,
                })
            })
            .collect()
    }

    async fn describe(&mut self, query: &str) -> Result<Vec<Column>, DbError> {
        let statement = (&mut self.0).prepare(sqlx::SqlSafeStr::into_sql_str(AssertSqlSafe(query))).await?;
        Ok(statement
            .columns()
            .iter()
            .map(|column| {
                // The driver keeps only the affinity of a declared type.
                let type_name = column.type_info().name().to_owned();
                Column {
                    name: column.name().to_owned(),
                    sql_type: sql_type(&type_name),
                    type_name,
                    nullable: true,
                    auto_increment: false,
                }
            })
            .collect())
    }

    async fn now(&mut self) -> Result<Moment, DbError> {
        let row = sqlx::raw_sql("SELECT CURRENT_TIMESTAMP").fetch_one(&mut self.0).await?;
        let text: String = row.try_get_unchecked(0)?;
        parse_moment(&text, Tz::UTC)
            .ok_or_else(|| DbError::permanent(format!("the database's clock says {text:?}")))
    }

    async fn stream(&mut self, sql: &str, rows: &mut Rows) -> Result<(), DbError> {
        let mut found = sqlx::raw_sql(AssertSqlSafe(sql)).fetch(&mut self.0);
        while let Some(row) = found.try_next().await? {
            let cells = (0..row.len()).map(|i| cell(&row, i)).collect::<Result<_, _>>()?;
            if !rows.push(cells).await {
                break;
            }
        }
        Ok(())
    }
}

fn cell(row: &SqliteRow, index: usize) -> Result<Cell, sqlx::Error> {
    let value = row.try_get_raw(index)?;
    if value.is_null() {
        return Ok(Cell::Null);
    }
    let stored_as = value.type_info().name().to_owned();
    Ok(match stored_as.as_str() {
        "INTEGER" | "BOOLEAN" => Cell::Integer(row.try_get_unchecked(index)?),
        "REAL" => Cell::Real(row.try_get_unchecked(index)?),
        "BLOB" => Cell::Bytes(Bytes::copy_from_slice(row.try_get_unchecked::<&[u8], _>(index)?)),
        _ => Cell::Text(row.try_get_unchecked::<&str, _>(index)?.into()),
    })
}

/// The type of a declared type's name. SQLite stores integers and floats with 64 bits whatever they are called, so plain
/// `INTEGER` and `REAL` have 64 here; the names of smaller ones are taken at their word.
fn sql_type(declared: &str) -> SqlType {
    let (name, arguments) = declared.split_once('(').unwrap_or((declared, ""));
    let mut digits = arguments.trim_end_matches(')').split(',').map(|n| n.trim().parse::<u32>().ok());
    let precision = digits.next().flatten();
    let scale = digits.next().flatten().or(precision.map(|_| 0)).map(|s| s as i32);
    let name = name.trim().to_ascii_uppercase();
    match name.as_str() {
        "BOOLEAN" | "BOOL" => SqlType::Boolean,
        "TINYINT" => SqlType::Int8,
        "SMALLINT" | "INT2" => SqlType::Int16,
        "MEDIUMINT" => SqlType::Int32,
        "DATE" => SqlType::Date,
        "TIME" => SqlType::Time,
        "NUMERIC" => SqlType::Numeric { precision, scale },
        "DECIMAL" => SqlType::Decimal { precision, scale },
        _ if name.starts_with("DATETIME") || name.starts_with("TIMESTAMP") => {
            SqlType::Timestamp { zoned: false }
        }
        // From here on SQLite's own rules of affinity.
        _ if name.contains("INT") => SqlType::Int64,
        _ if name.contains("CHAR") || name.contains("CLOB") || name.contains("TEXT") => SqlType::Text,
        _ if name.contains("BLOB") || name.contains("BINARY") => SqlType::Binary,
        _ if name.contains("REAL") || name.contains("FLOA") || name.contains("DOUB") => SqlType::Float64,
        _ => SqlType::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_types_are_understood() {
        for (declared, expected) in [
            ("INTEGER", SqlType::Int64),
            ("smallint", SqlType::Int16),
            ("unsigned big int", SqlType::Int64),
            ("VARCHAR(20)", SqlType::Text),
            ("DECIMAL(10, 2)", SqlType::Decimal { precision: Some(10), scale: Some(2) }),
            ("NUMERIC", SqlType::Numeric { precision: None, scale: None }),
            ("NUMERIC(5)", SqlType::Numeric { precision: Some(5), scale: Some(0) }),
            ("DOUBLE PRECISION", SqlType::Float64),
            ("datetime", SqlType::Timestamp { zoned: false }),
            ("BLOB", SqlType::Binary),
            ("", SqlType::Text),
        ] {
            assert_eq!(sql_type(declared), expected, "{declared}");
        }
    }
}
