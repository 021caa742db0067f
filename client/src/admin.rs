//! Administration: topics, configs, groups, offsets.

use std::collections::{BTreeMap, HashMap};

use aqueduct_protocol::ids::{BrokerId, Offset, Uuid};
use bytestring::ByteString;

use crate::client::Client;
use crate::error::{Error, Result};
use crate::metadata::{Broker, PartitionMetadata};
use crate::offsets::ListedOffset;
use crate::types::{OffsetAndMetadata, OffsetSpec, TopicPartition};

/// A topic to create.
#[derive(Debug, Clone)]
pub struct NewTopic {
    pub name: ByteString,
    /// -1 for the broker's default.
    pub partitions: i32,
    /// -1 for the broker's default.
    pub replication_factor: i16,
    /// Topic-level configs.
    pub configs: BTreeMap<String, String>,
}

impl NewTopic {
    /// A topic without configs of its own.
    pub fn new(name: impl Into<ByteString>, partitions: i32, replication_factor: i16) -> Self {
        Self { name: name.into(), partitions, replication_factor, configs: BTreeMap::new() }
    }

    /// The same topic with one more config.
    pub fn config(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.insert(key.into(), value.into());
        self
    }
}

/// A topic as it is.
#[derive(Debug, Clone)]
pub struct TopicDescription {
    pub name: ByteString,
    pub id: Uuid,
    pub internal: bool,
    pub partitions: Vec<PartitionDescription>,
}

/// A partition as it is.
pub type PartitionDescription = PartitionMetadata;

/// What a config belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ConfigResource {
    Topic(ByteString),
    Broker(BrokerId),
    /// The cluster-wide default of all brokers.
    BrokerDefault,
    Group(ByteString),
}

/// Where a config value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigSource {
    Unknown,
    Topic,
    DynamicBroker,
    DynamicBrokerDefault,
    StaticBroker,
    Default,
    BrokerLogger,
    ClientMetrics,
    Group,
}

/// A config value as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    pub name: ByteString,
    /// `None` where it is sensitive or has none.
    pub value: Option<ByteString>,
    pub source: ConfigSource,
    pub read_only: bool,
    pub sensitive: bool,
}

/// A change of one config value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigOp {
    Set(String),
    Delete,
    Append(String),
    Subtract(String),
}

/// A group in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    pub group_id: ByteString,
    pub protocol_type: ByteString,
    /// Empty where the broker does not tell.
    pub state: ByteString,
    /// `classic`, `consumer`, ...; empty where the broker does not tell.
    pub group_type: ByteString,
}

/// A group and its members.
#[derive(Debug, Clone)]
pub struct GroupDescription {
    pub group_id: ByteString,
    pub state: ByteString,
    pub protocol_type: ByteString,
    pub protocol: ByteString,
    pub coordinator: BrokerId,
    pub members: Vec<GroupMemberDescription>,
}

/// A member of a described group.
#[derive(Debug, Clone)]
pub struct GroupMemberDescription {
    pub member_id: ByteString,
    pub instance_id: Option<ByteString>,
    pub client_id: ByteString,
    pub host: ByteString,
    pub metadata: bytes::Bytes,
    pub assignment: bytes::Bytes,
}

/// Administers a cluster. Calls are retried within `default.api.timeout.ms` where that is safe.
///
/// Calls about many things answer for each: the outer error is about the call, the inner ones about one thing.
#[derive(Debug, Clone)]
pub struct Admin {
    _client: Client,
}

type Each<K, V = ()> = HashMap<K, Result<V>>;

impl Admin {
    /// An admin with the settings of `client`.
    pub fn new(client: Client) -> Self {
        Self { _client: client }
    }

    /// Creates topics. One that exists gives the inner code `TOPIC_ALREADY_EXISTS`.
    pub async fn create_topics(
        &self,
        _topics: &[NewTopic],
        _validate_only: bool,
    ) -> Result<Each<ByteString>> {
        Err(Error::Closed("admin"))
    }

    /// Creates a topic unless it exists; returns whether it was created, once its leaders are known to this client.
    pub async fn ensure_topic(&self, _topic: &NewTopic) -> Result<bool> {
        Err(Error::Closed("admin"))
    }

    /// Deletes topics by name.
    pub async fn delete_topics(&self, _topics: &[ByteString]) -> Result<Each<ByteString>> {
        Err(Error::Closed("admin"))
    }

    /// Describes topics; one that does not exist gives the inner [`Error::UnknownTopic`]. Never creates any.
    pub async fn describe_topics(
        &self,
        _topics: &[ByteString],
    ) -> Result<Each<ByteString, TopicDescription>> {
        Err(Error::Closed("admin"))
    }

    /// Names of all topics, internal ones included.
    pub async fn list_topics(&self) -> Result<Vec<ByteString>> {
        Err(Error::Closed("admin"))
    }

    /// All configs of these resources.
    pub async fn describe_configs(
        &self,
        _resources: &[ConfigResource],
    ) -> Result<Each<ConfigResource, Vec<ConfigEntry>>> {
        Err(Error::Closed("admin"))
    }

    /// Changes single configs and leaves the others.
    pub async fn incremental_alter_configs(
        &self,
        _changes: &[(ConfigResource, Vec<(String, ConfigOp)>)],
    ) -> Result<Each<ConfigResource>> {
        Err(Error::Closed("admin"))
    }

    /// All groups of all brokers.
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>> {
        Err(Error::Closed("admin"))
    }

    /// Describes classic groups.
    pub async fn describe_groups(
        &self,
        _groups: &[ByteString],
    ) -> Result<Each<ByteString, GroupDescription>> {
        Err(Error::Closed("admin"))
    }

    /// Deletes empty groups and their offsets.
    pub async fn delete_groups(&self, _groups: &[ByteString]) -> Result<Each<ByteString>> {
        Err(Error::Closed("admin"))
    }

    /// All offsets that the group committed.
    pub async fn list_consumer_group_offsets(
        &self,
        _group: &str,
    ) -> Result<HashMap<TopicPartition, OffsetAndMetadata>> {
        Err(Error::Closed("admin"))
    }

    /// Sets committed offsets of a group without members.
    pub async fn alter_consumer_group_offsets(
        &self,
        _group: &str,
        _offsets: &HashMap<TopicPartition, OffsetAndMetadata>,
    ) -> Result<Each<TopicPartition>> {
        Err(Error::Closed("admin"))
    }

    /// Deletes committed offsets of partitions that no member subscribes to.
    pub async fn delete_consumer_group_offsets(
        &self,
        _group: &str,
        _partitions: &[TopicPartition],
    ) -> Result<Each<TopicPartition>> {
        Err(Error::Closed("admin"))
    }

    /// Deletes records before the given offsets (-1: all); returns the new log start offsets.
    pub async fn delete_records(
        &self,
        _before: &HashMap<TopicPartition, Offset>,
    ) -> Result<Each<TopicPartition, Offset>> {
        Err(Error::Closed("admin"))
    }

    /// Cluster id, controller and brokers.
    pub async fn describe_cluster(&self) -> Result<ClusterDescription> {
        Err(Error::Closed("admin"))
    }

    /// Looks up offsets.
    pub async fn list_offsets(
        &self,
        _wanted: &HashMap<TopicPartition, OffsetSpec>,
    ) -> Result<Each<TopicPartition, ListedOffset>> {
        Err(Error::Closed("admin"))
    }
}

/// The cluster and its brokers.
#[derive(Debug, Clone)]
pub struct ClusterDescription {
    pub cluster_id: ByteString,
    pub controller: Option<BrokerId>,
    pub brokers: Vec<Broker>,
}
