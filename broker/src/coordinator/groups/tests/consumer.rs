//! Members of the consumer protocol: joining, giving up and getting, going and coming back.

use std::sync::Arc;

use aqueduct_protocol::ErrorCode;

use super::sim::*;
use crate::coordinator::*;

fn sim() -> Sim {
    let mut sim = Sim::new();
    sim.topics(&[("a", 4), ("b", 2)]);
    sim
}

/// A group whose member `m1` reads all of topic `a`.
fn one() -> Sim {
    let mut sim = sim();
    let reply = sim.beat(joins("m1", &["a"])).unwrap();
    assert_eq!((reply.epoch, reply.heartbeat_interval_ms), (2, 5_000));
    assert_eq!(reply.assignment, Some(parts(&[("a", &[0, 1, 2, 3])])));
    sim
}

/// The same with `m2`, which has got its half.
fn two() -> Sim {
    let mut sim = one();
    sim.pass(1_000);
    let reply = sim.beat(joins("m2", &["a"])).unwrap();
    assert_eq!((reply.epoch, reply.assignment), (3, Some(parts(&[]))), "m1 still has everything");
    assert_eq!(sim.described().state, "Reconciling");
    let reply = sim.beat(says("m1", 2)).unwrap();
    assert_eq!((reply.epoch, reply.assignment), (2, Some(parts(&[("a", &[0, 1])]))), "it must give up first");
    let reply = sim.beat(says("m2", 3)).unwrap();
    assert_eq!(reply.assignment, None, "nothing has changed for it");
    let reply = sim.beat(has("m1", 2, &[("a", &[0, 1])])).unwrap();
    assert_eq!((reply.epoch, reply.assignment), (3, None));
    let reply = sim.beat(says("m2", 3)).unwrap();
    assert_eq!((reply.epoch, reply.assignment), (3, Some(parts(&[("a", &[2, 3])]))));
    assert_eq!(sim.described().state, "Stable");
    sim
}

#[test]
fn a_second_member_gets_its_half_when_the_first_has_given_it_up() {
    let sim = two();
    let group = sim.described();
    assert_eq!((group.epoch, group.target_epoch, &*group.assignor), (3, 3, "uniform"));
    let fresh = sim.reloaded(GroupOptions::default());
    assert_eq!(fresh.groups.group("g").unwrap().as_consumer().unwrap().state, state(&sim));
}

fn state(sim: &Sim) -> crate::coordinator::consumer::state::State {
    sim.groups.group("g").unwrap().as_consumer().unwrap().state.clone()
}

#[test]
fn nothing_is_told_before_it_is_in_the_log_and_what_cannot_be_written_is_taken_back() {
    let mut sim = one();
    let before = state(&sim);
    sim.pass(1_000);
    sim.hold = true;
    let second = sim.consumer_heartbeat(joins("m2", &["a"]));
    let first = sim.consumer_heartbeat(says("m1", 2));
    let other = sim.consumer_heartbeat(says("m1", 2));
    assert!(sim.waits(second) && sim.waits(first));
    assert!(sim.waits(other), "it would tell of what is not written yet");
    sim.append_fails_with = Some(ErrorCode::NotEnoughReplicas);
    sim.release();
    for token in [second, first, other] {
        let refused = Reply::ConsumerHeartbeat(Err(ErrorCode::CoordinatorNotAvailable.into()));
        assert_eq!(sim.answer(token), refused);
    }
    assert_eq!(state(&sim), before);
    sim.hold = false;
    sim.append_fails_with = None;
    assert_eq!(sim.beat(says("m1", 2)).unwrap().assignment, None);
    assert_eq!(sim.beat(says("m2", 3)), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn a_group_that_could_not_be_written_is_none() {
    let mut sim = sim();
    sim.append_fails_with = Some(ErrorCode::NotEnoughReplicas);
    assert_eq!(sim.beat(joins("m1", &["a"])), Err(ErrorCode::CoordinatorNotAvailable));
    sim.append_fails_with = None;
    assert_eq!(sim.beat(says("m1", 2)), Err(ErrorCode::GroupIdNotFound));
    assert!(sim.beat(joins("m1", &["a"])).is_ok());
}

#[test]
fn the_last_epoch_is_accepted_from_a_member_that_has_no_more_than_it_should() {
    let mut sim = two();
    let reply = sim.beat(has("m1", 2, &[("a", &[0])])).unwrap();
    assert_eq!((reply.epoch, reply.assignment), (3, None));
    assert_eq!(sim.beat(has("m1", 2, &[("a", &[0, 2])])), Err(ErrorCode::FencedMemberEpoch));
    assert_eq!(sim.beat(says("m1", 2)), Err(ErrorCode::FencedMemberEpoch), "it does not say what it has");
    assert_eq!(sim.beat(says("m1", 4)), Err(ErrorCode::FencedMemberEpoch));
    assert_eq!(sim.beat(says("m1", 1)), Err(ErrorCode::FencedMemberEpoch));
    let full =
        ConsumerHeartbeat { rebalance_timeout_ms: 1, topics: Some(vec!["a".into()]), ..has("m1", 3, &[]) };
    assert_eq!(
        sim.beat(full).unwrap().assignment,
        Some(parts(&[("a", &[0, 1])])),
        "a full request is answered in full"
    );
}

#[test]
fn a_member_that_joins_anew_has_given_up_everything() {
    let mut sim = one();
    sim.pass(1_000);
    sim.beat(joins("m2", &["a"])).unwrap();
    sim.beat(says("m1", 2)).unwrap();
    let reply = sim.beat(joins("m1", &["a"])).unwrap();
    assert_eq!((reply.epoch, reply.assignment), (3, Some(parts(&[("a", &[0, 1])]))));
    assert_eq!(sim.beat(says("m2", 3)).unwrap().assignment, Some(parts(&[("a", &[2, 3])])));
}

#[test]
fn assignments_are_a_second_apart() {
    let mut sim = one();
    let reply = sim.beat(joins("m2", &["a"])).unwrap();
    assert_eq!((reply.epoch, reply.assignment), (2, Some(parts(&[]))));
    assert_eq!(sim.described().state, "Assigning");
    sim.pass(999);
    assert_eq!(sim.beat(says("m2", 2)).unwrap().epoch, 2);
    sim.pass(1);
    assert_eq!(sim.beat(says("m2", 2)).unwrap().epoch, 3);
}

#[test]
fn a_member_that_leaves_makes_room() {
    let mut sim = two();
    sim.pass(1_000);
    let reply = sim.beat(says("m1", -1)).unwrap();
    assert_eq!((reply.epoch, reply.heartbeat_interval_ms, reply.assignment), (-1, 0, None));
    let reply = sim.beat(says("m2", 3)).unwrap();
    assert_eq!((reply.epoch, reply.assignment), (4, Some(parts(&[("a", &[0, 1, 2, 3])]))));
    sim.beat(says("m2", -1)).unwrap();
    assert_eq!(sim.described().state, "Empty");
    assert_eq!(sim.groups.next_deadline().map(|at| at > 300_000), Some(true), "no session is left");
}

#[test]
fn silence_ends_a_session_and_slowness_a_membership() {
    let mut sim = two();
    sim.pass(44_000);
    sim.beat(says("m1", 3)).unwrap();
    sim.pass(1_000);
    assert_eq!(sim.described().members.len(), 1, "m2 was silent for 45 s");
    assert_eq!(sim.beat(says("m2", 3)), Err(ErrorCode::UnknownMemberId));
    let mut sim = one();
    sim.pass(1_000);
    sim.beat(joins("m2", &["a"])).unwrap();
    sim.beat(says("m1", 2)).unwrap();
    for _ in 0..3 {
        sim.pass(20_000);
        sim.beat(says("m2", 3)).unwrap();
        let _ = sim.beat(says("m1", 2));
    }
    assert_eq!(
        sim.beat(says("m1", 2)),
        Err(ErrorCode::UnknownMemberId),
        "it did not give up within its minute"
    );
    assert_eq!(sim.beat(says("m2", 4)).unwrap().epoch, 4);
}

#[test]
fn sessions_and_revocations_run_on_after_a_reload() {
    let mut sim = one();
    sim.pass(1_000);
    sim.beat(joins("m2", &["a"])).unwrap();
    sim.beat(says("m1", 2)).unwrap();
    let mut sim = sim.reloaded(GroupOptions::default());
    sim.pass(44_000);
    sim.beat(says("m1", 2)).unwrap();
    sim.pass(1_000);
    assert_eq!(sim.described().members.len(), 1);
    sim.pass(14_999);
    sim.beat(says("m1", 2)).unwrap();
    sim.pass(1);
    assert_eq!(sim.described().members.len(), 0, "the minute for giving up began with the reload");
}

#[test]
fn a_topic_that_grows_or_comes_or_goes_raises_the_epoch() {
    let mut sim = one();
    sim.pass(1_000);
    sim.topics(&[("a", 5), ("b", 2)]);
    let reply = sim.beat(says("m1", 2)).unwrap();
    assert_eq!((reply.epoch, reply.assignment), (3, Some(parts(&[("a", &[0, 1, 2, 3, 4])]))));
    sim.pass(1_000);
    sim.topics(&[("a", 5), ("b", 9)]);
    assert_eq!(sim.beat(says("m1", 3)).unwrap().epoch, 3, "it does not read b");
    sim.topics(&[("b", 9)]);
    let reply = sim.beat(says("m1", 3)).unwrap();
    assert_eq!((reply.epoch, reply.assignment), (3, Some(parts(&[]))), "it must give the topic up");
    assert_eq!(sim.beat(has("m1", 3, &[])).unwrap().epoch, 4);
    sim.pass(1_000);
    sim.topics(&[("a", 1), ("b", 9)]);
    assert_eq!(sim.beat(says("m1", 4)).unwrap().assignment, Some(parts(&[("a", &[0])])));
}

#[test]
fn subscriptions_by_pattern_follow_the_topics() {
    let mut sim = sim();
    let mut pattern = joins("m1", &[]);
    pattern.pattern = Some("[ac]".into());
    pattern.topics = None;
    let reply = sim.beat(pattern.clone()).unwrap();
    assert_eq!(reply.assignment, Some(parts(&[("a", &[0, 1, 2, 3])])));
    sim.pass(1_000);
    sim.topics(&[("a", 1), ("b", 2), ("c", 1)]);
    let reply = sim.beat(says("m1", 2)).unwrap();
    assert_eq!(
        reply.assignment,
        Some(parts(&[("a", &[0])])),
        "a is looked at at once, patterns only after a while"
    );
    sim.beat(has("m1", 2, &[("a", &[0])])).unwrap();
    sim.pass(10_000);
    let reply = sim.beat(says("m1", 3)).unwrap();
    assert_eq!((reply.epoch, reply.assignment), (4, Some(parts(&[("a", &[0]), ("c", &[0])]))));
    let fresh = sim.reloaded(GroupOptions::default());
    assert_eq!(state(&fresh), state(&sim));
    assert!(fresh.groups.group("g").unwrap().is_subscribed("c"));
    // Without the pattern, its topics go from the log as well.
    sim.pass(1_000);
    let names =
        ConsumerHeartbeat { pattern: Some("".into()), topics: Some(vec!["b".into()]), ..says("m1", 4) };
    assert_eq!(sim.beat(names).unwrap().assignment, Some(parts(&[])));
    assert_eq!(state(&sim).patterns().count(), 0);
    assert_eq!(sim.beat(has("m1", 4, &[])).unwrap().assignment, Some(parts(&[("b", &[0, 1])])));
}

#[test]
fn patterns_find_only_what_their_member_may_see() {
    let mut sim = sim();
    let visible = Visible(Some(Arc::new(|topic: &str| topic != "a")));
    let asked = ConsumerHeartbeat { pattern: Some(".*".into()), visible, ..joins("m1", &[]) };
    assert_eq!(sim.beat(asked).unwrap().assignment, Some(parts(&[("b", &[0, 1])])));
}

#[test]
fn a_static_member_keeps_its_partitions_while_it_is_away() {
    let mut sim = sim();
    let named = |asked: ConsumerHeartbeat| ConsumerHeartbeat { instance_id: Some("i".into()), ..asked };
    sim.beat(named(joins("m1", &["a"]))).unwrap();
    sim.pass(1_000);
    sim.beat(joins("m2", &["a"])).unwrap();
    sim.beat(named(says("m1", 2))).unwrap();
    sim.beat(named(has("m1", 2, &[("a", &[0, 1])]))).unwrap();
    assert_eq!(sim.beat(named(joins("m9", &["a"]))), Err(ErrorCode::UnreleasedInstanceId));
    assert_eq!(
        sim.beat(named(joins("m1", &["a"]))),
        Err(ErrorCode::UnreleasedInstanceId),
        "even under its own id"
    );
    assert_eq!(sim.beat(named(says("m9", -2))), Err(ErrorCode::FencedInstanceId));
    assert_eq!(sim.beat(named(says("m1", -2))).unwrap().epoch, -2);
    assert_eq!(sim.beat(named(says("m1", 3))), Err(ErrorCode::FencedMemberEpoch));
    sim.pass(1_000);
    assert_eq!(
        sim.beat(says("m2", 3)).unwrap().assignment,
        Some(parts(&[("a", &[2, 3])])),
        "no more than its half"
    );
    let reply = sim.beat(named(joins("m3", &["a"]))).unwrap();
    assert_eq!((reply.epoch, reply.assignment), (3, Some(parts(&[("a", &[0, 1])]))));
    assert_eq!(sim.beat(named(says("m1", 3))), Err(ErrorCode::FencedInstanceId));
    assert_eq!(sim.described().epoch, 3, "nobody else noticed");
    // Away for longer than its session, it is gone.
    sim.beat(named(says("m3", -2))).unwrap();
    sim.pass(40_000);
    sim.beat(says("m2", 3)).unwrap();
    sim.pass(5_000);
    assert_eq!(sim.beat(says("m2", 3)).unwrap().assignment, Some(parts(&[("a", &[0, 1, 2, 3])])));
}

#[test]
fn the_assignor_that_most_prefer_is_used() {
    let mut sim = sim();
    let range = |id: &str| ConsumerHeartbeat { assignor: Some("range".into()), ..joins(id, &["a", "b"]) };
    sim.beat(range("m1")).unwrap();
    assert_eq!(&*sim.described().assignor, "range");
    let reply = sim.beat(joins("m2", &["a", "b"])).unwrap();
    assert_eq!(reply.epoch, 2);
    assert_eq!(&*sim.described().assignor, "range", "m2 prefers none");
}

#[test]
fn what_a_group_sets_counts_within_the_brokers_limits() {
    let mut sim = sim();
    let mut image = image(&[("a", 4)]);
    image.version = 9;
    let values = [("consumer.heartbeat.interval.ms", "7000"), ("consumer.session.timeout.ms", "99999999")];
    let values = values.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    let resource = crate::metadata::Resource::Group("g".into());
    image.apply(&crate::metadata::Record::Config { resource, values });
    sim.groups.on_metadata(&Arc::new(image), &[]);
    assert_eq!(sim.beat(joins("m1", &["a"])).unwrap().heartbeat_interval_ms, 7_000);
    sim.pass(59_999);
    assert_eq!(sim.described().members.len(), 1);
    sim.pass(1);
    assert_eq!(sim.described().members.len(), 0, "the limit is a minute");
}

#[test]
fn groups_and_their_offsets_end_as_others_do() {
    let mut sim = one();
    sim.commit_at(member("m1", 2), 7).unwrap();
    let token = sim.delete("g");
    assert_eq!(sim.deleted(token), ErrorCode::NonEmptyGroup);
    assert_eq!(
        sim.offset_delete(&[("a", 0), ("t", 0)]),
        Ok(vec![ErrorCode::GroupSubscribedToTopic, ErrorCode::None])
    );
    sim.commit_at(member("m1", 2), 8).unwrap();
    sim.beat(says("m1", -1)).unwrap();
    let list: Vec<_> = sim.groups.list().map(|group| (group.state, group.kind)).collect();
    assert_eq!(list, [("Empty", GroupKind::Consumer)]);
    assert_eq!(sim.fetched(), Some(8));
    // A week after the commit its offset is too old, and without it nothing keeps the group.
    let mut later = sim.reloaded(GroupOptions::default());
    later.pass(8 * 24 * 3_600_000);
    assert_eq!((later.fetched(), later.groups.len()), (None, 0));
    assert_eq!(later.reloaded(GroupOptions::default()).groups.len(), 0);
    let token = sim.delete("g");
    assert_eq!(sim.deleted(token), ErrorCode::None);
    assert_eq!(sim.groups.len(), 0);
    assert_eq!(sim.reloaded(GroupOptions::default()).groups.len(), 0);
    let token = sim.delete("g");
    assert_eq!(sim.deleted(token), ErrorCode::GroupIdNotFound);
}

pub fn member(id: &str, epoch: i32) -> Caller {
    Caller { member_id: id.into(), instance_id: None, generation: Generation(epoch) }
}

#[test]
fn a_member_that_joins_while_its_group_is_being_deleted_keeps_it() {
    let mut sim = one();
    sim.beat(says("m1", -1)).unwrap();
    sim.hold = true;
    let delete = sim.delete("g");
    let join = sim.consumer_heartbeat(joins("m2", &["a"]));
    sim.hold = false;
    sim.release();
    assert_eq!(sim.deleted(delete), ErrorCode::None);
    assert!(!sim.waits(join));
    assert_eq!(sim.described().members.len(), 1);
    assert_eq!(state(&sim.reloaded(GroupOptions::default())).len(), 1);
}

#[test]
fn thousands_of_members_come_and_go_without_a_stall() {
    let mut sim = Sim::new();
    sim.topics(&[("a", 2_000)]);
    let started = std::time::Instant::now();
    for n in 0..1_000 {
        sim.beat(joins(&format!("m{n}"), &["a"])).unwrap();
    }
    sim.pass(1_000);
    for n in 0..1_000 {
        let id = format!("m{n}");
        let epoch = sim.described_epoch(&id);
        sim.beat(has(&id, epoch, &[])).unwrap();
    }
    sim.pass(50_000);
    assert_eq!(sim.described().members.len(), 0, "all were silent");
    assert!(started.elapsed() < std::time::Duration::from_secs(60), "{:?}", started.elapsed());
}
