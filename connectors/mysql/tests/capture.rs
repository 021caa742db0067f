//! Snapshot and stream against a real MariaDB.

mod common;

use std::sync::Arc;
use std::time::Duration;

use aqueduct_connect_api::{Decimal, Factory, Plugin, Value};
use aqueduct_tests::mariadb::MariaDb;
use common::{Capture, Offsets, at, config, op, summary};

const PLAIN: &str = "CREATE DATABASE inv CHARACTER SET utf8mb4; USE inv;
CREATE TABLE plain (id BIGINT PRIMARY KEY, name VARCHAR(20), amount DECIMAL(10,2) NOT NULL DEFAULT 0);
INSERT INTO plain VALUES (1,'one',1.5),(2,'two',2.5);";

fn server() -> MariaDb {
    let server = MariaDb::start().expect("MariaDB");
    server.sql(PLAIN).expect("tables");
    server
}

#[tokio::test]
async fn snapshot_then_every_kind_of_change() {
    let server = server();
    let offsets = Arc::new(Offsets::default());
    let mut capture = Capture::start(&config(&server, &[]), &offsets).await;
    let rows = capture.take(2).await;
    assert_eq!(summary(&rows), "r1 r2");
    assert_eq!(rows[0].record.topic, "p.inv.plain");
    assert_eq!(at(&rows[0], "source.snapshot"), &"first".into());
    assert_eq!(at(&rows[1], "source.snapshot"), &"last".into());
    assert_eq!(rows[0].source_offset["snapshot"], "INITIAL");
    assert!(rows[1].source_offset.get("snapshot").is_none());
    server
        .sql(
            "USE inv; INSERT INTO plain VALUES (3,'drei €',-3.25); UPDATE plain SET amount=4 WHERE id=3;
             UPDATE plain SET id=4 WHERE id=3; DELETE FROM plain WHERE id=4;
             CREATE TABLE nokey (a INT); INSERT INTO nokey VALUES (1); DELETE FROM nokey;",
        )
        .unwrap();
    let changes = capture.take(9).await;
    assert_eq!(summary(&changes), "c3 u3 d3 t3 c4 d4 t4 c d");
    assert_eq!(at(&changes[0], "after.name"), &"drei €".into());
    assert_eq!(at(&changes[0], "after.amount"), &Value::Decimal(Decimal::new(-325, 2)));
    assert_eq!(at(&changes[1], "before.amount"), &Value::Decimal(Decimal::new(-325, 2)));
    assert_eq!(changes[2].record.headers[0].key, "__debezium.newkey");
    assert_eq!(changes[3].record.headers[0].key, "__debezium.newkey");
    assert_eq!(changes[4].record.headers[0].key, "__debezium.oldkey");
    assert_eq!(at(&changes[0], "source.file"), &"binlog.000001".into());
    assert_eq!(changes[0].source_offset["file"], "binlog.000001");
    let gtid = at(&changes[0], "source.gtid").as_str().unwrap();
    assert!(gtid.starts_with(&format!("0-{}-", server.port())), "{gtid}");
    capture.expect_silence().await;
    capture.stop().await;
}

#[tokio::test]
async fn a_transaction_is_resumed_behind_any_of_its_rows() {
    let server = server();
    let offsets = Arc::new(Offsets::default());
    let settings = config(&server, &[("max.batch.size", "7"), ("max.queue.size", "30")]);
    let mut capture = Capture::start(&settings, &offsets).await;
    capture.take(2).await;
    let rows: Vec<String> = (100..160).map(|i| format!("({i},'n{i}',1)")).collect();
    server
        .sql(&format!(
            "USE inv; START TRANSACTION; INSERT INTO plain VALUES {}; UPDATE plain SET amount=2 WHERE id>=100;
             DELETE FROM plain WHERE id=159; COMMIT; INSERT INTO plain VALUES (1000,'end',1);",
            rows.join(",")
        ))
        .unwrap();
    let mut seen = Vec::new();
    while seen.last().is_none_or(|r| summary(std::slice::from_ref(r)) != "c1000") {
        // a few records, then a restart from the offset of the last one
        for _ in 0..(seen.len() % 11 + 1) {
            seen.push(capture.next().await);
            if summary(&seen).ends_with("c1000") {
                break;
            }
        }
        capture.stop().await;
        capture = Capture::start(&settings, &offsets).await;
    }
    let expected: Vec<String> = (100..160)
        .map(|i| format!("c{i}"))
        .chain((100..160).map(|i| format!("u{i}")))
        .chain(["d159", "t159", "c1000"].map(str::to_owned))
        .collect();
    // a delete comes again where its tombstone had not arrived
    let mut seen: Vec<String> = summary(&seen).split(' ').map(str::to_owned).collect();
    seen.dedup();
    assert_eq!(seen, expected);
    capture.expect_silence().await;
    capture.stop().await;
}

#[tokio::test]
async fn definitions_that_change_are_followed() {
    let server = server();
    let offsets = Arc::new(Offsets::default());
    let settings = config(&server, &[("include.schema.changes", "true"), ("skipped.operations", "none")]);
    let mut capture = Capture::start(&settings, &offsets).await;
    let statements = capture.take(6).await;
    assert!(statements.iter().all(|r| r.record.topic == "p"));
    assert!(at(&statements[5], "ddl").as_str().unwrap().starts_with("CREATE TABLE `plain`"));
    assert_eq!(summary(&capture.take(2).await), "r1 r2");
    capture.stop().await;
    // all of it happens while nobody reads: events are older than the catalogue
    server
        .sql(
            "USE inv; ALTER TABLE plain ADD COLUMN extra INT NOT NULL DEFAULT 7;
             INSERT INTO plain VALUES (3,'x',1,8); ALTER TABLE plain DROP COLUMN name, RENAME COLUMN amount TO total;
             INSERT INTO plain VALUES (4,5.5,9); ALTER TABLE plain MODIFY total VARCHAR(10) CHARACTER SET latin1;
             INSERT INTO plain VALUES (5,'ä',9); TRUNCATE TABLE plain; RENAME TABLE plain TO other;
             INSERT INTO other VALUES (6,'y',1); DROP TABLE other;",
        )
        .unwrap();
    let mut capture = Capture::start(&settings, &offsets).await;
    let mut ddl = Vec::new();
    let mut rows = Vec::new();
    while ddl.len() < 5 || rows.len() < 5 {
        let record = capture.next().await;
        if record.record.topic == "p" { ddl.push(record) } else { rows.push(record) }
    }
    assert_eq!(at(&rows[0], "after.name"), &"x".into());
    assert_eq!(at(&rows[0], "after.extra"), &Value::Int32(8));
    assert_eq!(at(&rows[1], "after.total"), &Value::Decimal(Decimal::new(550, 2)));
    assert_eq!(at(&rows[1], "after.name"), &Value::Null);
    assert_eq!(at(&rows[2], "after.total"), &"ä".into());
    assert_eq!(op(&rows[3]), "t");
    assert_eq!(rows[4].record.topic, "p.inv.other");
    assert_eq!(at(&rows[4], "after.total"), &"y".into());
    capture.stop().await;
}

#[tokio::test]
async fn a_killed_server_is_picked_up_again() {
    let mut server = server();
    let offsets = Arc::new(Offsets::default());
    let mut capture = Capture::start(&config(&server, &[]), &offsets).await;
    capture.take(2).await;
    server.sql("INSERT INTO inv.plain VALUES (3,'x',1)").unwrap();
    assert_eq!(summary(&capture.take(1).await), "c3");
    for id in 4..7 {
        server.kill();
        server.restart().unwrap();
        server.sql(&format!("INSERT INTO inv.plain VALUES ({id},'x',1)")).unwrap();
        assert_eq!(summary(&capture.take(1).await), format!("c{id}"));
    }
    capture.expect_silence().await;
    capture.stop().await;
}

#[tokio::test]
async fn a_snapshot_that_was_cut_off_loses_no_delete() {
    let server = server();
    let rows: Vec<String> = (3..=500).map(|i| format!("({i},'n{i}',1)")).collect();
    server.sql(&format!("INSERT INTO inv.plain VALUES {}", rows.join(","))).unwrap();
    let offsets = Arc::new(Offsets::default());
    let settings = config(&server, &[("max.batch.size", "10"), ("max.queue.size", "40")]);
    let mut capture = Capture::start(&settings, &offsets).await;
    let mut seen = capture.take(100).await;
    capture.stop().await;
    server
        .sql("USE inv; DELETE FROM plain WHERE id IN (50, 200); UPDATE plain SET amount=9 WHERE id=60")
        .unwrap();
    let mut capture = Capture::start(&settings, &offsets).await;
    seen.extend(capture.take(399).await);
    assert_eq!(seen.last().map(|r| summary(std::slice::from_ref(r))).as_deref(), Some("r500"));
    let reads = seen.iter().filter(|r| op(r) == "r").count();
    assert_eq!(reads, 499, "only the rest is read again");
    assert_eq!(summary(&capture.take(5).await), "d50 t50 d200 t200 u60");
    capture.expect_silence().await;
    capture.stop().await;
}

#[tokio::test]
async fn failures_say_what_to_change() {
    let server = server();
    let offsets = Arc::new(Offsets::default());
    let mut wrong = Capture::start(&config(&server, &[("database.password", "no")]), &offsets).await;
    let text = wrong.failure().await;
    assert!(text.contains("database.password") && text.contains("1045"), "{text}");
    let mut away =
        Capture::start(&config(&server, &[("database.port", "1"), ("errors.max.retries", "1")]), &offsets)
            .await;
    let text = away.failure().await;
    assert!(text.contains("127.0.0.1:1") && text.contains("errors.max.retries"), "{text}");
    let mut capture = Capture::start(&config(&server, &[]), &offsets).await;
    capture.take(2).await;
    capture.stop().await;
    server
        .sql("FLUSH BINARY LOGS; INSERT INTO inv.plain VALUES (3,'x',1); FLUSH BINARY LOGS; RESET MASTER")
        .unwrap();
    server.sql("INSERT INTO inv.plain VALUES (4,'x',1)").unwrap();
    let mut purged = Capture::start(&config(&server, &[]), &offsets).await;
    let text = purged.failure().await;
    assert!(text.contains("when_needed"), "{text}");
    let mut needed = Capture::start(&config(&server, &[("snapshot.mode", "when_needed")]), &offsets).await;
    assert_eq!(summary(&needed.take(4).await), "r1 r2 r3 r4");
    needed.stop().await;
}

#[tokio::test]
async fn heartbeats_move_the_offset_over_what_is_not_captured() {
    let server = server();
    let offsets = Arc::new(Offsets::default());
    let mut capture = Capture::start(&config(&server, &[("heartbeat.interval.ms", "200")]), &offsets).await;
    capture.take(2).await;
    let before = offsets.get("p").unwrap()["pos"].as_u64().unwrap();
    server.sql("CREATE TABLE test.t (a INT); INSERT INTO test.t VALUES (1)").unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let beat = loop {
        let record = capture.next().await;
        assert_eq!(record.record.topic, "__debezium-heartbeat.p");
        if record.source_offset["pos"].as_u64().unwrap() > before {
            break record;
        }
    };
    assert!(beat.source_offset.get("event").is_none());
    capture.stop().await;
}

#[tokio::test]
async fn validation_reaches_the_server() {
    let server = MariaDb::start_with(&["--binlog-row-image=MINIMAL"]).expect("MariaDB");
    server.sql("CREATE USER poor@'%' IDENTIFIED BY 'p'").unwrap();
    let plugin = Plugin::connector("MariaDbConnector").expect("the plugin");
    let Factory::Source { connector, .. } = plugin.factory else { panic!("a source") };
    let errors = async |more: &[(&str, &str)]| {
        let settings = config(&server, more);
        let mut infos = (plugin.config)().validate(&settings);
        connector().validate(&settings, &mut infos).await;
        infos
            .into_iter()
            .flat_map(|i| i.errors.into_iter().map(move |e| format!("{}: {e}", i.key.name)))
            .collect::<Vec<_>>()
            .join("\n")
    };
    let text = errors(&[]).await;
    assert!(text.contains("binlog_row_image is MINIMAL"), "{text}");
    server.sql("SET GLOBAL binlog_row_image=FULL").unwrap();
    assert_eq!(errors(&[]).await, "");
    let text = errors(&[("database.user", "poor"), ("database.password", "p")]).await;
    assert!(text.contains("database.user: user 'poor' lacks REPLICATION SLAVE"), "{text}");
    let text = errors(&[("database.password", "wrong")]).await;
    assert!(text.contains("database.user") && !text.contains("wrong"), "{text}");
    let text = errors(&[("database.port", "1")]).await;
    assert!(text.contains("database.hostname"), "{text}");
    let text = errors(&[("snapshot.mode", "custom"), ("include.query", "true")]).await;
    assert!(text.contains("snapshot.mode") && text.contains("include.query"), "{text}");
    let text = errors(&[("column.mask.with.5.chars", "inv.a.b")]).await;
    assert!(text.contains("column.mask.with.5.chars"), "{text}");
}

#[tokio::test]
async fn without_transaction_ids_file_and_position_do() {
    let server = server();
    let offsets = Arc::new(Offsets::default());
    let settings = config(&server, &[]);
    let mut capture = Capture::start(&settings, &offsets).await;
    capture.take(2).await;
    server.sql("USE inv; INSERT INTO plain VALUES (3,'x',1),(4,'x',1),(5,'x',1)").unwrap();
    assert_eq!(summary(&capture.take(2).await), "c3 c4");
    capture.stop().await;
    server.sql("FLUSH BINARY LOGS; INSERT INTO inv.plain VALUES (6,'x',1); FLUSH BINARY LOGS").unwrap();
    for expected in ["c5", "c6"] {
        let mut stored = offsets.get("p").unwrap();
        stored.remove("gtids").expect("ids up to here");
        offsets.put(&[("server".to_owned(), "p".into())].into_iter().collect(), &stored);
        let mut capture = Capture::start(&settings, &offsets).await;
        let record = capture.next().await;
        assert_eq!(summary(std::slice::from_ref(&record)), expected);
        assert!(record.source_offset.get("gtids").is_none(), "a partial set would bring back the past");
        capture.stop().await;
        offsets.put(&record.source_partition, &{
            let mut offset = (*record.source_offset).clone();
            offset.insert("gtids".to_owned(), "0-1-0".into());
            offset
        });
    }
}

#[tokio::test]
async fn old_events_without_metadata_are_refused_when_they_no_longer_fit() {
    let server = MariaDb::start_with(&["--binlog-row-metadata=NO_LOG"]).expect("MariaDB");
    server.sql(PLAIN).unwrap();
    let offsets = Arc::new(Offsets::default());
    let settings = config(&server, &[]);
    let mut capture = Capture::start(&settings, &offsets).await;
    capture.take(2).await;
    server.sql("INSERT INTO inv.plain VALUES (3,'x',1)").unwrap();
    assert_eq!(summary(&capture.take(1).await), "c3");
    server
        .sql(
            "ALTER TABLE inv.plain ADD COLUMN u TINYINT UNSIGNED; INSERT INTO inv.plain VALUES (4,'x',1,200)",
        )
        .unwrap();
    let live = capture.next().await;
    assert_eq!(at(&live, "after.u"), &Value::Int16(200));
    capture.stop().await;
    server.sql("INSERT INTO inv.plain VALUES (5,'x',1,2); ALTER TABLE inv.plain DROP COLUMN name").unwrap();
    let mut capture = Capture::start(&settings, &offsets).await;
    let text = capture.failure().await;
    assert!(text.contains("binlog_row_metadata=FULL") && text.contains("inv.plain had 4 columns"), "{text}");
    let lenient = config(&server, &[("inconsistent.schema.handling.mode", "warn")]);
    let mut capture = Capture::start(&lenient, &offsets).await;
    server.sql("INSERT INTO inv.plain VALUES (6,1,2)").unwrap();
    assert_eq!(summary(&capture.take(1).await), "c6");
    capture.stop().await;
}

#[tokio::test]
async fn two_readers_of_one_id_are_told() {
    let server = server();
    let settings = config(&server, &[]);
    let mut first = Capture::start(&settings, &Arc::new(Offsets::default())).await;
    first.take(2).await;
    let mut second = Capture::start(&settings, &Arc::new(Offsets::default())).await;
    second.take(2).await;
    server.sql("INSERT INTO inv.plain VALUES (3,'x',1)").unwrap();
    let text = tokio::select! {
        text = first.failure() => text,
        text = second.failure() => text,
    };
    assert!(text.contains("database.server.id=5400"), "{text}");
}

#[tokio::test]
async fn columns_of_every_storage_are_in_the_rows() {
    let server = MariaDb::start().expect("MariaDB");
    server
        .sql(
            "CREATE DATABASE inv; USE inv;
             CREATE TABLE g (id INT PRIMARY KEY, a INT, v INT AS (a + 1) VIRTUAL, s INT AS (a + 2) STORED, h INT INVISIBLE
                DEFAULT 5, t TEXT CHARACTER SET cp1250, u UUID);
             INSERT INTO g (id, a, t) VALUES (1, 10, 'x');",
        )
        .unwrap();
    let settings = config(&server, &[("column.exclude.list", "inv.g.u")]);
    let mut capture = Capture::start(&settings, &Arc::new(Offsets::default())).await;
    let read = capture.next().await;
    server.sql("INSERT INTO inv.g (id, a, t) VALUES (2, 10, 'x')").unwrap();
    let created = capture.next().await;
    for record in [&read, &created] {
        for (column, value) in [("v", 11), ("s", 12), ("h", 5)] {
            assert_eq!(
                at(record, &format!("after.{column}")),
                &Value::Int32(value),
                "{column} of {}",
                op(record)
            );
        }
    }
    server.sql("INSERT INTO inv.g (id, a, t) VALUES (3, 10, 'ž')").unwrap();
    let text = capture.failure().await;
    assert!(text.contains("inv.g.t") && text.contains("cp1250"), "{text}");
    let whole = config(&server, &[]);
    let text = Capture::start(&whole, &Arc::new(Offsets::default())).await.failure().await;
    assert!(text.contains("inv.g.u") && text.contains("column.exclude.list"), "{text}");
}
