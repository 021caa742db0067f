//! Sources and sinks.

use std::sync::Arc;

use async_trait::async_trait;
use bytestring::ByteString;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigMap, ConfigValueInfo};
use crate::data::Value;
use crate::error::{Error, Result};
use crate::notice::Notice;
use crate::record::{SinkRecord, SourceRecord};

/// A source partition or source offset: string keys, primitive values, in the order in which the reference writes them,
/// because the JSON text of a partition is its identity in the offsets topic.
pub type OffsetMap = serde_json::Map<String, serde_json::Value>;

/// A connector: reads its settings and divides the work into tasks. It moves no data itself.
#[async_trait]
pub trait Connector: Send + Sync {
    /// Checks settings beyond what the table can say, and adds to the errors of `infos`: reach the server, look for the
    /// file. Called for settings that may be incomplete; the table's own errors are in `infos` already.
    async fn validate(&self, config: &ConfigMap, infos: &mut [ConfigValueInfo]) {
        let _ = (config, infos);
    }

    /// Starts. `config` has been read with the plugin's table. Runs at most once.
    async fn start(&mut self, context: ConnectorContext, config: &Config) -> Result<()>;

    /// Settings of each task, at most `max_tasks`; the worker adds `task.class` and its own.
    async fn task_configs(&mut self, max_tasks: usize) -> Result<Vec<ConfigMap>>;

    /// Stops what [`Connector::start`] started.
    async fn stop(&mut self) {}

    /// Whether a source with this configuration can promise each record exactly once.
    fn exactly_once_support(&self, config: &ConfigMap) -> ExactlyOnceSupport {
        let _ = config;
        ExactlyOnceSupport::Unknown
    }

    /// Whether tasks with this configuration can say themselves where a transaction ends
    /// ([`SourceTaskContext::transactions`]).
    fn defines_transaction_boundaries(&self, config: &ConfigMap) -> bool {
        let _ = config;
        false
    }

    /// Checks offsets that a user wants to set for a source; a `None` offset resets its partition. `Ok(true)` says that
    /// they were checked, `Ok(false)` that this connector cannot tell.
    async fn alter_offsets(
        &self,
        config: &ConfigMap,
        offsets: &[(OffsetMap, Option<OffsetMap>)],
    ) -> Result<bool> {
        let _ = (config, offsets);
        Ok(false)
    }
}

/// What a source says of exactly-once delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExactlyOnceSupport {
    Supported,
    Unsupported,
    /// The reference's null: the connector does not say.
    Unknown,
}

/// What the worker offers to a connector.
#[derive(Clone)]
pub struct ConnectorContext {
    /// Name of the connector.
    pub name: Arc<str>,
    /// Cancelled when the connector is to stop.
    pub shutdown: CancellationToken,
    /// Offsets that tasks have stored; absent for sinks.
    pub offsets: Option<Arc<dyn OffsetStore>>,
    /// How to reach the worker.
    pub events: Arc<dyn ConnectorEvents>,
}

/// What a connector may tell the worker while it runs.
pub trait ConnectorEvents: Send + Sync {
    /// The division into tasks has changed: call [`Connector::task_configs`] again.
    fn request_task_reconfiguration(&self);

    /// The connector has failed for good.
    fn raise_error(&self, error: Error);
}

/// Offsets of sources, as the cluster holds them.
#[async_trait]
pub trait OffsetStore: Send + Sync {
    /// The offset last stored for each of `partitions`, in their order.
    async fn read(&self, partitions: &[OffsetMap]) -> Result<Vec<Option<OffsetMap>>>;

    /// Stores an offset at once and waits until the cluster has acknowledged it, ahead of any record: for sources whose
    /// place must be known before their first record goes out. Everyday offsets travel with records instead. While a
    /// transaction of the task is open, the offset becomes durable with it.
    async fn store(&self, partition: &OffsetMap, offset: &OffsetMap) -> Result<()>;
}

/// Reads a source.
///
/// The worker calls `start`, then `poll` and `commit` in turn, then `stop`; never two at once.
#[async_trait]
pub trait SourceTask: Send {
    /// Connects, and finds its place in the offsets. `config` has been read with the connector's table.
    async fn start(&mut self, context: SourceTaskContext, config: &Config) -> Result<()>;

    /// The next records, in order. Waits when there are none, but answers at least once a second, with nothing if need
    /// be: only between calls can the task be paused. When the task is to stop, the call may be dropped at any point of
    /// waiting, and is not repeated.
    async fn poll(&mut self) -> Result<Vec<SourceRecord>>;

    /// Every record up to `offset` of `partition` is in the cluster and its offset is stored: the source may forget it.
    async fn commit(&mut self, partition: &OffsetMap, offset: &OffsetMap) -> Result<()> {
        let _ = (partition, offset);
        Ok(())
    }

    /// Releases what the task holds. Called after a failed `start`, too.
    async fn stop(&mut self) {}
}

/// What the worker offers to a source task.
#[derive(Clone)]
pub struct SourceTaskContext {
    /// Name of the connector.
    pub connector: Arc<str>,
    /// Number of the task.
    pub task: u32,
    /// Cancelled when the task is to stop.
    pub shutdown: CancellationToken,
    pub offsets: Arc<dyn OffsetStore>,
    /// There where the worker delivers exactly once and `transaction.boundary` is `connector`.
    pub transactions: Option<Arc<dyn TransactionContext>>,
    /// Where the task says what keeps it from its work.
    pub notice: Notice,
}

/// Where a source task says, while it is polled, where its transactions end. Records are counted from 0 within the batch
/// that the poll is about to return.
///
/// An abort drops the records of the transaction, but not their offsets: they are not read again. A task that wants them
/// read again fails instead.
pub trait TransactionContext: Send + Sync {
    /// Commits after the batch.
    fn commit(&self);

    /// Commits after this record of the batch.
    fn commit_after(&self, record: usize);

    /// Aborts after the batch.
    fn abort(&self);

    /// Aborts after this record of the batch.
    fn abort_after(&self, record: usize);
}

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    pub topic: ByteString,
    pub partition: i32,
}

/// Writes to a sink.
///
/// The worker calls `start`, `open` for each assignment, then `put` and `pre_commit` in turn, `close` for partitions
/// that are taken away, then `stop`; never two at once.
#[async_trait]
pub trait SinkTask: Send {
    /// Connects. `config` has been read with the connector's table.
    async fn start(&mut self, context: SinkTaskContext, config: &Config) -> Result<()>;

    /// These partitions are the task's from now on.
    async fn open(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        let _ = partitions;
        Ok(())
    }

    /// Takes records, in order within each partition; `records` may be empty, which gives the task time to work off
    /// what it holds. After [`Error::Retriable`] the same records come again.
    async fn put(&mut self, records: &[SinkRecord]) -> Result<()>;

    /// Makes sure of what has been taken and says up to where each partition is safe: the offset of the next record to
    /// read. `taken` is what `put` has seen. The worker commits the answer, so it must never run ahead of the sink.
    async fn pre_commit(&mut self, taken: &[(TopicPartition, i64)]) -> Result<Vec<(TopicPartition, i64)>>;

    /// These partitions are the task's no longer; `pre_commit` has been called for them.
    async fn close(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        let _ = partitions;
        Ok(())
    }

    /// Releases what the task holds. Called after a failed `start`, too.
    async fn stop(&mut self) {}
}

/// What the worker offers to a sink task.
#[derive(Clone)]
pub struct SinkTaskContext {
    /// Name of the connector.
    pub connector: Arc<str>,
    /// Number of the task.
    pub task: u32,
    /// Cancelled when the task is to stop.
    pub shutdown: CancellationToken,
    pub sink: Arc<dyn SinkContext>,
    /// Where the task says what keeps it from its work.
    pub notice: Notice,
}

/// What a sink task may ask of the worker while it runs.
pub trait SinkContext: Send + Sync {
    /// Read no more of these partitions until [`SinkContext::resume`].
    fn pause(&self, partitions: &[TopicPartition]);

    fn resume(&self, partitions: &[TopicPartition]);

    /// Commit soon, without waiting for the interval.
    fn request_commit(&self);

    /// Whether [`SinkContext::report`] takes records: only with a dead-letter topic or `errors.tolerance=all`.
    fn can_report(&self) -> bool;

    /// Hands over a record that the sink refuses. It counts as done once this returns `Ok`: the worker makes it durable
    /// before it commits its offset. `Err` where nothing tolerates the error: the task should fail with it.
    fn report(&self, record: &SinkRecord, error: Error) -> Result<()>;
}

/// An [`OffsetMap`] value as a Connect value.
pub fn json_primitive(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Bool(v) => Value::Boolean(*v),
        serde_json::Value::Number(n) => n.as_i64().map_or_else(|| n.as_f64().into(), Value::Int64),
        serde_json::Value::String(s) => s.as_str().into(),
        _ => Value::Null,
    }
}
