//! What a worker remembers: in three compacted topics that all workers of a group share, or, alone, in memory and a file.

mod config;
mod connector_offsets;
mod log;
mod offsets;
mod offsets_file;
mod privileged;
mod status;

pub use config::ConfigStore;
pub use connector_offsets::{ConnectorOffsets, OffsetPair};
pub use log::{TopicLog, TopicSpec};
pub use offsets::OffsetsStore;
pub use status::StatusStore;

/// Names a record of an internal topic that could not be read and was passed over. Its value may hold secrets.
fn report_skipped(record: &aqueduct_client::ConsumerRecord, applied: Result<(), String>) {
    let Err(why) = applied else { return };
    let at = format!("{}-{}@{}", record.topic, record.partition.0, record.offset.0);
    let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
    tracing::warn!(record = at, key, why, "skipped a record of an internal topic that cannot be read");
}
