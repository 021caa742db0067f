//! The metadata quorum: a log that a few controllers agree on and every broker follows.
//!
//! What is agreed on are opaque entries, in one order, handed to a [`StateMachine`] on every node. [`MetadataQuorum`] is all
//! that the rest of the project sees; underneath is openraft. Disk and network come from outside: [`Disk`] (of which
//! [`Directory`] is the real one) and [`Transport`], so that tests stop the one at any write and cut the other.
//!
//! ```text
//! propose(epoch, entry) ─▶ raft ─▶ log on disk, fsync ─▶ majority ─▶ StateMachine::apply on every node
//!                            │
//!                            └─ serve(bytes) ◀── Transport ──▶ peers
//! ```
//! - `disk`: the four files of a node and how they are written.
//! - `identity`: which cluster, node and directory a disk belongs to.
//! - `log_file`, `snapshot_file`: formats, with checksums; plain and synchronous.
//! - `store`, `machine`: the two as openraft wants them.
//! - `message`, `codec`: what travels, as bounded bytes; `link`: one peer.
//! - `formation`: the first start of a cluster, `first_voters`: where an administrator says who begins it; `elections`: when a voter stands for election.
//! - `blocking`: work that waits for a disk, here and in the broker.

pub mod blocking;
mod codec;
mod disk;
mod elections;
mod error;
mod first_voters;
mod formation;
mod identity;
mod link;
mod log_file;
mod machine;
mod message;
mod node;
mod snapshot_file;
mod status;
mod store;
#[cfg(test)]
mod testing;
mod types;

pub use disk::{Directory, Disk, FileKind};
pub use error::{ChangeError, ProposeError, StartError};
pub use first_voters::{format, is_of_quorum};
pub use link::{Transport, TransportError};
pub use machine::{StateMachine, Unreadable};
pub use node::{MetadataQuorum, Options, Quorum, Timing};
pub use status::{Member, Role, Status};
pub use types::{DirectoryId, MAX_ENTRY_BYTES, NodeId, Peer};
