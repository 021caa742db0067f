//! Which partitions of a coordinator's topic this node leads, and what serves each of them.
//!
//! A shard belongs to one reign: a partition, led by this node since an epoch. With the next epoch another broker may have
//! written to the partition, so that its state is read anew, and what waits for an answer of the old reign is told to look
//! for the coordinator again.

use std::collections::HashMap;

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::ids::{BrokerId, LeaderEpoch, PartitionIndex, Uuid};
use parking_lot::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::metadata::{MetadataImage, PartitionImage};

/// A partition of an internal topic that a node leads, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reign {
    /// By id: a topic that was deleted and made again starts empty.
    pub topic: Uuid,
    pub index: i32,
    pub epoch: LeaderEpoch,
}

impl Reign {
    /// The reign of `node` over a partition.
    ///
    /// # Errors
    /// `NOT_COORDINATOR` where another node leads it, or none. The client asks FindCoordinator then.
    pub fn of(image: &MetadataImage, topic: &str, index: i32, node: BrokerId) -> Result<Self, ErrorCode> {
        let found = image.topic(topic).ok_or(ErrorCode::NotCoordinator)?;
        match found.partition(PartitionIndex(index)) {
            Some(PartitionImage { leader, leader_epoch, .. }) if *leader == node => {
                Ok(Self { topic: found.id, index, epoch: *leader_epoch })
            }
            _ => Err(ErrorCode::NotCoordinator),
        }
    }

    /// All reigns of `node` over partitions of a topic.
    pub fn all<'a>(
        image: &'a MetadataImage,
        topic: &'a str,
        node: BrokerId,
    ) -> impl Iterator<Item = Self> + 'a {
        let count = image.topic(topic).map_or(0, |topic| topic.partitions.len() as i32);
        (0..count).filter_map(move |index| Self::of(image, topic, index, node).ok())
    }

    fn partition(self) -> (Uuid, i32) {
        (self.topic, self.index)
    }
}

/// A shard, and the end of its reign.
#[derive(Debug)]
struct Held<S> {
    shard: S,
    epoch: LeaderEpoch,
    /// Ends the shard's task when it is dropped.
    _end: DropGuard,
}

/// The shards of the partitions that a node leads.
#[derive(Debug)]
pub(super) struct Reigns<S> {
    held: Mutex<HashMap<(Uuid, i32), Held<S>>>,
}

impl<S> Default for Reigns<S> {
    fn default() -> Self {
        Self { held: Mutex::default() }
    }
}

impl<S: Clone> Reigns<S> {
    /// The shard of a reign, begun by `begin` where there is none; the one of an earlier reign ends. `begin` is given what
    /// tells the shard that it is over.
    ///
    /// # Errors
    /// `NOT_COORDINATOR`: the reign is over, and a later one has begun.
    pub fn hold(&self, reign: Reign, begin: impl FnOnce(CancellationToken) -> S) -> Result<S, ErrorCode> {
        let mut held = self.held.lock();
        match held.get(&reign.partition()) {
            Some(found) if found.epoch == reign.epoch => return Ok(found.shard.clone()),
            Some(found) if found.epoch > reign.epoch => return Err(ErrorCode::NotCoordinator),
            _ => {}
        }
        let end = CancellationToken::new();
        // The old one ends before the new one reads the log.
        held.remove(&reign.partition());
        let shard = begin(end.clone());
        let new = Held { shard: shard.clone(), epoch: reign.epoch, _end: end.drop_guard() };
        held.insert(reign.partition(), new);
        Ok(shard)
    }

    /// Whether a reign has its shard.
    pub fn has(&self, reign: Reign) -> bool {
        self.held.lock().get(&reign.partition()).is_some_and(|held| held.epoch == reign.epoch)
    }

    /// Ends the shards of partitions that the node leads no more, or in another epoch.
    pub fn keep_only(&self, image: &MetadataImage, node: BrokerId) {
        self.held.lock().retain(|(topic, index), held| {
            let partition =
                image.topic_by_id(*topic).and_then(|topic| topic.partition(PartitionIndex(*index)));
            // A shard may know more than this image: requests look at the newest.
            partition.is_some_and(|p| p.leader == node && p.leader_epoch <= held.epoch)
        });
    }

    /// Every shard.
    pub fn shards(&self) -> Vec<S> {
        self.held.lock().values().map(|held| held.shard.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{Record, TopicImage};

    const TOPIC: Uuid = Uuid([5; 16]);
    const NODE: BrokerId = BrokerId(1);

    fn image(leaders: &[(i32, i32)]) -> MetadataImage {
        let partition = |(leader, epoch): &(i32, i32)| PartitionImage {
            leader: BrokerId(*leader),
            leader_epoch: LeaderEpoch(*epoch),
            partition_epoch: 0,
            replicas: [1, 2, 3].map(BrokerId).to_vec(),
            isr: [1, 2, 3].map(BrokerId).to_vec(),
        };
        let mut image = MetadataImage::new("c".into());
        let partitions = leaders.iter().map(partition).collect();
        image.apply(&Record::Topic(TopicImage { name: "t".into(), id: TOPIC, partitions }));
        image
    }

    #[test]
    fn a_partition_is_coordinated_by_its_leader_alone() {
        let image = image(&[(1, 4), (2, 0), (-1, 7), (1, 0)]);
        let of = |index| Reign::of(&image, "t", index, NODE);
        assert_eq!(of(0), Ok(Reign { topic: TOPIC, index: 0, epoch: LeaderEpoch(4) }));
        assert_eq!(of(1), Err(ErrorCode::NotCoordinator));
        assert_eq!(of(2), Err(ErrorCode::NotCoordinator));
        assert_eq!(of(9), Err(ErrorCode::NotCoordinator));
        assert_eq!(Reign::of(&image, "u", 0, NODE), Err(ErrorCode::NotCoordinator));
        assert_eq!(Reign::all(&image, "t", NODE).map(|reign| reign.index).collect::<Vec<_>>(), [0, 3]);
    }

    #[test]
    fn each_reign_has_a_shard_of_its_own() {
        let reigns: Reigns<CancellationToken> = Reigns::default();
        let at = |epoch| Reign { topic: TOPIC, index: 0, epoch: LeaderEpoch(epoch) };
        let first = reigns.hold(at(3), |end| end).unwrap();
        assert!(reigns.hold(at(3), |_| panic!("there is one")).is_ok());
        let begun = |end: CancellationToken| {
            assert!(first.is_cancelled(), "the old one ends first");
            end
        };
        let second = reigns.hold(at(5), begun).unwrap();
        assert!(!second.is_cancelled() && reigns.has(at(5)) && !reigns.has(at(3)));
        assert_eq!(reigns.hold(at(3), |end| end).err(), Some(ErrorCode::NotCoordinator));
        reigns.keep_only(&image(&[(1, 4)]), NODE);
        assert!(!second.is_cancelled(), "the image is older");
        reigns.keep_only(&image(&[(2, 6)]), NODE);
        assert!(second.is_cancelled() && reigns.shards().is_empty());
        let third = reigns.hold(at(7), |end| end).unwrap();
        reigns.keep_only(&image(&[(1, 8)]), NODE);
        assert!(third.is_cancelled());
    }
}
