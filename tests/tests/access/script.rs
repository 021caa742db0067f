//! What three users ask for, and the codes that they get.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use aqueduct_protocol::ids::Uuid;
use aqueduct_protocol::messages::*;
use aqueduct_protocol::records::{BatchBuilder, Compression};
use bytes::Bytes;

use super::client::Client;

const LITERAL: i8 = 3;
const PREFIXED: i8 = 4;
const DENY: i8 = 2;
const ALLOW: i8 = 3;
const TOPIC: i8 = 2;
const GROUP: i8 = 3;
const CLUSTER: i8 = 4;

pub fn run(bootstrap: &str) -> Result<Vec<String>> {
    let mut admin = Client::login(bootstrap, "admin")?;
    let mut out = Vec::new();
    let mut ids = Vec::new();
    for name in ["open", "read-only", "hidden", "team-a", "team-b", "doomed"] {
        let created = admin.call(&create(name), 7)?;
        ensure!(created.topics[0].error_code == 0, "{created:?}");
        ids.push(created.topics[0].topic_id);
    }
    commit_as_admin(&mut admin, ids[0])?;
    let acls = [
        acl(TOPIC, LITERAL, "open", "alice", "*", 2, ALLOW),
        acl(TOPIC, LITERAL, "read-only", "alice", "*", 3, ALLOW),
        acl(TOPIC, PREFIXED, "team-", "alice", "*", 2, ALLOW),
        acl(TOPIC, LITERAL, "team-b", "alice", "*", 4, DENY),
        acl(TOPIC, LITERAL, "doomed", "alice", "*", 6, ALLOW),
        acl(TOPIC, LITERAL, "made", "alice", "*", 5, ALLOW),
        acl(GROUP, LITERAL, "g", "alice", "127.0.0.1", 3, ALLOW),
        acl(GROUP, LITERAL, "far", "alice", "10.0.0.1", 2, ALLOW),
        acl(TOPIC, LITERAL, "*", "*", "*", 10, ALLOW),
        acl(CLUSTER, LITERAL, "kafka-cluster", "bob", "*", 8, ALLOW),
        acl(CLUSTER, LITERAL, "kafka-cluster", "bob", "*", 5, ALLOW),
    ];
    out.push(admin.codes(&CreateAclsRequest { creations: acls.to_vec() }, 3));
    wait_for_acls(bootstrap)?;
    // What only filters may say is told by Apache Kafka to be an unknown error, and by us to be an invalid request.
    for wrong in [
        acl(TOPIC, LITERAL, "", "alice", "*", 3, ALLOW),
        acl(CLUSTER, LITERAL, "other", "alice", "*", 3, ALLOW),
        create_acls_request::AclCreation { principal: "alice".into(), ..acls[0].clone() },
        acls[0].clone(),
    ] {
        out.push(admin.codes(&CreateAclsRequest { creations: vec![wrong] }, 3));
    }
    for user in ["alice", "bob"] {
        let mut client = Client::login(bootstrap, user)?;
        let mut say = |what: &str, line: String| out.push(format!("{user} {what} {line}"));
        for (at, name) in
            ["open", "read-only", "hidden", "team-a", "team-b", "missing"].into_iter().enumerate()
        {
            let id = ids.get(at).copied().filter(|_| name != "missing").unwrap_or(Uuid([7; 16]));
            say(name, client.codes(&produce(name, Uuid::ZERO), 12));
            say(name, client.codes(&produce("", id), 13));
            say(name, client.codes(&fetch(name, Uuid::ZERO, -1), 12));
            say(name, client.codes(&fetch("", id, -1), 16));
            say(name, client.codes(&fetch("", id, 5), 16));
            say(name, client.codes(&list_offsets(name), 8));
            say(name, client.codes(&metadata(Some(name), Uuid::ZERO, false), 12));
            say(name, client.codes(&metadata(None, id, false), 12));
            say(name, client.codes(&epoch_end(name), 4));
            say(name, client.codes(&describe_config(2, name), 4));
            say(name, client.codes(&alter_config(2, name), 1));
            say(name, client.codes(&replace_config(2, name), 2));
            say(name, client.codes(&more_partitions(name), 3));
            say(name, client.codes(&delete_records(name), 2));
            say(name, client.codes(&describe_partitions(name), 0));
            say(name, client.codes(&commit("g", name, Uuid::ZERO), 9));
            say(name, client.codes(&commit("g", "", id), 10));
            say(name, client.codes(&committed("g", Some(name)), 8));
        }
        for group in ["g", "far", "other"] {
            say(group, client.codes(&commit(group, "open", Uuid::ZERO), 9));
            say(group, client.codes(&committed(group, None), 8));
            say(group, client.codes(&HeartbeatRequest { group_id: group.into(), ..Default::default() }, 4));
            say(group, client.codes(&LeaveGroupRequest { group_id: group.into(), ..Default::default() }, 5));
            say(
                group,
                client.codes(
                    &SyncGroupRequest {
                        group_id: group.into(),
                        protocol_type: Some("consumer".into()),
                        protocol_name: Some("range".into()),
                        ..Default::default()
                    },
                    5,
                ),
            );
            say(group, client.codes(&find_group(group), 4));
            say(group, client.codes(&describe_group(group), 5));
            say(group, client.codes(&DeleteGroupsRequest { groups_names: vec![group.into()] }, 2));
            say(group, client.codes(&forget(group), 0));
        }
        let init = InitProducerIdRequest {
            transactional_id: None,
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        };
        // The first block of ids takes Apache Kafka a moment.
        let mut line = client.codes(&init, 4);
        while line.ends_with(" 14") {
            std::thread::sleep(Duration::from_millis(50));
            line = client.codes(&init, 4);
        }
        say("idempotent", line);
        say("made", client.codes(&create("made"), 7));
        say("unmade", client.codes(&create("unmade"), 7));
        say("auto", client.codes(&metadata(Some("auto"), Uuid::ZERO, true), 12));
        say("doomed", client.codes(&delete("doomed"), 5));
        // Apache Kafka sees a little later that it is gone.
        let gone = metadata(Some("doomed"), Uuid::ZERO, false);
        wait_until(|| Ok(admin.call(&gone, 12)?.topics[0].error_code == 3))?;
        say("doomed", client.codes(&delete("missing"), 5));
        say("broker", client.codes(&describe_config(4, "1"), 4));
        say("broker", client.codes(&alter_config(4, "1"), 1));
        say("dirs", client.codes(&DescribeLogDirsRequest { topics: Some(Vec::new()) }, 4));
        say("acls", client.codes(&CreateAclsRequest { creations: vec![acls[0].clone()] }, 3));
        say("acls", client.codes(&find_acls(1, None), 3));
        say("quotas", client.codes(&DescribeClientQuotasRequest::default(), 1));
        say("quotas", client.codes(&quota(&[("user", Some("u"))], "producer_byte_rate", 1.0), 1));
        let topics = client.call(
            &MetadataRequest {
                topics: None,
                include_topic_authorized_operations: true,
                ..Default::default()
            },
            12,
        )?;
        let mut topics = topics.topics;
        topics.sort_by_key(|topic| topic.name.clone());
        for topic in topics {
            let name = topic.name.unwrap_or_default();
            if !name.starts_with("__") {
                say("sees", format!("{name} {:b}", topic.topic_authorized_operations));
            }
        }
        let cluster = client.call(
            &DescribeClusterRequest {
                include_cluster_authorized_operations: true,
                endpoint_type: 1,
                ..Default::default()
            },
            1,
        )?;
        say("cluster", format!("{:b}", cluster.cluster_authorized_operations));
        let groups = client.call(&ListGroupsRequest::default(), 4)?;
        let mut names: Vec<_> = groups.groups.into_iter().map(|group| group.group_id.to_string()).collect();
        names.sort();
        say("groups", names.join(" "));
    }
    for (pattern, name) in
        [(1, None), (1, Some("team-b")), (2, Some("team-b")), (LITERAL, Some("*")), (PREFIXED, None)]
    {
        let found = admin.call(&find_acls(pattern, name), 3)?;
        let mut lines: Vec<_> = found
            .resources
            .iter()
            .flat_map(|resource| {
                let on = format!(
                    "{} {} {}",
                    resource.resource_type, resource.resource_name, resource.pattern_type
                );
                resource.acls.iter().map(move |acl| {
                    format!("{on} {} {} {} {}", acl.principal, acl.host, acl.operation, acl.permission_type)
                })
            })
            .collect();
        lines.sort();
        out.push(format!("{pattern} {name:?} {}: {}", found.error_code, lines.join(", ")));
    }
    for (entity, key, value) in [
        (&[("user", Some("u"))][..], "producer_byte_rate", 1.0),
        (&[("user", None), ("client-id", Some("c"))], "request_percentage", 0.5),
        (&[("ip", Some("10.0.0.1"))], "connection_creation_rate", 3.0),
        (&[("ip", None)], "connection_creation_rate", 3.0),
        (&[], "producer_byte_rate", 1.0),
        (&[("user", Some(""))], "producer_byte_rate", 1.0),
        (&[("user", Some("u")), ("ip", Some("10.0.0.1"))], "producer_byte_rate", 1.0),
        (&[("ip", Some("300.0.0.1"))], "connection_creation_rate", 3.0),
        (&[("host", Some("h"))], "producer_byte_rate", 1.0),
        (&[("user", Some("u"))], "producer_byte_rate", 0.0),
        (&[("user", Some("u"))], "producer_byte_rate", 1.5),
        (&[("user", Some("u"))], "consumer_byte_rate", 1e30),
        (&[("user", Some("u"))], "controller_mutation_rate", 1.5),
        (&[("user", Some("u"))], "connection_creation_rate", 1.0),
        (&[("user", Some("u"))], "no_such_rate", 1.0),
        (&[("ip", Some("10.0.0.1"))], "connection_creation_rate", 1.5),
    ] {
        let line = admin.codes(&quota(entity, key, value), 1);
        out.push(format!("{entity:?} {key} {value}: {line}"));
    }
    // The changes are described in their order, by Apache Kafka a little later than they are made.
    out.push(admin.codes(&quota(&[("user", Some("last"))], "producer_byte_rate", 1.0), 1));
    wait_until(|| Ok(described(&mut admin, &[("user", 2)], true)?.contains("last")))?;
    for (components, strict) in [
        (&[][..], false),
        (&[("user", 2)], false),
        (&[("user", 2)], true),
        (&[("ip", 1)], true),
        (&[("user", 2), ("ip", 2)], false),
        (&[("host", 2)], false),
        (&[("user", 9)], false),
    ] {
        out.push(format!("{components:?} {strict}: {}", described(&mut admin, components, strict)?));
    }
    let filter = |pattern, name: Option<&'static str>| delete_acls_request::DeleteAclsFilter {
        resource_type_filter: 1,
        resource_name_filter: name.map(Into::into),
        pattern_type_filter: pattern,
        principal_filter: None,
        host_filter: None,
        operation: 1,
        permission_type: 1,
    };
    for (pattern, name) in [(2, Some("team-b")), (2, Some("team-b")), (1, None)] {
        let deleted = admin.call(&DeleteAclsRequest { filters: vec![filter(pattern, name)] }, 3)?;
        let result = &deleted.filter_results[0];
        out.push(format!("deleted {} {}", result.error_code, result.matching_acls.len()));
    }
    Ok(out)
}

fn described(admin: &mut Client, components: &[(&'static str, i8)], strict: bool) -> Result<String> {
    let components = components
        .iter()
        .map(|(kind, how)| describe_client_quotas_request::ComponentData {
            entity_type: (*kind).into(),
            match_type: *how,
            r#match: None,
        })
        .collect();
    let found = admin.call(&DescribeClientQuotasRequest { components, strict }, 1)?;
    let mut lines: Vec<_> = found
        .entries
        .into_iter()
        .flatten()
        .map(|entry| {
            let mut parts: Vec<_> = entry
                .entity
                .iter()
                .map(|part| format!("{}={:?}", part.entity_type, part.entity_name))
                .collect();
            parts.sort();
            let values: Vec<_> =
                entry.values.iter().map(|value| format!("{}={}", value.key, value.value)).collect();
            format!("{parts:?} {values:?}")
        })
        .collect();
    lines.sort();
    Ok(format!("{} {}", found.error_code, lines.join("; ")))
}

/// Metadata reaches the authorizer of Apache Kafka a little later than the answer its client.
fn wait_for_acls(bootstrap: &str) -> Result<()> {
    let mut bob = Client::login(bootstrap, "bob")?;
    wait_until(|| {
        let cluster = bob.call(
            &DescribeClusterRequest {
                include_cluster_authorized_operations: true,
                endpoint_type: 1,
                ..Default::default()
            },
            1,
        )?;
        Ok(cluster.cluster_authorized_operations.count_ones() == 2)
    })
}

fn wait_until(mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done()? {
        ensure!(Instant::now() < deadline, "a change does not arrive");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// The first request of a group creates the topic that keeps its offsets.
fn commit_as_admin(admin: &mut Client, id: Uuid) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    for group in ["g", "far", "other"] {
        loop {
            admin.call(&find_group(group), 4)?;
            let done = admin.call(&commit(group, "", id), 10)?;
            if done.topics[0].partitions[0].error_code == 0 {
                break;
            }
            ensure!(Instant::now() < deadline, "{done:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}

fn acl(
    resource_type: i8,
    resource_pattern_type: i8,
    name: &'static str,
    user: &str,
    host: &'static str,
    operation: i8,
    permission_type: i8,
) -> create_acls_request::AclCreation {
    let principal = format!("User:{user}").into();
    create_acls_request::AclCreation {
        resource_type,
        resource_name: name.into(),
        resource_pattern_type,
        principal,
        host: host.into(),
        operation,
        permission_type,
    }
}

fn find_acls(pattern: i8, name: Option<&'static str>) -> DescribeAclsRequest {
    DescribeAclsRequest {
        resource_type_filter: 1,
        resource_name_filter: name.map(Into::into),
        pattern_type_filter: pattern,
        principal_filter: None,
        host_filter: None,
        operation: 1,
        permission_type: 1,
    }
}

fn quota(
    entity: &[(&'static str, Option<&'static str>)],
    key: &'static str,
    value: f64,
) -> AlterClientQuotasRequest {
    let entity = entity
        .iter()
        .map(|(kind, name)| alter_client_quotas_request::EntityData {
            entity_type: (*kind).into(),
            entity_name: name.map(Into::into),
        })
        .collect();
    let op = alter_client_quotas_request::OpData { key: key.into(), value, remove: false };
    AlterClientQuotasRequest {
        entries: vec![alter_client_quotas_request::EntryData { entity, ops: vec![op] }],
        validate_only: false,
    }
}

fn create(name: &'static str) -> CreateTopicsRequest {
    let topic = create_topics_request::CreatableTopic {
        name: name.into(),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    };
    CreateTopicsRequest { topics: vec![topic], timeout_ms: 60_000, ..Default::default() }
}

fn delete(name: &'static str) -> DeleteTopicsRequest {
    DeleteTopicsRequest { topic_names: vec![name.into()], timeout_ms: 60_000, ..Default::default() }
}

fn batch() -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_millis());
    builder.append(now as i64, Some(b"k"), Some(b"v"), &[]).expect("a small record");
    builder.finish().expect("a small batch")
}

fn produce(name: &'static str, id: Uuid) -> ProduceRequest {
    let partition = produce_request::PartitionProduceData { index: 0, records: Some(batch()) };
    let topic = produce_request::TopicProduceData {
        name: name.into(),
        topic_id: id,
        partition_data: vec![partition],
    };
    ProduceRequest { transactional_id: None, acks: 1, timeout_ms: 5000, topic_data: vec![topic] }
}

fn fetch(name: &'static str, id: Uuid, replica: i32) -> FetchRequest {
    let partition = fetch_request::FetchPartition {
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        partition_max_bytes: 1000,
        ..Default::default()
    };
    let topic = fetch_request::FetchTopic { topic: name.into(), topic_id: id, partitions: vec![partition] };
    FetchRequest {
        replica_state: fetch_request::ReplicaState { replica_id: replica, replica_epoch: -1 },
        max_bytes: 1000,
        session_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    }
}

fn list_offsets(name: &'static str) -> ListOffsetsRequest {
    let partition = list_offsets_request::ListOffsetsPartition {
        timestamp: -2,
        current_leader_epoch: -1,
        ..Default::default()
    };
    ListOffsetsRequest {
        replica_id: -1,
        topics: vec![list_offsets_request::ListOffsetsTopic {
            name: name.into(),
            partitions: vec![partition],
        }],
        ..Default::default()
    }
}

fn metadata(name: Option<&'static str>, topic_id: Uuid, allow_auto_topic_creation: bool) -> MetadataRequest {
    let topic = metadata_request::MetadataRequestTopic { name: name.map(Into::into), topic_id };
    MetadataRequest { topics: Some(vec![topic]), allow_auto_topic_creation, ..Default::default() }
}

fn epoch_end(name: &'static str) -> OffsetForLeaderEpochRequest {
    let partition = offset_for_leader_epoch_request::OffsetForLeaderPartition {
        current_leader_epoch: -1,
        ..Default::default()
    };
    OffsetForLeaderEpochRequest {
        replica_id: -1,
        topics: vec![offset_for_leader_epoch_request::OffsetForLeaderTopic {
            topic: name.into(),
            partitions: vec![partition],
        }],
    }
}

fn describe_config(kind: i8, name: &'static str) -> DescribeConfigsRequest {
    let resource = describe_configs_request::DescribeConfigsResource {
        resource_type: kind,
        resource_name: name.into(),
        configuration_keys: Some(vec!["retention.ms".into()]),
    };
    DescribeConfigsRequest { resources: vec![resource], ..Default::default() }
}

fn alter_config(kind: i8, name: &'static str) -> IncrementalAlterConfigsRequest {
    let key = if kind == 4 { "log.retention.ms" } else { "retention.ms" };
    let config = incremental_alter_configs_request::AlterableConfig {
        name: key.into(),
        config_operation: 0,
        value: Some("100000000".into()),
    };
    IncrementalAlterConfigsRequest {
        resources: vec![incremental_alter_configs_request::AlterConfigsResource {
            resource_type: kind,
            resource_name: name.into(),
            configs: vec![config],
        }],
        validate_only: true,
    }
}

fn replace_config(kind: i8, name: &'static str) -> AlterConfigsRequest {
    let config = alter_configs_request::AlterableConfig {
        name: "retention.ms".into(),
        value: Some("100000000".into()),
    };
    AlterConfigsRequest {
        resources: vec![alter_configs_request::AlterConfigsResource {
            resource_type: kind,
            resource_name: name.into(),
            configs: vec![config],
        }],
        validate_only: true,
    }
}

fn more_partitions(name: &'static str) -> CreatePartitionsRequest {
    CreatePartitionsRequest {
        topics: vec![create_partitions_request::CreatePartitionsTopic {
            name: name.into(),
            count: 2,
            assignments: None,
        }],
        timeout_ms: 5000,
        validate_only: true,
    }
}

fn delete_records(name: &'static str) -> DeleteRecordsRequest {
    let partition = delete_records_request::DeleteRecordsPartition { partition_index: 0, offset: 0 };
    DeleteRecordsRequest {
        topics: vec![delete_records_request::DeleteRecordsTopic {
            name: name.into(),
            partitions: vec![partition],
        }],
        timeout_ms: 5000,
    }
}

fn describe_partitions(name: &'static str) -> DescribeTopicPartitionsRequest {
    DescribeTopicPartitionsRequest {
        topics: vec![describe_topic_partitions_request::TopicRequest { name: name.into() }],
        response_partition_limit: 100,
        cursor: None,
    }
}

fn commit(group: &'static str, name: &'static str, topic_id: Uuid) -> OffsetCommitRequest {
    let partition = offset_commit_request::OffsetCommitRequestPartition {
        committed_offset: 0,
        committed_leader_epoch: -1,
        ..Default::default()
    };
    let topic = offset_commit_request::OffsetCommitRequestTopic {
        name: name.into(),
        topic_id,
        partitions: vec![partition],
    };
    OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    }
}

fn committed(group: &'static str, name: Option<&'static str>) -> OffsetFetchRequest {
    let topic = |name: &'static str| offset_fetch_request::OffsetFetchRequestTopics {
        name: name.into(),
        partition_indexes: vec![0],
        ..Default::default()
    };
    let group = offset_fetch_request::OffsetFetchRequestGroup {
        group_id: group.into(),
        topics: name.map(|name| vec![topic(name)]),
        ..Default::default()
    };
    OffsetFetchRequest { groups: vec![group], ..Default::default() }
}

fn find_group(group: &'static str) -> FindCoordinatorRequest {
    FindCoordinatorRequest { key_type: 0, coordinator_keys: vec![group.into()], ..Default::default() }
}

fn describe_group(group: &'static str) -> DescribeGroupsRequest {
    DescribeGroupsRequest { groups: vec![group.into()], include_authorized_operations: true }
}

fn forget(group: &'static str) -> OffsetDeleteRequest {
    let topic = |name: &'static str| offset_delete_request::OffsetDeleteRequestTopic {
        name: name.into(),
        partitions: vec![offset_delete_request::OffsetDeleteRequestPartition { partition_index: 0 }],
    };
    OffsetDeleteRequest { group_id: group.into(), topics: vec![topic("open"), topic("hidden")] }
}
