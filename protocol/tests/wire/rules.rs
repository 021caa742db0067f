//! Nulls and values that a version cannot carry.

use bytes::{Bytes, BytesMut};

use aqueduct_protocol::messages::*;
use aqueduct_protocol::{Decode as _, DecodeError, Encode, EncodeError, Request as _};

fn encode(message: &impl Encode, version: i16) -> Result<Bytes, EncodeError> {
    let mut buf = BytesMut::new();
    message.encode(&mut buf, version).map(|()| buf.freeze())
}

#[test]
fn an_ignorable_value_is_dropped_and_any_other_is_refused() {
    let response = ProduceResponse { throttle_time_ms: 9, ..Default::default() };
    assert!(encode(&response, 3).is_ok());
    let request = HeartbeatRequest { group_instance_id: Some("i".into()), ..Default::default() };
    assert_eq!(
        encode(&request, 2),
        Err(EncodeError::FieldNotInVersion { field: "HeartbeatRequest.GroupInstanceId", version: 2 })
    );
    assert!(encode(&request, 3).is_ok());
    let leader = produce_response::LeaderIdAndEpoch { leader_id: 1, leader_epoch: 2 };
    let partition =
        produce_response::PartitionProduceResponse { current_leader: leader, ..Default::default() };
    let topic =
        produce_response::TopicProduceResponse { partition_responses: vec![partition], ..Default::default() };
    let response = ProduceResponse { responses: vec![topic], ..Default::default() };
    assert!(encode(&response, 9).is_err());
    assert!(encode(&response, 10).is_ok());
}

#[test]
fn a_null_is_refused_where_the_version_has_none() {
    let all = MetadataRequest { topics: None, ..Default::default() };
    assert_eq!(
        encode(&all, 0),
        Err(EncodeError::UnexpectedNull { field: "MetadataRequest.Topics", version: 0 })
    );
    assert_eq!(encode(&all, 1).as_deref(), Ok(&b"\xff\xff\xff\xff"[..]));
    let null = Bytes::from_static(b"\xff\xff\xff\xff");
    assert_eq!(
        MetadataRequest::decode(&mut null.clone(), 0),
        Err(DecodeError::UnexpectedNull { field: "MetadataRequest.Topics", version: 0 })
    );
    assert_eq!(MetadataRequest::decode(&mut null.clone(), 1), Ok(all));
    let group = Bytes::from_static(b"\xff\xff\x00\x00\x00\x00\x00\x00");
    assert_eq!(
        HeartbeatRequest::decode(&mut group.clone(), 0),
        Err(DecodeError::UnexpectedNull { field: "HeartbeatRequest.GroupId", version: 0 })
    );
}

#[test]
fn defaults_are_those_of_the_schemas() {
    let fetch = FetchRequest::default();
    assert_eq!((fetch.replica_id, fetch.max_bytes, fetch.session_epoch), (-1, i32::MAX, -1));
    assert_eq!(fetch.cluster_id, None);
    let topic = create_topics_request::CreatableTopic::default();
    assert_eq!((topic.num_partitions, topic.replication_factor), (0, 0));
    assert!(MetadataRequest::default().allow_auto_topic_creation);
    // Nullable without a null default: empty, as in Kafka's classes.
    assert_eq!(MetadataRequest::default().topics, Some(Vec::new()));
    assert_eq!(ApiVersionsResponse::default().finalized_features_epoch, -1);
}

#[test]
fn slices_point_into_the_request() {
    let records = Bytes::from_static(b"a batch");
    let partition = produce_request::PartitionProduceData { index: 3, records: Some(records) };
    let topic = produce_request::TopicProduceData {
        name: "t".into(),
        partition_data: vec![partition],
        ..Default::default()
    };
    let request = ProduceRequest { acks: -1, timeout_ms: 1, topic_data: vec![topic], ..Default::default() };
    let wire = encode(&request, 9).expect("encodes");
    let range = wire.as_ptr_range();
    let read = ProduceRequest::decode(&mut wire.clone(), 9).expect("decodes");
    assert_eq!(read, request);
    let records = read.topic_data[0].partition_data[0].records.as_ref().expect("records");
    assert!(range.contains(&records.as_ptr()) && range.contains(&read.topic_data[0].name.as_ptr()));
}

#[test]
fn keys_names_and_versions_are_in_the_trait() {
    assert_eq!((ProduceRequest::API_KEY, ProduceRequest::NAME), (0, "Produce"));
    assert_eq!((FetchRequest::MIN_VERSION, FetchRequest::MAX_VERSION), (4, 18));
    assert!(FetchRequest::is_flexible(12) && !FetchRequest::is_flexible(11));
    assert!(!SaslHandshakeRequest::is_flexible(1));
}

#[test]
fn the_header_by_hand_is_the_schemas_header() {
    for (key, version, header_version) in [(18, 2, 1), (18, 3, 2), (0, 8, 1), (0, 9, 2), (17, 1, 1)] {
        let header = aqueduct_protocol::header::RequestHeader {
            api_key: key,
            api_version: version,
            correlation_id: 77,
            client_id: Some("a client".into()),
        };
        let mut by_hand = BytesMut::new();
        header.encode(&mut by_hand).expect("encodes");
        let generated = RequestHeader {
            request_api_key: key,
            request_api_version: version,
            correlation_id: 77,
            client_id: Some("a client".into()),
        };
        assert_eq!(encode(&generated, header_version), Ok(by_hand.freeze()), "key {key} version {version}");
    }
}
