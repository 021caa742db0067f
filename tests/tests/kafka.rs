//! The launcher of Apache Kafka itself.

use aqueduct_tests::kafka::{Kafka, tool};

#[test]
fn a_node_starts_answers_and_survives_a_kill() -> anyhow::Result<()> {
    let mut kafka = Kafka::start()?;
    let bootstrap = kafka.bootstrap();
    let topics = "org.apache.kafka.tools.TopicCommand";
    tool(topics, &["--bootstrap-server", &bootstrap, "--create", "--topic", "kept"])?;
    kafka.kill();
    kafka.restart()?;
    assert_eq!(tool(topics, &["--bootstrap-server", &bootstrap, "--list"])?.trim(), "kept");
    Ok(())
}
