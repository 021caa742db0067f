//! What can happen next in a history.

use proptest::prelude::*;

use super::BROKERS;

#[derive(Debug, Clone)]
pub(super) enum Step {
    Start(usize),
    Kill(usize, usize),
    Beat(usize),
    /// Takes the newest image.
    Learn(usize),
    Produce(usize),
    Fetch(usize),
    Check(usize),
    Deliver(prop::sample::Index),
    Lose(prop::sample::Index),
    Wait(i64),
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let broker = || 0..BROKERS.len();
    let one = prop_oneof![
        3 => broker().prop_map(Step::Start),
        1 => (broker(), 0..4_usize).prop_map(|(at, lost)| Step::Kill(at, lost)),
        6 => broker().prop_map(Step::Beat),
        8 => broker().prop_map(Step::Learn),
        10 => broker().prop_map(Step::Produce),
        14 => broker().prop_map(Step::Fetch),
        4 => broker().prop_map(Step::Check),
        30 => any::<prop::sample::Index>().prop_map(Step::Deliver),
        3 => any::<prop::sample::Index>().prop_map(Step::Lose),
        4 => (200..3_000_i64).prop_map(Step::Wait),
    ];
    prop::collection::vec(one, 1..250)
}
