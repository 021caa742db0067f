//! Offsets of partitions: look them up, delete records below them.

use std::collections::HashMap;

use aqueduct_protocol::ids::{BrokerId, Offset, PartitionIndex};
use aqueduct_protocol::messages::DeleteRecordsRequest;
use aqueduct_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use bytestring::ByteString;

use super::{Admin, Each};
use crate::config::IsolationLevel;
use crate::error::{Error, Result};
use crate::metadata::Broker;
use crate::net::Lane;
use crate::offsets::{self, ListedOffset};
use crate::types::{OffsetSpec, TopicPartition};

const API: &str = "DeleteRecords";

impl Admin {
    /// Looks up offsets, without regard to open transactions.
    pub async fn list_offsets(
        &self,
        wanted: &HashMap<TopicPartition, OffsetSpec>,
    ) -> Result<Each<TopicPartition, ListedOffset>> {
        self.list_offsets_as(wanted, IsolationLevel::ReadUncommitted).await
    }

    /// Looks up offsets as a consumer of that isolation level sees them.
    pub async fn list_offsets_as(
        &self,
        wanted: &HashMap<TopicPartition, OffsetSpec>,
        isolation: IsolationLevel,
    ) -> Result<Each<TopicPartition, ListedOffset>> {
        let limit = self.client.config().default_api_timeout;
        Ok(offsets::list(&self.client, wanted.clone(), isolation, limit).await)
    }

    /// Deletes records before the given offsets (-1: all); returns the new log start offsets.
    pub async fn delete_records(
        &self,
        before: &HashMap<TopicPartition, Offset>,
    ) -> Result<Each<TopicPartition, Offset>> {
        let mut retry = self.retry(API);
        let mut results = Each::new();
        let mut left = before.clone();
        loop {
            results.extend(self.delete_records_once(&left).await);
            let again = |partition: &TopicPartition| {
                results.get(partition).is_some_and(|r| r.as_ref().is_err_and(Error::is_retriable))
            };
            left.retain(|partition, _| again(partition));
            let Some(Err(error)) = left.keys().next().and_then(|partition| results.get(partition)) else {
                return Ok(results);
            };
            if self.again(&mut retry, error.clone()).await.is_err() {
                return Ok(results);
            }
        }
    }

    async fn delete_records_once(
        &self,
        before: &HashMap<TopicPartition, Offset>,
    ) -> Each<TopicPartition, Offset> {
        let topics: Vec<ByteString> = before.keys().map(|partition| partition.topic.clone()).collect();
        let image = match self.client.metadata(&topics).await {
            Ok(image) => image,
            Err(error) => return before.keys().map(|p| (p.clone(), Err(error.clone()))).collect(),
        };
        let mut results = Each::new();
        let mut by_leader: HashMap<BrokerId, (Broker, Vec<(TopicPartition, Offset)>)> = HashMap::new();
        for (partition, offset) in before {
            match offsets::leader(&image, partition) {
                Ok(leader) => {
                    let entry = by_leader.entry(leader.id).or_insert_with(|| (leader.clone(), Vec::new()));
                    entry.1.push((partition.clone(), *offset));
                }
                Err(error) => {
                    results.insert(partition.clone(), Err(error));
                }
            }
        }
        for (leader, asked) in by_leader.into_values() {
            match self.delete_records_at(&leader, &asked).await {
                Ok(answers) => results.extend(answers),
                Err(error) => results.extend(asked.into_iter().map(|(p, _)| (p, Err(error.clone())))),
            }
        }
        results
    }

    async fn delete_records_at(
        &self,
        leader: &Broker,
        asked: &[(TopicPartition, Offset)],
    ) -> Result<Each<TopicPartition, Offset>> {
        let mut topics: Vec<DeleteRecordsTopic> = Vec::new();
        for (partition, offset) in asked {
            let entry = DeleteRecordsPartition { partition_index: partition.partition.0, offset: offset.0 };
            match topics.iter_mut().find(|topic| topic.name == partition.topic) {
                Some(topic) => topic.partitions.push(entry),
                None => {
                    let name = partition.topic.clone();
                    topics.push(DeleteRecordsTopic { name, partitions: vec![entry] });
                }
            }
        }
        let request = |_| DeleteRecordsRequest { topics, timeout_ms: self.timeout_ms() };
        let answer = self.client.call(Lane::SHARED, leader, i16::MAX, request).await?;
        let address = leader.address();
        let mut results = Each::new();
        for topic in answer.topics {
            for part in topic.partitions {
                let partition = PartitionIndex(part.partition_index);
                let partition = TopicPartition { topic: topic.name.clone(), partition };
                let checked = Error::check(&address, API, || partition.to_string(), part.error_code, None);
                results.insert(partition, checked.map(|()| Offset(part.low_watermark)));
            }
        }
        Ok(results)
    }
}
