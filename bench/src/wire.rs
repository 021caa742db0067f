//! A client of few words: one connection, one request at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aqueduct_protocol::ids::Uuid;
use aqueduct_protocol::messages::create_topics_request::CreatableTopic;
use aqueduct_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use aqueduct_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use aqueduct_protocol::messages::metadata_request::MetadataRequestTopic;
use aqueduct_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use aqueduct_protocol::messages::{
    CreateTopicsRequest, FetchRequest, FindCoordinatorRequest, ListOffsetsRequest, MetadataRequest,
    ProduceRequest,
};
use aqueduct_protocol::records::{BatchBuilder, Compression};
use aqueduct_protocol::{Request, frame};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Versions before topics go by id, which both peers serve.
pub const PRODUCE: i16 = 9;
pub const FETCH: i16 = 11;
const LIST_OFFSETS: i16 = 5;
const METADATA: i16 = 8;
const CREATE_TOPICS: i16 = 4;
const FIND_COORDINATOR: i16 = 1;
const LIMIT: Duration = Duration::from_secs(300);

/// One connection.
pub struct Connection {
    stream: TcpStream,
    next: i32,
}

impl Connection {
    pub async fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, next: 1 })
    }

    pub async fn send<R: Request>(&mut self, request: &R, version: i16) -> Result<i32> {
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        let mut out = BytesMut::new();
        frame::encode_request(&mut out, request, version, id, Some(&"bench".into()))?;
        self.stream.write_all(&out).await?;
        Ok(id)
    }

    pub async fn receive<R: Request>(&mut self, version: i16, id: i32) -> Result<R::Response> {
        let size = timeout(LIMIT, self.stream.read_i32()).await.context("no answer")??;
        let mut bytes = vec![0; usize::try_from(size)?];
        self.stream.read_exact(&mut bytes).await?;
        let (found, response) = frame::decode_response::<R>(Bytes::from(bytes), version)?;
        ensure!(found == id, "answer {found} to request {id}");
        Ok(response)
    }

    pub async fn call<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response> {
        let id = self.send(request, version).await?;
        self.receive::<R>(version, id).await
    }

    /// Creates topics of so many partitions each, without other replicas.
    pub async fn create(&mut self, names: &[String], partitions: i32) -> Result<()> {
        self.create_all(names.iter().map(String::as_str), partitions, 1).await
    }

    /// Creates one topic.
    pub async fn create_replicated(&mut self, name: &str, partitions: i32, replicas: i16) -> Result<()> {
        self.create_all([name].into_iter(), partitions, replicas).await
    }

    async fn create_all(
        &mut self,
        names: impl Iterator<Item = &str>,
        partitions: i32,
        replicas: i16,
    ) -> Result<()> {
        let topic = |name: &str| CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: replicas,
            ..Default::default()
        };
        let topics = names.map(topic).collect();
        let request = CreateTopicsRequest { topics, timeout_ms: 60_000, ..Default::default() };
        let response = self.call(&request, CREATE_TOPICS).await?;
        for topic in response.topics {
            ensure!(topic.error_code == 0, "{}: code {}", topic.name, topic.error_code);
        }
        Ok(())
    }

    /// Waits until groups have a coordinator: the first request makes their topic, which no worker is to wait for.
    pub async fn find_coordinator(&mut self, group: &str) -> Result<()> {
        let request = FindCoordinatorRequest { key: group.into(), ..Default::default() };
        while self.call(&request, FIND_COORDINATOR).await?.error_code != 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// How many partitions have a leader.
    pub async fn led(&mut self) -> Result<usize> {
        let request = MetadataRequest { topics: None, ..Default::default() };
        let topics = self.call(&request, METADATA).await?.topics;
        Ok(topics
            .iter()
            .flat_map(|topic| &topic.partitions)
            .filter(|partition| partition.leader_id >= 0)
            .count())
    }

    /// How many brokers take part.
    pub async fn brokers(&mut self) -> Result<usize> {
        let request = MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
        Ok(self.call(&request, METADATA).await?.brokers.len())
    }

    /// Who leads each partition of a topic.
    pub async fn leaders(&mut self, topic: &str) -> Result<BTreeMap<i32, i32>> {
        let topics = vec![MetadataRequestTopic { name: Some(topic.into()), ..Default::default() }];
        let request = MetadataRequest { topics: Some(topics), ..Default::default() };
        let topics = self.call(&request, METADATA).await?.topics;
        let partitions = topics.iter().flat_map(|topic| &topic.partitions);
        Ok(partitions.map(|partition| (partition.partition_index, partition.leader_id)).collect())
    }

    /// The port of the broker that leads the first partition of a topic.
    pub async fn leader_port(&mut self, topic: &str) -> Result<u16> {
        let topics = vec![MetadataRequestTopic { name: Some(topic.into()), ..Default::default() }];
        let request = MetadataRequest { topics: Some(topics), ..Default::default() };
        let answer = self.call(&request, METADATA).await?;
        let partition = answer.topics.first().and_then(|topic| topic.partitions.first());
        let leader = partition.context("no such topic")?.leader_id;
        let broker = answer.brokers.iter().find(|broker| broker.node_id == leader);
        Ok(u16::try_from(broker.with_context(|| format!("{topic} has no leader"))?.port)?)
    }

    /// One record into each of the first partitions of a topic; partitions that are not ready are tried again.
    pub async fn produce(&mut self, topic: &str, partitions: i32) -> Result<()> {
        let mut left: Vec<i32> = (0..partitions).collect();
        let started = std::time::Instant::now();
        while !left.is_empty() {
            let data = |index: &i32| PartitionProduceData { index: *index, records: Some(batch(100)) };
            let topic_data = vec![TopicProduceData {
                name: topic.into(),
                partition_data: left.iter().map(data).collect(),
                ..Default::default()
            }];
            let request = ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data, ..Default::default() };
            let response = self.call(&request, PRODUCE).await?;
            left = response
                .responses
                .iter()
                .flat_map(|topic| &topic.partition_responses)
                .filter(|partition| partition.error_code != 0)
                .map(|partition| partition.index)
                .collect();
            ensure!(started.elapsed() < LIMIT, "{topic}: {} partitions are not ready", left.len());
        }
        Ok(())
    }

    /// Values into one partition, in one batch.
    pub async fn append(&mut self, topic: &str, index: i32, values: &[String]) -> Result<()> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let mut builder = BatchBuilder::new(Compression::None);
        for value in values {
            builder.append(now.as_millis() as i64, None, Some(value.as_bytes()), &[])?;
        }
        let records = Some(builder.finish()?);
        let topic_data = vec![TopicProduceData {
            name: topic.into(),
            partition_data: vec![PartitionProduceData { index, records }],
            ..Default::default()
        }];
        let request = ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data, ..Default::default() };
        let response = self.call(&request, PRODUCE).await?;
        let codes = response.responses.iter().flat_map(|topic| &topic.partition_responses);
        for partition in codes {
            ensure!(partition.error_code == 0, "{topic}-{index}: code {}", partition.error_code);
        }
        Ok(())
    }

    /// The ends of the first partitions of a topic; an error where one is not served.
    pub async fn ends(&mut self, topic: &str, partitions: i32) -> Result<Vec<i64>> {
        let partition = |partition_index| ListOffsetsPartition {
            partition_index,
            current_leader_epoch: -1,
            timestamp: -1,
        };
        let topics = vec![ListOffsetsTopic {
            name: topic.into(),
            partitions: (0..partitions).map(partition).collect(),
        }];
        let request = ListOffsetsRequest { replica_id: -1, topics, ..Default::default() };
        let response = self.call(&request, LIST_OFFSETS).await?;
        let partitions = response.topics.into_iter().flat_map(|topic| topic.partitions);
        partitions
            .map(|partition| {
                let code = partition.error_code;
                ensure!(code == 0, "{topic}-{}: code {code}", partition.partition_index);
                Ok(partition.offset)
            })
            .collect()
    }
}

/// A fetch without a session, from these offsets on.
pub fn fetch(topic: &str, offsets: &[i64], wait_ms: i32) -> FetchRequest {
    let partition = |(index, offset): (usize, &i64)| FetchPartition {
        partition: index as i32,
        current_leader_epoch: -1,
        fetch_offset: *offset,
        last_fetched_epoch: -1,
        log_start_offset: -1,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    let partitions = offsets.iter().enumerate().map(partition).collect();
    FetchRequest {
        replica_id: -1,
        max_wait_ms: wait_ms,
        min_bytes: 1,
        max_bytes: 50 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic { topic: topic.into(), topic_id: Uuid::ZERO, partitions }],
        ..Default::default()
    }
}

/// A batch of one record of so many bytes.
pub fn batch(size: usize) -> Bytes {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let mut builder = BatchBuilder::new(Compression::None);
    let value = vec![b'x'; size];
    builder.append(now.as_millis() as i64, None, Some(&value), &[]).expect("one small record fits");
    builder.finish().expect("it has one record")
}
