//! Administration, against Apache Kafka.

mod common;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use aqueduct_client::{
    Admin, ConfigEntry, ConfigOp, ConfigResource, ConfigSource, NewTopic, OffsetAndMetadata, OffsetSpec,
    Producer, ProducerRecord, TopicDescription, TopicPartition,
};
use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{BrokerId, Offset};

use common::client;

/// Waits until something is there.
async fn until<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let from = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(from.elapsed() < Duration::from_secs(60), "not in time");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn topics_and_configs() {
    let kafka = common::kafka();
    let client = client(&kafka.bootstrap(), &[]);
    let admin = Admin::new(client.clone());
    let compacted = NewTopic::new("compacted", 2, 1).config("cleanup.policy", "compact");
    assert!(admin.ensure_topic(&compacted).await.expect("created"));
    assert!(!admin.ensure_topic(&compacted).await.expect("there"));
    let wanted = [compacted, NewTopic::new("a/b", 1, 1), NewTopic::new("many", 1, 9)];
    let results = admin.create_topics(&wanted, false).await.expect("answered");
    let code = |name: &str| results[name].as_ref().expect_err("refused").code();
    assert_eq!(code("compacted"), Some(ErrorCode::TopicAlreadyExists));
    assert_eq!(code("a/b"), Some(ErrorCode::InvalidTopicException));
    assert_eq!(code("many"), Some(ErrorCode::InvalidReplicationFactor));
    // The broker that answers hears of what the controller has decided a little later.
    let described = until(async || {
        let described =
            admin.describe_topics(&["compacted".into(), "nowhere".into()]).await.expect("answered");
        let is_led = |topic: &TopicDescription| topic.partitions.iter().all(|one| one.leader.is_some());
        described["compacted"].as_ref().is_ok_and(is_led).then_some(described)
    })
    .await;
    let topic = described["compacted"].as_ref().expect("there");
    assert_eq!(
        (topic.partitions.len(), topic.partitions[1].leader, topic.internal),
        (2, Some(BrokerId(1)), false)
    );
    let error = described["nowhere"].as_ref().expect_err("not there").to_string();
    assert!(error.starts_with("topic nowhere does not exist"), "{error}");
    assert!(!admin.list_topics().await.expect("answered").contains("nowhere"), "asking creates nothing");

    let resource = ConfigResource::Topic("compacted".into());
    let changes = vec![
        ("retention.ms".to_owned(), ConfigOp::Set("12345".to_owned())),
        ("cleanup.policy".to_owned(), ConfigOp::Append("delete".to_owned())),
    ];
    let altered = admin.incremental_alter_configs(&[(resource.clone(), changes)]).await.expect("answered");
    altered[&resource].as_ref().expect("altered");
    let configs = until(async || {
        let resources = [resource.clone(), ConfigResource::Broker(BrokerId(1))];
        let configs = admin.describe_configs(&resources).await.expect("answered");
        let is_new =
            |entry: &ConfigEntry| entry.name == "retention.ms" && entry.source == ConfigSource::Topic;
        configs[&resource].as_ref().is_ok_and(|entries| entries.iter().any(is_new)).then_some(configs)
    })
    .await;
    let of_topic: HashMap<&str, &ConfigEntry> =
        configs[&resource].as_ref().expect("there").iter().map(|entry| (&*entry.name, entry)).collect();
    assert_eq!(of_topic["retention.ms"].value.as_deref(), Some("12345"));
    assert_eq!(of_topic["retention.ms"].source, ConfigSource::Topic);
    assert_eq!(of_topic["cleanup.policy"].value.as_deref(), Some("compact,delete"));
    assert_eq!(of_topic["segment.bytes"].source, ConfigSource::Default);
    assert!(configs[&ConfigResource::Broker(BrokerId(1))].as_ref().is_ok_and(|entries| entries.len() > 100));

    let deleted = admin.delete_topics(&["compacted".into(), "nowhere".into()]).await.expect("answered");
    deleted["compacted"].as_ref().expect("deleted");
    let code = deleted["nowhere"].as_ref().expect_err("not there").code();
    assert_eq!(code, Some(ErrorCode::UnknownTopicOrPartition));
    let cluster = admin.describe_cluster().await.expect("answered");
    assert_eq!(client.cluster_id().await.expect("answered"), Some(cluster.cluster_id));
    assert_eq!(cluster.brokers[0].address(), kafka.bootstrap());
}

#[tokio::test]
async fn offsets_of_partitions_and_groups() {
    let kafka = common::kafka();
    let client = client(&kafka.bootstrap(), &[]);
    let admin = Admin::new(client.clone());
    let producer = Producer::new(client);
    let records = (0..10).map(|n| ProducerRecord::new("counted", "x").with_timestamp(1_700_000_000_000 + n));
    producer.send_all(records.collect()).await.expect("buffered").all().await.expect("written");
    let partition = TopicPartition::new("counted", 0);
    let look_up = async |spec| {
        let mut found =
            admin.list_offsets(&HashMap::from([(partition.clone(), spec)])).await.expect("answered");
        found.remove(&partition).expect("asked").expect("found").offset
    };
    assert_eq!(look_up(OffsetSpec::Latest).await, Offset(10));
    assert_eq!(look_up(OffsetSpec::MaxTimestamp).await, Offset(9));
    assert_eq!(look_up(OffsetSpec::Timestamp(i64::MAX)).await, Offset(-1));
    let deleted =
        admin.delete_records(&HashMap::from([(partition.clone(), Offset(4))])).await.expect("answered");
    assert_eq!(*deleted[&partition].as_ref().expect("deleted"), Offset(4));
    assert_eq!(look_up(OffsetSpec::Earliest).await, Offset(4));

    let offsets = HashMap::from([(partition.clone(), OffsetAndMetadata::from(Offset(7)))]);
    let altered = admin.alter_consumer_group_offsets("altered", &offsets).await.expect("answered");
    altered[&partition].as_ref().expect("altered");
    assert_eq!(admin.list_consumer_group_offsets("altered").await.expect("answered"), offsets);
    assert!(admin.list_consumer_group_offsets("nobody").await.expect("answered").is_empty());
    let groups = admin.list_groups().await.expect("answered");
    assert!(
        groups.iter().any(|group| &*group.group_id == "altered" && &*group.state == "Empty"),
        "{groups:?}"
    );
    let described = admin.describe_groups(&["altered".into(), "nobody".into()]).await.expect("answered");
    assert!(described["altered"].as_ref().is_ok_and(|group| group.members.is_empty()));
    assert_eq!(described["nobody"].as_ref().expect_err("no group").code(), Some(ErrorCode::GroupIdNotFound));
    let mut removed = admin
        .delete_consumer_group_offsets("altered", std::slice::from_ref(&partition))
        .await
        .expect("answered");
    removed.remove(&partition).expect("asked").expect("removed");
    assert!(admin.list_consumer_group_offsets("altered").await.expect("answered").is_empty());
}
