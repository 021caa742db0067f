use aqueduct_protocol::ErrorCode;

use super::sim::*;
use crate::coordinator::*;

#[test]
fn a_group_is_described_in_full_when_it_is_stable() {
    let (mut sim, members) = Sim::stable(2);
    let group = sim.groups.describe("g").unwrap();
    assert_eq!(
        (group.state, &*group.protocol_type, &*group.protocol),
        (GroupState::Stable, "consumer", "range")
    );
    let first = &group.members[0];
    assert_eq!(
        (&first.id, &*first.client_id, &*first.client_host),
        (&members[0].member_id, "client", "/127.0.0.1")
    );
    assert_eq!(first.metadata, subscription("t"));
    assert_eq!(first.assignment, format!("for {}", members[0].member_id));

    sim.enter();
    let group = sim.groups.describe("g").unwrap();
    assert_eq!((group.state.name(), &*group.protocol, group.members.len()), ("PreparingRebalance", "", 3));
    assert_eq!(group.members[0].metadata.len(), 0);
    assert_eq!(sim.groups.describe("h"), None);
}

#[test]
fn groups_are_listed_with_type_and_state() {
    let (mut sim, _) = Sim::stable(1);
    sim.commit(&Commit { group: "simple".into(), offsets: vec![at("t", 0, 1)], ..commit(nobody()) });
    let mut list: Vec<_> =
        sim.groups.list().map(|g| (g.id.to_string(), g.protocol_type.to_string(), g.state)).collect();
    list.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(list, [("g".into(), "consumer".into(), "Stable"), ("simple".into(), String::new(), "Empty")]);
}

#[test]
fn a_group_is_deleted_when_it_is_empty() {
    let (mut sim, members) = Sim::stable(1);
    sim.commit_at(caller(&members[0]), 5).unwrap();
    let token = sim.delete("h");
    assert_eq!(sim.deleted(token), ErrorCode::GroupIdNotFound);
    let token = sim.delete("g");
    assert_eq!(sim.deleted(token), ErrorCode::NonEmptyGroup);
    sim.leave(&[(members[0].member_id.as_str(), None)]);
    sim.hold = true;
    let token = sim.delete("g");
    assert!(sim.waits(token));
    sim.release();
    assert_eq!(sim.deleted(token), ErrorCode::None);
    assert!(sim.groups.is_empty());
    assert!(sim.reloaded(GroupOptions::default()).groups.is_empty());
}

#[test]
fn a_deletion_that_cannot_be_written_did_not_happen() {
    let mut sim = Sim::new();
    sim.commit_at(nobody(), 5).unwrap();
    sim.append_fails_with = Some(ErrorCode::KafkaStorageError);
    let token = sim.delete("g");
    assert_eq!((sim.deleted(token), sim.fetched()), (ErrorCode::NotCoordinator, Some(5)));
}

#[test]
fn a_deletion_takes_along_what_is_committed_meanwhile() {
    let mut sim = Sim::new();
    sim.commit_at(nobody(), 5).unwrap();
    sim.hold = true;
    let committed = sim.commit(&Commit { offsets: vec![at("u", 0, 1)], ..commit(nobody()) });
    let token = sim.delete("g");
    sim.release();
    assert_eq!(sim.partitions(committed), Ok(vec![ErrorCode::None]));
    assert_eq!(sim.deleted(token), ErrorCode::None);
    assert!(sim.groups.is_empty());
    assert!(sim.reloaded(GroupOptions::default()).groups.is_empty());
}

#[test]
fn a_member_that_comes_while_its_group_is_deleted_stays() {
    let mut sim = Sim::new();
    sim.commit_at(nobody(), 5).unwrap();
    sim.hold = true;
    let token = sim.delete("g");
    let joining = sim.enter();
    sim.release();
    sim.hold = false;
    assert_eq!((sim.deleted(token), sim.fetched()), (ErrorCode::None, None));
    sim.pass(0);
    assert_eq!(sim.joined(joining).error, ErrorCode::None);
}

#[test]
fn a_group_that_lived_and_emptied_while_it_was_deleted_keeps_its_generation() {
    let mut sim = Sim::new();
    sim.commit_at(nobody(), 5).unwrap();
    sim.hold = true;
    let token = sim.delete("g");
    sim.enter();
    sim.pass(2 * i64::from(REBALANCE_MS));
    sim.release();
    assert_eq!((sim.deleted(token), sim.fetched(), sim.state()), (ErrorCode::None, None, GroupState::Empty));
    let generation = |sim: &Sim| sim.groups.group("g").unwrap().generation;
    assert_eq!(generation(&sim), generation(&sim.reloaded(GroupOptions::default())));
}
