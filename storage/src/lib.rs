//! One partition's log on disk, in Kafka's own file formats. Synchronous, without a clock of its own.
//!
//! - [`Log`]: segments, indexes, producer state and leader epochs of one partition; append, read, retention, recovery.
//! - [`LogDir`]: a data directory with many logs: its lock, `meta.properties` and checkpoint files.
//! - [`Error`]: what goes wrong, with Kafka's code.

mod checkpoint;
mod cleaner;
mod cold;
mod config;
mod epochs;
mod error;
mod files;
#[cfg(test)]
mod guard_tests;
mod index;
mod log;
mod log_dir;
mod meta_properties;
mod open_files;
mod partition_metadata;
mod producers;
mod scan;
mod segment;
mod snapshot;
mod terms;
mod topic_partition;
mod txn_index;
mod validate;

pub use checkpoint::OffsetCheckpoint;
pub use cleaner::{Cleanable, Cleaned, CleanerLimits, Pace};
pub use cold::if_cached;
pub use config::LogConfig;
pub use error::{Error, Fault, RecordIssue, fault_of};
pub use log::{AppendInfo, Copied, FutureLog, Log, Recovery, Slice, TimestampedOffset};
pub use log_dir::{FoundLog, FutureName, LogDir};
pub use meta_properties::MetaProperties;
pub use open_files::keep_open_at_most;
pub use partition_metadata::read as read_topic_id;
pub use terms::{ActiveProducer, Newcomer, Terms, Verification, VerificationGuard};
pub use topic_partition::TopicPartition;
pub use txn_index::AbortedTransaction;
pub use validate::Origin;
