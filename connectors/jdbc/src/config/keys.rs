//! The table of settings.

use aqueduct_connect_api::config::{ConfigType, ConfigValue, Importance, Validator, Width};
use aqueduct_connect_api::{ConfigDef, ConfigKey};

use crate::url::JdbcUrl;

pub const CONNECTION_URL: &str = "connection.url";
pub const CONNECTION_USER: &str = "connection.user";
pub const CONNECTION_PASSWORD: &str = "connection.password";
pub const CONNECTION_ATTEMPTS: &str = "connection.attempts";
pub const CONNECTION_BACKOFF: &str = "connection.backoff.ms";
pub const TABLE_INCLUDE: &str = "table.include.list";
pub const TABLE_EXCLUDE: &str = "table.exclude.list";
pub const TABLE_WHITELIST: &str = "table.whitelist";
pub const TABLE_BLACKLIST: &str = "table.blacklist";
pub const CATALOG_PATTERN: &str = "catalog.pattern";
pub const SCHEMA_PATTERN: &str = "schema.pattern";
pub const NUMERIC_PRECISION_MAPPING: &str = "numeric.precision.mapping";
pub const NUMERIC_MAPPING: &str = "numeric.mapping";
pub const MODE: &str = "mode";
pub const INCREMENTING_COLUMN: &str = "incrementing.column.name";
pub const INCREMENTING_MAPPING: &str = "incrementing.column.mapping";
pub const TIMESTAMP_COLUMN: &str = "timestamp.column.name";
pub const TIMESTAMP_MAPPING: &str = "timestamp.columns.mapping";
pub const TIMESTAMP_INITIAL: &str = "timestamp.initial";
pub const VALIDATE_NON_NULL: &str = "validate.non.null";
pub const QUERY: &str = "query";
pub const QUERY_MASKED: &str = "query.masked";
pub const QUERY_SUFFIX: &str = "query.suffix";
pub const QUERY_RETRY_ATTEMPTS: &str = "query.retry.attempts";
pub const QUOTE_IDENTIFIERS: &str = "quote.sql.identifiers";
pub const ISOLATION: &str = "transaction.isolation.mode";
pub const TIMESTAMP_GRANULARITY: &str = "timestamp.granularity";
pub const TABLE_TYPES: &str = "table.types";
pub const POLL_INTERVAL: &str = "poll.interval.ms";
pub const POLL_CRON: &str = "aqueduct.poll.cron";
pub const BATCH_MAX_ROWS: &str = "batch.max.rows";
pub const TABLE_POLL_INTERVAL: &str = "table.poll.interval.ms";
pub const STARTUP_LIMIT: &str = "table.monitoring.startup.polling.limit.ms";
pub const TOPIC_PREFIX: &str = "topic.prefix";
pub const TIMESTAMP_DELAY: &str = "timestamp.delay.interval.ms";
pub const DB_TIMEZONE: &str = "db.timezone";
/// The tables of a task; written by the connector, not by users.
pub const TABLES: &str = "tables";

const DIALECTS: &[&str] = &[
    "",
    "MySqlDatabaseDialect",
    "MariaDbDatabaseDialect",
    "PostgreSqlDatabaseDialect",
    "SqliteDatabaseDialect",
    "GenericDatabaseDialect",
];

use ConfigType::{Boolean, Int, List, Long, Password, String as Text};
use Importance::{High, Low};

/// The table of settings, in the reference's groups.
pub fn config_def() -> ConfigDef {
    grouped("Database", database()).with(grouped("Mode", mode())).with(grouped("Connector", connector()))
}

fn grouped(group: &'static str, keys: Vec<ConfigKey>) -> ConfigDef {
    keys.into_iter()
        .zip(1..)
        .fold(ConfigDef::new(), |def, (key, order)| def.key(key.group(group, order).width(Width::Medium)))
}

fn database() -> Vec<ConfigKey> {
    vec![
        ConfigKey::required(
            CONNECTION_URL,
            Text,
            "JDBC URL: jdbc:mysql://, jdbc:mariadb://, jdbc:postgresql:// or jdbc:sqlite:",
        )
        .validator(Validator::Check(|value| match value {
            ConfigValue::String(url) => JdbcUrl::parse(url).map(drop),
            _ => Ok(()),
        })),
        ConfigKey::optional(CONNECTION_USER, Text, "User of the database").importance(High),
        ConfigKey::optional(CONNECTION_PASSWORD, Password, "The user's password").importance(High),
        ConfigKey::with_default(CONNECTION_ATTEMPTS, Int, "3", "Attempts to connect before the task fails")
            .importance(Low)
            .validator(Validator::AtLeast(1)),
        ConfigKey::with_default(CONNECTION_BACKOFF, Long, "10000", "Milliseconds between attempts to connect")
            .importance(Low),
        ConfigKey::with_default(
            TABLE_INCLUDE,
            List,
            "",
            "Regular expressions; tables are read whose full name one of them matches",
        ),
        ConfigKey::with_default(
            TABLE_EXCLUDE,
            List,
            "",
            "Regular expressions; tables are left out whose full name one of them matches",
        ),
        ConfigKey::with_default(TABLE_WHITELIST, List, "", "Names of the tables to read, all others are left out"),
        ConfigKey::with_default(TABLE_BLACKLIST, List, "", "Names of tables to leave out"),
        ConfigKey::optional(CATALOG_PATTERN, Text, "Catalogs to look for tables in, with the wildcards of LIKE"),
        ConfigKey::optional(SCHEMA_PATTERN, Text, "Schemas to look for tables in, with the wildcards of LIKE")
            .importance(High),
        ConfigKey::with_default(
            NUMERIC_PRECISION_MAPPING,
            Boolean,
            "false",
            "Superseded by numeric.mapping; true means precision_only",
        )
        .importance(Low),
        ConfigKey::optional(
            NUMERIC_MAPPING,
            Text,
            "How NUMERIC columns become integers and doubles: none (Decimal always), precision_only (integers by their \
             digits), best_fit (doubles, too), best_fit_eager_double (doubles whatever they lose)",
        )
        .importance(Low)
        .validator(Validator::OneOfIgnoreCase(&["none", "precision_only", "best_fit", "best_fit_eager_double"]))
        .recommended(["none", "precision_only", "best_fit", "best_fit_eager_double"]),
        ConfigKey::with_default("dialect.name", Text, "", "Kept for compatibility: the URL says which database it is")
            .importance(Low)
            .validator(Validator::OneOf(DIALECTS)),
    ]
}

fn mode() -> Vec<ConfigKey> {
    let modes: &[&str] = &["bulk", "incrementing", "timestamp", "timestamp+incrementing"];
    let granularities: &[&str] = &[
        "connect_logical",
        "micros_long",
        "micros_string",
        "micros_iso_datetime_string",
        "nanos_long",
        "nanos_string",
        "nanos_iso_datetime_string",
    ];
    vec![
        ConfigKey::required(
            MODE,
            Text,
            "How new rows are found: bulk (everything, each time), incrementing (by a growing column), timestamp (by the \
             time of the last change), timestamp+incrementing (by both, the safest)",
        )
        .validator(Validator::OneOf(&["bulk", "incrementing", "timestamp", "timestamp+incrementing"]))
        .recommended(modes.iter().copied()),
        ConfigKey::with_default(
            INCREMENTING_COLUMN,
            Text,
            "",
            "Column that grows with each new row; empty: the one that the database numbers by itself",
        ),
        ConfigKey::with_default(
            TIMESTAMP_COLUMN,
            List,
            "",
            "Columns with the time of the last change; of several the first that is not null counts",
        ),
        ConfigKey::with_default(
            INCREMENTING_MAPPING,
            List,
            "",
            "Incrementing column by table: REGEX:COLUMN; each table must match exactly one",
        ),
        ConfigKey::with_default(
            TIMESTAMP_MAPPING,
            List,
            "",
            "Timestamp columns by table: REGEX:[COLUMN|COLUMN]; each table must match exactly one",
        ),
        ConfigKey::optional(
            TIMESTAMP_INITIAL,
            Long,
            "Where reading starts without a stored offset: milliseconds since 1970, or -1 for now; empty: everything",
        )
        .importance(Low),
        ConfigKey::with_default(
            VALIDATE_NON_NULL,
            Boolean,
            "true",
            "Refuse tables whose incrementing or timestamp column may be null",
        )
        .importance(Low),
        ConfigKey::with_default(QUERY, Text, "", "Query to read instead of tables; conditions are added to its end"),
        ConfigKey::optional(QUERY_MASKED, Password, "As query, but never shown"),
        ConfigKey::with_default(QUERY_SUFFIX, Text, "", "SQL to add to the end of each query, such as LIMIT 1000")
            .importance(Low),
        ConfigKey::with_default(
            QUERY_RETRY_ATTEMPTS,
            Int,
            "-1",
            "Times that a query is asked again after failures that may pass; -1 is without limit",
        )
        .importance(Low)
        .validator(Validator::AtLeast(-1)),
        ConfigKey::with_default(QUOTE_IDENTIFIERS, Text, "ALWAYS", "Whether names of tables and columns are quoted")
            .validator(Validator::OneOfIgnoreCase(&["ALWAYS", "NEVER"]))
            .recommended(["ALWAYS", "NEVER"]),
        ConfigKey::with_default(ISOLATION, Text, "DEFAULT", "Isolation level of the queries").validator(
            Validator::OneOfIgnoreCase(&[
                "DEFAULT",
                "READ_UNCOMMITTED",
                "READ_COMMITTED",
                "REPEATABLE_READ",
                "SERIALIZABLE",
                "SQL_SERVER_SNAPSHOT",
            ]),
        ),
        ConfigKey::with_default(TIMESTAMP_GRANULARITY, Text, "connect_logical", "What timestamps become")
            .importance(Low)
            .validator(Validator::OneOfIgnoreCase(&[
                "connect_logical",
                "micros_long",
                "micros_string",
                "micros_iso_datetime_string",
                "nanos_long",
                "nanos_string",
                "nanos_iso_datetime_string",
            ]))
            .recommended(granularities.iter().copied()),
    ]
}

fn connector() -> Vec<ConfigKey> {
    vec![
        ConfigKey::with_default(TABLE_TYPES, List, "TABLE", "Types of tables to read: TABLE, VIEW, …"),
        ConfigKey::with_default(POLL_INTERVAL, Int, "5000", "Milliseconds between a table's queries")
            .importance(High)
            .validator(Validator::AtLeast(0)),
        ConfigKey::optional(
            POLL_CRON,
            Text,
            "Cron expression for a table's queries, instead of poll.interval.ms; on clocks in db.timezone. Five fields \
             (minute hour day month weekday), or six with seconds first",
        )
        .validator(Validator::Check(|value| match value {
            ConfigValue::String(cron) if !cron.is_empty() => crate::schedule::parse_cron(cron).map(drop),
            _ => Ok(()),
        })),
        ConfigKey::with_default(BATCH_MAX_ROWS, Int, "1000", "Most rows that one poll gives")
            .importance(Low)
            .validator(Validator::AtLeast(1)),
        ConfigKey::with_default("max.buffer.size", Int, "0", "Kept for compatibility: rows are streamed").importance(Low),
        ConfigKey::with_default("poll.linger.ms", Int, "5000", "Kept for compatibility: rows are streamed")
            .importance(Low),
        ConfigKey::with_default(
            TABLE_POLL_INTERVAL,
            Long,
            "60000",
            "Milliseconds between looks for new and dropped tables",
        )
        .importance(Low)
        .validator(Validator::AtLeast(1)),
        ConfigKey::with_default(STARTUP_LIMIT, Long, "10000", "Milliseconds that the start waits for the list of tables")
            .importance(Low),
        ConfigKey::required(
            TOPIC_PREFIX,
            Text,
            "Topics are named this and the table; with a query the topic is this alone",
        ),
        ConfigKey::with_default(
            TIMESTAMP_DELAY,
            Long,
            "0",
            "Milliseconds that rows must be old, so that transactions which are still open can commit",
        )
        .importance(High)
        .validator(Validator::AtLeast(0)),
        ConfigKey::with_default(DB_TIMEZONE, Text, "UTC", "Zone of times that the database stores without one"),
        ConfigKey::with_default(
            "date.calendar.system",
            Text,
            "LEGACY",
            "Kept for compatibility: dates are proleptic Gregorian",
        )
        .importance(Low)
        .validator(Validator::OneOfIgnoreCase(&["LEGACY", "PROLEPTIC_GREGORIAN"])),
    ]
}
