//! What can go wrong, for callers.

use crate::types::{DirectoryId, NodeId};

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    #[error("{place}: {source}")]
    Io { place: String, source: std::io::Error },
    /// Bytes that a crash cannot have left.
    #[error(
        "{file} of the metadata quorum is damaged at byte {at}: {why}; restore the directory from a backup, or wipe it and add this node to the quorum anew"
    )]
    Damaged { file: &'static str, at: u64, why: String },
    #[error(
        "the directory belongs to cluster {found}, this node to cluster {expected}: check the directory and cluster.id"
    )]
    OtherCluster { found: String, expected: String },
    #[error(
        "the directory belongs to node {found}, this is node {expected}: check the directory and node.id"
    )]
    OtherNode { found: NodeId, expected: NodeId },
    /// The first voters, which the directory was formatted with, have this node with another directory.
    #[error(
        "quorum.voters has this node with the directory {found}, but its directory is {expected}: format the directory again, with the same --initial-controllers on all nodes"
    )]
    OtherDirectory { found: DirectoryId, expected: DirectoryId },
    /// Only an empty directory can be formatted.
    #[error(
        "{file} is there already: the directory belongs to a node of a metadata quorum; name an empty one"
    )]
    NotEmpty { file: &'static str },
    #[error("the directory is in use by another process")]
    InUse,
    #[error("the quorum's log was not taken up: {0}")]
    Raft(String),
}

/// Why an entry was not agreed on, as far as this node knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// Another node leads, or none. The entry may still be agreed on where it was on its way.
    #[error("this node does not lead the metadata quorum{}", .leader.map_or(String::new(), |id| format!(", node {id} does")))]
    NotLeader { leader: Option<NodeId> },
    /// The entry was decided in an epoch that is over. It has no effect.
    #[error("the entry was decided in an epoch that is over")]
    Superseded,
    #[error("an entry of {0} bytes is too large")]
    TooLarge(usize),
    /// This node cannot go on, because its disk failed or it is being stopped.
    #[error("the quorum's node has stopped: {0}")]
    Stopped(String),
}

/// Why the members were not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    #[error("this node does not lead the metadata quorum")]
    NotLeader { leader: Option<NodeId> },
    #[error("another change of members is under way")]
    InProgress,
    #[error("the change was refused: {0}")]
    Refused(String),
    #[error("the quorum's node has stopped: {0}")]
    Stopped(String),
}
