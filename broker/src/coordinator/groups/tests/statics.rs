use aqueduct_protocol::ErrorCode;

use super::sim::*;
use crate::coordinator::*;

/// A stable group of the static members `a` (leads) and `b`.
fn stable() -> (Sim, JoinReply, JoinReply) {
    let mut sim = Sim::new();
    let tokens = [sim.join(static_join("a", "")), sim.join(static_join("b", ""))];
    sim.pass(0);
    let members = tokens.map(|token| sim.joined(token));
    sim.assign(&members);
    let [a, b] = members;
    (sim, a, b)
}

fn as_instance(instance: &str, who: &JoinReply) -> Caller {
    Caller { instance_id: Some(instance.into()), ..caller(who) }
}

#[test]
fn a_static_member_enters_without_a_round_for_its_id() {
    let (_, a, b) = stable();
    assert!(a.member_id.as_str().starts_with("a-") && b.member_id.as_str().starts_with("b-"));
    assert_eq!(a.members[1].instance_id, Some("b".into()));
}

#[test]
fn a_follower_comes_back_without_a_rebalance_and_its_ghost_is_fenced() {
    let (mut sim, a, old) = stable();
    let records = sim.log.len();
    let token = sim.join(static_join("b", ""));
    let new = sim.joined(token);
    assert_eq!((new.error, new.generation), (ErrorCode::None, Generation(1)));
    assert_ne!(new.member_id, old.member_id);
    assert_eq!((&new.leader, new.skip_assignment, new.members.len()), (&a.member_id, false, 0));
    assert_eq!(sim.log.len(), records + 1, "the new id is written");

    assert_eq!(sim.heartbeat_as(&as_instance("b", &old)), ErrorCode::FencedInstanceId);
    assert_eq!(sim.heartbeat(&old), ErrorCode::UnknownMemberId);
    assert_eq!(sim.commit_at(as_instance("b", &old), 1), Err(ErrorCode::FencedInstanceId));
    let token = sim.sync(Sync { caller: as_instance("b", &old), ..sync(&old) });
    assert_eq!(sim.synced(token).error, ErrorCode::FencedInstanceId);
    let token = sim.join(static_join("b", old.member_id.as_str()));
    assert_eq!(sim.joined(token).error, ErrorCode::FencedInstanceId);
    assert_eq!(sim.leave(&[(old.member_id.as_str(), Some("b"))]), [ErrorCode::FencedInstanceId]);

    assert_eq!(sim.heartbeat_as(&as_instance("b", &new)), ErrorCode::None);
    let token = sim.sync(sync(&new));
    assert_eq!(sim.synced(token).assignment, format!("for {}", old.member_id), "it keeps what it had");
    assert_eq!(sim.state(), GroupState::Stable);
}

#[test]
fn a_leader_that_comes_back_skips_the_assignment_if_it_can() {
    let (mut sim, old, _) = stable();
    let token = sim.join(static_join("a", ""));
    let new = sim.joined(token);
    assert!(new.skip_assignment);
    assert_eq!((&new.leader, new.members.len()), (&new.member_id, 2));

    let (mut sim, old_again, _) = stable();
    let token = sim.join(Join { may_skip_assignment: false, ..static_join("a", "") });
    let new = sim.joined(token);
    assert_eq!((&new.leader, new.skip_assignment, new.members.len()), (&old_again.member_id, false, 0));
    assert_eq!(old.error, ErrorCode::None);
}

#[test]
fn another_protocol_of_a_member_that_comes_back_starts_a_rebalance() {
    let mut sim = Sim::new();
    let with = |instance: &str, protocols: &[&str]| Join {
        instance_id: Some(instance.into()),
        ..join_with("", protocols)
    };
    let tokens = [sim.join(with("a", &["x", "y"])), sim.join(with("b", &["x", "y"]))];
    sim.pass(0);
    let members = tokens.map(|token| sim.joined(token));
    sim.assign(&members);
    let token = sim.join(with("b", &["y"]));
    assert!(sim.waits(token));
    assert_eq!(sim.state(), GroupState::PreparingRebalance);
    sim.join(Join { instance_id: Some("a".into()), ..join_with(members[0].member_id.as_str(), &["x", "y"]) });
    assert_eq!(sim.joined(token).protocol.as_deref(), Some("y"));
}

#[test]
fn coming_back_during_a_rebalance_fences_what_is_parked() {
    let (mut sim, a, b) = stable();
    let old = sim.join(static_join("a", a.member_id.as_str()));
    assert!(sim.waits(old));
    let new = sim.join(static_join("a", ""));
    assert_eq!(sim.joined(old).error, ErrorCode::FencedInstanceId);
    sim.join(static_join("b", b.member_id.as_str()));
    let new = sim.joined(new);
    assert_eq!((new.error, new.generation, new.members.len()), (ErrorCode::None, Generation(2), 2));
}

#[test]
fn coming_back_before_the_assignment_starts_another_rebalance() {
    let (mut sim, a, b) = stable();
    let tokens =
        [sim.join(static_join("a", a.member_id.as_str())), sim.join(static_join("b", b.member_id.as_str()))];
    let [a, b] = tokens.map(|token| sim.joined(token));
    assert_eq!(sim.state(), GroupState::CompletingRebalance);
    let waiting = sim.sync(sync(&b));
    let back = sim.join(static_join("b", ""));
    assert_eq!(sim.synced(waiting).error, ErrorCode::FencedInstanceId);
    assert_eq!(sim.state(), GroupState::PreparingRebalance);
    sim.join(static_join("a", a.member_id.as_str()));
    assert_eq!(sim.joined(back).generation, Generation(3));
}

#[test]
fn an_absent_static_member_keeps_its_place_until_its_session_ends() {
    let mut sim = Sim::new();
    let long = |instance: &str, member: &str| Join {
        session_timeout_ms: 1_000_000,
        ..static_join(instance, member)
    };
    let tokens = [sim.join(long("a", "")), sim.join(long("b", ""))];
    sim.pass(0);
    let members = tokens.map(|token| sim.joined(token));
    sim.assign(&members);
    // `a` leads and comes back, `b` does not: the rebalance ends without it, yet with it.
    let token = sim.join(long("a", members[0].member_id.as_str()));
    sim.pass(i64::from(REBALANCE_MS));
    let reply = sim.joined(token);
    assert_eq!((reply.generation, reply.members.len()), (Generation(2), 2));
    // It has not synced in time either: now it goes.
    sim.sync(assignment(&reply));
    sim.pass(i64::from(REBALANCE_MS));
    assert_eq!(sim.state(), GroupState::PreparingRebalance);
    assert_eq!(sim.heartbeat(&members[1]), ErrorCode::UnknownMemberId);
}

#[test]
fn nobody_but_absent_static_members_leaves_the_rebalance_to_their_sessions() {
    let mut sim = Sim::new();
    let long = |instance: &str, member: &str| Join {
        session_timeout_ms: 150_000,
        rebalance_timeout_ms: 60_000,
        ..static_join(instance, member)
    };
    let tokens = [sim.join(long("a", "")), sim.join(long("b", ""))];
    sim.pass(0);
    let members = tokens.map(|token| sim.joined(token));
    sim.assign(&members);
    let token = sim.join(long("a", members[0].member_id.as_str()));
    assert_eq!(sim.leave(&[("", Some("a"))]), [ErrorCode::None]);
    assert_eq!(sim.joined(token).error, ErrorCode::UnknownMemberId);
    sim.pass(149_999);
    assert_eq!(sim.state(), GroupState::PreparingRebalance);
    sim.pass(1);
    assert_eq!(sim.state(), GroupState::Empty);
}

#[test]
fn a_return_that_cannot_be_written_is_undone() {
    let (mut sim, a, b) = stable();
    sim.append_fails_with = Some(ErrorCode::KafkaStorageError);
    let token = sim.join(static_join("a", ""));
    let reply = sim.joined(token);
    assert_eq!((reply.error, reply.member_id.as_str()), (ErrorCode::NotCoordinator, ""));
    assert_eq!(sim.heartbeat_as(&as_instance("a", &a)), ErrorCode::None, "the old id is valid again");
    assert_eq!(sim.heartbeat_as(&as_instance("b", &b)), ErrorCode::None);
    let group = sim.groups.group("g").unwrap();
    assert!(group.is_leader(&a.member_id));
}

#[test]
fn a_rebalance_answers_a_return_that_is_being_written() {
    let (mut sim, a, _) = stable();
    sim.hold = true;
    let back = sim.join(static_join("b", ""));
    assert!(sim.waits(back));
    let leading = sim.join(static_join("a", a.member_id.as_str()));
    assert_eq!(sim.joined(back).generation, Generation(2));
    assert_eq!(sim.joined(leading).members.len(), 2);
    sim.release();
    assert_eq!(sim.state(), GroupState::CompletingRebalance);
}

#[test]
fn an_administrator_sends_a_static_member_away_by_its_instance() {
    let (mut sim, _, b) = stable();
    assert_eq!(sim.leave(&[("", Some("b")), ("", Some("c"))]), [ErrorCode::None, ErrorCode::UnknownMemberId]);
    assert_eq!(sim.heartbeat(&b), ErrorCode::UnknownMemberId);
    assert_eq!(sim.state(), GroupState::PreparingRebalance);
}

#[test]
fn coming_back_before_the_first_answer_does_not_cut_the_wait_short() {
    let mut sim = Sim::with(GroupOptions { initial_rebalance_delay_ms: 60_000, ..GroupOptions::default() });
    let long = Join { rebalance_timeout_ms: 60_000, ..static_join("a", "") };
    let old = sim.join(long.clone());
    let new = sim.join(long);
    assert_eq!(sim.joined(old).error, ErrorCode::FencedInstanceId);
    sim.pass(60_000);
    assert_eq!(sim.joined(new).error, ErrorCode::None);
}
