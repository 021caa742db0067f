use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::ids::Uuid;

use super::sim::*;
use crate::coordinator::*;

const WEEK_MS: i64 = 7 * 24 * 3_600_000;

#[test]
fn who_may_commit() {
    let as_member = |id: &str, generation: i32| Caller {
        member_id: id.into(),
        instance_id: None,
        generation: Generation(generation),
    };
    let unknown = as_member("x", 1);

    let mut sim = Sim::new();
    assert_eq!(sim.commit_at(unknown.clone(), 1), Err(ErrorCode::GroupIdNotFound));
    let token = sim.commit(&Commit {
        knows_unknown_group: false,
        offsets: vec![at("t", 0, 1)],
        ..commit(unknown.clone())
    });
    assert_eq!(sim.partitions(token), Err(ErrorCode::IllegalGeneration));
    assert!(sim.groups.is_empty());
    assert_eq!(sim.commit_at(nobody(), 1), Ok(vec![ErrorCode::None]), "a group of offsets alone");
    assert_eq!((sim.fetched(), sim.state()), (Some(1), GroupState::Empty));
    assert_eq!(sim.commit_at(unknown.clone(), 2), Err(ErrorCode::UnknownMemberId));

    let (mut sim, members) = Sim::stable(1);
    let me = caller(&members[0]);
    let id = me.member_id.as_str();
    assert_eq!(sim.commit_at(nobody(), 1), Err(ErrorCode::UnknownMemberId), "the group has members");
    assert_eq!(sim.commit_at(unknown, 1), Err(ErrorCode::UnknownMemberId));
    assert_eq!(sim.commit_at(as_member(id, 2), 1), Err(ErrorCode::IllegalGeneration));
    assert_eq!(sim.commit_at(as_member(id, -1), 1), Err(ErrorCode::IllegalGeneration));
    assert_eq!(sim.commit_at(me.clone(), 1), Ok(vec![ErrorCode::None]));
    assert_eq!(sim.fetched(), Some(1));

    sim.enter();
    assert_eq!(sim.state(), GroupState::PreparingRebalance);
    assert_eq!(sim.commit_at(me.clone(), 2), Ok(vec![ErrorCode::None]), "what it has done before it rejoins");
    let token = sim.join(join(id));
    let me = caller(&sim.joined(token));
    assert_eq!(sim.state(), GroupState::CompletingRebalance);
    assert_eq!(sim.commit_at(me.clone(), 3), Err(ErrorCode::RebalanceInProgress));

    sim.leave(&[(id, None)]);
    sim.pass(i64::from(SESSION_MS));
    assert_eq!(sim.state(), GroupState::Empty);
    assert_eq!(sim.commit_at(nobody(), 9), Ok(vec![ErrorCode::None]), "an administrator resets offsets");
    assert_eq!(sim.commit_at(me, 3), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn a_commit_counts_once_it_is_in_the_log() {
    let mut sim = Sim::new();
    sim.hold = true;
    let token = sim.commit(&Commit { offsets: vec![at("t", 0, 5)], ..commit(nobody()) });
    assert!(sim.waits(token));
    assert_eq!(sim.fetched(), None);
    sim.release();
    assert_eq!((sim.partitions(token), sim.fetched()), (Ok(vec![ErrorCode::None]), Some(5)));

    sim.append_fails_with = Some(ErrorCode::NotEnoughReplicas);
    let token = sim.commit(&Commit { offsets: vec![at("t", 0, 6)], ..commit(nobody()) });
    sim.release();
    assert_eq!(sim.partitions(token), Err(ErrorCode::CoordinatorNotAvailable));
    assert_eq!(sim.fetched(), Some(5));
}

#[test]
fn a_commit_renews_the_session() {
    let (mut sim, members) = Sim::stable(1);
    for offset in 0..5 {
        sim.pass(i64::from(SESSION_MS) - 1);
        assert!(sim.commit_at(caller(&members[0]), offset).is_ok());
    }
}

#[test]
fn long_metadata_is_refused_for_its_partition_alone() {
    let mut sim = Sim::new();
    let with =
        |partition: i32, text: String| CommitOffset { metadata: Some(text.into()), ..at("t", partition, 1) };
    // Counted as Java counts: the emoji is two.
    let offsets = vec![
        with(0, "m".repeat(4096)),
        with(1, "m".repeat(4097)),
        with(2, "😀".repeat(2048)),
        with(3, "😀".repeat(2049)),
        with(4, "é".repeat(4096)),
    ];
    let token = sim.commit(&Commit { offsets, ..commit(nobody()) });
    let (fine, long) = (ErrorCode::None, ErrorCode::OffsetMetadataTooLarge);
    assert_eq!(sim.partitions(token), Ok(vec![fine, long, fine, long, fine]));
    let all = sim.groups.fetch("g", None);
    let kept: Vec<_> = all[0].partitions.iter().map(|(index, _)| *index).collect();
    assert_eq!(kept, [0, 2, 4]);

    let token = sim.commit(&Commit { offsets: vec![with(1, "m".repeat(4097))], ..commit(nobody()) });
    assert_eq!(sim.partitions(token), Ok(vec![long]), "nothing to write, and still an answer");
}

#[test]
fn what_is_fetched() {
    let mut sim = Sim::new();
    let topic_id = Uuid([1; 16]);
    let full = CommitOffset { metadata: Some("m".into()), topic_id, ..at("t", 1, 7) };
    sim.commit(&Commit { offsets: vec![full, at("a", 0, 3)], ..commit(nobody()) });
    let expected = Committed {
        offset: 7,
        leader_epoch: 2,
        metadata: "m".into(),
        commit_ms: T0,
        expire_ms: None,
        topic_id,
    };
    let ask = |id: Uuid| [FetchTopic { name: "t".into(), id, partitions: vec![0, 1] }];
    for (id, found) in
        [(Uuid::ZERO, Some(expected.clone())), (topic_id, Some(expected)), (Uuid([2; 16]), None)]
    {
        let topics = sim.groups.fetch("g", Some(&ask(id)));
        assert_eq!(topics[0].partitions, [(0, None), (1, found)]);
    }
    let all: Vec<_> = sim.groups.fetch("g", None).into_iter().map(|topic| topic.name).collect();
    assert_eq!(all, ["a".into(), "t".into()]);
    assert_eq!(sim.groups.fetch("h", None), []);
    assert_eq!(sim.groups.fetch("h", Some(&ask(Uuid::ZERO)))[0].partitions, [(0, None), (1, None)]);
}

#[test]
fn offsets_of_a_simple_group_expire_one_by_one_and_the_group_with_the_last() {
    let mut sim = Sim::new();
    sim.commit(&Commit { offsets: vec![at("t", 0, 1)], ..commit(nobody()) });
    sim.pass(3_600_000);
    sim.commit(&Commit { offsets: vec![at("t", 1, 1)], ..commit(nobody()) });
    sim.pass(WEEK_MS - 3_600_000 - 1);
    assert_eq!(sim.groups.fetch("g", None)[0].partitions.len(), 2);
    sim.pass(600_001);
    assert_eq!(sim.groups.fetch("g", None)[0].partitions.len(), 1);
    sim.pass(3_600_000);
    assert!(sim.groups.is_empty());
    assert_eq!(sim.log.last(), Some(&Record::Group { group: "g".into(), value: None }));
    assert!(sim.reloaded(GroupOptions::default()).groups.is_empty());
}

#[test]
fn offsets_of_a_group_last_from_the_moment_it_is_empty() {
    let (mut sim, members) = Sim::stable(1);
    sim.commit_at(caller(&members[0]), 5).unwrap();
    for _ in 0..(2 * WEEK_MS / 1_000_000) {
        for _ in 0..125 {
            sim.pass(8_000);
            assert_eq!(sim.heartbeat(&members[0]), ErrorCode::None);
        }
    }
    assert_eq!(sim.fetched(), Some(5), "the topic is subscribed");
    sim.leave(&[(members[0].member_id.as_str(), None)]);
    sim.pass(WEEK_MS - 600_000);
    assert_eq!((sim.fetched(), sim.state()), (Some(5), GroupState::Empty));
    sim.pass(1_200_000);
    assert_eq!((sim.fetched(), sim.state()), (None, GroupState::Dead));
}

#[test]
fn offsets_of_topics_that_a_stable_group_no_longer_reads_expire() {
    let (mut sim, members) = Sim::stable(1);
    let token =
        sim.commit(&Commit { offsets: vec![at("t", 0, 5), at("old", 0, 5)], ..commit(caller(&members[0])) });
    assert!(sim.partitions(token).is_ok());
    while sim.tick_ms < WEEK_MS + 600_000 {
        sim.pass(9_000);
        sim.heartbeat(&members[0]);
    }
    let left: Vec<_> = sim.groups.fetch("g", None).into_iter().map(|topic| topic.name).collect();
    assert_eq!(left, ["t".into()]);
}

#[test]
fn a_connect_groups_offsets_never_expire_while_it_has_members() {
    let mut sim = Sim::new();
    let worker = Join { protocol_type: "connect".into(), needs_member_id: false, ..join("") };
    let token = sim.join(worker);
    sim.pass(0);
    let me = sim.joined(token);
    sim.assign(std::slice::from_ref(&me));
    sim.commit_at(caller(&me), 5).unwrap();
    while sim.tick_ms < WEEK_MS + 600_000 {
        sim.pass(9_000);
        sim.heartbeat(&me);
    }
    assert_eq!(sim.fetched(), Some(5));
    assert_eq!(sim.offset_delete(&[("t", 0)]), Err(ErrorCode::NonEmptyGroup));
}

#[test]
fn an_old_clients_retention_ends_its_offset() {
    let mut sim = Sim::new();
    sim.commit(&Commit { retention_ms: Some(1_000_000), offsets: vec![at("t", 0, 1)], ..commit(nobody()) });
    sim.pass(600_000);
    assert_eq!(sim.fetched(), Some(1));
    sim.pass(600_000);
    assert_eq!(sim.fetched(), None);
}

#[test]
fn a_deleted_topic_takes_its_offsets_along() {
    let mut sim = Sim::new();
    sim.commit(&Commit { offsets: vec![at("t", 0, 1), at("t", 1, 1), at("u", 0, 1)], ..commit(nobody()) });
    let effects = sim.groups.on_topics_deleted(sim.now(), &["t".into(), "v".into()]);
    sim.run(effects);
    let names =
        |groups: &Groups| groups.fetch("g", None).into_iter().map(|topic| topic.name).collect::<Vec<_>>();
    assert_eq!(names(&sim.groups), ["u".into()]);
    assert_eq!(names(&sim.reloaded(GroupOptions::default()).groups), ["u".into()]);
}

#[test]
fn offsets_can_be_deleted_for_topics_that_nobody_reads() {
    let mut sim = Sim::new();
    assert_eq!(sim.offset_delete(&[("t", 0)]), Err(ErrorCode::GroupIdNotFound));
    let members = sim.stabilize(1);
    let token =
        sim.commit(&Commit { offsets: vec![at("t", 0, 5), at("old", 0, 5)], ..commit(caller(&members[0])) });
    assert!(sim.partitions(token).is_ok());
    assert_eq!(
        sim.offset_delete(&[("t", 0), ("old", 0), ("old", 1)]),
        Ok(vec![ErrorCode::GroupSubscribedToTopic, ErrorCode::None, ErrorCode::None])
    );
    assert_eq!(sim.groups.fetch("g", None).len(), 1);
    sim.leave(&[(members[0].member_id.as_str(), None)]);
    assert_eq!(sim.offset_delete(&[("t", 0)]), Ok(vec![ErrorCode::None]));
    assert_eq!(sim.fetched(), None);
}

#[test]
fn a_group_without_offsets_can_still_be_deleted() {
    let mut sim = Sim::new();
    sim.commit_at(nobody(), 5).unwrap();
    assert_eq!(sim.offset_delete(&[("t", 0)]), Ok(vec![ErrorCode::None]));
    assert_eq!(sim.heartbeat_as(&nobody()), ErrorCode::UnknownMemberId);
    assert_eq!(sim.state(), GroupState::Empty);
    assert_eq!(sim.reloaded(GroupOptions::default()).groups.len(), 1, "after a reload as well");
    let token = sim.delete("g");
    assert_eq!(sim.deleted(token), ErrorCode::None);
    assert!(sim.groups.is_empty());
    assert!(sim.reloaded(GroupOptions::default()).groups.is_empty());
}
