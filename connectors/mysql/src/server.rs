//! Connections to the server, and questions to it.

use std::collections::BTreeMap;
use std::time::Duration;

use aqueduct_connect_api::Error;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, Row, SslOpts};

use crate::config::{Settings, SslMode};
use crate::fault::{Fault, explain};
use crate::gtid::GtidSet;
use crate::table::declared::{Declared, DefaultStyle};
use crate::table::{Table, TableId, quote};
use crate::value::charset::Collations;

type Result<T> = std::result::Result<T, Fault>;

/// Opens a connection for statements: UTC, UTF-8, no time limits.
pub async fn connect(settings: &Settings) -> Result<Conn> {
    let mut conn = match settings.ssl {
        SslMode::Preferred => match open(settings, true).await {
            Err(mysql_async::Error::Driver(mysql_async::DriverError::NoClientSslFlagFromServer)) => {
                open(settings, false).await
            }
            other => other,
        },
        SslMode::Disabled => open(settings, false).await,
        _ => open(settings, true).await,
    }
    .map_err(|e| explain(settings, "connecting", e))?;
    // A reader that is paused for long must not be cut off.
    let session = "SET time_zone = '+00:00', sql_mode = '', net_write_timeout = 86400, net_read_timeout = 3600, \
                   wait_timeout = 86400";
    run(&mut conn, settings, session).await?;
    for statement in &settings.initial_statements {
        run(&mut conn, settings, statement).await?;
    }
    Ok(conn)
}

async fn open(settings: &Settings, encrypted: bool) -> mysql_async::Result<Conn> {
    let ssl = encrypted.then(|| {
        let ssl = SslOpts::default();
        match (settings.ssl, &settings.ssl_ca) {
            (SslMode::VerifyCa | SslMode::VerifyIdentity, ca) => {
                let ssl = match ca {
                    Some(file) => ssl
                        .with_root_certs(vec![std::path::PathBuf::from(file).into()])
                        .with_disable_built_in_roots(true),
                    None => ssl,
                };
                ssl.with_danger_skip_domain_validation(settings.ssl == SslMode::VerifyCa)
            }
            _ => ssl.with_danger_accept_invalid_certs(true).with_danger_skip_domain_validation(true),
        }
    });
    let opts = OptsBuilder::default()
        .ip_or_hostname(settings.host.clone())
        .tcp_port(settings.port)
        .user(Some(settings.user.clone()))
        .pass(settings.password.as_ref().map(|p| p.expose().to_owned()))
        .prefer_socket(false)
        .tcp_keepalive(Some(Duration::from_secs(60)))
        .max_allowed_packet(Some(1 << 30))
        .wait_timeout(Some(86_400))
        .stmt_cache_size(0)
        .ssl_opts(ssl);
    match tokio::time::timeout(settings.connect_timeout, Conn::new(opts)).await {
        Ok(result) => result,
        Err(_) => Err(mysql_async::Error::Io(mysql_async::IoError::Io(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            format!("no answer within connect.timeout.ms={}", settings.connect_timeout.as_millis()),
        )))),
    }
}

/// Runs a statement without a result.
pub async fn run(conn: &mut Conn, settings: &Settings, sql: &str) -> Result<()> {
    conn.query_drop(sql).await.map_err(|e| explain(settings, &format!("\"{}\"", shortened(sql)), e))
}

/// Runs a statement for its rows.
pub async fn rows(conn: &mut Conn, settings: &Settings, sql: &str) -> Result<Vec<Row>> {
    conn.query(sql).await.map_err(|e| explain(settings, &format!("\"{}\"", shortened(sql)), e))
}

fn shortened(sql: &str) -> String {
    sql.chars().take(120).collect()
}

/// A column's text; `None` where it is null or absent.
pub fn text(row: &Row, column: usize) -> Option<String> {
    match row.as_ref(column)? {
        mysql_async::Value::NULL => None,
        mysql_async::Value::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        other => Some(other.as_sql(true).trim_matches('\'').to_owned()),
    }
}

/// What the server is and how it is set up.
#[derive(Clone, Debug)]
pub struct Facts {
    pub mariadb: bool,
    /// As `(10, 11, 18)`.
    pub version: (u32, u32, u32),
    pub variables: BTreeMap<String, String>,
}

impl Facts {
    pub async fn read(conn: &mut Conn, settings: &Settings) -> Result<Self> {
        let sql = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('version', 'log_bin', 'binlog_format', \
                   'binlog_row_image', 'binlog_row_metadata', 'binlog_row_value_options', 'gtid_mode', 'server_id', \
                   'log_bin_compress', 'character_set_server', 'collation_server')";
        let variables: BTreeMap<String, String> = rows(conn, settings, sql)
            .await?
            .iter()
            .filter_map(|row| Some((text(row, 0)?.to_ascii_lowercase(), text(row, 1)?)))
            .collect();
        let full = variables.get("version").cloned().unwrap_or_default();
        let mut numbers = full.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        let version = (next(), next(), next());
        Ok(Self { mariadb: full.to_ascii_lowercase().contains("mariadb"), version, variables })
    }

    pub fn variable(&self, name: &str) -> &str {
        self.variables.get(name).map_or("", String::as_str)
    }

    pub fn default_style(&self) -> DefaultStyle {
        if self.mariadb && self.version >= (10, 2, 7) { DefaultStyle::MariaDb } else { DefaultStyle::MySql }
    }

    /// Whether transactions carry ids by which reading can be resumed.
    pub fn has_gtids(&self) -> bool {
        self.mariadb || self.variable("gtid_mode").eq_ignore_ascii_case("ON")
    }

    /// What must change on the server before its binlog can be read, with the reason.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !matches!(&*self.variable("log_bin").to_ascii_uppercase(), "ON" | "1") {
            problems.push("the server writes no binlog: start it with log_bin".to_owned());
        }
        let mut need = |name: &str, value: &str, why: &str| {
            let found = self.variable(name);
            if !found.is_empty() && !found.eq_ignore_ascii_case(value) {
                problems.push(format!(
                    "{name} is {found}: {why}; SET GLOBAL {name}='{value}' and in its configuration"
                ));
            }
        };
        need("binlog_format", "ROW", "only row events carry the changed values");
        need("binlog_row_image", "FULL", "events must carry whole rows");
        need("binlog_row_value_options", "", "events must carry whole JSON values");
        if self.variable("log_bin_compress").eq_ignore_ascii_case("ON") {
            problems.push(
                "log_bin_compress is ON: compressed events cannot be read; SET GLOBAL log_bin_compress=OFF"
                    .to_owned(),
            );
        }
        problems
    }
}

/// The end of the binlog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    pub file: String,
    pub position: u64,
    pub gtids: Option<GtidSet>,
}

/// Where the binlog ends at this moment.
pub async fn position(conn: &mut Conn, settings: &Settings, facts: &Facts) -> Result<Position> {
    let sql = if !facts.mariadb && facts.version >= (8, 2, 0) {
        "SHOW BINARY LOG STATUS"
    } else {
        "SHOW MASTER STATUS"
    };
    let found = rows(conn, settings, sql).await?;
    let no_binlog = || {
        Fault::Fatal(Error::connect(format!(
            "{} writes no binlog: start the server with log_bin, binlog_format=ROW",
            settings.address()
        )))
    };
    let row = found.first().ok_or_else(no_binlog)?;
    let file = text(row, 0).ok_or_else(no_binlog)?;
    let position = text(row, 1).and_then(|p| p.parse().ok()).ok_or_else(no_binlog)?;
    let gtids = if facts.mariadb {
        let sql = format!("SELECT BINLOG_GTID_POS('{}', {position})", file.replace('\'', "''"));
        rows(conn, settings, &sql).await?.first().and_then(|r| text(r, 0))
    } else if facts.has_gtids() {
        text(row, 4)
    } else {
        None
    };
    let gtids = gtids.filter(|g| !g.trim().is_empty()).and_then(|g| GtidSet::parse(&g).ok());
    Ok(Position { file, position, gtids })
}

/// Which charset each collation is of.
pub async fn collations(conn: &mut Conn, settings: &Settings, facts: &Facts) -> Result<Collations> {
    let table = if facts.mariadb && facts.version >= (10, 10, 0) {
        "COLLATION_CHARACTER_SET_APPLICABILITY"
    } else {
        "COLLATIONS"
    };
    let sql = format!("SELECT ID, CHARACTER_SET_NAME FROM information_schema.{table} WHERE ID IS NOT NULL");
    let found = rows(conn, settings, &sql).await?;
    Ok(Collations::new(found.iter().filter_map(|r| Some((text(r, 0)?.parse().ok()?, text(r, 1)?)))))
}

/// Every table that is captured, in order.
pub async fn captured_tables(conn: &mut Conn, settings: &Settings) -> Result<Vec<TableId>> {
    let sql = "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES \
               WHERE TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED')";
    let mut tables: Vec<TableId> = rows(conn, settings, sql)
        .await?
        .iter()
        .filter_map(|r| Some(TableId::new(&text(r, 0)?, &text(r, 1)?)))
        .filter(|id| settings.filters.captures(id))
        .collect();
    tables.sort();
    Ok(tables)
}

/// A table as the catalogue has it now; `None` where there is none.
pub async fn table(
    conn: &mut Conn,
    settings: &Settings,
    facts: &Facts,
    id: &TableId,
) -> Result<Option<Table>> {
    let literal = |s: &str| format!("'{}'", s.replace('\\', "\\\\").replace('\'', "''"));
    let of = format!("TABLE_SCHEMA = {} AND TABLE_NAME = {}", literal(&id.database), literal(&id.table));
    let sql = format!(
        "SELECT COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, COLUMN_DEFAULT, EXTRA, CHARACTER_SET_NAME, COLUMN_COMMENT \
         FROM information_schema.COLUMNS WHERE {of} ORDER BY ORDINAL_POSITION"
    );
    let style = facts.default_style();
    let columns: Vec<_> = rows(conn, settings, &sql)
        .await?
        .iter()
        .map(|r| {
            let get = |i| text(r, i).unwrap_or_default();
            Declared {
                name: get(0),
                column_type: get(1),
                nullable: get(2).eq_ignore_ascii_case("YES"),
                default: text(r, 3),
                extra: get(4),
                charset: text(r, 5),
                comment: get(6),
            }
            .into_column(style)
        })
        .collect();
    if columns.is_empty() {
        return Ok(None);
    }
    let sql = format!("SELECT TABLE_COLLATION, TABLE_COMMENT FROM information_schema.TABLES WHERE {of}");
    let about = rows(conn, settings, &sql).await?;
    let collation = about.first().and_then(|r| text(r, 0));
    let comment = about.first().and_then(|r| text(r, 1)).filter(|c| !c.is_empty());
    let charset = collation.map(|c| c.split('_').next().unwrap_or(&c).to_owned());
    let mut table = Table { id: id.clone(), charset, columns, primary_key: Vec::new(), comment };
    let sql = format!("SHOW INDEX FROM {} FROM {}", quote(&id.table), quote(&id.database));
    let indexes = match conn.query(&sql).await {
        Ok(indexes) => indexes,
        // dropped in between
        Err(mysql_async::Error::Server(e)) if e.code == 1146 || e.code == 1049 => return Ok(None),
        Err(e) => return Err(explain(settings, &sql, e)),
    };
    table.primary_key = key_columns(&table, &indexes);
    Ok(Some(table))
}

/// A unique index: its name, and position and column of each part; `None` for a part that can make no key.
type Unique = (String, Vec<(u32, Option<usize>)>);

/// The primary key, or the first unique index of whole columns none of which may be null.
fn key_columns(table: &Table, indexes: &[Row]) -> Vec<usize> {
    let mut unique: Vec<Unique> = Vec::new();
    for row in indexes {
        let get = |i| text(row, i);
        let (Some(not_unique), Some(name), Some(seq)) = (get(1), get(2), get(3)) else { continue };
        if not_unique != "0" {
            continue;
        }
        let column = get(4).and_then(|c| table.column(&c));
        let usable =
            column.filter(|i| name == "PRIMARY" || (!table.columns[*i].optional && get(7).is_none()));
        let entry = (seq.parse().unwrap_or(0), usable);
        match unique.iter_mut().find(|(n, _)| *n == name) {
            Some((_, columns)) => columns.push(entry),
            None => unique.push((name, vec![entry])),
        }
    }
    unique.sort_by_key(|(name, _)| name != "PRIMARY");
    unique
        .into_iter()
        .find_map(|(_, mut columns)| {
            columns.sort_by_key(|(seq, _)| *seq);
            columns.into_iter().map(|(_, column)| column).collect::<Option<Vec<_>>>()
        })
        .unwrap_or_default()
}

/// The statement that made a table, and the one that made its database.
pub async fn show_create(conn: &mut Conn, settings: &Settings, what: &str) -> Result<Option<String>> {
    let found = rows(conn, settings, &format!("SHOW CREATE {what}")).await?;
    Ok(found.first().and_then(|r| text(r, 1)))
}
