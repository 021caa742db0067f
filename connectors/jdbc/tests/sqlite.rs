//! The JDBC source on SQLite files, as a worker runs it.

mod harness;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aqueduct_connect_api::{ConfigMap, SourceRecord, Value};
use harness::{Offsets, connector, field, json, killed_at_every_poll, plugin, poll, settings, task};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions};

const PATIENCE: Duration = Duration::from_secs(60);

struct Database {
    dir: tempfile::TempDir,
    connection: SqliteConnection,
}

impl Database {
    async fn with(sql: &str) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let options =
            SqliteConnectOptions::new().filename(dir.path().join("rows.db")).create_if_missing(true);
        let connection = options.connect().await.expect("opened");
        let mut database = Self { dir, connection };
        database.run(sql).await;
        database
    }

    async fn run(&mut self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connection).await.expect(sql);
    }

    fn url(&self) -> String {
        url(&self.dir.path().join("rows.db"))
    }

    fn settings(&self, pairs: &[(&str, &str)]) -> ConfigMap {
        let mut settings = settings(pairs);
        settings.entry("connection.url".into()).or_insert_with(|| self.url());
        settings
    }
}

fn url(path: &Path) -> String {
    format!("jdbc:sqlite:{}", path.display())
}

fn ids(records: &[SourceRecord]) -> Vec<i64> {
    records.iter().map(|r| field(r, "id").as_i64().expect("a number")).collect()
}

const TWENTY: &str = "
    CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, changed DATETIME NOT NULL);
    WITH RECURSIVE n(i) AS (SELECT -3 UNION ALL SELECT i + 1 FROM n WHERE i < 16)
    INSERT INTO t SELECT i, 'row ' || i, '2024-01-01 00:00:0' || ((i + 3) / 5) FROM n;";

#[tokio::test]
async fn new_rows_come_in_incrementing_mode() {
    let mut db = Database::with(TWENTY).await;
    let config = db.settings(&[("mode", "incrementing"), ("batch.max.rows", "8")]);
    let mut task = task(&config, &Arc::default()).await.expect("started");
    let records = poll(&mut task, 20, PATIENCE).await.expect("polled");
    assert_eq!(ids(&records), (-3..17).collect::<Vec<_>>());
    let last = &records[19];
    assert_eq!(last.record.topic, "db-t");
    assert_eq!(json(&last.source_partition), r#"{"protocol":"1","table":"t"}"#);
    assert_eq!(json(&last.source_offset), r#"{"incrementing":16}"#);
    assert!(last.record.key.value.is_null());
    db.run("INSERT INTO t VALUES (100, 'late', '2024-01-02')").await;
    assert_eq!(ids(&poll(&mut task, 1, PATIENCE).await.expect("polled")), [100]);
    assert!(task.poll().await.expect("polled").is_empty());
}

#[tokio::test]
async fn a_kill_at_any_poll_loses_no_row_in_any_mode() {
    let db = Database::with(TWENTY).await;
    let all: BTreeSet<i64> = (-3..17).collect();
    for mode in ["incrementing", "timestamp", "timestamp+incrementing"] {
        // In timestamp mode a whole group of five equal times comes again until all of it is through.
        let config =
            db.settings(&[("mode", mode), ("timestamp.column.name", "changed"), ("batch.max.rows", "7")]);
        let seen = ids(&killed_at_every_poll(&config, 20).await);
        assert_eq!(seen.iter().copied().collect::<BTreeSet<_>>(), all, "{mode}");
        if mode != "timestamp" {
            assert_eq!(seen.len(), 20, "{mode} repeats nothing");
        }
    }
}

#[tokio::test]
async fn updates_come_in_timestamp_incrementing_mode() {
    let mut db = Database::with(TWENTY).await;
    let config = db.settings(&[("mode", "timestamp+incrementing"), ("timestamp.column.name", "changed")]);
    let mut task = task(&config, &Arc::default()).await.expect("started");
    let records = poll(&mut task, 20, PATIENCE).await.expect("polled");
    let offset = json(&records[19].source_offset);
    assert_eq!(offset, r#"{"timestamp_nanos":0,"incrementing":16,"timestamp":1704067203000}"#);
    // An earlier row, changed in the second of the last one seen, has a lower id: only its new time brings it back.
    db.run("UPDATE t SET name = 'new', changed = '2024-01-01 00:00:04' WHERE id = 0").await;
    let records = poll(&mut task, 1, PATIENCE).await.expect("polled");
    assert_eq!(ids(&records), [0]);
    assert_eq!(field(&records[0], "name"), Value::from("new"));
}

#[tokio::test]
async fn rows_of_this_second_wait_until_it_is_over() {
    let mut db = Database::with("CREATE TABLE t (id INTEGER PRIMARY KEY, changed TIMESTAMP NOT NULL)").await;
    let config = db.settings(&[("mode", "timestamp"), ("timestamp.column.name", "changed")]);
    let mut task = task(&config, &Arc::default()).await.expect("started");
    let mut seen = Vec::new();
    for id in 0..15 {
        db.run(&format!("INSERT INTO t VALUES ({id}, CURRENT_TIMESTAMP)")).await;
        seen.extend(ids(&poll(&mut task, 1, Duration::from_millis(150)).await.expect("polled")));
    }
    seen.extend(ids(&poll(&mut task, 15 - seen.len(), PATIENCE).await.expect("polled")));
    assert_eq!(seen, (0..15).collect::<Vec<_>>());
}

#[tokio::test]
async fn bulk_reads_everything_each_time() {
    let db = Database::with(TWENTY).await;
    let mut task = task(&db.settings(&[("mode", "bulk")]), &Arc::default()).await.expect("started");
    let records = poll(&mut task, 40, PATIENCE).await.expect("polled");
    assert_eq!(records.len(), 40);
    assert!(records.iter().all(|r| r.source_offset.is_empty()));
}

#[tokio::test]
async fn a_query_is_read_with_conditions_behind_it() {
    let db = Database::with(TWENTY).await;
    let config = db.settings(&[
        ("mode", "incrementing"),
        ("incrementing.column.name", "id"),
        ("query", "SELECT id, upper(name) AS name FROM t"),
        ("query.suffix", "LIMIT 6"),
    ]);
    let records = killed_at_every_poll(&config, 20).await;
    assert_eq!(ids(&records), (-3..17).collect::<Vec<_>>());
    assert_eq!(records[0].record.topic, "db-");
    assert_eq!(json(&records[0].source_partition), r#"{"query":"query"}"#);
    assert_eq!(field(&records[0], "name"), Value::from("ROW -3"));
}

#[tokio::test]
async fn a_limit_never_hides_rows_of_one_time() {
    let db = Database::with(TWENTY).await;
    let settings = |limit| {
        db.settings(&[("mode", "timestamp"), ("timestamp.column.name", "changed"), ("query.suffix", limit)])
    };
    let offsets = Arc::default();
    let mut task = task(&settings("LIMIT 7"), &offsets).await.expect("started");
    let seen = poll(&mut task, 26, PATIENCE).await.expect("polled");
    assert_eq!(ids(&seen).into_iter().collect::<BTreeSet<_>>().len(), 20);
    let mut stuck = harness::task(&settings("LIMIT 3"), &offsets).await.expect("started");
    let error = poll(&mut stuck, 100, PATIENCE).await.expect_err("cannot go on");
    assert!(error.to_string().contains("raise the limit"), "{error}");
}

#[tokio::test]
async fn offsets_of_the_first_protocol_are_known() {
    let db = Database::with(TWENTY).await;
    let offsets = Arc::new(Offsets::default());
    offsets.put(r#"{"table":"t"}"#, r#"{"incrementing":14}"#);
    let mut task = task(&db.settings(&[("mode", "incrementing")]), &offsets).await.expect("started");
    assert_eq!(ids(&poll(&mut task, 2, PATIENCE).await.expect("polled")), [15, 16]);
}

#[tokio::test]
async fn types_become_what_they_are() {
    let db = Database::with(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, flag BOOLEAN NOT NULL, small SMALLINT, price DECIMAL(10,2),
             ratio REAL, data BLOB, day DATE, moment TIMESTAMP, note VARCHAR(20));
         INSERT INTO t VALUES (9007199254740993, 1, -5, 12.5, 0.1, x'00ff', '1970-01-02', '1970-01-01 00:00:01.5', 'ü'),
             (9007199254740994, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL);",
    )
    .await;
    let mut task = task(&db.settings(&[("mode", "incrementing")]), &Arc::default()).await.expect("started");
    let records = poll(&mut task, 2, PATIENCE).await.expect("polled");
    let texts: Vec<String> = records.iter().map(|r| r.record.value.value.to_string()).collect();
    assert_eq!(
        texts,
        [
            "Struct{id=9007199254740993,flag=true,small=-5,price=12.50,ratio=0.1,data=00ff,day=1,moment=1500,note=ü}",
            "Struct{id=9007199254740994,flag=false}"
        ]
    );
    let schema = records[0].record.value.schema.as_ref().expect("a schema");
    assert_eq!(schema.name(), Some("t"));
    let optional: Vec<bool> = schema.fields().iter().map(|f| f.schema.is_optional()).collect();
    assert_eq!(optional, [false, false, true, true, true, true, true, true, true]);
    records[0].record.value.value.as_struct().expect("a row").validate().expect("of its schema");
}

#[tokio::test]
async fn new_tables_lead_to_new_tasks() {
    let mut db =
        Database::with("CREATE TABLE a (id INTEGER PRIMARY KEY); CREATE TABLE b (id INTEGER PRIMARY KEY)")
            .await;
    let config =
        db.settings(&[("mode", "incrementing"), ("table.poll.interval.ms", "50"), ("table.blacklist", "b")]);
    let (mut connector, events) = connector(&config).await.expect("started");
    let tables =
        |configs: Vec<ConfigMap>| configs.into_iter().map(|c| c["tables"].clone()).collect::<Vec<_>>();
    assert_eq!(tables(connector.task_configs(4).await.expect("tasks")), ["\"a\""]);
    db.run("CREATE TABLE c (id INTEGER PRIMARY KEY)").await;
    for _ in 0..1200 {
        if events.0.load(Ordering::SeqCst) > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(events.0.load(Ordering::SeqCst) > 0, "the worker was not asked");
    assert_eq!(tables(connector.task_configs(4).await.expect("tasks")), ["\"a\"", "\"c\""]);
    assert_eq!(tables(connector.task_configs(1).await.expect("tasks")), ["\"a\",\"c\""]);
    connector.stop().await;
}

#[tokio::test]
async fn a_column_that_is_added_shows_up() {
    let mut db = Database::with(TWENTY).await;
    let mut task = task(&db.settings(&[("mode", "incrementing")]), &Arc::default()).await.expect("started");
    poll(&mut task, 20, PATIENCE).await.expect("polled");
    db.run("ALTER TABLE t ADD COLUMN extra TEXT; INSERT INTO t VALUES (50, 'x', '2024-01-01', 'more')").await;
    let records = poll(&mut task, 1, PATIENCE).await.expect("polled");
    assert_eq!(field(&records[0], "extra"), Value::from("more"));
}

#[tokio::test]
async fn a_cron_expression_paces_the_queries() {
    let db = Database::with(TWENTY).await;
    let config = db.settings(&[("mode", "bulk"), ("aqueduct.poll.cron", "* * * * * *")]);
    let mut task = task(&config, &Arc::default()).await.expect("started");
    let began = std::time::Instant::now();
    let records = poll(&mut task, 60, PATIENCE).await.expect("polled");
    assert_eq!(records.len(), 60);
    assert!(began.elapsed() > Duration::from_millis(1900), "{:?}", began.elapsed());
}

#[tokio::test]
async fn validation_names_the_key_and_the_cause() {
    let db = Database::with("CREATE TABLE t (id TEXT, changed TEXT)").await;
    let missing = url(Path::new("/nowhere/none.db"));
    for (pairs, key, part) in [
        (vec![("mode", "bulk"), ("connection.url", &*missing)], "connection.url", "/nowhere/none.db"),
        (vec![("mode", "bulk"), ("connection.url", "mysql://h")], "connection.url", "jdbc:"),
        (
            vec![("mode", "bulk"), ("connection.url", "jdbc:postgresql://127.0.0.1:9/x?password=hush")],
            "connection.url",
            "refused",
        ),
        (vec![("mode", "sometimes")], "mode", "must be one of"),
        (vec![("mode", "timestamp")], "timestamp.column.name", "needs the column"),
        (vec![("mode", "incrementing")], "mode", "exactly one"),
        (vec![("mode", "timestamp"), ("timestamp.column.name", "nix")], "mode", "no column nix"),
        (vec![("mode", "timestamp"), ("timestamp.column.name", "changed")], "mode", "NOT NULL"),
        (vec![("mode", "bulk"), ("query", "SELECT nonsense")], "query", "nonsense"),
        (
            vec![("mode", "bulk"), ("query", "SELECT 1"), ("table.whitelist", "t")],
            "query",
            "exclude each other",
        ),
        (vec![("mode", "bulk"), ("aqueduct.poll.cron", "x")], "aqueduct.poll.cron", "fields"),
        (vec![("mode", "bulk"), ("db.timezone", "Mars")], "db.timezone", "not a time zone"),
    ] {
        let config = db.settings(&pairs);
        let mut infos = (plugin().config)().validate(&config);
        let aqueduct_connect_api::Factory::Source { connector, .. } = plugin().factory else {
            panic!("a source")
        };
        connector().validate(&config, &mut infos).await;
        let wrong: Vec<_> = infos.iter().filter(|i| !i.errors.is_empty()).collect();
        assert_eq!(wrong.iter().map(|i| &*i.key.name).collect::<Vec<_>>(), [key], "{pairs:?}");
        let text = wrong[0].errors.join(" ");
        assert!(text.contains(part) && !text.contains("hush"), "{pairs:?}: {text}");
    }
}

#[tokio::test]
async fn a_value_that_fits_no_type_is_named() {
    let db = Database::with(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n SMALLINT); INSERT INTO t VALUES (1, 'many')",
    )
    .await;
    let mut task = task(&db.settings(&[("mode", "incrementing")]), &Arc::default()).await.expect("started");
    let error = poll(&mut task, 1, PATIENCE).await.expect_err("unfit").to_string();
    for part in ["table t", "column n", "SMALLINT", "many"] {
        assert!(error.contains(part), "{error}");
    }
}

#[tokio::test]
async fn a_dropped_table_is_asked_again_until_the_limit() {
    let mut db = Database::with(TWENTY).await;
    let config = db.settings(&[("mode", "incrementing"), ("query.retry.attempts", "2")]);
    let mut task = task(&config, &Arc::default()).await.expect("started");
    poll(&mut task, 20, PATIENCE).await.expect("polled");
    db.run("DROP TABLE t").await;
    let error = poll(&mut task, 1, PATIENCE).await.expect_err("gone").to_string();
    assert!(error.contains("table t") && error.contains("query.retry.attempts"), "{error}");
}
