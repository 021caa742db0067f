//! A worker in small: it runs one task, takes its records, and stores the offset of each in memory.

#![allow(dead_code, reason = "each test file uses a part")]

pub mod json;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aqueduct_connect_api::{
    ConfigMap, Factory, OffsetMap, OffsetStore, Plugin, Result, SourceRecord, SourceTask, SourceTaskContext,
    Value,
};
use aqueduct_connector_mysql as _;
use aqueduct_tests::mariadb::MariaDb;
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

/// Offsets as a cluster would hold them.
#[derive(Default)]
pub struct Offsets(Mutex<HashMap<String, OffsetMap>>);

impl Offsets {
    pub fn put(&self, partition: &OffsetMap, offset: &OffsetMap) {
        let key = serde_json::to_string(partition).expect("JSON");
        self.0.lock().expect("no panic under the lock").insert(key, offset.clone());
    }

    pub fn get(&self, prefix: &str) -> Option<OffsetMap> {
        let key = format!("{{\"server\":\"{prefix}\"}}");
        self.0.lock().expect("no panic under the lock").get(&key).cloned()
    }
}

#[async_trait]
impl OffsetStore for Offsets {
    async fn read(&self, partitions: &[OffsetMap]) -> Result<Vec<Option<OffsetMap>>> {
        let stored = self.0.lock().expect("no panic under the lock");
        Ok(partitions.iter().map(|p| stored.get(&serde_json::to_string(p).expect("JSON")).cloned()).collect())
    }

    async fn store(&self, partition: &OffsetMap, offset: &OffsetMap) -> Result<()> {
        self.put(partition, offset);
        Ok(())
    }
}

/// Settings for `server` as user `repl`, with `more` on top.
pub fn config(server: &MariaDb, more: &[(&str, &str)]) -> ConfigMap {
    let port = server.port().to_string();
    [
        ("database.hostname", "127.0.0.1"),
        ("database.port", &port),
        ("database.user", "repl"),
        ("database.password", "repl"),
        ("database.server.id", "5400"),
        ("database.include.list", "inv"),
        ("topic.prefix", "p"),
        ("include.schema.changes", "false"),
        ("extended.headers.enabled", "false"),
    ]
    .iter()
    .chain(more)
    .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
    .collect()
}

/// How long a record or a failure is waited for.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A running task.
pub struct Capture {
    task: Box<dyn SourceTask>,
    offsets: Arc<Offsets>,
    waiting: Vec<SourceRecord>,
}

impl Capture {
    pub async fn start(config: &ConfigMap, offsets: &Arc<Offsets>) -> Self {
        Self::start_class("io.debezium.connector.mariadb.MariaDbConnector", config, offsets).await
    }

    pub async fn start_class(class: &str, config: &ConfigMap, offsets: &Arc<Offsets>) -> Self {
        let plugin = Plugin::connector(class).expect("the plugin");
        let Factory::Source { task, .. } = plugin.factory else { panic!("a source") };
        let mut task = task();
        let context = SourceTaskContext {
            connector: "cdc".into(),
            task: 0,
            shutdown: CancellationToken::new(),
            offsets: Arc::clone(offsets) as Arc<dyn OffsetStore>,
            transactions: None,
            notice: Default::default(),
        };
        let config = (plugin.config)().parse(config).expect("good settings");
        task.start(context, &config).await.expect("start");
        Self { task, offsets: Arc::clone(offsets), waiting: Vec::new() }
    }

    /// The next record, whose offset counts as stored from here on; `None` after `patience` without one.
    pub async fn next_within(&mut self, patience: Duration) -> Result<Option<SourceRecord>> {
        let end = Instant::now() + patience;
        while self.waiting.is_empty() {
            if Instant::now() > end {
                return Ok(None);
            }
            self.waiting = self.task.poll().await?;
            self.waiting.reverse();
        }
        let record = self.waiting.pop().expect("not empty");
        self.offsets.put(&record.source_partition, &record.source_offset);
        Ok(Some(record))
    }

    pub async fn next(&mut self) -> SourceRecord {
        self.next_within(LIMIT).await.expect("no failure").expect("a record within a minute")
    }

    pub async fn take(&mut self, count: usize) -> Vec<SourceRecord> {
        let mut records = Vec::with_capacity(count);
        for _ in 0..count {
            records.push(self.next().await);
        }
        records
    }

    /// Fails where a record comes within a second and a half.
    pub async fn expect_silence(&mut self) {
        let record = self.next_within(Duration::from_millis(1500)).await.expect("no failure");
        assert!(record.is_none(), "unexpected record: {record:?}");
    }

    /// The failure that ends the task.
    pub async fn failure(&mut self) -> String {
        loop {
            match self.next_within(LIMIT).await {
                Err(e) => return e.to_string(),
                Ok(None) => panic!("no failure within a minute"),
                Ok(Some(_)) => {}
            }
        }
    }

    pub async fn stop(mut self) {
        let asked = Instant::now();
        self.task.stop().await;
        assert!(asked.elapsed() < Duration::from_secs(10), "stopping took {:?}", asked.elapsed());
    }
}

/// Member `path`, with dots between, of a record's value; null where there is none.
pub fn at<'r>(record: &'r SourceRecord, path: &str) -> &'r Value {
    let mut value = &record.record.value.value;
    for name in path.split('.') {
        value = value.as_struct().and_then(|s| s.get_without_default(name)).unwrap_or(&Value::Null);
    }
    value
}

pub fn op(record: &SourceRecord) -> &str {
    at(record, "op").as_str().unwrap_or("tombstone")
}

/// Op and column `id` of each record: `c1 d2 t2` where `t` is a tombstone.
pub fn summary(records: &[SourceRecord]) -> String {
    let one = |r: &SourceRecord| {
        let key = r.record.key.value.as_struct().and_then(|k| k.values().first()).and_then(Value::as_i64);
        format!("{}{}", &op(r)[..1], key.map_or_else(String::new, |k| k.to_string()))
    };
    records.iter().map(one).collect::<Vec<_>>().join(" ")
}
