//! PostgreSQL.

use async_trait::async_trait;
use bytes::Bytes;
use chrono::SubsecRound;
use chrono_tz::Tz;
use futures_util::TryStreamExt;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow, PgSslMode, PgValueFormat};
use sqlx::{AssertSqlSafe, Column as _, ConnectOptions, Executor, Row as _, Statement, TypeInfo, ValueRef};

use super::{Dialect, Login, Scope, Session, literal, warn_of_unknown};
use crate::column::{Cell, Column, SqlType};
use crate::error::DbError;
use crate::reader::Rows;
use crate::table::TableId;
use crate::time::{Moment, parse_moment};
use crate::url::JdbcUrl;

/// Parameters of the Java driver that are understood, or that change nothing here.
const KNOWN: &[&str] = &[
    "user",
    "password",
    "ssl",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "currentSchema",
    "ApplicationName",
    "defaultRowFetchSize",
    "reWriteBatchedInserts",
    "stringtype",
    "tcpKeepAlive",
];

/// A server of PostgreSQL. Sessions run in UTC.
pub struct Postgres {
    options: PgConnectOptions,
    place: String,
    user: String,
    isolation: Option<&'static str>,
}

impl Postgres {
    pub fn new(url: &JdbcUrl, login: Login) -> Result<Self, String> {
        warn_of_unknown(&url.parameters, KNOWN);
        let user = login
            .user
            .or_else(|| url.parameter(&["user"]).map(str::to_owned))
            .unwrap_or("postgres".to_owned());
        let database = url.database.as_deref().unwrap_or(&user);
        let mut options = PgConnectOptions::new_without_pgpass()
            .host(&url.host)
            .port(url.port)
            .username(&user)
            .database(database)
            .application_name(url.parameter(&["ApplicationName"]).unwrap_or("aqueduct"))
            .ssl_mode(ssl_mode(url)?)
            .disable_statement_logging();
        if let Some(password) = login.password.as_deref().or(url.parameter(&["password"])) {
            options = options.password(password);
        }
        if let Some(file) = url.parameter(&["sslrootcert"]) {
            options = options.ssl_root_cert(file);
        }
        if let (Some(cert), Some(key)) = (url.parameter(&["sslcert"]), url.parameter(&["sslkey"])) {
            options = options.ssl_client_cert(cert).ssl_client_key(key);
        }
        if let Some(schema) = url.parameter(&["currentSchema"]) {
            options = options.options([("search_path", schema)]);
        }
        Ok(Self { options, place: url.place(), user, isolation: login.isolation })
    }

    /// One that leads nowhere, for its SQL.
    #[cfg(test)]
    pub fn for_tests() -> Self {
        let url = JdbcUrl::parse("jdbc:postgresql://localhost/db").expect("a URL");
        Self::new(&url, Login::default()).expect("options")
    }
}

fn ssl_mode(url: &JdbcUrl) -> Result<PgSslMode, String> {
    match url.parameter(&["sslmode"]) {
        Some(mode) => mode.parse().map_err(|_| {
            format!(
                "sslmode={mode} in the URL is none of disable, allow, prefer, require, verify-ca, verify-full"
            )
        }),
        None if url.parameter(&["ssl"]) == Some("true") => Ok(PgSslMode::VerifyFull),
        None => Ok(PgSslMode::Prefer),
    }
}

#[async_trait]
impl Dialect for Postgres {
    fn quote(&self) -> char {
        '"'
    }

    fn place(&self) -> &str {
        &self.place
    }

    async fn connect(&self) -> Result<Box<dyn Session>, DbError> {
        let failed = |e| DbError::at_connect(&self.place, &self.user, e);
        let mut connection = self.options.connect().await.map_err(failed)?;
        if let Some(level) = self.isolation {
            let sql = format!("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL {level}");
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.map_err(failed)?;
        }
        Ok(Box::new(PgSession { connection }))
    }
}

struct PgSession {
    connection: PgConnection,
}

/// What the catalog says of a column: name, type, type modifier, whether it may be null, whether it numbers rows.
const COLUMN_FACTS: &str = "a.attname, CASE t.typtype WHEN 'd' THEN b.typname WHEN 'e' THEN 'text' ELSE t.typname END, \
     CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END, NOT a.attnotnull, \
     a.attidentity <> '' OR COALESCE(pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%', false) \
     FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_type b ON b.oid = t.typbasetype \
     LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum";

impl PgSession {
    async fn texts(&mut self, sql: String) -> Result<Vec<Vec<Option<String>>>, DbError> {
        let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut self.connection).await?;
        rows.iter()
            .map(|row| {
                (0..row.len())
                    .map(|i| {
                        let value = row.try_get_raw(i)?;
                        match value.is_null() {
                            true => Ok(None),
                            false => Ok(Some(value.as_str().map_err(sqlx::Error::Decode)?.to_owned())),
                        }
                    })
                    .collect()
            })
            .collect()
    }
}

fn column(facts: &[Option<String>]) -> Column {
    let text = |i: usize| facts.get(i).cloned().flatten().unwrap_or_default();
    let type_name = text(1);
    Column {
        name: text(0),
        sql_type: sql_type(&type_name, text(2).parse().unwrap_or(-1)),
        nullable: text(3) == "t",
        auto_increment: text(4) == "t",
        type_name,
    }
}

#[async_trait]
impl Session for PgSession {
    async fn tables(&mut self, scope: &Scope) -> Result<Vec<TableId>, DbError> {
        let kinds: Vec<&str> = [
            ("TABLE", "'r'"),
            ("PARTITIONED TABLE", "'p'"),
            ("VIEW", "'v'"),
            ("MATERIALIZED VIEW", "'m'"),
            ("FOREIGN TABLE", "'f'"),
        ]
        .into_iter()
        .filter(|(kind, _)| scope.has(kind))
        .map(|(_, letter)| letter)
        .collect();
        if kinds.is_empty() {
            return Ok(Vec::new());
        }
        let mut sql = format!(
            "SELECT current_database(), n.nspname, c.relname FROM pg_class c JOIN pg_namespace n \
             ON n.oid = c.relnamespace WHERE c.relkind IN ({}) AND n.nspname !~ '^pg_' \
             AND n.nspname <> 'information_schema'",
            kinds.join(",")
        );
        if let Some(pattern) = &scope.catalog {
            sql += &format!(" AND current_database() LIKE {}", literal(pattern));
        }
        if let Some(pattern) = &scope.schema {
            sql += &format!(" AND n.nspname LIKE {}", literal(pattern));
        }
        let rows = self.texts(sql + " ORDER BY 2, 3").await?;
        Ok(rows
            .into_iter()
            .filter_map(|row| {
                let mut row = row.into_iter();
                Some(TableId { catalog: row.next()?, schema: row.next()?, name: row.next()?? })
            })
            .collect())
    }

    async fn columns(&mut self, table: &TableId) -> Result<Vec<Column>, DbError> {
        let place = match &table.schema {
            Some(schema) => format!("n.nspname = {}", literal(schema)),
            None => "pg_table_is_visible(c.oid)".to_owned(),
        };
        let sql = format!(
            "SELECT {COLUMN_FACTS} JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n \
             ON n.oid = c.relnamespace WHERE c.relname = {} AND {place} AND a.attnum > 0 AND NOT a.attisdropped \
             ORDER BY a.attnum",
            literal(&table.name)
        );
        Ok(self.texts(sql).await?.iter().map(|row| column(row)).collect())
    }

    async fn describe(&mut self, query: &str) -> Result<Vec<Column>, DbError> {
        let query = sqlx::SqlSafeStr::into_sql_str(AssertSqlSafe(query));
        let statement = (&mut self.connection).prepare(query).await?;
        let mut columns = Vec::new();
        for found in statement.columns() {
            let type_name = found.type_info().name().to_ascii_lowercase();
            let mut described = Column {
                name: found.name().to_owned(),
                sql_type: sql_type(&type_name, -1),
                type_name,
                nullable: true,
                auto_increment: false,
            };
            // A column that comes straight from a table has that one's digits and constraint.
            if let (Some(table), Some(number)) = (found.relation_id(), found.relation_attribute_no()) {
                let sql =
                    format!("SELECT {COLUMN_FACTS} WHERE a.attrelid = {} AND a.attnum = {number}", table.0);
                if let Some(facts) = self.texts(sql).await?.first() {
                    described = Column { name: described.name, ..column(facts) };
                }
            }
            columns.push(described);
        }
        Ok(columns)
    }

    async fn now(&mut self) -> Result<Moment, DbError> {
        let rows = self.texts("SELECT CURRENT_TIMESTAMP".to_owned()).await?;
        let text = rows.into_iter().flatten().flatten().next().unwrap_or_default();
        // Whole seconds, on purpose: see the crate's documentation.
        parse_moment(&text, Tz::UTC)
            .map(|now| now.trunc_subsecs(0))
            .ok_or_else(|| DbError::permanent(format!("the database's clock says {text:?}")))
    }

    async fn stream(&mut self, sql: &str, rows: &mut Rows) -> Result<(), DbError> {
        let mut found = sqlx::raw_sql(AssertSqlSafe(sql)).fetch(&mut self.connection);
        while let Some(row) = found.try_next().await? {
            let cells = (0..row.len()).map(|i| cell(&row, i)).collect::<Result<_, _>>()?;
            if !rows.push(cells).await {
                break;
            }
        }
        Ok(())
    }
}

fn cell(row: &PgRow, index: usize) -> Result<Cell, sqlx::Error> {
    let value = row.try_get_raw(index)?;
    if value.is_null() {
        return Ok(Cell::Null);
    }
    debug_assert_eq!(value.format(), PgValueFormat::Text, "simple queries answer in text");
    let text = value.as_str().map_err(sqlx::Error::Decode)?;
    Ok(match value.type_info().name() {
        "BYTEA" => Cell::Bytes(text.strip_prefix("\\x").map(from_hex).unwrap_or_default()),
        "BIT" | "VARBIT" if text.len() > 1 => bits(text),
        _ => Cell::Text(text.into()),
    })
}

fn from_hex(text: &str) -> Bytes {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0) as u8;
    text.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// Up to eight bits are a number; more are bytes, the first bit first.
fn bits(text: &str) -> Cell {
    if text.len() <= 8 {
        return Cell::Integer(u8::from_str_radix(text, 2).map_or(0, |b| (b as i8).into()));
    }
    let byte = |eight: &[u8]| {
        (0..8).fold(0u8, |byte, i| byte << 1 | u8::from(eight.get(i).is_some_and(|b| *b == b'1')))
    };
    Cell::Bytes(text.as_bytes().chunks(8).map(byte).collect())
}

/// `modifier` is the catalog's, -1 where there is none.
fn sql_type(name: &str, modifier: i32) -> SqlType {
    match name {
        "bool" => SqlType::Boolean,
        "bit" | "varbit" => match modifier {
            1 => SqlType::Boolean,
            2..=8 => SqlType::Int8,
            _ => SqlType::Binary,
        },
        "int2" => SqlType::Int16,
        "int4" => SqlType::Int32,
        "int8" | "oid" => SqlType::Int64,
        "float4" => SqlType::Float32,
        "float8" => SqlType::Float64,
        // The Java driver calls it a double, which its text is not; this one keeps the text.
        "money" => SqlType::Text,
        "numeric" if modifier >= 4 => {
            let digits = (modifier - 4) as u32;
            // Eleven bits of scale, which may be negative.
            let scale = ((digits & 0x7ff) as i32 ^ 1024) - 1024;
            SqlType::Numeric { precision: Some(digits >> 16 & 0xffff), scale: Some(scale) }
        }
        "numeric" => SqlType::Numeric { precision: None, scale: None },
        "text" | "varchar" | "bpchar" | "char" | "name" | "json" | "jsonb" | "uuid" | "xml" | "citext" => {
            SqlType::Text
        }
        "bytea" => SqlType::Binary,
        "date" => SqlType::Date,
        "time" | "timetz" => SqlType::Time,
        "timestamp" => SqlType::Timestamp { zoned: false },
        "timestamptz" => SqlType::Timestamp { zoned: true },
        _ => SqlType::Unsupported,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_come_from_the_type_modifier() {
        let modifier = |precision: i32, scale: i32| (precision << 16 | scale & 0x7ff) + 4;
        for (precision, scale) in [(10, 2), (5, 0), (1000, 1000), (3, -2)] {
            let expected = SqlType::Numeric { precision: Some(precision as u32), scale: Some(scale) };
            assert_eq!(sql_type("numeric", modifier(precision, scale)), expected);
        }
        assert_eq!(sql_type("numeric", -1), SqlType::Numeric { precision: None, scale: None });
        assert_eq!(sql_type("tsvector", -1), SqlType::Unsupported);
    }

    #[test]
    fn bytes_and_bits_are_unpacked() {
        assert_eq!(from_hex("00ff10"), Bytes::from_static(&[0, 255, 16]));
        assert_eq!(bits("101"), Cell::Integer(5));
        assert_eq!(bits("100000001"), Cell::Bytes(Bytes::from_static(&[0x80, 0x80])));
    }
}
