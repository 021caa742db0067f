//! The types that openraft is used with.

use std::fmt;
use std::io::Cursor;

use bytes::Bytes;

/// `node.id` of a controller or broker, which is never negative.
pub type NodeId = u64;

/// An entry larger than this is refused: it could not be sent in one message.
pub const MAX_ENTRY_BYTES: usize = 8 << 20;

/// Identity of one formatted directory: a disk that was replaced or wiped has another.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DirectoryId(pub [u8; 16]);

impl DirectoryId {
    /// Stands for "not known".
    pub const UNKNOWN: Self = Self([0; 16]);
}

impl fmt::Display for DirectoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for DirectoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where a member is reached, and which disk made it a member.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peer {
    pub directory: DirectoryId,
    /// Name of its listener, which says how connections to it are secured.
    pub listener: String,
    pub host: String,
    pub port: u16,
}

/// An entry, and the epoch in which it was decided. In another epoch it is void: it was decided on an image that may not
/// be the one that it would be applied to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    pub epoch: u64,
    pub data: Bytes,
}

/// Whether a proposal took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    pub accepted: bool,
}

openraft::declare_raft_types!(
    /// The types of the metadata quorum.
    pub Types:
        D = Proposal,
        R = Applied,
        NodeId = u64,
        Node = Peer,
        SnapshotData = Cursor<Vec<u8>>,
);

pub(crate) type Raft = openraft::Raft<Types>;
pub(crate) type LogId = openraft::LogId<NodeId>;
pub(crate) type Vote = openraft::Vote<NodeId>;
pub(crate) type Entry = openraft::Entry<Types>;
pub(crate) type Membership = openraft::Membership<NodeId, Peer>;
pub(crate) type StoredMembership = openraft::StoredMembership<NodeId, Peer>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<NodeId, Peer>;
pub(crate) type StorageError = openraft::StorageError<NodeId>;
