//! What follows from an event: the shell carries it out, in order.

use std::collections::BTreeSet;

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::ids::{ProducerEpoch, ProducerId};

use super::record::Record;
use super::transaction::Place;
use crate::coordinator::effect::{Token, WriteId};
use crate::coordinator::ids::TransactionalId;

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Answer a request.
    Reply(Token, Reply),
    /// Append the record to the shard's partition, after those of earlier effects.
    Append(WriteId, Record),
    /// Write a transaction's markers; [`super::Transactions::on_marked`] is called with what became of each.
    Mark(Markers),
    /// Get a producer id that nobody has had, for [`super::Transactions::on_fresh_id`].
    WantId,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Who the producer is from now on.
    Producer(ProducerId, ProducerEpoch),
    /// Done, or why not.
    Code(ErrorCode),
    /// The same request again, with a fresh producer id.
    NeedsId,
}

/// The end of a transaction, for the partitions that do not know of it yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Markers {
    pub id: TransactionalId,
    pub producer: ProducerId,
    pub epoch: ProducerEpoch,
    pub commit: bool,
    pub coordinator_epoch: i32,
    pub client_version: i16,
    pub partitions: BTreeSet<Place>,
}

/// What became of one marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marked {
    /// It is written, or there is no partition any more that needs one.
    Done,
    /// It may be written later.
    Later,
    /// A newer producer or coordinator was there before.
    Fenced,
}
