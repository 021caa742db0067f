//! openraft's own suite for what it stores through.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use openraft::testing::{StoreBuilder, Suite};

use super::*;
use crate::disk::{Disk, FileKind};
use crate::machine::{Machine, StateMachine, Unreadable};

struct Nothing;

impl StateMachine for Nothing {
    fn apply(&mut self, _index: u64, _entry: Bytes) -> Result<(), Unreadable> {
        Ok(())
    }

    fn snapshot(&self) -> Box<dyn FnOnce() -> Bytes + Send + Sync> {
        Box::new(Bytes::new)
    }

    fn restore(&mut self, _snapshot: Bytes) -> Result<(), Unreadable> {
        Ok(())
    }
}

/// Files in memory: the suite writes a lot.
#[derive(Default)]
struct Files(Mutex<BTreeMap<FileKind, Vec<u8>>>);

impl Disk for Files {
    fn read(&self, file: FileKind) -> io::Result<Option<Bytes>> {
        Ok(self.0.lock().get(&file).map(|content| Bytes::copy_from_slice(content)))
    }

    fn read_at(&self, file: FileKind, at: u64, length: usize) -> io::Result<Bytes> {
        Ok(Bytes::copy_from_slice(&self.0.lock()[&file][at as usize..][..length]))
    }

    fn append(&self, file: FileKind, _at: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.lock().entry(file).or_default().extend_from_slice(bytes);
        Ok(())
    }

    fn cut(&self, file: FileKind, length: u64) -> io::Result<()> {
        self.0.lock().entry(file).or_default().truncate(length as usize);
        Ok(())
    }

    fn replace(&self, file: FileKind, bytes: &[u8]) -> io::Result<()> {
        self.0.lock().insert(file, bytes.to_vec());
        Ok(())
    }
}

struct InMemory;

impl StoreBuilder<Types, Store, Machine> for InMemory {
    async fn build(&self) -> Result<((), Store, Machine), StorageError> {
        let disk = Arc::new(Files::default());
        let store = Store::new(LogFile::open(disk.clone()).unwrap());
        Ok(((), store, Machine::open(disk, Box::new(Nothing)).unwrap()))
    }
}

type OurSuite = Suite<Types, Store, Machine, InMemory, ()>;

/// Runs parts of the suite, each on a new store. Left out are those that write entries with holes between them, which raft
/// never does and the log refuses.
macro_rules! suite {
    ($($part:ident)*) => {
        #[tokio::test]
        async fn the_store_keeps_the_promises_that_raft_relies_on() {
            $({
                let ((), store, machine) = InMemory.build().await.unwrap();
                OurSuite::$part(store, machine).await.unwrap();
            })*
            OurSuite::transfer_snapshot(&InMemory).await.unwrap();
        }
    };
}

suite! {
    last_membership_in_log_initial
    last_membership_in_log
    get_membership_initial
    get_membership_from_log_and_empty_sm
    get_membership_from_log_le_sm_last_applied
    get_membership_from_log_gt_sm_last_applied_1
    get_membership_from_log_gt_sm_last_applied_2
    get_initial_state_without_init
    get_initial_state_with_state
    get_initial_state_last_log_lt_sm
    get_initial_state_log_ids
    save_vote
    get_log_entries
    limited_get_log_entries
    try_get_log_entry
    initial_logs
    get_log_state
    get_log_id
    last_id_in_log
    last_applied_state
    purge_logs_upto_0
    purge_logs_upto_5
    purge_logs_upto_20
    delete_logs_since_11
    delete_logs_since_0
    append_to_log
    snapshot_meta
    apply_single
    apply_multiple
}
