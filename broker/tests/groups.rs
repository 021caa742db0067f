//! Groups and committed offsets, over the wire.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use aqueduct_broker::Handle;
use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::ids::Uuid;
use aqueduct_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use aqueduct_protocol::messages::leave_group_request::MemberIdentity;
use aqueduct_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use aqueduct_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use aqueduct_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use aqueduct_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use aqueduct_protocol::messages::{
    DeleteGroupsRequest, DeleteTopicsRequest, DescribeGroupsRequest, FindCoordinatorRequest,
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, ListGroupsRequest,
    OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, SyncGroupRequest, SyncGroupResponse,
    delete_topics_request,
};
use common::*;

fn join(member: &str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: "g".into(),
        session_timeout_ms: 45_000,
        rebalance_timeout_ms: 30_000,
        member_id: member.into(),
        protocol_type: "connect".into(),
        protocols: vec![JoinGroupRequestProtocol { name: "default".into(), metadata: "m".into() }],
        ..Default::default()
    }
}

fn sync(who: &JoinGroupResponse, assignments: &[(&str, &str)]) -> SyncGroupRequest {
    let give = |(member, assignment): &(&str, &str)| SyncGroupRequestAssignment {
        member_id: (*member).into(),
        assignment: String::from(*assignment).into(),
    };
    SyncGroupRequest {
        group_id: "g".into(),
        generation_id: who.generation_id,
        member_id: who.member_id.clone(),
        protocol_type: Some("connect".into()),
        protocol_name: Some("default".into()),
        assignments: assignments.iter().map(give).collect(),
        ..Default::default()
    }
}

async fn heartbeat(client: &mut Client, who: &JoinGroupResponse) -> ErrorCode {
    let request = HeartbeatRequest {
        group_id: "g".into(),
        generation_id: who.generation_id,
        member_id: who.member_id.clone(),
        group_instance_id: None,
    };
    ErrorCode::from_code(client.call(&request, 4).await.error_code)
}

fn commit(topic: &str, topic_id: Uuid, offset: i64) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition {
        partition_index: 0,
        committed_offset: offset,
        committed_metadata: Some("note".into()),
        ..Default::default()
    };
    OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic { name: topic.into(), topic_id, partitions: vec![partition] }],
        ..Default::default()
    }
}

async fn committed(client: &mut Client, topic: &str) -> i64 {
    let topic =
        OffsetFetchRequestTopics { name: topic.into(), partition_indexes: vec![0], ..Default::default() };
    let group =
        OffsetFetchRequestGroup { group_id: "g".into(), topics: Some(vec![topic]), ..Default::default() };
    let response = client.call(&OffsetFetchRequest { groups: vec![group], ..Default::default() }, 9).await;
    assert_eq!(response.groups[0].error_code, 0);
    response.groups[0].topics[0].partitions[0].committed_offset
}

async fn state(client: &mut Client) -> String {
    let request = DescribeGroupsRequest { groups: vec!["g".into()], ..Default::default() };
    client.call(&request, 5).await.groups[0].group_state.to_string()
}

/// Waits until somebody has asked to be let in.
async fn until_joining(client: &mut Client) {
    while state(client).await != "PreparingRebalance" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Finds the coordinator, and so has `__consumer_offsets` made; waits until it serves the group.
async fn connect(broker: &Handle) -> Client {
    let mut client = Client::connect(broker).await;
    let request = FindCoordinatorRequest { coordinator_keys: vec!["g".into()], ..Default::default() };
    let found = coordinator(&mut client, &request).await;
    assert_eq!((found.error_code, found.node_id), (0, broker.node_id().0));
    let nobody = JoinGroupResponse { member_id: "nobody".into(), ..Default::default() };
    while heartbeat(&mut client, &nobody).await == ErrorCode::CoordinatorLoadInProgress {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    client
}

/// The same with a session that is to end.
fn join_briefly(member: &str) -> JoinGroupRequest {
    JoinGroupRequest { session_timeout_ms: 6_000, ..join(member) }
}

/// Two members of a stable group, the leader first, each with a connection of its own; the second joins as it is told to.
async fn stable(
    broker: &Handle,
    second: impl Fn(&str) -> JoinGroupRequest,
) -> [(Client, JoinGroupResponse); 2] {
    let (mut one, mut two) = (connect(broker).await, connect(broker).await);
    let first = enter(&mut one).await;
    one.call(&sync(&first, &[]), 5).await;
    let id = client_id(&mut two).await;
    let parked = two.send(&second(&id), 9).await;
    while heartbeat(&mut one, &first).await != ErrorCode::RebalanceInProgress {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let first = one.call(&join(&first.member_id), 9).await;
    let second: JoinGroupResponse = two.receive::<JoinGroupRequest>(9, parked).await;
    assert_eq!((first.generation_id, first.members.len()), (second.generation_id, 2));
    let parked = two.send(&sync(&second, &[]), 5).await;
    let given = [(&*first.member_id, "one"), (&*second.member_id, "two")];
    assert_eq!(one.call(&sync(&first, &given), 5).await.assignment, "one");
    let response: SyncGroupResponse = two.receive::<SyncGroupRequest>(5, parked).await;
    assert_eq!(response.assignment, "two");
    [(one, first), (two, second)]
}

async fn client_id(client: &mut Client) -> String {
    let response = client.call(&join(""), 9).await;
    assert_eq!(response.error_code, ErrorCode::MemberIdRequired.code());
    response.member_id.to_string()
}

async fn enter(client: &mut Client) -> JoinGroupResponse {
    let id = client_id(client).await;
    let response = client.call(&join(&id), 9).await;
    assert_eq!(response.error_code, 0);
    response
}

#[tokio::test]
async fn members_and_offsets_outlive_the_broker() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let id = connect(&broker).await.create_topic("t", 1, &[]).await;
    let [(mut one, leader), (_two, follower)] = stable(&broker, join).await;
    let request = OffsetCommitRequest {
        generation_id_or_member_epoch: leader.generation_id,
        member_id: leader.member_id.clone(),
        ..commit("", id, 42)
    };
    assert_eq!(one.call(&request, 10).await.topics[0].partitions[0].error_code, 0);
    broker.shutdown().await;

    let broker = start(dir.path()).await;
    let mut client = connect(&broker).await;
    assert_eq!(committed(&mut client, "t").await, 42);
    assert_eq!(state(&mut client).await, "Stable");
    for member in [&leader, &follower] {
        assert_eq!(heartbeat(&mut client, member).await, ErrorCode::None);
    }
    assert_eq!(client.call(&sync(&follower, &[]), 5).await.assignment, "two");
    broker.shutdown().await;
}

#[tokio::test]
async fn a_client_that_vanishes_while_parked_is_dropped_with_its_session() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let [(mut one, leader), (two, _)] = stable(&broker, join_briefly).await;
    drop(two);
    let mut three = connect(&broker).await;
    let id = client_id(&mut three).await;
    three.send(&join_briefly(&id), 9).await;
    until_joining(&mut one).await;
    drop(three);
    // The leader rejoins at once and is let in when the other's session is over; the one that vanished while it joined
    // is part of the new generation until its own ends.
    let rejoined = one.call(&join(&leader.member_id), 9).await;
    assert_eq!((rejoined.error_code, rejoined.members.len()), (0, 2));
    one.call(&sync(&rejoined, &[]), 5).await;
    while heartbeat(&mut one, &rejoined).await == ErrorCode::None {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let rejoined = one.call(&join(&leader.member_id), 9).await;
    assert_eq!((rejoined.error_code, rejoined.members.len()), (0, 1));
    broker.shutdown().await;
}

#[tokio::test]
async fn a_stop_answers_who_waits() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let [(mut one, _), (_two, _)] = stable(&broker, join).await;
    let mut three = connect(&broker).await;
    let id = client_id(&mut three).await;
    let parked = three.send(&join(&id), 9).await;
    until_joining(&mut one).await;
    let response = async { three.receive::<JoinGroupRequest>(9, parked).await };
    let (response, ()) = tokio::join!(response, broker.shutdown());
    assert_eq!(response.error_code, ErrorCode::NotCoordinator.code());
}

#[tokio::test]
async fn offsets_of_a_deleted_topic_do_not_come_back_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = connect(&broker).await;
    let old = client.create_topic("t", 1, &[]).await;
    assert_eq!(client.call(&commit("t", Uuid::ZERO, 42), 9).await.topics[0].partitions[0].error_code, 0);
    assert_eq!(committed(&mut client, "t").await, 42);
    let topic = delete_topics_request::DeleteTopicState { name: Some("t".into()), ..Default::default() };
    let request = DeleteTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..Default::default() };
    assert_eq!(client.call(&request, 6).await.responses[0].error_code, 0);
    let unknown = client.call(&commit("t", Uuid::ZERO, 43), 9).await;
    assert_eq!(unknown.topics[0].partitions[0].error_code, ErrorCode::UnknownTopicOrPartition.code());
    let unknown = client.call(&commit("", old, 43), 10).await;
    assert_eq!(unknown.topics[0].partitions[0].error_code, ErrorCode::UnknownTopicId.code());
    client.create_topic("t", 1, &[]).await;
    tokio::time::timeout(PATIENCE, async {
        while committed(&mut client, "t").await != -1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the old offset goes away");
    broker.shutdown().await;
}

#[tokio::test]
async fn commits_of_many_clients_are_all_kept() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    connect(&broker).await.create_topic("t", 20, &[]).await;
    let mut clients = Vec::new();
    for partition in 0..20 {
        let mut client = connect(&broker).await;
        clients.push(tokio::spawn(async move {
            for offset in 0..50 {
                let mut request = commit("t", Uuid::ZERO, offset);
                request.topics[0].partitions[0].partition_index = partition;
                let response = client.call(&request, 8).await;
                assert_eq!(response.topics[0].partitions[0].error_code, 0);
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    broker.shutdown().await;
    let broker = start(dir.path()).await;
    let mut client = connect(&broker).await;
    let group = OffsetFetchRequestGroup { group_id: "g".into(), topics: None, ..Default::default() };
    let response = client.call(&OffsetFetchRequest { groups: vec![group], ..Default::default() }, 10).await;
    let found = &response.groups[0].topics[0].partitions;
    assert_eq!(found.iter().map(|at| at.committed_offset).collect::<Vec<_>>(), [49; 20]);
    broker.shutdown().await;
}

#[tokio::test]
async fn every_version_of_the_group_apis_answers() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut client = connect(&broker).await;
    let id = client.create_topic("t", 1, &[]).await;
    for version in 0..=9 {
        let group = JoinGroupRequest { group_id: format!("v{version}").into(), ..join("") };
        let mut response = client.call(&group, version).await;
        if version >= 4 {
            assert_eq!(response.error_code, ErrorCode::MemberIdRequired.code());
            response = client
                .call(&JoinGroupRequest { member_id: response.member_id, ..group.clone() }, version)
                .await;
        }
        assert_eq!((response.error_code, response.members.len()), (0, 1), "{version}");
        let request = |version: i16| SyncGroupRequest {
            group_id: group.group_id.clone(),
            protocol_type: (version >= 5).then(|| "connect".into()),
            protocol_name: (version >= 5).then(|| "default".into()),
            ..sync(&response, &[(&response.member_id, "all")])
        };
        for version in 0..=5 {
            assert_eq!(client.call(&request(version), version).await.assignment, "all", "{version}");
        }
        for version in 0..=4 {
            let request = HeartbeatRequest {
                group_id: group.group_id.clone(),
                generation_id: response.generation_id,
                member_id: response.member_id.clone(),
                group_instance_id: None,
            };
            assert_eq!(client.call(&request, version).await.error_code, 0);
        }
        let version = version.min(5);
        let member = MemberIdentity { member_id: response.member_id.clone(), ..Default::default() };
        let request = LeaveGroupRequest {
            group_id: group.group_id.clone(),
            member_id: if version < 3 { response.member_id.clone() } else { Default::default() },
            members: if version < 3 { vec![] } else { vec![member] },
        };
        let left = client.call(&request, version).await;
        assert!(left.error_code == 0 && left.members.iter().all(|member| member.error_code == 0));
    }
    for version in 2..=10 {
        let (name, topic_id) = if version >= 10 { ("", id) } else { ("t", Uuid::ZERO) };
        let response = client.call(&commit(name, topic_id, i64::from(version)), version).await;
        assert_eq!(response.topics[0].partitions[0].error_code, 0);
    }
    for version in 1..=10 {
        let topic = OffsetFetchRequestTopics {
            name: if version >= 10 { Default::default() } else { "t".into() },
            topic_id: if version >= 10 { id } else { Uuid::ZERO },
            partition_indexes: vec![0],
        };
        let old = aqueduct_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic {
            name: "t".into(),
            partition_indexes: vec![0],
        };
        let group =
            OffsetFetchRequestGroup { group_id: "g".into(), topics: Some(vec![topic]), ..Default::default() };
        let request = if version >= 8 {
            OffsetFetchRequest { groups: vec![group], ..Default::default() }
        } else {
            OffsetFetchRequest { group_id: "g".into(), topics: Some(vec![old]), ..Default::default() }
        };
        let response = client.call(&request, version).await;
        let offset = match version {
            8.. => response.groups[0].topics[0].partitions[0].committed_offset,
            _ => response.topics[0].partitions[0].committed_offset,
        };
        assert_eq!(offset, 10);
    }
    for version in 0..=6 {
        for group in ["g", "none"] {
            let request = DescribeGroupsRequest {
                groups: vec![group.into()],
                include_authorized_operations: version >= 3,
            };
            let response = client.call(&request, version).await;
            assert_eq!(response.groups[0].error_code, if group == "g" || version < 6 { 0 } else { 69 });
        }
    }
    for version in 0..=5 {
        let response = client.call(&ListGroupsRequest::default(), version).await;
        assert!(response.groups.iter().any(|group| group.group_id == "g"));
    }
    let partition = OffsetDeleteRequestPartition { partition_index: 0 };
    let topic = OffsetDeleteRequestTopic { name: "t".into(), partitions: vec![partition] };
    let response = client.call(&OffsetDeleteRequest { group_id: "g".into(), topics: vec![topic] }, 0).await;
    assert_eq!((response.error_code, response.topics[0].partitions[0].error_code), (0, 0));
    assert_eq!(committed(&mut client, "t").await, -1);
    for version in 0..=2 {
        let request = DeleteGroupsRequest { groups_names: vec![format!("v{version}").into(), "none".into()] };
        let codes: Vec<_> =
            client.call(&request, version).await.results.iter().map(|r| r.error_code).collect();
        assert_eq!(codes, [0, 69]);
    }
    broker.shutdown().await;
}
