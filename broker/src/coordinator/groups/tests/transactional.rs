use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::ids::{ProducerEpoch, ProducerId};

use super::sim::*;
use crate::coordinator::*;

/// Sends one offset of topic `t`, partition 0, as part of `producer`'s transaction; it is in the log at once.
fn send(sim: &mut Sim, producer: i64, caller: Caller, offset: i64) -> Result<Vec<ErrorCode>, ErrorCode> {
    let id = ProducerId(producer);
    let commit = TransactionalCommit {
        group: "g".into(),
        caller,
        producer: TransactionalProducer { id, epoch: ProducerEpoch(0), guard: None },
        offsets: vec![at("t", 0, offset)],
    };
    let token = sim.token();
    let effects = sim.groups.on_transactional_commit(sim.now(), token, &commit);
    written(sim, effects);
    sim.partitions(token)
}

fn end(sim: &mut Sim, producer: i64, committed: bool) {
    let (producer, epoch) = (ProducerId(producer), ProducerEpoch(0));
    let marker = Marker { producer, epoch, committed, coordinator_epoch: 0, transaction_version: 0 };
    let token = sim.token();
    let effects = sim.groups.on_marker(sim.now(), token, marker);
    written(sim, effects);
    assert_eq!(sim.answer(token), Reply::Marker(ErrorCode::None));
}

fn written(sim: &mut Sim, effects: Vec<Effect>) {
    for effect in effects {
        match effect {
            Effect::AppendTransactional(write, ..) | Effect::AppendMarker(write, _) => {
                let effects = sim.groups.on_appended(sim.now(), write, Ok(()));
                sim.run(effects);
            }
            other => sim.run(vec![other]),
        }
    }
}

fn is_unstable(sim: &Sim) -> bool {
    let topic = FetchTopic { name: "t".into(), id: Default::default(), partitions: vec![0, 1] };
    let some = sim.groups.unstable("g", Some(&[topic]));
    assert_eq!(some, sim.groups.unstable("g", None));
    !some.is_empty()
}

#[test]
fn offsets_count_from_the_commit_on_and_never_after_an_abort() {
    let mut sim = Sim::new();
    assert_eq!(send(&mut sim, 1, nobody(), 5), Ok(vec![ErrorCode::None]));
    assert_eq!((sim.fetched(), is_unstable(&sim)), (None, true));
    end(&mut sim, 1, true);
    assert_eq!((sim.fetched(), is_unstable(&sim)), (Some(5), false));
    assert_eq!(send(&mut sim, 1, nobody(), 6), Ok(vec![ErrorCode::None]));
    end(&mut sim, 1, false);
    assert_eq!((sim.fetched(), is_unstable(&sim)), (Some(5), false));
}

#[test]
fn a_commit_that_was_written_later_is_not_taken_back() {
    let mut sim = Sim::new();
    send(&mut sim, 1, nobody(), 5).unwrap();
    sim.commit_at(nobody(), 9).unwrap();
    end(&mut sim, 1, true);
    assert_eq!(sim.fetched(), Some(9));
}

#[test]
fn members_are_checked_where_they_say_who_they_are() {
    let (mut sim, members) = Sim::stable(1);
    let who = caller(&members[0]);
    assert_eq!(send(&mut sim, 1, nobody(), 1), Ok(vec![ErrorCode::None]), "an old client");
    assert_eq!(send(&mut sim, 1, who.clone(), 2), Ok(vec![ErrorCode::None]));
    let stale = Caller { generation: Generation(7), ..who.clone() };
    assert_eq!(send(&mut sim, 1, stale, 3), Err(ErrorCode::IllegalGeneration));
    let stranger = Caller { member_id: "x".into(), ..who };
    assert_eq!(send(&mut sim, 1, stranger, 3), Err(ErrorCode::UnknownMemberId));
    end(&mut sim, 1, true);
    assert_eq!(sim.fetched(), Some(2));
    let mut sim = Sim::new();
    let member = Caller { generation: Generation(1), ..nobody() };
    assert_eq!(send(&mut sim, 1, member, 3), Err(ErrorCode::IllegalGeneration), "no such group");
    assert!(sim.groups.is_empty());
}

#[test]
fn a_group_is_not_forgotten_while_an_offset_waits() {
    let options = GroupOptions { initial_rebalance_delay_ms: 0, ..GroupOptions::default() };
    let mut sim = Sim::with(options.clone());
    send(&mut sim, 1, nobody(), 5).unwrap();
    sim.pass(options.offsets_retention_ms * 2);
    assert!(is_unstable(&sim));
    end(&mut sim, 1, true);
    assert_eq!(sim.fetched(), Some(5));
    sim.pass(options.offsets_retention_ms * 2);
    assert!(sim.groups.is_empty(), "then it is old");
}
