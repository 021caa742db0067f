//! File connectors: a source that reads lines, a sink that appends them.
//!
//! | class | reads or writes | one record is |
//! |---|---|---|
//! | `org.apache.kafka.connect.file.FileStreamSourceConnector` | a growing file, or standard input | a line, without its end |
//! | `org.apache.kafka.connect.file.FileStreamSinkConnector` | a file, or standard output | the value's text and a line end |
//!
//! Settings, partitions and offsets are those of Apache Kafka's connectors of the same name. One difference is on purpose:
//! a stored `position` counts bytes, which the reference does for ASCII text only (it counts characters and then skips as
//! many bytes, so that text beyond ASCII is read twice or cut after a restart).

mod sink;
mod source;

pub use sink::{FileStreamSink, FileStreamSinkTask};
pub use source::{FileStreamSource, FileStreamSourceTask};

/// The setting that names the file, of both connectors.
const FILE: &str = "file";
