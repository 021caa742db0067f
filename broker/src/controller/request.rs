//! What may be asked of the controller, and what it answers.

use std::collections::{BTreeMap, BTreeSet};

use aqueduct_protocol::ids::{BrokerId, LeaderEpoch, Offset, PartitionIndex, Uuid};
use bytestring::ByteString;

use crate::metadata::{BrokerEpoch, BrokerImage, Command, Outcome, PartitionImage};

/// A wish of a broker or of an administrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    Register(Registration),
    Heartbeat(Heartbeat),
    AlterPartition(AlterPartition),
    Command(Command),
    LogEnds(LogEnds),
}

/// A broker that starts (Kafka's BrokerRegistration).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    pub cluster_id: ByteString,
    pub broker: BrokerImage,
    /// The epoch that it had when it stopped cleanly; none where it did not, or was never there.
    pub previous_epoch: BrokerEpoch,
    /// Lowest and highest level of each feature that it can work at.
    pub features: BTreeMap<ByteString, (i16, i16)>,
    /// The log directories that it can use.
    pub directories: BTreeSet<Uuid>,
}

/// A sign of life (Kafka's BrokerHeartbeat).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    pub broker: BrokerId,
    pub epoch: BrokerEpoch,
    /// Version of the image that the broker has.
    pub applied: u64,
    pub want_fence: bool,
    pub want_shut_down: bool,
}

/// A leader's wish for another in-sync set of one partition (Kafka's AlterPartition).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterPartition {
    pub broker: BrokerId,
    pub epoch: BrokerEpoch,
    pub topic: Uuid,
    pub index: PartitionIndex,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: i32,
    /// The wanted set, each with the registration that the leader saw fetching, where it knows.
    pub isr: Vec<(BrokerId, BrokerEpoch)>,
    /// Whether the leader is still putting its log in order after an unclean election.
    pub recovering: bool,
}

/// Where logs of a broker end, of partitions of which nobody is known to have everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEnds {
    pub broker: BrokerId,
    pub epoch: BrokerEpoch,
    pub ends: Vec<LogEnd>,
}

/// Where one log ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEnd {
    pub topic: Uuid,
    pub index: PartitionIndex,
    /// That of the partition, which nobody leads; nothing from before it is appended any more.
    pub leader_epoch: LeaderEpoch,
    /// The epoch of the last record; -1 where there is none.
    pub last_epoch: LeaderEpoch,
    pub end: Offset,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Registered(BrokerEpoch),
    Heartbeat {
        /// Whether the broker has seen its own registration.
        caught_up: bool,
        fenced: bool,
        /// It leads nothing any more, and all others know.
        should_shut_down: bool,
    },
    /// The partition as it is now, and whether it recovers.
    Partition(PartitionImage, bool),
    Command(Outcome),
    /// What was told is known now.
    Noted,
}
