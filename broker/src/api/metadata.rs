//! Metadata (KIP-430, KIP-516), versions 0 to 13: brokers, topics, partitions and their leaders; creates topics that are
//! asked for and missing, where that is enabled.

use std::collections::HashSet;
use std::sync::Arc;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{PartitionIndex, Uuid};
use aqueduct_protocol::messages::metadata_request::MetadataRequestTopic;
use aqueduct_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use aqueduct_protocol::messages::{MetadataRequest, MetadataResponse};
use bytestring::ByteString;

use super::Context;
use super::shared::OPERATIONS_NOT_ASKED;
use super::view::{View, numbers};
use crate::metadata::{
    BrokerImage, Endpoint, MetadataImage, PartitionImage, TopicImage, check_topic_name, is_internal,
};
use crate::security::{Operation, ResourceType};

pub(crate) async fn handle(context: Context, request: MetadataRequest) -> MetadataResponse {
    let version = context.version;
    let node = &context.node;
    let mut uncreatable = HashSet::new();
    if request.allow_auto_topic_creation && node.settings.auto_create_topics {
        uncreatable = create_missing(&context, &request).await;
    }
    if version < 12
        && request.topics.iter().flatten().any(|topic| topic.name.is_none() || !topic.topic_id.is_zero())
    {
        return refusal_of_all(&request);
    }
    let image = node.metadata.image();
    let view = View { image: &image, listener: &context.client.listener };
    let all = || {
        let visible = |topic: &&Arc<TopicImage>| {
            context.would_allow(Operation::Describe, ResourceType::Topic, &topic.name)
        };
        image.topics().filter(visible).map(|topic| known(view, topic, version)).collect()
    };
    let topics = match &request.topics {
        None => all(),
        // Before version 1 there is no null, and nothing named means all.
        Some(named) if named.is_empty() && version == 0 => all(),
        Some(named) => {
            let answer = |wanted: &MetadataRequestTopic| match denied(&context, &image, wanted, &uncreatable)
            {
                Some(topic) => topic,
                None => one(view, wanted, version),
            };
            let by_id = named.iter().any(|topic| !topic.topic_id.is_zero());
            let mut seen = HashSet::new();
            let wanted = named.iter().filter(|topic| !by_id || !topic.topic_id.is_zero());
            let once =
                wanted.filter(|topic| seen.insert((topic.name.as_ref().filter(|_| !by_id), topic.topic_id)));
            once.map(answer).collect()
        }
    };
    let mut response = MetadataResponse {
        brokers: view.brokers().map(broker).collect(),
        cluster_id: Some(image.cluster_id.clone()),
        controller_id: view.controller(node.settings.node_id),
        topics,
        cluster_authorized_operations: OPERATIONS_NOT_ASKED,
        ..Default::default()
    };
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = context.authorized_cluster_operations();
    }
    if request.include_topic_authorized_operations {
        for topic in &mut response.topics {
            let name = topic.name.as_deref().unwrap_or_default();
            // What is said of others would be said of topics that the client may not see.
            let denied = ErrorCode::TopicAuthorizationFailed.code();
            if topic.error_code != denied && topic.error_code != ErrorCode::UnknownTopicId.code() {
                topic.topic_authorized_operations = context.authorized_operations(ResourceType::Topic, name);
            }
        }
    }
    response
}

/// Before version 12 topics go by name alone: nothing is answered to a request with another.
fn refusal_of_all(request: &MetadataRequest) -> MetadataResponse {
    let refused = |wanted: &MetadataRequestTopic| MetadataResponseTopic {
        error_code: ErrorCode::InvalidRequest.code(),
        name: Some(wanted.name.clone().unwrap_or_default()),
        topic_id: wanted.topic_id,
        topic_authorized_operations: OPERATIONS_NOT_ASKED,
        ..Default::default()
    };
    MetadataResponse {
        controller_id: -1,
        topics: request.topics.iter().flatten().map(refused).collect(),
        cluster_authorized_operations: OPERATIONS_NOT_ASKED,
        ..Default::default()
    }
}

/// Creates what may be created; returns the names that the client may see, but not create.
async fn create_missing(context: &Context, request: &MetadataRequest) -> HashSet<ByteString> {
    let image = context.node.metadata.image();
    let mut missing: Vec<&ByteString> = request
        .topics
        .iter()
        .flatten()
        .filter(|topic| topic.topic_id.is_zero())
        .filter_map(|topic| topic.name.as_ref())
        .filter(|name| image.topic(name).is_none() && check_topic_name(name).is_ok())
        .filter(|name| context.would_allow(Operation::Describe, ResourceType::Topic, name))
        .collect();
    let mut uncreatable = HashSet::new();
    if !missing.is_empty() && !context.would_allow_cluster(Operation::Create) {
        missing.retain(|name| {
            let allowed = context.allows_topic(Operation::Create, name);
            if !allowed {
                uncreatable.insert((*name).clone());
            }
            allowed
        });
    }
    if !missing.is_empty() {
        let missing: Vec<&str> = missing.into_iter().map(|name| &**name).collect();
        context.node.create_missing_topics(&missing).await;
    }
    uncreatable
}

/// The answer about a topic that the client may not see, or may not create: nothing of whether it exists. Ids are no
/// secret, names are.
fn denied(
    context: &Context,
    image: &MetadataImage,
    wanted: &MetadataRequestTopic,
    uncreatable: &HashSet<ByteString>,
) -> Option<MetadataResponseTopic> {
    let refused = |name: Option<&ByteString>, topic_id: Uuid| MetadataResponseTopic {
        error_code: ErrorCode::TopicAuthorizationFailed.code(),
        name: name.cloned(),
        topic_id,
        is_internal: name.is_some_and(|name| uncreatable.contains(name) && is_internal(name)),
        topic_authorized_operations: OPERATIONS_NOT_ASKED,
        ..Default::default()
    };
    let id = wanted.topic_id;
    match &wanted.name {
        // Refused for what it is, not for what it asks for.
        name if context.version < 12 && (name.is_none() || !id.is_zero()) => None,
        Some(name) if id.is_zero() => {
            let allowed = context.allows_topic(Operation::Describe, name) && !uncreatable.contains(name);
            (!allowed).then(|| refused(Some(name), Uuid::ZERO))
        }
        _ => {
            let topic = image.topic_by_id(id)?;
            (!context.allows_topic(Operation::Describe, &topic.name)).then(|| refused(None, id))
        }
    }
}

fn one(view: View<'_>, wanted: &MetadataRequestTopic, version: i16) -> MetadataResponseTopic {
    let image = view.image;
    let failed = |code: ErrorCode| MetadataResponseTopic {
        error_code: code.code(),
        name: wanted.name.clone().or_else(|| (version < 12).then(Default::default)),
        topic_id: wanted.topic_id,
        topic_authorized_operations: OPERATIONS_NOT_ASKED,
        ..Default::default()
    };
    if version < 12 && (wanted.name.is_none() || !wanted.topic_id.is_zero()) {
        return failed(ErrorCode::InvalidRequest);
    }
    match &wanted.name {
        Some(name) if wanted.topic_id.is_zero() => match image.topic(name) {
            Some(topic) => known(view, topic, version),
            None if check_topic_name(name).is_err() => failed(ErrorCode::InvalidTopicException),
            None => MetadataResponseTopic {
                is_internal: is_internal(name),
                ..failed(ErrorCode::UnknownTopicOrPartition)
            },
        },
        _ => match image.topic_by_id(wanted.topic_id) {
            Some(topic) => known(view, topic, version),
            None => MetadataResponseTopic { name: None, ..failed(ErrorCode::UnknownTopicId) },
        },
    }
}

fn known(view: View<'_>, topic: &Arc<TopicImage>, version: i16) -> MetadataResponseTopic {
    let partition = |(index, partition): (usize, &PartitionImage)| {
        let leader = view.leader(partition);
        let code = match leader {
            Ok(_) => ErrorCode::None,
            // Older clients do not know it.
            Err(ErrorCode::ListenerNotFound) if version < 6 => ErrorCode::LeaderNotAvailable,
            Err(code) => code,
        };
        let index = index as i32;
        MetadataResponsePartition {
            error_code: code.code(),
            partition_index: index,
            leader_id: leader.map_or(-1, |leader| leader.0),
            leader_epoch: partition.leader_epoch.0,
            replica_nodes: numbers(&partition.replicas),
            isr_nodes: numbers(&partition.isr),
            offline_replicas: view.offline(topic.id, PartitionIndex(index), partition),
        }
    };
    MetadataResponseTopic {
        error_code: 0,
        name: Some(topic.name.clone()),
        topic_id: topic.id,
        is_internal: topic.is_internal(),
        partitions: topic.partitions.iter().enumerate().map(partition).collect(),
        topic_authorized_operations: OPERATIONS_NOT_ASKED,
    }
}

/// Brokers that do not have the client's listener are not there for it.
fn broker((broker, endpoint): (&Arc<BrokerImage>, &Endpoint)) -> MetadataResponseBroker {
    MetadataResponseBroker {
        node_id: broker.id.0,
        host: endpoint.host.clone(),
        port: endpoint.port.into(),
        rack: broker.rack.clone(),
    }
}

#[cfg(test)]
mod tests {
    use aqueduct_protocol::ids::{BrokerId, LeaderEpoch};

    use super::*;

    #[test]
    fn names_and_ids_that_are_unknown_or_bad_get_their_codes() {
        let image = MetadataImage::default();
        let view = View { image: &image, listener: "PLAINTEXT" };
        let code = |name: Option<&str>, id: u8, version| {
            let wanted = MetadataRequestTopic { topic_id: Uuid([id; 16]), name: name.map(Into::into) };
            let topic = one(view, &wanted, version);
            (ErrorCode::from_code(topic.error_code), topic.name.is_some())
        };
        assert_eq!(code(Some("t"), 0, 13), (ErrorCode::UnknownTopicOrPartition, true));
        assert_eq!(code(Some("ä"), 0, 13), (ErrorCode::InvalidTopicException, true));
        assert_eq!(code(None, 3, 13), (ErrorCode::UnknownTopicId, false));
        assert_eq!(code(None, 3, 10), (ErrorCode::InvalidRequest, true));
        let internal = MetadataRequestTopic { topic_id: Uuid::ZERO, name: Some("__consumer_offsets".into()) };
        assert!(one(view, &internal, 13).is_internal);
    }

    #[test]
    fn a_leader_without_the_listener_is_not_told() {
        let mut image = MetadataImage::default();
        let endpoint = crate::metadata::Endpoint {
            listener: "INSIDE".into(),
            host: "h".into(),
            port: 9092,
            protocol: crate::config::SecurityProtocol::Plaintext,
        };
        let registered = BrokerImage {
            id: BrokerId(1),
            incarnation: Uuid([1; 16]),
            endpoints: vec![endpoint],
            rack: None,
        };
        image.apply(&crate::metadata::Record::BrokerRegistered(registered));
        let partition = PartitionImage {
            leader: BrokerId(1),
            leader_epoch: LeaderEpoch(4),
            partition_epoch: 0,
            replicas: vec![BrokerId(1)],
            isr: vec![BrokerId(1)],
        };
        let topic = TopicImage { name: "t".into(), id: Uuid([7; 16]), partitions: vec![partition] };
        let topic = Arc::new(topic);
        for (listener, version, expected) in [
            ("INSIDE", 9, (1, ErrorCode::None)),
            ("OUTSIDE", 9, (-1, ErrorCode::ListenerNotFound)),
            ("OUTSIDE", 5, (-1, ErrorCode::LeaderNotAvailable)),
        ] {
            let told = &known(View { image: &image, listener }, &topic, version).partitions[0];
            assert_eq!((told.leader_id, ErrorCode::from_code(told.error_code)), expected);
            assert_eq!(
                (told.leader_epoch, told.offline_replicas.len()),
                (4, usize::from(listener == "OUTSIDE"))
            );
        }
    }
}
