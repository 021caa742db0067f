//! DescribeLogDirs (KIP-113, KIP-827, KIP-1066), versions 1 to 5: which partitions are in which log directory, and how
//! large they are.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::PartitionIndex;
use aqueduct_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use aqueduct_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use bytestring::ByteString;

use super::Context;
use crate::node::Node;
use crate::partitions::{self, Health};
use crate::security::Operation;

pub(crate) async fn handle(context: Context, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let failed = |code: ErrorCode| DescribeLogDirsResponse { error_code: code.code(), ..Default::default() };
    if !context.allows_cluster(Operation::Describe) {
        return failed(ErrorCode::ClusterAuthorizationFailed);
    }
    let wanted: Option<HashSet<(ByteString, i32)>> = request.topics.map(|topics| {
        topics
            .into_iter()
            .flat_map(|topic| topic.partitions.into_iter().map(move |index| (topic.topic.clone(), index)))
            .collect()
    });
    let node = context.node.clone();
    place(&node, wanted.as_ref()).await;
    match aqueduct_quorum::blocking::spawn(move || describe(&node, wanted.as_ref())).await {
        Ok(results) => DescribeLogDirsResponse { results, ..Default::default() },
        Err(_) => failed(ErrorCode::KafkaStorageError),
    }
}

/// Whether the request asks for this partition; null asks for all.
fn is_wanted(wanted: Option<&HashSet<(ByteString, i32)>>, topic: &str, index: i32) -> bool {
    wanted.is_none_or(|wanted| wanted.contains(&(ByteString::from(topic), index)))
}

/// Gives those partitions a directory that have none yet, because nothing was written to them or read from them.
async fn place(node: &Node, wanted: Option<&HashSet<(ByteString, i32)>>) {
    let placed: HashSet<_> =
        node.partitions.directories().held().into_iter().map(|(partition, _)| partition).collect();
    let image = node.metadata.image();
    let all = image.topics().flat_map(|topic| {
        (0..).map(PartitionIndex).take(topic.partitions.len()).map(move |index| (topic.clone(), index))
    });
    let missing = all
        .filter(|(topic, index)| is_wanted(wanted, &topic.name, index.0))
        .filter(|(topic, index)| !placed.contains(&partitions::name(topic, *index)));
    node.partitions.open_all_of(missing.collect()).await;
}

type Topics = BTreeMap<Arc<str>, Vec<DescribeLogDirsPartition>>;

fn describe(node: &Node, wanted: Option<&HashSet<(ByteString, i32)>>) -> Vec<DescribeLogDirsResult> {
    let directories = node.partitions.directories();
    let mut by_directory: Vec<Topics> = vec![Topics::new(); directories.len()];
    let open: BTreeMap<_, _> = node
        .partitions
        .all_open()
        .into_iter()
        .filter(|partition| !partition.is_deleted())
        .map(|partition| (partition.name().clone(), partition))
        .collect();
    for (partition, directory) in directories.held() {
        let index = partition.partition.0;
        if !is_wanted(wanted, &partition.topic, index) {
            continue;
        }
        let partition_size = match open.get(&partition) {
            Some(open) => open.log().size() as i64,
            None => size_on_disk(&directories.path(directory, &partition)),
        };
        let described = DescribeLogDirsPartition {
            partition_index: index,
            partition_size,
            offset_lag: 0,
            is_future_key: false,
        };
        by_directory[directory].entry(partition.topic.clone()).or_default().push(described);
    }
    for moving in node.partitions.moves().all() {
        let index = moving.name.partition.0;
        let Some(log) = open.get(&moving.name).filter(|_| is_wanted(wanted, &moving.name.topic, index))
        else {
            continue;
        };
        let (end, partition_size) = moving.progress();
        let described = DescribeLogDirsPartition {
            partition_index: index,
            partition_size,
            offset_lag: (log.log().log_end_offset().0 - end.0).max(0),
            is_future_key: true,
        };
        by_directory[moving.to].entry(moving.name.topic.clone()).or_default().push(described);
    }
    directories.health().zip(by_directory).map(|(health, topics)| described(health, topics)).collect()
}

/// A directory that failed is told with its error and nothing else, as the reference does.
fn described(health: &Health, topics: Topics) -> DescribeLogDirsResult {
    if !health.is_failed() {
        return result(health.path(), topics);
    }
    DescribeLogDirsResult {
        error_code: ErrorCode::KafkaStorageError.code(),
        log_dir: health.path().display().to_string().into(),
        total_bytes: -1,
        usable_bytes: -1,
        ..Default::default()
    }
}

fn result(path: &Path, topics: Topics) -> DescribeLogDirsResult {
    let (total_bytes, usable_bytes) = match rustix::fs::statvfs(path) {
        Ok(space) => {
            let bytes =
                |blocks: u64| i64::try_from(blocks.saturating_mul(space.f_frsize)).unwrap_or(i64::MAX);
            (bytes(space.f_blocks), bytes(space.f_bavail))
        }
        Err(_) => (-1, -1),
    };
    let topic = |(name, mut partitions): (Arc<str>, Vec<DescribeLogDirsPartition>)| {
        partitions.sort_by_key(|partition| partition.partition_index);
        DescribeLogDirsTopic { name: (&*name).into(), partitions }
    };
    DescribeLogDirsResult {
        log_dir: path.display().to_string().into(),
        topics: topics.into_iter().map(topic).collect(),
        total_bytes,
        usable_bytes,
        ..Default::default()
    }
}

/// The size of the segments of a log that is not open.
fn size_on_disk(path: &Path) -> i64 {
    let Ok(entries) = std::fs::read_dir(path) else { return 0 };
    let is_log = |entry: &std::fs::DirEntry| entry.path().extension().is_some_and(|kind| kind == "log");
    let sizes = entries.flatten().filter(is_log).filter_map(|entry| entry.metadata().ok());
    sizes.map(|metadata| metadata.len() as i64).sum()
}
