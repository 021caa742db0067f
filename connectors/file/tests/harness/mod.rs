//! A worker's side of the plugin boundary, in memory.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aqueduct_connect_api::{
    Config, ConfigMap, Error, Factory, OffsetMap, OffsetStore, Plugin, Record, Result, SchemaAndValue,
    SinkContext, SinkRecord, SinkTask, SinkTaskContext, SourceRecord, SourceTask, SourceTaskContext,
    TimestampType, TopicPartition, Value,
};
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

// The plugins register themselves only where the crate is linked.
use aqueduct_connector_file as _;

/// Offsets as a worker would have stored them.
#[derive(Default)]
pub struct Offsets(pub Mutex<Option<OffsetMap>>);

#[async_trait]
impl OffsetStore for Offsets {
    async fn read(&self, partitions: &[OffsetMap]) -> Result<Vec<Option<OffsetMap>>> {
        Ok(vec![self.0.lock().expect("no panic").clone(); partitions.len()])
    }

    async fn store(&self, _partition: &OffsetMap, offset: &OffsetMap) -> Result<()> {
        *self.0.lock().expect("no panic") = Some(offset.clone());
        Ok(())
    }
}

struct Sink;

impl SinkContext for Sink {
    fn pause(&self, _partitions: &[TopicPartition]) {}

    fn resume(&self, _partitions: &[TopicPartition]) {}

    fn request_commit(&self) {}

    fn can_report(&self) -> bool {
        false
    }

    fn report(&self, _record: &SinkRecord, error: Error) -> Result<()> {
        Err(error)
    }
}

fn parsed(plugin: &Plugin, path: &Path, more: &[(&str, &str)]) -> Config {
    let mut map = ConfigMap::from([("file".to_owned(), path.display().to_string())]);
    map.extend(more.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    (plugin.config)().parse(&map).expect("settings")
}

/// A started source task over `path`, found by its short name.
#[allow(dead_code)]
pub async fn source(path: &Path, offsets: &Arc<Offsets>, batch_size: &str) -> Box<dyn SourceTask> {
    let plugin = Plugin::connector("FileStreamSource").expect("registered");
    let Factory::Source { task, .. } = plugin.factory else { panic!("a source") };
    let config = parsed(plugin, path, &[("topic", "lines"), ("batch.size", batch_size)]);
    let context = SourceTaskContext {
        connector: "files".into(),
        task: 0,
        shutdown: CancellationToken::new(),
        offsets: Arc::clone(offsets) as Arc<dyn OffsetStore>,
        transactions: None,
        notice: Default::default(),
    };
    let mut task = task();
    task.start(context, &config).await.expect("started");
    task
}

/// Polls until `count` lines have come, or a minute has passed.
#[allow(dead_code)]
pub async fn poll_lines(task: &mut Box<dyn SourceTask>, count: usize) -> Vec<SourceRecord> {
    let (mut records, began) = (Vec::new(), Instant::now());
    while records.len() < count && began.elapsed() < Duration::from_secs(60) {
        records.extend(task.poll().await.expect("polled"));
    }
    records
}

#[allow(dead_code)]
pub fn texts(records: &[SourceRecord]) -> Vec<String> {
    records.iter().map(|r| r.record.value.value.to_string()).collect()
}

/// A started sink task over `path`, or the reason why it does not start.
#[allow(dead_code)]
pub async fn sink(path: &Path) -> Result<Box<dyn SinkTask>> {
    let plugin =
        Plugin::connector("org.apache.kafka.connect.file.FileStreamSinkConnector").expect("registered");
    let Factory::Sink { task, .. } = plugin.factory else { panic!("a sink") };
    let context = SinkTaskContext {
        connector: "files".into(),
        task: 0,
        shutdown: CancellationToken::new(),
        sink: Arc::new(Sink),
        notice: Default::default(),
    };
    let mut task = task();
    task.start(context, &parsed(plugin, path, &[])).await?;
    Ok(task)
}

#[allow(dead_code)]
pub fn record(offset: i64, value: Value) -> SinkRecord {
    SinkRecord {
        record: Record {
            topic: "t".into(),
            partition: Some(0),
            value: SchemaAndValue::schemaless(value),
            ..Record::default()
        },
        offset,
        timestamp_type: TimestampType::CreateTime,
        original_topic: "t".into(),
        original_partition: 0,
    }
}
