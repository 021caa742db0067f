//! Log directories, and partitions that are added.

use std::collections::{BTreeMap, HashMap};

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::BrokerId;
use aqueduct_protocol::messages::alter_replica_log_dirs_request::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic,
};
use aqueduct_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use aqueduct_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use aqueduct_protocol::messages::{
    AlterReplicaLogDirsRequest, CreatePartitionsRequest, DescribeLogDirsRequest,
};
use bytestring::ByteString;

use super::{Admin, Each, complete};
use crate::error::{Error, Result};
use crate::net::Lane;
use crate::types::TopicPartition;

const ALTER: &str = "AlterReplicaLogDirs";
const DESCRIBE: &str = "DescribeLogDirs";
const GROW: &str = "CreatePartitions";

/// A log directory of a broker.
#[derive(Debug, Clone)]
pub struct LogDirDescription {
    pub broker: BrokerId,
    pub path: ByteString,
    /// Why it cannot be used, if it cannot.
    pub error: Option<Error>,
    pub replicas: BTreeMap<TopicPartition, ReplicaInfo>,
    /// Size of its volume and what is free of it; `None` where the broker does not tell.
    pub total_bytes: Option<u64>,
    pub usable_bytes: Option<u64>,
}

/// A replica in a log directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicaInfo {
    pub size: i64,
    /// How far it is behind the high watermark, or behind the replica that it will replace.
    pub offset_lag: i64,
    /// Whether it is being moved here.
    pub is_future: bool,
}

impl Admin {
    /// The log directories of all brokers, with what is in them: all partitions, or those of `topics`.
    pub async fn describe_log_dirs(&self, topics: Option<&[ByteString]>) -> Result<Vec<LogDirDescription>> {
        let mut retry = self.retry(DESCRIBE);
        loop {
            match self.describe_log_dirs_once(topics).await {
                Ok(found) => return Ok(found),
                Err(error) => self.again(&mut retry, error).await?,
            }
        }
    }

    async fn describe_log_dirs_once(&self, topics: Option<&[ByteString]>) -> Result<Vec<LogDirDescription>> {
        let wanted = match topics {
            None => None,
            Some(names) => {
                let described = self.describe_topics(names).await?;
                let mut wanted = Vec::with_capacity(described.len());
                for topic in described.into_values() {
                    let topic = topic?;
                    let partitions = topic.partitions.iter().map(|found| found.partition.0).collect();
                    wanted.push(DescribableLogDirTopic { topic: topic.name, partitions });
                }
                Some(wanted)
            }
        };
        let image = self.client.metadata(&[]).await?;
        let mut found = Vec::new();
        for broker in image.brokers.values() {
            let request = |_| DescribeLogDirsRequest { topics: wanted.clone() };
            let answer = self.client.call(Lane::SHARED, broker, i16::MAX, request).await?;
            let address = broker.address();
            let what = || format!("broker {}", broker.id);
            Error::check(&address, DESCRIBE, what, answer.error_code, None)?;
            for dir in answer.results {
                let mut replicas = BTreeMap::new();
                for topic in dir.topics {
                    for part in topic.partitions {
                        let info = ReplicaInfo {
                            size: part.partition_size,
                            offset_lag: part.offset_lag,
                            is_future: part.is_future_key,
                        };
                        replicas.insert(TopicPartition::new(topic.name.clone(), part.partition_index), info);
                    }
                }
                let what = || format!("{} of broker {}", dir.log_dir, broker.id);
                found.push(LogDirDescription {
                    broker: broker.id,
                    error: Error::of_code(&address, DESCRIBE, what, dir.error_code, None),
                    path: dir.log_dir.clone(),
                    replicas,
                    total_bytes: u64::try_from(dir.total_bytes).ok(),
                    usable_bytes: u64::try_from(dir.usable_bytes).ok(),
                });
            }
        }
        Ok(found)
    }

    /// Has a broker move its replicas of these partitions to other ones of its log directories, named by their absolute
    /// paths. That goes on in the background; [`Admin::describe_log_dirs`] shows how far it is.
    pub async fn alter_replica_log_dirs(
        &self,
        broker: BrokerId,
        moves: &HashMap<TopicPartition, ByteString>,
    ) -> Result<Each<TopicPartition>> {
        let image = self.client.metadata(&[]).await?;
        let Some(broker) = image.brokers.get(&broker) else {
            let (what, code) = (|| format!("broker {broker}"), ErrorCode::BrokerNotAvailable.code());
            return Error::check("the cluster", ALTER, what, code, None).map(|()| Each::new());
        };
        let mut dirs: BTreeMap<&ByteString, BTreeMap<&ByteString, Vec<i32>>> = BTreeMap::new();
        for (partition, path) in moves {
            let topics = dirs.entry(path).or_default();
            topics.entry(&partition.topic).or_default().push(partition.partition.0);
        }
        let topic = |(name, partitions): (&ByteString, &Vec<i32>)| AlterReplicaLogDirTopic {
            name: name.clone(),
            partitions: partitions.clone(),
        };
        let dir = |(path, topics): (&&ByteString, &BTreeMap<&ByteString, Vec<i32>>)| AlterReplicaLogDir {
            path: (*path).clone(),
            topics: topics.iter().map(|(name, partitions)| topic((name, partitions))).collect(),
        };
        let request = |_| AlterReplicaLogDirsRequest { dirs: dirs.iter().map(dir).collect() };
        let answer = self.client.call(Lane::SHARED, broker, i16::MAX, request).await?;
        let address = broker.address();
        let mut results = Each::new();
        for topic in answer.results {
            for found in topic.partitions {
                let partition = TopicPartition::new(topic.topic_name.clone(), found.partition_index);
                let what = || format!("replica of {partition} on broker {}", broker.id);
                results
                    .insert(partition.clone(), Error::check(&address, ALTER, what, found.error_code, None));
            }
        }
        Ok(complete(moves.keys().cloned(), results, broker, ALTER))
    }

    /// Raises topics to so many partitions.
    pub async fn create_partitions(&self, topics: &[(ByteString, i32)]) -> Result<Each<ByteString>> {
        let mut retry = self.retry(GROW);
        loop {
            let topic = |(name, count): &(ByteString, i32)| CreatePartitionsTopic {
                name: name.clone(),
                count: *count,
                assignments: None,
            };
            let request = |_| CreatePartitionsRequest {
                topics: topics.iter().map(topic).collect(),
                timeout_ms: self.timeout_ms(),
                validate_only: false,
            };
            match self.client.call_any(i16::MAX, request).await {
                Ok((broker, answer)) => {
                    let address = broker.address();
                    let results = answer.results.into_iter().map(|result| {
                        let (what, message) =
                            (|| format!("topic {}", result.name), result.error_message.as_deref());
                        let checked = Error::check(&address, GROW, what, result.error_code, message);
                        (result.name.clone(), checked)
                    });
                    let asked = topics.iter().map(|(name, _)| name.clone());
                    return Ok(complete(asked, results.collect(), &broker, GROW));
                }
                Err(error) => self.again(&mut retry, error).await?,
            }
        }
    }
}
