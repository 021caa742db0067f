//! What can keep a node from starting.

use std::io;
use std::path::PathBuf;

use crate::config::ConfigError;
use crate::metadata::{MetadataError, Rejection};

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
    /// The files of the metadata quorum cannot be used.
    #[error("metadata quorum: {0}")]
    Quorum(#[from] aqueduct_quorum::StartError),
    /// A node of a cluster must be told which cluster it belongs to.
    #[error(
        "log directory {path} is not formatted: set aqueduct.cluster.id, to the same on all nodes of the cluster, or format it with aqueduct \
         storage format"
    )]
    NotFormatted { path: PathBuf },
    /// The directory holds metadata that no other node has.
    #[error(
        "{path} holds the metadata journal of a node that was a cluster by itself, which a cluster of several nodes does not take \
         over: point log.dirs and metadata.log.dir to empty directories, or take controller.quorum.* out of the configuration"
    )]
    WasAlone { path: PathBuf },
    /// The cluster does not take this node.
    #[error("the cluster does not take this node: {0}")]
    NotRegistered(Rejection),
    /// Work on a background thread was cut short.
    #[error("start was interrupted")]
    Interrupted,
}
