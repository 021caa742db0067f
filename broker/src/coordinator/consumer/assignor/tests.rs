use proptest::prelude::*;

use super::*;

fn topic(n: u8) -> Uuid {
    Uuid([n; 16])
}

fn member(id: &str, topics: &[u8]) -> SpecMember {
    let topics = topics.iter().map(|n| topic(*n)).collect();
    SpecMember { id: id.into(), instance_id: None, topics: Arc::new(topics), before: Arc::default() }
}

fn spec(members: Vec<SpecMember>, topics: &[(u8, i32)]) -> Spec {
    Spec { members, topics: topics.iter().map(|(n, count)| (topic(*n), *count)).collect() }
}

fn sizes(assignment: &HashMap<MemberId, Partitions>) -> Vec<usize> {
    let mut sizes: Vec<usize> =
        assignment.values().map(|parts| parts.values().map(BTreeSet::len).sum()).collect();
    sizes.sort_unstable();
    sizes
}

/// The same members with what they were given.
fn again(spec: &Spec, assignment: &HashMap<MemberId, Partitions>) -> Spec {
    let mut next = spec.clone();
    for member in &mut next.members {
        member.before = Arc::new(assignment.get(&member.id).cloned().unwrap_or_default());
    }
    next
}

fn moves(before: &HashMap<MemberId, Partitions>, after: &HashMap<MemberId, Partitions>) -> usize {
    let all = |parts: &Partitions| -> BTreeSet<(Uuid, i32)> {
        parts.iter().flat_map(|(topic, parts)| parts.iter().map(move |index| (*topic, *index))).collect()
    };
    before.iter().map(|(id, parts)| all(parts).difference(&all(&after[id])).count()).sum()
}

#[test]
fn range_gives_neighbours_and_the_first_members_more() {
    let spec =
        spec(vec![member("b", &[1, 2]), member("a", &[1, 2]), member("c", &[1, 2])], &[(1, 4), (2, 2)]);
    let assignment = Assignor::Range.assign(&spec);
    let expected = |parts: &[(u8, &[i32])]| -> Partitions {
        parts.iter().map(|(n, indexes)| (topic(*n), indexes.iter().copied().collect())).collect()
    };
    assert_eq!(assignment[&MemberId::from("a")], expected(&[(1, &[0, 1]), (2, &[0])]));
    assert_eq!(assignment[&MemberId::from("b")], expected(&[(1, &[2]), (2, &[1])]));
    assert_eq!(assignment[&MemberId::from("c")], expected(&[(1, &[3])]));
}

#[test]
fn range_puts_static_members_first_whatever_their_ids() {
    let mut members = vec![member("a", &[1]), member("z", &[1])];
    members[1].instance_id = Some("i".into());
    let assignment = Assignor::Range.assign(&spec(members, &[(1, 3)]));
    assert_eq!(assignment[&MemberId::from("z")][&topic(1)], BTreeSet::from([0, 1]));
    assert_eq!(assignment[&MemberId::from("a")][&topic(1)], BTreeSet::from([2]));
}

#[test]
fn a_new_member_takes_only_its_share() {
    let mut spec = spec(vec![member("a", &[1])], &[(1, 6)]);
    let alone = Assignor::Uniform.assign(&spec);
    spec.members.push(member("b", &[1]));
    let both = Assignor::Uniform.assign(&again(&spec, &alone));
    assert_eq!(sizes(&both), [3, 3]);
    spec.members.push(member("c", &[1]));
    let three = Assignor::Uniform.assign(&again(&spec, &both));
    assert_eq!((sizes(&three), moves(&both, &three)), (vec![2, 2, 2], 2));
    spec.members.remove(0);
    let left = Assignor::Uniform.assign(&again(&spec, &three));
    assert_eq!(sizes(&left), [3, 3]);
    assert!(
        left.iter().all(|(id, parts)| three[id][&topic(1)].is_subset(&parts[&topic(1)])),
        "nobody lost any"
    );
}

#[test]
fn members_with_other_topics_are_evened_out_as_far_as_they_overlap() {
    let spec = spec(vec![member("a", &[1, 2]), member("b", &[1])], &[(1, 4), (2, 4)]);
    let assignment = Assignor::Uniform.assign(&spec);
    assert_eq!(sizes(&assignment), [4, 4]);
    assert_eq!(assignment[&MemberId::from("b")][&topic(1)].len(), 4);
}

#[test]
fn nobody_and_nothing_are_assigned_nothing() {
    for assignor in [Assignor::Uniform, Assignor::Range] {
        assert!(assignor.assign(&Spec::default()).is_empty());
        let assignment = assignor.assign(&spec(vec![member("a", &[1])], &[(1, 0)]));
        assert!(assignment[&MemberId::from("a")].is_empty());
    }
}

#[test]
fn names_are_those_of_kafka() {
    assert_eq!(
        Assignor::find("org.apache.kafka.coordinator.group.assignor.RangeAssignor"),
        Some(Assignor::Range)
    );
    assert_eq!(Assignor::find("uniform"), Some(Assignor::Uniform));
    assert_eq!(Assignor::find("sticky"), None);
}

fn any_spec() -> impl Strategy<Value = Spec> {
    let members = prop::collection::vec(prop::collection::btree_set(1u8..5, 0..4), 1..7);
    (members, prop::collection::vec(0i32..9, 4), any::<bool>()).prop_map(|(members, counts, same)| {
        let first = members[0].clone();
        let topics_of = |topics: BTreeSet<u8>| if same { first.clone() } else { topics };
        let members = members.into_iter().enumerate().map(|(at, topics)| {
            let topics: Vec<u8> = topics_of(topics).into_iter().collect();
            member(&format!("m{at}"), &topics)
        });
        let counts: Vec<_> = (1u8..5).zip(counts).collect();
        spec(members.collect(), &counts)
    })
}

proptest! {
    #[test]
    fn each_partition_that_is_read_has_one_reader_and_nothing_moves_without_a_reason(
        spec in any_spec(), leaving in 0usize..6, range: bool,
    ) {
        let assignor = if range { Assignor::Range } else { Assignor::Uniform };
        let mut spec = spec;
        let mut before = HashMap::new();
        for _ in 0..2 {
            let assignment = assignor.assign(&again(&spec, &before));
            let mut seen = BTreeSet::new();
            for member in &spec.members {
                for (topic, parts) in &assignment[&member.id] {
                    prop_assert!(member.topics.contains(topic), "it does not read that");
                    prop_assert!(!parts.is_empty());
                    for index in parts {
                        prop_assert!(seen.insert((*topic, *index)), "two have it");
                    }
                }
            }
            let read: BTreeSet<_> = spec.members.iter().flat_map(|m| m.topics.iter().copied()).collect();
            let all: i32 = read.iter().map(|topic| spec.partitions(*topic)).sum();
            prop_assert_eq!(seen.len(), all as usize, "everything is assigned");
            if !range && spec.is_homogeneous() {
                let sizes = sizes(&assignment);
                prop_assert!(sizes[sizes.len() - 1] - sizes[0] <= 1);
            }
            let same = assignor.assign(&again(&spec, &assignment));
            prop_assert_eq!(moves(&assignment, &same), 0, "a second look changes nothing");
            before = assignment;
            if spec.members.len() > 1 {
                spec.members.remove(leaving % spec.members.len());
            }
        }
    }
}
