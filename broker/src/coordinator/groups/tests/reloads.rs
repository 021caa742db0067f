use aqueduct_protocol::ErrorCode;

use super::sim::*;
use crate::coordinator::*;

#[test]
fn a_stable_group_goes_on_after_a_reload() {
    let (mut sim, members) = Sim::stable(2);
    sim.commit_at(caller(&members[0]), 5).unwrap();
    let before = sim.groups.describe("g");
    let mut sim = sim.reloaded(GroupOptions::default());
    assert_eq!(sim.groups.describe("g"), before);
    assert_eq!(sim.fetched(), Some(5));
    for member in &members {
        assert_eq!(sim.heartbeat(member), ErrorCode::None);
    }
    let token = sim.join(join(members[1].member_id.as_str()));
    assert_eq!(sim.joined(token).generation, Generation(1), "nothing new: no rebalance");
    let token = sim.sync(sync(&members[1]));
    assert_eq!(sim.synced(token).assignment, format!("for {}", members[1].member_id));
    let members = sim.rejoin_all(&members);
    assert_eq!(members[0].generation, Generation(2));
}

#[test]
fn members_that_are_gone_after_a_reload_are_dropped_with_their_sessions() {
    let (sim, _) = Sim::stable(2);
    let mut sim = sim.reloaded(GroupOptions::default());
    sim.pass(i64::from(SESSION_MS) - 1);
    assert_eq!(sim.state(), GroupState::Stable);
    sim.pass(1 + i64::from(REBALANCE_MS));
    assert_eq!(sim.state(), GroupState::Empty);
}

#[test]
fn a_rebalance_that_was_under_way_is_taken_up_from_the_last_generation() {
    let (mut sim, members) = Sim::stable(2);
    sim.enter();
    let mut sim = sim.reloaded(GroupOptions::default());
    assert_eq!(sim.state(), GroupState::Stable);
    assert_eq!(sim.heartbeat(&members[0]), ErrorCode::None);
}

#[test]
fn the_order_of_offsets_and_group_does_not_matter() {
    let (mut sim, members) = Sim::stable(1);
    sim.commit_at(caller(&members[0]), 5).unwrap();
    sim.log.reverse();
    let sim = sim.reloaded(GroupOptions::default());
    assert_eq!((sim.fetched(), sim.state()), (Some(5), GroupState::Stable));
}

#[test]
fn an_end_of_the_group_alone_keeps_offsets_that_came_later() {
    let mut sim = Sim::new();
    sim.log.push(Record::Group { group: "g".into(), value: None });
    sim.commit_at(nobody(), 5).unwrap();
    sim.log.push(Record::Group { group: "g".into(), value: None });
    let sim = sim.reloaded(GroupOptions::default());
    assert_eq!((sim.fetched(), sim.state()), (Some(5), GroupState::Empty));
}

#[test]
fn an_empty_group_keeps_its_generation_and_type() {
    let (mut sim, members) = Sim::stable(1);
    sim.leave(&[(members[0].member_id.as_str(), None)]);
    let mut sim = sim.reloaded(GroupOptions { initial_rebalance_delay_ms: 0, ..GroupOptions::default() });
    let group = sim.groups.describe("g").unwrap();
    assert_eq!((group.state, &*group.protocol_type), (GroupState::Empty, "consumer"));
    let token = sim.enter();
    sim.pass(0);
    assert_eq!(sim.joined(token).generation, Generation(3));
}

#[test]
fn a_group_that_is_too_large_now_rebalances() {
    let (sim, _) = Sim::stable(3);
    let sim = sim.reloaded(GroupOptions { max_size: 2, ..GroupOptions::default() });
    assert_eq!(sim.state(), GroupState::PreparingRebalance);
}
