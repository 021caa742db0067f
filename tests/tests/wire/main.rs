//! The wire, byte by byte: the same requests go to our broker and to Apache Kafka's, and the answers must be the same but
//! for what cannot be (ids, times, addresses).

mod admin;
mod changes;
mod connection;
mod fetch;
mod groups;
mod produce;
mod sessions;
mod socket;

use anyhow::Result;
use aqueduct_protocol::ids::{ProducerEpoch, ProducerId};
use aqueduct_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use aqueduct_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use aqueduct_protocol::messages::produce_response::PartitionProduceResponse;
use aqueduct_protocol::messages::{CreateTopicsRequest, ProduceRequest};
use aqueduct_protocol::records::{BatchBuilder, Compression};
use aqueduct_tests::server::{Kind, Server, shared};
use bytes::Bytes;

use socket::Socket;

/// What a scenario saw, one line a step.
type Transcript = Vec<String>;

/// Runs a scenario on both brokers and gives what it saw, which must be equal.
fn same(scenario: impl Fn(&Server) -> Result<Transcript>) -> Result<Transcript> {
    let [ours, theirs] = Kind::BOTH.map(|kind| shared(kind).and_then(&scenario));
    let (ours, theirs) = (ours?, theirs?);
    let differ = ours.iter().zip(&theirs).enumerate().filter(|(_, (our, their))| our != their);
    let differ: Vec<String> =
        differ.map(|(at, (our, their))| format!("step {at}\n  ours   {our}\n  theirs {their}")).collect();
    assert!(differ.is_empty(), "{} steps differ:\n{}", differ.len(), differ.join("\n"));
    assert_eq!(ours.len(), theirs.len());
    Ok(ours)
}

/// Creates a topic and waits until its partitions answer.
fn create(socket: &mut Socket, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Result<()> {
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
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 60_000, ..Default::default() };
    let response = socket.call(&request, 5)?;
    anyhow::ensure!(response.topics[0].error_code == 0, "{response:?}");
    for partition in 0..partitions {
        // Metadata spreads after the answer.
        while fetch::at(socket, name, partition, 0)?.error_code != 0 {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
    Ok(())
}

/// A batch of records with these values, from a producer if one is named as (id, epoch, first sequence).
fn batch(values: &[&[u8]], producer: Option<(i64, i16, i32)>) -> Bytes {
    batch_at(now_ms(), values, producer)
}

fn batch_at(timestamp: i64, values: &[&[u8]], producer: Option<(i64, i16, i32)>) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    if let Some((id, epoch, sequence)) = producer {
        builder.set_producer(ProducerId(id), ProducerEpoch(epoch), sequence);
    }
    for value in values {
        builder.append(timestamp, None, Some(value), &[]).expect("a small batch");
    }
    builder.finish().expect("a small batch")
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}

fn produce_request(topic: &str, acks: i16, records: Bytes) -> ProduceRequest {
    let partition = PartitionProduceData { index: 0, records: Some(records) };
    let topic =
        TopicProduceData { name: topic.into(), partition_data: vec![partition], ..Default::default() };
    ProduceRequest { acks, timeout_ms: 5000, topic_data: vec![topic], ..Default::default() }
}

/// Sends records to partition 0 and gives the answer for it.
fn send(socket: &mut Socket, version: i16, topic: &str, records: Bytes) -> Result<PartitionProduceResponse> {
    let mut response = socket.call(&produce_request(topic, -1, records), version)?;
    Ok(response.responses.remove(0).partition_responses.remove(0))
}
