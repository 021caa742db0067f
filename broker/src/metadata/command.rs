//! What may be asked of the metadata, and the pure decision whether and how it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{BrokerId, LeaderEpoch, PartitionIndex, Uuid};
use bytestring::ByteString;

use super::placement::{self, ElectionType, UpgradeType};
use super::scram::{self, ScramChange};
use super::{
    BrokerImage, MetadataImage, PartitionImage, Record, Resource, TopicImage, access, configs, directories,
};
use crate::config::topic_keys;
use crate::quotas::QuotaValue;
use crate::security::{Acl, AclFilter};

/// A wish to change the metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    RegisterBroker(BrokerImage),
    CreateTopic {
        name: ByteString,
        id: Uuid,
        partitions: Placement,
        configs: BTreeMap<ByteString, ByteString>,
    },
    DeleteTopic {
        id: Uuid,
    },
    CreatePartitions {
        topic: ByteString,
        partitions: NewPartitions,
    },
    /// Changes single values.
    AlterConfig {
        resource: Resource,
        ops: Vec<(ByteString, ConfigOp)>,
    },
    /// Sets all values of a resource; those left out go back to their defaults.
    ReplaceConfig {
        resource: Resource,
        values: BTreeMap<ByteString, ByteString>,
    },
    ElectLeader {
        topic: ByteString,
        index: PartitionIndex,
        kind: ElectionType,
    },
    /// Gives a partition other replicas; `None` cancels what is under way.
    ReassignPartition {
        topic: ByteString,
        index: PartitionIndex,
        replicas: Option<Vec<BrokerId>>,
    },
    UpdateFeature {
        name: ByteString,
        level: i16,
        kind: UpgradeType,
    },
    UnregisterBroker {
        id: BrokerId,
    },
    AllocateProducerIds {
        count: i64,
    },
    /// Changes SCRAM credentials of one user: all or none.
    AlterScram {
        changes: Vec<ScramChange>,
    },
    CreateAcl {
        id: Uuid,
        acl: Acl,
    },
    DeleteAcls {
        filter: AclFilter,
    },
    /// Changes quotas of an entity, which is named by types and names, `None` for the default.
    AlterQuota {
        entity: Vec<(ByteString, Option<ByteString>)>,
        ops: Vec<(ByteString, Option<QuotaValue>)>,
    },
    /// A broker tells in which of its directories partitions were found.
    AssignDirectories {
        broker: BrokerId,
        found: Vec<(Uuid, PartitionIndex, Uuid)>,
    },
    /// A broker tells which of its directories it can use.
    OnlineDirectories {
        broker: BrokerId,
        directories: BTreeSet<Uuid>,
    },
}

/// How many partitions a new topic has, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    Count { partitions: i32, replication_factor: i16 },
    Assigned(BTreeMap<i32, Vec<BrokerId>>),
}

/// Partitions to add to a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPartitions {
    /// Partitions that the topic has afterwards.
    pub total: i32,
    pub assigned: Option<Vec<Vec<BrokerId>>>,
}

/// A change of one config value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigOp {
    Set(ByteString),
    Delete,
    /// Adds words to a list.
    Append(ByteString),
    /// Takes words out of a list.
    Subtract(ByteString),
}

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Topic(Arc<TopicImage>),
    /// The first of the ids that were given out.
    ProducerIds(i64),
    /// What was deleted.
    Acls(Vec<Arc<Acl>>),
}

/// Why a command was turned down, in the terms of the wire.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Rejection {
    pub code: ErrorCode,
    pub message: String,
}

impl From<crate::quotas::QuotaExceeded> for Rejection {
    fn from(exceeded: crate::quotas::QuotaExceeded) -> Self {
        Self::new(ErrorCode::ThrottlingQuotaExceeded, exceeded.to_string())
    }
}

impl Rejection {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Decides on a command: the records that carry it out, or why not. `image` is not changed.
pub fn decide(image: &MetadataImage, command: &Command) -> Result<(Vec<Record>, Outcome), Rejection> {
    match command {
        Command::RegisterBroker(broker) => {
            Ok((vec![Record::BrokerRegistered(broker.clone())], Outcome::Done))
        }
        Command::CreateTopic { name, id, partitions, configs } => {
            create_topic(image, name, *id, partitions, configs)
        }
        Command::DeleteTopic { id } => match image.topic_by_id(*id) {
            Some(_) => Ok((vec![Record::TopicDeleted { id: *id }], Outcome::Done)),
            None => {
                Err(Rejection::new(ErrorCode::UnknownTopicId, "This server does not host this topic ID."))
            }
        },
        Command::CreatePartitions { topic, partitions } => create_partitions(image, topic, partitions),
        Command::AlterConfig { resource, ops } => configs::alter(image, resource, ops),
        Command::ReplaceConfig { resource, values } => configs::replace(image, resource, values),
        Command::AssignDirectories { broker, found } => {
            Ok((directories::assign(image, *broker, found), Outcome::Done))
        }
        Command::OnlineDirectories { broker, directories } => {
            Ok((directories::online(image, *broker, directories), Outcome::Done))
        }
        Command::ElectLeader { topic, index, kind } => placement::elect(image, topic, *index, *kind),
        Command::ReassignPartition { topic, index, replicas } => {
            placement::reassign(image, topic, *index, replicas.as_deref())
        }
        Command::UpdateFeature { name, level, kind } => placement::update_feature(image, name, *level, *kind),
        Command::UnregisterBroker { id } => placement::unregister(image, *id),
        Command::AllocateProducerIds { count } => {
            let first = image.next_producer_id;
            Ok((vec![Record::ProducerIds { next: first + count }], Outcome::ProducerIds(first)))
        }
        Command::AlterScram { changes } => {
            let records = scram::decide(&image.scram, changes)?;
            Ok((records.into_iter().map(Record::Scram).collect(), Outcome::Done))
        }
        Command::CreateAcl { id, acl } => access::create_acl(image, *id, acl),
        Command::DeleteAcls { filter } => access::delete_acls(image, filter),
        Command::AlterQuota { entity, ops } => access::alter_quota(image, entity, ops),
    }
}

/// Checks a topic's name by Kafka's rules.
pub fn check_topic_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("the empty string is not allowed".into());
    }
    if name == "." || name == ".." {
        return Err(format!("'{name}' is not allowed"));
    }
    if name.len() > 249 {
        return Err(format!("the length of '{name}' is longer than the max allowed length 249"));
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
        return Err(format!(
            "'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        ));
    }
    Ok(())
}

/// Metric names map '.' to '_', so names that differ only there collide.
fn collision<'a>(image: &'a MetadataImage, name: &str) -> Option<&'a ByteString> {
    if !name.contains(['.', '_']) {
        return None;
    }
    let flat = |name: &str| name.replace('.', "_");
    let wanted = flat(name);
    image.topics().map(|topic| &topic.name).find(|other| other.len() == name.len() && flat(other) == wanted)
}

/// As [`check_topic_name`], as an answer.
pub fn refuse_bad_topic_name(name: &str) -> Result<(), Rejection> {
    check_topic_name(name).map_err(|why| {
        Rejection::new(ErrorCode::InvalidTopicException, format!("Topic name is invalid: {why}"))
    })
}

/// Checks that a topic may be created by this name.
pub fn check_new_name(image: &MetadataImage, name: &ByteString) -> Result<(), Rejection> {
    refuse_bad_topic_name(name)?;
    if image.topic(name).is_some() {
        return Err(Rejection::new(ErrorCode::TopicAlreadyExists, format!("Topic '{name}' already exists.")));
    }
    if let Some(other) = collision(image, name) {
        return Err(Rejection::new(
            ErrorCode::InvalidTopicException,
            format!("Topic '{name}' collides with existing topic: {other}"),
        ));
    }
    Ok(())
}

fn create_topic(
    image: &MetadataImage,
    name: &ByteString,
    id: Uuid,
    placement: &Placement,
    configs: &BTreeMap<ByteString, ByteString>,
) -> Result<(Vec<Record>, Outcome), Rejection> {
    check_new_name(image, name)?;
    let replicas = match placement {
        Placement::Count { partitions, replication_factor } => {
            place(image, 0, *partitions, *replication_factor)?
        }
        Placement::Assigned(assigned) => assigned_replicas(image, assigned)?,
    };
    topic_keys::validate(configs)
        .map_err(|error| Rejection::new(ErrorCode::InvalidConfig, error.to_string()))?;
    let partitions = replicas.into_iter().map(new_partition).collect();
    let topic = TopicImage { name: name.clone(), id, partitions };
    let mut records = vec![Record::Topic(topic.clone())];
    if !configs.is_empty() {
        records.push(Record::Config { resource: Resource::Topic(name.clone()), values: configs.clone() });
    }
    records.extend(directories::place(image, &topic, 0));
    Ok((records, Outcome::Topic(Arc::new(topic))))
}

fn new_partition(replicas: Vec<BrokerId>) -> PartitionImage {
    PartitionImage {
        leader: replicas[0],
        leader_epoch: LeaderEpoch(0),
        partition_epoch: 0,
        isr: replicas.clone(),
        replicas,
    }
}

/// Spreads partitions `first..first + count` over the brokers in turn.
fn place(
    image: &MetadataImage,
    first: i32,
    count: i32,
    factor: i16,
) -> Result<Vec<Vec<BrokerId>>, Rejection> {
    if count <= 0 {
        return Err(Rejection::new(
            ErrorCode::InvalidPartitions,
            "Number of partitions was set to an invalid non-positive value.",
        ));
    }
    if factor <= 0 {
        return Err(Rejection::new(
            ErrorCode::InvalidReplicationFactor,
            "Replication factor was set to an invalid non-positive value.",
        ));
    }
    if count > MAX_PARTITIONS {
        return Err(Rejection::new(
            ErrorCode::PolicyViolation,
            format!("Excessively large number of partitions per request: {count}; at most {MAX_PARTITIONS}."),
        ));
    }
    let brokers: Vec<BrokerId> = image.brokers.keys().copied().collect();
    if factor as usize > brokers.len() {
        return Err(Rejection::new(
            ErrorCode::InvalidReplicationFactor,
            format!(
                "Unable to replicate the partition {factor} time(s): The target replication factor of {factor} cannot be reached because only {} broker(s) are registered or some brokers have all their log directories cordoned.",
                brokers.len()
            ),
        ));
    }
    let of = |partition: i32| {
        (0..factor as usize).map(|replica| brokers[(partition as usize + replica) % brokers.len()]).collect()
    };
    Ok((first..first + count).map(of).collect())
}

/// More than this in one request is refused, as Kafka's controller does.
const MAX_PARTITIONS: i32 = 10_000;

fn assigned_replicas(
    image: &MetadataImage,
    assigned: &BTreeMap<i32, Vec<BrokerId>>,
) -> Result<Vec<Vec<BrokerId>>, Rejection> {
    let invalid = |why: String| Err(Rejection::new(ErrorCode::InvalidReplicaAssignment, why));
    let factor = assigned.values().next().map_or(0, Vec::len);
    for (expected, (index, replicas)) in assigned.iter().enumerate() {
        if *index != expected as i32 {
            return invalid(format!(
                "partitions should be a consecutive 0-based integer sequence, but partition {expected} is missing"
            ));
        }
        if replicas.len() != factor {
            return invalid(format!(
                "partition {index} has {} replicas, others have {factor}",
                replicas.len()
            ));
        }
        check_replicas(image, *index, replicas)?;
    }
    if assigned.is_empty() {
        return invalid("the manual partition assignment is empty".into());
    }
    Ok(assigned.values().cloned().collect())
}

fn check_replicas(image: &MetadataImage, index: i32, replicas: &[BrokerId]) -> Result<(), Rejection> {
    let invalid = |why: String| Err(Rejection::new(ErrorCode::InvalidReplicaAssignment, why));
    if replicas.is_empty() {
        return invalid(format!(
            "The manual partition assignment of partition {index} includes an empty replica list."
        ));
    }
    let distinct: BTreeSet<_> = replicas.iter().collect();
    if distinct.len() != replicas.len() {
        return invalid(format!(
            "The manual partition assignment of partition {index} includes a broker twice."
        ));
    }
    if let Some(unknown) = replicas.iter().find(|id| !image.brokers.contains_key(id)) {
        return invalid(format!(
            "The manual partition assignment includes broker {unknown}, but no such broker is registered."
        ));
    }
    Ok(())
}

fn create_partitions(
    image: &MetadataImage,
    name: &ByteString,
    wanted: &NewPartitions,
) -> Result<(Vec<Record>, Outcome), Rejection> {
    let Some(topic) = image.topic(name) else {
        return Err(Rejection::new(
            ErrorCode::UnknownTopicOrPartition,
            "This server does not host this topic-partition.",
        ));
    };
    let (has, total) = (topic.partitions.len() as i32, wanted.total);
    if total == has {
        return Err(Rejection::new(
            ErrorCode::InvalidPartitions,
            format!("Topic already has {has} partition(s)."),
        ));
    }
    if total < has {
        return Err(Rejection::new(
            ErrorCode::InvalidPartitions,
            format!("The topic {name} currently has {has} partition(s); {total} would not be an increase."),
        ));
    }
    let factor = topic.partitions.first().map_or(1, |partition| partition.replicas.len());
    let replicas = match &wanted.assigned {
        None => place(image, has, total - has, factor as i16)?,
        Some(assigned) => {
            if assigned.len() as i32 != total - has {
                return Err(Rejection::new(
                    ErrorCode::InvalidReplicaAssignment,
                    format!(
                        "Attempted to add {} additional partition(s), but only {} assignment(s) were specified.",
                        total - has,
                        assigned.len()
                    ),
                ));
            }
            for (at, replicas) in assigned.iter().enumerate() {
                check_replicas(image, has + at as i32, replicas)?;
                if replicas.len() != factor {
                    return Err(Rejection::new(
                        ErrorCode::InvalidReplicaAssignment,
                        format!(
                            "partition {} has {} replicas, the topic has {factor}",
                            has + at as i32,
                            replicas.len()
                        ),
                    ));
                }
            }
            assigned.clone()
        }
    };
    let mut grown = (**topic).clone();
    grown.partitions.extend(replicas.into_iter().map(new_partition));
    let mut records = vec![Record::Topic(grown.clone())];
    records.extend(directories::place(image, &grown, has as usize));
    Ok((records, Outcome::Topic(Arc::new(grown))))
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
