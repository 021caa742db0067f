//! DeleteTopics (KIP-4, KIP-516), versions 1 to 6, by name or by id.

use std::collections::HashMap;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::Uuid;
use aqueduct_protocol::messages::delete_topics_request::DeleteTopicState;
use aqueduct_protocol::messages::delete_topics_response::DeletableTopicResult;
use aqueduct_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};

use super::Context;
use super::shared::{failure, own};
use crate::metadata::{Command, MetadataImage, Rejection};
use crate::security::{Operation, ResourceType};

/// Versions from which clients know that they may be refused for changing too much.
const STRICT_SINCE: i16 = 5;

pub(crate) async fn handle(context: Context, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let node = &context.node;
    let wanted: Vec<DeleteTopicState> = match context.version {
        6.. => request.topics,
        _ => request
            .topic_names
            .into_iter()
            .map(|name| DeleteTopicState { name: Some(name), ..Default::default() })
            .collect(),
    };
    if !node.settings.delete_topics {
        let code = match context.version {
            3.. => ErrorCode::TopicDeletionDisabled,
            _ => ErrorCode::InvalidRequest,
        };
        let refuse =
            |topic| failed(topic, Rejection::new(code, "delete.topic.enable is false on this broker"));
        return DeleteTopicsResponse {
            responses: wanted.into_iter().map(refuse).collect(),
            ..Default::default()
        };
    }
    let image = node.metadata.image();
    let mut responses: Vec<DeletableTopicResult> = Vec::with_capacity(wanted.len());
    let (wanted, twice) = named_once(wanted);
    responses.extend(
        twice
            .into_iter()
            .map(|topic| failed(topic, Rejection::new(ErrorCode::InvalidRequest, "Duplicate topic name."))),
    );
    for topic in wanted {
        let deleted = match find(&image, &topic) {
            _ if denied(&context, &image, &topic) => {
                responses.push(unauthorized(&context, topic));
                continue;
            }
            Ok((id, name)) => delete(&context, &image, id).await.map(|()| DeletableTopicResult {
                name: Some(name),
                topic_id: id,
                ..Default::default()
            }),
            Err(rejection) => Err(rejection),
        };
        responses.push(deleted.unwrap_or_else(|rejection| failed(topic, rejection)));
    }
    DeleteTopicsResponse { responses, ..Default::default() }
}

/// Topics that are named or numbered once, and one of each of those that are so more often.
fn named_once(wanted: Vec<DeleteTopicState>) -> (Vec<DeleteTopicState>, Vec<DeleteTopicState>) {
    let mut counts: HashMap<_, usize> = HashMap::new();
    let key = |topic: &DeleteTopicState| (topic.name.clone(), topic.topic_id);
    wanted.iter().for_each(|topic| *counts.entry(key(topic)).or_default() += 1);
    let (mut once, mut twice) = (Vec::new(), Vec::new());
    for topic in wanted {
        match counts.remove(&key(&topic)) {
            Some(1) => once.push(topic),
            Some(_) => twice.push(topic),
            None => {}
        }
    }
    (once, twice)
}

async fn delete(context: &Context, image: &MetadataImage, id: Uuid) -> Result<(), Rejection> {
    let node = &context.node;
    let partitions = image.topic_by_id(id).map_or(0, |topic| topic.partitions.len());
    context.charge_mutations(partitions, context.version >= STRICT_SINCE)?;
    match node.metadata.submit(vec![Command::DeleteTopic { id }]).await.pop() {
        Some(Err(error)) => {
            let (code, message) = failure(error);
            Err(Rejection::new(code, message))
        }
        _ => {
            node.partitions.remove_topic(id).await;
            Ok(())
        }
    }
}

/// Whether the client may not delete the topic, or not even know of it.
fn denied(context: &Context, image: &MetadataImage, wanted: &DeleteTopicState) -> bool {
    let name = match &wanted.name {
        Some(_) if !wanted.topic_id.is_zero() => None,
        Some(name) => Some(name),
        None => image.topic_by_id(wanted.topic_id).map(|topic| &topic.name),
    };
    let Some(name) = name else { return false };
    if context.would_allow_cluster(Operation::Delete) {
        return false;
    }
    !context.allows_topic(Operation::Describe, name)
        || image.topic(name).is_some() && !context.allows_topic(Operation::Delete, name)
}

/// An id that the client may not see stays without its name.
fn unauthorized(context: &Context, wanted: DeleteTopicState) -> DeletableTopicResult {
    let image = context.node.metadata.image();
    let known = image.topic_by_id(wanted.topic_id).map(|topic| topic.name.clone());
    let visible = known.filter(|name| context.would_allow(Operation::Describe, ResourceType::Topic, name));
    DeletableTopicResult {
        name: wanted.name.or(visible),
        topic_id: wanted.topic_id,
        error_code: ErrorCode::TopicAuthorizationFailed.code(),
        error_message: None,
    }
}

fn find(
    image: &MetadataImage,
    wanted: &DeleteTopicState,
) -> Result<(Uuid, bytestring::ByteString), Rejection> {
    let topic = match &wanted.name {
        Some(_) if !wanted.topic_id.is_zero() => {
            return Err(Rejection::new(
                ErrorCode::InvalidRequest,
                "You may not specify both topic name and topic id.",
            ));
        }
        None if wanted.topic_id.is_zero() => {
            return Err(Rejection::new(
                ErrorCode::InvalidRequest,
                "Neither topic name nor id were specified.",
            ));
        }
        Some(name) => image.topic(name).ok_or_else(|| {
            Rejection::new(
                ErrorCode::UnknownTopicOrPartition,
                "This server does not host this topic-partition.",
            )
        })?,
        None => image.topic_by_id(wanted.topic_id).ok_or_else(|| {
            Rejection::new(ErrorCode::UnknownTopicId, "This server does not host this topic ID.")
        })?,
    };
    if topic.is_internal() {
        return Err(Rejection::new(
            ErrorCode::InvalidTopicException,
            format!("{} holds the state of a coordinator and may not be deleted.", topic.name),
        ));
    }
    Ok((topic.id, own(&topic.name)))
}

fn failed(topic: DeleteTopicState, rejection: Rejection) -> DeletableTopicResult {
    DeletableTopicResult {
        name: topic.name,
        topic_id: topic.topic_id,
        error_code: rejection.code.code(),
        error_message: Some(rejection.message.into()),
    }
}
