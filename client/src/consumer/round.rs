//! One round of a rebalance: join, assign where this member leads, sync, and look up where to read from.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aqueduct_protocol::ids::Offset;
use bytes::Bytes;
use bytestring::ByteString;

use super::assignor::{self, Member};
use super::protocol::{self, MemberSubscription};
use crate::client::{Client, missing};
use crate::config::AssignmentStrategy;
use crate::error::{Error, Result};
use crate::group::{GroupMember, JoinOutcome, SyncOutcome};
use crate::types::TopicPartition;

/// What a round needs to know.
pub(super) struct Round {
    pub(super) client: Client,
    pub(super) member: GroupMember,
    pub(super) strategies: Vec<AssignmentStrategy>,
    pub(super) topics: BTreeSet<ByteString>,
    /// What this member owns, and since which generation.
    pub(super) owned: Vec<TopicPartition>,
    pub(super) generation: i32,
}

/// How it ended.
pub(super) enum RoundOutcome {
    /// Begin another one.
    Again,
    Assigned(Assigned),
}

/// What a member has after a round.
pub(super) struct Assigned {
    pub(super) generation: i32,
    pub(super) partitions: Vec<TopicPartition>,
    /// Committed offsets of those that are new.
    pub(super) committed: HashMap<TopicPartition, Offset>,
    /// What was owned before was lost on the way.
    pub(super) was_lost: bool,
    /// What the leader went by: topics and how many partitions they had.
    pub(super) led: Option<BTreeMap<ByteString, usize>>,
}

impl Round {
    pub(super) async fn run(self) -> Result<RoundOutcome> {
        let joined = self.member.join(self.protocols()).await?;
        tracing::debug!(
            generation = joined.generation,
            member = &*joined.member_id,
            leads = joined.is_leader(),
            protocol = &*joined.protocol,
            "joined the group"
        );
        let mut led = None;
        let assignments = if joined.is_leader() {
            let (assignments, topics) = self.lead(&joined).await?;
            led = Some(topics);
            if joined.skip_assignment { Vec::new() } else { assignments }
        } else {
            Vec::new()
        };
        let bytes = match self.member.sync(assignments).await? {
            SyncOutcome::Rejoin => return Ok(RoundOutcome::Again),
            SyncOutcome::Assigned(bytes) => bytes,
        };
        let partitions = protocol::decode_assignment(bytes).map_err(|why| {
            Error::Invalid(format!(
                "the assignment of the group's leader {} cannot be read: {why}",
                joined.leader_id
            ))
        })?;
        let new = partitions.iter().filter(|p| joined.was_lost || !self.owned.contains(p)).cloned();
        let new: Vec<TopicPartition> = new.collect();
        let committed = self.member.committed(&new).await?;
        let committed = committed.into_iter().map(|(partition, offset)| (partition, offset.offset));
        Ok(RoundOutcome::Assigned(Assigned {
            generation: joined.generation,
            partitions,
            committed: committed.collect(),
            was_lost: joined.was_lost,
            led,
        }))
    }

    fn protocols(&self) -> Vec<(ByteString, Bytes)> {
        let subscription = |strategy| MemberSubscription {
            topics: self.topics.iter().cloned().collect(),
            owned: self.owned.clone(),
            generation: self.generation,
            user_data: assignor::user_data(strategy, &self.owned, self.generation),
        };
        let named = |strategy: &AssignmentStrategy| {
            (ByteString::from_static(strategy.protocol_name()), subscription(*strategy).encode())
        };
        self.strategies.iter().map(named).collect()
    }

    /// Divides the partitions among all members.
    async fn lead(
        &self,
        joined: &JoinOutcome,
    ) -> Result<(Vec<(ByteString, Bytes)>, BTreeMap<ByteString, usize>)> {
        let strategy = self.strategies.iter().find(|strategy| strategy.protocol_name() == &*joined.protocol);
        let strategy = *strategy.ok_or_else(|| {
            Error::Invalid(format!(
                "the coordinator chose protocol '{}', which was not offered",
                joined.protocol
            ))
        })?;
        let mut members = Vec::with_capacity(joined.members.len());
        for member in &joined.members {
            let subscription = MemberSubscription::decode(member.metadata.clone()).map_err(|why| {
                Error::Invalid(format!(
                    "the subscription of group member {} cannot be read: {why}",
                    member.member_id
                ))
            })?;
            let (id, instance_id) = (member.member_id.clone(), member.instance_id.clone());
            members.push(Member { id, instance_id, subscription });
        }
        let wanted: BTreeSet<&ByteString> =
            members.iter().flat_map(|member| &member.subscription.topics).collect();
        let wanted: Vec<ByteString> = wanted.into_iter().cloned().collect();
        let image = self.client.metadata(&wanted).await?;
        // What this member asks for and cannot have is its own affair; the others lead after it.
        for topic in self.topics.iter().filter(|topic| image.topic(topic).is_none()) {
            let why = missing(&image, topic);
            if why.is_refused() {
                return Err(why);
            }
        }
        let count = |topic: &ByteString| image.topic(topic).map_or(0, |known| known.partitions.len());
        let topics: BTreeMap<ByteString, usize> = wanted.iter().map(|t| (t.clone(), count(t))).collect();
        let assignment = assignor::assign(strategy, &members, &topics);
        let encoded = assignment.into_iter().map(|(id, list)| (id, protocol::encode_assignment(&list)));
        Ok((encoded.collect(), topics))
    }
}
