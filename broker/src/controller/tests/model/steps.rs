//! What can happen next in a history.

use proptest::prelude::*;

use super::{BROKERS, PARTITIONS};

#[derive(Debug, Clone)]
pub(super) enum Step {
    /// Starts a broker that does not run.
    Start(i32),
    /// Ends it hard; this many of its last records were not on disk.
    Kill(i32, usize),
    /// One heartbeat, perhaps with the wish to stop; `seen` is whether it has the newest image.
    Beat {
        broker: i32,
        stop: bool,
        seen: bool,
    },
    Wait(i64),
    Produce(i32),
    Fetch(i32, i32, usize),
    /// The leader takes a broker out of the in-sync set, or lets it in where it has caught up.
    Shrink(i32, i32),
    Expand(i32, i32),
    Elect(i32, bool),
    Reassign(i32, Vec<i32>),
    Cancel(i32),
    MinIsr(i32),
    Unclean(bool),
    Balance,
    /// Another controller takes over.
    Failover,
    /// Requests of a registration or a leader that is out of date.
    Stale(i32),
    /// The broker tells where its logs end that nobody leads.
    Tell(i32),
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let broker = || 1..=BROKERS;
    let partition = || 0..PARTITIONS;
    let one = prop_oneof![
        6 => broker().prop_map(Step::Start),
        3 => (broker(), 0..4_usize).prop_map(|(id, lost)| Step::Kill(id, lost)),
        12 => (broker(), prop::bool::weighted(0.15), prop::bool::weighted(0.9))
            .prop_map(|(broker, stop, seen)| Step::Beat { broker, stop, seen }),
        6 => (500..4_000_i64).prop_map(Step::Wait),
        8 => partition().prop_map(Step::Produce),
        14 => (partition(), broker(), 0..4_usize).prop_map(|(at, id, most)| Step::Fetch(at, id, most)),
        3 => (partition(), broker()).prop_map(|(at, id)| Step::Shrink(at, id)),
        8 => (partition(), broker()).prop_map(|(at, id)| Step::Expand(at, id)),
        2 => (partition(), any::<bool>()).prop_map(|(at, unclean)| Step::Elect(at, unclean)),
        2 => (partition(), prop::sample::subsequence((1..=BROKERS).collect::<Vec<_>>(), 1..=3).prop_shuffle())
            .prop_map(|(at, to)| Step::Reassign(at, to)),
        1 => partition().prop_map(Step::Cancel),
        1 => (1..=3).prop_map(Step::MinIsr),
        1 => any::<bool>().prop_map(Step::Unclean),
        1 => Just(Step::Balance),
        1 => Just(Step::Failover),
        3 => broker().prop_map(Step::Stale),
        8 => broker().prop_map(Step::Tell),
    ];
    prop::collection::vec(one, 1..120)
}
