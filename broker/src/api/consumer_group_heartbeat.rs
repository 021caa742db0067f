//! ConsumerGroupHeartbeat (KIP-848), versions 0 to 1: a member of a consumer group joins, stays or leaves, and hears which
//! partitions are its own. Members name themselves, and may subscribe by regular expression, since version 1.

use std::sync::Arc;

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::ids::Uuid;
use aqueduct_protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use aqueduct_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

use super::Context;
use super::shared::own;
use crate::coordinator::{
    AssignedPartitions, ConsumerHeartbeat, ConsumerHeartbeatReply, Refusal, Reply, Visible,
};
use crate::node::random_uuid;
use crate::security::{Operation, ResourceType};

pub(crate) async fn handle(
    context: Context,
    request: ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    if !context.allows_group(Operation::Read, &request.group_id) {
        return write(Err(ErrorCode::GroupAuthorizationFailed.into()));
    }
    let hidden = |name: &bytestring::ByteString| !context.allows_topic(Operation::Describe, name);
    if request.subscribed_topic_names.iter().flatten().any(hidden) {
        return write(Err(ErrorCode::TopicAuthorizationFailed.into()));
    }
    let asked = read(&context, request);
    let reply = match context.node.groups.shard(asked.group.as_str()) {
        Ok(shard) => {
            shard.ask(move |groups, now, token| groups.on_consumer_heartbeat(now, token, &asked)).await
        }
        Err(code) => Err(code),
    };
    write(match reply {
        Ok(Reply::ConsumerHeartbeat(reply)) => reply,
        Ok(_) => Err(ErrorCode::UnknownServerError.into()),
        Err(code) => Err(code.into()),
    })
}

/// Copies throughout: a member outlives the request, and a slice would keep all of it.
fn read(context: &Context, request: ConsumerGroupHeartbeatRequest) -> ConsumerHeartbeat {
    let owned = |topics: Vec<
        aqueduct_protocol::messages::consumer_group_heartbeat_request::TopicPartitions,
    >| {
        topics.into_iter().map(|topic| (topic.topic_id, topic.partitions)).collect::<Vec<(Uuid, Vec<i32>)>>()
    };
    ConsumerHeartbeat {
        group: (&*request.group_id).into(),
        member_id: (&*request.member_id).into(),
        epoch: request.member_epoch,
        instance_id: request.instance_id.as_deref().map(Into::into),
        rack: request.rack_id.as_deref().map(Into::into),
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        client_id: context.client_id.as_deref().unwrap_or_default().into(),
        client_host: context.client.host.as_str().into(),
        topics: request
            .subscribed_topic_names
            .map(|names| names.iter().map(|name| Arc::from(&**name)).collect()),
        pattern: request.subscribed_topic_regex.as_deref().map(Into::into),
        assignor: request.server_assignor.as_deref().map(Into::into),
        owned: request.topic_partitions.map(owned),
        names_itself: context.version >= 1,
        fresh: random_uuid().to_string(),
        visible: visible(context),
    }
}

/// Patterns find only topics that the member may describe.
fn visible(context: &Context) -> Visible {
    if !context.node.authorizer.is_enabled() {
        return Visible::default();
    }
    let context = context.clone();
    let shows = move |name: &str| context.would_allow(Operation::Describe, ResourceType::Topic, name);
    Visible(Some(Arc::new(shows)))
}

fn write(reply: Result<ConsumerHeartbeatReply, Refusal>) -> ConsumerGroupHeartbeatResponse {
    match reply {
        Ok(reply) => ConsumerGroupHeartbeatResponse {
            member_id: Some(own(reply.member_id.as_str())),
            member_epoch: reply.epoch,
            heartbeat_interval_ms: reply.heartbeat_interval_ms,
            assignment: reply.assignment.map(assignment),
            ..Default::default()
        },
        Err(refusal) => ConsumerGroupHeartbeatResponse {
            error_code: refusal.code.code(),
            error_message: refusal.message.map(Into::into),
            ..Default::default()
        },
    }
}

fn assignment(partitions: AssignedPartitions) -> Assignment {
    let topic = |(topic_id, partitions): (Uuid, std::collections::BTreeSet<i32>)| TopicPartitions {
        topic_id,
        partitions: partitions.into_iter().collect(),
    };
    Assignment { topic_partitions: partitions.into_iter().map(topic).collect() }
}

#[cfg(test)]
mod tests {
    use aqueduct_protocol::Encode;
    use bytes::BytesMut;

    use super::*;

    #[test]
    fn every_version_can_carry_every_answer() {
        let partitions = AssignedPartitions::from([(Uuid([1; 16]), [0, 2].into())]);
        let full = ConsumerHeartbeatReply {
            member_id: "m".into(),
            epoch: 4,
            heartbeat_interval_ms: 5_000,
            assignment: Some(partitions),
        };
        let refusal = Refusal::new(ErrorCode::FencedMemberEpoch, "why");
        for version in 0..=1 {
            for reply in [Ok(full.clone()), Err(refusal.clone()), Err(ErrorCode::NotCoordinator.into())] {
                write(reply).encode(&mut BytesMut::new(), version).unwrap();
            }
        }
        let written = write(Ok(full));
        assert_eq!(written.assignment.unwrap().topic_partitions[0].partitions, [0, 2]);
        assert_eq!(write(Err(refusal)).error_message.as_deref(), Some("why"));
    }
}
