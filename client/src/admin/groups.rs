//! Groups: list, describe, delete; their committed offsets.

use std::collections::HashMap;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::PartitionIndex;
use aqueduct_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use aqueduct_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use aqueduct_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, ListGroupsRequest, OffsetDeleteRequest,
};
use bytestring::ByteString;

use super::{Admin, Each, GroupDescription, GroupListing, GroupMemberDescription};
use crate::error::{Error, Result};
use crate::group::Identity;
use crate::group::offsets::{commit_once, fetch_once};
use crate::metadata::Broker;
use crate::net::Lane;
use crate::types::{OffsetAndMetadata, TopicPartition};

const DESCRIBE: &str = "DescribeGroups";
const DELETE: &str = "DeleteGroups";
const OFFSET_DELETE: &str = "OffsetDelete";

impl Admin {
    /// All groups of all brokers, sorted.
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>> {
        let mut retry = self.retry("ListGroups");
        loop {
            match self.list_groups_once().await {
                Ok(groups) => return Ok(groups),
                Err(error) => self.again(&mut retry, error).await?,
            }
        }
    }

    async fn list_groups_once(&self) -> Result<Vec<GroupListing>> {
        let image = self.client.metadata(&[]).await?;
        let mut groups = Vec::new();
        for broker in image.brokers.values() {
            let request = |_| ListGroupsRequest::default();
            let answer = self.client.call(Lane::SHARED, broker, i16::MAX, request).await?;
            let what = || format!("broker {}", broker.id);
            Error::check(&broker.address(), "ListGroups", what, answer.error_code, None)?;
            groups.extend(answer.groups.into_iter().map(|group| GroupListing {
                group_id: group.group_id,
                protocol_type: group.protocol_type,
                state: group.group_state,
                group_type: group.group_type,
            }));
        }
        groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
        Ok(groups)
    }

    /// Describes classic groups. One that does not exist gives the inner code `GROUP_ID_NOT_FOUND`, or the state `Dead`
    /// from brokers before 4.0.
    pub async fn describe_groups(&self, groups: &[ByteString]) -> Result<Each<ByteString, GroupDescription>> {
        let mut results = Each::new();
        for group in groups {
            let described = self.at_coordinator(group, DESCRIBE, |broker| self.describe_at(broker, group));
            results.insert(group.clone(), described.await);
        }
        Ok(results)
    }

    async fn describe_at(&self, broker: Broker, group: &ByteString) -> Result<GroupDescription> {
        let request = |_| DescribeGroupsRequest { groups: vec![group.clone()], ..Default::default() };
        let mut answer = self.client.call(Lane::SHARED, &broker, i16::MAX, request).await?;
        let address = broker.address();
        let found = answer.groups.pop().ok_or_else(|| Error::left_out(&address, DESCRIBE, group))?;
        let message = found.error_message.as_deref();
        Error::check(&address, DESCRIBE, || format!("group {group}"), found.error_code, message)?;
        Ok(description(broker, found))
    }

    /// Deletes empty groups and their offsets. A group with members gives the inner code `NON_EMPTY_GROUP`, one that does
    /// not exist `GROUP_ID_NOT_FOUND`.
    pub async fn delete_groups(&self, groups: &[ByteString]) -> Result<Each<ByteString>> {
        let mut results = Each::new();
        for group in groups {
            let deleted = self.at_coordinator(group, DELETE, |broker| self.delete_at(broker, group));
            results.insert(group.clone(), deleted.await);
        }
        Ok(results)
    }

    async fn delete_at(&self, broker: Broker, group: &ByteString) -> Result<()> {
        let request = |_| DeleteGroupsRequest { groups_names: vec![group.clone()] };
        let mut answer = self.client.call(Lane::SHARED, &broker, i16::MAX, request).await?;
        let address = broker.address();
        let result = answer.results.pop().ok_or_else(|| Error::left_out(&address, DELETE, group))?;
        let message = result.error_message.as_deref();
        Error::check(&address, DELETE, || format!("group {group}"), result.error_code, message)
    }

    /// All offsets that the group committed; none for a group that does not exist.
    pub async fn list_consumer_group_offsets(
        &self,
        group: &str,
    ) -> Result<HashMap<TopicPartition, OffsetAndMetadata>> {
        let group = &ByteString::from(group);
        let client = &self.client;
        let fetch =
            move |broker: Broker| async move { fetch_once(client, Lane::SHARED, &broker, group, None).await };
        self.at_coordinator(group, "OffsetFetch", fetch).await
    }

    /// Sets committed offsets of a group without members; `UNKNOWN_MEMBER_ID` where it has some.
    pub async fn alter_consumer_group_offsets(
        &self,
        group: &str,
        offsets: &HashMap<TopicPartition, OffsetAndMetadata>,
    ) -> Result<Each<TopicPartition>> {
        let group = &ByteString::from(group);
        let (group_id, member_id) = (group.clone(), ByteString::new());
        let identity = Identity { group_id, member_id, instance_id: None, generation: -1 };
        let (client, identity) = (&self.client, &identity);
        let commit = move |broker: Broker| async move {
            let results: Each<TopicPartition> =
                commit_once(client, Lane::SHARED, &broker, identity, offsets).await?.into_iter().collect();
            // Where the coordinator has moved or is not ready, each partition says so.
            let elsewhere =
                results.values().find_map(|result| result.as_ref().err().filter(|e| is_elsewhere(e)));
            match elsewhere {
                Some(error) => Err(error.clone()),
                None => Ok(results),
            }
        };
        self.at_coordinator(group, "OffsetCommit", commit).await
    }

    /// Deletes committed offsets of partitions that no member subscribes to.
    pub async fn delete_consumer_group_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<Each<TopicPartition>> {
        let group = &ByteString::from(group);
        let delete = |broker: Broker| self.delete_offsets_at(broker, group, partitions);
        self.at_coordinator(group, OFFSET_DELETE, delete).await
    }

    async fn delete_offsets_at(
        &self,
        broker: Broker,
        group: &ByteString,
        partitions: &[TopicPartition],
    ) -> Result<Each<TopicPartition>> {
        let mut topics: Vec<OffsetDeleteRequestTopic> = Vec::new();
        for partition in partitions {
            let entry = OffsetDeleteRequestPartition { partition_index: partition.partition.0 };
            match topics.iter_mut().find(|topic| topic.name == partition.topic) {
                Some(topic) => topic.partitions.push(entry),
                None => {
                    let name = partition.topic.clone();
                    topics.push(OffsetDeleteRequestTopic { name, partitions: vec![entry] });
                }
            }
        }
        let request = |_| OffsetDeleteRequest { group_id: group.clone(), topics };
        let answer = self.client.call(Lane::SHARED, &broker, i16::MAX, request).await?;
        let address = broker.address();
        Error::check(&address, OFFSET_DELETE, || format!("group {group}"), answer.error_code, None)?;
        let mut results = Each::new();
        for topic in answer.topics {
            for part in topic.partitions {
                let partition = PartitionIndex(part.partition_index);
                let partition = TopicPartition { topic: topic.name.clone(), partition };
                let what = || format!("{partition} of group {group}");
                let result = Error::check(&address, OFFSET_DELETE, what, part.error_code, None);
                results.insert(partition, result);
            }
        }
        Ok(results)
    }

    /// Runs `call` at the coordinator of `group`, again where that moved or fails for the moment.
    /// Plain closures instead of async ones, so that the futures of callers are `Send`.
    pub(super) async fn at_coordinator<T, F: Future<Output = Result<T>>>(
        &self,
        group: &ByteString,
        api: &'static str,
        call: impl Fn(Broker) -> F,
    ) -> Result<T> {
        let mut retry = self.retry(format!("{api} of group {group}"));
        loop {
            let attempt = match self.client.find_group_coordinator(group).await {
                Ok(coordinator) => call(coordinator).await,
                Err(error) => Err(error),
            };
            match attempt {
                Ok(done) => return Ok(done),
                Err(error) => self.again(&mut retry, error).await?,
            }
        }
    }
}

/// Whether the group has to be looked for again.
fn is_elsewhere(error: &Error) -> bool {
    matches!(
        error.code(),
        Some(
            ErrorCode::NotCoordinator
                | ErrorCode::CoordinatorNotAvailable
                | ErrorCode::CoordinatorLoadInProgress
        )
    )
}

fn description(coordinator: Broker, group: DescribedGroup) -> GroupDescription {
    GroupDescription {
        group_id: group.group_id,
        state: group.group_state,
        protocol_type: group.protocol_type,
        protocol: group.protocol_data,
        coordinator: coordinator.id,
        members: group.members.into_iter().map(member).collect(),
    }
}

fn member(member: DescribedGroupMember) -> GroupMemberDescription {
    GroupMemberDescription {
        member_id: member.member_id,
        instance_id: member.group_instance_id,
        client_id: member.client_id,
        host: member.client_host,
        metadata: member.member_metadata,
        assignment: member.member_assignment,
    }
}
