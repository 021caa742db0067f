//! What the journal holds: one agreed change, and its bytes.

use std::collections::BTreeMap;

use aqueduct_protocol::ids::{BrokerId, LeaderEpoch, Uuid};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use bytestring::ByteString;

use super::cluster::{self, ClusterRecord};
use super::directories::{self, DirectoryRecord};
use super::scram::ScramRecord;
use super::{BrokerImage, Endpoint, PartitionImage, Resource, TopicImage, access};
use crate::config::SecurityProtocol;
use crate::quotas::{Entity, QuotaKey, QuotaValue};
use crate::security::Acl;

/// One agreed change of the metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    BrokerRegistered(BrokerImage),
    /// A topic as it is from now on: new, or with more partitions.
    Topic(TopicImage),
    TopicDeleted {
        id: Uuid,
    },
    /// Everything that is set on a resource from now on.
    Config {
        resource: Resource,
        values: BTreeMap<ByteString, ByteString>,
    },
    /// Producer ids below `next` are given out.
    ProducerIds {
        next: i64,
    },
    Acl {
        id: Uuid,
        acl: Acl,
    },
    AclDeleted {
        id: Uuid,
    },
    /// Every quota that an entity has from now on.
    Quota {
        entity: Entity,
        values: BTreeMap<QuotaKey, QuotaValue>,
    },
    Scram(ScramRecord),
    /// The level of a feature from now on; 0 turns it off.
    Feature {
        name: ByteString,
        level: i16,
    },
    /// A broker that will not come back.
    BrokerUnregistered {
        id: BrokerId,
    },
    /// Where replicas are, and which log directories there are.
    Directory(DirectoryRecord),
    /// The state of a broker, or of one partition.
    Cluster(ClusterRecord),
}

impl Record {
    /// Appends the record's bytes.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::BrokerRegistered(broker) => {
                out.put_u8(1);
                out.put_i32(broker.id.0);
                out.put_slice(&broker.incarnation.0);
                // Where the first form had the name of its one listener, never empty, stands the mark of the second.
                put_text(out, "");
                put_text(out, broker.rack.as_deref().unwrap_or_default());
                out.put_u16(broker.endpoints.len() as u16);
                for endpoint in &broker.endpoints {
                    put_text(out, &endpoint.listener);
                    put_text(out, &endpoint.host);
                    out.put_u16(endpoint.port);
                    out.put_u8(endpoint.protocol as u8);
                }
            }
            Self::Topic(topic) => {
                out.put_u8(2);
                put_text(out, &topic.name);
                out.put_slice(&topic.id.0);
                out.put_u32(topic.partitions.len() as u32);
                for partition in &topic.partitions {
                    out.put_i32(partition.leader.0);
                    out.put_i32(partition.leader_epoch.0);
                    out.put_i32(partition.partition_epoch);
                    put_brokers(out, &partition.replicas);
                    put_brokers(out, &partition.isr);
                }
            }
            Self::TopicDeleted { id } => {
                out.put_u8(3);
                out.put_slice(&id.0);
            }
            Self::Config { resource, values } => {
                out.put_u8(4);
                match resource {
                    Resource::Topic(name) => {
                        out.put_u8(2);
                        put_text(out, name);
                    }
                    Resource::Broker(id) => {
                        out.put_u8(4);
                        out.put_i32(id.map_or(-1, |id| id.0));
                    }
                    Resource::Group(name) => {
                        out.put_u8(32);
                        put_text(out, name);
                    }
                    Resource::ClientMetrics(name) => {
                        out.put_u8(16);
                        put_text(out, name);
                    }
                }
                out.put_u32(values.len() as u32);
                for (key, value) in values {
                    put_text(out, key);
                    put_text(out, value);
                }
            }
            Self::ProducerIds { next } => {
                out.put_u8(5);
                out.put_i64(*next);
            }
            Self::Acl { id, acl } => {
                out.put_u8(6);
                access::put_acl(out, *id, acl);
            }
            Self::AclDeleted { id } => {
                out.put_u8(6);
                access::put_acl_deleted(out, *id);
            }
            Self::Quota { entity, values } => {
                out.put_u8(7);
                access::put_quota(out, entity, values);
            }
            Self::Scram(change) => {
                out.put_u8(8);
                change.encode(out);
            }
            Self::Feature { name, level } => {
                out.put_u8(9);
                put_text(out, name);
                out.put_i16(*level);
            }
            Self::BrokerUnregistered { id } => {
                out.put_u8(11);
                out.put_i32(id.0);
            }
            Self::Directory(change) => {
                out.put_u8(10);
                directories::encode(change, out);
            }
            Self::Cluster(change) => {
                out.put_u8(12);
                cluster::encode(change, out);
            }
        }
    }

    /// Reads one record; `None` where the bytes are none.
    pub fn decode(bytes: &mut Bytes) -> Option<Self> {
        let record = match bytes.try_get_u8().ok()? {
            1 => Self::BrokerRegistered(get_broker(bytes)?),
            2 => {
                let (name, id) = (get_text(bytes)?, get_uuid(bytes)?);
                let count = bytes.try_get_u32().ok()?;
                let mut partitions = Vec::new();
                for _ in 0..count {
                    partitions.push(PartitionImage {
                        leader: BrokerId(bytes.try_get_i32().ok()?),
                        leader_epoch: LeaderEpoch(bytes.try_get_i32().ok()?),
                        partition_epoch: bytes.try_get_i32().ok()?,
                        replicas: get_brokers(bytes)?,
                        isr: get_brokers(bytes)?,
                    });
                }
                Self::Topic(TopicImage { name, id, partitions })
            }
            3 => Self::TopicDeleted { id: get_uuid(bytes)? },
            4 => {
                let resource = match bytes.try_get_u8().ok()? {
                    2 => Resource::Topic(get_text(bytes)?),
                    4 => {
                        let id = bytes.try_get_i32().ok()?;
                        Resource::Broker((id >= 0).then_some(BrokerId(id)))
                    }
                    16 => Resource::ClientMetrics(get_text(bytes)?),
                    32 => Resource::Group(get_text(bytes)?),
                    _ => return None,
                };
                let count = bytes.try_get_u32().ok()?;
                let mut values = BTreeMap::new();
                for _ in 0..count {
                    values.insert(get_text(bytes)?, get_text(bytes)?);
                }
                Self::Config { resource, values }
            }
            5 => Self::ProducerIds { next: bytes.try_get_i64().ok()? },
            6 => access::get_acl(bytes)?,
            7 => access::get_quota(bytes)?,
            8 => Self::Scram(ScramRecord::decode(bytes)?),
            9 => Self::Feature { name: get_text(bytes)?, level: bytes.try_get_i16().ok()? },
            11 => Self::BrokerUnregistered { id: BrokerId(bytes.try_get_i32().ok()?) },
            10 => Self::Directory(directories::decode(bytes)?),
            12 => Self::Cluster(cluster::decode(bytes)?),
            _ => return None,
        };
        Some(record)
    }
}

fn get_broker(bytes: &mut Bytes) -> Option<BrokerImage> {
    let (id, incarnation) = (BrokerId(bytes.try_get_i32().ok()?), get_uuid(bytes)?);
    let rack = |bytes: &mut Bytes| get_text(bytes).map(|rack| (!rack.is_empty()).then_some(rack));
    let listener = get_text(bytes)?;
    if !listener.is_empty() {
        let (host, port) = (get_text(bytes)?, bytes.try_get_u16().ok()?);
        let endpoints = vec![Endpoint { listener, host, port, protocol: SecurityProtocol::Plaintext }];
        return Some(BrokerImage { id, incarnation, endpoints, rack: rack(bytes)? });
    }
    let rack = rack(bytes)?;
    let mut endpoints = Vec::new();
    for _ in 0..bytes.try_get_u16().ok()? {
        endpoints.push(Endpoint {
            listener: get_text(bytes)?,
            host: get_text(bytes)?,
            port: bytes.try_get_u16().ok()?,
            protocol: SecurityProtocol::from_code(bytes.try_get_u8().ok()?)?,
        });
    }
    Some(BrokerImage { id, incarnation, endpoints, rack })
}

pub(super) fn put_text(out: &mut BytesMut, text: &str) {
    out.put_u32(text.len() as u32);
    out.put_slice(text.as_bytes());
}

pub(super) fn get_text(bytes: &mut Bytes) -> Option<ByteString> {
    let length = bytes.try_get_u32().ok()? as usize;
    if length > bytes.len() {
        return None;
    }
    let text = std::str::from_utf8(&bytes.split_to(length)).ok()?.to_owned();
    Some(text.into())
}

pub(super) fn get_uuid(bytes: &mut Bytes) -> Option<Uuid> {
    let mut id = [0; 16];
    bytes.try_copy_to_slice(&mut id).ok()?;
    Some(Uuid(id))
}

pub(super) fn put_brokers(out: &mut BytesMut, brokers: &[BrokerId]) {
    out.put_u16(brokers.len() as u16);
    brokers.iter().for_each(|broker| out.put_i32(broker.0));
}

pub(super) fn get_brokers(bytes: &mut Bytes) -> Option<Vec<BrokerId>> {
    let count = bytes.try_get_u16().ok()? as usize;
    if count * 4 > bytes.len() {
        return None;
    }
    Some((0..count).map(|_| BrokerId(bytes.get_i32())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_round_trip_and_cut_bytes_are_none() {
        let partition = PartitionImage {
            leader: BrokerId(1),
            leader_epoch: LeaderEpoch(3),
            partition_epoch: 4,
            replicas: vec![BrokerId(1), BrokerId(2)],
            isr: vec![BrokerId(1)],
        };
        let records = [
            Record::BrokerRegistered(BrokerImage {
                id: BrokerId(1),
                incarnation: Uuid([9; 16]),
                endpoints: vec![
                    Endpoint {
                        listener: "PLAINTEXT".into(),
                        host: "localhost".into(),
                        port: 9092,
                        protocol: SecurityProtocol::Plaintext,
                    },
                    Endpoint {
                        listener: "OUTSIDE".into(),
                        host: "broker.example".into(),
                        port: 443,
                        protocol: SecurityProtocol::SaslSsl,
                    },
                ],
                rack: Some("r".into()),
            }),
            Record::Topic(TopicImage { name: "t".into(), id: Uuid([1; 16]), partitions: vec![partition; 3] }),
            Record::TopicDeleted { id: Uuid([1; 16]) },
            Record::Config {
                resource: Resource::Broker(None),
                values: BTreeMap::from([("a".into(), "b".into())]),
            },
            Record::ProducerIds { next: 1000 },
            Record::BrokerUnregistered { id: BrokerId(3) },
            Record::Feature { name: "transaction.version".into(), level: 2 },
        ];
        for record in records {
            let mut out = BytesMut::new();
            record.encode(&mut out);
            let bytes = out.freeze();
            assert_eq!(Record::decode(&mut bytes.clone()), Some(record));
            for cut in 0..bytes.len() {
                assert_eq!(Record::decode(&mut bytes.slice(..cut)), None);
            }
        }
    }

    #[test]
    fn a_broker_with_one_listener_is_read_as_it_was_written_at_first() {
        let mut out = BytesMut::new();
        out.put_slice(&[1, 0, 0, 0, 7]);
        out.put_slice(&[9; 16]);
        for text in ["PLAINTEXT", "localhost"] {
            put_text(&mut out, text);
        }
        out.put_u16(9092);
        put_text(&mut out, "r");
        let Some(Record::BrokerRegistered(broker)) = Record::decode(&mut out.freeze()) else {
            panic!("not read");
        };
        let endpoint = broker.endpoint("PLAINTEXT").unwrap();
        assert_eq!((broker.id, &*endpoint.host, endpoint.port), (BrokerId(7), "localhost", 9092));
        assert_eq!(broker.rack.as_deref(), Some("r"));
    }
}
