//! Groups that turn from one protocol to the other, empty or with members.

use aqueduct_protocol::ErrorCode;
use bytes::{BufMut, Bytes, BytesMut};

use super::sim::*;
use crate::coordinator::consumer::embedded;
use crate::coordinator::consumer::options::Migration;
use crate::coordinator::*;

/// A subscription to topic `a` as consumers send it: version 1, with what they have.
pub fn subscription_with(owned: &[i32]) -> Bytes {
    let mut buf = BytesMut::new();
    buf.put_slice(&[0, 1, 0, 0, 0, 1, 0, 1, b'a', 255, 255, 255, 255]);
    buf.put_i32(i32::from(!owned.is_empty()));
    if !owned.is_empty() {
        buf.put_slice(&[0, 1, b'a']);
        buf.put_i32(owned.len() as i32);
        owned.iter().for_each(|index| buf.put_i32(*index));
    }
    buf.freeze()
}

pub fn classic(member: &str, owned: &[i32]) -> Join {
    let protocols = vec![Protocol { name: "range".into(), metadata: subscription_with(owned) }];
    Join { protocols, ..join(member) }
}

pub fn assignment_of(partitions: &[i32]) -> Bytes {
    let named = [("a", partitions.to_vec())].into();
    embedded::write_assignment(1, &named)
}

fn given(reply: &SyncReply) -> Vec<i32> {
    embedded::read_assignment(&reply.assignment).unwrap().into_iter().map(|(_, index)| index).collect()
}

fn sim() -> Sim {
    let mut sim = Sim::new();
    sim.topics(&[("a", 4)]);
    sim
}

/// A stable classic group: `c1` reads 0 and 1, `c2` the rest.
fn classics() -> (Sim, [JoinReply; 2]) {
    let mut sim = sim();
    let mut enter = || {
        let first = sim.join(classic("", &[]));
        let id = sim.joined(first).member_id;
        sim.join(classic(id.as_str(), &[]))
    };
    let tokens = [enter(), enter()];
    sim.pass(0);
    let members = tokens.map(|token| sim.joined(token));
    let leader = members.iter().find(|member| member.leader == member.member_id).unwrap().clone();
    let follower = members.iter().find(|member| member.leader != member.member_id).unwrap().clone();
    let waits = sim.sync(sync(&follower));
    let assignments = vec![
        (leader.member_id.clone(), assignment_of(&[0, 1])),
        (follower.member_id.clone(), assignment_of(&[2, 3])),
    ];
    sim.sync(Sync { assignments, ..sync(&leader) });
    assert_eq!(given(&sim.synced(waits)), [2, 3]);
    (sim, [leader, follower])
}

fn rejoin(sim: &mut Sim, who: &JoinReply, owned: &[i32]) -> JoinReply {
    let token = sim.join(classic(who.member_id.as_str(), owned));
    sim.joined(token)
}

fn synced(sim: &mut Sim, who: &JoinReply) -> Vec<i32> {
    let token = sim.sync(sync(who));
    let reply = sim.synced(token);
    assert_eq!(reply.error, ErrorCode::None);
    given(&reply)
}

/// The same with a member `m` of the consumer protocol, which waits for its share.
fn mixed() -> (Sim, [JoinReply; 2]) {
    let (mut sim, members) = classics();
    let reply = sim.beat(joins("m", &["a"])).unwrap();
    assert_eq!(reply.assignment, Some(parts(&[])), "the others have everything");
    let group = sim.described();
    assert_eq!((group.epoch, group.members.len()), (2, 3));
    (sim, members)
}

#[test]
fn a_live_classic_group_takes_a_member_of_the_consumer_protocol() {
    let (mut sim, [leader, follower]) = mixed();
    for who in [&leader, &follower] {
        assert_eq!(sim.heartbeat(who), ErrorCode::RebalanceInProgress);
    }
    // Both have given up everything, as eager members do before they rejoin.
    let a = rejoin(&mut sim, &leader, &[]);
    assert_eq!((a.error, a.generation.0, &*a.leader.to_string()), (ErrorCode::None, 2, ""));
    assert_eq!(a.protocol.as_deref(), Some("range"));
    let b = rejoin(&mut sim, &follower, &[]);
    let mut all = synced(&mut sim, &a);
    all.extend(synced(&mut sim, &b));
    let mine = sim.beat(says("m", 2)).unwrap().assignment.unwrap();
    all.extend(mine.values().flatten());
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3]);
    assert_eq!(sim.heartbeat(&a), ErrorCode::None);
    assert_eq!(sim.described().state, "Stable");
    assert_eq!(sim.groups.describe("g"), None, "it is no classic group");
    let fresh = sim.reloaded(GroupOptions::default());
    assert_eq!(fresh.described().members.len(), 3);
}

#[test]
fn a_cooperative_member_keeps_reading_what_stays_its_own() {
    let (mut sim, [leader, follower]) = mixed();
    let (a, b) = (rejoin(&mut sim, &leader, &[0, 1]), rejoin(&mut sim, &follower, &[2, 3]));
    assert_eq!(a.generation.0 + b.generation.0, 3, "who must give up stays in its epoch until then");
    let (giver, keeper) = if a.generation.0 == 1 { (a, b) } else { (b, a) };
    assert_eq!(synced(&mut sim, &keeper).len(), 2);
    let kept = synced(&mut sim, &giver);
    assert_eq!(kept.len(), 1);
    assert_eq!(sim.heartbeat(&giver), ErrorCode::RebalanceInProgress, "it has to say that it gave up");
    assert_eq!(sim.beat(says("m", 2)).unwrap().assignment, None, "so m must wait");
    let giver = rejoin(&mut sim, &giver, &kept);
    assert_eq!(giver.generation.0, 2);
    assert_eq!(synced(&mut sim, &giver), kept);
    assert_eq!(sim.beat(says("m", 2)).unwrap().assignment.unwrap().values().flatten().count(), 1);
}

#[test]
fn the_group_turns_classic_when_the_last_member_of_the_consumer_protocol_leaves() {
    let (mut sim, [leader, follower]) = mixed();
    let (a, b) = (rejoin(&mut sim, &leader, &[]), rejoin(&mut sim, &follower, &[]));
    synced(&mut sim, &a);
    synced(&mut sim, &b);
    sim.beat(says("m", -1)).unwrap();
    let group = sim.groups.describe("g").expect("it is classic again");
    assert_eq!((group.state, group.members.len()), (GroupState::PreparingRebalance, 2));
    for who in [&a, &b] {
        assert_eq!(sim.heartbeat(who), ErrorCode::RebalanceInProgress);
    }
    let tokens = [&a, &b].map(|who| sim.join(classic(who.member_id.as_str(), &[])));
    let members = tokens.map(|token| sim.joined(token));
    assert!(members.iter().all(|member| member.generation.0 == 3), "{members:?}");
    assert!(members.iter().any(|member| member.members.len() == 2), "somebody leads");
    let fresh = sim.reloaded(GroupOptions::default());
    assert_eq!(fresh.groups.describe("g").unwrap().members.len(), 2);
}

#[test]
fn members_that_wait_are_sent_into_the_new_group() {
    let mut sim = sim();
    let first = sim.join(classic("", &[]));
    let id = sim.joined(first).member_id;
    sim.hold = true;
    let waits = sim.join(classic(id.as_str(), &[]));
    assert!(sim.waits(waits));
    let join = sim.consumer_heartbeat(joins("m", &["a"]));
    assert_eq!(sim.joined(waits).error, ErrorCode::RebalanceInProgress);
    sim.hold = false;
    sim.release();
    assert!(!sim.waits(join));
    assert_eq!(sim.described().members.len(), 2);
    // Without a session of its own it would stay for ever.
    sim.pass(SESSION_MS.into());
    assert_eq!(sim.described().members.len(), 1);
}

#[test]
fn an_upgrade_that_could_not_be_written_leaves_the_group_as_it_was() {
    let (mut sim, [leader, follower]) = classics();
    sim.append_fails_with = Some(ErrorCode::NotEnoughReplicas);
    assert_eq!(sim.beat(joins("m", &["a"])), Err(ErrorCode::CoordinatorNotAvailable));
    sim.append_fails_with = None;
    assert_eq!(sim.state(), GroupState::Stable);
    for who in [&leader, &follower] {
        assert_eq!(sim.heartbeat(who), ErrorCode::None);
    }
    sim.pass(SESSION_MS.into());
    assert_eq!(sim.state(), GroupState::Empty, "their sessions run");
}

#[test]
fn a_downgrade_that_could_not_be_written_leaves_the_group_as_it_was() {
    let (mut sim, [leader, follower]) = mixed();
    let (a, _) = (rejoin(&mut sim, &leader, &[]), rejoin(&mut sim, &follower, &[]));
    sim.hold = true;
    let leave = sim.consumer_heartbeat(says("m", -1));
    let waits = sim.join(classic(a.member_id.as_str(), &[]));
    assert!(sim.waits(waits), "it waits for the others in the classic group");
    sim.append_fails_with = Some(ErrorCode::NotEnoughReplicas);
    sim.release();
    assert_eq!(sim.joined(waits).error, ErrorCode::CoordinatorNotAvailable);
    assert!(matches!(sim.answer(leave), Reply::ConsumerHeartbeat(Err(_))));
    (sim.hold, sim.append_fails_with) = (false, None);
    assert_eq!(sim.described().members.len(), 3);
    assert_eq!(sim.beat(says("m", 2)).unwrap().epoch, 2);
}

#[test]
fn policies_forbid_what_they_say() {
    let with = |migration| {
        let mut options = GroupOptions { initial_rebalance_delay_ms: 0, ..GroupOptions::default() };
        options.consumer.migration = migration;
        options
    };
    for (migration, up) in
        [(Migration::Disabled, false), (Migration::Downgrade, false), (Migration::Upgrade, true)]
    {
        let (sim, _) = classics();
        let mut sim = sim.reloaded(with(migration));
        let joined = sim.beat(joins("m", &["a"]));
        assert_eq!(joined.err(), (!up).then_some(ErrorCode::GroupIdNotFound), "{migration:?}");
    }
    let (sim, _) = mixed();
    let mut sim = sim.reloaded(with(Migration::Upgrade));
    sim.beat(says("m", -1)).unwrap();
    assert_eq!(sim.described().members.len(), 2, "it stays a consumer group");
    let (sim, _) = mixed();
    let mut sim = sim.reloaded(with(Migration::Disabled));
    let join = sim.join(classic("new", &[]));
    assert_eq!(sim.joined(join).error, ErrorCode::InconsistentGroupProtocol);
}

#[test]
fn groups_of_other_kinds_are_not_upgraded() {
    let mut connect = Sim::new();
    connect.topics(&[("a", 4)]);
    let first = connect.join(Join { protocol_type: "connect".into(), ..join("") });
    let id = connect.joined(first).member_id;
    connect.join(Join { protocol_type: "connect".into(), ..join(id.as_str()) });
    connect.pass(0);
    assert_eq!(connect.beat(joins("m", &["a"])), Err(ErrorCode::GroupIdNotFound));
}

#[test]
fn empty_groups_take_the_protocol_of_whoever_comes() {
    let mut sim = sim();
    sim.commit_at(nobody(), 5).unwrap();
    sim.beat(joins("m", &["a"])).unwrap();
    assert_eq!(sim.fetched(), Some(5), "the offsets stay");
    sim.beat(says("m", -1)).unwrap();
    let members = sim.stabilize(1);
    assert_eq!((sim.state(), members[0].generation.0), (GroupState::Stable, 1));
    assert_eq!(sim.fetched(), Some(5));
    sim.leave(&[(members[0].member_id.as_str(), None)]);
    let fresh = sim.reloaded(GroupOptions::default());
    assert_eq!((fresh.state(), fresh.fetched()), (GroupState::Empty, Some(5)));
    sim.beat(joins("m", &["a"])).unwrap();
    let fresh = sim.reloaded(GroupOptions::default());
    assert_eq!((fresh.described().members.len(), fresh.fetched()), (1, Some(5)));
}

#[test]
fn classic_requests_to_a_consumer_group_are_checked() {
    let (mut sim, [leader, follower]) = mixed();
    let stranger = JoinReply { member_id: "x".into(), ..leader.clone() };
    assert_eq!(sim.heartbeat(&stranger), ErrorCode::UnknownMemberId);
    let speaker = JoinReply { member_id: "m".into(), ..leader.clone() };
    assert_eq!(sim.heartbeat(&speaker), ErrorCode::UnknownMemberId, "m does not speak the classic protocol");
    let late = JoinReply { generation: Generation(9), ..leader.clone() };
    assert_eq!(sim.heartbeat(&late), ErrorCode::IllegalGeneration);
    let token = sim.sync(sync(&leader));
    assert_eq!(sim.synced(token).error, ErrorCode::RebalanceInProgress);
    let a = rejoin(&mut sim, &leader, &[]);
    let token = sim.sync(Sync { protocol: Some("other".into()), ..sync(&a) });
    assert_eq!(sim.synced(token).error, ErrorCode::InconsistentGroupProtocol);
    let token = sim.sync(sync(&leader));
    assert_eq!(sim.synced(token).error, ErrorCode::IllegalGeneration);
    let token = sim.join(Join { protocol_type: "connect".into(), ..classic("", &[]) });
    assert_eq!(sim.joined(token).error, ErrorCode::InconsistentGroupProtocol);
    let token = sim.join(classic("", &[]));
    assert_eq!(sim.joined(token).error, ErrorCode::MemberIdRequired);
    let gone = [(follower.member_id.as_str(), None), ("x", None)];
    assert_eq!(sim.leave(&gone), [ErrorCode::None, ErrorCode::UnknownMemberId]);
    assert_eq!(sim.described().members.len(), 2);
    assert_eq!(sim.leave(&[("m", None)]), [ErrorCode::None], "an administrator sends it away");
    assert_eq!(sim.groups.describe("g").unwrap().members.len(), 1, "so the group is classic again");
}

#[test]
fn classic_members_that_do_not_follow_are_dropped() {
    let (mut sim, [leader, follower]) = mixed();
    // Told to rejoin, one does not; the other joins and does not sync.
    assert_eq!(sim.heartbeat(&leader), ErrorCode::RebalanceInProgress);
    let b = rejoin(&mut sim, &follower, &[]);
    for _ in 0..7 {
        sim.pass(9_000);
        let _ = (sim.heartbeat(&leader), sim.heartbeat(&b));
        let _ = sim.beat(says("m", 2));
    }
    let left: Vec<_> = sim.described().members.into_iter().map(|member| member.id.to_string()).collect();
    assert_eq!(left, ["m"]);
}

#[test]
fn a_static_member_changes_its_protocol_and_back() {
    let mut sim = sim();
    let join = sim.join(Join { instance_id: Some("i".into()), ..classic("", &[]) });
    sim.pass(0);
    let c = sim.joined(join);
    sim.sync(Sync {
        assignments: vec![(c.member_id.clone(), assignment_of(&[0, 1, 2, 3]))],
        caller: Caller { instance_id: Some("i".into()), ..caller(&c) },
        ..sync(&c)
    });
    assert_eq!(sim.state(), GroupState::Stable);
    let named = |asked: ConsumerHeartbeat| ConsumerHeartbeat { instance_id: Some("i".into()), ..asked };
    let reply = sim.beat(named(joins("m", &["a"]))).unwrap();
    assert_eq!(reply.assignment, Some(parts(&[("a", &[0, 1, 2, 3])])), "it has what it had");
    assert_eq!(sim.described().members.len(), 1);
    // As the only member it may come back as a classic one only when it is gone: nobody else is left.
    sim.beat(named(says("m", -2))).unwrap();
    let back = sim.join(Join { instance_id: Some("i".into()), ..classic("", &[]) });
    let c = sim.joined(back);
    assert_eq!(c.error, ErrorCode::None);
    let token = sim.sync(Sync { caller: Caller { instance_id: Some("i".into()), ..caller(&c) }, ..sync(&c) });
    assert_eq!(given(&sim.synced(token)), [0, 1, 2, 3]);
}

#[test]
fn the_last_static_member_that_turns_classic_takes_the_group_along() {
    let (mut sim, [leader, follower]) = classics();
    let named = |asked: ConsumerHeartbeat| ConsumerHeartbeat { instance_id: Some("i".into()), ..asked };
    sim.beat(named(joins("m", &["a"]))).unwrap();
    let (a, b) = (rejoin(&mut sim, &leader, &[]), rejoin(&mut sim, &follower, &[]));
    let back = sim.join(Join { instance_id: Some("i".into()), ..classic("", &[]) });
    assert!(sim.waits(back), "it waits for the others like anyone");
    let tokens = [&a, &b].map(|who| sim.join(classic(who.member_id.as_str(), &[])));
    assert_eq!(sim.joined(back).error, ErrorCode::None);
    assert!(tokens.iter().all(|token| !sim.waits(*token)));
    assert_eq!(sim.groups.describe("g").unwrap().members.len(), 3);
}
