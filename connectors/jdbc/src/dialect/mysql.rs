//! MySQL and MariaDB.

use async_trait::async_trait;
use bytes::Bytes;
use chrono_tz::Tz;
use futures_util::TryStreamExt;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlRow, MySqlSslMode};
use sqlx::{AssertSqlSafe, Column as _, ConnectOptions, Executor, Row as _, Statement, TypeInfo, ValueRef};

use super::{Dialect, Login, Scope, Session, literal, warn_of_unknown};
use crate::column::{Cell, Column, SqlType};
use crate::error::DbError;
use crate::reader::Rows;
use crate::table::TableId;
use crate::time::{Moment, parse_moment};
use crate::url::JdbcUrl;

/// Parameters of the Java drivers that are understood, or that change nothing here.
const KNOWN: &[&str] = &[
    "user",
    "password",
    "useSSL",
    "requireSSL",
    "verifyServerCertificate",
    "sslMode",
    "serverSslCert",
    "useCursorFetch",
    "useUnicode",
    "characterEncoding",
    "autoReconnect",
    "allowPublicKeyRetrieval",
    "rewriteBatchedStatements",
    "zeroDateTimeBehavior",
    "serverTimezone",
    "connectionTimeZone",
];

/// A server of MySQL or MariaDB.
///
/// Sessions run in UTC: `TIMESTAMP` columns are instants whatever the server's zone is, and `DATETIME` columns are wall
/// clocks in `db.timezone`.
pub struct MySql {
    options: MySqlConnectOptions,
    place: String,
    user: String,
    isolation: Option<&'static str>,
}

impl MySql {
    pub fn new(url: &JdbcUrl, login: Login) -> Result<Self, String> {
        warn_of_unknown(&url.parameters, KNOWN);
        let user = login.user.or_else(|| url.parameter(&["user"]).map(str::to_owned)).unwrap_or_default();
        let mut options = MySqlConnectOptions::new()
            .host(&url.host)
            .port(url.port)
            .username(&user)
            .ssl_mode(ssl_mode(url)?)
            .disable_statement_logging();
        if let Some(password) = login.password.as_deref().or(url.parameter(&["password"])) {
            options = options.password(password);
        }
        if let Some(database) = &url.database {
            options = options.database(database);
        }
        if let Some(file) = url.parameter(&["serverSslCert"]) {
            options = options.ssl_ca(file);
        }
        Ok(Self { options, place: url.place(), user, isolation: login.isolation })
    }
}

fn ssl_mode(url: &JdbcUrl) -> Result<MySqlSslMode, String> {
    if let Some(mode) = url.parameter(&["sslMode"]) {
        return Ok(match mode.to_ascii_lowercase().replace('_', "-").as_str() {
            "disabled" | "disable" => MySqlSslMode::Disabled,
            "preferred" => MySqlSslMode::Preferred,
            "required" | "trust" => MySqlSslMode::Required,
            "verify-ca" => MySqlSslMode::VerifyCa,
            "verify-identity" | "verify-full" => MySqlSslMode::VerifyIdentity,
            _ => {
                return Err(format!(
                    "sslMode={mode} in the URL is none of DISABLED, PREFERRED, REQUIRED, VERIFY_CA, VERIFY_IDENTITY"
                ));
            }
        });
    }
    let says = |name, value| url.parameter(&[name]) == Some(value);
    Ok(if says("useSSL", "false") {
        MySqlSslMode::Disabled
    } else if says("verifyServerCertificate", "true") {
        MySqlSslMode::VerifyCa
    } else if says("requireSSL", "true") {
        MySqlSslMode::Required
    } else {
        MySqlSslMode::Preferred
    })
}

#[async_trait]
impl Dialect for MySql {
    fn quote(&self) -> char {
        '`'
    }

    fn place(&self) -> &str {
        &self.place
    }

    async fn connect(&self) -> Result<Box<dyn Session>, DbError> {
        let failed = |e| DbError::at_connect(&self.place, &self.user, e);
        let mut connection = self.options.connect().await.map_err(failed)?;
        if let Some(level) = self.isolation {
            let sql = format!("SET SESSION TRANSACTION ISOLATION LEVEL {level}");
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.map_err(failed)?;
        }
        Ok(Box::new(MySqlSession { connection }))
    }
}

struct MySqlSession {
    connection: MySqlConnection,
}

impl MySqlSession {
    async fn texts(&mut self, sql: String) -> Result<Vec<Vec<Option<String>>>, DbError> {
        let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut self.connection).await?;
        rows.iter()
            .map(|row| {
                (0..row.len())
                    .map(|i| {
                        let bytes: Option<&[u8]> = row.try_get_unchecked(i)?;
                        Ok(bytes.map(|b| String::from_utf8_lossy(b).into_owned()))
                    })
                    .collect()
            })
            .collect()
    }
}

#[async_trait]
impl Session for MySqlSession {
    async fn tables(&mut self, scope: &Scope) -> Result<Vec<TableId>, DbError> {
        let kinds: Vec<String> = [("TABLE", "BASE TABLE"), ("VIEW", "VIEW"), ("SYSTEM TABLE", "SYSTEM VIEW")]
            .into_iter()
            .filter(|(kind, _)| scope.has(kind))
            .map(|(_, name)| literal(name))
            .collect();
        if kinds.is_empty() {
            return Ok(Vec::new());
        }
        let place = match &scope.catalog {
            Some(pattern) => format!("table_schema LIKE {}", literal(pattern)),
            None => "(table_schema = DATABASE() OR (DATABASE() IS NULL AND table_schema NOT IN \
                     ('mysql','information_schema','performance_schema','sys')))"
                .to_owned(),
        };
        let sql = format!(
            "SELECT table_schema, table_name FROM information_schema.tables WHERE table_type IN ({}) AND {place} \
             ORDER BY 1, 2",
            kinds.join(",")
        );
        let rows = self.texts(sql).await?;
        Ok(rows
            .into_iter()
            .filter_map(|row| {
                let mut row = row.into_iter();
                Some(TableId { catalog: row.next()?, schema: None, name: row.next()?? })
            })
            .collect())
    }

    async fn columns(&mut self, table: &TableId) -> Result<Vec<Column>, DbError> {
        let catalog = table.catalog.as_deref().map_or("DATABASE()".to_owned(), literal);
        let sql = format!(
            "SELECT column_name, data_type, column_type, is_nullable, extra, numeric_precision, numeric_scale \
             FROM information_schema.columns WHERE table_schema = {catalog} AND table_name = {} \
             ORDER BY ordinal_position",
            literal(&table.name)
        );
        let rows = self.texts(sql).await?;
        Ok(rows
            .into_iter()
            .map(|row| {
                let text = |i: usize| row.get(i).cloned().flatten().unwrap_or_default();
                let number = |i: usize| text(i).parse::<u32>().ok();
                let full = text(2).to_ascii_lowercase();
                let unsigned = full.contains("unsigned");
                Column {
                    name: text(0),
                    sql_type: sql_type(&text(1), unsigned, number(5), number(6).map(|s| s as i32)),
                    nullable: text(3) == "YES",
                    auto_increment: text(4).contains("auto_increment"),
                    type_name: full,
                }
            })
            .collect())
    }

    async fn describe(&mut self, query: &str) -> Result<Vec<Column>, DbError> {
        let query = sqlx::SqlSafeStr::into_sql_str(AssertSqlSafe(query));
        let statement = (&mut self.connection).prepare(query).await?;
        Ok(statement
            .columns()
            .iter()
            .map(|column| {
                let type_name = column.type_info().name().to_ascii_lowercase();
                let unsigned = type_name.contains("unsigned");
                let base = type_name.split(' ').next().unwrap_or_default();
                Column {
                    name: column.name().to_owned(),
                    sql_type: sql_type(base, unsigned, None, None),
                    type_name,
                    nullable: true,
                    auto_increment: false,
                }
            })
            .collect())
    }

    async fn now(&mut self) -> Result<Moment, DbError> {
        // Whole seconds, on purpose: see the crate's documentation.
        let rows = self.texts("SELECT DATE_FORMAT(UTC_TIMESTAMP(), '%Y-%m-%d %H:%i:%s')".to_owned()).await?;
        let text = rows.into_iter().flatten().flatten().next().unwrap_or_default();
        parse_moment(&text, Tz::UTC)
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

fn cell(row: &MySqlRow, index: usize) -> Result<Cell, sqlx::Error> {
    let value = row.try_get_raw(index)?;
    if value.is_null() {
        return Ok(Cell::Null);
    }
    let type_info = value.type_info().into_owned();
    let bytes: &[u8] = row.try_get_unchecked(index)?;
    Ok(match type_info.name() {
        "BIT" if bytes.len() == 1 => Cell::Integer((bytes[0] as i8).into()),
        // The Java driver makes a date of it.
        "YEAR" => Cell::Text(format!("{}-01-01", String::from_utf8_lossy(bytes)).into()),
        // Booleans are what the driver calls TINYINT(1); all of these come as text.
        name if name == "BIT" || name.ends_with("BLOB") || name.ends_with("BINARY") || name == "GEOMETRY" => {
            Cell::Bytes(Bytes::copy_from_slice(bytes))
        }
        _ => match std::str::from_utf8(bytes) {
            Ok(text) => Cell::Text(text.into()),
            Err(_) => Cell::Bytes(Bytes::copy_from_slice(bytes)),
        },
    })
}

fn sql_type(base: &str, unsigned: bool, precision: Option<u32>, scale: Option<i32>) -> SqlType {
    match (base.to_ascii_lowercase().as_str(), unsigned) {
        ("boolean" | "bool", _) | ("tinyint", false) => SqlType::Int8,
        ("tinyint", true) | ("smallint", false) => SqlType::Int16,
        ("smallint", true) | ("mediumint" | "int" | "integer", false) => SqlType::Int32,
        ("mediumint", true) => SqlType::Int32,
        ("int" | "integer", true) | ("bigint", _) => SqlType::Int64,
        ("bit", _) if precision.is_some_and(|bits| bits > 8) => SqlType::Binary,
        ("bit", _) => SqlType::Int8,
        ("float", _) => SqlType::Float32,
        ("double" | "real", _) => SqlType::Float64,
        // The Java driver reports every decimal as DECIMAL, on which numeric.mapping does not act.
        ("decimal" | "numeric", _) => SqlType::Decimal { precision, scale },
        ("date" | "year", _) => SqlType::Date,
        ("time", _) => SqlType::Time,
        ("datetime", _) => SqlType::Timestamp { zoned: false },
        ("timestamp", _) => SqlType::Timestamp { zoned: true },
        ("tinyblob" | "blob" | "mediumblob" | "longblob" | "binary" | "varbinary", _) => SqlType::Binary,
        (
            "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring"
            | "multipolygon" | "geometrycollection" | "geomcollection" | "vector",
            _,
        ) => SqlType::Binary,
        _ => SqlType::Text,
    }
}
