//! The cluster's metadata: one immutable image, changed only through a backend.
//!
//! ```text
//! Command ──decide(image)──▶ Records ──journal, fsync──▶ image.apply ──▶ swapped, watchers told
//! ```
//! Deciding and applying are pure; a backend adds order and durability.

mod access;
mod backend;
mod cluster;
mod command;
mod configs;
mod directories;
mod effective;
pub mod features;
pub mod first;
mod image;
mod journal;
mod local;
mod placement;
mod record;
mod scram;
mod snapshot;

pub use backend::{MetadataBackend, MetadataError};
pub use cluster::{BrokerEpoch, BrokerState, ClusterRecord, PartitionState};
pub(crate) use cluster::{has_duplicates, without};
pub use command::{
    Command, ConfigOp, NewPartitions, Outcome, Placement, Rejection, check_new_name, check_topic_name,
    decide, refuse_bad_topic_name,
};
pub use effective::{EffectiveConfig, Source, Synonym};
pub use image::{BrokerImage, Endpoint, MetadataImage, PartitionImage, Resource, TopicImage, is_internal};
pub use journal::FILE_NAME as JOURNAL_FILE_NAME;
pub use local::LocalMetadata;
pub use placement::{ElectionType, UpgradeType};
pub use record::Record;
pub use scram::{SaltedPassword, ScramChange, ScramImage, ScramRecord};
pub use snapshot::{decode as decode_snapshot, encode as encode_snapshot};
