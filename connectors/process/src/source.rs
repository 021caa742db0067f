//! A source task in a process of its own.

use std::sync::Arc;
use std::time::Duration;

use aqueduct_connect_api::{Config, Error, OffsetMap, Result, SourceRecord, SourceTask, SourceTaskContext};
use async_trait::async_trait;
use serde_json::json;

use crate::connector::{STOP, Served};
use crate::data::RecordReader;
use crate::process::Process;

/// What one poll may give, and how long it may wait for it.
const MAX_RECORDS: usize = 2000;
const MAX_BYTES: usize = 1 << 20;
const WAIT: Duration = Duration::from_millis(500);
/// An answer with more records than was asked for is taken up to here.
const MOST_RECORDS: usize = 100_000;

/// A source task that a plugin serves.
pub struct ProcessSourceTask {
    served: Arc<Served>,
    process: Option<Process>,
    reader: RecordReader,
    name: String,
}

impl ProcessSourceTask {
    pub fn new(served: Arc<Served>) -> Self {
        Self { served, process: None, reader: RecordReader::default(), name: String::new() }
    }

    fn process(&self) -> Result<&Process> {
        self.process.as_ref().ok_or_else(|| Error::connect("the task is not started"))
    }
}

#[async_trait]
impl SourceTask for ProcessSourceTask {
    async fn start(&mut self, context: SourceTaskContext, config: &Config) -> Result<()> {
        let SourceTaskContext { connector, task, offsets, .. } = context;
        self.name = format!("{connector}-{task}");
        let role = format!("task {}", self.name);
        let secrets = self.served.secrets(config.originals());
        let process = Process::start(&self.served.program, &role, Some(offsets), secrets).await?;
        let process = self.process.insert(process);
        let params = json!({
            "class": self.served.description.class, "connector": &*connector, "task": task, "config": config.originals(),
        });
        let started = process.try_call("start_source", params.to_string().into_bytes()).await;
        started.map(drop).map_err(|error| self.served.error(error, config.originals()))
    }

    async fn poll(&mut self) -> Result<Vec<SourceRecord>> {
        let bytes = MAX_BYTES.min(self.served.program.limits.frame / 2);
        let params = json!({"max_records": MAX_RECORDS, "max_bytes": bytes, "wait_ms": WAIT.as_millis()});
        let answer = self.process()?.call("poll", params.to_string().into_bytes()).await?;
        self.reader.read(&answer, MOST_RECORDS).map_err(|error| {
            Error::data(format!("plugin {} of task {}: {error}", self.served.program.name(), self.name))
        })
    }

    async fn commit(&mut self, partition: &OffsetMap, offset: &OffsetMap) -> Result<()> {
        let params = json!({"partition": partition, "offset": offset});
        self.process()?.call("commit", params.to_string().into_bytes()).await.map(drop)
    }

    async fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            process.stop(STOP).await;
        }
    }
}
