//! The requests of a member, each a single attempt.

use std::time::Duration;

use aqueduct_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use aqueduct_protocol::messages::leave_group_request::MemberIdentity;
use aqueduct_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use aqueduct_protocol::messages::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest,
};
use bytes::Bytes;
use bytestring::ByteString;

use super::member::Shared;
use super::{JoinOutcome, JoinedMember};
use crate::error::{Error, Result};
use crate::metadata::Broker;
use crate::net::Lane;

/// Who a member is to its coordinator.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) group_id: ByteString,
    /// Empty for a member that the coordinator does not know yet.
    pub(crate) member_id: ByteString,
    pub(crate) instance_id: Option<ByteString>,
    /// -1 outside of any.
    pub(crate) generation: i32,
}

impl Identity {
    fn what(&self) -> String {
        format!("group {}", self.group_id)
    }
}

/// Joins. With an error comes the member id that the coordinator gave, if it did.
pub(super) async fn join(
    shared: &Shared,
    lane: Lane,
    coordinator: &Broker,
    identity: &Identity,
    protocols: &[(ByteString, Bytes)],
    patience: Duration,
) -> Result<JoinOutcome, (Error, ByteString)> {
    let options = &shared.options;
    let protocols = protocols
        .iter()
        .map(|(name, metadata)| JoinGroupRequestProtocol { name: name.clone(), metadata: metadata.clone() });
    let request = |version: i16| JoinGroupRequest {
        group_id: options.group_id.clone(),
        session_timeout_ms: millis(options.session_timeout),
        rebalance_timeout_ms: if version >= 1 { millis(options.rebalance_timeout) } else { -1 },
        member_id: identity.member_id.clone(),
        group_instance_id: options.instance_id.clone().filter(|_| version >= 5),
        protocol_type: options.protocol_type.clone(),
        protocols: protocols.collect(),
        reason: None,
    };
    let none = |error| (error, ByteString::new());
    let connection = shared.client.connect(lane, coordinator).await.map_err(none)?;
    let answer = connection.call(i16::MAX, request, patience).await.map_err(none)?;
    let address = coordinator.address();
    match Error::of_code(&address, "JoinGroup", || identity.what(), answer.error_code, None) {
        Some(error) => Err((error, answer.member_id)),
        None => Ok(outcome(answer)),
    }
}

fn outcome(answer: JoinGroupResponse) -> JoinOutcome {
    let members = answer.members.into_iter().map(|member| JoinedMember {
        member_id: member.member_id,
        instance_id: member.group_instance_id,
        metadata: member.metadata,
    });
    JoinOutcome {
        generation: answer.generation_id,
        member_id: answer.member_id,
        leader_id: answer.leader,
        protocol: answer.protocol_name.unwrap_or_default(),
        members: members.collect(),
        skip_assignment: answer.skip_assignment,
        was_lost: false,
    }
}

pub(super) async fn sync(
    shared: &Shared,
    lane: Lane,
    coordinator: &Broker,
    identity: &Identity,
    protocol: Option<ByteString>,
    assignments: Vec<(ByteString, Bytes)>,
    patience: Duration,
) -> Result<Bytes> {
    let assignments = assignments
        .into_iter()
        .map(|(member_id, assignment)| SyncGroupRequestAssignment { member_id, assignment });
    let request = |version: i16| SyncGroupRequest {
        group_id: identity.group_id.clone(),
        generation_id: identity.generation,
        member_id: identity.member_id.clone(),
        group_instance_id: identity.instance_id.clone().filter(|_| version >= 3),
        protocol_type: (version >= 5).then(|| shared.options.protocol_type.clone()),
        protocol_name: protocol.filter(|_| version >= 5),
        assignments: assignments.collect(),
    };
    let connection = shared.client.connect(lane, coordinator).await?;
    let answer = connection.call(i16::MAX, request, patience).await?;
    let address = coordinator.address();
    Error::check(&address, "SyncGroup", || identity.what(), answer.error_code, None)?;
    Ok(answer.assignment)
}

pub(super) async fn heartbeat(shared: &Shared, identity: &Identity) -> Result<()> {
    let coordinator = shared.coordinator().await?;
    let request = |version: i16| HeartbeatRequest {
        group_id: identity.group_id.clone(),
        generation_id: identity.generation,
        member_id: identity.member_id.clone(),
        group_instance_id: identity.instance_id.clone().filter(|_| version >= 3),
    };
    let connection = shared.client.connect(shared.lane, &coordinator).await?;
    // An answer that comes after the session is over is of no use.
    let patience = shared.client.config().request_timeout.min(shared.options.session_timeout);
    let answer = connection.call(i16::MAX, request, patience).await?;
    Error::check(&coordinator.address(), "Heartbeat", || identity.what(), answer.error_code, None)
}

pub(super) async fn leave(shared: &Shared, identity: &Identity, reason: &str) -> Result<()> {
    let coordinator = shared.coordinator().await?;
    let request = |version: i16| match version {
        0..3 => LeaveGroupRequest {
            group_id: identity.group_id.clone(),
            member_id: identity.member_id.clone(),
            ..Default::default()
        },
        _ => LeaveGroupRequest {
            group_id: identity.group_id.clone(),
            members: vec![MemberIdentity {
                member_id: identity.member_id.clone(),
                group_instance_id: identity.instance_id.clone(),
                reason: (version >= 5).then(|| reason.into()),
            }],
            ..Default::default()
        },
    };
    let answer = shared.client.call(shared.lane, &coordinator, i16::MAX, request).await?;
    let code =
        answer.members.first().map_or(answer.error_code, |member| member.error_code.max(answer.error_code));
    Error::check(&coordinator.address(), "LeaveGroup", || identity.what(), code, None)
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
