//! Settings, as the connector and its tasks use them.

mod filter;
mod keys;

use std::time::Duration;

use aqueduct_connect_api::{Config, Error, Result};
use chrono::TimeDelta;
use chrono_tz::Tz;
use regex::Regex;

use crate::column::{Column, SqlType};
use crate::convert::TimestampForm;
use crate::criteria::Criteria;
use crate::dialect::{self, Dialect, Login, Scope};
use crate::error::DbError;
use crate::mapping::{NumericMapping, Rules};
use crate::plan::Source;
use crate::schedule::{Schedule, parse_cron};
use crate::table::TableId;
use crate::time::Moment;
use crate::url::JdbcUrl;

pub use filter::Filter;
pub use keys::*;

/// `mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Bulk,
    Incrementing,
    Timestamp,
    TimestampIncrementing,
}

impl Mode {
    pub fn has_id(self) -> bool {
        matches!(self, Self::Incrementing | Self::TimestampIncrementing)
    }

    pub fn has_timestamp(self) -> bool {
        matches!(self, Self::Timestamp | Self::TimestampIncrementing)
    }
}

/// Settings that have been read and agree with each other.
pub struct Settings {
    url: JdbcUrl,
    login: Login,
    pub connection_attempts: u32,
    pub connection_backoff: Duration,
    mode: Mode,
    incrementing_column: String,
    timestamp_columns: Vec<String>,
    incrementing_mapping: Vec<ColumnMapping>,
    timestamp_mapping: Vec<ColumnMapping>,
    initial: Option<i64>,
    pub timestamp_delay: TimeDelta,
    pub rules: Rules,
    validate_non_null: bool,
    pub filter: Filter,
    pub scope: Scope,
    pub table_poll_interval: Duration,
    pub startup_limit: Duration,
    pub query: Option<String>,
    pub query_is_secret: bool,
    pub query_suffix: String,
    /// The most rows that `query.suffix` lets through.
    pub suffix_limit: Option<u64>,
    /// Negative: no limit.
    pub query_retry_attempts: i64,
    pub poll_interval: Duration,
    pub schedule: Schedule,
    pub batch_max_rows: usize,
    pub topic_prefix: String,
    pub quote_identifiers: bool,
}

/// `regex:column` or `regex:[column|column]`.
struct ColumnMapping {
    table: Regex,
    columns: Vec<String>,
}

impl Settings {
    /// Reads what the table of settings has checked, and checks how the settings go together.
    ///
    /// # Errors
    /// `Error::Config` at the key to change.
    pub fn read(config: &Config) -> Result<Self> {
        let url = JdbcUrl::parse(config.text(CONNECTION_URL))
            .map_err(|why| Error::config(CONNECTION_URL, "[hidden]", why))?;
        let (query, query_is_secret) = match config.password(QUERY_MASKED).map(|q| q.expose().trim()) {
            Some(masked) if !masked.is_empty() => (masked.to_owned(), true),
            _ => (config.text(QUERY).trim().to_owned(), false),
        };
        let query = Some(query.trim_end_matches(';').to_owned()).filter(|q| !q.is_empty());
        let filter = Filter::read(config)?;
        if query.is_some() && !filter.is_open() {
            return Err(Error::config(
                QUERY,
                "[set]",
                "a query and lists of tables exclude each other: remove one",
            ));
        }
        let zone: Tz = config.text(DB_TIMEZONE).parse().map_err(|_| {
            Error::config(
                DB_TIMEZONE,
                config.text(DB_TIMEZONE),
                "not a time zone, such as UTC or Europe/Berlin",
            )
        })?;
        let poll_interval = millis(config, POLL_INTERVAL);
        let suffix = config.text(QUERY_SUFFIX).trim().to_owned();
        let mut settings = Self {
            login: login(config, &url)?,
            url,
            connection_attempts: config.number(CONNECTION_ATTEMPTS).max(1) as u32,
            connection_backoff: millis(config, CONNECTION_BACKOFF),
            mode: mode(config.text(MODE)),
            incrementing_column: config.text(INCREMENTING_COLUMN).trim().to_owned(),
            timestamp_columns: config
                .list(TIMESTAMP_COLUMN)
                .iter()
                .filter(|c| !c.is_empty())
                .cloned()
                .collect(),
            incrementing_mapping: mappings(config, INCREMENTING_MAPPING)?,
            timestamp_mapping: mappings(config, TIMESTAMP_MAPPING)?,
            initial: config.integer(TIMESTAMP_INITIAL),
            timestamp_delay: TimeDelta::try_milliseconds(config.number(TIMESTAMP_DELAY)).unwrap_or_default(),
            rules: Rules {
                numeric: numeric(config),
                timestamps: form(config.text(TIMESTAMP_GRANULARITY)),
                zone,
            },
            validate_non_null: config.boolean(VALIDATE_NON_NULL),
            filter,
            scope: Scope {
                types: config.list(TABLE_TYPES).iter().map(|t| t.to_ascii_uppercase()).collect(),
                catalog: config.string(CATALOG_PATTERN).map(str::to_owned),
                schema: config.string(SCHEMA_PATTERN).map(str::to_owned),
            },
            table_poll_interval: millis(config, TABLE_POLL_INTERVAL),
            startup_limit: millis(config, STARTUP_LIMIT),
            query,
            query_is_secret,
            suffix_limit: limit(&suffix),
            query_suffix: suffix,
            query_retry_attempts: config.number(QUERY_RETRY_ATTEMPTS),
            poll_interval,
            schedule: Schedule::Every(poll_interval),
            batch_max_rows: config.number(BATCH_MAX_ROWS).max(1) as usize,
            topic_prefix: config.text(TOPIC_PREFIX).to_owned(),
            quote_identifiers: config.text(QUOTE_IDENTIFIERS).eq_ignore_ascii_case("always"),
        };
        if let Some(cron) = config.string(POLL_CRON).filter(|c| !c.is_empty()) {
            let schedule = parse_cron(cron).map_err(|why| Error::config(POLL_CRON, cron, why))?;
            settings.schedule = Schedule::Cron(Box::new(schedule), zone);
        }
        if settings.mode.has_timestamp()
            && settings.timestamp_columns.is_empty()
            && settings.timestamp_mapping.is_empty()
        {
            return Err(Error::config(
                TIMESTAMP_COLUMN,
                "",
                format!(
                    "mode {} needs the column, or columns, that hold the time of the last change",
                    config.text(MODE)
                ),
            ));
        }
        if settings.query.is_some() && settings.mode.has_id() && settings.incrementing_column.is_empty() {
            return Err(Error::config(
                INCREMENTING_COLUMN,
                "",
                "a query's incrementing column cannot be found out; name it",
            ));
        }
        Ok(settings)
    }

    /// The database that is meant.
    pub fn dialect(&self) -> Result<Box<dyn Dialect>> {
        dialect::for_url(self.url.clone(), self.login.clone())
            .map_err(|why| Error::config(CONNECTION_URL, "[hidden]", why))
    }

    pub fn is_bulk(&self) -> bool {
        self.mode == Mode::Bulk
    }

    /// From when on a table without an offset is read; `None` is from the beginning.
    pub fn timestamp_initial(&self, now: Moment) -> Option<Moment> {
        match self.initial? {
            -1 => Some(now),
            millis => Moment::from_timestamp_millis(millis),
        }
    }

    /// The columns by which `source` is read.
    ///
    /// # Errors
    /// A column that is not there, may be null, or cannot be found out; none of them passes by itself.
    pub fn criteria(&self, source: &Source, columns: &[Column]) -> Result<Criteria, DbError> {
        let mut criteria = Criteria::default();
        if self.mode.has_id() {
            let named = match self.mapped(&self.incrementing_mapping, INCREMENTING_MAPPING, source)? {
                Some(mapped) => mapped.first().cloned(),
                None => Some(self.incrementing_column.clone()).filter(|name| !name.is_empty()),
            };
            let name = match named {
                Some(name) => name,
                None => auto_increment(source, columns)?,
            };
            let column = self.offset_column(source, columns, &name, INCREMENTING_COLUMN)?;
            let whole = match &column.sql_type {
                SqlType::Int8 | SqlType::Int16 | SqlType::Int32 | SqlType::Int64 => true,
                SqlType::Numeric { scale, .. } | SqlType::Decimal { scale, .. } => {
                    scale.is_none_or(|s| s == 0)
                }
                // Of a query's results the type may be unknown.
                _ => matches!(source, Source::Query(_)),
            };
            if !whole {
                return Err(DbError::permanent(format!(
                    "{source}: the incrementing column {name} is of type {}; it must hold whole numbers",
                    column.type_name
                )));
            }
            criteria.incrementing = Some(column.name.clone());
        }
        if self.mode.has_timestamp() {
            let names = match self.mapped(&self.timestamp_mapping, TIMESTAMP_MAPPING, source)? {
                Some(mapped) => mapped,
                None => &self.timestamp_columns,
            };
            let found: Vec<&Column> = names
                .iter()
                .map(|name| find(source, columns, name, TIMESTAMP_COLUMN))
                .collect::<Result<_, _>>()?;
            // One column that is never null is enough for a whole expression that is never null.
            let never_null = found.iter().any(|c| !c.nullable);
            if self.validate_non_null && !never_null && matches!(source, Source::Table(_)) {
                return Err(may_be_null(source, &names.join(", "), TIMESTAMP_COLUMN));
            }
            criteria.timestamps = found.into_iter().map(|c| c.name.clone()).collect();
        }
        Ok(criteria)
    }

    fn offset_column<'a>(
        &self,
        source: &Source,
        columns: &'a [Column],
        name: &str,
        key: &str,
    ) -> Result<&'a Column, DbError> {
        let column = find(source, columns, name, key)?;
        if self.validate_non_null && column.nullable && matches!(source, Source::Table(_)) {
            return Err(may_be_null(source, name, key));
        }
        Ok(column)
    }

    /// What a mapping says of `source`; `None` where there is no mapping.
    fn mapped<'a>(
        &self,
        mappings: &'a [ColumnMapping],
        key: &str,
        source: &Source,
    ) -> Result<Option<&'a Vec<String>>, DbError> {
        let Source::Table(table) = source else { return Ok(None) };
        if mappings.is_empty() {
            return Ok(None);
        }
        let full = table.to_string();
        let found: Vec<_> = mappings.iter().filter(|m| m.table.is_match(&full)).collect();
        match found[..] {
            [one] => Ok(Some(&one.columns)),
            ref several => Err(DbError::permanent(format!(
                "table {full} is matched by {} expressions of {key}; each table must be matched by exactly one",
                several.len()
            ))),
        }
    }
}

/// Columns of the tables, checked at validation.
pub fn check_table(settings: &Settings, table: &TableId, columns: &[Column]) -> Result<(), DbError> {
    settings.criteria(&Source::Table(table.clone()), columns).map(drop)
}

fn find<'a>(source: &Source, columns: &'a [Column], name: &str, key: &str) -> Result<&'a Column, DbError> {
    let exact = columns.iter().find(|c| c.name == name);
    exact.or_else(|| columns.iter().find(|c| c.name.eq_ignore_ascii_case(name))).ok_or_else(|| {
        let names: Vec<&str> = columns.iter().map(|c| &*c.name).collect();
        DbError::permanent(format!(
            "{source} has no column {name}, which {key} names; it has {}",
            names.join(", ")
        ))
    })
}

fn may_be_null(source: &Source, column: &str, key: &str) -> DbError {
    DbError::permanent(format!(
        "{source}: the column {column}, which {key} names, may be null, and rows where it is would never be read; make it \
         NOT NULL, or set {VALIDATE_NON_NULL}=false if that is meant"
    ))
}

fn auto_increment(source: &Source, columns: &[Column]) -> Result<String, DbError> {
    let found: Vec<&str> = columns.iter().filter(|c| c.auto_increment).map(|c| &*c.name).collect();
    match found[..] {
        [one] => Ok(one.to_owned()),
        ref several => Err(DbError::permanent(format!(
            "{source} has {} columns that number rows by themselves where exactly one is needed; name the column in \
             {INCREMENTING_COLUMN}",
            several.len()
        ))),
    }
}

fn login(config: &Config, url: &JdbcUrl) -> Result<Login> {
    let isolation = match config.text(ISOLATION).to_ascii_uppercase().as_str() {
        "READ_UNCOMMITTED" => Some("READ UNCOMMITTED"),
        "READ_COMMITTED" => Some("READ COMMITTED"),
        "REPEATABLE_READ" => Some("REPEATABLE READ"),
        "SERIALIZABLE" => Some("SERIALIZABLE"),
        "SQL_SERVER_SNAPSHOT" => {
            let why = format!("only SQL Server has this level, and connection.url leads to {}", url.place());
            return Err(Error::config(ISOLATION, config.text(ISOLATION), why));
        }
        _ => None,
    };
    Ok(Login {
        user: config.string(CONNECTION_USER).filter(|u| !u.is_empty()).map(str::to_owned),
        password: config.password(CONNECTION_PASSWORD).map(|p| p.expose().to_owned()),
        isolation,
    })
}

fn mode(text: &str) -> Mode {
    match text {
        "incrementing" => Mode::Incrementing,
        "timestamp" => Mode::Timestamp,
        "timestamp+incrementing" => Mode::TimestampIncrementing,
        _ => Mode::Bulk,
    }
}

fn numeric(config: &Config) -> NumericMapping {
    match config.string(NUMERIC_MAPPING).map(str::to_ascii_lowercase).as_deref() {
        Some("precision_only") => NumericMapping::PrecisionOnly,
        Some("best_fit") => NumericMapping::BestFit,
        Some("best_fit_eager_double") => NumericMapping::BestFitEagerDouble,
        None if config.boolean(NUMERIC_PRECISION_MAPPING) => NumericMapping::PrecisionOnly,
        _ => NumericMapping::None,
    }
}

fn form(text: &str) -> TimestampForm {
    match text.to_ascii_lowercase().as_str() {
        "micros_long" => TimestampForm::MicrosLong,
        "micros_string" => TimestampForm::MicrosString,
        "micros_iso_datetime_string" => TimestampForm::MicrosIsoString,
        "nanos_long" => TimestampForm::NanosLong,
        "nanos_string" => TimestampForm::NanosString,
        "nanos_iso_datetime_string" => TimestampForm::NanosIsoString,
        _ => TimestampForm::ConnectLogical,
    }
}

fn millis(config: &Config, key: &str) -> Duration {
    Duration::from_millis(config.number(key).max(0) as u64)
}

fn mappings(config: &Config, key: &str) -> Result<Vec<ColumnMapping>> {
    config.list(key).iter().filter(|item| !item.is_empty()).map(|item| mapping(key, item)).collect()
}

fn mapping(key: &str, item: &str) -> Result<ColumnMapping> {
    let wrong = |why: String| Error::config(key, item, why);
    let (table, columns) = item
        .rsplit_once(':')
        .ok_or_else(|| wrong("an item is REGEX:COLUMN or REGEX:[COLUMN|COLUMN]".to_owned()))?;
    let table =
        Regex::new(&format!("^(?:{table})$")).map_err(|e| wrong(format!("not a regular expression: {e}")))?;
    let columns = columns.trim().trim_start_matches('[').trim_end_matches(']');
    let columns = columns.split('|').map(|c| c.trim().to_owned()).filter(|c| !c.is_empty()).collect();
    Ok(ColumnMapping { table, columns })
}

/// The most rows that an SQL suffix lets through, where it says so.
fn limit(suffix: &str) -> Option<u64> {
    let forms = Regex::new(r"(?i)\b(?:limit\s+(?:\d+\s*,\s*)?|fetch\s+(?:first|next)\s+)(\d+)").ok()?;
    forms.captures(suffix)?.get(1)?.as_str().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_found() {
        for (suffix, expected) in [
            ("LIMIT 100", Some(100)),
            ("limit 5, 20", Some(20)),
            ("OFFSET 3 FETCH FIRST 7 ROWS ONLY", Some(7)),
            ("FOR SHARE", None),
            ("", None),
        ] {
            assert_eq!(limit(suffix), expected, "{suffix}");
        }
    }

    #[test]
    fn mappings_name_one_column_or_several() {
        let one = mapping(INCREMENTING_MAPPING, "db[.]a.*:id").expect("fits");
        assert_eq!(one.columns, ["id"]);
        assert!(one.table.is_match("db.apples") && !one.table.is_match("other.db.apples"));
        assert_eq!(mapping(TIMESTAMP_MAPPING, ".*:[a|b]").expect("fits").columns, ["a", "b"]);
        assert!(mapping(TIMESTAMP_MAPPING, "nothing").is_err());
    }
}
