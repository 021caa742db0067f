//! An asynchronous Kafka client: connections, metadata, raw-batch produce and fetch, groups, admin.
//!
//! Everything starts from a [`ClientConfig`], read from Kafka's own property names, and a [`Client`], which owns the
//! connections and the metadata and is cheap to clone:
//!
//! - [`Producer`]: batches, idempotent by default, with transactions where it has a `transactional.id`; per record a cheap [`Delivery`], or whole batches as bytes.
//! - [`PartitionConsumer`]: reads partitions that the caller assigns, as records or as raw batches.
//! - [`GroupConsumer`]: a member of a classic consumer group; rebalances come as events from its `poll`.
//! - [`GroupMember`]: membership in a group of any protocol type, for those who bring their own assignment.
//! - [`Admin`]: topics, configs, groups, offsets.
//! - [`Pool`] and [`Connection`]: single connections, for those who know themselves where to.
//!
//! All of it needs a running tokio runtime. Every error says which broker, API and topic-partition it is about.

mod admin;
mod backoff;
mod client;
mod config;
mod consumer;
mod coordinator;
mod error;
mod group;
mod metadata;
mod net;
mod offsets;
mod producer;
mod properties;
mod retry;
mod transactions;
mod types;

pub use admin::{
    AclBinding, AclBindingFilter, AclNames, Admin, ClusterDescription, ConfigEntry, ConfigOp, ConfigResource,
    ConfigSource, ConsumerGroupDescription, ConsumerGroupMember, ElectionKind, GroupDescription,
    GroupListing, GroupMemberDescription, LogDirDescription, NewTopic, PartitionDescription,
    QuorumDescription, QuorumMember, QuotaEntity, QuotaMatch, Reassignment, ReplicaInfo, ScramMechanism,
    TopicDescription,
};
pub use aqueduct_protocol::raft_voters::VoterListener;
pub use backoff::Backoff;
pub use client::Client;
pub use config::{
    Acks, AssignmentStrategy, ClientConfig, CompressionLevels, CompressionType, IsolationLevel, OffsetReset,
};
pub use consumer::{ConsumerEvent, FetchedBatches, GroupConsumer, PartitionConsumer, Subscription};
pub use error::{Error, Result};
pub use group::{
    GroupMember, GroupMemberOptions, Heartbeats, JoinOutcome, JoinedMember, MemberSignal, SyncOutcome,
};
pub use metadata::{Broker, Metadata, PartitionMetadata, TopicMetadata};
pub use net::injected;
pub use net::{Connection, Lane, PendingResponse, Pool};
pub use offsets::ListedOffset;
pub use producer::{Deliveries, Delivery, Producer, Settled};
pub use properties::{PropertiesError, parse_properties};
pub use types::{
    ConsumerRecord, Header, OffsetAndMetadata, OffsetSpec, ProducerRecord, RecordMetadata, TimestampType,
    TopicPartition,
};
