//! Exactly-once sources of real databases: the worker is killed again and again while rows change, and a stock reader of what
//! is committed finds every change once, those of one row in order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use aqueduct_tests::aqueduct::Worker;
use aqueduct_tests::console::read_committed;
use aqueduct_tests::mariadb::MariaDb;
use aqueduct_tests::postgres::Postgres;
use aqueduct_tests::server::{Kind, Server};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(90);
const BROKER: &[(&str, &str)] =
    &[("transaction.state.log.num.partitions", "5"), ("group.min.session.timeout.ms", "1000")];
const SETTINGS: &[(&str, &str)] = &[
    ("exactly.once.source.support", "enabled"),
    ("session.timeout.ms", "2000"),
    ("heartbeat.interval.ms", "300"),
    ("offset.storage.partitions", "2"),
    ("status.storage.partitions", "2"),
];
/// How long the worker works before each kill, in milliseconds.
const PAUSES: [u64; 3] = [900, 350, 1300];

/// The changes of each row by key, in order; none is a row that was deleted.
type Changes = BTreeMap<i64, Vec<Option<i64>>>;

/// Changes rows until it is told to stop; says what it did.
struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Changes>>,
}

impl Load {
    /// `step` makes a few changes and adds them.
    fn start(step: impl Fn(i64, &mut Changes) -> Result<()> + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut changes = Changes::new();
            for n in 0.. {
                if told.load(Ordering::Relaxed) {
                    break;
                }
                step(n, &mut changes)?;
            }
            Ok(changes)
        });
        Self { stop, thread }
    }

    fn end(self) -> Result<Changes> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the load panicked"))?
    }
}

/// The worker is killed under load, and started again.
fn torment(worker: &mut Worker, connector: &str) -> Result<()> {
    for pause in PAUSES {
        worker.wait_running(connector, LIMIT)?;
        std::thread::sleep(Duration::from_millis(pause));
        worker.process().kill();
        worker.restart()?;
    }
    worker.wait_running(connector, LIMIT)
}

/// What a stock reader of committed records sees: keys and values.
fn committed(server: &Server, topic: &str) -> Result<Vec<(Value, Value)>> {
    let records = read_committed(&server.bootstrap(), topic)?;
    records
        .iter()
        .map(|record| Ok((serde_json::from_str(&record.key).context(record.key.clone())?, record.json()?)))
        .collect()
}

/// Waits until there are as many changes as were made, and compares them.
fn check(
    server: &Server,
    worker: &Worker,
    topic: &str,
    expected: &Changes,
    read: impl Fn(&Value, &Value) -> Option<(i64, Option<i64>)>,
) -> Result<()> {
    let count = expected.values().map(Vec::len).sum::<usize>();
    let from = Instant::now();
    let seen = loop {
        let seen = committed(server, topic)?;
        if seen.len() >= count || from.elapsed() > LIMIT {
            break seen;
        }
    };
    let mut found = Changes::new();
    for (key, value) in &seen {
        let (key, change) = read(key, value).with_context(|| format!("{key} {value}"))?;
        found.entry(key).or_default().push(change);
    }
    let differs = expected.iter().find(|(key, changes)| found.get(key) != Some(changes));
    ensure!(
        differs.is_none() && seen.len() == count,
        "{} changes of {count} in {topic}; of the first row that differs, made: {differs:?}, found: {:?}\n{}",
        seen.len(),
        differs.and_then(|(key, _)| found.get(key)),
        worker.log_tail()
    );
    println!("{topic}: {count} changes of {} rows, each once and in order", expected.len());
    Ok(())
}

fn captured(kind: Kind) -> Result<()> {
    let server = Server::start_with(kind, BROKER)?;
    let database = MariaDb::start()?;
    database.sql("CREATE TABLE stock (id BIGINT PRIMARY KEY, version BIGINT NOT NULL)")?;
    let mut worker = Worker::start(&server.bootstrap(), SETTINGS)?;
    let config = json!({
        "connector.class": "io.debezium.connector.mariadb.MariaDbConnector",
        "database.hostname": "127.0.0.1",
        "database.port": database.port().to_string(),
        "database.user": "repl",
        "database.password": "repl",
        "database.server.id": "5402",
        "topic.prefix": "once",
        "table.include.list": "test.stock",
        "schema.history.internal.kafka.topic": "once-history",
        "schema.history.internal.kafka.bootstrap.servers": "unused",
        "transforms": "row",
        "transforms.row.type": "io.debezium.transforms.ExtractNewRecordState",
        "transforms.row.delete.tombstone.handling.mode": "tombstone",
        "exactly.once.support": "required",
    });
    worker.api().put("capture", &config)?;
    worker.wait_running("capture", LIMIT)?;
    let database = Arc::new(database);
    let target = database.clone();
    let load = Load::start(move |n, changes| {
        let mut sql = String::from("START TRANSACTION;\n");
        for version in n * 20..n * 20 + 20 {
            let id = version * 7 % 31;
            let known = changes.entry(id).or_default();
            let exists = known.last().is_some_and(Option::is_some);
            let change = (!exists || version % 5 != 0).then_some(version);
            sql.push_str(&match change {
                Some(_) if exists => format!("UPDATE stock SET version = {version} WHERE id = {id};\n"),
                Some(_) => format!("INSERT INTO stock VALUES ({id}, {version});\n"),
                None => format!("DELETE FROM stock WHERE id = {id};\n"),
            });
            known.push(change);
        }
        sql.push_str("COMMIT;\n");
        target.sql(&sql).map(|_| ())
    });
    torment(&mut worker, "capture")?;
    let expected = load.end()?;
    check(&server, &worker, "once.test.stock", &expected, |key, value| {
        Some((key["id"].as_i64()?, value["version"].as_i64()))
    })
}

fn queried(kind: Kind) -> Result<()> {
    let server = Server::start_with(kind, BROKER)?;
    let database = Postgres::start()?;
    database.sql("CREATE TABLE events (id BIGINT PRIMARY KEY, thing BIGINT NOT NULL)")?;
    let mut worker = Worker::start(&server.bootstrap(), SETTINGS)?;
    let config = json!({
        "connector.class": "io.confluent.connect.jdbc.JdbcSourceConnector",
        "connection.url": format!("jdbc:postgresql://127.0.0.1:{}/postgres?user=postgres", database.port()),
        "mode": "incrementing",
        "incrementing.column.name": "id",
        "table.whitelist": "events",
        "topic.prefix": "once-",
        "poll.interval.ms": "50",
        "batch.max.rows": "20",
        "exactly.once.support": "required",
        // Several polls in each transaction: a kill finds it open.
        "transaction.boundary": "interval",
        "transaction.boundary.interval.ms": "300",
        "transforms": "key",
        "transforms.key.type": "org.apache.kafka.connect.transforms.ValueToKey",
        "transforms.key.fields": "thing",
    });
    worker.api().put("query", &config)?;
    worker.wait_running("query", LIMIT)?;
    let database = Arc::new(database);
    let target = database.clone();
    let load = Load::start(move |n, changes| {
        let mut rows = Vec::new();
        for id in n * 10..n * 10 + 10 {
            changes.entry(id * 7 % 13).or_default().push(Some(id));
            rows.push(format!("({id}, {})", id * 7 % 13));
        }
        target.sql(&format!("INSERT INTO events VALUES {}", rows.join(", "))).map(|_| ())
    });
    torment(&mut worker, "query")?;
    let expected = load.end()?;
    check(&server, &worker, "once-events", &expected, |key, value| {
        Some((key["thing"].as_i64()?, value["id"].as_i64()))
    })
}

#[test]
fn changes_of_mariadb_on_ours() -> Result<()> {
    captured(Kind::Aqueduct)
}

#[test]
fn rows_of_postgres_on_apache_kafka() -> Result<()> {
    queried(Kind::ApacheKafka)
}
