//! Consumer groups of either protocol, with what each member has.

use std::collections::BTreeSet;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::BrokerId;
use aqueduct_protocol::messages::ConsumerGroupDescribeRequest;
use aqueduct_protocol::messages::consumer_group_describe_response::{Assignment, DescribedGroup};
use bytestring::ByteString;

use super::{Admin, GroupDescription};
use crate::consumer::assigned_partitions;
use crate::error::{Error, Result};
use crate::metadata::Broker;
use crate::net::Lane;
use crate::types::TopicPartition;

const DESCRIBE: &str = "ConsumerGroupDescribe";

/// A group of consumers, whichever protocol it speaks.
#[derive(Debug, Clone)]
pub struct ConsumerGroupDescription {
    pub group_id: ByteString,
    /// `classic` or `consumer`.
    pub group_type: &'static str,
    pub protocol_type: ByteString,
    pub state: ByteString,
    pub assignor: ByteString,
    pub coordinator: BrokerId,
    /// `None` in classic groups.
    pub epoch: Option<i32>,
    pub members: Vec<ConsumerGroupMember>,
}

/// A member of such a group.
#[derive(Debug, Clone)]
pub struct ConsumerGroupMember {
    pub member_id: ByteString,
    pub instance_id: Option<ByteString>,
    pub client_id: ByteString,
    pub host: ByteString,
    /// `None` in classic groups.
    pub epoch: Option<i32>,
    /// What it reads; empty where that cannot be told.
    pub assignment: BTreeSet<TopicPartition>,
}

impl Admin {
    /// Describes a group of either protocol. `GROUP_ID_NOT_FOUND` where there is none.
    pub async fn describe_consumer_group(&self, group: &ByteString) -> Result<ConsumerGroupDescription> {
        let call = |broker: Broker| self.describe_consumer_group_at(broker, group);
        match self.at_coordinator(group, DESCRIBE, call).await {
            Ok(found) => Ok(found),
            // Not a group of the newer protocol, or a broker that does not know it.
            Err(error) if error.code() == Some(ErrorCode::GroupIdNotFound) => {
                self.describe_classic(group).await
            }
            Err(Error::UnsupportedVersion { .. }) => self.describe_classic(group).await,
            Err(error) => Err(error),
        }
    }

    async fn describe_classic(&self, group: &ByteString) -> Result<ConsumerGroupDescription> {
        let mut found = self.describe_groups(std::slice::from_ref(group)).await?;
        match found.remove(group) {
            Some(found) => Ok(of_classic(found?)),
            None => Err(Error::Invalid(format!("group {group} is not in the answer"))),
        }
    }

    async fn describe_consumer_group_at(
        &self,
        broker: Broker,
        group: &ByteString,
    ) -> Result<ConsumerGroupDescription> {
        let request =
            |_| ConsumerGroupDescribeRequest { group_ids: vec![group.clone()], ..Default::default() };
        let mut answer = self.client.call(Lane::SHARED, &broker, i16::MAX, request).await?;
        let address = broker.address();
        let found = answer.groups.pop().ok_or_else(|| Error::left_out(&address, DESCRIBE, group))?;
        let message = found.error_message.as_deref();
        Error::check(&address, DESCRIBE, || format!("group {group}"), found.error_code, message)?;
        Ok(of_consumer(broker.id, found))
    }
}

fn of_consumer(coordinator: BrokerId, group: DescribedGroup) -> ConsumerGroupDescription {
    let partitions = |assignment: Assignment| {
        let of = |topic: aqueduct_protocol::messages::consumer_group_describe_response::TopicPartitions| {
            topic
                .partitions
                .into_iter()
                .map(move |index| TopicPartition::new(topic.topic_name.clone(), index))
        };
        assignment.topic_partitions.into_iter().flat_map(of).collect()
    };
    ConsumerGroupDescription {
        group_id: group.group_id,
        group_type: "consumer",
        protocol_type: ByteString::from_static("consumer"),
        state: group.group_state,
        assignor: group.assignor_name,
        coordinator,
        epoch: Some(group.group_epoch),
        members: group
            .members
            .into_iter()
            .map(|member| ConsumerGroupMember {
                member_id: member.member_id,
                instance_id: member.instance_id,
                client_id: member.client_id,
                host: member.client_host,
                epoch: Some(member.member_epoch),
                assignment: partitions(member.assignment),
            })
            .collect(),
    }
}

fn of_classic(group: GroupDescription) -> ConsumerGroupDescription {
    let is_consumer = &*group.protocol_type == "consumer";
    ConsumerGroupDescription {
        group_id: group.group_id,
        group_type: "classic",
        protocol_type: group.protocol_type,
        state: group.state,
        assignor: group.protocol,
        coordinator: group.coordinator,
        epoch: None,
        members: group
            .members
            .into_iter()
            .map(|member| ConsumerGroupMember {
                member_id: member.member_id,
                instance_id: member.instance_id,
                client_id: member.client_id,
                host: member.host,
                epoch: None,
                assignment: match is_consumer {
                    true => assigned_partitions(&member.assignment),
                    false => BTreeSet::new(),
                },
            })
            .collect(),
    }
}
