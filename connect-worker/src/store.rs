//! What a worker remembers: in three compacted topics that all workers of a group share, or, alone, in memory and a file.

mod config;
mod log;
mod offsets;
mod offsets_file;
mod status;

pub use config::ConfigStore;
pub use log::{TopicLog, TopicSpec};
pub use offsets::{ConnectorOffsets, OffsetsStore};
pub use status::StatusStore;
