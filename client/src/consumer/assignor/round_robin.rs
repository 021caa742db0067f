//! All partitions of all topics in turn to the members that subscribe to them.

use std::collections::BTreeMap;

use bytestring::ByteString;

use super::{Assignment, Member, in_order, nothing, partition};

pub(super) fn assign(members: &[Member], topics: &BTreeMap<ByteString, usize>) -> Assignment {
    let mut assignment = nothing(members);
    let members = in_order(members);
    let mut turn = 0;
    for (topic, count) in topics {
        if !members.iter().any(|member| member.subscription.topics.contains(topic)) {
            continue;
        }
        for index in 0..*count {
            while !members[turn % members.len()].subscription.topics.contains(topic) {
                turn += 1;
            }
            let member = members[turn % members.len()];
            assignment.entry(member.id.clone()).or_default().push(partition(topic, index));
            turn += 1;
        }
    }
    assignment
}
