//! JoinGroup (KIP-62, KIP-345, KIP-394, KIP-559, KIP-800, KIP-814), versions 0 to 9: a client asks to be in the next
//! generation of a group. The answer may take as long as a rebalance.

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::messages::join_group_response::JoinGroupResponseMember;
use aqueduct_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use bytes::Bytes;

use super::Context;
use super::shared::own;
use crate::coordinator::{Join, JoinReply, Protocol, Reply};
use crate::security::Operation;

pub(crate) async fn handle(context: Context, request: JoinGroupRequest) -> JoinGroupResponse {
    let member_id = own(&request.member_id);
    let allowed = context.allows_group(Operation::Read, &request.group_id);
    let join = read(&context, request);
    let parked = context.node.metrics.rebalances_parked.park();
    let reply = match context.node.groups.shard(join.group.as_str()) {
        _ if !allowed => Err(ErrorCode::GroupAuthorizationFailed),
        Ok(shard) => shard.ask(move |groups, now, token| groups.on_join(now, token, &join)).await,
        Err(code) => Err(code),
    };
    drop(parked);
    let reply = match reply {
        Ok(Reply::Join(reply)) => reply,
        Ok(_) => JoinReply::error(ErrorCode::UnknownServerError, (&*member_id).into()),
        Err(code) => JoinReply::error(code, (&*member_id).into()),
    };
    write(context.version, reply)
}

fn read(context: &Context, request: JoinGroupRequest) -> Join {
    // Version 0 knows one timeout for both.
    let rebalance_timeout_ms =
        if context.version >= 1 { request.rebalance_timeout_ms } else { request.session_timeout_ms };
    // Copies throughout: a member outlives the request, and a slice would keep all of it.
    let protocols = request
        .protocols
        .iter()
        .map(|p| Protocol { name: (&*p.name).into(), metadata: Bytes::copy_from_slice(&p.metadata) })
        .collect();
    Join {
        group: (&*request.group_id).into(),
        member_id: (&*request.member_id).into(),
        instance_id: request.group_instance_id.as_deref().map(Into::into),
        client_id: context.client_id.as_deref().unwrap_or_default().into(),
        client_host: context.client.host.as_str().into(),
        protocol_type: (&*request.protocol_type).into(),
        protocols,
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms,
        needs_member_id: context.version >= 4,
        may_skip_assignment: context.version >= 9,
        fresh: random_uuid_text(),
    }
}

/// A random UUID in its usual form, as Kafka ends its member ids.
fn random_uuid_text() -> String {
    let bits = rand::random::<u128>() & !(0xf << 76) & !(0b11 << 62) | (4 << 76) | (0b10 << 62);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn write(version: i16, reply: JoinReply) -> JoinGroupResponse {
    let members = reply
        .members
        .into_iter()
        .map(|member| JoinGroupResponseMember {
            member_id: own(member.member_id.as_str()),
            group_instance_id: member.instance_id.map(|instance| own(instance.as_str())),
            metadata: member.metadata,
        })
        .collect();
    JoinGroupResponse {
        throttle_time_ms: 0,
        error_code: reply.error.code(),
        generation_id: reply.generation.0,
        protocol_type: reply.protocol_type.as_deref().map(own),
        // Null has been possible from version 7 on.
        protocol_name: reply.protocol.as_deref().map(own).or((version < 7).then(Default::default)),
        leader: own(reply.leader.as_str()),
        skip_assignment: reply.skip_assignment,
        member_id: own(reply.member_id.as_str()),
        members,
    }
}

#[cfg(test)]
mod tests {
    use aqueduct_protocol::Encode;
    use bytes::BytesMut;

    use super::*;
    use crate::coordinator::JoinMember;

    #[test]
    fn every_version_can_carry_every_answer() {
        let full = JoinReply {
            protocol_type: Some("consumer".into()),
            protocol: Some("range".into()),
            members: vec![JoinMember {
                member_id: "m".into(),
                instance_id: Some("i".into()),
                metadata: Bytes::new(),
            }],
            ..JoinReply::error(ErrorCode::None, "m".into())
        };
        for version in 0..=9 {
            let full = JoinReply { skip_assignment: version >= 9, ..full.clone() };
            for reply in [full, JoinReply::error(ErrorCode::MemberIdRequired, "m".into())] {
                write(version, reply).encode(&mut BytesMut::new(), version).unwrap();
            }
        }
    }

    #[test]
    fn ids_look_like_javas() {
        let id = random_uuid_text();
        assert_eq!((id.len(), id.matches('-').count(), &id[14..15]), (36, 4, "4"), "{id}");
        assert!("89ab".contains(&id[19..20]), "{id}");
        assert_ne!(id, random_uuid_text());
    }
}
