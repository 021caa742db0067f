//! Topics, configs, log directories and what the cluster says of itself.

use anyhow::Result;
use aqueduct_tests::on_both;
use aqueduct_tests::server::Server;

use crate::{TOPICS, create_topic, on, refused};

const CONFIGS: &str = "kafka.admin.ConfigCommand";

on_both!(
    topics_are_created_described_altered_and_deleted,
    configs_are_described_and_altered,
    the_cluster_describes_itself,
);

/// Create, describe, add partitions, list, delete; and the errors on the way.
fn topics_are_created_described_altered_and_deleted(server: &Server) -> Result<()> {
    let create =
        ["--create", "--topic", "java.topics", "--partitions", "2", "--config", "retention.ms=360000"];
    let printed = on(server, TOPICS, &create)?;
    assert!(printed.contains("Created topic java.topics."), "{printed}");
    let printed = refused(server, TOPICS, &["--create", "--topic", "java.topics"])?;
    assert!(printed.contains("Topic 'java.topics' already exists."), "{printed}");
    let printed =
        refused(server, TOPICS, &["--create", "--topic", "java.many", "--replication-factor", "2"])?;
    assert!(printed.contains("InvalidReplicationFactorException"), "{printed}");

    on(server, TOPICS, &["--alter", "--topic", "java.topics", "--partitions", "3"])?;
    let printed = refused(server, TOPICS, &["--alter", "--topic", "java.topics", "--partitions", "1"])?;
    assert!(printed.contains("InvalidPartitionsException"), "{printed}");
    let printed = on(server, TOPICS, &["--describe", "--topic", "java.topics"])?;
    assert!(printed.contains("PartitionCount: 3\tReplicationFactor: 1"), "{printed}");
    assert!(printed.contains("retention.ms=360000"), "{printed}");
    assert_eq!(printed.matches("Leader: 1\tReplicas: 1\tIsr: 1").count(), 3, "{printed}");

    on(server, TOPICS, &["--delete", "--topic", "java.topics"])?;
    let listed = on(server, TOPICS, &["--list"])?;
    assert!(!listed.lines().any(|name| name == "java.topics"), "{listed}");
    let printed = refused(server, TOPICS, &["--describe", "--topic", "java.topics"])?;
    assert!(printed.contains("does not exist as expected"), "{printed}");
    Ok(())
}

/// Describe, set, delete and refuse configs of a topic and of a broker.
fn configs_are_described_and_altered(server: &Server) -> Result<()> {
    create_topic(server, "java.configs", 1)?;
    let topic = ["--entity-type", "topics", "--entity-name", "java.configs"];
    let with = |args: &[&str]| on(server, CONFIGS, &[&topic, args].concat());
    let added = "cleanup.policy=[compact,delete],max.message.bytes=2000,retention.ms=7200000";
    assert!(
        with(&["--alter", "--add-config", added])?
            .contains("Completed updating config for topic java.configs.")
    );
    with(&["--alter", "--add-config", "segment.bytes=1048576", "--delete-config", "retention.ms"])?;
    let printed = with(&["--describe"])?;
    for expected in [
        "cleanup.policy=compact,delete sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:cleanup.policy=compact,delete, \
         DEFAULT_CONFIG:log.cleanup.policy=delete}",
        "max.message.bytes=2000 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:max.message.bytes=2000, \
         DEFAULT_CONFIG:message.max.bytes=1048588}",
        "segment.bytes=1048576 sensitive=false",
    ] {
        assert!(printed.contains(expected), "{expected} is not in {printed}");
    }
    assert!(!printed.contains("retention.ms"), "{printed}");
    let all = with(&["--describe", "--all"])?;
    assert!(all.contains("retention.ms=604800000"), "{all}");
    let refusal =
        |config: &str| refused(server, CONFIGS, &[&topic, &["--alter", "--add-config", config][..]].concat());
    assert!(refusal("no.such.key=1")?.contains("InvalidConfigurationException"));
    assert!(refusal("max.message.bytes=-1")?.contains("InvalidConfigurationException"));

    let broker = ["--entity-type", "brokers", "--entity-name", "1"];
    let printed = on(server, CONFIGS, &[&broker, &["--describe", "--all"][..]].concat())?;
    assert!(printed.contains("node.id=1"), "{printed}");
    assert!(
        printed.contains("offsets.topic.num.partitions=5 sensitive=false synonyms={STATIC_BROKER_CONFIG"),
        "{printed}"
    );
    on(server, CONFIGS, &[&broker, &["--alter", "--add-config", "message.max.bytes=1500000"][..]].concat())?;
    let printed = on(server, CONFIGS, &[&broker, &["--describe"][..]].concat())?;
    assert!(printed.contains("message.max.bytes=1500000"), "{printed}");
    on(server, CONFIGS, &[&broker, &["--alter", "--delete-config", "message.max.bytes"][..]].concat())?;
    let printed = refused(
        server,
        CONFIGS,
        &[&broker, &["--alter", "--add-config", "log.dirs=/elsewhere"][..]].concat(),
    )?;
    assert!(printed.contains("Cannot update these configs dynamically"), "{printed}");
    Ok(())
}

/// What a broker says of itself: versions, cluster id, features, log directories.
fn the_cluster_describes_itself(server: &Server) -> Result<()> {
    let printed = on(server, "org.apache.kafka.tools.BrokerApiVersionsCommand", &[])?;
    assert!(printed.contains("(id: 1 rack: null isFenced: false) -> ("), "{printed}");
    assert!(printed.contains("Produce(0): 0 to 13 [usable: 13]"), "{printed}");
    let printed = aqueduct_tests::kafka::tool(
        "org.apache.kafka.tools.ClusterTool",
        &["cluster-id", "--bootstrap-server", &server.bootstrap()],
    )?;
    let id = printed.trim().strip_prefix("Cluster ID: ").unwrap_or_default();
    assert_eq!(id.len(), 22, "{printed}");
    let meta = std::fs::read_to_string(server.data().join("meta.properties"))?;
    assert!(meta.lines().any(|line| line == format!("cluster.id={id}")), "{meta}");

    create_topic(server, "java.dirs", 2)?;
    let printed =
        on(server, "org.apache.kafka.tools.LogDirsCommand", &["--describe", "--topic-list", "java.dirs"])?;
    let json = printed.lines().find(|line| line.starts_with('{')).unwrap_or_default();
    let json: serde_json::Value = serde_json::from_str(json)?;
    let dir = &json["brokers"][0]["logDirs"][0];
    assert_eq!(dir["logDir"].as_str(), server.data().to_str(), "{json}");
    assert_eq!(dir["error"], serde_json::Value::Null);
    let mut names: Vec<_> =
        dir["partitions"].as_array().into_iter().flatten().map(|p| p["partition"].clone()).collect();
    names.sort_by_key(ToString::to_string);
    assert_eq!(names, ["java.dirs-0", "java.dirs-1"], "{json}");
    assert_eq!(dir["partitions"][0]["offsetLag"], 0);
    Ok(())
}
