//! Records out, offsets after them: what is acknowledged is stored from time to time.

use std::time::Instant;

use aqueduct_client::{Producer, ProducerRecord, Settled};
use aqueduct_connect_api::{Result as PluginResult, SourceTask};

use super::super::in_flight::{InFlight, SourcePosition};
use super::super::progress::Activity;
use super::{Batch, Sending};
use crate::config::Tolerance;
use crate::metrics::count;
use crate::store::{ConnectorOffsets, OffsetPair};

/// Batches that may wait for their acknowledgement; the producer's `buffer.memory` bounds the bytes.
const MAX_BATCHES_IN_FLIGHT: usize = 64;

pub struct AtLeastOnce {
    producer: Producer,
    offsets: ConnectorOffsets,
    in_flight: InFlight<Settled>,
    last_flush: Instant,
}

impl AtLeastOnce {
    pub fn new(producer: Producer, offsets: ConnectorOffsets) -> Self {
        Self { producer, offsets, in_flight: InFlight::new(), last_flush: Instant::now() }
    }

    /// Buffers a batch.
    pub async fn send(&mut self, with: &Sending<'_>, batch: Batch) -> PluginResult<()> {
        let Batch { records: batch, offsets, polled } = batch;
        if batch.is_empty() {
            self.in_flight.push_empty(offsets);
            return Ok(());
        }
        with.start.doing(Activity::Sending(batch.len()));
        while self.in_flight.len() >= MAX_BATCHES_IN_FLIGHT {
            self.finish_oldest(with).await?;
        }
        count(&with.start.metrics.records_out, batch.len());
        let spare = (with.errors.settings().tolerance == Tolerance::All).then(|| batch.clone());
        match self.producer.send_all(batch).await {
            Ok(deliveries) => {
                self.in_flight.push(deliveries.settled(), offsets);
                with.start.metrics.progress(|progress, now| progress.sent(now, polled));
            }
            Err(error) => match spare {
                Some(batch) => {
                    self.send_one_by_one(with, batch).await?;
                    self.in_flight.push_empty(offsets);
                }
                None => return Err(with.produce_error(error)),
            },
        }
        Ok(())
    }

    /// Some record of the batch was refused at once: the others still have to go out.
    async fn send_one_by_one(&mut self, with: &Sending<'_>, batch: Vec<ProducerRecord>) -> PluginResult<()> {
        let mut deliveries = Vec::with_capacity(batch.len());
        for record in batch {
            match self.producer.send(record).await {
                Ok(delivery) => deliveries.push(delivery),
                Err(error) => with.skip(error)?,
            }
        }
        for delivery in deliveries {
            if let Err(error) = delivery.await {
                with.skip(error)?;
            }
        }
        Ok(())
    }

    /// After each poll: notes what has been acknowledged, and stores offsets when it is time.
    pub async fn after_poll(&mut self, with: &Sending<'_>, task: &mut dyn SourceTask) -> PluginResult<()> {
        self.reap(with)?;
        if self.last_flush.elapsed() >= with.start.environment.config.offset_flush_interval() {
            self.store_offsets(with, task).await;
        }
        Ok(())
    }

    /// Waits until everything sent is acknowledged, and stores its offsets.
    pub async fn rest(&mut self, with: &Sending<'_>, task: &mut dyn SourceTask) -> PluginResult<()> {
        self.settle(with).await?;
        self.store_offsets(with, task).await;
        Ok(())
    }

    /// The task ends. What the cluster has got is not to be read again, however it ended.
    pub async fn finish(
        &mut self,
        with: &Sending<'_>,
        task: &mut dyn SourceTask,
        failed: bool,
    ) -> PluginResult<()> {
        let limit = with.start.environment.config.offset_flush_timeout();
        let flushed = match failed {
            false => self.settle(with).await,
            true => tokio::time::timeout(limit, self.settle(with)).await.unwrap_or(Ok(())),
        };
        self.store_offsets(with, task).await;
        if !failed {
            self.producer.close().await;
        }
        self.offsets.close().await;
        flushed
    }

    fn reap(&mut self, with: &Sending<'_>) -> PluginResult<()> {
        use futures_util::FutureExt as _;
        while let Some(deliveries) = self.in_flight.front() {
            let Some(failures) = deliveries.now_or_never() else { break };
            with.check(failures)?;
            self.in_flight.front_done();
            with.start.metrics.progress(|progress, now| progress.acknowledged(now));
        }
        Ok(())
    }

    async fn finish_oldest(&mut self, with: &Sending<'_>) -> PluginResult<()> {
        if let Some(deliveries) = self.in_flight.front() {
            let failures = deliveries.await;
            with.check(failures)?;
            self.in_flight.front_done();
            with.start.metrics.progress(|progress, now| progress.acknowledged(now));
        }
        Ok(())
    }

    async fn settle(&mut self, with: &Sending<'_>) -> PluginResult<()> {
        with.start.doing(Activity::Sending(0));
        self.producer.flush().await;
        while self.in_flight.len() > 0 {
            self.finish_oldest(with).await?;
        }
        Ok(())
    }

    /// Stores the offsets of what has been acknowledged; a failure is tried again with the next flush.
    async fn store_offsets(&mut self, with: &Sending<'_>, task: &mut dyn SourceTask) {
        self.last_flush = Instant::now();
        let done = self.in_flight.take_done();
        if done.is_empty() || with.start.lifeline.is_cut() {
            return;
        }
        let pairs: Vec<OffsetPair<'_>> = done.iter().map(|(p, o)| (&**p, Some(&**o))).collect();
        let limit = with.start.environment.config.offset_flush_timeout();
        with.start.doing(Activity::Committing);
        let stored = tokio::time::timeout(limit, self.offsets.commit(&pairs)).await;
        match stored {
            Ok(Ok(())) => {
                count(&with.start.metrics.commits, 1);
                tell_task(with, task, done).await;
            }
            failed => {
                count(&with.start.metrics.commit_failures, 1);
                let why = match failed {
                    Ok(Err(error)) => error.to_string(),
                    _ => "not done within offset.flush.timeout.ms".to_owned(),
                };
                tracing::warn!(task = %with.start.id, why, "storing offsets failed, trying again with the next flush");
                self.in_flight.put_back(done);
            }
        }
    }
}

/// Tells the task that its offsets are stored.
pub async fn tell_task(with: &Sending<'_>, task: &mut dyn SourceTask, done: Vec<SourcePosition>) {
    for (partition, offset) in done {
        if let Err(error) = task.commit(&partition, &offset).await {
            tracing::warn!(task = %with.start.id, %error, "the source could not note that offsets were stored");
        }
    }
}
