use aqueduct_protocol::ErrorCode;

use super::sim::*;
use crate::coordinator::*;

#[test]
fn a_new_member_is_given_an_id_to_come_back_with() {
    let mut sim = Sim::new();
    let token = sim.join(join(""));
    let reply = sim.joined(token);
    assert_eq!((reply.error, reply.member_id.as_str()), (ErrorCode::MemberIdRequired, "client-1"));
    assert_eq!(reply.generation, Generation::NONE);
    let token = sim.join(join("client-1"));
    sim.pass(0);
    let reply = sim.joined(token);
    assert_eq!((reply.error, reply.generation), (ErrorCode::None, Generation(1)));
    assert_eq!((reply.leader.as_str(), reply.members.len()), ("client-1", 1));
    assert_eq!(reply.protocol.as_deref(), Some("range"));
    assert_eq!(reply.protocol_type.as_deref(), Some("consumer"));
}

#[test]
fn an_old_client_enters_at_once() {
    let mut sim = Sim::new();
    let token = sim.join(Join { needs_member_id: false, ..join("") });
    sim.pass(0);
    assert_eq!(sim.joined(token).error, ErrorCode::None);
}

#[test]
fn joins_that_are_refused() {
    let table: &[(&str, Join, ErrorCode)] = &[
        ("no group", Join { group: "".into(), ..join("") }, ErrorCode::InvalidGroupId),
        ("short session", Join { session_timeout_ms: 5_999, ..join("") }, ErrorCode::InvalidSessionTimeout),
        (
            "long session",
            Join { session_timeout_ms: 1_800_001, ..join("") },
            ErrorCode::InvalidSessionTimeout,
        ),
        ("unknown member", join("x"), ErrorCode::UnknownMemberId),
        (
            "unknown member of an unknown group",
            Join { group: "h".into(), ..join("x") },
            ErrorCode::UnknownMemberId,
        ),
        ("unknown instance with an id", static_join("i", "x"), ErrorCode::UnknownMemberId),
        (
            "other type",
            Join { protocol_type: "connect".into(), ..join("") },
            ErrorCode::InconsistentGroupProtocol,
        ),
        ("nothing in common", join_with("", &["sticky"]), ErrorCode::InconsistentGroupProtocol),
        ("no protocols", join_with("", &[]), ErrorCode::InconsistentGroupProtocol),
        (
            "no protocols in a new group",
            Join { group: "h".into(), ..join_with("", &[]) },
            ErrorCode::InconsistentGroupProtocol,
        ),
        (
            "no protocol type in a new group",
            Join { group: "h".into(), protocol_type: "".into(), ..join("") },
            ErrorCode::InconsistentGroupProtocol,
        ),
    ];
    for (what, request, error) in table {
        let (mut sim, _) = Sim::stable(1);
        let token = sim.join(request.clone());
        let reply = sim.joined(token);
        assert_eq!((reply.error, reply.member_id), (*error, request.member_id.clone()), "{what}");
        assert_eq!(sim.state(), GroupState::Stable, "{what}");
        assert_eq!(sim.groups.len(), 1, "{what}: no trace of a group that never was");
    }
}

#[test]
fn the_first_rebalance_waits_for_more_members_and_longer_while_they_come() {
    let mut sim = Sim::with(GroupOptions::default());
    let first = sim.enter();
    sim.pass(2_999);
    let second = sim.enter();
    sim.pass(3_000);
    assert!(sim.waits(first) && sim.waits(second), "extended once for the second");
    sim.pass(1);
    assert_eq!(sim.joined(first).members.len(), 2);
    assert_eq!(sim.joined(second).generation, Generation(1));
}

#[test]
fn the_wait_for_more_members_ends_with_the_rebalance_timeout() {
    let mut sim = Sim::with(GroupOptions::default());
    let quick = |member: &str| Join { rebalance_timeout_ms: 7_000, needs_member_id: false, ..join(member) };
    let first = sim.join(quick(""));
    for _ in 0..6 {
        sim.pass(1_000);
        sim.join(quick(""));
    }
    sim.pass(999);
    assert!(sim.waits(first));
    sim.pass(1);
    assert_eq!(sim.joined(first).members.len(), 7);
}

#[test]
fn a_rebalance_waits_for_members_and_drops_those_who_do_not_come() {
    let (mut sim, members) = Sim::stable(2);
    let third = sim.enter();
    assert_eq!(sim.state(), GroupState::PreparingRebalance);
    // The follower comes back, the leader only sends heartbeats.
    let second = sim.join(join(members[1].member_id.as_str()));
    for _ in 0..11 {
        sim.pass(5_000);
        assert_eq!(sim.heartbeat(&members[0]), ErrorCode::RebalanceInProgress);
    }
    assert!(sim.waits(second) && sim.waits(third));
    sim.pass(5_000);
    let (second, third) = (sim.joined(second), sim.joined(third));
    assert_eq!(second.generation, Generation(2));
    assert_eq!((second.members.len(), &second.leader), (2, &second.member_id), "the next in line leads");
    assert_eq!((third.members.len(), &third.leader), (0, &second.member_id));
    assert_eq!(sim.heartbeat(&members[0]), ErrorCode::UnknownMemberId);
}

#[test]
fn a_silent_member_does_not_hold_up_a_rebalance_beyond_its_session() {
    let (mut sim, members) = Sim::stable(2);
    let third = sim.enter();
    let second = sim.join(join(members[1].member_id.as_str()));
    sim.pass(i64::from(SESSION_MS) - 1);
    assert!(sim.waits(second));
    sim.pass(1);
    assert_eq!(sim.joined(second).members.len() + sim.joined(third).members.len(), 2);
}

#[test]
fn a_pending_id_holds_up_a_rebalance_until_its_session_ends() {
    let (mut sim, members) = Sim::stable(1);
    let pending = sim.join(join(""));
    assert_eq!(sim.state(), GroupState::Stable, "an id alone changes nothing");
    let token = sim.join(join(members[0].member_id.as_str()));
    assert!(sim.waits(token));
    sim.pass(i64::from(SESSION_MS));
    assert_eq!(sim.joined(token).members.len(), 1);
    let late = sim.joined(pending).member_id;
    let token = sim.join(join(late.as_str()));
    assert_eq!(sim.joined(token).error, ErrorCode::UnknownMemberId);
}

#[test]
fn an_id_that_nobody_comes_back_with_leaves_no_group_behind() {
    let mut sim = Sim::new();
    sim.join(join(""));
    assert_eq!(sim.state(), GroupState::Empty);
    sim.pass(i64::from(SESSION_MS));
    assert!(sim.groups.is_empty());
}

#[test]
fn a_follower_that_asks_again_hears_the_same_and_the_leader_starts_a_rebalance() {
    let (mut sim, members) = Sim::stable(2);
    let token = sim.join(join(members[1].member_id.as_str()));
    assert_eq!(sim.joined(token), JoinReply { members: Vec::new(), ..members[1].clone() });
    assert_eq!(sim.state(), GroupState::Stable);
    let token = sim.join(join(members[0].member_id.as_str()));
    assert!(sim.waits(token));
    assert_eq!(sim.state(), GroupState::PreparingRebalance);
}

#[test]
fn changed_metadata_starts_a_rebalance() {
    let (mut sim, members) = Sim::stable(2);
    let mut changed = join(members[1].member_id.as_str());
    changed.protocols[0].metadata = subscription("u");
    sim.join(changed);
    assert_eq!(sim.state(), GroupState::PreparingRebalance);
}

#[test]
fn a_join_whose_answer_was_lost_is_answered_again_before_the_assignment() {
    let mut sim = Sim::new();
    let (first, second) = (sim.enter(), sim.enter());
    sim.pass(0);
    let (first, second) = (sim.joined(first), sim.joined(second));
    for member in [first, second] {
        let again = sim.join(join(member.member_id.as_str()));
        assert_eq!(sim.joined(again), member);
    }
    assert_eq!(sim.state(), GroupState::CompletingRebalance);
}

#[test]
fn a_join_that_is_sent_again_takes_the_place_of_the_one_that_is_parked() {
    let (mut sim, members) = Sim::stable(2);
    let old = sim.join(join(members[0].member_id.as_str()));
    let new = sim.join(join(members[0].member_id.as_str()));
    assert_eq!(sim.joined(old).error, ErrorCode::RebalanceInProgress);
    assert!(sim.waits(new));
    sim.join(join(members[1].member_id.as_str()));
    assert_eq!(sim.joined(new).error, ErrorCode::None);
}

#[test]
fn the_protocol_with_most_votes_among_the_common_ones_wins() {
    let table: &[(&[&[&str]], &str)] = &[
        (&[&["a", "b"], &["b", "a"], &["b", "a"]], "b"),
        (&[&["a", "b", "c"], &["c", "b"], &["c", "b"]], "c"),
        (&[&["a", "b"], &["c", "b"], &["c", "b"]], "b"),
        (&[&["a", "b"], &["b", "a"]], "a"),
        (&[&["a", "a", "b"], &["b"]], "b"),
    ];
    for (members, chosen) in table {
        let mut sim = Sim::new();
        let tokens: Vec<_> = members
            .iter()
            .map(|protocols| sim.join(Join { needs_member_id: false, ..join_with("", protocols) }))
            .collect();
        sim.pass(0);
        for token in tokens {
            assert_eq!(sim.joined(token).protocol.as_deref(), Some(*chosen), "{members:?}");
        }
    }
}

#[test]
fn the_leader_hears_of_everyones_metadata_as_opaque_bytes() {
    let mut sim = Sim::new();
    let worker = |metadata: &'static [u8]| Join {
        protocol_type: "connect".into(),
        protocols: ["sessioned", "compatible", "default"]
            .map(|name| Protocol { name: name.into(), metadata: metadata.into() })
            .into(),
        needs_member_id: false,
        ..join("")
    };
    let (first, second) = (sim.join(worker(&[0, 2, 0xff])), sim.join(worker(&[])));
    sim.pass(0);
    let leader = sim.joined(first);
    assert_eq!(leader.protocol.as_deref(), Some("sessioned"));
    let told: Vec<_> = leader.members.iter().map(|m| &m.metadata[..]).collect();
    assert_eq!(told, [&[0, 2, 0xff][..], &[]]);
    assert_eq!(sim.joined(second).members, []);
}

#[test]
fn a_full_group_takes_nobody_in() {
    let mut sim =
        Sim::with(GroupOptions { max_size: 2, initial_rebalance_delay_ms: 0, ..GroupOptions::default() });
    let members = sim.stabilize(2);
    let token = sim.join(Join { needs_member_id: false, ..join("") });
    let reply = sim.joined(token);
    assert_eq!((reply.error, reply.member_id.as_str()), (ErrorCode::GroupMaxSizeReached, ""));
    // Those who are in may rejoin, the first two of them.
    let tokens: Vec<_> = members.iter().map(|m| sim.join(join(m.member_id.as_str()))).collect();
    for token in tokens {
        assert_eq!(sim.joined(token).error, ErrorCode::None);
    }
}

#[test]
fn a_new_member_whose_client_is_gone_is_dropped_after_five_minutes() {
    let mut sim =
        Sim::with(GroupOptions { initial_rebalance_delay_ms: 1_000_000, ..GroupOptions::default() });
    let ghost = sim.enter();
    sim.pass(299_999);
    assert!(sim.waits(ghost));
    sim.pass(1);
    let reply = sim.joined(ghost);
    assert_eq!((reply.error, reply.member_id.as_str()), (ErrorCode::UnknownMemberId, ""));
}

#[test]
fn a_member_that_leaves_while_it_joins_is_told_so() {
    let (mut sim, members) = Sim::stable(2);
    let token = sim.join(join(members[0].member_id.as_str()));
    assert_eq!(sim.leave(&[(members[0].member_id.as_str(), None)]), [ErrorCode::None]);
    assert_eq!(sim.joined(token).error, ErrorCode::UnknownMemberId);
    let second = sim.join(join(members[1].member_id.as_str()));
    assert_eq!(sim.joined(second).leader, members[1].member_id);
}

#[test]
fn leaving_is_answered_member_by_member() {
    let (mut sim, members) = Sim::stable(2);
    let pending = sim.join(join(""));
    let pending = sim.joined(pending).member_id;
    let (a, b) = (members[0].member_id.as_str(), members[1].member_id.as_str());
    assert_eq!(
        sim.leave(&[
            ("x", None),
            (a, Some("i")),
            ("", Some("i")),
            ("", None),
            (pending.as_str(), None),
            (b, None)
        ]),
        [
            ErrorCode::UnknownMemberId,
            ErrorCode::UnknownMemberId,
            ErrorCode::UnknownMemberId,
            ErrorCode::UnknownMemberId,
            ErrorCode::None,
            ErrorCode::None
        ]
    );
    assert_eq!(sim.state(), GroupState::PreparingRebalance);
    assert_eq!(sim.leave(&[(a, None)]), [ErrorCode::None]);
    assert_eq!(sim.state(), GroupState::Empty);
    assert_eq!(sim.heartbeat(&members[0]), ErrorCode::UnknownMemberId);
    let Some(Record::Group { value: Some(last), .. }) = sim.log.last() else { panic!("{:?}", sim.log) };
    assert_eq!((last.generation, last.members.len(), last.leader.clone()), (Generation(2), 0, None));

    let mut sim = Sim::new();
    assert_eq!(sim.leave(&[("x", None), ("y", None)]), [ErrorCode::UnknownMemberId; 2]);
}

#[test]
fn ten_thousand_members_join_sync_and_fall_silent_without_a_stall() {
    const MEMBERS: usize = 10_000;
    let mut sim = Sim::with(GroupOptions { initial_rebalance_delay_ms: 1_000, ..GroupOptions::default() });
    let started = std::time::Instant::now();
    let old = || Join { needs_member_id: false, ..join("") };
    let joins: Vec<_> = (0..MEMBERS).map(|_| sim.join(old())).collect();
    assert!(sim.waits(joins[0]), "they are parked until the first rebalance is over");
    sim.pass(2_000);
    let members: Vec<_> = joins.into_iter().map(|token| sim.joined(token)).collect();
    assert_eq!(members[0].members.len(), MEMBERS, "the first leads");
    let syncs: Vec<_> = members[1..].iter().map(|member| sim.sync(sync(member))).collect();
    sim.sync(assignment(&members[0]));
    assert!(syncs.iter().all(|token| !sim.waits(*token)));
    assert_eq!(sim.heartbeat(&members[MEMBERS - 1]), ErrorCode::None);
    sim.pass(120_000);
    assert_eq!(sim.state(), GroupState::Empty);
    // A debug build on a busy machine takes a second or two; anything quadratic takes minutes.
    assert!(started.elapsed() < std::time::Duration::from_secs(60), "{:?}", started.elapsed());
}
