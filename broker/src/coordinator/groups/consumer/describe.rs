//! ConsumerGroupDescribe: a group with its epochs, and its members with what they have and what is meant for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use aqueduct_protocol::ids::Uuid;

use crate::coordinator::consumer::entry::Terms;
use crate::coordinator::consumer::partitions::{Partitions, without_epochs};
use crate::coordinator::groups::Groups;
use crate::coordinator::ids::MemberId;

/// A consumer group in full.
#[derive(Clone, Debug, PartialEq)]
pub struct DescribedConsumerGroup {
    /// Kafka's name for the state.
    pub state: &'static str,
    pub epoch: i32,
    pub target_epoch: i32,
    /// The assignor that is used.
    pub assignor: Arc<str>,
    /// Everyone in it.
    pub members: Vec<DescribedConsumerMember>,
    /// Names of the topics in assignments; those that are gone are left out.
    pub topics: BTreeMap<Uuid, Arc<str>>,
}

/// A member in full.
#[derive(Clone, Debug, PartialEq)]
pub struct DescribedConsumerMember {
    pub id: MemberId,
    /// How it describes itself.
    pub terms: Arc<Terms>,
    pub epoch: i32,
    /// What it may read.
    pub assigned: Partitions,
    /// What is meant for it.
    pub target: Arc<Partitions>,
}

impl Groups {
    /// One consumer group; `None` where there is none of that name, `Some(None)` where it is of another kind.
    pub fn describe_consumer(&self, id: &str) -> Option<Option<DescribedConsumerGroup>> {
        let group = self.groups.get(id)?;
        let Some(consumer) = group.as_consumer() else { return Some(None) };
        let state = &consumer.state;
        let default = self.options.consumer.assignors.first().map_or("uniform", |assignor| assignor.name());
        let members: Vec<_> = state
            .members()
            .map(|(id, member)| DescribedConsumerMember {
                id: id.clone(),
                terms: member.terms.clone(),
                epoch: member.standing.epoch,
                assigned: without_epochs(&member.standing.assigned),
                target: state.target(id),
            })
            .collect();
        let mut topics = BTreeMap::new();
        for id in members.iter().flat_map(|member| member.assigned.keys().chain(member.target.keys())) {
            if let Some(topic) = self.image.topic_by_id(*id) {
                topics.insert(*id, Arc::from(&*topic.name));
            }
        }
        Some(Some(DescribedConsumerGroup {
            state: state.state().name(),
            epoch: state.epoch(),
            target_epoch: state.target_epoch().epoch,
            assignor: state.preferred_assignor().cloned().unwrap_or_else(|| default.into()),
            members,
            topics,
        }))
    }
}
