//! Which log directory holds each replica, and which directories a broker has at the moment (KIP-858).
//!
//! A broker that starts with one of its disks missing must not take the partitions on it for new ones: the assignment
//! says that they are elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aqueduct_protocol::ids::{BrokerId, PartitionIndex, Uuid};
use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{MetadataImage, Record, TopicImage};

/// Partition, and the directory of its replica.
type Assigned = (i32, Uuid);

/// One agreed change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectoryRecord {
    /// Replicas of a broker are in these directories from now on.
    Assigned { topic: Uuid, broker: BrokerId, partitions: Vec<Assigned> },
    /// Every directory that a broker can use.
    Online { broker: BrokerId, directories: BTreeSet<Uuid> },
}

/// Directories by partition and broker.
type ByReplica = BTreeMap<(i32, BrokerId), Uuid>;

/// What the brokers' directories hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DirectoriesImage {
    /// By topic, then by partition and broker.
    assigned: BTreeMap<Uuid, Arc<ByReplica>>,
    online: BTreeMap<BrokerId, BTreeSet<Uuid>>,
    /// Replicas in each directory.
    counts: BTreeMap<Uuid, usize>,
}

impl DirectoriesImage {
    /// The directory of a replica, where that was settled.
    pub fn of(&self, topic: Uuid, index: PartitionIndex, broker: BrokerId) -> Option<Uuid> {
        self.assigned.get(&topic)?.get(&(index.0, broker)).copied()
    }

    /// Whether a replica is in a directory that its broker cannot use.
    pub fn is_offline(&self, topic: Uuid, index: PartitionIndex, broker: BrokerId) -> bool {
        match (self.of(topic, index, broker), self.online.get(&broker)) {
            (Some(directory), Some(online)) => !online.contains(&directory),
            _ => false,
        }
    }

    /// The directories that a broker can use, where it has told.
    pub fn online(&self, broker: BrokerId) -> Option<&BTreeSet<Uuid>> {
        self.online.get(&broker)
    }

    pub(super) fn apply(&mut self, record: &DirectoryRecord) {
        match record {
            DirectoryRecord::Assigned { topic, broker, partitions } => {
                let of_topic = Arc::make_mut(self.assigned.entry(*topic).or_default());
                for (index, directory) in partitions {
                    if let Some(before) = of_topic.insert((*index, *broker), *directory) {
                        self.counts.entry(before).and_modify(|count| *count -= 1);
                    }
                    *self.counts.entry(*directory).or_default() += 1;
                }
            }
            DirectoryRecord::Online { broker, directories } => {
                self.online.insert(*broker, directories.clone());
            }
        }
    }

    pub(super) fn forget(&mut self, topic: Uuid) {
        for directory in self.assigned.remove(&topic).iter().flat_map(|of_topic| of_topic.values()) {
            self.counts.entry(*directory).and_modify(|count| *count -= 1);
        }
        self.counts.retain(|_, count| *count > 0);
    }

    pub(super) fn to_records(&self) -> Vec<Record> {
        let online = self.online.iter().map(|(broker, directories)| DirectoryRecord::Online {
            broker: *broker,
            directories: directories.clone(),
        });
        let assigned = self.assigned.iter().flat_map(|(topic, of_topic)| {
            let mut by_broker: BTreeMap<BrokerId, Vec<Assigned>> = BTreeMap::new();
            for ((index, broker), directory) in &**of_topic {
                by_broker.entry(*broker).or_default().push((*index, *directory));
            }
            by_broker.into_iter().map(|(broker, partitions)| DirectoryRecord::Assigned {
                topic: *topic,
                broker,
                partitions,
            })
        });
        online.chain(assigned).map(Record::Directory).collect()
    }
}

/// Places the replicas of a topic's partitions from `first` on, each in the directory of its broker that holds the fewest.
/// A broker that has not told of its directories places its own.
pub(super) fn place(image: &MetadataImage, topic: &TopicImage, first: usize) -> Vec<Record> {
    let directories = &image.directories;
    let mut counts: BTreeMap<BrokerId, Vec<(usize, Uuid)>> = BTreeMap::new();
    for (broker, online) in &directories.online {
        let count = |id: &Uuid| (directories.counts.get(id).copied().unwrap_or(0), *id);
        counts.insert(*broker, online.iter().map(count).collect());
    }
    let mut placed: BTreeMap<BrokerId, Vec<Assigned>> = BTreeMap::new();
    for (index, partition) in topic.partitions.iter().enumerate().skip(first) {
        for broker in &partition.replicas {
            let fewest = counts.get_mut(broker).and_then(|counts| counts.iter_mut().min());
            if let Some((count, directory)) = fewest {
                *count += 1;
                placed.entry(*broker).or_default().push((index as i32, *directory));
            }
        }
    }
    let record = |(broker, partitions)| DirectoryRecord::Assigned { topic: topic.id, broker, partitions };
    placed.into_iter().map(|placed| Record::Directory(record(placed))).collect()
}

/// Settles where replicas of a broker are; what is known already makes no record.
pub(super) fn assign(
    image: &MetadataImage,
    broker: BrokerId,
    found: &[(Uuid, PartitionIndex, Uuid)],
) -> Vec<Record> {
    let mut by_topic: BTreeMap<Uuid, Vec<Assigned>> = BTreeMap::new();
    for (topic, index, directory) in found {
        let is_known = image.directories.of(*topic, *index, broker) == Some(*directory);
        let exists = image.topic_by_id(*topic).is_some_and(|topic| topic.partition(*index).is_some());
        if exists && !is_known {
            by_topic.entry(*topic).or_default().push((index.0, *directory));
        }
    }
    let record = |(topic, partitions)| DirectoryRecord::Assigned { topic, broker, partitions };
    by_topic.into_iter().map(|entry| Record::Directory(record(entry))).collect()
}

/// A broker tells which directories it can use: partitions in others lose it as their leader, and those that come back
/// get it again.
pub(super) fn online(image: &MetadataImage, broker: BrokerId, directories: &BTreeSet<Uuid>) -> Vec<Record> {
    let mut records = Vec::new();
    if image.directories.online(broker) != Some(directories) {
        let directories = directories.clone();
        records.push(Record::Directory(DirectoryRecord::Online { broker, directories }));
    }
    for topic in image.topics() {
        if let Some(changed) = elect(image, topic, broker, directories) {
            records.push(Record::Topic(changed));
        }
    }
    records
}

/// The topic with other leaders, where that takes any.
fn elect(
    image: &MetadataImage,
    topic: &TopicImage,
    broker: BrokerId,
    online: &BTreeSet<Uuid>,
) -> Option<TopicImage> {
    let is_offline = |index: PartitionIndex, replica: BrokerId| {
        let directory = image.directories.of(topic.id, index, replica);
        match replica == broker {
            true => directory.is_some_and(|directory| !online.contains(&directory)),
            false => image.directories.is_offline(topic.id, index, replica),
        }
    };
    let mut changed: Option<TopicImage> = None;
    for (at, partition) in topic.partitions.iter().enumerate() {
        let index = PartitionIndex(at as i32);
        let is_led = partition.leader != BrokerId(-1);
        if is_led && !(partition.leader == broker && is_offline(index, broker)) {
            continue;
        }
        let fit = |id: &&BrokerId| image.brokers.contains_key(id) && !is_offline(index, **id);
        let leader = partition.isr.iter().find(fit).copied().unwrap_or(BrokerId(-1));
        if leader != partition.leader {
            let partition = &mut changed.get_or_insert_with(|| topic.clone()).partitions[at];
            partition.leader = leader;
            partition.leader_epoch.0 += 1;
            partition.partition_epoch += 1;
        }
    }
    changed
}

pub(super) fn encode(record: &DirectoryRecord, out: &mut BytesMut) {
    match record {
        DirectoryRecord::Assigned { topic, broker, partitions } => {
            out.put_u8(0);
            out.put_slice(&topic.0);
            out.put_i32(broker.0);
            out.put_u32(partitions.len() as u32);
            for (index, directory) in partitions {
                out.put_i32(*index);
                out.put_slice(&directory.0);
            }
        }
        DirectoryRecord::Online { broker, directories } => {
            out.put_u8(1);
            out.put_i32(broker.0);
            out.put_u32(directories.len() as u32);
            directories.iter().for_each(|directory| out.put_slice(&directory.0));
        }
    }
}

pub(super) fn decode(bytes: &mut Bytes) -> Option<DirectoryRecord> {
    fn uuid(bytes: &mut Bytes) -> Option<Uuid> {
        let mut id = [0; 16];
        bytes.try_copy_to_slice(&mut id).ok()?;
        Some(Uuid(id))
    }
    match bytes.try_get_u8().ok()? {
        0 => {
            let (topic, broker) = (uuid(bytes)?, BrokerId(bytes.try_get_i32().ok()?));
            let mut partitions = Vec::new();
            for _ in 0..bytes.try_get_u32().ok()? {
                partitions.push((bytes.try_get_i32().ok()?, uuid(bytes)?));
            }
            Some(DirectoryRecord::Assigned { topic, broker, partitions })
        }
        1 => {
            let broker = BrokerId(bytes.try_get_i32().ok()?);
            let mut directories = BTreeSet::new();
            for _ in 0..bytes.try_get_u32().ok()? {
                directories.insert(uuid(bytes)?);
            }
            Some(DirectoryRecord::Online { broker, directories })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use aqueduct_protocol::ids::LeaderEpoch;

    use super::*;
    use crate::metadata::{BrokerImage, Command, Outcome, Placement, decide};

    const ME: BrokerId = BrokerId(1);

    fn dir(n: u8) -> Uuid {
        Uuid([n; 16])
    }

    fn carry_out(image: &mut MetadataImage, command: Command) -> Outcome {
        let (records, outcome) = decide(image, &command).unwrap();
        for record in records {
            let mut bytes = BytesMut::new();
            record.encode(&mut bytes);
            image.apply(&Record::decode(&mut bytes.freeze()).unwrap());
        }
        outcome
    }

    fn online(directories: &[u8]) -> Command {
        Command::OnlineDirectories { broker: ME, directories: directories.iter().map(|n| dir(*n)).collect() }
    }

    fn create(name: &'static str, partitions: i32) -> Command {
        let partitions = Placement::Count { partitions, replication_factor: 1 };
        let id = Uuid([name.len() as u8 + 100; 16]);
        Command::CreateTopic { name: name.into(), id, partitions, configs: BTreeMap::new() }
    }

    fn node(directories: &[u8]) -> MetadataImage {
        let mut image = MetadataImage::new("c".into());
        let broker = BrokerImage { id: ME, incarnation: dir(0), endpoints: Vec::new(), rack: None };
        carry_out(&mut image, Command::RegisterBroker(broker));
        carry_out(&mut image, online(directories));
        image
    }

    fn leaders(image: &MetadataImage, topic: &str) -> Vec<(i32, i32)> {
        let topic = image.topic(topic).unwrap();
        topic.partitions.iter().map(|p| (p.leader.0, p.leader_epoch.0)).collect()
    }

    #[test]
    fn partitions_go_where_the_fewest_are() {
        let mut image = node(&[1, 2]);
        carry_out(&mut image, create("a", 3));
        carry_out(&mut image, create("bb", 3));
        let count = |image: &MetadataImage, n| image.directories.counts.get(&dir(n)).copied().unwrap_or(0);
        assert_eq!((count(&image, 1), count(&image, 2)), (3, 3));
        carry_out(&mut image, online(&[1, 2, 3]));
        carry_out(&mut image, create("ccc", 3));
        assert_eq!(count(&image, 3), 3);
        let id = image.topic("a").unwrap().id;
        carry_out(&mut image, Command::DeleteTopic { id });
        assert_eq!(count(&image, 1) + count(&image, 2), 3);
        let mut copy = MetadataImage::new("c".into());
        image.to_records().iter().for_each(|record| copy.apply(record));
        assert_eq!(copy.directories, image.directories);
    }

    #[test]
    fn a_lost_directory_takes_the_lead_of_its_partitions_only_and_gives_it_back() {
        let mut image = node(&[1, 2]);
        carry_out(&mut image, create("t", 2));
        let topic = image.topic("t").unwrap().clone();
        let lost = image.directories.of(topic.id, PartitionIndex(0), ME).unwrap();
        let kept = image.directories.of(topic.id, PartitionIndex(1), ME).unwrap();
        assert_ne!(lost, kept);
        carry_out(&mut image, online(&[kept.0[0]]));
        assert_eq!(leaders(&image, "t"), [(-1, 1), (1, 0)]);
        assert!(image.directories.is_offline(topic.id, PartitionIndex(0), ME));
        // New ones go to what is left.
        carry_out(&mut image, create("new", 4));
        let new = image.topic("new").unwrap().id;
        assert!((0..4).all(|n| image.directories.of(new, PartitionIndex(n), ME) == Some(kept)));
        assert!(decide(&image, &online(&[kept.0[0]])).unwrap().0.is_empty(), "no news, no record");
        carry_out(&mut image, online(&[1, 2]));
        assert_eq!(leaders(&image, "t"), [(1, 2), (1, 0)]);
        assert_eq!(image.topic("t").unwrap().partitions[0].leader_epoch, LeaderEpoch(2));
    }

    #[test]
    fn what_is_found_on_disk_counts() {
        let mut image = node(&[1, 2]);
        carry_out(&mut image, create("t", 1));
        let topic = image.topic("t").unwrap().id;
        let other = if image.directories.of(topic, PartitionIndex(0), ME) == Some(dir(1)) { 2 } else { 1 };
        let found = vec![(topic, PartitionIndex(0), dir(other)), (dir(77), PartitionIndex(0), dir(1))];
        carry_out(&mut image, Command::AssignDirectories { broker: ME, found: found.clone() });
        assert_eq!(image.directories.of(topic, PartitionIndex(0), ME), Some(dir(other)));
        assert!(assign(&image, ME, &found).is_empty());
    }
}
