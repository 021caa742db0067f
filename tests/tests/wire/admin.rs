//! Metadata, topics and configs.

use anyhow::Result;
use aqueduct_protocol::ids::Uuid;
use aqueduct_protocol::messages::alter_replica_log_dirs_request::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic,
};
use aqueduct_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use aqueduct_protocol::messages::describe_configs_request::DescribeConfigsResource;
use aqueduct_protocol::messages::metadata_request::MetadataRequestTopic;
use aqueduct_protocol::messages::{
    AlterReplicaLogDirsRequest, CreateTopicsRequest, DescribeConfigsRequest, DescribeConfigsResponse,
    MetadataRequest,
};
use aqueduct_tests::server::{Kind, shared};

use crate::socket::Socket;
use crate::{create, same};

#[test]
fn metadata_of_topics_that_are_there_and_not() -> Result<()> {
    same(|server| {
        let mut socket = Socket::open(server)?;
        create(&mut socket, "wire.metadata", 2, &[])?;
        let mut seen = Vec::new();
        for version in 0..=13 {
            let long = "x".repeat(250);
            for name in ["wire.metadata", "wire.not-there", "bad name!", "", "..", &long] {
                let topic = MetadataRequestTopic { name: Some(name.into()), ..Default::default() };
                let ask = MetadataRequest {
                    topics: Some(vec![topic]),
                    allow_auto_topic_creation: version < 4,
                    ..Default::default()
                };
                // Old versions create what is asked for.
                if version < 4 && name == "wire.not-there" {
                    continue;
                }
                let mut answer = socket.call(&ask, version)?;
                let topics: Vec<_> = answer
                    .topics
                    .iter_mut()
                    .map(|topic| {
                        topic.topic_id = Uuid::default();
                        topic.partitions.sort_by_key(|p| p.partition_index);
                        format!("{topic:?}")
                    })
                    .collect();
                let brokers: Vec<_> = answer.brokers.iter().map(|b| (b.node_id, &b.host, &b.rack)).collect();
                seen.push(format!(
                    "{version} {name:.20}: {topics:?} {brokers:?} controller {}",
                    answer.controller_id
                ));
            }
            if version >= 10 {
                let topic = MetadataRequestTopic { topic_id: Uuid([7; 16]), name: None };
                let ask = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
                if version >= 12 {
                    seen.push(format!("{version} unknown id: {:?}", socket.call(&ask, version)?.topics));
                }
            }
            if version >= 1 {
                let ask = MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
                let ask = MetadataRequest { allow_auto_topic_creation: version < 4, ..ask };
                seen.push(format!("{version} none: {:?}", socket.call(&ask, version)?.topics));
            }
        }
        Ok(seen)
    })?;
    Ok(())
}

#[test]
fn topics_that_cannot_be_created() -> Result<()> {
    same(|server| {
        let mut socket = Socket::open(server)?;
        create(&mut socket, "wire.taken_name", 1, &[])?;
        let topic = |name: &str, partitions, factor| CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: factor,
            ..Default::default()
        };
        let with = |name: &str, key: &str, value: Option<&str>| CreatableTopic {
            configs: vec![CreatableTopicConfig { name: key.into(), value: value.map(Into::into) }],
            ..topic(name, 1, 1)
        };
        let assigned = |name: &str, assignments: &[(i32, &[i32])]| CreatableTopic {
            assignments: assignments
                .iter()
                .map(|(partition_index, brokers)| CreatableReplicaAssignment {
                    partition_index: *partition_index,
                    broker_ids: brokers.to_vec(),
                })
                .collect(),
            ..topic(name, -1, -1)
        };
        let cases = vec![
            vec![topic("wire.taken_name", 1, 1)],
            vec![topic("wire_taken.name", 1, 1)],
            vec![topic("wire.c1", 0, 1)],
            vec![topic("wire.c1", -2, 1)],
            vec![topic("wire.c1", 1, 0)],
            vec![topic("wire.c1", 1, 2)],
            vec![topic("bad name", 1, 1)],
            vec![topic("", 1, 1)],
            vec![topic(".", 1, 1)],
            vec![topic(&"x".repeat(250), 1, 1)],
            vec![topic("wire.twice", 1, 1), topic("wire.twice", 2, 1)],
            vec![with("wire.c2", "no.such.key", Some("1"))],
            vec![with("wire.c2", "retention.ms", Some("soon"))],
            vec![with("wire.c2", "retention.ms", Some("-2"))],
            vec![with("wire.c2", "cleanup.policy", Some("shred"))],
            vec![with("wire.c2", "retention.ms", None)],
            vec![with("wire.c2", "segment.bytes", Some("1"))],
            vec![with("wire.c2", "min.insync.replicas", Some("0"))],
            vec![with("wire.c2", "compression.type", Some("brotli"))],
            vec![assigned("wire.c3", &[(0, &[1]), (1, &[1])])],
            vec![assigned("wire.c4", &[(1, &[1])])],
            vec![assigned("wire.c4", &[(0, &[9])])],
            vec![assigned("wire.c4", &[(0, &[1, 1])])],
            vec![assigned("wire.c4", &[(0, &[])])],
            vec![CreatableTopic { num_partitions: 3, ..assigned("wire.c4", &[(0, &[1])]) }],
            vec![with("wire.c5", "retention.ms", Some("1000"))],
            vec![topic("wire.c6", -1, -1)],
        ];
        let mut seen = Vec::new();
        for version in [2, 5, 7] {
            for (at, topics) in cases.iter().enumerate() {
                // Versions before 4 know no defaults of the broker.
                for validate_only in [true, false] {
                    // What is created by one version cannot be created by the next.
                    if !validate_only && version > 2 {
                        continue;
                    }
                    let ask =
                        CreateTopicsRequest { topics: topics.clone(), timeout_ms: 60_000, validate_only };
                    let mut answers = socket.call(&ask, version)?.topics;
                    answers.sort_by(|a, b| a.name.cmp(&b.name));
                    for answer in answers {
                        let configs = answer
                            .configs
                            .as_ref()
                            .map(|configs| configs.iter().any(|c| &*c.name == "retention.ms"));
                        seen.push(format!(
                            "{version} case {at} {validate_only}: error {} explained {} partitions {} factor {} configs {configs:?}",
                            answer.error_code, answer.error_message.is_some(), answer.num_partitions, answer.replication_factor,
                        ));
                    }
                }
            }
        }
        Ok(seen)
    })?;
    Ok(())
}

fn configs(
    kind: Kind,
    resource_type: i8,
    name: &str,
    keys: Option<&[&str]>,
) -> Result<DescribeConfigsResponse> {
    let resource = DescribeConfigsResource {
        resource_type,
        resource_name: name.into(),
        configuration_keys: keys.map(|keys| keys.iter().map(|key| (*key).into()).collect()),
    };
    let ask = DescribeConfigsRequest {
        resources: vec![resource],
        include_synonyms: true,
        include_documentation: false,
    };
    Socket::open(shared(kind)?)?.call(&ask, 4)
}

/// Every config that we describe is described as Apache Kafka does.
#[test]
fn configs_of_topics_and_brokers() -> Result<()> {
    for kind in Kind::BOTH {
        create(
            &mut Socket::open(shared(kind)?)?,
            "wire.configs",
            1,
            &[("retention.ms", "1000"), ("segment.bytes", "2000000")],
        )?;
    }
    // What differs from machine to machine, what a node with a controller listener has to set, what Apache Kafka keeps
    // to itself, and min.insync.replicas, which it sets for the cluster when it is formatted.
    let own = [
        "advertised.listeners",
        "listeners",
        "log.dirs",
        "log.dir",
        "controller.quorum.voters",
        "controller.listener.names",
        "broker.id",
        "node.id",
        "min.insync.replicas",
        "producer.id.expiration.check.interval.ms",
        "group.consumer.regex.refresh.interval.ms",
        "metadata.log.dir",
        "controller.quorum.bootstrap.servers",
        "transaction.state.log.replication.factor",
        "transaction.state.log.min.isr",
    ];
    let mut wrong = Vec::new();
    for (resource_type, name) in [(2, "wire.configs"), (4, "1"), (4, "")] {
        let [ours, theirs] = Kind::BOTH.map(|kind| configs(kind, resource_type, name, None));
        let (ours, theirs) = (ours?.results.remove(0), theirs?.results.remove(0));
        assert_eq!((ours.error_code, &ours.error_message), (theirs.error_code, &theirs.error_message));
        for config in &ours.configs {
            if own.contains(&&*config.name) {
                continue;
            }
            match theirs.configs.iter().find(|c| c.name == config.name) {
                Some(their) => {
                    let (mut our, mut their) = (config.clone(), their.clone());
                    // Fewer keys of a running broker can be changed, and we say so.
                    our.read_only |= resource_type == 4 && !their.read_only;
                    their.read_only |= our.read_only;
                    if our != their {
                        wrong.push(format!("{resource_type} ours   {our:?}\n  theirs {their:?}"));
                    }
                }
                None => {
                    if !config.name.starts_with("aqueduct.") {
                        wrong.push(format!("{resource_type} only ours: {config:?}"));
                    }
                }
            }
        }
        if resource_type == 2 {
            let missing = theirs.configs.iter().filter(|c| ours.configs.iter().all(|o| o.name != c.name));
            wrong.extend(missing.map(|c| format!("only theirs: {}", c.name)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (resource_type, name) in
        [(2, "wire.not-there"), (2, "bad name!"), (2, ""), (4, "99"), (4, "one"), (3, "x")]
    {
        let [ours, theirs] = Kind::BOTH.map(|kind| configs(kind, resource_type, name, None));
        let (ours, theirs) = (ours?.results.remove(0), theirs?.results.remove(0));
        assert_eq!(
            ours.error_code, theirs.error_code,
            "{resource_type} {name}: {:?} {:?}",
            ours.error_message, theirs.error_message
        );
    }
    Ok(())
}

#[test]
fn replicas_that_cannot_be_moved() -> Result<()> {
    same(|server| {
        let mut socket = Socket::open(server)?;
        create(&mut socket, "wire.moved", 1, &[])?;
        let data = server.data().to_string_lossy().into_owned();
        let long = "x".repeat(249);
        let mut seen = Vec::new();
        for version in 1..=2 {
            let cases = [
                ("wire.moved", 0, data.as_str()),
                ("wire.moved", 0, "/no/such/dir"),
                ("wire.moved", 0, ""),
                ("wire.moved", 0, "data"),
                ("wire.moved", 1, &data),
                ("wire.moved", -1, &data),
                ("wire.not-there", 0, &data),
                ("bad name!", 0, &data),
                ("", 0, &data),
                (&long, 0, &data),
                (&long, 0, "/no/such/dir"),
                ("__cluster_metadata", 0, &data),
            ];
            for (name, index, path) in cases {
                let topics = vec![AlterReplicaLogDirTopic { name: name.into(), partitions: vec![index] }];
                let dirs = vec![AlterReplicaLogDir { path: path.into(), topics }];
                let answer = socket.call(&AlterReplicaLogDirsRequest { dirs }, version)?;
                let shown = path.replace(&data, "DATA");
                seen.push(format!("{version} {name:.20} {index} {shown}: {:?}", answer.results));
            }
            let nothing = socket.call(&AlterReplicaLogDirsRequest { dirs: Vec::new() }, version)?;
            let topics = vec![AlterReplicaLogDirTopic { name: "wire.moved".into(), partitions: vec![0] }];
            // The later one of two directories counts.
            let both = [data.as_str(), "/no/such/dir"]
                .map(|path| AlterReplicaLogDir { path: path.into(), topics: topics.clone() });
            let both = socket.call(&AlterReplicaLogDirsRequest { dirs: both.into() }, version)?;
            seen.push(format!("{version} {:?} {:?}", nothing.results, both.results));
        }
        Ok(seen)
    })?;
    Ok(())
}
