//! The metadata quorum as DescribeQuorum shows it.

use aqueduct_protocol::ids::Uuid;
use aqueduct_protocol::messages::DescribeQuorumResponse;
use aqueduct_protocol::messages::describe_quorum_response::{
    Listener, Node, PartitionData, ReplicaState, TopicData,
};
use aqueduct_protocol::{Decode, Encode};
use aqueduct_quorum::{Member, Status};
use bytes::{Bytes, BytesMut};

/// The log of the metadata, as the quorum names it.
pub(crate) const METADATA_TOPIC: &str = "__cluster_metadata";
/// The version that has room for everything.
const VERSION: i16 = 2;

fn offset(index: u64) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}

fn id(node: u64) -> i32 {
    i32::try_from(node).unwrap_or(-1)
}

/// What the leader knows. An end offset of -1 stands for a member that it has not heard of; when a member was last there
/// is told of those only that have everything.
pub(super) fn response(status: &Status, now_ms: i64) -> DescribeQuorumResponse {
    let state = |member: &Member| {
        let is_leader = Some(member.id) == status.leader;
        let end = if is_leader { Some(status.last) } else { member.replicated };
        let caught_up_ms = if end == Some(status.last) { now_ms } else { -1 };
        ReplicaState {
            replica_id: id(member.id),
            replica_directory_id: Uuid(member.peer.directory.0),
            log_end_offset: end.map_or(-1, offset),
            last_fetch_timestamp: caught_up_ms,
            last_caught_up_timestamp: caught_up_ms,
        }
    };
    let (voters, observers): (Vec<&Member>, Vec<&Member>) =
        status.members.iter().partition(|member| member.votes);
    let node = |member: &&Member| Node {
        node_id: id(member.id),
        listeners: vec![Listener {
            name: member.peer.listener.as_str().into(),
            host: member.peer.host.as_str().into(),
            port: member.peer.port,
        }],
    };
    let nodes = voters.iter().map(node).collect();
    let partition = PartitionData {
        partition_index: 0,
        leader_id: status.leader.map_or(-1, id),
        leader_epoch: i32::try_from(status.epoch).unwrap_or(i32::MAX),
        high_watermark: offset(status.applied),
        current_voters: voters.into_iter().map(state).collect(),
        observers: observers.into_iter().map(state).collect(),
        ..Default::default()
    };
    let topic = TopicData { topic_name: METADATA_TOPIC.into(), partitions: vec![partition] };
    DescribeQuorumResponse { topics: vec![topic], nodes, ..Default::default() }
}

pub(super) fn encode(response: &DescribeQuorumResponse) -> Option<Bytes> {
    let mut out = BytesMut::new();
    response.encode(&mut out, VERSION).ok()?;
    Some(out.freeze())
}

pub(super) fn decode(mut bytes: Bytes) -> Option<DescribeQuorumResponse> {
    let response = DescribeQuorumResponse::decode(&mut bytes, VERSION).ok()?;
    bytes.is_empty().then_some(response)
}

/// The same for a client of an older version, which has no room for some of it.
pub(crate) fn for_version(mut response: DescribeQuorumResponse, version: i16) -> DescribeQuorumResponse {
    if version < 2 {
        response.nodes.clear();
    }
    for partition in response.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        for replica in partition.current_voters.iter_mut().chain(&mut partition.observers) {
            if version < 2 {
                replica.replica_directory_id = Uuid::ZERO;
            }
            if version < 1 {
                replica.last_fetch_timestamp = -1;
                replica.last_caught_up_timestamp = -1;
            }
        }
    }
    response
}
