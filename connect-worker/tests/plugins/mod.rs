//! A source and a sink that do what tests ask of them.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aqueduct_connect_api::config::ConfigType;
use aqueduct_connect_api::{
    Config, ConfigDef, ConfigKey, ConfigMap, Connector, ConnectorContext, Error, ExactlyOnceSupport, Factory,
    OffsetMap, Plugin, Record, Result, SchemaAndValue, SinkRecord, SinkTask, SinkTaskContext, SourceRecord,
    SourceTask, SourceTaskContext, TopicPartition, TransactionContext, inventory,
};
use async_trait::async_trait;

inventory::submit! {
    Plugin { class: "test.NumbersConnector", aliases: &["test.Numbers"], version: "1", config: &numbers_config,
             factory: Factory::Source { connector: &|| Box::<Plain>::default(), task: &|| Box::<Numbers>::default() } }
}

inventory::submit! {
    Plugin { class: "test.PickyConnector", aliases: &["test.Picky"], version: "1", config: &picky_config,
             factory: Factory::Sink { connector: &|| Box::<Plain>::default(), task: &|| Box::<Picky>::default() } }
}

fn numbers_config() -> ConfigDef {
    ConfigDef::new()
        .key(ConfigKey::required("topic", ConfigType::String, "Topic to write to."))
        .key(ConfigKey::required("count", ConfigType::Int, "How many numbers to write."))
        .key(ConfigKey::with_default("fail.at", ConfigType::Int, "-1", "Number to fail at."))
        .key(ConfigKey::with_default("pace.ms", ConfigType::Int, "0", "Milliseconds between numbers."))
        .key(ConfigKey::with_default("tasks", ConfigType::Int, "1", "Number of tasks to make."))
        .key(ConfigKey::with_default("hang.at", ConfigType::Int, "-1", "Number to hang at, without a word."))
        .key(ConfigKey::with_default("can", ConfigType::String, "all", "What it says that it can do."))
}

fn picky_config() -> ConfigDef {
    ConfigDef::new()
        .key(ConfigKey::required("file", ConfigType::String, "File to write to."))
        .key(ConfigKey::with_default("away.times", ConfigType::Int, "0", "How often to be away."))
}

/// Passes its settings on.
#[derive(Default)]
struct Plain {
    config: ConfigMap,
    tasks: usize,
}

#[async_trait]
impl Connector for Plain {
    async fn start(&mut self, _context: ConnectorContext, config: &Config) -> Result<()> {
        self.config = config.originals().clone();
        self.tasks = config.count("tasks")?.max(1);
        Ok(())
    }

    async fn task_configs(&mut self, _max_tasks: usize) -> Result<Vec<ConfigMap>> {
        Ok(vec![self.config.clone(); self.tasks])
    }

    fn exactly_once_support(&self, config: &ConfigMap) -> ExactlyOnceSupport {
        match config.get("can").map(String::as_str) {
            Some("no") => ExactlyOnceSupport::Unsupported,
            _ => ExactlyOnceSupport::Supported,
        }
    }

    fn defines_transaction_boundaries(&self, config: &ConfigMap) -> bool {
        config.get("can").is_none_or(|can| can != "no")
    }
}

/// Ends what hangs.
pub static LET_GO: AtomicBool = AtomicBool::new(false);

/// Writes 0, 1, 2, ...
#[derive(Default)]
struct Numbers {
    topic: String,
    count: i64,
    fail_at: i64,
    next: i64,
    pace: Duration,
    hang_at: i64,
    transactions: Option<Arc<dyn TransactionContext>>,
}

fn position(next: i64) -> Arc<OffsetMap> {
    Arc::new([("next".to_owned(), next.into())].into_iter().collect())
}

fn partition() -> Arc<OffsetMap> {
    Arc::new([("source".to_owned(), "numbers".into())].into_iter().collect())
}

#[async_trait]
impl SourceTask for Numbers {
    async fn start(&mut self, context: SourceTaskContext, config: &Config) -> Result<()> {
        self.topic = config.text("topic").to_owned();
        self.count = config.number("count");
        self.fail_at = config.number("fail.at");
        self.pace = Duration::from_millis(config.number("pace.ms").unsigned_abs());
        self.hang_at = config.number("hang.at");
        self.transactions = context.transactions.clone();
        let stored = context.offsets.read(&[partition().as_ref().clone()]).await?;
        let stored = stored.into_iter().next().flatten();
        self.next = stored.and_then(|o| o.get("next").and_then(serde_json::Value::as_i64)).unwrap_or(0);
        Ok(())
    }

    async fn poll(&mut self) -> Result<Vec<SourceRecord>> {
        if self.next == self.fail_at {
            // Let what went out before be acknowledged.
            tokio::time::sleep(Duration::from_millis(800)).await;
            return Err(Error::connect("five is right out"));
        }
        if self.next >= self.count {
            tokio::time::sleep(Duration::from_millis(50)).await;
            return Ok(Vec::new());
        }
        if self.next == self.hang_at {
            // What this thread has just woken must not wait behind what hangs.
            tokio::task::yield_now().await;
            // As code that knows nothing of the runtime does.
            let began = Instant::now();
            while !LET_GO.load(Ordering::Relaxed) && began.elapsed() < Duration::from_secs(50) {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        if !self.pace.is_zero() {
            tokio::time::sleep(self.pace).await;
        }
        if let Some(transactions) = &self.transactions {
            match self.next {
                4 => transactions.commit_after(0),
                7 => transactions.abort(),
                9 => transactions.commit(),
                _ => {}
            }
        }
        let record = Record {
            topic: self.topic.as_str().into(),
            value: SchemaAndValue::schemaless(self.next.to_string().into()),
            partition: Some(0),
            ..Record::default()
        };
        self.next += 1;
        Ok(vec![SourceRecord {
            record,
            source_partition: partition(),
            source_offset: position(self.next).into(),
        }])
    }
}

/// Appends values to a file, with moods.
#[derive(Default)]
struct Picky {
    context: Option<SinkTaskContext>,
    file: String,
    away: i64,
}

#[async_trait]
impl SinkTask for Picky {
    async fn start(&mut self, context: SinkTaskContext, config: &Config) -> Result<()> {
        self.file = config.text("file").to_owned();
        self.away = config.number("away.times");
        self.context = Some(context);
        Ok(())
    }

    async fn put(&mut self, records: &[SinkRecord]) -> Result<()> {
        if !records.is_empty() && self.away > 0 {
            self.away -= 1;
            return Err(Error::retriable("away"));
        }
        let failed = |e: std::io::Error| Error::connect(e.to_string());
        let mut file = std::fs::File::options().create(true).append(true).open(&self.file).map_err(failed)?;
        for record in records {
            match record.record.value.value.to_string().as_str() {
                "panic" => panic!("no taste for this"),
                "refuse" => {
                    let context = self.context.as_ref().expect("started");
                    context.sink.report(record, Error::data("not this one"))?;
                }
                value => writeln!(file, "{value}").map_err(failed)?,
            }
        }
        Ok(())
    }

    async fn pre_commit(&mut self, taken: &[(TopicPartition, i64)]) -> Result<Vec<(TopicPartition, i64)>> {
        Ok(taken.to_vec())
    }
}
