//! A sink task in a process of its own.

use std::sync::Arc;

use aqueduct_connect_api::{
    Config, Error, Result, SinkContext, SinkRecord, SinkTask, SinkTaskContext, TopicPartition,
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::connector::{STOP, Served, read};
use crate::data::RecordWriter;
use crate::process::{Process, fault_error};
use crate::session::Fault;

/// Bytes of records in one message, as far as they can be cut.
const MAX_BYTES: usize = 1 << 20;
/// Room in a message for what is not records.
const ENVELOPE: usize = 4 << 10;

/// A sink task that a plugin serves.
pub struct ProcessSinkTask {
    served: Arc<Served>,
    process: Option<Process>,
    sink: Option<Arc<dyn SinkContext>>,
    writer: RecordWriter,
}

/// A partition in messages.
#[derive(Debug, Serialize, Deserialize)]
struct Place {
    topic: String,
    partition: i32,
}

/// A partition with the offset of the next record to read.
#[derive(Debug, Serialize, Deserialize)]
struct Position {
    topic: String,
    partition: i32,
    offset: i64,
}

/// What every answer of a sink may hold beside its own.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    pause: Vec<Place>,
    resume: Vec<Place>,
    request_commit: bool,
    /// Records of the message that the sink refuses, by their place in it.
    reported: Vec<Reported>,
    /// Of `pre_commit`.
    offsets: Vec<Position>,
}

#[derive(Debug, Deserialize)]
struct Reported {
    index: usize,
    #[serde(default)]
    error: Fault,
}

fn places(partitions: &[TopicPartition]) -> Vec<Place> {
    partitions.iter().map(|p| Place { topic: p.topic.to_string(), partition: p.partition }).collect()
}

fn partitions(places: Vec<Place>) -> Vec<TopicPartition> {
    places.into_iter().map(|p| TopicPartition { topic: p.topic.into(), partition: p.partition }).collect()
}

impl ProcessSinkTask {
    pub fn new(served: Arc<Served>) -> Self {
        Self { served, process: None, sink: None, writer: RecordWriter::default() }
    }

    /// Makes a call and does what its answer asks for; `records` are those of the message.
    async fn call(&self, call: &'static str, params: Vec<u8>, records: &[SinkRecord]) -> Result<Answer> {
        let process = self.process.as_ref().ok_or_else(|| Error::connect("the task is not started"))?;
        let answer = process.call(call, params).await?;
        let mut answer: Answer = read(call, &answer)?;
        let Some(sink) = &self.sink else { return Ok(answer) };
        for Reported { index, error } in std::mem::take(&mut answer.reported) {
            let record = records.get(index).ok_or_else(|| {
                Error::connect(format!(
                    "the plugin refuses record {index} of a message of {} records",
                    records.len()
                ))
            })?;
            sink.report(record, fault_error(error))?;
        }
        if !answer.pause.is_empty() {
            sink.pause(&partitions(std::mem::take(&mut answer.pause)));
        }
        if !answer.resume.is_empty() {
            sink.resume(&partitions(std::mem::take(&mut answer.resume)));
        }
        if answer.request_commit {
            sink.request_commit();
        }
        Ok(answer)
    }
}

#[async_trait]
impl SinkTask for ProcessSinkTask {
    async fn start(&mut self, context: SinkTaskContext, config: &Config) -> Result<()> {
        let SinkTaskContext { connector, task, sink, .. } = context;
        let role = format!("task {connector}-{task}");
        let secrets = self.served.secrets(config.originals());
        let process = Process::start(&self.served.program, &role, None, secrets).await?;
        let process = self.process.insert(process);
        let params = json!({
            "class": self.served.description.class, "connector": &*connector, "task": task, "config": config.originals(),
            "can_report": sink.can_report(),
        });
        self.sink = Some(sink);
        let started = process.try_call("start_sink", params.to_string().into_bytes()).await;
        started.map(drop).map_err(|error| self.served.error(error, config.originals()))
    }

    async fn open(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        let params = json!({"partitions": places(partitions)}).to_string().into_bytes();
        self.call("open", params, &[]).await.map(drop)
    }

    async fn put(&mut self, records: &[SinkRecord]) -> Result<()> {
        let most = self.served.program.limits.frame.saturating_sub(ENVELOPE);
        let mut rest = records;
        loop {
            let chunk = self.writer.chunk(rest, MAX_BYTES.min(most), most)?;
            let (now, later) = rest.split_at(chunk.count);
            let mut params = Vec::with_capacity(chunk.members.len() + 2);
            params.push(b'{');
            params.extend_from_slice(&chunk.members);
            params.push(b'}');
            drop(chunk);
            self.call("put", params, now).await?;
            rest = later;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    async fn pre_commit(&mut self, taken: &[(TopicPartition, i64)]) -> Result<Vec<(TopicPartition, i64)>> {
        let offsets: Vec<Position> = taken
            .iter()
            .map(|(p, offset)| Position {
                topic: p.topic.to_string(),
                partition: p.partition,
                offset: *offset,
            })
            .collect();
        let params = json!({"offsets": offsets}).to_string().into_bytes();
        let answer = self.call("pre_commit", params, &[]).await?;
        let confirmed = answer.offsets.into_iter();
        Ok(confirmed
            .map(|p| (TopicPartition { topic: p.topic.into(), partition: p.partition }, p.offset))
            .collect())
    }

    async fn close(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        let params = json!({"partitions": places(partitions)}).to_string().into_bytes();
        self.call("close", params, &[]).await.map(drop)
    }

    async fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            process.stop(STOP).await;
        }
    }
}
