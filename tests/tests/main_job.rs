//! The main job: rows committed in a real MariaDB reach a real Elasticsearch through topics that stock Kafka tools can
//! read, set up over REST; nothing is lost when worker, broker, database or search server are killed in between.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use aqueduct_tests::aqueduct::{Broker, Worker};
use aqueduct_tests::console::read_topic;
use aqueduct_tests::elasticsearch::Elasticsearch;
use aqueduct_tests::kafka::Kafka;
use aqueduct_tests::mariadb::MariaDb;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(150);

struct Job {
    database: MariaDb,
    search: Elasticsearch,
    worker: Worker,
    random: u64,
}

impl Job {
    fn start(bootstrap: &str) -> Result<Self> {
        let database = MariaDb::start()?;
        database.sql(
            "CREATE TABLE orders (id BIGINT PRIMARY KEY, customer VARCHAR(100) NOT NULL, cents INT UNSIGNED NOT NULL,
             note TEXT, placed DATETIME(3) NOT NULL) DEFAULT CHARSET=utf8mb4",
        )?;
        let search = Elasticsearch::start()?;
        let worker = Worker::start(bootstrap, &[])?;
        Ok(Self { database, search, worker, random: 42 })
    }

    fn put(&self, name: &str, config: &Value) -> Result<()> {
        self.worker.api().put(name, config)?;
        self.worker.wait_running(name, LIMIT)
    }

    fn connect(&self) -> Result<()> {
        self.put(
            "shop",
            &json!({
                "connector.class": "io.debezium.connector.mariadb.MariaDbConnector",
                "database.hostname": "127.0.0.1",
                "database.port": self.database.port().to_string(),
                "database.user": "repl",
                "database.password": "repl",
                "database.server.id": "5401",
                "topic.prefix": "shop",
                "table.include.list": "test.orders",
                "schema.history.internal.kafka.topic": "shop-history",
                "schema.history.internal.kafka.bootstrap.servers": "unused",
                "transforms": "row",
                "transforms.row.type": "io.debezium.transforms.ExtractNewRecordState",
                "transforms.row.delete.tombstone.handling.mode": "delete-to-tombstone",
            }),
        )?;
        self.put(
            "search",
            &json!({
                "connector.class": "io.confluent.connect.elasticsearch.ElasticsearchSinkConnector",
                "connection.url": self.search.url(""),
                "topics": "shop.test.orders",
                "schema.ignore": "true",
                "behavior.on.null.values": "delete",
                // Long enough to sit out a restart of the search server.
                "max.retries": "20",
                "retry.backoff.ms": "20",
                "transforms": "id,index",
                "transforms.id.type": "org.apache.kafka.connect.transforms.ExtractField$Key",
                "transforms.id.field": "id",
                "transforms.index.type": "org.apache.kafka.connect.transforms.RegexRouter",
                "transforms.index.regex": "shop\\.test\\.(.*)",
                "transforms.index.replacement": "$1",
            }),
        )
    }

    fn next(&mut self, below: u64) -> u64 {
        // xorshift: the same workload every time.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    /// Inserts, updates, deletes and moves rows at random, in transactions of several statements.
    fn churn(&mut self, statements: u32) -> Result<()> {
        let mut sql = String::new();
        for n in 0..statements {
            if n % 7 == 0 {
                sql.push_str("START TRANSACTION;\n");
            }
            let (id, other) = (self.next(2000), self.next(2000));
            let cents = self.next(4_000_000_000);
            sql.push_str(&match self.next(10) {
                0..=4 => format!(
                    "INSERT INTO orders VALUES ({id}, 'Zoë {id}', {cents}, NULL, '2026-01-01 12:00:00.{:03}')
                     ON DUPLICATE KEY UPDATE cents = VALUES(cents);\n",
                    cents % 1000
                ),
                5 | 6 => {
                    format!("UPDATE orders SET note = 'n{cents}' WHERE id BETWEEN {id} AND {id} + 20;\n")
                }
                7 | 8 => format!("DELETE FROM orders WHERE id = {id};\n"),
                _ => format!("UPDATE IGNORE orders SET id = {other} WHERE id = {id};\n"),
            });
            if n % 7 == 6 {
                sql.push_str(if self.next(8) == 0 { "ROLLBACK;\n" } else { "COMMIT;\n" });
            }
        }
        sql.push_str("COMMIT;\n");
        self.database.sql(&sql).map(|_| ())
    }

    /// Rows as documents, by id.
    fn rows(&self) -> Result<BTreeMap<String, Value>> {
        let text = self.database.sql(
            "SELECT id, JSON_OBJECT('id', id, 'customer', customer, 'cents', cents, 'note', note,
             'placed', CAST(ROUND(UNIX_TIMESTAMP(placed) * 1000) AS UNSIGNED)) FROM orders",
        )?;
        text.lines()
            .map(|line| {
                let (id, document) = line.split_once('\t').context("two columns")?;
                // The client escapes backslashes in batch mode; the rows hold none but JSON's own.
                Ok((id.to_owned(), serde_json::from_str(&document.replace("\\\\", "\\"))?))
            })
            .collect()
    }

    fn wait_same(&self) -> Result<()> {
        let from = Instant::now();
        loop {
            let (rows, documents) = (self.rows()?, self.search.documents("orders")?);
            if rows == documents {
                return Ok(());
            }
            if from.elapsed() > LIMIT {
                let missing: Vec<_> = rows.keys().filter(|k| !documents.contains_key(*k)).take(5).collect();
                let surplus: Vec<_> = documents.keys().filter(|k| !rows.contains_key(*k)).take(5).collect();
                let other: Vec<_> = rows
                    .iter()
                    .filter_map(|(k, v)| Some((v, documents.get(k)?)))
                    .filter(|(a, b)| a != b)
                    .take(2)
                    .collect();
                let status = self.worker.rest("GET", "/connectors?expand=status", None)?;
                bail!(
                    "{} rows, {} documents; missing {missing:?}, surplus {surplus:?}, different {other:?}\n{:#}\n{}",
                    rows.len(),
                    documents.len(),
                    status.body,
                    self.worker.log_tail()
                );
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Everything but the kills, which differ by broker.
fn run(job: &mut Job, bootstrap: &str) -> Result<()> {
    job.churn(1500)?;
    job.connect()?;
    job.wait_same().context("after the snapshot")?;
    job.churn(800)?;
    job.wait_same().context("while streaming")?;

    job.churn(200)?;
    job.worker.process().kill();
    job.churn(800)?;
    job.worker.restart()?;
    job.churn(200)?;
    job.wait_same().context("after the worker was killed")?;

    job.database.kill();
    job.database.restart()?;
    job.churn(300)?;
    job.wait_same().context("after the database was killed")?;

    job.search.kill();
    job.churn(300)?;
    job.search.restart()?;
    job.wait_same().context("after the search server was killed")?;

    let records = read_topic(bootstrap, "shop.test.orders")?;
    ensure!(records.len() > 1500, "a stock consumer reads {} records", records.len());
    let first = records.first().context("a record")?.json()?;
    ensure!(first["customer"].is_string(), "{first}");
    Ok(())
}

#[test]
fn rows_reach_the_index_through_our_broker_whatever_is_killed() -> Result<()> {
    let mut broker = Broker::start()?;
    let bootstrap = broker.bootstrap();
    let mut job = Job::start(&bootstrap)?;
    run(&mut job, &bootstrap)?;

    job.churn(200)?;
    broker.process().kill();
    job.churn(300)?;
    broker.restart()?;
    job.churn(200)?;
    job.wait_same().context("after the broker was killed")
}

#[test]
fn rows_reach_the_index_through_apache_kafka_whatever_is_killed() -> Result<()> {
    let kafka = Kafka::start()?;
    let bootstrap = kafka.bootstrap();
    let mut job = Job::start(&bootstrap)?;
    run(&mut job, &bootstrap)
}
