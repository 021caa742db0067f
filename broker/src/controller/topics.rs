//! Topics and partitions that are created: placed over racks and live brokers.

use std::collections::BTreeMap;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{BrokerId, Uuid};
use bytestring::ByteString;

use super::{Controller, placer};
use crate::metadata::{Command, NewPartitions, Outcome, Placement, Record, Rejection, TopicImage, decide};

impl Controller {
    pub(super) fn create_topic(
        &mut self,
        name: &ByteString,
        id: Uuid,
        wanted: &Placement,
        configs: &BTreeMap<ByteString, ByteString>,
    ) -> Result<Outcome, Rejection> {
        if let Some(there) = self.image.topic(name).filter(|topic| topic.id == id) {
            // The answer was lost, and the request came again: ids are drawn by who asks.
            return Ok(Outcome::Topic(there.clone()));
        }
        let command = |partitions| Command::CreateTopic {
            name: name.clone(),
            id,
            partitions,
            configs: configs.clone(),
        };
        let (records, outcome) = decide(&self.image, &command(wanted.clone()))?;
        let Placement::Count { partitions, replication_factor } = wanted else {
            return self.create(records, outcome, 0);
        };
        let placed = self.place(id, *partitions as usize, *replication_factor as usize)?;
        let assigned = (0..).zip(placed).collect();
        let (records, outcome) = decide(&self.image, &command(Placement::Assigned(assigned)))?;
        self.create(records, outcome, 0)
    }

    pub(super) fn create_partitions(
        &mut self,
        topic: &ByteString,
        wanted: &NewPartitions,
    ) -> Result<Outcome, Rejection> {
        let command = |partitions| Command::CreatePartitions { topic: topic.clone(), partitions };
        let (records, outcome) = decide(&self.image, &command(wanted.clone()))?;
        // What was decided on is there.
        let Some(before) = self.image.topic(topic).cloned() else { return Ok(outcome) };
        let has = before.partitions.len();
        if wanted.assigned.is_some() {
            return self.create(records, outcome, has);
        }
        let factor = before.partitions.first().map_or(1, |partition| partition.replicas.len());
        let placed = self.place(before.id, wanted.total as usize - has, factor)?;
        let assigned = NewPartitions { total: wanted.total, assigned: Some(placed) };
        let (records, outcome) = decide(&self.image, &command(assigned))?;
        self.create(records, outcome, has)
    }

    fn place(&self, topic: Uuid, count: usize, factor: usize) -> Result<Vec<Vec<BrokerId>>, Rejection> {
        // Ids of topics are random enough to begin at different brokers, and the same wherever this is decided.
        let seed =
            topic.0.iter().fold(0_u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        placer::place(&self.image, seed, count, factor).ok_or_else(|| {
            let why = format!(
                "Unable to replicate the partition {factor} time(s): All brokers are currently fenced or in controlled shutdown."
            );
            Rejection::new(ErrorCode::InvalidReplicationFactor, why)
        })
    }

    /// Takes over records of new partitions, from `first` on, with leaders and in-sync sets of live brokers only.
    fn create(&mut self, records: Vec<Record>, outcome: Outcome, first: usize) -> Result<Outcome, Rejection> {
        let Outcome::Topic(topic) = outcome else { return Ok(outcome) };
        let mut topic: TopicImage = (*topic).clone();
        for (index, partition) in topic.partitions.iter_mut().enumerate().skip(first) {
            partition.isr.retain(|id| self.image.is_live(*id));
            let Some(leader) = partition.isr.first() else {
                let why = format!(
                    "All brokers specified in the manual partition assignment for partition {index} are fenced or in controlled shutdown."
                );
                return Err(Rejection::new(ErrorCode::InvalidReplicaAssignment, why));
            };
            partition.leader = *leader;
        }
        for record in records {
            self.push(match record {
                Record::Topic(_) => Record::Topic(topic.clone()),
                other => other,
            });
        }
        Ok(Outcome::Topic(topic.into()))
    }
}
