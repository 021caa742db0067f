//! LeaveGroup (KIP-345, KIP-800), versions 0 to 5: members go. One member before version 3, several since.

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::messages::leave_group_request::MemberIdentity;
use aqueduct_protocol::messages::leave_group_response::MemberResponse;
use aqueduct_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

use super::Context;
use crate::coordinator::{GroupId, Leave, Reply};
use crate::security::Operation;

pub(crate) async fn handle(context: Context, request: LeaveGroupRequest) -> LeaveGroupResponse {
    if !context.allows_group(Operation::Read, &request.group_id) {
        return write(context.version, Vec::new(), Err(ErrorCode::GroupAuthorizationFailed));
    }
    let group = GroupId::from(&*request.group_id);
    let members = if context.version >= 3 {
        request.members
    } else {
        vec![MemberIdentity { member_id: request.member_id, ..Default::default() }]
    };
    let named = |m: &MemberIdentity| ((&*m.member_id).into(), m.group_instance_id.as_deref().map(Into::into));
    let leave = Leave { group, members: members.iter().map(named).collect() };
    let reply = match context.node.groups.shard(leave.group.as_str()) {
        Ok(shard) => shard.ask(move |groups, now, token| groups.on_leave(now, token, &leave)).await,
        Err(code) => Err(code),
    };
    let codes = match reply {
        Ok(Reply::Leave(codes)) => codes,
        Ok(_) => Err(ErrorCode::UnknownServerError),
        Err(code) => Err(code),
    };
    write(context.version, members, codes)
}

fn write(
    version: i16,
    members: Vec<MemberIdentity>,
    codes: Result<Vec<ErrorCode>, ErrorCode>,
) -> LeaveGroupResponse {
    match codes {
        Err(code) => LeaveGroupResponse { error_code: code.code(), ..Default::default() },
        Ok(codes) if version < 3 => {
            let code = codes.first().copied().unwrap_or_default();
            LeaveGroupResponse { error_code: code.code(), ..Default::default() }
        }
        Ok(codes) => {
            let one = |(member, code): (MemberIdentity, ErrorCode)| MemberResponse {
                member_id: member.member_id,
                group_instance_id: member.group_instance_id,
                error_code: code.code(),
            };
            let members = members.into_iter().zip(codes).map(one).collect();
            LeaveGroupResponse { members, ..Default::default() }
        }
    }
}

#[cfg(test)]
mod tests {
    use aqueduct_protocol::Encode;
    use bytes::BytesMut;

    use super::*;

    #[test]
    fn one_code_for_all_or_one_each_by_version() {
        let member = MemberIdentity { member_id: "m".into(), ..Default::default() };
        for version in 0..=5 {
            let response = write(version, vec![member.clone()], Ok(vec![ErrorCode::UnknownMemberId]));
            let top = if version < 3 { 25 } else { 0 };
            assert_eq!((response.error_code, response.members.len()), (top, usize::from(version >= 3)));
            response.encode(&mut BytesMut::new(), version).unwrap();
            let response = write(version, vec![member.clone()], Err(ErrorCode::NotCoordinator));
            assert_eq!((response.error_code, response.members.len()), (16, 0));
        }
    }
}
