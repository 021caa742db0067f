//! DescribeGroups (KIP-430, KIP-345, KIP-1043), versions 0 to 6: groups with their members.

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::messages::describe_groups_response::{
    DescribedGroup as ResponseGroup, DescribedGroupMember as ResponseMember,
};
use aqueduct_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse};
use bytestring::ByteString;

use super::Context;
use super::shared::{OPERATIONS_NOT_ASKED, own};
use crate::coordinator::{DescribedGroup, DescribedMember, GroupState};
use crate::security::{Operation, ResourceType};

pub(crate) async fn handle(context: Context, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let mut groups = Vec::with_capacity(request.groups.len());
    for id in request.groups {
        let name = own(&id);
        let found = match context.node.groups.shard(&name) {
            _ if !context.allows_group(Operation::Describe, &id) => Err(ErrorCode::GroupAuthorizationFailed),
            Ok(shard) => shard.look(move |groups| groups.describe(&name).ok_or(groups.contains(&name))).await,
            Err(code) => Err(code),
        };
        let mut group = describe(context.version, id, found);
        if request.include_authorized_operations && group.error_code == 0 {
            group.authorized_operations = context.authorized_operations(ResourceType::Group, &group.group_id);
        }
        groups.push(group);
    }
    DescribeGroupsResponse { throttle_time_ms: 0, groups }
}

/// `found` is the group, or whether there is one of another kind.
fn describe(
    version: i16,
    id: ByteString,
    found: Result<Result<DescribedGroup, bool>, ErrorCode>,
) -> ResponseGroup {
    let blank = ResponseGroup { authorized_operations: OPERATIONS_NOT_ASKED, ..Default::default() };
    match found {
        Ok(Ok(group)) => ResponseGroup {
            group_id: id,
            group_state: group.state.name().into(),
            protocol_type: own(&group.protocol_type),
            protocol_data: own(&group.protocol),
            members: group.members.into_iter().map(member).collect(),
            ..blank
        },
        Ok(Err(is_other)) => {
            let unknown = version >= 6;
            let what = if is_other { "is not a classic group" } else { "not found" };
            ResponseGroup {
                error_code: if unknown { ErrorCode::GroupIdNotFound.code() } else { 0 },
                error_message: unknown.then(|| format!("Group {id} {what}.").into()),
                group_id: id,
                group_state: GroupState::Dead.name().into(),
                ..blank
            }
        }
        Err(code) => ResponseGroup { error_code: code.code(), group_id: id, ..blank },
    }
}

fn member(member: DescribedMember) -> ResponseMember {
    ResponseMember {
        member_id: own(member.id.as_str()),
        group_instance_id: member.instance_id.map(|instance| own(instance.as_str())),
        client_id: own(&member.client_id),
        client_host: own(&member.client_host),
        member_metadata: member.metadata,
        member_assignment: member.assignment,
    }
}

#[cfg(test)]
mod tests {
    use aqueduct_protocol::Encode;
    use bytes::{Bytes, BytesMut};

    use super::*;

    #[test]
    fn every_version_can_carry_every_answer() {
        let group = DescribedGroup {
            state: GroupState::Stable,
            protocol_type: "consumer".into(),
            protocol: "range".into(),
            members: vec![DescribedMember {
                id: "m".into(),
                instance_id: Some("i".into()),
                client_id: "c".into(),
                client_host: "/127.0.0.1".into(),
                metadata: Bytes::new(),
                assignment: Bytes::new(),
            }],
        };
        for version in 0..=6 {
            for found in
                [Ok(Ok(group.clone())), Ok(Err(false)), Ok(Err(true)), Err(ErrorCode::NotCoordinator)]
            {
                let groups = vec![describe(version, "g".into(), found)];
                DescribeGroupsResponse { throttle_time_ms: 0, groups }
                    .encode(&mut BytesMut::new(), version)
                    .unwrap();
            }
        }
        assert_eq!(describe(5, "g".into(), Ok(Err(false))).error_code, 0);
        assert_eq!(
            describe(6, "g".into(), Ok(Err(false))).error_message.as_deref(),
            Some("Group g not found.")
        );
    }
}
