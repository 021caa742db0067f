//! ConsumerGroupDescribe (KIP-848), versions 0 to 1: consumer groups with their epochs, members and assignments. Version 1
//! says which members speak the classic protocol.

use std::collections::BTreeSet;

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::messages::consumer_group_describe_response::{
    Assignment, DescribedGroup, Member, TopicPartitions,
};
use aqueduct_protocol::messages::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse};
use bytestring::ByteString;

use super::Context;
use super::shared::{OPERATIONS_NOT_ASKED, own};
use crate::coordinator::{AssignedPartitions, DescribedConsumerGroup, DescribedConsumerMember};
use crate::security::{Operation, ResourceType};

/// Member types of version 1.
const CLASSIC: i8 = 0;
const CONSUMER: i8 = 1;
const UNKNOWN: i8 = -1;

pub(crate) async fn handle(
    context: Context,
    request: ConsumerGroupDescribeRequest,
) -> ConsumerGroupDescribeResponse {
    let mut groups = Vec::with_capacity(request.group_ids.len());
    for id in request.group_ids {
        let name = own(&id);
        let found = match context.node.groups.shard(&name) {
            _ if !context.allows_group(Operation::Describe, &id) => Err(ErrorCode::GroupAuthorizationFailed),
            _ if name.is_empty() => Err(ErrorCode::InvalidGroupId),
            Ok(shard) => shard.look(move |groups| groups.describe_consumer(&name)).await,
            Err(code) => Err(code),
        };
        let mut group = describe(context.version, id, found);
        if request.include_authorized_operations && group.error_code == 0 {
            group.authorized_operations = context.authorized_operations(ResourceType::Group, &group.group_id);
        }
        hide(&context, &mut group);
        groups.push(group);
    }
    ConsumerGroupDescribeResponse { throttle_time_ms: 0, groups }
}

/// A group that reads topics which the client may not describe is not shown.
fn hide(context: &Context, group: &mut DescribedGroup) {
    let topics = |member: &Member| -> Vec<ByteString> {
        let parts = [&member.assignment, &member.target_assignment];
        let assigned =
            parts.into_iter().flat_map(|part| &part.topic_partitions).map(|topic| topic.topic_name.clone());
        member.subscribed_topic_names.iter().cloned().chain(assigned).collect()
    };
    let named: BTreeSet<ByteString> = group.members.iter().flat_map(topics).collect();
    if named.iter().any(|name| !context.would_allow(Operation::Describe, ResourceType::Topic, name)) {
        let why = "The group has described topic(s) that the client is not authorized to describe.";
        *group = DescribedGroup {
            error_code: ErrorCode::TopicAuthorizationFailed.code(),
            error_message: Some(why.into()),
            group_id: std::mem::take(&mut group.group_id),
            authorized_operations: OPERATIONS_NOT_ASKED,
            ..Default::default()
        };
    }
}

fn describe(
    version: i16,
    id: ByteString,
    found: Result<Option<Option<DescribedConsumerGroup>>, ErrorCode>,
) -> DescribedGroup {
    let blank = DescribedGroup { authorized_operations: OPERATIONS_NOT_ASKED, ..Default::default() };
    let refused = |code: ErrorCode, why: Option<String>| DescribedGroup {
        error_code: code.code(),
        error_message: why.map(Into::into),
        group_id: id.clone(),
        ..blank.clone()
    };
    match found {
        Ok(Some(Some(group))) => DescribedGroup {
            group_id: id,
            group_state: group.state.into(),
            group_epoch: group.epoch,
            assignment_epoch: group.target_epoch,
            assignor_name: own(&group.assignor),
            members: group.members.iter().map(|one| member(version, &group, one)).collect(),
            ..blank
        },
        Ok(Some(None)) => {
            refused(ErrorCode::GroupIdNotFound, Some(format!("Group {id} is not a consumer group.")))
        }
        Ok(None) => refused(ErrorCode::GroupIdNotFound, Some(format!("Group {id} not found."))),
        Err(code) => refused(code, None),
    }
}

fn member(version: i16, group: &DescribedConsumerGroup, member: &DescribedConsumerMember) -> Member {
    let terms = &member.terms;
    Member {
        member_id: own(member.id.as_str()),
        instance_id: terms.instance_id.as_ref().map(|instance| own(instance.as_str())),
        rack_id: terms.rack.as_deref().map(own),
        member_epoch: member.epoch,
        client_id: own(&terms.client_id),
        client_host: own(&terms.client_host),
        subscribed_topic_names: terms.topics.iter().map(|topic| own(topic)).collect(),
        subscribed_topic_regex: terms.pattern.as_deref().map(own),
        assignment: assignment(group, &member.assigned),
        target_assignment: assignment(group, &member.target),
        member_type: match (version, &terms.classic) {
            (0, _) => UNKNOWN,
            (_, Some(_)) => CLASSIC,
            (_, None) => CONSUMER,
        },
    }
}

/// Topics that are gone cannot be named, and are left out.
fn assignment(group: &DescribedConsumerGroup, partitions: &AssignedPartitions) -> Assignment {
    let topic = |(topic_id, partitions): (&_, &std::collections::BTreeSet<i32>)| {
        Some(TopicPartitions {
            topic_id: *topic_id,
            topic_name: own(group.topics.get(topic_id)?),
            partitions: partitions.iter().copied().collect(),
        })
    };
    Assignment { topic_partitions: partitions.iter().filter_map(topic).collect() }
}

#[cfg(test)]
mod tests {
    use aqueduct_protocol::Encode;
    use aqueduct_protocol::ids::Uuid;
    use bytes::BytesMut;

    use super::*;

    #[test]
    fn every_version_can_carry_every_answer() {
        let partitions = AssignedPartitions::from([(Uuid([1; 16]), [0].into()), (Uuid([2; 16]), [1].into())]);
        let group = DescribedConsumerGroup {
            state: "Stable",
            epoch: 3,
            target_epoch: 3,
            assignor: "uniform".into(),
            members: vec![DescribedConsumerMember {
                id: "m".into(),
                terms: Default::default(),
                epoch: 3,
                assigned: partitions,
                target: Default::default(),
            }],
            topics: [(Uuid([1; 16]), "t".into())].into(),
        };
        for version in 0..=1 {
            let all =
                [Ok(Some(Some(group.clone()))), Ok(Some(None)), Ok(None), Err(ErrorCode::NotCoordinator)];
            let groups: Vec<_> = all.into_iter().map(|found| describe(version, "g".into(), found)).collect();
            let codes: Vec<_> = groups.iter().map(|group| group.error_code).collect();
            assert_eq!(codes, [0, 69, 69, 16]);
            let member = &groups[0].members[0];
            assert_eq!(member.assignment.topic_partitions.len(), 1, "the other topic has no name any more");
            assert_eq!(member.member_type, if version == 0 { -1 } else { 1 });
            ConsumerGroupDescribeResponse { throttle_time_ms: 0, groups }
                .encode(&mut BytesMut::new(), version)
                .unwrap();
        }
    }
}
