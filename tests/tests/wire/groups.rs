//! Classic groups and committed offsets, error by error.

use anyhow::Result;
use aqueduct_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use aqueduct_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use aqueduct_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use aqueduct_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use aqueduct_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use aqueduct_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest,
    OffsetCommitRequest, OffsetFetchRequest, SyncGroupRequest,
};
use aqueduct_tests::server::Server;

use crate::socket::Socket;
use crate::{create, same};

/// A connection to a broker that coordinates these groups and has loaded them.
pub fn ready(server: &Server, groups: &[&str]) -> Result<Socket> {
    let mut socket = Socket::open(server)?;
    for group in groups {
        let find = FindCoordinatorRequest { key: (*group).into(), ..Default::default() };
        let fetch =
            OffsetFetchRequest { group_id: (*group).into(), topics: Some(Vec::new()), ..Default::default() };
        while socket.call(&find, 2)?.error_code != 0 || socket.call(&fetch, 5)?.error_code != 0 {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
    Ok(socket)
}

fn join(group: &str, member: &str) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol { name: "range".into(), metadata: b"\x00\x00"[..].into() };
    JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: 60_000,
        rebalance_timeout_ms: 60_000,
        member_id: member.into(),
        protocol_type: "consumer".into(),
        protocols: vec![protocol],
        ..Default::default()
    }
}

fn commit(group: &str, generation: i32, member: &str, topic: &str, offset: i64) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition {
        committed_offset: offset,
        committed_leader_epoch: -1,
        committed_metadata: Some("note".into()),
        ..Default::default()
    };
    let topic =
        OffsetCommitRequestTopic { name: topic.into(), partitions: vec![partition], ..Default::default() };
    OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: generation,
        member_id: member.into(),
        retention_time_ms: -1,
        topics: vec![topic],
        ..Default::default()
    }
}

/// A group of one from its first request to its deletion, with the wrong ids in between.
#[test]
fn a_group_and_its_errors() -> Result<()> {
    same(|server| {
        let mut s = ready(server, &["wire-group", "wire-none"])?;
        create(&mut s, "wire.groups", 1, &[])?;
        let group = "wire-group";
        let mut seen = Vec::new();
        let heartbeat = |generation_id, member: &str| HeartbeatRequest {
            group_id: group.into(),
            generation_id,
            member_id: member.into(),
            ..Default::default()
        };
        for (what, ask) in [
            ("no group id", join("", "")),
            ("session too short", JoinGroupRequest { session_timeout_ms: 10, ..join(group, "") }),
            ("session too long", JoinGroupRequest { session_timeout_ms: 2_000_000, ..join(group, "") }),
            ("unknown member", join(group, "nobody")),
            ("no protocols", JoinGroupRequest { protocols: Vec::new(), ..join(group, "") }),
            ("no protocol type", JoinGroupRequest { protocol_type: "".into(), ..join(group, "") }),
        ] {
            let answer = s.call(&ask, 5)?;
            seen.push(format!(
                "{what}: {} {} {:?}",
                answer.error_code, answer.generation_id, answer.protocol_name
            ));
        }
        seen.push(format!("heartbeat of nobody: {}", s.call(&heartbeat(1, "nobody"), 3)?.error_code));
        let first = s.call(&join(group, ""), 5)?;
        seen.push(format!(
            "member id required: {} {}",
            first.error_code,
            first.member_id.starts_with("wire-")
        ));
        let member = first.member_id.to_string();
        let joined = s.call(&join(group, &member), 5)?;
        seen.push(format!(
            "joined: {} generation {} {:?} leader {} members {}",
            joined.error_code,
            joined.generation_id,
            joined.protocol_name,
            joined.leader == joined.member_id,
            joined.members.len()
        ));
        seen.push(format!("heartbeat before sync: {}", s.call(&heartbeat(1, &member), 3)?.error_code));
        seen.push(format!(
            "commit before sync: {:?}",
            s.call(&commit(group, 1, &member, "wire.groups", 1), 7)?.topics
        ));
        let sync = |generation_id, member: &str| SyncGroupRequest {
            group_id: group.into(),
            generation_id,
            member_id: member.into(),
            assignments: vec![SyncGroupRequestAssignment {
                member_id: member.into(),
                assignment: b"mine"[..].into(),
            }],
            ..Default::default()
        };
        for (what, generation, id) in
            [("old", 0, &*member), ("stranger", 1, "nobody"), ("good", 1, &*member), ("again", 1, &*member)]
        {
            let answer = s.call(&sync(generation, id), 3)?;
            seen.push(format!("sync {what}: {} {:?}", answer.error_code, answer.assignment));
        }
        for (what, generation, id) in [("good", 1, &*member), ("old", 0, &*member), ("stranger", 1, "nobody")]
        {
            seen.push(format!("heartbeat {what}: {}", s.call(&heartbeat(generation, id), 3)?.error_code));
        }
        let long = "x".repeat(5000);
        let mut too_long = commit(group, 1, &member, "wire.groups", 1);
        too_long.topics[0].partitions[0].committed_metadata = Some(long.into());
        for (what, ask) in [
            ("good", commit(group, 1, &member, "wire.groups", 5)),
            ("old generation", commit(group, 0, &member, "wire.groups", 5)),
            ("stranger", commit(group, 1, "nobody", "wire.groups", 5)),
            ("no member", commit(group, -1, "", "wire.groups", 5)),
            ("unknown topic", commit(group, 1, &member, "wire.not-there", 5)),
            ("negative offset", commit(group, 1, &member, "wire.groups", -5)),
            ("long metadata", too_long),
            ("unknown group with a generation", commit("wire-none", 3, "m", "wire.groups", 5)),
            ("no group", commit("", -1, "", "wire.groups", 5)),
        ] {
            for version in [2, 7, 8, 9] {
                seen.push(format!("commit {what} {version}: {:?}", s.call(&ask, version)?.topics));
            }
        }
        let describe =
            DescribeGroupsRequest { groups: vec![group.into(), "wire-none".into()], ..Default::default() };
        for version in [0, 5, 6] {
            let described = s.call(&describe, version)?;
            for g in described.groups {
                seen.push(format!(
                    "{version} {}: error {} {:?} state {} type {} protocol {} members {}",
                    g.group_id,
                    g.error_code,
                    g.error_message,
                    g.group_state,
                    g.protocol_type,
                    g.protocol_data,
                    g.members.len()
                ));
            }
        }
        let delete = |id: &str| DeleteGroupsRequest { groups_names: vec![id.into()] };
        seen.push(format!("delete with members: {:?}", s.call(&delete(group), 1)?.results));
        let leave = |id: &str| LeaveGroupRequest {
            group_id: group.into(),
            member_id: id.into(),
            ..Default::default()
        };
        seen.push(format!("stranger leaves: {}", s.call(&leave("nobody"), 1)?.error_code));
        seen.push(format!("leaves: {}", s.call(&leave(&member), 1)?.error_code));
        seen.push(format!("leaves again: {}", s.call(&leave(&member), 1)?.error_code));
        seen.push(format!("heartbeat after: {}", s.call(&heartbeat(1, &member), 3)?.error_code));
        seen.push(format!(
            "simple commit: {:?}",
            s.call(&commit(group, -1, "", "wire.groups", 9), 7)?.topics
        ));
        seen.push(format!("delete: {:?}", s.call(&delete(group), 1)?.results));
        seen.push(format!("delete again: {:?}", s.call(&delete(group), 1)?.results));
        Ok(seen)
    })?;
    Ok(())
}

#[test]
fn committed_offsets_are_fetched() -> Result<()> {
    same(|server| {
        let mut s = ready(server, &["wire-fetched", "wire-none"])?;
        create(&mut s, "wire.fetched", 2, &[])?;
        s.call(&commit("wire-fetched", -1, "", "wire.fetched", 42), 7)?;
        let mut seen = Vec::new();
        for version in 1..=7 {
            for group in ["wire-fetched", "wire-none"] {
                let topics = ["wire.fetched", "wire.not-there"].map(|name| OffsetFetchRequestTopic {
                    name: name.into(),
                    partition_indexes: vec![0, 1, 5],
                });
                let ask = OffsetFetchRequest {
                    group_id: group.into(),
                    topics: Some(topics.to_vec()),
                    ..Default::default()
                };
                let answer = s.call(&ask, version)?;
                seen.push(format!("{version} {group}: {} {:?}", answer.error_code, answer.topics));
                if version >= 2 {
                    let ask =
                        OffsetFetchRequest { group_id: group.into(), topics: None, ..Default::default() };
                    let answer = s.call(&ask, version)?;
                    seen.push(format!("{version} all of {group}: {} {:?}", answer.error_code, answer.topics));
                }
            }
        }
        for version in 8..=9 {
            let topics = vec![OffsetFetchRequestTopics {
                name: "wire.fetched".into(),
                partition_indexes: vec![0, 1],
                ..Default::default()
            }];
            let group = |id: &str, topics| OffsetFetchRequestGroup {
                group_id: id.into(),
                topics,
                member_epoch: -1,
                ..Default::default()
            };
            let groups = vec![
                group("wire-fetched", Some(topics.clone())),
                group("wire-none", None),
                group("wire-none", Some(topics.clone())),
                group("wire-fetched", None),
            ];
            for group in groups {
                let ask = OffsetFetchRequest { groups: vec![group], ..Default::default() };
                seen.push(format!("{version}: {:?}", s.call(&ask, version)?.groups));
            }
        }
        Ok(seen)
    })?;
    Ok(())
}
