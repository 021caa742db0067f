//! Members in order, static ones first, get neighbouring partitions of each topic that they read.

use std::collections::{BTreeSet, HashMap};

use aqueduct_protocol::ids::Uuid;

use super::{Partitions, Spec, SpecMember};
use crate::coordinator::ids::MemberId;

/// How a topic is cut up among those who read it.
#[derive(Default)]
struct Cut {
    readers: i32,
    /// How many have got their part.
    served: i32,
    next: i32,
}

pub fn assign(spec: &Spec) -> HashMap<MemberId, Partitions> {
    let mut members: Vec<&SpecMember> = spec.members.iter().collect();
    // Static members keep their place over restarts: they are ordered by instance, and come before the others.
    members
        .sort_by_key(|member| (member.instance_id.is_none(), member.instance_id.clone(), member.id.clone()));
    let mut cuts: HashMap<Uuid, Cut> = HashMap::new();
    for topic in members.iter().flat_map(|member| &*member.topics) {
        cuts.entry(*topic).or_default().readers += 1;
    }
    let mut assignment = HashMap::with_capacity(members.len());
    for member in members {
        let mut given = Partitions::new();
        for topic in &*member.topics {
            let Some(cut) = cuts.get_mut(topic) else { continue };
            let partitions = spec.partitions(*topic);
            let extra = i32::from(cut.served < partitions % cut.readers);
            let end = cut.next + partitions / cut.readers + extra;
            let part: BTreeSet<i32> = (cut.next..end).collect();
            (cut.served, cut.next) = (cut.served + 1, end);
            if !part.is_empty() {
                given.insert(*topic, part);
            }
        }
        assignment.insert(member.id.clone(), given);
    }
    assignment
}
