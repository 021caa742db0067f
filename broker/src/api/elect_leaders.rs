//! ElectLeaders (KIP-183, KIP-460), versions 0 to 2: has partitions led by their preferred replica, or by any that is left.

use std::collections::BTreeMap;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::PartitionIndex;
use aqueduct_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use aqueduct_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse};
use bytestring::ByteString;

use super::Context;
use super::shared::{failure, own};
use crate::metadata::{Command, ElectionType, PartitionImage};
use crate::security::Operation;

pub(crate) async fn handle(context: Context, request: ElectLeadersRequest) -> ElectLeadersResponse {
    let failed = |code: ErrorCode| ElectLeadersResponse { error_code: code.code(), ..Default::default() };
    if !context.allows_cluster(Operation::Alter) {
        return failed(ErrorCode::ClusterAuthorizationFailed);
    }
    // Version 0 knows preferred leaders alone.
    let kind = match (context.version, request.election_type) {
        (0, _) | (_, 0) => ElectionType::Preferred,
        (_, 1) => ElectionType::Unclean,
        _ => return unknown_kind(request),
    };
    let image = context.node.metadata.image();
    let of_all = request.topic_partitions.is_none();
    // Each topic is told of, whether there was something to do or not.
    let mut results: BTreeMap<ByteString, Vec<PartitionResult>> = match &request.topic_partitions {
        Some(topics) => topics.iter().map(|topic| (own(&topic.topic), Vec::new())).collect(),
        None => image.topics().map(|topic| (topic.name.clone(), Vec::new())).collect(),
    };
    let wanted: Vec<(ByteString, i32)> = match request.topic_partitions {
        Some(topics) => {
            let of = |topic: aqueduct_protocol::messages::elect_leaders_request::TopicPartitions| {
                let name = own(&topic.topic);
                topic.partitions.into_iter().map(move |index| (name.clone(), index))
            };
            topics.into_iter().flat_map(of).collect()
        }
        // Those alone for which there is something to do: a cluster has many.
        None => image
            .topics()
            .flat_map(|topic| {
                let partitions = (0..).zip(&topic.partitions);
                let wanting = partitions.filter(|(_, partition)| is_wanting(partition, kind));
                wanting.map(move |(index, _)| (topic.name.clone(), index))
            })
            .collect(),
    };
    let command = |(topic, index): &(ByteString, i32)| Command::ElectLeader {
        topic: topic.clone(),
        index: PartitionIndex(*index),
        kind,
    };
    let outcomes = context.node.metadata.submit(wanted.iter().map(command).collect()).await;
    for ((topic, partition_id), outcome) in wanted.into_iter().zip(outcomes) {
        let (code, message) = match outcome {
            Ok(_) => (ErrorCode::None, None),
            Err(error) => {
                let (code, message) = failure(error);
                (code, Some(message.into()))
            }
        };
        // Who asks about all partitions is told of those for which there was something to do.
        if of_all && code == ErrorCode::ElectionNotNeeded {
            continue;
        }
        let result = PartitionResult { partition_id, error_code: code.code(), error_message: message };
        results.entry(topic).or_default().push(result);
    }
    let result = |(topic, partition_result)| ReplicaElectionResult { topic, partition_result };
    ElectLeadersResponse {
        replica_election_results: results.into_iter().map(result).collect(),
        ..Default::default()
    }
}

/// Whether an election could change something.
fn is_wanting(partition: &PartitionImage, kind: ElectionType) -> bool {
    match kind {
        ElectionType::Preferred => partition.replicas.first() != Some(&partition.leader),
        ElectionType::Unclean => partition.leader.0 < 0,
    }
}

/// No such kind of election: the request as a whole, and each partition of it, are refused; who asks for nothing is not.
fn unknown_kind(request: ElectLeadersRequest) -> ElectLeadersResponse {
    if request.topic_partitions.as_ref().is_some_and(Vec::is_empty) {
        return ElectLeadersResponse::default();
    }
    let error_code = ErrorCode::InvalidRequest.code();
    let message = format!("Unknown election type {}: 0 is preferred, 1 unclean.", request.election_type);
    let partition = |partition_id| PartitionResult {
        partition_id,
        error_code,
        error_message: Some(message.clone().into()),
    };
    let topics = request.topic_partitions.unwrap_or_default().into_iter();
    let results = topics.map(|asked| ReplicaElectionResult {
        topic: asked.topic,
        partition_result: asked.partitions.into_iter().map(partition).collect(),
    });
    ElectLeadersResponse { error_code, replica_election_results: results.collect(), ..Default::default() }
}
