//! The table of settings, with the reference's keys and defaults.

use aqueduct_connect_api::config::{ConfigType, ConfigValue, Importance, Validator, Width};
use aqueduct_connect_api::{ConfigDef, ConfigKey};

use super::Flavor;

use ConfigType::{Boolean, Class, Int, List, Long, Password, String};
use Importance::{High, Low, Medium};

/// The settings of one of the two connectors.
pub fn config_def(flavor: Flavor) -> ConfigDef {
    let mut def = ConfigDef::new();
    connection(&mut def, flavor);
    filters(&mut def);
    snapshot(&mut def);
    events(&mut def);
    engine(&mut def);
    unsupported(&mut def);
    def
}

fn add(def: &mut ConfigDef, group: &'static str, key: ConfigKey, importance: Importance) {
    let order = def.keys().iter().filter(|k| k.group.as_deref() == Some(group)).count() as i32 + 1;
    def.add(key.importance(importance).group(group, order).width(Width::Medium));
}

fn with(key: &'static str, kind: ConfigType, default: &'static str, doc: &'static str) -> ConfigKey {
    ConfigKey::with_default(key, kind, default, doc)
}

fn connection(def: &mut ConfigDef, flavor: Flavor) {
    const G: &str = "Connection";
    let non_empty = |key: ConfigKey| key.validator(Validator::NonEmpty);
    add(
        def,
        G,
        non_empty(ConfigKey::required(
            "topic.prefix",
            String,
            "Name of this server in topics and schemas. It must not change: offsets and topics hang on it.",
        ))
        .validator(Validator::Check(check_prefix)),
        High,
    );
    add(
        def,
        G,
        non_empty(ConfigKey::required("database.hostname", String, "Host name or address of the server.")),
        High,
    );
    add(
        def,
        G,
        with("database.port", Int, "3306", "Port of the server.").validator(Validator::Between(1, 65535)),
        High,
    );
    add(
        def,
        G,
        non_empty(ConfigKey::required(
            "database.user",
            String,
            "User with SELECT, RELOAD, SHOW DATABASES, LOCK TABLES, REPLICATION SLAVE and REPLICATION CLIENT.",
        )),
        High,
    );
    add(def, G, ConfigKey::optional("database.password", Password, "Password of the user."), High);
    add(
        def,
        G,
        ConfigKey::required(
            "database.server.id",
            Long,
            "Number under which this connector reads the binlog, as a replica does. No other replica of the server may have it.",
        )
        .validator(Validator::Between(1, u32::MAX as i64)),
        High,
    );
    let (modes, default): (&'static [&'static str], _) = match flavor {
        Flavor::MySql => {
            (&["disabled", "preferred", "required", "verify_ca", "verify_identity"], "preferred")
        }
        Flavor::MariaDb => (
            &["disable", "trust", "verify_ca", "verify-ca", "verify_full", "verify-full", "verify_identity"],
            "disable",
        ),
    };
    add(
        def,
        G,
        with(
            "database.ssl.mode",
            String,
            default,
            "Whether to encrypt, and what to check of the server's certificate.",
        )
        .validator(Validator::OneOfIgnoreCase(modes))
        .recommended(modes.iter().copied()),
        Medium,
    );
    add(
        def,
        G,
        ConfigKey::optional(
            "database.ssl.truststore",
            String,
            "File with the certificates, in PEM, of the authorities to trust. Without it the usual public ones are trusted.",
        )
        .validator(Validator::Check(check_pem)),
        Medium,
    );
    add(
        def,
        G,
        with("connect.timeout.ms", Int, "30000", "How long connecting may take.")
            .validator(Validator::AtLeast(1)),
        Medium,
    );
    add(
        def,
        G,
        ConfigKey::optional(
            "database.initial.statements",
            String,
            "Statements to run on each new connection, between semicolons.",
        ),
        Low,
    );
    for (key, kind, default, doc) in [
        (
            "connect.keep.alive",
            Boolean,
            "true",
            "Kept for compatibility: lost connections are always noticed and replaced.",
        ),
        ("connect.keep.alive.interval.ms", Long, "60000", "Kept for compatibility."),
        ("database.query.timeout.ms", Int, "600000", "Kept for compatibility: queries have no time limit."),
        ("database.server.id.offset", Long, "10000", "Kept for compatibility: one id is enough."),
    ] {
        add(def, G, with(key, kind, default, doc), Low);
    }
}

fn filters(def: &mut ConfigDef) {
    const G: &str = "Filters";
    for (key, doc) in [
        ("database.include.list", "Expressions of the databases to capture; all by default."),
        ("database.exclude.list", "Expressions of the databases to leave out."),
        ("table.include.list", "Expressions, as database.table, of the tables to capture; all by default."),
        ("table.exclude.list", "Expressions, as database.table, of the tables to leave out."),
        (
            "column.include.list",
            "Expressions, as database.table.column, of the columns to capture; all by default.",
        ),
        ("column.exclude.list", "Expressions, as database.table.column, of the columns to leave out."),
        (
            "message.key.columns",
            "Columns that make the key, as database.table:column,column;... The primary key by default.",
        ),
        (
            "snapshot.include.collection.list",
            "Captured tables whose rows the snapshot reads; all by default.",
        ),
    ] {
        add(def, G, ConfigKey::optional(key, String, doc), Medium);
    }
    add(def, G, with("table.ignore.builtin", Boolean, "true", "Leave out the server's own databases."), Low);
}

fn snapshot(def: &mut ConfigDef) {
    const G: &str = "Snapshot";
    const MODES: &[&str] = &[
        "initial",
        "initial_only",
        "no_data",
        "schema_only",
        "when_needed",
        "always",
        "recovery",
        "schema_only_recovery",
    ];
    const LOCKING: &[&str] = &["minimal", "extended", "none"];
    add(
        def,
        G,
        with("snapshot.mode", String, "initial", "When to read all rows of the tables before the binlog.")
            .validator(Validator::OneOfIgnoreCase(MODES))
            .recommended(MODES.iter().copied()),
        Medium,
    );
    add(
        def,
        G,
        with(
            "snapshot.locking.mode",
            String,
            "minimal",
            "minimal: writers wait while the snapshot is opened; extended: until all rows are read; none: never.",
        )
        .validator(Validator::OneOfIgnoreCase(LOCKING))
        .recommended(LOCKING.iter().copied()),
        Low,
    );
    let count = |key| Validator::AtLeast(if key == "snapshot.lock.timeout.ms" { 1 } else { 0 });
    for (key, default, doc) in [
        ("snapshot.lock.timeout.ms", "10000", "How long to wait for the lock before the snapshot fails."),
        ("snapshot.delay.ms", "0", "How long to wait before the snapshot."),
    ] {
        add(def, G, with(key, Long, default, doc).validator(count(key)), Low);
    }
    for (key, kind, doc) in [
        ("snapshot.fetch.size", Int, "Kept for compatibility: rows are streamed."),
        ("min.row.count.to.stream.results", Int, "Kept for compatibility: rows are always streamed."),
    ] {
        add(def, G, ConfigKey::optional(key, kind, doc), Low);
    }
}

fn events(def: &mut ConfigDef) {
    const G: &str = "Events";
    let one_of = |key, default, words: &'static [&'static str], doc| {
        with(key, String, default, doc)
            .validator(Validator::OneOfIgnoreCase(words))
            .recommended(words.iter().copied())
    };
    const FAILURE: &[&str] = &["fail", "warn", "skip", "ignore"];
    for key in [
        one_of(
            "decimal.handling.mode",
            "precise",
            &["precise", "double", "string"],
            "Form of DECIMAL and NUMERIC.",
        ),
        one_of(
            "time.precision.mode",
            "adaptive_time_microseconds",
            &["adaptive_time_microseconds", "connect"],
            "Form of DATE, TIME and DATETIME: in the precision of the column, or Connect's own types in milliseconds.",
        ),
        one_of("bigint.unsigned.handling.mode", "long", &["long", "precise"], "Form of BIGINT UNSIGNED."),
        one_of(
            "binary.handling.mode",
            "bytes",
            &["bytes", "base64", "base64-url-safe", "hex"],
            "Form of BINARY, VARBINARY and BLOB.",
        ),
        with(
            "tombstones.on.delete",
            Boolean,
            "true",
            "Send a null value after each delete, so that compaction may forget the key.",
        ),
        with(
            "include.schema.changes",
            Boolean,
            "true",
            "Send each change of a captured table's definition to the topic named as topic.prefix.",
        ),
        with(
            "include.schema.comments",
            Boolean,
            "false",
            "Give comments of tables and columns with these changes.",
        ),
        with("skipped.operations", String, "t", "Operations to leave out: a list of c, u, d, t, or none."),
        with(
            "skip.messages.without.change",
            Boolean,
            "false",
            "Leave out updates that change none of the captured columns.",
        ),
        with("enable.time.adjuster", Boolean, "true", "Move years of one or two digits to 1970 up to 2069."),
        with(
            "extended.headers.enabled",
            Boolean,
            "true",
            "Send headers that name the connector and the task.",
        ),
        one_of(
            "event.processing.failure.handling.mode",
            "fail",
            FAILURE,
            "What to do with an event that cannot be read.",
        ),
        one_of(
            "event.deserialization.failure.handling.mode",
            "fail",
            FAILURE,
            "Kept for compatibility; see event.processing.failure.handling.mode.",
        ),
        one_of(
            "inconsistent.schema.handling.mode",
            "fail",
            FAILURE,
            "What to do with rows of a table whose definition is not known.",
        ),
        one_of(
            "event.converting.failure.handling.mode",
            "warn",
            &["fail", "warn", "skip"],
            "What to do with a value that its type cannot hold: fail, or send null.",
        ),
    ] {
        add(def, G, key, Medium);
    }
}

fn engine(def: &mut ConfigDef) {
    const G: &str = "Engine";
    let number =
        |key, kind, default, least, doc| with(key, kind, default, doc).validator(Validator::AtLeast(least));
    for key in [
        number("tasks.max", Int, "1", 1, "Must be 1: one binlog is read by one task."),
        number("max.batch.size", Int, "2048", 1, "Records in one batch."),
        number(
            "max.queue.size",
            Int,
            "8192",
            1,
            "Records that may wait to be taken; then the server waits. More than max.batch.size.",
        ),
        number("max.queue.size.in.bytes", Long, "0", 0, "Likewise in bytes, roughly; 0 means 64 MiB."),
        number("poll.interval.ms", Long, "500", 1, "How long to wait for records before an empty answer."),
        number(
            "heartbeat.interval.ms",
            Int,
            "0",
            0,
            "How often to send the current offset when there is nothing else to send; 0 means never.",
        ),
        with(
            "topic.heartbeat.prefix",
            String,
            "__debezium-heartbeat",
            "Start of the heartbeat topic's name.",
        ),
        number(
            "errors.max.retries",
            Int,
            "-1",
            -1,
            "How often to try again after a lost connection; -1 means for ever.",
        ),
        number(
            "retriable.restart.connector.wait.ms",
            Long,
            "10000",
            0,
            "The longest wait between two tries.",
        ),
    ] {
        add(def, G, key, Low);
    }
    // The reference's history of table definitions: the binlog and the catalogue tell them here.
    const NOTE: &str =
        "Kept for compatibility: table definitions are read from the server, no history topic is used.";
    for (key, kind) in [
        ("schema.history.internal", Class),
        ("schema.history.internal.kafka.topic", String),
        ("schema.history.internal.kafka.bootstrap.servers", String),
        ("schema.history.internal.kafka.recovery.poll.interval.ms", Int),
        ("schema.history.internal.kafka.recovery.attempts", Int),
        ("schema.history.internal.kafka.query.timeout.ms", Long),
        ("schema.history.internal.kafka.create.timeout.ms", Long),
        ("schema.history.internal.skip.unparseable.ddl", Boolean),
        ("schema.history.internal.store.only.captured.tables.ddl", Boolean),
        ("schema.history.internal.store.only.captured.databases.ddl", Boolean),
        ("binlog.buffer.size", Int),
        ("topic.cache.size", Int),
        ("connector.adapter", String),
        ("gtid.source.filter.dml.events", Boolean),
        ("signal.enabled.channels", List),
        ("signal.poll.interval.ms", Long),
        ("incremental.snapshot.chunk.size", Int),
    ] {
        add(def, G, ConfigKey::optional(key, kind, NOTE), Low);
    }
}

/// Settings of the reference that would change what happens and are not implemented: only what they are by default passes.
fn unsupported(def: &mut ConfigDef) {
    const G: &str = "Unsupported";
    const NOTE: &str = "Not supported: any other value is refused.";
    fn only_false(value: &ConfigValue) -> Result<(), std::string::String> {
        match value {
            ConfigValue::Boolean(true) => Err(REFUSED.to_owned()),
            _ => Ok(()),
        }
    }
    fn only_empty(value: &ConfigValue) -> Result<(), std::string::String> {
        match value {
            ConfigValue::String(s) if !s.is_empty() => Err(REFUSED.to_owned()),
            ConfigValue::List(l) if !l.is_empty() => Err(REFUSED.to_owned()),
            _ => Ok(()),
        }
    }
    for key in
        ["include.query", "provide.transaction.metadata", "read.only", "column.propagate.source.type.enabled"]
    {
        add(def, G, with(key, Boolean, "false", NOTE).validator(Validator::Check(only_false)), Low);
    }
    for key in [
        "signal.data.collection",
        "notification.enabled.channels",
        "heartbeat.action.query",
        "snapshot.select.statement.overrides",
        "column.propagate.source.type",
        "datatype.propagate.source.type",
        "gtid.source.includes",
        "gtid.source.excludes",
        "converters",
        "post.processors",
        "custom.metric.tags",
    ] {
        add(def, G, ConfigKey::optional(key, String, NOTE).validator(Validator::Check(only_empty)), Low);
    }
    for (key, only) in [
        ("snapshot.query.mode", &["select_all"][..]),
        ("snapshot.tables.order.by.row.count", &["disabled"]),
        ("schema.name.adjustment.mode", &["none"]),
        ("field.name.adjustment.mode", &["none"]),
        (
            "topic.naming.strategy",
            &[
                "io.debezium.schema.DefaultTopicNamingStrategy",
                "io.debezium.schema.SchemaTopicNamingStrategy",
            ],
        ),
        ("topic.delimiter", &["."]),
        ("incremental.snapshot.watermarking.strategy", &["insert_insert", "INSERT_INSERT"]),
    ] {
        add(def, G, with(key, String, only[0], NOTE).validator(Validator::OneOf(only)), Low);
    }
    add(def, G, with("snapshot.max.threads", Int, "1", NOTE).validator(Validator::Between(1, 1)), Low);
}

const REFUSED: &str = "This setting is not supported: remove it";

/// Starts of keys that would change values and are not implemented.
pub const REFUSED_PREFIXES: [&str; 3] =
    ["column.truncate.to.", "column.mask.", "snapshot.select.statement.overrides."];

fn check_prefix(value: &ConfigValue) -> Result<(), std::string::String> {
    let ConfigValue::String(text) = value else { return Ok(()) };
    if text.is_empty() {
        return Err("String must be non-empty".to_owned());
    }
    match text.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '-')) {
        Some(c) => {
            Err(format!("'{c}' cannot stand in the name of a topic: use letters, digits, '.', '_' and '-'"))
        }
        None => Ok(()),
    }
}

fn check_pem(value: &ConfigValue) -> Result<(), std::string::String> {
    match value {
        ConfigValue::String(file) if [".jks", ".p12", ".pfx"].iter().any(|end| file.ends_with(end)) => Err(
            "Java key stores cannot be read: export the certificates with `keytool -exportcert -rfc` and name that file"
                .to_owned(),
        ),
        _ => Ok(()),
    }
}
