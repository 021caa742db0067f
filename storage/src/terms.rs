use aqueduct_protocol::ids::{ProducerEpoch, ProducerId};

use crate::Origin;

/// Proof that a transaction's coordinator was asked about a producer: it ties the answer to the append that follows, so
/// that a transaction which ended in between is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerificationGuard(pub(crate) u64);

/// Whether the first batch of a transaction must prove that its coordinator knows of the partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verification {
    /// Whoever appends vouches for it.
    #[default]
    Off,
    /// Without the guard that [`crate::Log::begin_verification`] gave last, only a transaction that is open here is
    /// taken.
    Guarded(Option<VerificationGuard>),
}

/// On what terms a batch is appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    pub origin: Origin,
    pub verification: Verification,
    /// For a marker: the version of the transaction that it ends. From 2 on its epoch must be newer than the producer's.
    pub transaction_version: i16,
    /// The batch is a transaction marker.
    pub is_marker: bool,
}

impl From<Origin> for Terms {
    fn from(origin: Origin) -> Self {
        Self { origin, verification: Verification::Off, transaction_version: 0, is_marker: false }
    }
}

impl Terms {
    /// A client's batch of a transaction, or a coordinator's.
    pub fn guarded(origin: Origin, guard: Option<VerificationGuard>) -> Self {
        Self { verification: Verification::Guarded(guard), ..origin.into() }
    }

    /// A transaction marker.
    pub fn marker(transaction_version: i16) -> Self {
        Self { transaction_version, is_marker: true, ..Origin::Coordinator.into() }
    }
}

/// Who is about to append to a transaction, for [`crate::Log::begin_verification`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newcomer {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
    /// Of the first record; -1 for a coordinator's batch.
    pub sequence: i32,
    /// The producer raises its epoch with every transaction, so that a first sequence number other than 0 is a gap.
    pub raises_epoch: bool,
}

/// A producer as a partition knows it, for DescribeProducers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveProducer {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
    /// -1 where only a marker is known.
    pub last_sequence: i32,
    /// Milliseconds since 1970.
    pub last_timestamp: i64,
    /// -1 where no marker is known.
    pub coordinator_epoch: i32,
    /// Where its open transaction begins.
    pub transaction_start: Option<aqueduct_protocol::ids::Offset>,
}
