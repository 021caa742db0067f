//! Producing records: batched, idempotent, in order.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::client::Client;
use crate::error::{Error, Result};
use crate::types::{ProducerRecord, RecordMetadata, TopicPartition};

/// Sends records in batches; clones share the buffer and the order.
///
/// With `enable.idempotence` (the default) every record is written once and, within its partition, in the order of the
/// calls, whatever is retried. `buffer.memory` bounds what is not yet acknowledged: [`Producer::send`] waits for room.
#[derive(Debug, Clone)]
pub struct Producer {
    _client: Client,
}

impl Producer {
    /// A producer with the settings of `client`. Its sender task runs until [`Producer::close`] or until the last clone
    /// is dropped, which fails what is still buffered.
    pub fn new(client: Client) -> Self {
        Self { _client: client }
    }

    /// Puts a record into the batch of its partition. Waits up to `max.block.ms` for metadata and buffer space; returns as
    /// soon as the record is buffered. The [`Delivery`] tells where it went; dropping it does not cancel the record.
    ///
    /// # Errors
    /// [`Error::RecordTooLarge`], [`Error::UnknownTopic`], [`Error::UnknownPartition`], [`Error::Timeout`] (`max.block.ms`),
    /// [`Error::Closed`]: the record was not buffered.
    pub async fn send(&self, _record: ProducerRecord) -> Result<Delivery> {
        Err(Error::Closed("producer"))
    }

    /// As [`Producer::send`] for each record, in order. The result resolves to one result a record, in the same order.
    ///
    /// # Errors
    /// The first record that could not be buffered ends it; those before it are sent nevertheless.
    pub async fn send_all(&self, _records: Vec<ProducerRecord>) -> Result<Deliveries> {
        Err(Error::Closed("producer"))
    }

    /// Produces one whole record batch (magic 2) as it is: no producer id is set, the bytes are not decoded. Batches for
    /// one partition keep their order; a retry may write one twice unless it carries its own producer id and sequence.
    pub async fn produce_raw(&self, _partition: TopicPartition, _batch: Bytes) -> Result<Delivery> {
        Err(Error::Closed("producer"))
    }

    /// Sends everything buffered now without lingering, and waits until each record is acknowledged or has failed.
    /// Failures are told by the deliveries alone.
    pub async fn flush(&self) {}

    /// Flushes, then ends the sender. Sends after it fail with [`Error::Closed`].
    pub async fn close(&self) {}
}

/// The fate of one record: a future of where it is, or of why it failed for good.
#[must_use = "a dropped delivery hides whether the record was written"]
#[derive(Debug)]
pub struct Delivery {}

impl Delivery {
    /// The result, if it is there already.
    pub fn try_result(&self) -> Option<Result<RecordMetadata>> {
        None
    }
}

impl Future for Delivery {
    type Output = Result<RecordMetadata>;

    fn poll(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Err(Error::Closed("producer")))
    }
}

/// The fates of many records, in the order in which they were sent.
#[must_use = "dropped deliveries hide whether the records were written"]
#[derive(Debug)]
pub struct Deliveries {}

impl Future for Deliveries {
    type Output = Vec<Result<RecordMetadata>>;

    fn poll(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Vec::new())
    }
}
