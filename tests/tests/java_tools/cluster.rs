//! The quorum, features, elections, reassignments; settings of what is neither topic nor broker.

use anyhow::Result;
use aqueduct_tests::on_both;
use aqueduct_tests::server::Server;

use crate::{create_topic, on, refused};

const CONFIGS: &str = "kafka.admin.ConfigCommand";

on_both!(
    the_quorum_and_features_are_described,
    leaders_are_elected_and_partitions_reassigned,
    groups_loggers_and_client_metrics_have_configs,
    brokers_and_their_defaults_have_configs,
);

fn the_quorum_and_features_are_described(server: &Server) -> Result<()> {
    let quorum = |args: &[&str]| {
        let bootstrap = server.bootstrap();
        let args = [&["--bootstrap-server", &bootstrap, "describe"], args].concat();
        aqueduct_tests::kafka::tool("org.apache.kafka.tools.MetadataQuorumCommand", &args)
    };
    let printed = quorum(&["--status"])?;
    let word = |name: &str| {
        let line = printed.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1)).unwrap_or_default().to_owned()
    };
    assert_eq!(word("LeaderId:"), "1", "{printed}");
    assert!(word("HighWatermark:").parse::<i64>()? > 0, "{printed}");
    assert_eq!(word("MaxFollowerLag:"), "0", "{printed}");
    let printed = quorum(&["--replication"])?;
    assert!(printed.lines().any(|line| line.starts_with('1') && line.contains("Leader")), "{printed}");

    let features = |args: &[&str]| {
        let bootstrap = server.bootstrap();
        let args = [&["--bootstrap-server", &bootstrap], args].concat();
        aqueduct_tests::kafka::tool("org.apache.kafka.tools.FeatureCommand", &args)
    };
    let printed = features(&["describe"])?;
    let level = printed.lines().find(|line| line.starts_with("Feature: transaction.version"));
    assert!(level.is_some_and(|line| line.contains("FinalizedVersionLevel: 2")), "{printed}");
    let upgrade = ["upgrade", "--feature", "transaction.version=2", "--dry-run"];
    let printed = features(&upgrade)?;
    assert!(printed.contains("transaction.version can be upgraded to 2"), "{printed}");
    Ok(())
}

fn leaders_are_elected_and_partitions_reassigned(server: &Server) -> Result<()> {
    create_topic(server, "java.moved", 2)?;
    let elect = ["--election-type", "preferred", "--topic", "java.moved", "--partition", "0"];
    let printed = on(server, "org.apache.kafka.tools.LeaderElectionCommand", &elect)?;
    assert!(printed.contains("Valid replica already elected for partitions java.moved-0"), "{printed}");
    let all = ["--election-type", "preferred", "--all-topic-partitions"];
    on(server, "org.apache.kafka.tools.LeaderElectionCommand", &all)?;

    let file = tempfile::NamedTempFile::new()?;
    let plan = |replicas: &str| {
        let plan = format!(
            r#"{{"version":1,"partitions":[{{"topic":"java.moved","partition":0,"replicas":[{replicas}]}}]}}"#
        );
        std::fs::write(file.path(), plan)
    };
    let path = file.path().to_string_lossy().into_owned();
    let reassign =
        |args: &[&str]| on(server, "org.apache.kafka.tools.reassign.ReassignPartitionsCommand", args);
    plan("1")?;
    let printed = reassign(&["--execute", "--reassignment-json-file", &path])?;
    assert!(printed.contains("Successfully started partition reassignment for java.moved-0"), "{printed}");
    let printed = reassign(&["--verify", "--reassignment-json-file", &path])?;
    assert!(printed.contains("Reassignment of partition java.moved-0 is completed."), "{printed}");
    let printed = reassign(&["--list"])?;
    assert!(printed.contains("No partition reassignments found."), "{printed}");
    plan("1,2")?;
    let args = ["--execute", "--reassignment-json-file", &path];
    let printed = refused(server, "org.apache.kafka.tools.reassign.ReassignPartitionsCommand", &args)?;
    assert!(printed.contains("Error"), "{printed}");
    Ok(())
}

fn groups_loggers_and_client_metrics_have_configs(server: &Server) -> Result<()> {
    let configs = |kind: &str, name: &str, args: &[&str]| {
        on(server, CONFIGS, &[&["--entity-type", kind, "--entity-name", name], args].concat())
    };
    let add = |config| ["--alter", "--add-config", config];
    configs("groups", "java.group", &add("consumer.session.timeout.ms=50000"))?;
    let printed = configs("groups", "java.group", &["--describe"])?;
    assert!(
        printed.contains(
            "consumer.session.timeout.ms=50000 sensitive=false synonyms={DYNAMIC_GROUP_CONFIG:consumer.session.timeout.ms=50000, \
             DEFAULT_CONFIG:group.consumer.session.timeout.ms=45000}"
        ),
        "{printed}"
    );
    configs("client-metrics", "java.metrics", &add("interval.ms=5000,match=[client_id=x.*]"))?;
    let printed = configs("client-metrics", "java.metrics", &["--describe"])?;
    assert!(printed.contains("interval.ms=5000") && printed.contains("match=client_id=x.*"), "{printed}");
    configs("broker-loggers", "1", &add("root=INFO"))?;
    let printed = configs("broker-loggers", "1", &["--describe"])?;
    assert!(printed.contains("root=INFO sensitive=false"), "{printed}");
    let wrong =
        ["--entity-type", "groups", "--entity-name", "java.group", "--alter", "--add-config", "no.key=1"];
    assert!(refused(server, CONFIGS, &wrong)?.contains("InvalidConfigurationException"));
    Ok(())
}

fn brokers_and_their_defaults_have_configs(server: &Server) -> Result<()> {
    let all = ["--entity-type", "brokers", "--entity-default"];
    let one = ["--entity-type", "brokers", "--entity-name", "1"];
    let on_all = |args: &[&str]| on(server, CONFIGS, &[&all, args].concat());
    on_all(&["--alter", "--add-config", "log.cleaner.threads=2,max.connections.per.ip=5000"])?;
    let printed = on_all(&["--describe"])?;
    for expected in ["log.cleaner.threads=2 sensitive=false", "max.connections.per.ip=5000 sensitive=false"] {
        assert!(printed.contains(expected), "{expected} is not in {printed}");
    }
    let printed = on(server, CONFIGS, &[&one[..], &["--describe", "--all"]].concat())?;
    assert!(printed.contains("synonyms={DYNAMIC_DEFAULT_BROKER_CONFIG:log.cleaner.threads=2, "), "{printed}");
    on_all(&["--alter", "--delete-config", "log.cleaner.threads,max.connections.per.ip"])?;
    let refusal = |args: &[&str], config: &str| {
        refused(server, CONFIGS, &[args, &["--alter", "--add-config", config]].concat())
    };
    for (args, config, says) in [
        (&all, "log.cleaner.threads=many", "InvalidRequestException"),
        (&all, "ssl.keystore.location=/x", "using the listener prefix"),
        (&all, "num.partitions=3", "Cannot update these configs dynamically"),
        (&all, "metric.reporters=org.example.Reporter", "InvalidRequestException"),
    ] {
        let printed = refusal(args, config)?;
        assert!(printed.contains(says), "{config}: {printed}");
    }
    Ok(())
}
