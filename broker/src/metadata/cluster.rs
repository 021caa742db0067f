//! What a controller of several brokers keeps beside their registrations and the topics: which brokers are fenced, and what
//! else there is to a partition than its leader and its in-sync replicas.
//!
//! A node that decides for itself writes none of it: without a state a registered broker counts as live.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use aqueduct_protocol::ids::{BrokerId, LeaderEpoch, PartitionIndex, Uuid};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use bytestring::ByteString;

use super::record::{get_brokers, get_text, get_uuid, put_brokers, put_text};
use super::{MetadataImage, PartitionImage, Record};

/// Number of one registration of a broker: the version of the image that held it first. -1 where there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BrokerEpoch(pub i64);

impl BrokerEpoch {
    /// Stands for "none" or "not known".
    pub const NONE: Self = Self(-1);
}

impl fmt::Display for BrokerEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether a registered broker takes part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrokerState {
    pub epoch: BrokerEpoch,
    /// Leads nothing and is in no in-sync set.
    pub fenced: bool,
    /// Asked to be relieved of its partitions before it stops.
    pub shutting_down: bool,
    /// Lowest and highest level of each feature that it can work at.
    pub features: BTreeMap<ByteString, (i16, i16)>,
}

/// What most partitions have nothing of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionState {
    /// Eligible leader replicas (KIP-966): out of the in-sync set, but with everything up to the high watermark.
    pub elr: Vec<BrokerId>,
    /// Who led last, while nobody can lead.
    pub last_known_leader: Option<BrokerId>,
    /// Replicas that a reassignment adds, and those that it will take away.
    pub adding: Vec<BrokerId>,
    pub removing: Vec<BrokerId>,
    /// The leader was elected uncleanly and has not put its log in order yet.
    pub recovering: bool,
}

impl PartitionState {
    /// Whether replicas are being replaced.
    pub fn is_reassigning(&self) -> bool {
        !self.adding.is_empty() || !self.removing.is_empty()
    }

    /// Whether nobody is known to have everything, so that replicas have to tell where their logs end.
    pub fn awaits_log_ends(&self, partition: &PartitionImage) -> bool {
        partition.leader.0 < 0
            && partition.replicas.len() > 1
            && partition.isr.is_empty()
            && self.elr.is_empty()
            && self.last_known_leader.is_some()
    }
}

/// What is said of a partition that has nothing special.
static NOTHING: PartitionState = PartitionState {
    elr: Vec::new(),
    last_known_leader: None,
    adding: Vec::new(),
    removing: Vec::new(),
    recovering: false,
};

/// One agreed change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterRecord {
    Broker {
        id: BrokerId,
        state: BrokerState,
    },
    /// One partition as it is from now on.
    Partition {
        topic: Uuid,
        index: PartitionIndex,
        partition: PartitionImage,
        state: PartitionState,
    },
}

/// The states of brokers and partitions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClusterImage {
    brokers: BTreeMap<BrokerId, Arc<BrokerState>>,
    /// Only partitions of which there is something to say.
    partitions: BTreeMap<(Uuid, i32), PartitionState>,
}

impl ClusterImage {
    pub(super) fn apply(&mut self, record: &ClusterRecord) {
        match record {
            ClusterRecord::Broker { id, state } => {
                self.brokers.insert(*id, Arc::new(state.clone()));
            }
            ClusterRecord::Partition { topic, index, state, .. } if *state == NOTHING => {
                self.partitions.remove(&(*topic, index.0));
            }
            ClusterRecord::Partition { topic, index, state, .. } => {
                self.partitions.insert((*topic, index.0), state.clone());
            }
        }
    }

    pub(super) fn forget_broker(&mut self, id: BrokerId) {
        self.brokers.remove(&id);
    }

    pub(super) fn forget_topic(&mut self, topic: Uuid) {
        let of_topic = (topic, i32::MIN)..=(topic, i32::MAX);
        let keys: Vec<_> = self.partitions.range(of_topic).map(|(key, _)| *key).collect();
        keys.iter().for_each(|key| drop(self.partitions.remove(key)));
    }

    pub(super) fn to_records(&self, image: &MetadataImage) -> Vec<Record> {
        let brokers = self
            .brokers
            .iter()
            .map(|(id, state)| ClusterRecord::Broker { id: *id, state: (**state).clone() });
        let partitions = self.partitions.iter().filter_map(|((topic, index), state)| {
            let index = PartitionIndex(*index);
            let partition = image.topic_by_id(*topic)?.partition(index)?.clone();
            Some(ClusterRecord::Partition { topic: *topic, index, partition, state: state.clone() })
        });
        brokers.chain(partitions).map(Record::Cluster).collect()
    }
}

impl MetadataImage {
    /// The state that a controller gave to a registered broker.
    pub fn broker_state(&self, id: BrokerId) -> Option<&BrokerState> {
        self.cluster.brokers.get(&id).map(|state| &**state)
    }

    /// Whether a broker may lead and be in sync.
    pub fn is_live(&self, id: BrokerId) -> bool {
        let usable = |state: &BrokerState| !state.fenced && !state.shutting_down;
        self.brokers.contains_key(&id) && self.broker_state(id).is_none_or(usable)
    }

    /// Whether clients are told of a broker: it is not fenced. One that is about to stop is still there.
    pub fn is_unfenced(&self, id: BrokerId) -> bool {
        self.brokers.contains_key(&id) && self.broker_state(id).is_none_or(|state| !state.fenced)
    }

    /// Whether brokers register with a controller; a node that decides for itself has no such states.
    pub fn is_controlled(&self) -> bool {
        !self.cluster.brokers.is_empty()
    }

    /// Partitions whose replicas have to tell where their logs end, by topic and index.
    pub fn awaiting_log_ends(&self) -> impl Iterator<Item = (Uuid, PartitionIndex, &PartitionImage)> {
        self.cluster.partitions.iter().filter_map(|((topic, index), state)| {
            let index = PartitionIndex(*index);
            let partition = self.topic_by_id(*topic)?.partition(index)?;
            state.awaits_log_ends(partition).then_some((*topic, index, partition))
        })
    }

    /// What else there is to a partition.
    pub fn partition_state(&self, topic: Uuid, index: PartitionIndex) -> &PartitionState {
        self.cluster.partitions.get(&(topic, index.0)).unwrap_or(&NOTHING)
    }
}

pub(super) fn encode(record: &ClusterRecord, out: &mut BytesMut) {
    match record {
        ClusterRecord::Broker { id, state } => {
            out.put_u8(0);
            out.put_i32(id.0);
            out.put_i64(state.epoch.0);
            out.put_u8(u8::from(state.fenced) | u8::from(state.shutting_down) << 1);
            out.put_u16(state.features.len() as u16);
            for (name, (min, max)) in &state.features {
                put_text(out, name);
                out.put_i16(*min);
                out.put_i16(*max);
            }
        }
        ClusterRecord::Partition { topic, index, partition, state } => {
            out.put_u8(1);
            out.put_slice(&topic.0);
            out.put_i32(index.0);
            out.put_i32(partition.leader.0);
            out.put_i32(partition.leader_epoch.0);
            out.put_i32(partition.partition_epoch);
            out.put_u8(u8::from(state.recovering));
            out.put_i32(state.last_known_leader.map_or(-1, |id| id.0));
            for list in [&partition.replicas, &partition.isr, &state.elr, &state.adding, &state.removing] {
                put_brokers(out, list);
            }
        }
    }
}

pub(super) fn decode(bytes: &mut Bytes) -> Option<ClusterRecord> {
    match bytes.try_get_u8().ok()? {
        0 => {
            let id = BrokerId(bytes.try_get_i32().ok()?);
            let epoch = BrokerEpoch(bytes.try_get_i64().ok()?);
            let flags = bytes.try_get_u8().ok()?;
            let mut features = BTreeMap::new();
            for _ in 0..bytes.try_get_u16().ok()? {
                let name = get_text(bytes)?;
                features.insert(name, (bytes.try_get_i16().ok()?, bytes.try_get_i16().ok()?));
            }
            let state =
                BrokerState { epoch, fenced: flags & 1 != 0, shutting_down: flags & 2 != 0, features };
            Some(ClusterRecord::Broker { id, state })
        }
        1 => {
            let topic = get_uuid(bytes)?;
            let mut number = || bytes.try_get_i32().ok();
            let (index, leader) = (PartitionIndex(number()?), BrokerId(number()?));
            let (leader_epoch, partition_epoch) = (LeaderEpoch(number()?), number()?);
            let recovering = bytes.try_get_u8().ok()? != 0;
            let last = bytes.try_get_i32().ok()?;
            let (replicas, isr) = (get_brokers(bytes)?, get_brokers(bytes)?);
            let state = PartitionState {
                elr: get_brokers(bytes)?,
                last_known_leader: (last >= 0).then_some(BrokerId(last)),
                adding: get_brokers(bytes)?,
                removing: get_brokers(bytes)?,
                recovering,
            };
            let partition = PartitionImage { leader, leader_epoch, partition_epoch, replicas, isr };
            Some(ClusterRecord::Partition { topic, index, partition, state })
        }
        _ => None,
    }
}

/// The brokers of a list that are in none of another.
pub(crate) fn without(list: &[BrokerId], others: &[BrokerId]) -> Vec<BrokerId> {
    list.iter().filter(|id| !others.contains(id)).copied().collect()
}

/// Whether a list names a broker twice.
pub(crate) fn has_duplicates(list: &[BrokerId]) -> bool {
    list.iter().collect::<BTreeSet<_>>().len() != list.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(list: &[i32]) -> Vec<BrokerId> {
        list.iter().copied().map(BrokerId).collect()
    }

    #[test]
    fn records_round_trip_and_cut_bytes_are_none() {
        let state = BrokerState {
            epoch: BrokerEpoch(7),
            fenced: true,
            shutting_down: true,
            features: BTreeMap::from([("metadata.version".into(), (7, 30))]),
        };
        let partition = ClusterRecord::Partition {
            topic: Uuid([3; 16]),
            index: PartitionIndex(4),
            partition: PartitionImage {
                leader: BrokerId(1),
                leader_epoch: LeaderEpoch(2),
                partition_epoch: 3,
                replicas: ids(&[1, 2, 3]),
                isr: ids(&[1]),
            },
            state: PartitionState {
                elr: ids(&[2]),
                last_known_leader: Some(BrokerId(1)),
                adding: ids(&[3]),
                removing: ids(&[1]),
                recovering: true,
            },
        };
        for record in [ClusterRecord::Broker { id: BrokerId(1), state }, partition] {
            let mut out = BytesMut::new();
            Record::Cluster(record.clone()).encode(&mut out);
            let bytes = out.freeze();
            assert_eq!(Record::decode(&mut bytes.clone()), Some(Record::Cluster(record)));
            for cut in 0..bytes.len() {
                assert_eq!(Record::decode(&mut bytes.slice(..cut)), None);
            }
        }
    }
}
