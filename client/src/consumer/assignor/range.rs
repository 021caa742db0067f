//! Topic by topic: the members that subscribe to it get contiguous ranges, the first ones one partition more.

use std::collections::BTreeMap;

use bytestring::ByteString;

use super::{Assignment, Member, in_order, nothing, partition};

pub(super) fn assign(members: &[Member], topics: &BTreeMap<ByteString, usize>) -> Assignment {
    let mut assignment = nothing(members);
    let members = in_order(members);
    for (topic, count) in topics {
        let subscribed: Vec<&&Member> =
            members.iter().filter(|member| member.subscription.topics.contains(topic)).collect();
        let mut next = 0;
        for (at, member) in subscribed.iter().enumerate() {
            let share = count / subscribed.len() + usize::from(at < count % subscribed.len());
            let range = (next..next + share).map(|index| partition(topic, index));
            assignment.entry(member.id.clone()).or_default().extend(range);
            next += share;
        }
    }
    assignment
}
