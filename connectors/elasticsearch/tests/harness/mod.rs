//! A worker's side of the plugin boundary, in memory.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use aqueduct_connect_api::{
    Config, ConfigMap, Error, Factory, Plugin, Record, Result, SchemaAndValue, SchemaRef, SinkContext,
    SinkRecord, SinkTask, SinkTaskContext, TimestampType, TopicPartition, Value,
};
use aqueduct_tests::elasticsearch::Elasticsearch;
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;

// The plugin registers itself only where the crate is linked.
use aqueduct_connector_elasticsearch as _;

/// A server for the tests that run at the same time; it ends with the last of them.
pub fn server() -> Arc<Elasticsearch> {
    static SHARED: Mutex<Weak<Elasticsearch>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let server = Arc::new(Elasticsearch::start().expect("a server"));
        *shared = Arc::downgrade(&server);
        server
    })
}

/// The dead letters of a task, if it has any.
#[derive(Default)]
pub struct Letters {
    pub taken: Mutex<Vec<(i64, String)>>,
    pub enabled: bool,
}

impl SinkContext for Letters {
    fn pause(&self, _partitions: &[TopicPartition]) {}

    fn resume(&self, _partitions: &[TopicPartition]) {}

    fn request_commit(&self) {}

    fn can_report(&self) -> bool {
        self.enabled
    }

    fn report(&self, record: &SinkRecord, error: Error) -> Result<()> {
        if !self.enabled {
            return Err(error);
        }
        self.taken.lock().expect("no panic").push((record.offset, error.to_string()));
        Ok(())
    }
}

pub fn plugin() -> &'static Plugin {
    Plugin::connector("ElasticsearchSink").expect("registered")
}

pub fn settings(url: &str, pairs: &[(&str, &str)]) -> ConfigMap {
    let mut map = ConfigMap::from([("connection.url".to_owned(), url.to_owned())]);
    // The test machine may be busy.
    map.insert("read.timeout.ms".to_owned(), "60000".to_owned());
    map.extend(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    map
}

/// A started task with one partition of `topic`.
pub struct Task {
    task: Box<dyn SinkTask>,
    partition: TopicPartition,
    next: i64,
    pub letters: Arc<Letters>,
}

impl Task {
    pub async fn start(url: &str, topic: &str, letters: bool, pairs: &[(&str, &str)]) -> Self {
        let Factory::Sink { task, .. } = plugin().factory else { panic!("a sink") };
        let letters = Arc::new(Letters { enabled: letters, ..Letters::default() });
        let context = SinkTaskContext {
            connector: "search".into(),
            task: 0,
            shutdown: CancellationToken::new(),
            sink: Arc::clone(&letters) as Arc<dyn SinkContext>,
            notice: Default::default(),
        };
        let config: Config = (plugin().config)().parse(&settings(url, pairs)).expect("settings");
        let mut task = task();
        task.start(context, &config).await.expect("started");
        let partition = TopicPartition { topic: topic.into(), partition: 0 };
        task.open(std::slice::from_ref(&partition)).await.expect("opened");
        Self { task, partition, next: 0, letters }
    }

    pub async fn put(&mut self, records: &[SinkRecord]) -> Result<()> {
        self.next = records.last().map_or(self.next, |r| r.offset + 1);
        self.task.put(records).await
    }

    /// The offset that is safe now.
    pub async fn committed(&mut self) -> Result<i64> {
        let taken = [(self.partition.clone(), self.next)];
        Ok(self.task.pre_commit(&taken).await?[0].1)
    }

    /// Waits until everything is confirmed.
    pub async fn flush(&mut self) -> Result<()> {
        for _ in 0..3600 {
            if self.committed().await? == self.next {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("not all is confirmed");
    }

    /// Puts and waits.
    pub async fn write(&mut self, records: &[SinkRecord]) -> Result<()> {
        self.put(records).await?;
        self.flush().await
    }
}

pub fn record(topic: &str, offset: i64, key: Value, schema: Option<SchemaRef>, value: Value) -> SinkRecord {
    SinkRecord {
        record: Record {
            topic: topic.into(),
            partition: Some(0),
            key: SchemaAndValue::schemaless(key),
            value: SchemaAndValue::new(schema, value),
            ..Record::default()
        },
        offset,
        timestamp_type: TimestampType::CreateTime,
        original_topic: topic.into(),
        original_partition: 0,
    }
}

/// A record without schema, its value the map `{"n": n}`, or a tombstone.
pub fn plain(topic: &str, offset: i64, key: &str, n: Option<i64>) -> SinkRecord {
    let value = n.map_or(Value::Null, |n| Value::Map(vec![("n".into(), n.into())]));
    record(topic, offset, key.into(), None, value)
}

/// `(id, version, source)` of every document, by id.
pub fn documents(server: &Elasticsearch, index: &str) -> Vec<(String, i64, Json)> {
    server.rest("POST", &format!("/{index}/_refresh"), None).expect("refreshed");
    let query = json!({ "size": 10_000, "version": true, "sort": [], "query": { "match_all": {} } });
    let found = server.rest("POST", &format!("/{index}/_search"), Some(&query)).expect("found").body;
    let mut documents: Vec<(String, i64, Json)> = found["hits"]["hits"]
        .as_array()
        .expect("hits")
        .iter()
        .map(|hit| {
            let id = hit["_id"].as_str().unwrap_or_default().to_owned();
            (id, hit["_version"].as_i64().unwrap_or_default(), hit["_source"].clone())
        })
        .collect();
    documents.sort_by(|a, b| a.0.cmp(&b.0));
    documents
}
