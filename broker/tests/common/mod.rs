//! A broker in this process, and a client that speaks the raw protocol to it.
#![allow(dead_code, clippy::unwrap_used)]

pub mod cluster;

use std::fs;
use std::io::{Error, ErrorKind};
use std::path::Path;
use std::time::Duration;

use aqueduct_broker::{Broker, Handle, Options};
use aqueduct_protocol::ids::{ProducerEpoch, ProducerId, Uuid};
use aqueduct_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use aqueduct_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use aqueduct_protocol::messages::find_coordinator_response::Coordinator;
use aqueduct_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use aqueduct_protocol::messages::produce_response::PartitionProduceResponse;
use aqueduct_protocol::messages::{
    CreateTopicsRequest, FetchRequest, FindCoordinatorRequest, MetadataRequest, ProduceRequest,
    metadata_request::MetadataRequestTopic,
};
use aqueduct_protocol::records::{BatchBuilder, Compression};
use aqueduct_protocol::{ErrorCode, Request, frame};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub async fn start(dir: &Path) -> Handle {
    start_with(dir, &[]).await
}

pub async fn start_with(dir: &Path, settings: &[(&str, &str)]) -> Handle {
    let mut options = Options::embedded(dir, 0);
    for (key, value) in settings {
        options.set(key, value);
    }
    Broker::start(options).await.unwrap()
}

pub struct Client {
    pub stream: TcpStream,
    next: i32,
}

impl Client {
    pub async fn connect(broker: &Handle) -> Self {
        Self { stream: TcpStream::connect(broker.address()).await.unwrap(), next: 1 }
    }

    pub async fn send<R: Request>(&mut self, request: &R, version: i16) -> i32 {
        let id = self.next;
        self.next += 1;
        let mut out = BytesMut::new();
        frame::encode_request(&mut out, request, version, id, Some(&"test".into())).unwrap();
        self.stream.write_all(&out).await.unwrap();
        id
    }

    pub async fn receive<R: Request>(&mut self, version: i16, id: i32) -> R::Response {
        let (found, response) = frame::decode_response::<R>(self.frame().await.unwrap(), version).unwrap();
        assert_eq!(found, id, "answers come in the order of the requests");
        response
    }

    pub async fn call<R: Request>(&mut self, request: &R, version: i16) -> R::Response {
        let id = self.send(request, version).await;
        self.receive::<R>(version, id).await
    }

    /// The next frame; `None` where the broker closed the connection.
    pub async fn frame(&mut self) -> Option<Bytes> {
        let size = match timeout(PATIENCE, self.stream.read_i32()).await.expect("an answer in time") {
            Ok(size) => size,
            Err(_) => return None,
        };
        let mut frame = vec![0; size as usize];
        self.stream.read_exact(&mut frame).await.unwrap();
        Some(frame.into())
    }

    pub async fn is_closed(&mut self) -> bool {
        self.frame().await.is_none()
    }

    pub async fn create_topic(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Uuid {
        let config = |(name, value): &(&str, &str)| CreatableTopicConfig {
            name: (*name).into(),
            value: Some((*value).into()),
        };
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs.iter().map(config).collect(),
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..Default::default() };
        let response = self.call(&request, 7).await;
        assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0].error_message);
        response.topics[0].topic_id
    }

    pub async fn produce(&mut self, topic: &str, index: i32, records: Bytes) -> PartitionProduceResponse {
        self.produce_as(topic, Uuid::ZERO, index, Some(records), 12, -1).await
    }

    pub async fn produce_as(
        &mut self,
        topic: &str,
        topic_id: Uuid,
        index: i32,
        records: Option<Bytes>,
        version: i16,
        acks: i16,
    ) -> PartitionProduceResponse {
        let request = produce_request(topic, topic_id, index, records, acks);
        let mut response = self.call(&request, version).await;
        response.responses.remove(0).partition_responses.remove(0)
    }

    pub async fn metadata(&mut self, topics: &[&str]) -> aqueduct_protocol::messages::MetadataResponse {
        let topic = |name: &&str| MetadataRequestTopic { name: Some((*name).into()), ..Default::default() };
        let request = MetadataRequest {
            topics: Some(topics.iter().map(topic).collect()),
            allow_auto_topic_creation: true,
            ..Default::default()
        };
        self.call(&request, 12).await
    }
}

/// Where something is coordinated, when that is known: its topic may be made first.
pub async fn coordinator(client: &mut Client, request: &FindCoordinatorRequest) -> Coordinator {
    loop {
        let found = client.call(request, 4).await.coordinators.remove(0);
        if found.error_code != ErrorCode::CoordinatorNotAvailable.code() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub fn produce_request(
    topic: &str,
    topic_id: Uuid,
    index: i32,
    records: Option<Bytes>,
    acks: i16,
) -> ProduceRequest {
    let partition = PartitionProduceData { index, records };
    let topic = TopicProduceData { name: topic.into(), topic_id, partition_data: vec![partition] };
    ProduceRequest { acks, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() }
}

/// A sessionless request for one partition.
pub fn fetch_request(topic: &str, topic_id: Uuid, index: i32, offset: i64) -> FetchRequest {
    FetchRequest {
        replica_id: -1,
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: 50 << 20,
        session_epoch: -1,
        topics: vec![fetch_topic(topic, topic_id, &[(index, offset)])],
        ..Default::default()
    }
}

pub fn fetch_topic(topic: &str, topic_id: Uuid, partitions: &[(i32, i64)]) -> FetchTopic {
    let partition = |(index, offset): &(i32, i64)| FetchPartition {
        partition: *index,
        current_leader_epoch: -1,
        fetch_offset: *offset,
        last_fetched_epoch: -1,
        log_start_offset: -1,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    FetchTopic { topic: topic.into(), topic_id, partitions: partitions.iter().map(partition).collect() }
}

/// A batch of records with these values.
pub fn batch(values: &[&str]) -> Bytes {
    build(BatchBuilder::new(Compression::None), values)
}

pub fn idempotent(values: &[&str], id: i64, epoch: i16, sequence: i32) -> Bytes {
    let builder =
        BatchBuilder::new(Compression::None).producer(ProducerId(id), ProducerEpoch(epoch), sequence);
    build(builder, values)
}

pub fn build(mut builder: BatchBuilder, values: &[&str]) -> Bytes {
    for value in values {
        builder.append(now_ms(), Some(b"key"), Some(value.as_bytes()), &[]).unwrap();
    }
    builder.finish().unwrap()
}

pub fn now_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}

/// Copies a directory in which a node works: what goes away meanwhile is left out.
pub fn copy(from: &Path, to: &Path) {
    let gone = |error: &Error| error.kind() == ErrorKind::NotFound;
    fs::create_dir_all(to).unwrap();
    let entries = match fs::read_dir(from) {
        Err(error) if gone(&error) => return,
        entries => entries.unwrap(),
    };
    for entry in entries.map(Result::unwrap) {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        match entry.file_type().unwrap().is_dir() {
            true => copy(&path, &target),
            false => match fs::copy(path, target) {
                Err(error) if gone(&error) => {}
                copied => {
                    copied.unwrap();
                }
            },
        }
    }
}

/// The values of all records in fetched bytes.
pub fn values(records: Option<Bytes>) -> Vec<String> {
    let mut values = Vec::new();
    for batch in aqueduct_protocol::records::Batches::new(records.unwrap_or_default()) {
        let batch = batch.unwrap();
        batch.check_crc().unwrap();
        for record in batch.records().unwrap() {
            values.push(String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap());
        }
    }
    values
}
