//! What can keep a node from starting.

use std::io;

use crate::config::ConfigError;
use crate::metadata::MetadataError;

/// Why the broker does not start. Each message says what, where and what to change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration cannot be used; a command line tool ends with exit code 2.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A log directory cannot be used.
    #[error("log directory: {0}")]
    Storage(#[from] aqueduct_storage::Error),
    /// The metadata cannot be read or written.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; free the port, or change listeners in server.properties")]
    Bind { address: String, source: io::Error },
    /// Work on a background thread was cut short.
    #[error("start was interrupted")]
    Interrupted,
}
