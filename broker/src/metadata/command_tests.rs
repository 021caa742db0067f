use super::*;

fn image() -> MetadataImage {
    let mut image = MetadataImage::new("c".into());
    image.apply(&Record::BrokerRegistered(BrokerImage {
        id: BrokerId(1),
        incarnation: Uuid([1; 16]),
        endpoints: Vec::new(),
        rack: None,
    }));
    image
}

fn create(name: &str, partitions: i32, factor: i16) -> Command {
    Command::CreateTopic {
        name: name.into(),
        id: Uuid([name.len() as u8; 16]),
        partitions: Placement::Count { partitions, replication_factor: factor },
        configs: BTreeMap::new(),
    }
}

fn run(image: &mut MetadataImage, command: Command) -> Result<Outcome, ErrorCode> {
    let (records, outcome) = decide(image, &command).map_err(|rejection| rejection.code)?;
    records.iter().for_each(|record| image.apply(record));
    Ok(outcome)
}

#[test]
fn topics_are_created_by_kafkas_rules() {
    let mut image = image();
    run(&mut image, create("a.b", 3, 1)).unwrap();
    assert_eq!(image.topic("a.b").unwrap().partitions.len(), 3);
    assert_eq!(run(&mut image, create("a.b", 3, 1)), Err(ErrorCode::TopicAlreadyExists));
    assert_eq!(run(&mut image, create("a_b", 3, 1)), Err(ErrorCode::InvalidTopicException));
    assert_eq!(run(&mut image, create("..", 3, 1)), Err(ErrorCode::InvalidTopicException));
    assert_eq!(run(&mut image, create("ä", 3, 1)), Err(ErrorCode::InvalidTopicException));
    assert_eq!(run(&mut image, create(&"x".repeat(250), 3, 1)), Err(ErrorCode::InvalidTopicException));
    assert_eq!(run(&mut image, create("c", 0, 1)), Err(ErrorCode::InvalidPartitions));
    assert_eq!(run(&mut image, create("c", 1, 2)), Err(ErrorCode::InvalidReplicationFactor));
}

#[test]
fn manual_assignments_are_checked() {
    let mut image = image();
    let mut assigned = |pairs: &[(i32, &[i32])]| {
        let map = pairs.iter().map(|(at, ids)| (*at, ids.iter().map(|id| BrokerId(*id)).collect())).collect();
        let command = Command::CreateTopic {
            name: "m".into(),
            id: Uuid([7; 16]),
            partitions: Placement::Assigned(map),
            configs: BTreeMap::new(),
        };
        run(&mut image, command).map(|_| ())
    };
    assert_eq!(assigned(&[(1, &[1])]), Err(ErrorCode::InvalidReplicaAssignment));
    assert_eq!(assigned(&[(0, &[])]), Err(ErrorCode::InvalidReplicaAssignment));
    assert_eq!(assigned(&[(0, &[1, 1])]), Err(ErrorCode::InvalidReplicaAssignment));
    assert_eq!(assigned(&[(0, &[2])]), Err(ErrorCode::InvalidReplicaAssignment));
    assert_eq!(assigned(&[(0, &[1]), (1, &[1])]), Ok(()));
}

#[test]
fn partitions_only_grow() {
    let mut image = image();
    run(&mut image, create("t", 2, 1)).unwrap();
    let mut grow = |total| {
        let partitions = NewPartitions { total, assigned: None };
        run(&mut image, Command::CreatePartitions { topic: "t".into(), partitions }).map(|_| ())
    };
    assert_eq!(grow(2), Err(ErrorCode::InvalidPartitions));
    assert_eq!(grow(1), Err(ErrorCode::InvalidPartitions));
    assert_eq!(grow(4), Ok(()));
    assert_eq!(image.topic("t").unwrap().partitions.len(), 4);
}

#[test]
fn configs_are_changed_value_by_value() {
    let mut image = image();
    run(&mut image, create("t", 1, 1)).unwrap();
    let topic = Resource::Topic("t".into());
    let mut alter = |resource: &Resource, key: &str, op| {
        let ops = vec![(key.into(), op)];
        run(&mut image, Command::AlterConfig { resource: resource.clone(), ops }).map(|_| ())
    };
    alter(&topic, "retention.ms", ConfigOp::Set("5".into())).unwrap();
    alter(&topic, "cleanup.policy", ConfigOp::Append("compact".into())).unwrap();
    assert_eq!(alter(&topic, "retention.ms", ConfigOp::Set("x".into())), Err(ErrorCode::InvalidConfig));
    assert_eq!(alter(&topic, "retention.ms", ConfigOp::Append("1".into())), Err(ErrorCode::InvalidConfig));
    assert_eq!(alter(&topic, "nope", ConfigOp::Set("1".into())), Err(ErrorCode::InvalidConfig));
    let broker = Resource::Broker(Some(BrokerId(1)));
    assert_eq!(alter(&broker, "node.id", ConfigOp::Set("2".into())), Err(ErrorCode::InvalidRequest));
    assert_eq!(alter(&broker, "message.max.bytes", ConfigOp::Set("2000000".into())), Ok(()));
    assert_eq!(
        alter(&Resource::Topic("u".into()), "retention.ms", ConfigOp::Delete),
        Err(ErrorCode::UnknownTopicOrPartition)
    );
    let values = image.config(&topic).unwrap();
    assert_eq!(values.get("cleanup.policy").map(|v| &**v), Some("delete,compact"));
    let topic_config = Command::AlterConfig {
        resource: topic.clone(),
        ops: vec![
            ("cleanup.policy".into(), ConfigOp::Subtract("delete".into())),
            ("retention.ms".into(), ConfigOp::Delete),
        ],
    };
    run(&mut image, topic_config).unwrap();
    assert_eq!(
        **image.config(&topic).unwrap(),
        BTreeMap::from([("cleanup.policy".into(), "compact".into())])
    );
}

#[test]
fn deleting_takes_the_configuration_along() {
    let mut image = image();
    run(&mut image, create("t", 1, 1)).unwrap();
    let resource = Resource::Topic("t".into());
    let values = BTreeMap::from([("retention.ms".into(), "1".into())]);
    run(&mut image, Command::ReplaceConfig { resource: resource.clone(), values }).unwrap();
    run(&mut image, Command::DeleteTopic { id: Uuid([1; 16]) }).unwrap();
    assert!(image.topic("t").is_none() && image.config(&resource).is_none());
    assert_eq!(run(&mut image, Command::DeleteTopic { id: Uuid([1; 16]) }), Err(ErrorCode::UnknownTopicId));
}
