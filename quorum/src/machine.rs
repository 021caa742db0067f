//! What the agreed entries go to, and its snapshots.

use std::io::{self, Cursor};
use std::sync::Arc;

use bytes::Bytes;
use openraft::storage::{RaftStateMachine, Snapshot};
use openraft::{EntryPayload, ErrorSubject, ErrorVerb, OptionalSend, RaftSnapshotBuilder};
use parking_lot::Mutex;

use crate::disk::{Disk, FileKind};
use crate::error::StartError;
use crate::snapshot_file;
use crate::store::blocking;
use crate::types::{
    Applied, Entry, LogId, NodeId, Peer, SnapshotMeta, StorageError, StoredMembership, Types,
};

/// An entry or a snapshot that its reader does not understand, perhaps because a newer version wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not understood: {0}")]
pub struct Unreadable(pub String);

/// What every node makes of the agreed entries, in the same order everywhere.
pub trait StateMachine: Send + 'static {
    /// Takes the next agreed entry. Who proposed it has checked it: a node that does not understand it stops, as it would
    /// differ from the others from then on.
    fn apply(&mut self, index: u64, entry: Bytes) -> Result<(), Unreadable>;
    /// Begins a snapshot of the present state. The function may take its time; the state goes on meanwhile.
    fn snapshot(&self) -> Box<dyn FnOnce() -> Bytes + Send + Sync>;
    /// Becomes what a snapshot says.
    fn restore(&mut self, snapshot: Bytes) -> Result<(), Unreadable>;
}

struct Shared {
    machine: Box<dyn StateMachine>,
    applied: Option<LogId>,
    membership: StoredMembership,
    /// The last entry in the snapshot that is on disk.
    on_disk: Option<LogId>,
}

/// The state machine as openraft wants it.
#[derive(Clone)]
pub(crate) struct Machine {
    shared: Arc<Mutex<Shared>>,
    disk: Arc<dyn Disk>,
}

impl Machine {
    /// Begins with the snapshot that is on disk.
    pub(crate) fn open(disk: Arc<dyn Disk>, mut machine: Box<dyn StateMachine>) -> Result<Self, StartError> {
        let (mut applied, mut membership) = (None, StoredMembership::default());
        if let Some((meta, state)) = snapshot_file::read(&*disk)? {
            machine.restore(state).map_err(|error| StartError::Damaged {
                file: FileKind::Snapshot.name(),
                at: 0,
                why: error.to_string(),
            })?;
            (applied, membership) = (meta.last_log_id, meta.last_membership);
        }
        let shared = Shared { machine, applied, membership, on_disk: applied };
        Ok(Self { shared: Arc::new(Mutex::new(shared)), disk })
    }

    /// The members that this node knows of.
    pub(crate) fn membership(&self) -> StoredMembership {
        self.shared.lock().membership.clone()
    }

    /// Puts a snapshot on disk, unless a newer one is there.
    async fn keep(&self, meta: SnapshotMeta, state: Bytes) -> io::Result<()> {
        let (shared, disk) = (self.shared.clone(), self.disk.clone());
        blocking(move || {
            let content = snapshot_file::encode(&meta, &state);
            let mut shared = shared.lock();
            if shared.on_disk > meta.last_log_id {
                return Ok(());
            }
            disk.replace(FileKind::Snapshot, &content)?;
            shared.on_disk = meta.last_log_id;
            Ok(())
        })
        .await
    }
}

fn failed(verb: ErrorVerb, error: io::Error) -> StorageError {
    StorageError::from_io_error(ErrorSubject::Snapshot(None), verb, error)
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        let shared = self.shared.lock();
        Ok((shared.applied, shared.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Applied>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut shared = self.shared.lock();
        let mut results = Vec::new();
        for entry in entries {
            let mut accepted = true;
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(proposal) if proposal.epoch == entry.log_id.leader_id.term => {
                    let applied = shared.machine.apply(entry.log_id.index, proposal.data);
                    applied.map_err(|error| {
                        let subject = ErrorSubject::Apply(entry.log_id);
                        StorageError::from_io_error(subject, ErrorVerb::Write, io::Error::other(error))
                    })?;
                }
                EntryPayload::Normal(_) => accepted = false,
                EntryPayload::Membership(membership) => {
                    shared.membership = StoredMembership::new(Some(entry.log_id), membership);
                }
            }
            shared.applied = Some(entry.log_id);
            results.push(Applied { accepted });
        }
        Ok(results)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let shared = self.shared.lock();
        let last = shared.applied;
        let meta = SnapshotMeta {
            last_log_id: last,
            last_membership: shared.membership.clone(),
            snapshot_id: last.map_or_else(String::new, |id| format!("{}-{}", id.leader_id.term, id.index)),
        };
        Builder { machine: self.clone(), meta, make: Some(shared.machine.snapshot()) }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &openraft::SnapshotMeta<NodeId, Peer>,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let invalid = |why: String| failed(ErrorVerb::Read, io::Error::new(io::ErrorKind::InvalidData, why));
        let state = snapshot_file::unpack(snapshot.into_inner())
            .ok_or_else(|| invalid("the snapshot was changed on its way".into()))?;
        // Kept only when it is understood: a node must not be left with one that it cannot start with.
        let kept = state.clone();
        {
            let mut shared = self.shared.lock();
            shared.machine.restore(state).map_err(|error| invalid(error.to_string()))?;
            shared.applied = meta.last_log_id;
            shared.membership = meta.last_membership.clone();
        }
        self.keep(meta.clone(), kept).await.map_err(|error| failed(ErrorVerb::Write, error))
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError> {
        let disk = self.disk.clone();
        let read = blocking(move || snapshot_file::read(&*disk).map_err(io::Error::other)).await;
        let found = read.map_err(|error| failed(ErrorVerb::Read, error))?;
        Ok(found.map(|(meta, state)| Snapshot {
            meta,
            snapshot: Box::new(Cursor::new(snapshot_file::pack(&state))),
        }))
    }
}

/// Makes one snapshot beside the running state.
pub(crate) struct Builder {
    machine: Machine,
    meta: SnapshotMeta,
    make: Option<Box<dyn FnOnce() -> Bytes + Send + Sync>>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError> {
        let Some(make) = self.make.take() else {
            return Err(failed(ErrorVerb::Read, io::Error::other("a builder makes one snapshot")));
        };
        let state = blocking(move || Ok(make())).await.map_err(|error| failed(ErrorVerb::Read, error))?;
        let kept = self.machine.keep(self.meta.clone(), state.clone()).await;
        kept.map_err(|error| failed(ErrorVerb::Write, error))?;
        let snapshot = Box::new(Cursor::new(snapshot_file::pack(&state)));
        Ok(Snapshot { meta: self.meta.clone(), snapshot })
    }
}
