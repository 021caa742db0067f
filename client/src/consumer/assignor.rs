//! Dividing the partitions of a group among its members. Pure.

mod range;
mod round_robin;
mod sticky;

use std::collections::BTreeMap;

use aqueduct_protocol::ids::PartitionIndex;
use bytes::{BufMut as _, Bytes, BytesMut};
use bytestring::ByteString;

use super::protocol::MemberSubscription;
use crate::config::AssignmentStrategy;
use crate::types::TopicPartition;

/// What a member brings to an assignment.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) id: ByteString,
    pub(super) instance_id: Option<ByteString>,
    pub(super) subscription: MemberSubscription,
}

/// Partitions by member id; every member has an entry.
pub(super) type Assignment = BTreeMap<ByteString, Vec<TopicPartition>>;

/// Divides the partitions of `topics` (name, number of partitions).
pub(super) fn assign(
    strategy: AssignmentStrategy,
    members: &[Member],
    topics: &BTreeMap<ByteString, usize>,
) -> Assignment {
    match strategy {
        AssignmentStrategy::Range => range::assign(members, topics),
        AssignmentStrategy::RoundRobin => round_robin::assign(members, topics),
        AssignmentStrategy::Sticky => sticky::assign(members, topics),
        AssignmentStrategy::CooperativeSticky => {
            let mut assignment = sticky::assign(members, topics);
            sticky::hold_back(members, &mut assignment);
            assignment
        }
    }
}

/// What a member tells besides its topics, in the bytes of the Java assignor of that name.
pub(super) fn user_data(
    strategy: AssignmentStrategy,
    owned: &[TopicPartition],
    generation: i32,
) -> Option<Bytes> {
    match strategy {
        AssignmentStrategy::Range | AssignmentStrategy::RoundRobin => None,
        AssignmentStrategy::Sticky => Some(sticky::user_data(owned, generation)),
        AssignmentStrategy::CooperativeSticky => {
            let mut out = BytesMut::with_capacity(4);
            out.put_i32(generation);
            Some(out.freeze())
        }
    }
}

/// An assignment with nothing for anybody.
fn nothing(members: &[Member]) -> Assignment {
    members.iter().map(|member| (member.id.clone(), Vec::new())).collect()
}

fn partition(topic: &ByteString, index: usize) -> TopicPartition {
    // No topic has 2^31 partitions.
    TopicPartition { topic: topic.clone(), partition: PartitionIndex(index as i32) }
}

/// Members in Java's order: static ones first, by instance id, then the others by member id.
fn in_order(members: &[Member]) -> Vec<&Member> {
    let mut sorted: Vec<&Member> = members.iter().collect();
    sorted
        .sort_by_key(|member| (member.instance_id.is_none(), member.instance_id.clone(), member.id.clone()));
    sorted
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(super) fn member(id: &str, topics: &[&str], owned: &[(&str, i32)], generation: i32) -> Member {
        let subscription = MemberSubscription {
            topics: topics.iter().map(|topic| (*topic).into()).collect(),
            owned: owned.iter().map(|(topic, index)| TopicPartition::new(*topic, *index)).collect(),
            generation,
            user_data: None,
        };
        Member { id: id.into(), instance_id: None, subscription }
    }

    pub(super) fn topics(list: &[(&str, usize)]) -> BTreeMap<ByteString, usize> {
        list.iter().map(|(name, count)| ((*name).into(), *count)).collect()
    }

    pub(super) fn shown(assignment: &Assignment) -> Vec<String> {
        assignment
            .iter()
            .map(|(id, partitions)| {
                let mut names: Vec<String> = partitions.iter().map(ToString::to_string).collect();
                names.sort();
                format!("{id}: {}", names.join(" "))
            })
            .collect()
    }

    /// As `RangeAssignor` and `RoundRobinAssignor` say in their documentation.
    #[test]
    fn range_and_round_robin_are_javas() {
        let members = [member("c0", &["t0", "t1"], &[], -1), member("c1", &["t0", "t1"], &[], -1)];
        let topics = topics(&[("t0", 3), ("t1", 3)]);
        let range = assign(AssignmentStrategy::Range, &members, &topics);
        assert_eq!(shown(&range), ["c0: t0-0 t0-1 t1-0 t1-1", "c1: t0-2 t1-2"]);
        let round_robin = assign(AssignmentStrategy::RoundRobin, &members, &topics);
        assert_eq!(shown(&round_robin), ["c0: t0-0 t0-2 t1-1", "c1: t0-1 t1-0 t1-2"]);
    }

    #[test]
    fn members_get_only_what_they_subscribe_to() {
        let members = [
            member("c0", &["t0"], &[], -1),
            member("c1", &["t0", "t1"], &[], -1),
            member("c2", &["t0", "t1", "t2"], &[], -1),
        ];
        let topics = topics(&[("t0", 1), ("t1", 2), ("t2", 3)]);
        let round_robin = assign(AssignmentStrategy::RoundRobin, &members, &topics);
        assert_eq!(shown(&round_robin), ["c0: t0-0", "c1: t1-0", "c2: t1-1 t2-0 t2-1 t2-2"]);
        let sticky = assign(AssignmentStrategy::Sticky, &members, &topics);
        assert_eq!(shown(&sticky), ["c0: t0-0", "c1: t1-0 t1-1", "c2: t2-0 t2-1 t2-2"]);
    }

    #[test]
    fn static_members_come_first() {
        let mut members = [member("a", &["t"], &[], -1), member("b", &["t"], &[], -1)];
        members[1].instance_id = Some("i".into());
        let range = assign(AssignmentStrategy::Range, &members, &topics(&[("t", 1)]));
        assert_eq!(shown(&range), ["a: ", "b: t-0"]);
    }
}
