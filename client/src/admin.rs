//! Administration: topics, configs, groups, offsets.

mod acls;
mod cluster;
mod configs;
mod consumer_groups;
mod groups;
mod log_dirs;
mod producers;
mod quorum;
mod quotas;
mod reassignments;
mod records;
mod scram;
mod topics;

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{BrokerId, Uuid};
use bytestring::ByteString;

pub use self::acls::{AclBinding, AclBindingFilter, AclNames};
pub use self::consumer_groups::{ConsumerGroupDescription, ConsumerGroupMember};
pub use self::log_dirs::{LogDirDescription, ReplicaInfo};
pub use self::quorum::{QuorumDescription, QuorumMember};
pub use self::quotas::{QuotaEntity, QuotaMatch};
pub use self::reassignments::{ElectionKind, Reassignment};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::metadata::{Broker, PartitionMetadata};
use crate::retry::Retry;
pub use aqueduct_security::scram::Mechanism as ScramMechanism;

/// Administers a cluster. Calls are retried within `default.api.timeout.ms` where that is safe.
///
/// Calls about many things answer for each: the outer error is about the call, the inner ones about one thing.
#[derive(Debug, Clone)]
pub struct Admin {
    client: Client,
}

/// What became of each thing that a call was about.
pub type Each<K, V = ()> = HashMap<K, Result<V>>;

impl Admin {
    /// An admin with the settings of `client`.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    fn retry(&self, what: impl Into<String>) -> Retry {
        self.client.retry(what, self.client.config().default_api_timeout)
    }

    /// After a retriable failure: waits, and looks where the brokers are now.
    async fn again(&self, retry: &mut Retry, error: Error) -> Result<()> {
        let stale = error.asks_for_metadata() || error.code() == Some(ErrorCode::NotController);
        retry.after(error).await?;
        if stale {
            // If it fails, the next attempt does as well.
            let _ = self.client.refresh(Some(Vec::new())).await;
        }
        Ok(())
    }

    /// How long a broker may work on a request.
    fn timeout_ms(&self) -> i32 {
        i32::try_from(self.client.config().request_timeout.as_millis()).unwrap_or(i32::MAX)
    }
}

/// Things that an answer was to be about, and was not, fail as left out.
fn complete<K: Hash + Eq + std::fmt::Display, V>(
    asked: impl IntoIterator<Item = K>,
    mut results: Each<K, V>,
    broker: &Broker,
    api: &'static str,
) -> Each<K, V> {
    for key in asked {
        let left_out = Error::left_out(&broker.address(), api, &key);
        results.entry(key).or_insert(Err(left_out));
    }
    results
}

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
    /// A subscription of client metrics.
    ClientMetrics(ByteString),
    /// The levels of logging of a broker.
    BrokerLogger(BrokerId),
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

/// The cluster and its brokers.
#[derive(Debug, Clone)]
pub struct ClusterDescription {
    pub cluster_id: ByteString,
    pub controller: Option<BrokerId>,
    pub brokers: Vec<Broker>,
}
