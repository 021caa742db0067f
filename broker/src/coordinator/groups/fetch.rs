//! OffsetFetch.

use std::sync::Arc;

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::ids::Uuid;

use super::Groups;
use crate::coordinator::ids::MemberId;
use crate::coordinator::offsets::Committed;
use crate::coordinator::request::FetchTopic;

/// The committed offsets of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedTopic {
    /// Topic name.
    pub name: Arc<str>,
    /// As asked for.
    pub id: Uuid,
    /// Partition index and its offset, `None` where there is none.
    pub partitions: Vec<(i32, Option<Committed>)>,
}

impl Groups {
    /// Whether someone may see a group's offsets; `member` and `epoch` are what it says of itself.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID`, `STALE_MEMBER_EPOCH` for a member of a consumer group that is not up to date.
    pub fn may_fetch(&self, group: &str, member: Option<&MemberId>, epoch: i32) -> Result<(), ErrorCode> {
        self.groups.get(group).map_or(Ok(()), |group| group.may_fetch(member, epoch))
    }

    /// Offsets of the partitions asked for; of all that have one where `topics` is `None`. A group that is unknown has
    /// none. Offsets of an older topic of the same name are not shown where the id says which one is meant.
    pub fn fetch(&self, group: &str, topics: Option<&[FetchTopic]>) -> Vec<FetchedTopic> {
        let offsets = self.groups.get(group).map(|group| &group.offsets);
        match topics {
            Some(topics) => topics
                .iter()
                .map(|topic| {
                    let find = |index: i32| {
                        offsets?.get(&topic.name, index).filter(|at| at.is_of(topic.id)).cloned()
                    };
                    let partitions = topic.partitions.iter().map(|index| (*index, find(*index))).collect();
                    FetchedTopic { name: topic.name.clone(), id: topic.id, partitions }
                })
                .collect(),
            None => offsets
                .into_iter()
                .flat_map(|offsets| offsets.topics())
                .map(|(name, partitions)| {
                    let partitions =
                        partitions.iter().map(|(index, at)| (*index, Some(at.clone()))).collect();
                    FetchedTopic { name: name.clone(), id: Uuid::ZERO, partitions }
                })
                .collect(),
        }
    }
}
