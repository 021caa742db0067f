//! Changing and deleting topics, configs and records: the errors.

use anyhow::Result;
use aqueduct_protocol::ids::Uuid;
use aqueduct_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use aqueduct_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use aqueduct_protocol::messages::delete_topics_request::DeleteTopicState;
use aqueduct_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use aqueduct_protocol::messages::{
    CreatePartitionsRequest, DeleteRecordsRequest, DeleteTopicsRequest, IncrementalAlterConfigsRequest,
};
use aqueduct_tests::server::{Kind, shared};

use crate::socket::Socket;
use crate::{batch, create, same, send};

/// The brokers of each new partition, where they are named.
type Assignment = Option<&'static [&'static [i32]]>;

#[test]
fn partitions_that_cannot_be_added() -> Result<()> {
    same(|server| {
        let mut socket = Socket::open(server)?;
        create(&mut socket, "wire.grow", 2, &[])?;
        let mut seen = Vec::new();
        let assigned: &[(&str, i32, Assignment)] = &[
            ("wire.grow", 2, None),
            ("wire.grow", 1, None),
            ("wire.grow", 0, None),
            ("wire.grow", -1, None),
            ("wire.grow", 3, Some(&[&[9]])),
            ("wire.grow", 3, Some(&[&[1], &[1]])),
            ("wire.grow", 3, Some(&[&[1, 1]])),
            ("wire.grow", 3, Some(&[&[]])),
            ("wire.not-there", 3, None),
            ("", 3, None),
            ("wire.grow", 3, Some(&[&[1]])),
            ("wire.grow", 4, None),
        ];
        for (at, (name, count, assignments)) in assigned.iter().enumerate() {
            for validate_only in [true, false] {
                let assignments = assignments.map(|lists| {
                    lists.iter().map(|ids| CreatePartitionsAssignment { broker_ids: ids.to_vec() }).collect()
                });
                let topic = CreatePartitionsTopic { name: (*name).into(), count: *count, assignments };
                let ask = CreatePartitionsRequest { topics: vec![topic], timeout_ms: 60_000, validate_only };
                let answer = socket.call(&ask, 3)?.results.remove(0);
                seen.push(format!("case {at} {validate_only}: {}", answer.error_code));
            }
        }
        Ok(seen)
    })?;
    Ok(())
}

#[test]
fn topics_and_records_that_cannot_be_deleted() -> Result<()> {
    same(|server| {
        let mut socket = Socket::open(server)?;
        create(&mut socket, "wire.delete", 1, &[])?;
        create(&mut socket, "wire.delete-compact", 1, &[("cleanup.policy", "compact")])?;
        send(&mut socket, 8, "wire.delete", batch(&[b"a", b"b", b"c"], None))?;
        let mut seen = Vec::new();
        for (topic, partition, offset) in [
            ("wire.delete", 0, 1),
            ("wire.delete", 0, 0),
            ("wire.delete", 0, 4),
            ("wire.delete", 0, -2),
            ("wire.delete", 5, 0),
            ("wire.not-there", 0, 0),
            ("wire.delete-compact", 0, 0),
            ("wire.delete", 0, -1),
        ] {
            let partition = DeleteRecordsPartition { partition_index: partition, offset };
            let asked = DeleteRecordsTopic { name: topic.into(), partitions: vec![partition] };
            let ask = DeleteRecordsRequest { topics: vec![asked], timeout_ms: 60_000 };
            let answer = socket.call(&ask, 2)?;
            seen.push(format!("{topic} {offset}: {:?}", answer.topics));
            seen.push(crate::fetch::show(
                &socket.call(&crate::fetch::request(&[("wire.delete", 0, 3)]), 11)?,
            ));
        }
        for version in [1, 5, 6] {
            let names = ["wire.not-there", "wire.delete", "wire.delete"];
            let ask = match version {
                6 => DeleteTopicsRequest {
                    topics: vec![
                        DeleteTopicState { name: Some("wire.delete-compact".into()), ..Default::default() },
                        DeleteTopicState { topic_id: Uuid([9; 16]), name: None },
                    ],
                    timeout_ms: 60_000,
                    ..Default::default()
                },
                _ => DeleteTopicsRequest {
                    topic_names: names[..2].iter().map(|name| (*name).into()).collect(),
                    timeout_ms: 60_000,
                    ..Default::default()
                },
            };
            let mut answers = socket.call(&ask, version)?.responses;
            answers.sort_by(|a, b| a.name.cmp(&b.name));
            for answer in answers {
                let explained = answer.error_message.is_some();
                seen.push(format!("{version} {:?}: {} {explained}", answer.name, answer.error_code));
            }
        }
        Ok(seen)
    })?;
    Ok(())
}

/// Where we differ on purpose: an unknown operation is an invalid request and no unknown error.
#[test]
fn an_operation_that_nobody_knows_is_an_invalid_request() -> Result<()> {
    let mut socket = Socket::open(shared(Kind::Aqueduct)?)?;
    create(&mut socket, "wire.alter-own", 1, &[])?;
    let code = alter(&mut socket, 2, "wire.alter-own", &[("retention.ms", 7, Some("1"))], false)?;
    assert_eq!(code, 42);
    Ok(())
}

/// Alters and gives the error code.
fn alter(
    socket: &mut Socket,
    resource_type: i8,
    name: &str,
    entries: &[Entry],
    validate_only: bool,
) -> Result<i16> {
    let config = |(name, operation, value): &Entry| AlterableConfig {
        name: (*name).into(),
        config_operation: *operation,
        value: value.map(Into::into),
    };
    let configs = entries.iter().map(config).collect();
    let resource = AlterConfigsResource { resource_type, resource_name: name.into(), configs };
    let ask = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only };
    Ok(socket.call(&ask, 1)?.responses.remove(0).error_code)
}

/// Name, operation and value.
type Entry = (&'static str, i8, Option<&'static str>);

#[test]
fn configs_that_cannot_be_set() -> Result<()> {
    same(|server| {
        let mut socket = Socket::open(server)?;
        create(&mut socket, "wire.alter", 1, &[])?;
        let mut seen = Vec::new();
        let topic = |entries: &[Entry]| (2, "wire.alter", entries.to_vec());
        for (resource_type, name, entries) in [
            topic(&[("retention.ms", 0, Some("1000"))]),
            topic(&[("retention.ms", 0, Some("soon"))]),
            topic(&[("retention.ms", 0, None)]),
            topic(&[("retention.ms", 2, Some("1"))]),
            topic(&[("no.such.key", 0, Some("1"))]),
            topic(&[("no.such.key", 1, None)]),
            topic(&[("retention.ms", 0, Some("1")), ("retention.ms", 1, None)]),
            topic(&[("cleanup.policy", 2, Some("compact"))]),
            topic(&[("cleanup.policy", 3, Some("delete,compact"))]),
            topic(&[]),
            (2, "wire.not-there", vec![("retention.ms", 0, Some("1"))]),
            (2, "", vec![("retention.ms", 0, Some("1"))]),
            (4, "1", vec![("node.id", 0, Some("2"))]),
            (4, "1", vec![("message.max.bytes", 0, Some("many"))]),
            (4, "7", vec![("message.max.bytes", 0, Some("2000000"))]),
            (4, "one", vec![("message.max.bytes", 0, Some("2000000"))]),
            (3, "x", vec![("message.max.bytes", 0, Some("2000000"))]),
        ] {
            for validate_only in [true, false] {
                let code = alter(&mut socket, resource_type, name, &entries, validate_only)?;
                seen.push(format!("{resource_type} {name} {entries:?} {validate_only}: {code}"));
            }
        }
        Ok(seen)
    })?;
    Ok(())
}
