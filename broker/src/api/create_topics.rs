//! CreateTopics (KIP-4, KIP-464, KIP-525), versions 2 to 7.

use std::collections::{BTreeMap, HashMap};

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::BrokerId;
use aqueduct_protocol::messages::create_topics_request::CreatableTopic;
use aqueduct_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use aqueduct_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use bytestring::ByteString;

use super::Context;
use super::shared::{check, failure, own};
use crate::config::topic_keys;
use crate::metadata::{
    Command, MetadataError, Outcome, Placement, Rejection, TopicImage, check_new_name, decide,
};
use crate::node::{Node, random_uuid};
use crate::security::{Operation, ResourceType};

pub(crate) async fn handle(context: Context, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let node = &context.node;
    let mut named: HashMap<&str, usize> = HashMap::new();
    for topic in &request.topics {
        *named.entry(&topic.name).or_default() += 1;
    }
    let creates_all = context.would_allow_cluster(Operation::Create);
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut commands = Vec::new();
    let mut places = Vec::new();
    for topic in &request.topics {
        if named.get(&*topic.name).is_some_and(|count| *count > 1) {
            if topics.iter().all(|result: &CreatableTopicResult| result.name != topic.name) {
                topics.push(failed(&topic.name, ErrorCode::InvalidRequest, "Duplicate topic name.".into()));
            }
            continue;
        }
        if !creates_all && !context.allows_topic(Operation::Create, &topic.name) {
            let denied = failed(&topic.name, ErrorCode::TopicAuthorizationFailed, String::new());
            topics.push(CreatableTopicResult { error_message: None, ..denied });
            continue;
        }
        match command(node, topic).and_then(|command| charge(&context, command)) {
            Ok(command) => {
                places.push(topics.len());
                topics.push(CreatableTopicResult { name: topic.name.clone(), ..Default::default() });
                commands.push(command);
            }
            Err(rejection) => topics.push(failed(&topic.name, rejection.code, rejection.message)),
        }
    }
    let outcomes = match request.validate_only {
        true => {
            let image = node.metadata.image();
            commands.iter().map(|command| check(&image, command).map_err(Into::into)).collect()
        }
        false => node.metadata.submit(commands.clone()).await,
    };
    for ((at, command), outcome) in places.into_iter().zip(&commands).zip(outcomes) {
        topics[at] = result(node, command, outcome, request.validate_only);
        hide_configs(&context, &mut topics[at]);
    }
    CreateTopicsResponse { topics, ..Default::default() }
}

/// Charges the client for the partitions of a new topic.
fn charge(context: &Context, command: Command) -> Result<Command, Rejection> {
    /// Versions from which clients know that they may be refused for it.
    const STRICT_SINCE: i16 = 6;
    if !context.counts_mutations() {
        return Ok(command);
    }
    // What cannot be created costs nothing.
    let partitions = match decide(&context.node.metadata.image(), &command) {
        Ok((_, Outcome::Topic(topic))) => topic.partitions.len(),
        _ => 0,
    };
    context.charge_mutations(partitions, context.version >= STRICT_SINCE)?;
    Ok(command)
}

/// Who may not describe the topic's configuration does not learn of it by creating the topic.
fn hide_configs(context: &Context, result: &mut CreatableTopicResult) {
    let denial = ErrorCode::TopicAuthorizationFailed.code();
    if result.error_code == 0
        && !context.would_allow(Operation::DescribeConfigs, ResourceType::Topic, &result.name)
    {
        result.topic_config_error_code = denial;
        result.num_partitions = -1;
        result.replication_factor = -1;
        result.configs = Some(Vec::new());
    }
}

fn command(node: &Node, topic: &CreatableTopic) -> Result<Command, Rejection> {
    let invalid = |why: &str| Rejection::new(ErrorCode::InvalidRequest, why);
    check_new_name(&node.metadata.image(), &topic.name)?;
    let mut configs = BTreeMap::new();
    for config in &topic.configs {
        let Some(value) = &config.value else {
            return Err(Rejection::new(
                ErrorCode::InvalidConfig,
                format!("Null value not supported for topic configs: {}", config.name),
            ));
        };
        configs.insert(own(&config.name), own(value));
    }
    topic_keys::validate(&configs)
        .map_err(|error| Rejection::new(ErrorCode::InvalidConfig, error.to_string()))?;
    let partitions = if topic.assignments.is_empty() {
        let or = |given: i32, default: i32| if given == -1 { default } else { given };
        let factor = or(topic.replication_factor.into(), node.settings.default_replication_factor.into());
        Placement::Count {
            partitions: or(topic.num_partitions, node.settings.num_partitions),
            replication_factor: factor as i16,
        }
    } else {
        if topic.replication_factor != -1 {
            return Err(invalid(
                "A manual partition assignment was specified, but replication factor was not set to -1.",
            ));
        }
        if topic.num_partitions != -1 {
            return Err(invalid(
                "A manual partition assignment was specified, but numPartitions was not set to -1.",
            ));
        }
        let mut assigned = BTreeMap::new();
        for assignment in &topic.assignments {
            let brokers = assignment.broker_ids.iter().map(|id| BrokerId(*id)).collect();
            if assigned.insert(assignment.partition_index, brokers).is_some() {
                return Err(Rejection::new(
                    ErrorCode::InvalidReplicaAssignment,
                    format!(
                        "Found multiple manual partition assignments for partition {}",
                        assignment.partition_index
                    ),
                ));
            }
        }
        Placement::Assigned(assigned)
    };
    Ok(Command::CreateTopic { name: own(&topic.name), id: random_uuid(), partitions, configs })
}

fn result(
    node: &Node,
    command: &Command,
    outcome: Result<Outcome, MetadataError>,
    validate_only: bool,
) -> CreatableTopicResult {
    let Command::CreateTopic { name, configs, .. } = command else {
        return CreatableTopicResult::default();
    };
    match outcome {
        Ok(Outcome::Topic(topic)) => created(node, &topic, configs, validate_only),
        Ok(_) => failed(name, ErrorCode::UnknownServerError, "topic was not created".into()),
        Err(error) => {
            let (code, message) = failure(error);
            failed(name, code, message)
        }
    }
}

fn created(
    node: &Node,
    topic: &TopicImage,
    set: &BTreeMap<ByteString, ByteString>,
    validate_only: bool,
) -> CreatableTopicResult {
    let image = node.metadata.image();
    let effective = node.effective(&image);
    let config = |row: &topic_keys::TopicKey| {
        let (value, source) = effective.new_topic_value(set, row);
        CreatableTopicConfigs {
            name: row.key.name.into(),
            value: Some(value.into()),
            config_source: source as i8,
            ..Default::default()
        }
    };
    CreatableTopicResult {
        name: topic.name.clone(),
        error_message: None,
        topic_id: if validate_only { Default::default() } else { topic.id },
        num_partitions: topic.partitions.len() as i32,
        replication_factor: topic.partitions.first().map_or(0, |partition| partition.replicas.len()) as i16,
        configs: Some(topic_keys::KEYS.iter().map(config).collect()),
        ..Default::default()
    }
}

fn failed(name: &ByteString, code: ErrorCode, message: String) -> CreatableTopicResult {
    CreatableTopicResult {
        name: name.clone(),
        error_code: code.code(),
        error_message: Some(message.into()),
        num_partitions: -1,
        replication_factor: -1,
        configs: Some(Vec::new()),
        ..Default::default()
    }
}
