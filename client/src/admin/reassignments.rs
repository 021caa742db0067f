//! Replicas that move between brokers, and leaders that are elected.

use std::collections::BTreeMap;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::BrokerId;
use aqueduct_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use aqueduct_protocol::messages::elect_leaders_request::TopicPartitions;
use aqueduct_protocol::messages::{
    AlterPartitionReassignmentsRequest, ElectLeadersRequest, ListPartitionReassignmentsRequest,
};
use bytestring::ByteString;

use super::{Admin, Each, complete};
use crate::error::{Error, Result};
use crate::types::TopicPartition;

const ALTER: &str = "AlterPartitionReassignments";
const LIST: &str = "ListPartitionReassignments";
const ELECT: &str = "ElectLeaders";
/// Partitions of one request; the rest go in further ones.
const AT_ONCE: usize = 1_000;

/// A partition whose replicas are being replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reassignment {
    /// All replicas, those that come and those that go included.
    pub replicas: Vec<BrokerId>,
    pub adding: Vec<BrokerId>,
    pub removing: Vec<BrokerId>,
}

/// How leaders are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElectionKind {
    /// The first of the replicas.
    Preferred,
    /// Any replica where there is no leader; records may be lost.
    Unclean,
}

impl Admin {
    /// Has partitions get these replicas, the preferred leader first; `None` calls a reassignment off. Returns when that is
    /// decided on: the copying goes on in the background, and [`Admin::list_partition_reassignments`] shows what is left.
    pub async fn alter_partition_reassignments(
        &self,
        wanted: &BTreeMap<TopicPartition, Option<Vec<BrokerId>>>,
    ) -> Result<Each<TopicPartition>> {
        let all: Vec<_> = wanted.iter().collect();
        let mut results = Each::new();
        for part in all.chunks(AT_ONCE) {
            let mut retry = self.retry(ALTER);
            loop {
                match self.reassign_once(part).await {
                    Ok(answers) => {
                        results.extend(answers);
                        break;
                    }
                    Err(error) => self.again(&mut retry, error).await?,
                }
            }
        }
        Ok(results)
    }

    async fn reassign_once(
        &self,
        wanted: &[(&TopicPartition, &Option<Vec<BrokerId>>)],
    ) -> Result<Each<TopicPartition>> {
        let mut topics: BTreeMap<&ByteString, Vec<ReassignablePartition>> = BTreeMap::new();
        for (partition, replicas) in wanted {
            topics.entry(&partition.topic).or_default().push(ReassignablePartition {
                partition_index: partition.partition.0,
                replicas: replicas.as_ref().map(|ids| ids.iter().map(|id| id.0).collect()),
            });
        }
        let topics =
            topics.into_iter().map(|(name, partitions)| ReassignableTopic { name: name.clone(), partitions });
        let request = AlterPartitionReassignmentsRequest {
            timeout_ms: self.timeout_ms(),
            topics: topics.collect(),
            ..Default::default()
        };
        let (broker, answer) = self.client.call_any(i16::MAX, |_| request).await?;
        let address = broker.address();
        let what = || "the reassignment".to_owned();
        Error::check(&address, ALTER, what, answer.error_code, answer.error_message.as_deref())?;
        let mut results = Each::new();
        for topic in answer.responses {
            for found in topic.partitions {
                let partition = TopicPartition::new(topic.name.clone(), found.partition_index);
                let message = found.error_message.as_deref();
                let what = || format!("partition {partition}");
                let checked = Error::check(&address, ALTER, what, found.error_code, message);
                results.insert(partition, checked);
            }
        }
        let asked = wanted.iter().map(|(partition, _)| (*partition).clone());
        Ok(complete(asked, results, &broker, ALTER))
    }

    /// All partitions whose replicas are being replaced.
    pub async fn list_partition_reassignments(&self) -> Result<BTreeMap<TopicPartition, Reassignment>> {
        let mut retry = self.retry(LIST);
        loop {
            match self.list_reassignments_once().await {
                Ok(found) => return Ok(found),
                Err(error) => self.again(&mut retry, error).await?,
            }
        }
    }

    async fn list_reassignments_once(&self) -> Result<BTreeMap<TopicPartition, Reassignment>> {
        let request = |_| ListPartitionReassignmentsRequest { timeout_ms: self.timeout_ms(), topics: None };
        let (broker, answer) = self.client.call_any(i16::MAX, request).await?;
        let what = || "the reassignments".to_owned();
        let message = answer.error_message.as_deref();
        Error::check(&broker.address(), LIST, what, answer.error_code, message)?;
        let ids = |ids: Vec<i32>| ids.into_iter().map(BrokerId).collect();
        let mut found = BTreeMap::new();
        for topic in answer.topics {
            for partition in topic.partitions {
                let key = TopicPartition::new(topic.name.clone(), partition.partition_index);
                let reassignment = Reassignment {
                    replicas: ids(partition.replicas),
                    adding: ids(partition.adding_replicas),
                    removing: ids(partition.removing_replicas),
                };
                found.insert(key, reassignment);
            }
        }
        Ok(found)
    }

    /// Has leaders elected: of these partitions, or of all. Of all, those that need no election are left out of the answer;
    /// of others the inner code is `ELECTION_NOT_NEEDED`.
    pub async fn elect_leaders(
        &self,
        kind: ElectionKind,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<Each<TopicPartition>> {
        let mut retry = self.retry(ELECT);
        loop {
            match self.elect_once(kind, partitions).await {
                Ok(results) => return Ok(results),
                Err(error) => self.again(&mut retry, error).await?,
            }
        }
    }

    async fn elect_once(
        &self,
        kind: ElectionKind,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<Each<TopicPartition>> {
        let wanted = partitions.map(|partitions| {
            let mut topics: BTreeMap<&ByteString, Vec<i32>> = BTreeMap::new();
            for one in partitions {
                topics.entry(&one.topic).or_default().push(one.partition.0);
            }
            let topic = |(name, partitions): (&ByteString, Vec<i32>)| TopicPartitions {
                topic: name.clone(),
                partitions,
            };
            topics.into_iter().map(topic).collect()
        });
        let request = ElectLeadersRequest {
            election_type: match kind {
                ElectionKind::Preferred => 0,
                ElectionKind::Unclean => 1,
            },
            topic_partitions: wanted,
            timeout_ms: self.timeout_ms(),
        };
        let (broker, answer) = self.client.call_any(i16::MAX, |_| request).await?;
        let address = broker.address();
        Error::check(&address, ELECT, || "the election".to_owned(), answer.error_code, None)?;
        let mut results = Each::new();
        for topic in answer.replica_election_results {
            for found in topic.partition_result {
                let partition = TopicPartition::new(topic.topic.clone(), found.partition_id);
                let is_needless = ErrorCode::from_code(found.error_code) == ErrorCode::ElectionNotNeeded;
                if partitions.is_none() && is_needless {
                    continue;
                }
                let message = found.error_message.as_deref();
                let what = || format!("partition {partition}");
                let checked = Error::check(&address, ELECT, what, found.error_code, message);
                results.insert(partition, checked);
            }
        }
        let asked = partitions.unwrap_or_default().iter().cloned();
        Ok(complete(asked, results, &broker, ELECT))
    }
}
