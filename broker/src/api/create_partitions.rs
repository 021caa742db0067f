//! CreatePartitions (KIP-195), versions 0 to 3: adds partitions to topics.

use std::collections::HashSet;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::BrokerId;
use aqueduct_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use aqueduct_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use aqueduct_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};

use super::Context;
use super::shared::{failure, own};
use crate::metadata::{Command, NewPartitions, decide};
use crate::security::Operation;

/// Versions from which clients know that they may be refused for changing too much.
const STRICT_SINCE: i16 = 3;

pub(crate) async fn handle(context: Context, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let mut seen = HashSet::new();
    let mut twice = HashSet::new();
    for topic in &request.topics {
        if !seen.insert(&*topic.name) {
            twice.insert(&*topic.name);
        }
    }
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let (code, message) = if twice.contains(&*topic.name) {
            (ErrorCode::InvalidRequest, Some("Duplicate topic name.".to_owned()))
        } else if !context.allows_topic(Operation::Alter, &topic.name) {
            (ErrorCode::TopicAuthorizationFailed, None)
        } else {
            grow(&context, topic, request.validate_only).await
        };
        results.push(CreatePartitionsTopicResult {
            name: topic.name.clone(),
            error_code: code.code(),
            error_message: message.map(Into::into),
        });
    }
    CreatePartitionsResponse { results, ..Default::default() }
}

async fn grow(context: &Context, topic: &CreatePartitionsTopic, check: bool) -> (ErrorCode, Option<String>) {
    let replicas = |list: &Vec<_>| {
        let of = |assignment: &aqueduct_protocol::messages::create_partitions_request::CreatePartitionsAssignment| {
            assignment.broker_ids.iter().map(|id| BrokerId(*id)).collect()
        };
        list.iter().map(of).collect()
    };
    let partitions = NewPartitions { total: topic.count, assigned: topic.assignments.as_ref().map(replicas) };
    let command = Command::CreatePartitions { topic: own(&topic.name), partitions };
    let metadata = &context.node.metadata;
    if context.counts_mutations() && decide(&metadata.image(), &command).is_ok() {
        let has = metadata.image().topic(&topic.name).map_or(0, |topic| topic.partitions.len());
        let added = usize::try_from(topic.count).unwrap_or(0).saturating_sub(has);
        if let Err(exceeded) = context.charge_mutations(added, context.version >= STRICT_SINCE) {
            return (ErrorCode::ThrottlingQuotaExceeded, Some(exceeded.to_string()));
        }
    }
    let outcome = match check {
        true => super::shared::check(&metadata.image(), &command).map(drop).map_err(Into::into),
        false => metadata.submit(vec![command]).await.pop().map_or(Ok(()), |outcome| outcome.map(|_| ())),
    };
    match outcome {
        Ok(()) => (ErrorCode::None, None),
        Err(error) => {
            let (code, message) = failure(error);
            (code, Some(message))
        }
    }
}
