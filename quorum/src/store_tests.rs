//! openraft's own suite for what it stores through.

use std::sync::Arc;

use bytes::Bytes;
use openraft::testing::{StoreBuilder, Suite};

use super::*;
use crate::machine::{Machine, StateMachine, Unreadable};
use crate::testing::Files;

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
