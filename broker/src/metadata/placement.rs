//! The pure decisions on who holds and leads a partition: elections, reassignments, brokers that leave for good.

use std::collections::BTreeSet;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{BrokerId, PartitionIndex};
use bytestring::ByteString;

use super::features::{self, Feature};
use super::{MetadataImage, Outcome, PartitionImage, Record, Rejection, TopicImage};

type Decision = Result<(Vec<Record>, Outcome), Rejection>;

/// Which leader is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElectionType {
    /// The first replica of the list.
    Preferred,
    /// Any live replica, where there is no leader; records may be lost.
    Unclean,
}

/// What an update of a feature may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpgradeType {
    Upgrade,
    /// To a lower level, as long as nothing is lost.
    SafeDowngrade,
    UnsafeDowngrade,
}

fn find<'a>(
    image: &'a MetadataImage,
    topic: &str,
    index: PartitionIndex,
    missing: [fn(&str, i32) -> String; 2],
) -> Result<(&'a TopicImage, &'a PartitionImage), Rejection> {
    let unknown = |why| Rejection::new(ErrorCode::UnknownTopicOrPartition, why);
    let found = image.topic(topic).ok_or_else(|| unknown(missing[0](topic, index.0)))?;
    let partition = found.partition(index).ok_or_else(|| unknown(missing[1](topic, index.0)))?;
    Ok((found, partition))
}

fn with(topic: &TopicImage, index: PartitionIndex, partition: PartitionImage) -> Decision {
    let mut changed = topic.clone();
    changed.partitions[index.0 as usize] = partition;
    Ok((vec![Record::Topic(changed)], Outcome::Done))
}

/// Elects a leader.
pub(super) fn elect(
    image: &MetadataImage,
    topic: &str,
    index: PartitionIndex,
    kind: ElectionType,
) -> Decision {
    let missing: [fn(&str, i32) -> String; 2] = [
        |topic, _| format!("No such topic as {topic}"),
        |topic, index| format!("No such partition as {topic}-{index}"),
    ];
    let (topic, partition) = find(image, topic, index, missing)?;
    let is_live = |id: &&BrokerId| image.brokers.contains_key(*id);
    let not_needed =
        || Rejection::new(ErrorCode::ElectionNotNeeded, "Leader election not needed for topic partition.");
    let mut next = partition.clone();
    match kind {
        ElectionType::Preferred => {
            let preferred = partition.replicas.first();
            if preferred == Some(&partition.leader) {
                return Err(not_needed());
            }
            let able = preferred.filter(|id| partition.isr.contains(id)).filter(is_live);
            next.leader = *able.ok_or_else(|| {
                let why = "The preferred leader was not available.";
                Rejection::new(ErrorCode::PreferredLeaderNotAvailable, why)
            })?;
        }
        ElectionType::Unclean => {
            if partition.leader.0 >= 0 {
                return Err(not_needed());
            }
            let clean = partition.replicas.iter().filter(|id| partition.isr.contains(id)).find(is_live);
            next.leader = *clean.or_else(|| partition.replicas.iter().find(is_live)).ok_or_else(|| {
                let why = "Eligible topic partition leaders are not available.";
                Rejection::new(ErrorCode::EligibleLeadersNotAvailable, why)
            })?;
            if !partition.isr.contains(&next.leader) {
                next.isr = vec![next.leader];
            }
        }
    }
    next.leader_epoch.0 += 1;
    next.partition_epoch += 1;
    with(topic, index, next)
}

/// Gives a partition other replicas; `None` cancels what is under way.
///
/// Nothing copies records between brokers here, so the brokers must be those that have the partition already; their order
/// may change.
pub(super) fn reassign(
    image: &MetadataImage,
    topic: &str,
    index: PartitionIndex,
    replicas: Option<&[BrokerId]>,
) -> Decision {
    let missing: [fn(&str, i32) -> String; 2] = [
        |topic, _| format!("Unable to find a topic named {topic}."),
        |topic, index| format!("Unable to find partition {topic}:{index}."),
    ];
    let (topic, partition) = find(image, topic, index, missing)?;
    let Some(replicas) = replicas else {
        let why = "No partition reassignment is in progress.";
        return Err(Rejection::new(ErrorCode::NoReassignmentInProgress, why));
    };
    let invalid = |why: String| Err(Rejection::new(ErrorCode::InvalidReplicaAssignment, why));
    if replicas.is_empty() {
        return invalid("The manual partition assignment includes an empty replica list.".into());
    }
    let mut distinct = BTreeSet::new();
    for id in replicas {
        if !distinct.insert(id) {
            return invalid(format!(
                "The manual partition assignment includes the broker {id} more than once."
            ));
        }
        if !image.brokers.contains_key(id) {
            return invalid(format!(
                "The manual partition assignment includes broker {id}, but no such broker is registered."
            ));
        }
    }
    if distinct != partition.replicas.iter().collect() {
        return invalid(format!(
            "{}-{index} is on brokers {:?}: its records cannot be moved to other brokers yet",
            topic.name,
            partition.replicas.iter().map(|id| id.0).collect::<Vec<_>>()
        ));
    }
    if replicas == partition.replicas {
        return Ok((Vec::new(), Outcome::Done));
    }
    let mut next = partition.clone();
    next.replicas = replicas.to_vec();
    next.partition_epoch += 1;
    with(topic, index, next)
}

/// Sets the level of a feature.
pub(super) fn update_feature(
    image: &MetadataImage,
    name: &ByteString,
    level: i16,
    kind: UpgradeType,
) -> Decision {
    let invalid = |why: &str| {
        let why = format!("Invalid update version {level} for feature {name}. {why}");
        Err(Rejection::new(ErrorCode::InvalidUpdateVersion, why))
    };
    let Some(feature) = features::find(name) else {
        return invalid("This broker does not support this feature.");
    };
    if level < 0 {
        return invalid("Feature levels must not be negative.");
    }
    let Feature { min, max, .. } = feature;
    if level > *max || (level < *min && level != 0) {
        return invalid(&format!("This broker only supports versions {min}-{max}"));
    }
    let now = image.level(feature);
    if *feature == features::METADATA_VERSION && level < now {
        let why = match kind {
            UpgradeType::UnsafeDowngrade => {
                "Unsafe metadata downgrade is not supported in this version.".to_owned()
            }
            _ => format!(
                "Unsupported metadata.version downgrade from {now} to {level}. Refusing to perform the requested downgrade because it might delete metadata information."
            ),
        };
        return Err(Rejection::new(ErrorCode::InvalidUpdateVersion, why));
    }
    if level < now && kind == UpgradeType::Upgrade {
        return invalid(
            "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe downgrade.",
        );
    }
    if level > now && kind != UpgradeType::Upgrade {
        return invalid("Can't downgrade to a newer version.");
    }
    if level == now {
        return Ok((Vec::new(), Outcome::Done));
    }
    Ok((vec![Record::Feature { name: name.clone(), level }], Outcome::Done))
}

/// Forgets a broker that will not come back.
pub(super) fn unregister(image: &MetadataImage, id: BrokerId) -> Decision {
    if !image.brokers.contains_key(&id) {
        let why = format!("Broker ID {id} is not currently registered");
        return Err(Rejection::new(ErrorCode::BrokerIdNotRegistered, why));
    }
    let holds = |topic: &&std::sync::Arc<TopicImage>| {
        topic.partitions.iter().any(|partition| partition.replicas == [id])
    };
    if let Some(topic) = image.topics().find(holds) {
        return Err(Rejection::new(
            ErrorCode::InvalidRequest,
            format!("Broker {id} holds the only replicas of topic {}: delete or move it first", topic.name),
        ));
    }
    Ok((vec![Record::BrokerUnregistered { id }], Outcome::Done))
}

#[cfg(test)]
mod tests {
    use aqueduct_protocol::ids::{LeaderEpoch, Uuid};

    use super::*;
    use crate::metadata::BrokerImage;

    fn image(leader: i32, isr: &[i32]) -> MetadataImage {
        let mut image = MetadataImage::new("c".into());
        let ids = |list: &[i32]| list.iter().copied().map(BrokerId).collect::<Vec<_>>();
        let partition = PartitionImage {
            leader: BrokerId(leader),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: 0,
            replicas: ids(&[1, 2]),
            isr: ids(isr),
        };
        for id in [1, 2, 3] {
            let broker = BrokerImage {
                id: BrokerId(id),
                incarnation: Uuid([1; 16]),
                endpoints: Vec::new(),
                rack: None,
            };
            image.apply(&Record::BrokerRegistered(broker));
        }
        let topic = TopicImage { name: "t".into(), id: Uuid([7; 16]), partitions: vec![partition] };
        image.apply(&Record::Topic(topic));
        image
    }

    fn after(image: &MetadataImage, decision: Decision) -> Result<PartitionImage, ErrorCode> {
        let mut image = image.clone();
        let (records, _) = decision.map_err(|rejection| rejection.code)?;
        records.iter().for_each(|record| image.apply(record));
        Ok(image.topic("t").unwrap().partitions[0].clone())
    }

    #[test]
    fn elections_raise_the_leader_epoch() {
        let run = |image: &MetadataImage, kind| after(image, elect(image, "t", PartitionIndex(0), kind));
        let led = image(1, &[1, 2]);
        assert_eq!(run(&led, ElectionType::Preferred), Err(ErrorCode::ElectionNotNeeded));
        assert_eq!(run(&led, ElectionType::Unclean), Err(ErrorCode::ElectionNotNeeded));
        let other = run(&image(2, &[1, 2]), ElectionType::Preferred).unwrap();
        assert_eq!((other.leader, other.leader_epoch), (BrokerId(1), LeaderEpoch(1)));
        let behind = image(2, &[2]);
        assert_eq!(run(&behind, ElectionType::Preferred), Err(ErrorCode::PreferredLeaderNotAvailable));
        let lost = run(&image(-1, &[9]), ElectionType::Unclean).unwrap();
        assert_eq!((lost.leader, lost.isr), (BrokerId(1), vec![BrokerId(1)]));
        let code = elect(&led, "u", PartitionIndex(0), ElectionType::Preferred).unwrap_err().code;
        assert_eq!(code, ErrorCode::UnknownTopicOrPartition);
    }

    #[test]
    fn replicas_may_change_their_order_only() {
        let image = image(1, &[1, 2]);
        let run = |replicas: Option<&[i32]>| {
            let replicas = replicas.map(|list| list.iter().copied().map(BrokerId).collect::<Vec<_>>());
            after(&image, reassign(&image, "t", PartitionIndex(0), replicas.as_deref()))
        };
        assert_eq!(run(Some(&[2, 1])).unwrap().replicas, [BrokerId(2), BrokerId(1)]);
        assert_eq!(run(Some(&[1, 2])).unwrap().partition_epoch, 0);
        for bad in [&[1, 3][..], &[1, 1], &[], &[1, 9]] {
            assert_eq!(run(Some(bad)), Err(ErrorCode::InvalidReplicaAssignment), "{bad:?}");
        }
        assert_eq!(run(None), Err(ErrorCode::NoReassignmentInProgress));
    }

    #[test]
    fn features_go_down_only_where_that_is_asked_for() {
        let image = image(1, &[1]);
        let run = |name: &str, level, kind| {
            update_feature(&image, &name.into(), level, kind)
                .map(|(records, _)| records.len())
                .map_err(|e| e.code)
        };
        let refused = Err(ErrorCode::InvalidUpdateVersion);
        assert_eq!(run("transaction.version", 2, UpgradeType::Upgrade), Ok(0));
        assert_eq!(run("transaction.version", 1, UpgradeType::Upgrade), refused);
        assert_eq!(run("transaction.version", 1, UpgradeType::SafeDowngrade), Ok(1));
        assert_eq!(run("transaction.version", 9, UpgradeType::Upgrade), refused);
        assert_eq!(run("no.such", 1, UpgradeType::Upgrade), refused);
        assert_eq!(run("metadata.version", 25, UpgradeType::SafeDowngrade), refused);
    }

    #[test]
    fn a_broker_with_the_only_replica_stays() {
        let image = image(1, &[1]);
        assert_eq!(unregister(&image, BrokerId(9)).unwrap_err().code, ErrorCode::BrokerIdNotRegistered);
        let mut gone = image.clone();
        unregister(&image, BrokerId(3)).unwrap().0.iter().for_each(|record| gone.apply(record));
        assert!(!gone.brokers.contains_key(&BrokerId(3)));
    }
}
