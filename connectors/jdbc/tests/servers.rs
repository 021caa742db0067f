//! The JDBC source on real servers of MariaDB and PostgreSQL, as a worker runs it.

mod harness;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_connect_api::{ConfigMap, SourceRecord};
use aqueduct_tests::mariadb::MariaDb;
use aqueduct_tests::postgres::Postgres;
use harness::{Offsets, field, json, killed_at_every_poll, poll, settings, task};

const PATIENCE: Duration = Duration::from_secs(60);

/// A server with rows, and what differs in its SQL.
trait Server {
    fn url(&self) -> String;
    fn run(&self, sql: &str);
    /// Full name of a table in partitions.
    fn full(&self, table: &str) -> String;

    fn settings(&self, pairs: &[(&str, &str)]) -> ConfigMap {
        let mut settings = settings(pairs);
        settings.insert("connection.url".into(), self.url());
        settings
    }
}

impl Server for MariaDb {
    fn url(&self) -> String {
        format!("jdbc:mariadb://127.0.0.1:{}/test?user=repl&password=repl", self.port())
    }

    fn run(&self, sql: &str) {
        self.sql(sql).expect(sql);
    }

    fn full(&self, table: &str) -> String {
        format!("test.{table}")
    }
}

impl Server for Postgres {
    fn url(&self) -> String {
        format!("jdbc:postgresql://127.0.0.1:{}/postgres?user=postgres", self.port())
    }

    fn run(&self, sql: &str) {
        self.sql(sql).expect(sql);
    }

    fn full(&self, table: &str) -> String {
        format!("postgres.public.{table}")
    }
}

fn ids(records: &[SourceRecord]) -> Vec<i64> {
    records.iter().map(|r| field(r, "id").as_i64().expect("a number")).collect()
}

fn texts(records: &[SourceRecord]) -> Vec<String> {
    records.iter().map(|r| r.record.value.value.to_string()).collect()
}

/// Every mode finds every row, whenever the worker dies, and changes show up.
async fn modes(server: &dyn Server) {
    server.run("CREATE TABLE kills (id INT PRIMARY KEY, changed TIMESTAMP(3) NOT NULL)");
    for i in -4..16 {
        server.run(&format!("INSERT INTO kills VALUES ({i}, '2024-01-01 00:00:0{}.25')", (i + 4) / 5));
    }
    let all: BTreeSet<i64> = (-4..16).collect();
    for mode in ["incrementing", "timestamp", "timestamp+incrementing"] {
        let config = server.settings(&[
            ("mode", mode),
            ("table.whitelist", "kills"),
            ("incrementing.column.name", "id"),
            ("timestamp.column.name", "changed"),
            ("batch.max.rows", "7"),
        ]);
        let seen = ids(&killed_at_every_poll(&config, 20).await);
        assert_eq!(seen.iter().copied().collect::<BTreeSet<_>>(), all, "{mode}");
        if mode != "timestamp" {
            assert_eq!(seen.len(), 20, "{mode} repeats nothing");
        }
    }
    let config = server.settings(&[
        ("mode", "timestamp+incrementing"),
        ("table.include.list", ".*kills"),
        ("incrementing.column.name", "id"),
        ("timestamp.column.name", "changed"),
    ]);
    let mut task = task(&config, &Arc::default()).await.expect("started");
    let records = poll(&mut task, 20, PATIENCE).await.expect("polled");
    let last = records.last().expect("rows");
    let partition = format!(r#"{{"protocol":"1","table":"{}"}}"#, server.full("kills"));
    assert_eq!(json(&last.source_partition), partition);
    assert_eq!(
        json(&last.source_offset),
        r#"{"timestamp_nanos":250000000,"incrementing":15,"timestamp":1704067203250}"#
    );
    server.run("UPDATE kills SET changed = '2024-01-01 00:00:03.251' WHERE id = -4");
    assert_eq!(ids(&poll(&mut task, 1, PATIENCE).await.expect("polled")), [-4]);
}

/// A result that is much larger than what may be held is read to its end, and a query with conditions behind it.
async fn large(server: &dyn Server, insert: &str) {
    server.run("CREATE TABLE large (id INT PRIMARY KEY, note VARCHAR(200))");
    server.run(insert);
    let config = server.settings(&[
        ("mode", "incrementing"),
        ("incrementing.column.name", "id"),
        ("query", "SELECT id, note FROM large"),
    ]);
    let mut task = task(&config, &Arc::default()).await.expect("started");
    let began = std::time::Instant::now();
    let records = poll(&mut task, 20_000, PATIENCE).await.expect("polled");
    println!("{:.0} rows/s", records.len() as f64 / began.elapsed().as_secs_f64());
    assert_eq!(ids(&records), (1..=20_000).collect::<Vec<_>>());
    assert_eq!(records[0].record.topic, "db-");
}

/// The connection is lost between two queries, and found again.
async fn reconnects(server: &dyn Server, cut: &str) {
    server.run("CREATE TABLE cut (id INT PRIMARY KEY); INSERT INTO cut VALUES (1)");
    let config = server.settings(&[
        ("mode", "incrementing"),
        ("incrementing.column.name", "id"),
        ("table.whitelist", "cut"),
    ]);
    let mut task = task(&config, &Arc::default()).await.expect("started");
    assert_eq!(ids(&poll(&mut task, 1, PATIENCE).await.expect("polled")), [1]);
    server.run(cut);
    server.run("INSERT INTO cut VALUES (2)");
    assert_eq!(ids(&poll(&mut task, 1, PATIENCE).await.expect("reconnected")), [2]);
}

#[tokio::test]
async fn mariadb() {
    let server = MariaDb::start().expect("a server");
    modes(&server).await;
    large(&server, "INSERT INTO large SELECT seq, REPEAT('x', 100) FROM seq_1_to_20000").await;
    let kill = "BEGIN NOT ATOMIC DECLARE v INT; \
                WHILE v IS NULL DO SELECT MIN(id) INTO v FROM information_schema.processlist \
                WHERE user = 'repl' AND command = 'Sleep'; END WHILE; KILL v; END";
    reconnects(&server, &format!("DELIMITER //\n{kill} //\n")).await;
    server.run(
        "CREATE TABLE kinds (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, tiny TINYINT, flag BOOLEAN, us SMALLINT UNSIGNED,
             um INT UNSIGNED, price DECIMAL(10,2), ratio DOUBLE, f FLOAT, day DATE, clock TIME(3), at DATETIME(6),
             zoned TIMESTAMP(3) NULL, y YEAR, name VARCHAR(20), doc JSON, data VARBINARY(8), bits BIT(3), kind ENUM('a','b'));
         SET time_zone = '+02:00';
         INSERT INTO kinds VALUES (1, -1, true, 65535, 4294967295, 12.5, 0.1, 1.5, '1970-01-02', '-01:00:00.5',
             '1970-01-01 00:00:01.000002', '1970-01-01 02:00:01.5', 1971, 'ü', '{\"a\":1}', x'00ff', b'101', 'b');
         INSERT INTO kinds (id) VALUES (2);",
    );
    let config = server.settings(&[("mode", "incrementing"), ("table.whitelist", "kinds")]);
    let mut task = task(&config, &Arc::default()).await.expect("started");
    let records = poll(&mut task, 2, PATIENCE).await.expect("polled");
    assert_eq!(
        texts(&records),
        [
            "Struct{id=1,tiny=-1,flag=1,us=65535,um=4294967295,price=12.50,ratio=0.1,f=1.5,day=1,clock=-3600500,at=1000,\
             zoned=1500,y=365,name=ü,doc={\"a\":1},data=00ff,bits=5,kind=b}",
            "Struct{id=2}"
        ]
    );
    for record in &records {
        record.record.value.value.as_struct().expect("a row").validate().expect("of its schema");
    }
}

#[tokio::test]
async fn postgresql() {
    let server = Postgres::start().expect("a server");
    modes(&server).await;
    large(&server, "INSERT INTO large SELECT i, repeat('x', 100) FROM generate_series(1, 20000) i").await;
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'aqueduct'";
    reconnects(&server, cut).await;
    server.run(
        "CREATE TYPE mood AS ENUM ('sad', 'glad');
         CREATE TABLE kinds (id BIGSERIAL PRIMARY KEY, flag BOOLEAN, small SMALLINT, num NUMERIC(10,2), any_num NUMERIC,
             r REAL, d DOUBLE PRECISION, day DATE, clock TIME, at TIMESTAMP, zoned TIMESTAMPTZ, name TEXT, u UUID, j JSONB,
             data BYTEA, bit1 BIT(1), bit3 BIT(3), m mood, skipped INT[]);
         SET TIME ZONE 'America/New_York';
         INSERT INTO kinds VALUES (1, true, -5, 12.5, 1.2345, 1.5, 0.1, '1970-01-02', '01:02:03.5', '1970-01-01 00:00:01.000002',
             '1970-01-01 00:00:01.5+00', 'ü', '00000000-0000-0000-0000-000000000001', '{\"a\": 1}', '\\x00ff', B'1', B'101',
             'glad', '{1}');
         INSERT INTO kinds (id) VALUES (2);",
    );
    let config = server.settings(&[
        ("mode", "incrementing"),
        ("table.whitelist", "kinds"),
        ("timestamp.granularity", "micros_long"),
    ]);
    let mut task = task(&config, &Arc::default()).await.expect("started");
    let records = poll(&mut task, 2, PATIENCE).await.expect("polled");
    assert_eq!(
        texts(&records),
        [
            "Struct{id=1,flag=true,small=-5,num=12.50,any_num=1.2345,r=1.5,d=0.1,day=1,clock=3723500,at=1000002,\
             zoned=1500000,name=ü,u=00000000-0000-0000-0000-000000000001,j={\"a\": 1},data=00ff,bit1=true,bit3=5,m=glad}",
            "Struct{id=2}"
        ]
    );
    for record in &records {
        record.record.value.value.as_struct().expect("a row").validate().expect("of its schema");
    }
    // Offsets of drivers that did not name the database.
    let offsets = Arc::new(Offsets::default());
    offsets.put(r#"{"protocol":"1","table":"public.kinds"}"#, r#"{"incrementing":1}"#);
    let mut moved = harness::task(&config, &offsets).await.expect("started");
    assert_eq!(ids(&poll(&mut moved, 1, PATIENCE).await.expect("polled")), [2]);
}
