//! AlterReplicaLogDirs (KIP-113), versions 1 and 2: moves replicas between the log directories of this node. The answer comes
//! when a move has begun; DescribeLogDirs shows how far it is.

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::PartitionIndex;
use aqueduct_protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use aqueduct_protocol::messages::{AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse};
use aqueduct_storage::TopicPartition;
use bytestring::ByteString;
use indexmap::IndexMap;

use super::Context;
use crate::node::Node;
use crate::partitions::Directories;
use crate::security::Operation;

pub(crate) async fn handle(
    context: Context,
    request: AlterReplicaLogDirsRequest,
) -> AlterReplicaLogDirsResponse {
    let allowed = context.allows_cluster(Operation::Alter);
    let mut wanted: IndexMap<(ByteString, i32), ByteString> = IndexMap::new();
    for dir in request.dirs {
        for topic in dir.topics {
            for index in topic.partitions {
                // Of several directories for one replica the last counts.
                wanted.insert((topic.name.clone(), index), dir.path.clone());
            }
        }
    }
    let mut results: IndexMap<ByteString, Vec<AlterReplicaLogDirPartitionResult>> = IndexMap::new();
    for ((topic, partition_index), path) in wanted {
        let code = match allowed {
            true => alter(&context.node, &topic, partition_index, &path).await.err(),
            false => Some(ErrorCode::ClusterAuthorizationFailed),
        };
        let error_code = code.map_or(0, ErrorCode::code);
        let result = AlterReplicaLogDirPartitionResult { partition_index, error_code };
        results.entry(topic).or_default().push(result);
    }
    let results = results
        .into_iter()
        .map(|(topic_name, partitions)| AlterReplicaLogDirTopicResult { topic_name, partitions });
    AlterReplicaLogDirsResponse { results: results.collect(), ..Default::default() }
}

async fn alter(node: &Node, topic: &str, index: i32, path: &str) -> Result<(), ErrorCode> {
    let name = TopicPartition::new(topic, index);
    if Directories::is_name_too_long(&name) {
        return Err(ErrorCode::InvalidTopicException);
    }
    let directories = node.partitions.directories();
    let to = directories.by_path(path).ok_or(ErrorCode::LogDirNotFound)?;
    if !directories.is_usable(to) {
        return Err(ErrorCode::KafkaStorageError);
    }
    let image = node.metadata.image();
    let hosted = match image.topic(topic) {
        Some(known) => node.partitions.hosted(known, PartitionIndex(index)).await,
        None => Err(ErrorCode::UnknownTopicOrPartition),
    };
    let partition = match hosted {
        Ok(partition) => partition,
        Err(ErrorCode::UnknownTopicOrPartition) => {
            // It is made there when its topic comes.
            directories.prefer(&name, to);
            return Err(ErrorCode::UnknownTopicOrPartition);
        }
        Err(ErrorCode::NotLeaderOrFollower) => return Err(ErrorCode::ReplicaNotAvailable),
        Err(ErrorCode::LeaderNotAvailable) => return Err(ErrorCode::KafkaStorageError),
        Err(code) => return Err(code),
    };
    node.partitions.move_replica(partition, to).await
}
