//! What the client knows of the cluster.

mod image;
mod keeper;

use std::collections::HashMap;
use std::time::Instant;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{BrokerId, LeaderEpoch, PartitionIndex, Uuid};
use bytestring::ByteString;

pub(crate) use keeper::{Ask, Keeper};

/// The image that one answer describes by itself.
pub(crate) fn of_response(answer: aqueduct_protocol::messages::MetadataResponse) -> Metadata {
    image::next(&Metadata::empty(), answer)
}

/// A broker and where it listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    pub id: BrokerId,
    pub host: ByteString,
    pub port: u16,
    pub rack: Option<ByteString>,
}

impl Broker {
    /// `host:port`.
    pub fn address(&self) -> String {
        if self.host.contains(':') && !self.host.starts_with('[') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// A partition, its leader and its replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionMetadata {
    pub partition: PartitionIndex,
    /// `None` while there is no leader.
    pub leader: Option<BrokerId>,
    pub leader_epoch: LeaderEpoch,
    pub replicas: Vec<BrokerId>,
    pub isr: Vec<BrokerId>,
}

/// A topic and its partitions, sorted by index from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicMetadata {
    pub name: ByteString,
    /// [`Uuid::ZERO`] where the broker has no topic ids.
    pub id: Uuid,
    pub internal: bool,
    pub partitions: Vec<PartitionMetadata>,
}

/// One immutable image of the cluster.
#[derive(Debug, Clone)]
pub struct Metadata {
    pub cluster_id: Option<ByteString>,
    pub controller: Option<BrokerId>,
    pub brokers: HashMap<BrokerId, Broker>,
    pub topics: HashMap<ByteString, TopicMetadata>,
    /// Topics that the broker answered with an error instead.
    pub errors: HashMap<ByteString, ErrorCode>,
    /// When it was received.
    pub received: Instant,
    /// Rises with every image.
    pub generation: u64,
}

impl Metadata {
    pub(crate) fn empty() -> Self {
        Self {
            cluster_id: None,
            controller: None,
            brokers: HashMap::new(),
            topics: HashMap::new(),
            errors: HashMap::new(),
            received: Instant::now(),
            generation: 0,
        }
    }

    /// The broker that leads the partition, if it has a leader and that is known.
    pub(crate) fn leader(&self, topic: &str, partition: PartitionIndex) -> Option<&Broker> {
        self.brokers.get(&self.partition(topic, partition)?.leader?)
    }

    /// The topic, if it is known.
    pub fn topic(&self, name: &str) -> Option<&TopicMetadata> {
        self.topics.get(name)
    }

    /// The partition, if it is known.
    pub fn partition(&self, topic: &str, partition: PartitionIndex) -> Option<&PartitionMetadata> {
        self.topics.get(topic)?.partitions.get(usize::try_from(partition.0).ok()?)
    }
}
