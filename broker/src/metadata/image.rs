//! The image: everything that the cluster agrees on, at one moment.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use aqueduct_protocol::ids::{BrokerId, LeaderEpoch, PartitionIndex, Uuid};
use bytestring::ByteString;

use super::Record;
use super::cluster::{ClusterImage, ClusterRecord};
use super::directories::DirectoriesImage;
use super::scram::ScramImage;
use crate::config::SecurityProtocol;
use crate::quotas::{Entity, QuotaSet};
use crate::security::AclSet;

/// One version of the metadata; never changed once it is shared.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MetadataImage {
    /// Rises with every change.
    pub version: u64,
    /// Rises with every change of a configuration.
    pub configs_version: u64,
    pub cluster_id: ByteString,
    pub brokers: BTreeMap<BrokerId, Arc<BrokerImage>>,
    topics: BTreeMap<ByteString, Arc<TopicImage>>,
    by_id: HashMap<Uuid, Arc<TopicImage>>,
    configs: BTreeMap<Resource, Arc<BTreeMap<ByteString, ByteString>>>,
    /// The first producer id that was never given out.
    pub next_producer_id: i64,
    pub acls: Arc<AclSet>,
    pub quotas: Arc<QuotaSet>,
    pub scram: Arc<ScramImage>,
    /// Levels of features that were set; [`super::features`] has the defaults.
    pub features: BTreeMap<ByteString, i16>,
    /// Log directories, and what is in them.
    pub directories: Arc<DirectoriesImage>,
    /// What a controller says of brokers and partitions.
    pub(super) cluster: Arc<ClusterImage>,
}

/// A registered broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerImage {
    pub id: BrokerId,
    /// Differs at each start of the process.
    pub incarnation: Uuid,
    /// Where it is reached, one for each listener that it advertises.
    pub endpoints: Vec<Endpoint>,
    pub rack: Option<ByteString>,
}

impl BrokerImage {
    /// Where clients of a listener reach it, if it has that listener.
    pub fn endpoint(&self, listener: &str) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.listener == listener)
    }
}

/// An address that a broker tells clients of one listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub listener: ByteString,
    pub host: ByteString,
    pub port: u16,
    pub protocol: SecurityProtocol,
}

/// A topic and its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicImage {
    pub name: ByteString,
    pub id: Uuid,
    /// Partition `n` stands at `n`.
    pub partitions: Vec<PartitionImage>,
}

/// Where a partition is and who leads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionImage {
    /// -1 where there is none.
    pub leader: BrokerId,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: i32,
    pub replicas: Vec<BrokerId>,
    pub isr: Vec<BrokerId>,
}

/// What can have a configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    Topic(ByteString),
    /// `None` stands for all brokers.
    Broker(Option<BrokerId>),
    Group(ByteString),
    /// A subscription of client metrics.
    ClientMetrics(ByteString),
}

impl TopicImage {
    /// The partition of an index, where there is one.
    pub fn partition(&self, index: PartitionIndex) -> Option<&PartitionImage> {
        self.partitions.get(usize::try_from(index.0).ok()?)
    }

    /// Whether the topic belongs to Kafka itself.
    pub fn is_internal(&self) -> bool {
        is_internal(&self.name)
    }
}

/// Whether a name is one of Kafka's internal topics.
pub fn is_internal(name: &str) -> bool {
    matches!(name, "__consumer_offsets" | "__transaction_state" | "__share_group_state")
}

impl MetadataImage {
    /// An empty image of a cluster.
    pub fn new(cluster_id: ByteString) -> Self {
        Self { cluster_id, ..Self::default() }
    }

    /// The same without topics: what a node may see that has not taken up its part in them yet.
    pub fn without_topics(&self) -> Self {
        Self { topics: BTreeMap::new(), by_id: HashMap::new(), ..self.clone() }
    }

    /// A topic by name.
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topics.get(name)
    }

    /// A topic by id.
    pub fn topic_by_id(&self, id: Uuid) -> Option<&Arc<TopicImage>> {
        self.by_id.get(&id)
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.topics.values()
    }

    /// The topics whose names are not below `from`, by name.
    pub fn topics_from(&self, from: &str) -> impl Iterator<Item = &Arc<TopicImage>> {
        let from = ByteString::from(from);
        self.topics.range(from..).map(|(_, topic)| topic)
    }

    /// What was set on a resource.
    pub fn config(&self, resource: &Resource) -> Option<&Arc<BTreeMap<ByteString, ByteString>>> {
        self.configs.get(resource)
    }

    /// Every resource that has a configuration of its own.
    pub fn configured(&self) -> impl Iterator<Item = &Resource> {
        self.configs.keys()
    }

    /// Applies one agreed change.
    pub fn apply(&mut self, record: &Record) {
        self.version += 1;
        match record {
            Record::BrokerRegistered(broker) => self.register(broker),
            Record::Topic(topic) => self.put(Arc::new(topic.clone())),
            Record::TopicDeleted { id } => {
                if let Some(topic) = self.by_id.remove(id) {
                    self.topics.remove(&topic.name);
                    self.configs.remove(&Resource::Topic(topic.name.clone()));
                    Arc::make_mut(&mut self.directories).forget(*id);
                    Arc::make_mut(&mut self.cluster).forget_topic(*id);
                }
            }
            Record::Config { resource, values } => {
                self.configs_version += 1;
                if values.is_empty() {
                    self.configs.remove(resource);
                } else {
                    self.configs.insert(resource.clone(), Arc::new(values.clone()));
                }
            }
            Record::ProducerIds { next } => self.next_producer_id = self.next_producer_id.max(*next),
            Record::Acl { id, acl } => Arc::make_mut(&mut self.acls).insert(*id, acl.clone()),
            Record::AclDeleted { id } => Arc::make_mut(&mut self.acls).remove(*id),
            Record::Quota { entity, values } => Arc::make_mut(&mut self.quotas).set(entity, values),
            Record::Scram(change) => Arc::make_mut(&mut self.scram).apply(change),
            Record::Feature { name, level } => {
                self.features.insert(name.clone(), *level);
            }
            Record::BrokerUnregistered { id } => {
                self.brokers.remove(id);
                Arc::make_mut(&mut self.cluster).forget_broker(*id);
            }
            Record::Directory(change) => Arc::make_mut(&mut self.directories).apply(change),
            Record::Cluster(change) => {
                if let ClusterRecord::Partition { topic, index, partition, .. } = change {
                    self.set_partition(*topic, *index, partition);
                }
                Arc::make_mut(&mut self.cluster).apply(change);
            }
        }
    }

    /// The changes that make an empty image of the same cluster into this one.
    pub fn to_records(&self) -> Vec<Record> {
        let mut records: Vec<Record> = Vec::with_capacity(self.topics.len() + self.configs.len() + 2);
        // Brokers come first: registering one changes the leader epochs of the partitions that are there.
        records.extend(self.brokers.values().map(|broker| Record::BrokerRegistered((**broker).clone())));
        records.extend(self.topics.values().map(|topic| Record::Topic((**topic).clone())));
        records.extend(self.configs.iter().map(|(resource, values)| Record::Config {
            resource: resource.clone(),
            values: (**values).clone(),
        }));
        records.push(Record::ProducerIds { next: self.next_producer_id });
        records.extend(self.acls.iter().map(|(id, acl)| Record::Acl { id, acl: (**acl).clone() }));
        let quota = |(entity, values): (&Entity, &BTreeMap<_, _>)| Record::Quota {
            entity: entity.clone(),
            values: values.clone(),
        };
        records.extend(self.quotas.iter().map(quota));
        records.extend(self.scram.to_records().map(Record::Scram));
        let feature =
            |(name, level): (&ByteString, &i16)| Record::Feature { name: name.clone(), level: *level };
        records.extend(self.features.iter().map(feature));
        records.extend(self.directories.to_records());
        records.extend(self.cluster.to_records(self));
        records
    }

    fn put(&mut self, topic: Arc<TopicImage>) {
        self.by_id.insert(topic.id, topic.clone());
        self.topics.insert(topic.name.clone(), topic);
    }

    fn set_partition(&mut self, topic: Uuid, index: PartitionIndex, partition: &PartitionImage) {
        // Given up first, so that a topic is copied once for a batch of changes, not for each.
        let Some(name) = self.by_id.remove(&topic).map(|topic| topic.name.clone()) else { return };
        let Some(shared) = self.topics.get_mut(&name) else { return };
        let slot = usize::try_from(index.0).ok();
        if let Some(slot) = slot.and_then(|slot| Arc::make_mut(shared).partitions.get_mut(slot)) {
            *slot = partition.clone();
        }
        self.by_id.insert(topic, shared.clone());
    }

    /// A broker that starts anew leads its partitions in a new epoch, so that clients notice what a crash may have cut off.
    fn register(&mut self, broker: &BrokerImage) {
        let known = self.brokers.get(&broker.id).is_some_and(|old| old.incarnation == broker.incarnation);
        self.brokers.insert(broker.id, Arc::new(broker.clone()));
        if known {
            return;
        }
        let led: Vec<_> = self
            .topics
            .values()
            .filter(|topic| topic.partitions.iter().any(|partition| partition.leader == broker.id))
            .cloned()
            .collect();
        for mut topic in led {
            for partition in &mut Arc::make_mut(&mut topic).partitions {
                if partition.leader == broker.id {
                    partition.leader_epoch.0 += 1;
                    partition.partition_epoch += 1;
                }
            }
            self.put(topic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(incarnation: u8) -> BrokerImage {
        BrokerImage {
            id: BrokerId(1),
            incarnation: Uuid([incarnation; 16]),
            endpoints: Vec::new(),
            rack: None,
        }
    }

    fn topic(name: &str) -> TopicImage {
        let partition = PartitionImage {
            leader: BrokerId(1),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: 0,
            replicas: vec![BrokerId(1)],
            isr: vec![BrokerId(1)],
        };
        TopicImage { name: name.into(), id: Uuid([name.len() as u8; 16]), partitions: vec![partition; 2] }
    }

    #[test]
    fn a_restarted_broker_leads_in_a_new_epoch() {
        let mut image = MetadataImage::new("c".into());
        image.apply(&Record::BrokerRegistered(broker(1)));
        image.apply(&Record::Topic(topic("t")));
        image.apply(&Record::BrokerRegistered(broker(1)));
        assert_eq!(image.topic("t").unwrap().partitions[0].leader_epoch, LeaderEpoch(0));
        image.apply(&Record::BrokerRegistered(broker(2)));
        assert_eq!(image.topic("t").unwrap().partitions[1].leader_epoch, LeaderEpoch(1));
    }

    #[test]
    fn records_of_an_image_rebuild_it() {
        let mut image = MetadataImage::new("c".into());
        image.apply(&Record::BrokerRegistered(broker(1)));
        image.apply(&Record::Topic(topic("a")));
        image.apply(&Record::Topic(topic("bb")));
        image.apply(&Record::BrokerRegistered(broker(2)));
        image.apply(&Record::TopicDeleted { id: Uuid([1; 16]) });
        image.apply(&Record::ProducerIds { next: 2000 });
        image.apply(&Record::Feature { name: "group.version".into(), level: 0 });
        let values = BTreeMap::from([("retention.ms".into(), "5".into())]);
        image.apply(&Record::Config { resource: Resource::Topic("bb".into()), values });
        let mut copy = MetadataImage::new("c".into());
        image.to_records().iter().for_each(|record| copy.apply(record));
        (copy.version, copy.configs_version) = (image.version, image.configs_version);
        assert_eq!(copy, image);
        assert!(copy.topic("a").is_none());
    }
}
