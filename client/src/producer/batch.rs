//! A batch on its way: filled, stamped, sealed, sent, perhaps sent again.

use std::sync::Arc;

use aqueduct_protocol::ids::{ProducerEpoch, ProducerId};
use aqueduct_protocol::records::{BatchBuilder, RecordError, patch_producer};
use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::delivery::{Outcome, Written, abandon};
use super::memory::Memory;
use crate::error::{Error, Result};

/// Who wrote a batch, and its place among what they wrote to the partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) id: ProducerId,
    pub(super) epoch: ProducerEpoch,
    /// Sequence number of the first record.
    pub(super) sequence: i32,
}

/// One batch. Dropping it unsent fails its records; its memory is given back in any case.
#[derive(Debug)]
pub(super) struct Batch {
    /// Position among all batches of its partition.
    pub(super) order: u64,
    pub(super) records: i32,
    pub(super) deadline: Instant,
    pub(super) attempts: u32,
    pub(super) stamp: Option<Stamp>,
    /// Why the last attempt failed.
    pub(super) error: Option<Error>,
    pub(super) outcome: Arc<Outcome>,
    payload: Payload,
    memory: Arc<Memory>,
    reserved: usize,
}

#[derive(Debug)]
enum Payload {
    Open(BatchBuilder),
    /// With the stamp that is in the bytes.
    Sealed(Bytes, Option<Stamp>),
    /// While it is being sealed.
    Gone,
}

impl Batch {
    /// An empty batch to fill.
    pub(super) fn open(order: u64, builder: BatchBuilder, deadline: Instant, memory: Arc<Memory>) -> Self {
        Self::new(order, Payload::Open(builder), 0, deadline, memory, 0)
    }

    /// A whole batch as bytes, for which `bytes.len()` of memory are taken.
    pub(super) fn sealed(
        order: u64,
        bytes: Bytes,
        records: i32,
        deadline: Instant,
        memory: Arc<Memory>,
    ) -> Self {
        let reserved = bytes.len();
        Self::new(order, Payload::Sealed(bytes, None), records, deadline, memory, reserved)
    }

    fn new(
        order: u64,
        payload: Payload,
        records: i32,
        deadline: Instant,
        memory: Arc<Memory>,
        reserved: usize,
    ) -> Self {
        let outcome = Outcome::new();
        Self {
            order,
            records,
            deadline,
            attempts: 0,
            stamp: None,
            error: None,
            outcome,
            payload,
            memory,
            reserved,
        }
    }

    /// The builder, as long as the batch is open, to be followed by [`Batch::grown`].
    pub(super) fn builder(&mut self) -> Option<&mut BatchBuilder> {
        match &mut self.payload {
            Payload::Open(builder) => Some(builder),
            _ => None,
        }
    }

    /// One more record is in the builder, for which `reserved` bytes of memory were taken.
    pub(super) fn grown(&mut self, reserved: usize) {
        self.records += 1;
        self.reserved += reserved;
    }

    /// Bytes that it will take in a request at most.
    pub(super) fn size(&self) -> usize {
        match &self.payload {
            Payload::Open(builder) => builder.size(),
            Payload::Sealed(bytes, _) => bytes.len(),
            Payload::Gone => 0,
        }
    }

    /// Seals it under its stamp, and gives the bytes to send.
    pub(super) fn seal(&mut self) -> Result<Bytes, RecordError> {
        let bytes = match std::mem::replace(&mut self.payload, Payload::Gone) {
            Payload::Open(mut builder) => {
                if let Some(stamp) = self.stamp {
                    builder.set_producer(stamp.id, stamp.epoch, stamp.sequence);
                }
                builder.finish()?
            }
            Payload::Sealed(bytes, stamp) if stamp == self.stamp => bytes,
            Payload::Sealed(bytes, _) => restamp(bytes, self.stamp)?,
            Payload::Gone => Bytes::new(),
        };
        self.payload = Payload::Sealed(bytes.clone(), self.stamp);
        Ok(bytes)
    }

    /// It is written.
    pub(super) fn succeed(self, written: Written) {
        self.outcome.set(Ok(written));
    }

    /// It failed for good.
    pub(super) fn fail(self, error: Error) {
        self.outcome.set(Err(error));
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.memory.give(self.reserved);
        abandon(&self.outcome);
    }
}

fn restamp(bytes: Bytes, stamp: Option<Stamp>) -> Result<Bytes, RecordError> {
    let none = Stamp { id: ProducerId(-1), epoch: ProducerEpoch(-1), sequence: -1 };
    let stamp = stamp.unwrap_or(none);
    // Copies only where somebody else holds the bytes as well.
    let mut bytes = bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    patch_producer(&mut bytes, stamp.id, stamp.epoch, stamp.sequence)?;
    Ok(bytes.freeze())
}
