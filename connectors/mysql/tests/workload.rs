//! A random workload, with restarts of the task and kills of the server: replaying the records gives the tables.

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aqueduct_connect_api::{SourceRecord, Value};
use aqueduct_tests::mariadb::MariaDb;
use common::json::value_json;
use common::{Capture, Offsets, at, config, op};

/// A small generator of its own: the seed alone decides what happens.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

const TABLES: &str = "CREATE DATABASE inv CHARACTER SET utf8mb4; USE inv;
CREATE TABLE a (id INT PRIMARY KEY, name VARCHAR(40), n BIGINT UNSIGNED, d DECIMAL(8,2), t TIMESTAMP(3) NULL);
CREATE TABLE b (x VARCHAR(8), y INT, v TEXT, PRIMARY KEY (y, x));
CREATE TABLE done (id INT PRIMARY KEY);";

fn statements(random: &mut Random) -> String {
    let mut sql = String::from("USE inv;\n");
    for _ in 0..1 + random.below(3) {
        let in_transaction = random.below(2) == 0;
        sql.push_str(if in_transaction { "START TRANSACTION;\n" } else { "" });
        for _ in 0..1 + random.below(6) {
            let id = random.below(60);
            let other = random.below(60);
            let number = random.below(1 << 31) * random.below(1 << 31);
            let text = ["x", "ü€", "😀 y", "", "it''s", "long text to fill a line"][random.below(6) as usize];
            let written = match random.below(9) {
                0..=2 => write!(
                    sql,
                    "INSERT IGNORE INTO a VALUES ({id},'{text}',{number},-{other}.5,'2020-01-01 00:00:{:02}.123');",
                    id
                ),
                3 => write!(sql, "UPDATE a SET name='{text}', n=NULL WHERE id BETWEEN {id} AND {};", id + 9),
                4 => write!(sql, "UPDATE IGNORE a SET id={other} WHERE id={id};"),
                5 => write!(sql, "DELETE FROM a WHERE id={id} OR id={other};"),
                6 => write!(sql, "INSERT IGNORE INTO b VALUES ('k{}',{id},'{text}');", other % 3),
                7 => write!(sql, "REPLACE INTO b VALUES ('k{}',{id},'{number}');", other % 3),
                _ => write!(sql, "DELETE FROM b WHERE y={id};"),
            };
            written.expect("a string takes everything");
            sql.push('\n');
        }
        if in_transaction {
            sql.push_str(if random.below(4) == 0 { "ROLLBACK;\n" } else { "COMMIT;\n" });
        }
    }
    sql
}

type Model = BTreeMap<String, String>;

fn replay(model: &mut Model, record: &SourceRecord) {
    let key = format!("{} {}", record.record.topic, value_json(&record.record.key.value));
    match op(record) {
        "r" | "c" | "u" => {
            model.insert(key, value_json(at(record, "after")).to_string());
        }
        "d" => {
            model.remove(&key);
        }
        _ => {}
    }
}

/// What a snapshot of its own finds.
async fn tables(server: &MariaDb) -> Model {
    let settings = config(server, &[("snapshot.mode", "initial_only"), ("database.server.id", "5401")]);
    let mut capture = Capture::start(&settings, &Arc::new(Offsets::default())).await;
    let mut model = Model::new();
    loop {
        let record = capture.next().await;
        replay(&mut model, &record);
        if at(&record, "source.snapshot") == &"last".into() {
            break;
        }
    }
    capture.stop().await;
    model
}

async fn run(seed: u64) {
    println!("seed {seed}");
    let mut server = MariaDb::start().expect("MariaDB");
    server.sql(TABLES).expect("tables");
    let mut random = Random(seed);
    server.sql(&statements(&mut random)).expect("first rows");
    let offsets = Arc::new(Offsets::default());
    let settings = config(
        &server,
        &[("max.batch.size", "5"), ("max.queue.size", "20"), ("retriable.restart.connector.wait.ms", "300")],
    );
    let finished = Arc::new(AtomicBool::new(false));
    let workload = tokio::task::spawn_blocking({
        let finished = Arc::clone(&finished);
        move || {
            for batch in 0..120 {
                server.sql(&statements(&mut random)).expect("a batch");
                if batch % 50 == 40 {
                    server.kill();
                    server.restart().expect("a restart");
                }
            }
            server.sql("INSERT INTO inv.done VALUES (1)").expect("the end");
            finished.store(true, Ordering::Release);
            server
        }
    });
    let mut model = Model::new();
    let mut random = Random(!seed);
    let mut capture = Capture::start(&settings, &offsets).await;
    loop {
        match capture.next_within(Duration::from_secs(60)).await.expect("no failure") {
            Some(record)
                if record.record.topic == "p.inv.done" && at(&record, "after.id") == &Value::Int32(1) =>
            {
                replay(&mut model, &record);
                break;
            }
            Some(record) => replay(&mut model, &record),
            None => panic!("seed {seed}: no record for a minute; workload finished: {finished:?}"),
        }
        if random.below(40) == 0 {
            capture.stop().await;
            capture = Capture::start(&settings, &offsets).await;
        }
    }
    capture.stop().await;
    let server = workload.await.expect("the workload");
    assert_eq!(model, tables(&server).await, "seed {seed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replaying_all_records_gives_the_tables() {
    for seed in [1, 7_654_321] {
        run(seed).await;
    }
}
