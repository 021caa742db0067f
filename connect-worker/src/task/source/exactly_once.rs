//! Records and offsets in one transaction (KIP-618): both are seen, or neither is.
//!
//! A transaction begins with the first record after the last one and ends where the boundaries say. A record that could not
//! be written, or a commit that failed, fails the task: the next one begins where the last commit was.

use std::sync::Arc;
use std::time::Instant;

use aqueduct_client::{Producer, ProducerRecord};
use aqueduct_connect_api::{
    Error as PluginError, OffsetMap, OffsetStore, Result as PluginResult, SourceTask, TransactionContext,
};
use async_trait::async_trait;
use tokio::sync::Mutex;

use super::super::in_flight::{BatchOffsets, InFlight, SourcePosition};
use super::super::progress::Activity;
use super::at_least_once::tell_task;
use super::boundary::{Boundaries, End, Marks, Said};
use super::{Batch, Sending};
use crate::config::TransactionBoundary;
use crate::metrics::count;
use crate::store::{ConnectorOffsets, OffsetPair};

pub struct ExactlyOnce {
    writer: Arc<Writer>,
    boundaries: Boundaries,
    said: Arc<Said>,
    /// Offsets that the next commit stores; those of aborted records, too.
    positions: InFlight<()>,
    /// Records in the open transaction.
    records: usize,
}

/// The producer, and whether its transaction is open; shared with the task's view of the offsets.
struct Writer {
    producer: Producer,
    offsets: ConnectorOffsets,
    open: Mutex<bool>,
}

impl ExactlyOnce {
    pub fn new(producer: Producer, offsets: ConnectorOffsets, boundary: TransactionBoundary) -> Self {
        Self {
            writer: Arc::new(Writer { producer, offsets, open: Mutex::new(false) }),
            boundaries: Boundaries::new(boundary, Instant::now()),
            said: Arc::default(),
            positions: InFlight::new(),
            records: 0,
        }
    }

    /// The task's view of its offsets.
    pub fn offsets(&self) -> Arc<dyn OffsetStore> {
        self.writer.clone()
    }

    /// How the task says where transactions end, where it is to.
    pub fn context(&self) -> Option<Arc<dyn TransactionContext>> {
        self.boundaries.by_task().then(|| self.said.clone() as _)
    }

    /// Makes sure that no earlier task can write any more, and that this one still may.
    pub async fn take_over(&self, with: &Sending<'_>) -> PluginResult<()> {
        let (environment, id) = (&with.start.environment, &with.start.id);
        let failed = |what: &str, error: crate::Error| {
            PluginError::connect(format!("task {id} cannot start with exactly-once support: {what}"))
                .caused_by(error)
        };
        let wait = |what| {
            tracing::debug!(task = %id, what, "taking over");
            with.start.doing(Activity::TakingOver(what));
        };
        wait("the leader of the group to fence earlier tasks");
        environment
            .fence_before(id)
            .await
            .map_err(|e| failed("the tasks before it could not be fenced", e))?;
        wait("the coordinator of its transactional id to hand it over");
        self.writer.producer.init_transactions().await.map_err(|e| {
            PluginError::connect(format!("task {id}: the producer could not take over its transactional id"))
                .caused_by(e)
        })?;
        wait("the config topic to be read to its end");
        environment
            .check_generation(id, with.start.generation)
            .await
            .map_err(|e| failed("others have taken its place", e))
    }

    /// Where transactions end within the batch of so many records that was polled, and after it.
    pub fn marks(&mut self, polled: usize) -> Marks {
        self.boundaries.of_batch(Instant::now(), &self.said, polled)
    }

    /// Adds a batch to the transaction, and ends it where it is to end.
    pub async fn send(
        &mut self,
        with: &Sending<'_>,
        task: &mut dyn SourceTask,
        batch: Batch,
        end: Option<End>,
    ) -> PluginResult<()> {
        self.add(with, batch.records, batch.offsets).await?;
        match end {
            Some(end) => self.end(with, task, end).await,
            None => Ok(()),
        }
    }

    async fn add(
        &mut self,
        with: &Sending<'_>,
        batch: Vec<ProducerRecord>,
        offsets: BatchOffsets,
    ) -> PluginResult<()> {
        let own = self.writer.offsets.topic();
        if batch.iter().any(|record| Some(&record.topic) == own) {
            return Err(PluginError::connect(
                "Source tasks may not produce to their own offsets topics when exactly-once support is enabled",
            ));
        }
        if !batch.is_empty() {
            count(&with.start.metrics.records_out, batch.len());
            with.start.metrics.progress(|progress, _| progress.in_transaction(batch.len()));
            self.records += batch.len();
            with.start.doing(Activity::Sending(batch.len()));
            let mut open = self.writer.begin().await.map_err(|e| with.produce_error(e))?;
            *open = true;
            // What becomes of the records the commit tells.
            drop(self.writer.producer.send_all(batch).await.map_err(|e| with.produce_error(e))?);
        }
        self.positions.push_empty(offsets);
        Ok(())
    }

    async fn end(&mut self, with: &Sending<'_>, task: &mut dyn SourceTask, end: End) -> PluginResult<()> {
        if end == End::Abort {
            let mut open = self.writer.open.lock().await;
            if *open {
                tracing::info!(task = %with.start.id, records = self.records, "the transaction is aborted, as the connector asked");
                self.writer.producer.abort_transaction().await.map_err(|e| with.produce_error(e))?;
                *open = false;
            }
        }
        let done = self.positions.take_done();
        if with.start.lifeline.is_cut() {
            return Err(PluginError::connect("the task was given up"));
        }
        if !done.is_empty() || self.records > 0 {
            with.start.doing(Activity::Committing);
        }
        let began = Instant::now();
        if let Err(error) = self.writer.commit(&done).await {
            count(&with.start.metrics.commit_failures, 1);
            return Err(commit_error(with, error));
        }
        if done.is_empty() && self.records == 0 {
            return Ok(());
        }
        count(&with.start.metrics.commits, 1);
        tracing::trace!(task = %with.start.id, records = self.records, took = ?began.elapsed(), "transaction committed");
        self.records = 0;
        with.start.metrics.progress(|progress, now| progress.transaction_ended(now, end == End::Commit));
        self.writer.offsets.copy(&pairs(&done)).await;
        tell_task(with, task, done).await;
        Ok(())
    }

    /// The task pauses.
    pub async fn rest(&mut self, with: &Sending<'_>, task: &mut dyn SourceTask) -> PluginResult<()> {
        match self.boundaries.at_rest(Instant::now(), &self.said) {
            Some(end) => self.end(with, task, end).await,
            None => Ok(()),
        }
    }

    /// The task ends. What a failed one has not committed is dropped.
    pub async fn finish(
        &mut self,
        with: &Sending<'_>,
        task: &mut dyn SourceTask,
        failed: bool,
    ) -> PluginResult<()> {
        let ended = if failed { Ok(()) } else { self.rest(with, task).await };
        // Aborts what is open, so that it holds nobody up.
        let limit = with.start.environment.config.offset_flush_timeout();
        if tokio::time::timeout(limit, self.writer.producer.close()).await.is_err() {
            self.writer.producer.abandon();
        }
        self.writer.offsets.close().await;
        ended
    }
}

fn pairs(done: &[SourcePosition]) -> Vec<OffsetPair<'_>> {
    done.iter().map(|(partition, offset)| (&**partition, Some(&**offset))).collect()
}

/// A transaction that lasted longer than `transaction.timeout.ms` looks like one that was fenced.
fn commit_error(with: &Sending<'_>, error: aqueduct_client::Error) -> PluginError {
    let id = &with.start.id;
    let text = if error.is_fenced() {
        format!(
            "task {id} could not commit its transaction: another instance of it has taken over, or the transaction took longer \
             than transaction.timeout.ms. For the latter: give the producer more throughput, raise \
             producer.override.transaction.timeout.ms, lower transaction.boundary.interval.ms or set transaction.boundary=poll"
        )
    } else {
        format!("Failed to flush offsets and/or records for task {id}")
    };
    PluginError::connect(text).caused_by(error)
}

impl Writer {
    /// Opens a transaction unless one is open. The guard keeps others from ending it.
    async fn begin(&self) -> aqueduct_client::Result<tokio::sync::MutexGuard<'_, bool>> {
        let mut open = self.open.lock().await;
        if !*open {
            self.producer.begin_transaction()?;
            *open = true;
        }
        Ok(open)
    }

    /// Commits the open transaction with these offsets; does nothing where there is neither.
    async fn commit(&self, done: &[SourcePosition]) -> aqueduct_client::Result<()> {
        if done.is_empty() && !*self.open.lock().await {
            return Ok(());
        }
        let mut open = self.begin().await?;
        let records = self.offsets.records(&pairs(done));
        // What becomes of them the commit tells.
        drop(self.producer.send_all(records).await?);
        self.producer.commit_transaction().await?;
        *open = false;
        Ok(())
    }
}

#[async_trait]
impl OffsetStore for Writer {
    async fn read(&self, partitions: &[OffsetMap]) -> PluginResult<Vec<Option<OffsetMap>>> {
        self.offsets.read(partitions).await
    }

    async fn store(&self, partition: &OffsetMap, offset: &OffsetMap) -> PluginResult<()> {
        let failed = |e| PluginError::connect("storing an offset of the source failed").caused_by(e);
        if *self.open.lock().await {
            // It becomes durable with the transaction that is open.
            let records = self.offsets.records(&[(partition, Some(offset))]);
            drop(self.producer.send_all(records).await.map_err(failed)?);
            return Ok(());
        }
        let position = (Arc::new(partition.clone()), Arc::new(offset.clone()));
        self.commit(&[position]).await.map_err(failed)
    }
}
