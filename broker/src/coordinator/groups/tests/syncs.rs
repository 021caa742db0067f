use aqueduct_protocol::ErrorCode;

use super::sim::*;
use crate::coordinator::*;

/// Two members that have joined, the leader first.
fn completing() -> (Sim, JoinReply, JoinReply) {
    let mut sim = Sim::new();
    let (first, second) = (sim.enter(), sim.enter());
    sim.pass(0);
    let (first, second) = (sim.joined(first), sim.joined(second));
    (sim, first, second)
}

#[test]
fn followers_wait_until_the_leaders_assignment_is_in_the_log() {
    let (mut sim, leader, follower) = completing();
    sim.hold = true;
    let waiting = sim.sync(sync(&follower));
    let leading = sim.sync(assignment(&leader));
    assert!(sim.waits(waiting) && sim.waits(leading));
    assert_eq!(sim.state(), GroupState::CompletingRebalance);
    sim.release();
    assert_eq!(sim.synced(waiting).assignment, format!("for {}", follower.member_id));
    let reply = sim.synced(leading);
    assert_eq!(reply.assignment, format!("for {}", leader.member_id));
    assert_eq!(
        (reply.protocol_type.as_deref(), reply.protocol.as_deref()),
        (Some("consumer"), Some("range"))
    );
    assert_eq!(sim.state(), GroupState::Stable);
    let Some(Record::Group { value: Some(group), .. }) = sim.log.last() else { panic!("{:?}", sim.log) };
    assert_eq!((group.generation, group.leader.as_ref()), (Generation(1), Some(&leader.member_id)));
    assert_eq!(group.members[1].assignment, format!("for {}", follower.member_id));
}

#[test]
fn who_syncs_late_gets_the_assignment_at_once_and_who_was_left_out_gets_none() {
    let (mut sim, leader, follower) = completing();
    let mut given = assignment(&leader);
    given.assignments.truncate(1);
    given.assignments.push(("stranger".into(), "x".into()));
    sim.sync(given);
    let token = sim.sync(sync(&follower));
    let reply = sim.synced(token);
    assert_eq!((reply.error, reply.assignment.len()), (ErrorCode::None, 0));
}

#[test]
fn syncs_that_are_refused() {
    let other = |kind: Option<&str>, name: Option<&str>, base: Sync| Sync {
        protocol_type: kind.map(Into::into),
        protocol: name.map(Into::into),
        ..base
    };
    let (mut sim, leader, follower) = completing();
    let fine = sync(&follower);
    let as_member = |id: &str, generation: i32, instance: Option<&str>| Sync {
        caller: Caller {
            member_id: id.into(),
            instance_id: instance.map(Into::into),
            generation: Generation(generation),
        },
        ..fine.clone()
    };
    let id = follower.member_id.as_str();
    let table = [
        (Sync { group: "".into(), ..fine.clone() }, ErrorCode::InvalidGroupId),
        (Sync { group: "h".into(), ..fine.clone() }, ErrorCode::UnknownMemberId),
        (as_member("x", 1, None), ErrorCode::UnknownMemberId),
        (as_member(id, 1, Some("i")), ErrorCode::UnknownMemberId),
        (as_member(id, 0, None), ErrorCode::IllegalGeneration),
        (as_member(id, 2, None), ErrorCode::IllegalGeneration),
        (other(Some("connect"), None, fine.clone()), ErrorCode::InconsistentGroupProtocol),
        (other(None, Some("sticky"), fine.clone()), ErrorCode::InconsistentGroupProtocol),
    ];
    for (request, error) in table {
        let token = sim.sync(request.clone());
        assert_eq!(sim.synced(token).error, error, "{request:?}");
    }
    let right = sim.sync(other(Some("consumer"), Some("range"), fine.clone()));
    assert!(sim.waits(right));
    sim.join(join_with(leader.member_id.as_str(), &["range", "sticky"]));
    assert_eq!(
        sim.synced(right).error,
        ErrorCode::RebalanceInProgress,
        "a rebalance sends waiting members back"
    );
    let token = sim.sync(fine);
    assert_eq!(sim.synced(token).error, ErrorCode::RebalanceInProgress);
}

#[test]
fn members_that_never_sync_are_dropped() {
    let (mut sim, leader, follower) = completing();
    sim.sync(assignment(&leader));
    for _ in 0..11 {
        sim.pass(5_000);
        assert_eq!(sim.heartbeat(&follower), ErrorCode::None);
        assert_eq!(sim.heartbeat(&leader), ErrorCode::None);
    }
    sim.pass(5_000);
    assert_eq!(sim.state(), GroupState::PreparingRebalance);
    assert_eq!(sim.heartbeat(&follower), ErrorCode::UnknownMemberId);
    assert_eq!(sim.heartbeat(&leader), ErrorCode::RebalanceInProgress);
}

#[test]
fn followers_are_sent_back_when_the_leader_never_syncs() {
    let (mut sim, leader, follower) = completing();
    let waiting = sim.sync(sync(&follower));
    sim.pass(i64::from(SESSION_MS));
    assert_eq!(sim.synced(waiting).error, ErrorCode::RebalanceInProgress, "the leader's session is over");
    let token = sim.join(join(follower.member_id.as_str()));
    let reply = sim.joined(token);
    assert_eq!((reply.leader, reply.generation), (follower.member_id, Generation(2)));
    assert_eq!(sim.heartbeat(&leader), ErrorCode::UnknownMemberId);
}

#[test]
fn a_failed_append_sends_everyone_back() {
    for (cause, told) in [
        (ErrorCode::NotEnoughReplicas, ErrorCode::CoordinatorNotAvailable),
        (ErrorCode::RequestTimedOut, ErrorCode::CoordinatorNotAvailable),
        (ErrorCode::NotLeaderOrFollower, ErrorCode::NotCoordinator),
        (ErrorCode::KafkaStorageError, ErrorCode::NotCoordinator),
        (ErrorCode::MessageTooLarge, ErrorCode::UnknownServerError),
    ] {
        let (mut sim, leader, follower) = completing();
        sim.append_fails_with = Some(cause);
        let tokens = [sim.sync(sync(&follower)), sim.sync(assignment(&leader))];
        for token in tokens {
            assert_eq!(sim.synced(token).error, told);
        }
        assert_eq!(sim.state(), GroupState::PreparingRebalance);
        sim.append_fails_with = None;
        let members = sim.rejoin_all(&[leader, follower]);
        assert_eq!(members[0].generation, Generation(2));
    }
}

#[test]
fn an_assignment_that_is_overtaken_by_a_rebalance_is_forgotten() {
    let (mut sim, leader, follower) = completing();
    sim.hold = true;
    let tokens = [sim.sync(sync(&follower)), sim.sync(assignment(&leader))];
    sim.leave(&[(follower.member_id.as_str(), None)]);
    assert_eq!(sim.synced(tokens[0]).error, ErrorCode::UnknownMemberId);
    assert_eq!(sim.synced(tokens[1]).error, ErrorCode::RebalanceInProgress);
    let token = sim.join(join(leader.member_id.as_str()));
    let leader = sim.joined(token);
    sim.release();
    assert_eq!((leader.generation, sim.state()), (Generation(2), GroupState::CompletingRebalance));
}

#[test]
fn a_sync_that_is_sent_again_takes_the_place_of_the_one_that_is_parked() {
    let (mut sim, leader, follower) = completing();
    let old = sim.sync(sync(&follower));
    let new = sim.sync(sync(&follower));
    assert_eq!(sim.synced(old).error, ErrorCode::RebalanceInProgress);
    sim.hold = true;
    let first = sim.sync(assignment(&leader));
    let again = sim.sync(assignment(&leader));
    assert_eq!(sim.held.len(), 1, "one assignment is written");
    assert_eq!(sim.synced(first).error, ErrorCode::RebalanceInProgress);
    sim.release();
    assert_eq!((sim.synced(new).error, sim.synced(again).error), (ErrorCode::None, ErrorCode::None));
}

#[test]
fn heartbeats() {
    let (mut sim, members) = Sim::stable(1);
    let me = caller(&members[0]);
    let table = [
        (me.clone(), ErrorCode::None),
        (Caller { generation: Generation(0), ..me.clone() }, ErrorCode::IllegalGeneration),
        (Caller { member_id: "x".into(), ..me.clone() }, ErrorCode::UnknownMemberId),
        (Caller { instance_id: Some("i".into()), ..me.clone() }, ErrorCode::UnknownMemberId),
    ];
    for (caller, code) in table {
        assert_eq!(sim.heartbeat_as(&caller), code, "{caller:?}");
    }
    for _ in 0..5 {
        sim.pass(i64::from(SESSION_MS) - 1);
        assert_eq!(sim.heartbeat(&members[0]), ErrorCode::None);
    }
    sim.pass(i64::from(SESSION_MS));
    assert_eq!(sim.state(), GroupState::Empty);
    assert_eq!(sim.heartbeat(&members[0]), ErrorCode::UnknownMemberId);
}

#[test]
fn requests_to_a_group_that_does_not_exist() {
    let mut sim = Sim::new();
    assert_eq!(sim.heartbeat_as(&nobody()), ErrorCode::UnknownMemberId);
    assert!(sim.groups.is_empty());
}
