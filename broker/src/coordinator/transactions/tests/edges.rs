use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::ids::{ProducerEpoch, ProducerId};

use super::sim::*;
use crate::coordinator::transactions::effect::{Marked, Reply};
use crate::coordinator::transactions::*;

#[test]
fn a_transaction_of_the_first_version_keeps_its_epoch() {
    let mut sim = Sim::new();
    let who = sim.init().unwrap();
    assert_eq!((who.1, sim.state()), (ProducerEpoch(0), TransactionState::Empty));
    assert_eq!(sim.end(who, true, 0), Err(ErrorCode::InvalidTxnState), "nothing to end");
    assert_eq!(sim.add(who, 1, 0), ErrorCode::None);
    assert_eq!((sim.state(), sim.log.len()), (TransactionState::Ongoing, 2));
    assert_eq!(sim.add(who, 1, 0), ErrorCode::None);
    assert_eq!(sim.log.len(), 2, "it is there already");
    assert_eq!(sim.end(who, true, 0), Ok(who));
    assert_eq!((sim.state(), sim.log.len()), (TransactionState::CompleteCommit, 4));
    let (place, markers) = &sim.written[0];
    assert_eq!((place, markers.commit, markers.epoch), (&("t".into(), 1), true, who.1));
    assert_eq!(markers.coordinator_epoch, 3);
    assert_eq!(sim.end(who, true, 0), Ok(who), "sent again");
    assert_eq!(sim.end(who, false, 0), Err(ErrorCode::InvalidTxnState));
    assert_eq!(sim.init(), Ok(who.with_epoch(1)));
    assert_eq!(sim.add(who, 1, 0), ErrorCode::ProducerFenced);
    assert_eq!(sim.end(who, true, 0), Err(ErrorCode::ProducerFenced));
}

#[test]
fn a_transaction_of_the_second_version_raises_the_epoch_with_every_end() {
    let mut sim = Sim::new();
    let first = sim.init().unwrap();
    sim.add(first, 1, 2);
    let second = first.with_epoch(1);
    assert_eq!(sim.end(first, true, 2), Ok(second));
    assert_eq!(sim.written[0].1.epoch, second.1, "the marker is in the new epoch");
    assert_eq!(sim.end(first, true, 2), Ok(second), "sent again");
    assert_eq!(sim.end(first, false, 2), Err(ErrorCode::InvalidTxnState));
    assert_eq!(sim.end(second, true, 2), Err(ErrorCode::InvalidTxnState), "nothing to commit");
    assert_eq!(sim.end(second, false, 2), Ok(second.with_epoch(1)), "an abort needs no partition");
    assert_eq!(sim.state(), TransactionState::CompleteAbort);
    assert_eq!(sim.end(first, true, 2), Err(ErrorCode::ProducerFenced));
    assert_eq!(sim.add(second, 1, 2), ErrorCode::ProducerFenced);
}

#[test]
fn everything_waits_while_a_change_is_on_its_way() {
    let mut sim = Sim::new();
    let who = sim.init().unwrap();
    sim.hold = true;
    let adding = sim.begin_add(who, 1, 0);
    assert_eq!(sim.answers.get(&adding), None, "not before it is in the log");
    assert_eq!(sim.add(who, 2, 0), ErrorCode::ConcurrentTransactions);
    assert_eq!(sim.end(who, true, 0), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(sim.init(), Err(ErrorCode::ConcurrentTransactions));
    sim.settle();
    assert_eq!(sim.answers.get(&adding), Some(&Reply::Code(ErrorCode::None)));
    let ending = sim.begin_end(who, true, 0);
    assert!(sim.end_append());
    assert_eq!(sim.result(ending), Ok(who), "decided, and answered");
    assert_eq!(sim.state(), TransactionState::PrepareCommit);
    assert_eq!(sim.add(who, 2, 0), ErrorCode::ConcurrentTransactions);
    assert_eq!(sim.init(), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(sim.end(who, true, 0), Err(ErrorCode::ConcurrentTransactions));
    sim.settle();
    assert_eq!(sim.state(), TransactionState::CompleteCommit);
}

#[test]
fn a_new_producer_aborts_what_the_old_one_left_open() {
    for (version, raised) in [(0, 1), (2, 1)] {
        let mut sim = Sim::new();
        let old = sim.init().unwrap();
        sim.add(old, 1, version);
        assert_eq!(sim.init(), Err(ErrorCode::ConcurrentTransactions), "version {version}");
        assert_eq!(sim.state(), TransactionState::CompleteAbort);
        assert_eq!(sim.written[0].1.epoch, old.with_epoch(raised).1, "no epoch that the old one has");
        match version {
            0 => assert_eq!(sim.end(old, true, version), Err(ErrorCode::ProducerFenced)),
            _ => assert_eq!(sim.end(old, true, version), Err(ErrorCode::InvalidTxnState)),
        }
        assert_eq!(sim.init(), Ok(old.with_epoch(raised + 1)), "version {version}");
    }
}

#[test]
fn a_client_that_says_who_it_is_goes_on_or_is_fenced() {
    let mut sim = Sim::new();
    let first = sim.init().unwrap();
    let second = sim.init_as(Some(first)).unwrap();
    assert_eq!(second, first.with_epoch(1));
    assert_eq!(sim.init_as(Some(first)), Ok(second), "it missed the answer");
    assert_eq!(sim.init_as(Some(second)), Ok(second.with_epoch(1)));
    assert_eq!(sim.init_as(Some(first)), Err(ErrorCode::ProducerFenced));
    let stranger = Producer(ProducerId(7), ProducerEpoch(0));
    assert_eq!(sim.init_as(Some(stranger)), Err(ErrorCode::ProducerFenced));
}

#[test]
fn epochs_that_are_used_up_are_followed_by_another_id() {
    let mut sim = Sim::new();
    let who = sim.init().unwrap();
    sim.at_mut().epoch = ProducerEpoch(32_766);
    let last = Producer(who.0, ProducerEpoch(32_766));
    let next = sim.init_as(Some(last)).unwrap();
    assert!(next.0 != who.0 && next.1 == ProducerEpoch(0));
    assert_eq!(sim.init_as(Some(last)), Ok(next), "it missed the answer");

    sim.at_mut().epoch = ProducerEpoch(32_766);
    let last = Producer(next.0, ProducerEpoch(32_766));
    assert_eq!(sim.add(last, 1, 2), ErrorCode::None);
    let after = sim.end(last, true, 2).unwrap();
    assert!(after.0 != last.0 && after.1 == ProducerEpoch(0));
    assert_eq!(sim.written[0].1.epoch, ProducerEpoch(32_767), "the old id ends in its last epoch");
    assert_eq!(sim.end(last, true, 2), Ok(after), "sent again");
    assert_eq!(sim.add(after, 1, 2), ErrorCode::None);
    sim.fail_over();
    assert_eq!(sim.end(after, true, 2), Ok(after.with_epoch(1)));
}

#[test]
fn a_fence_of_the_last_epoch_does_not_overflow() {
    for version in [0, 2] {
        let mut sim = Sim::new();
        let who = sim.init().unwrap();
        sim.at_mut().epoch = ProducerEpoch(32_766);
        sim.add(Producer(who.0, ProducerEpoch(32_766)), 1, version);
        assert_eq!(sim.init(), Err(ErrorCode::ConcurrentTransactions));
        assert_eq!(sim.written[0].1.epoch, ProducerEpoch(32_767));
        let next = sim.init().unwrap();
        assert!(next.0 != who.0, "version {version}");
    }
}

#[test]
fn a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced() {
    for version in [0, 2] {
        let mut sim = Sim::new();
        let who = sim.init().unwrap();
        sim.add(who, 1, version);
        sim.pass(i64::from(TIMEOUT_MS));
        assert_eq!(sim.state(), TransactionState::Ongoing);
        sim.pass(10_000);
        assert_eq!(sim.state(), TransactionState::CompleteAbort);
        let end = sim.end(who, true, version);
        match version {
            0 => assert_eq!(end, Err(ErrorCode::ProducerFenced)),
            _ => assert_eq!(end, Err(ErrorCode::InvalidTxnState), "taken for a repeat of the abort"),
        }
        assert_eq!(sim.add(who, 1, version), ErrorCode::ProducerFenced);
    }
}

#[test]
fn markers_are_written_until_all_are() {
    let mut sim = Sim::new();
    let who = sim.init().unwrap();
    sim.add(who, 1, 0);
    sim.marking_ends_with = Marked::Later;
    assert_eq!(sim.end(who, true, 0), Ok(who));
    sim.pass(10_000);
    assert_eq!(sim.state(), TransactionState::PrepareCommit);
    sim.fail_over();
    assert_eq!(sim.end(who, false, 0), Err(ErrorCode::ConcurrentTransactions));
    sim.marking_ends_with = Marked::Done;
    sim.pass(1_000);
    assert_eq!((sim.state(), sim.written.len()), (TransactionState::CompleteCommit, 1));
    assert_eq!(sim.written[0].1.coordinator_epoch, 4);
}

#[test]
fn what_cannot_be_written_is_told_and_a_completion_is_tried_again() {
    let mut sim = Sim::new();
    let who = sim.init().unwrap();
    sim.append_fails_with = Some(ErrorCode::NotEnoughReplicas);
    assert_eq!(sim.add(who, 1, 0), ErrorCode::CoordinatorNotAvailable);
    assert_eq!(sim.init(), Err(ErrorCode::CoordinatorNotAvailable));
    sim.append_fails_with = None;
    assert_eq!(sim.add(who, 1, 0), ErrorCode::None);
    sim.hold = true;
    sim.begin_end(who, true, 0);
    sim.end_append();
    sim.append_fails_with = Some(ErrorCode::NotEnoughReplicas);
    sim.settle();
    sim.pass(1_000);
    sim.settle();
    assert_eq!(sim.state(), TransactionState::PrepareCommit);
    sim.append_fails_with = None;
    sim.pass(1_000);
    sim.settle();
    assert_eq!(sim.state(), TransactionState::CompleteCommit);
}

#[test]
fn a_fence_that_could_not_be_written_takes_one_epoch_only() {
    let mut sim = Sim::new();
    let who = sim.init().unwrap();
    sim.add(who, 1, 0);
    sim.append_fails_with = Some(ErrorCode::NotEnoughReplicas);
    for _ in 0..3 {
        assert_eq!(sim.init(), Err(ErrorCode::CoordinatorNotAvailable));
    }
    assert_eq!(sim.end(who, true, 0), Err(ErrorCode::ProducerFenced));
    sim.append_fails_with = None;
    assert_eq!(sim.init(), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(sim.init(), Ok(who.with_epoch(2)));
}

#[test]
fn an_id_that_nobody_uses_expires_and_an_open_transaction_does_not() {
    let mut sim = Sim::new();
    sim.init().unwrap();
    sim.pass(7 * 24 * 3_600_000 + 3_600_000);
    assert_eq!(sim.state(), TransactionState::Dead);
    assert_eq!(sim.log.last().unwrap().value, None);
    sim.fail_over();
    assert_eq!(sim.state(), TransactionState::Dead);
    let again = sim.init().unwrap();
    assert_eq!(again.1, ProducerEpoch(0));
}

#[test]
fn a_partition_is_verified_against_the_open_transaction() {
    let mut sim = Sim::new();
    let who = sim.init().unwrap();
    let verify = |sim: &Sim, who| sim.machine.verify(&speaker(who), &[("t".into(), 1), ("t".into(), 2)]);
    assert_eq!(verify(&sim, who), Ok(vec![ErrorCode::TransactionAbortable; 2]));
    sim.add(who, 1, 0);
    assert_eq!(verify(&sim, who), Ok(vec![ErrorCode::None, ErrorCode::TransactionAbortable]));
    assert_eq!(verify(&sim, who.with_epoch(1)), Err(ErrorCode::ProducerFenced));
    let other = Producer(ProducerId(1), who.1);
    assert_eq!(verify(&sim, other), Err(ErrorCode::InvalidProducerIdMapping));
    sim.marking_ends_with = Marked::Later;
    sim.end(who, true, 0).unwrap();
    assert_eq!(verify(&sim, who), Err(ErrorCode::ConcurrentTransactions));
}

#[test]
fn a_transaction_that_a_clock_ahead_began_times_out_all_the_same() {
    let mut sim = Sim::new();
    sim.wrong_by_ms = 3_600_000;
    let who = sim.init().unwrap();
    sim.add(who, 1, 2);
    sim.wrong_by_ms = 0;
    sim.fail_over();
    sim.pass(120_000);
    assert_eq!(sim.state(), TransactionState::CompleteAbort);
}

#[test]
fn timeouts_and_ids_are_checked() {
    let mut sim = Sim::new();
    for timeout_ms in [0, -1, 900_001] {
        let token = sim.token();
        let init = Init { id: "x".into(), timeout_ms, expected: None, fresh: None };
        let effects = sim.machine.on_init(sim.now(), token, &init);
        sim.run(effects);
        assert_eq!(sim.result(token), Err(ErrorCode::InvalidTransactionTimeout));
    }
    let nobody = Producer(ProducerId(1), ProducerEpoch(0));
    assert_eq!(sim.add(nobody, 1, 0), ErrorCode::InvalidProducerIdMapping);
    for version in [0, 2] {
        assert_eq!(sim.end(nobody, true, version), Err(ErrorCode::InvalidProducerIdMapping));
    }
    let token = sim.token();
    let init = Init { id: "y".into(), timeout_ms: 1, expected: None, fresh: None };
    let effects = sim.machine.on_init(sim.now(), token, &init);
    sim.run(effects);
    assert_eq!(sim.answers[&token], Reply::NeedsId);
}

#[test]
fn lists_are_filtered() {
    let mut sim = Sim::new();
    let who = sim.init().unwrap();
    sim.add(who, 1, 0);
    let list = |sim: &Sim, filter: Filter| sim.machine.list(sim.now().wall_ms, &filter).len();
    let all = || Filter { longer_than_ms: -1, ..Filter::default() };
    assert_eq!(list(&sim, all()), 1);
    assert_eq!(list(&sim, Filter { states: vec![TransactionState::Empty], ..all() }), 0);
    assert_eq!(list(&sim, Filter { states: vec![TransactionState::Ongoing], ..all() }), 1);
    assert_eq!(list(&sim, Filter { producers: vec![ProducerId(1)], ..all() }), 0);
    assert_eq!(list(&sim, Filter { longer_than_ms: 0, ..all() }), 0);
    sim.tick_ms += 1;
    assert_eq!(list(&sim, Filter { longer_than_ms: 0, ..all() }), 1);
    let pattern = |text| Filter { pattern: Some(regex::Regex::new(text).unwrap()), ..all() };
    assert_eq!((list(&sim, pattern("^x$")), list(&sim, pattern("^y$"))), (1, 0));
}
