//! A worker's side of the plugin boundary, in memory.

#![allow(dead_code)]

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aqueduct_connect_api::connector::ConnectorEvents;
use aqueduct_connect_api::{
    ConfigMap, Connector, ConnectorContext, Error, Factory, OffsetMap, OffsetStore, Plugin, Result,
    SourceRecord, SourceTask, SourceTaskContext, Value,
};
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

// The plugin registers itself only where the crate is linked.
use aqueduct_connector_jdbc as _;

/// Offsets as a worker would have stored them, by the text of the partition.
#[derive(Default)]
pub struct Offsets(pub Mutex<HashMap<String, OffsetMap>>);

impl Offsets {
    /// Stores the offset of `record`: the cluster has it.
    pub fn acknowledge(&self, record: &SourceRecord) {
        let partition = json(&record.source_partition);
        self.0.lock().expect("no panic").insert(partition, (*record.source_offset).clone());
    }

    pub fn put(&self, partition: &str, offset: &str) {
        let offset = serde_json::from_str(offset).expect("json");
        self.0.lock().expect("no panic").insert(partition.to_owned(), offset);
    }
}

pub fn json(map: &OffsetMap) -> String {
    serde_json::to_string(map).expect("json")
}

#[async_trait]
impl OffsetStore for Offsets {
    async fn read(&self, partitions: &[OffsetMap]) -> Result<Vec<Option<OffsetMap>>> {
        let stored = self.0.lock().expect("no panic");
        Ok(partitions.iter().map(|p| stored.get(&json(p)).cloned()).collect())
    }

    async fn store(&self, partition: &OffsetMap, offset: &OffsetMap) -> Result<()> {
        self.0.lock().expect("no panic").insert(json(partition), offset.clone());
        Ok(())
    }
}

#[derive(Default)]
pub struct Events(pub AtomicUsize);

impl ConnectorEvents for Events {
    fn request_task_reconfiguration(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn raise_error(&self, error: Error) {
        panic!("{error}");
    }
}

pub fn plugin() -> &'static Plugin {
    Plugin::connector("JdbcSource").expect("registered")
}

pub fn settings(pairs: &[(&str, &str)]) -> ConfigMap {
    let mut map = ConfigMap::from([
        ("topic.prefix".to_owned(), "db-".to_owned()),
        ("poll.interval.ms".to_owned(), "50".to_owned()),
    ]);
    map.extend(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    map
}

/// A started connector, and its events.
pub async fn connector(config: &ConfigMap) -> Result<(Box<dyn Connector>, Arc<Events>)> {
    let Factory::Source { connector, .. } = plugin().factory else { panic!("a source") };
    let events = Arc::new(Events::default());
    let context = ConnectorContext {
        name: "rows".into(),
        shutdown: CancellationToken::new(),
        offsets: None,
        events: Arc::clone(&events) as Arc<dyn ConnectorEvents>,
    };
    let mut connector = connector();
    connector.start(context, &(plugin().config)().parse(config)?).await?;
    Ok((connector, events))
}

/// One task for all tables, started as a worker would.
pub async fn task(config: &ConfigMap, offsets: &Arc<Offsets>) -> Result<Box<dyn SourceTask>> {
    let (mut connector, _) = connector(config).await?;
    let configs = connector.task_configs(1).await?;
    connector.stop().await;
    let Factory::Source { task, .. } = plugin().factory else { panic!("a source") };
    let context = SourceTaskContext {
        connector: "rows".into(),
        task: 0,
        shutdown: CancellationToken::new(),
        offsets: Arc::clone(offsets) as Arc<dyn OffsetStore>,
        transactions: None,
        notice: Default::default(),
    };
    let mut task = task();
    let config = configs.first().cloned().unwrap_or_else(|| config.clone());
    task.start(context, &(plugin().config)().parse(&config)?).await?;
    Ok(task)
}

/// Polls until `count` records have come, or `patience` has passed.
pub async fn poll(
    task: &mut Box<dyn SourceTask>,
    count: usize,
    patience: Duration,
) -> Result<Vec<SourceRecord>> {
    let until = Instant::now() + patience;
    let mut records = Vec::new();
    while records.len() < count && Instant::now() < until {
        records.extend(task.poll().await?);
    }
    Ok(records)
}

/// The member `name` of a record's row.
pub fn field(record: &SourceRecord, name: &str) -> Value {
    record.record.value.value.as_struct().and_then(|s| s.get(name)).cloned().expect("a column")
}

/// Runs a task again and again, each time killed after the offset of only some of a poll's records was stored, until all
/// rows have been seen, which `id` tells apart, and polls give nothing more. Gives all records that reached the cluster.
pub async fn killed_at_every_poll(config: &ConfigMap, seen: usize) -> Vec<SourceRecord> {
    let offsets = Arc::new(Offsets::default());
    let (mut all, mut ids) = (Vec::new(), BTreeSet::new());
    let mut round = 0;
    loop {
        let mut task = task(config, &offsets).await.expect("started");
        let mut records = task.poll().await.expect("polled");
        if records.is_empty() {
            let patience = if ids.len() < seen { 60_000 } else { 1500 };
            records = poll(&mut task, 1, Duration::from_millis(patience)).await.expect("polled");
        }
        task.stop().await;
        if records.is_empty() {
            return all;
        }
        // The cluster has acknowledged a few, perhaps all; their offsets are stored.
        round += 1;
        let acknowledged = (round * 3 % 7 + 1).min(records.len());
        offsets.acknowledge(&records[acknowledged - 1]);
        ids.extend(records[..acknowledged].iter().map(|record| field(record, "id").as_i64()));
        all.extend(records.into_iter().take(acknowledged));
        assert!(all.len() < seen * 20, "the same rows come again and again");
    }
}
