//! What a heartbeat, a commit and a fetch are refused for.

use aqueduct_protocol::ErrorCode;

use super::consumer::member;
use super::sim::*;
use crate::coordinator::*;

fn refusal(asked: ConsumerHeartbeat) -> (ErrorCode, String) {
    let mut sim = Sim::new();
    sim.topics(&[("a", 4)]);
    let token = sim.consumer_heartbeat(asked);
    match sim.answer(token) {
        Reply::ConsumerHeartbeat(Err(refusal)) => (refusal.code, refusal.message.unwrap_or_default()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn requests_that_contradict_themselves_are_refused_with_the_reason() {
    let full = || joins("m1", &["a"]);
    let table: [(ConsumerHeartbeat, &str); 13] = [
        (ConsumerHeartbeat { group: "".into(), ..full() }, "GroupId can't be empty."),
        (joins("", &["a"]), "MemberId can't be empty."),
        (ConsumerHeartbeat { names_itself: false, ..says("", 3) }, "MemberId can't be empty."),
        (ConsumerHeartbeat { instance_id: Some("".into()), ..full() }, "InstanceId can't be empty."),
        (ConsumerHeartbeat { rack: Some("".into()), ..full() }, "RackId can't be empty."),
        (
            ConsumerHeartbeat { rebalance_timeout_ms: -1, ..full() },
            "RebalanceTimeoutMs must be provided in first request.",
        ),
        (ConsumerHeartbeat { owned: None, ..full() }, "TopicPartitions must be empty when (re-)joining."),
        (has("m1", 0, &[("a", &[0])]), "RebalanceTimeoutMs must be provided in first request."),
        (
            ConsumerHeartbeat { topics: None, ..full() },
            "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
        ),
        (says("m1", -2), "InstanceId can't be null."),
        (says("m1", -3), "MemberEpoch is invalid."),
        (says("", -1), "MemberId can't be empty."),
        (joins(&"m".repeat(40_000), &["a"]), "MemberId is too long."),
    ];
    for (asked, why) in table {
        assert_eq!(refusal(asked), (ErrorCode::InvalidRequest, why.to_owned()));
    }
    let asked = ConsumerHeartbeat { assignor: Some("sticky".into()), ..full() };
    let why = "ServerAssignor sticky is not supported. Supported assignors: uniform, range.";
    assert_eq!(refusal(asked), (ErrorCode::UnsupportedAssignor, why.to_owned()));
    let (code, why) = refusal(ConsumerHeartbeat { pattern: Some("[".into()), ..full() });
    assert_eq!(code, ErrorCode::InvalidRegularExpression);
    assert!(why.starts_with("SubscribedTopicRegex `[` is not a valid regular expression: "), "{why}");
    for (epoch, why) in [(5, "Consumer group g not found."), (-1, "Group g not found.")] {
        assert_eq!(refusal(says("m1", epoch)), (ErrorCode::GroupIdNotFound, why.to_owned()));
    }
}

#[test]
fn a_member_without_a_name_is_given_one_by_version_0() {
    let mut sim = Sim::new();
    sim.topics(&[("a", 1)]);
    let asked = ConsumerHeartbeat { names_itself: false, ..joins("", &["a"]) };
    assert!(sim.beat(asked).unwrap().member_id.as_str().starts_with("fresh-"));
}

#[test]
fn a_full_group_takes_nobody_else() {
    let mut options = GroupOptions { initial_rebalance_delay_ms: 0, ..GroupOptions::default() };
    options.consumer.max_size = 1;
    let mut sim = Sim::with(options);
    sim.topics(&[("a", 1)]);
    sim.beat(joins("m1", &["a"])).unwrap();
    assert_eq!(sim.beat(joins("m2", &["a"])), Err(ErrorCode::GroupMaxSizeReached));
    assert!(sim.beat(joins("m1", &["a"])).is_ok());
    let join = sim.join(join("m3"));
    assert_eq!(sim.joined(join).error, ErrorCode::GroupMaxSizeReached);
}

#[test]
fn strangers_and_members_of_other_groups_are_unknown() {
    let mut sim = Sim::new();
    sim.topics(&[("a", 1)]);
    sim.beat(joins("m1", &["a"])).unwrap();
    assert_eq!(sim.beat(says("m2", 2)), Err(ErrorCode::UnknownMemberId));
    assert_eq!(sim.beat(says("m2", -1)), Err(ErrorCode::UnknownMemberId));
    let named = ConsumerHeartbeat { instance_id: Some("i".into()), ..says("m1", 2) };
    assert_eq!(sim.beat(named.clone()), Err(ErrorCode::UnknownMemberId));
    assert_eq!(sim.beat(ConsumerHeartbeat { epoch: -1, ..named }), Err(ErrorCode::UnknownMemberId));
    let (mut classic, _) = Sim::stable(1);
    assert_eq!(classic.beat(says("m1", 2)), Err(ErrorCode::GroupIdNotFound));
    assert_eq!(classic.beat(says("m1", -1)), Err(ErrorCode::GroupIdNotFound));
}

#[test]
fn commits_count_from_members_that_are_up_to_date_or_have_had_the_partition_since() {
    let mut sim = Sim::new();
    sim.topics(&[("a", 2), ("t", 2)]);
    assert_eq!(sim.commit_at(nobody(), 1), Ok(vec![ErrorCode::None]), "there is no group yet");
    sim.beat(joins("m1", &["a"])).unwrap();
    assert_eq!(sim.commit_at(nobody(), 1), Err(ErrorCode::UnknownMemberId));
    assert_eq!(sim.commit_at(member("m1", 2), 1), Ok(vec![ErrorCode::None]));
    assert_eq!(sim.commit_at(member("m1", 3), 1), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(sim.commit_at(member("m1", 1), 1), Err(ErrorCode::StaleMemberEpoch), "t is not its own");
    assert_eq!(sim.commit_at(member("m2", 2), 1), Err(ErrorCode::UnknownMemberId));
    let old = Commit { knows_unknown_group: false, offsets: vec![at("t", 0, 1)], ..commit(member("m1", 2)) };
    let token = sim.commit(&old);
    assert_eq!(sim.partitions(token), Err(ErrorCode::UnsupportedVersion));
    sim.pass(1_000);
    let grown = ConsumerHeartbeat { topics: Some(vec!["a".into(), "t".into()]), ..says("m1", 2) };
    assert_eq!(sim.beat(grown).unwrap().epoch, 3);
    let mut commit_a = |epoch: i32, topic: &str| {
        let at = CommitOffset { topic_id: topic_id(topic), ..at(topic, 0, 5) };
        let token = sim.commit(&Commit { offsets: vec![at], ..commit(member("m1", epoch)) });
        sim.partitions(token)
    };
    assert_eq!(commit_a(2, "a"), Ok(vec![ErrorCode::None]), "it has had a since epoch 2");
    assert_eq!(commit_a(2, "t"), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(commit_a(3, "t"), Ok(vec![ErrorCode::None]));
    assert_eq!(commit_a(1, "a"), Err(ErrorCode::StaleMemberEpoch));
}

#[test]
fn who_says_that_it_is_a_member_must_be_one_to_fetch() {
    let mut sim = Sim::new();
    sim.topics(&[("a", 2)]);
    let known = |sim: &Sim, id: Option<&str>, epoch| {
        sim.groups.may_fetch("g", id.map(MemberId::from).as_ref(), epoch)
    };
    assert_eq!(known(&sim, Some("m1"), 1), Ok(()), "there is no group: there are no offsets either");
    sim.beat(joins("m1", &["a"])).unwrap();
    assert_eq!(known(&sim, None, -1), Ok(()));
    assert_eq!(known(&sim, Some("m1"), 2), Ok(()));
    assert_eq!(known(&sim, Some("m1"), 1), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(known(&sim, Some("m2"), 2), Err(ErrorCode::UnknownMemberId));
}
