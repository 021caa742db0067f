//! DescribeProducers (KIP-664), version 0: who writes to partitions, and which transactions are open there.

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::PartitionIndex;
use aqueduct_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use aqueduct_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse};
use aqueduct_storage::ActiveProducer;

use super::Context;
use crate::metadata::check_topic_name;
use crate::security::Operation;

pub(crate) async fn handle(context: Context, request: DescribeProducersRequest) -> DescribeProducersResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let allowed = context.allows_topic(Operation::Read, &topic.name);
        let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
        for index in topic.partition_indexes {
            let found = match allowed {
                true => find(&context, &topic.name, index).await,
                false => Err(ErrorCode::TopicAuthorizationFailed),
            };
            partitions.push(response(index, found));
        }
        topics.push(TopicResponse { name: topic.name, partitions });
    }
    DescribeProducersResponse { topics, ..Default::default() }
}

async fn find(context: &Context, topic: &str, index: i32) -> Result<Vec<ActiveProducer>, ErrorCode> {
    check_topic_name(topic).map_err(|_| ErrorCode::InvalidTopicException)?;
    let partition = context.node.partitions.by_name(topic, PartitionIndex(index)).await?;
    Ok(partition.log().active_producers())
}

fn response(partition_index: i32, found: Result<Vec<ActiveProducer>, ErrorCode>) -> PartitionResponse {
    let (code, producers) = match found {
        Ok(producers) => (ErrorCode::None, producers),
        Err(code) => (code, Vec::new()),
    };
    PartitionResponse {
        partition_index,
        error_code: code.code(),
        error_message: (code != ErrorCode::None).then(|| code.message().into()),
        active_producers: producers.iter().map(state).collect(),
    }
}

fn state(producer: &ActiveProducer) -> ProducerState {
    ProducerState {
        producer_id: producer.id.0,
        producer_epoch: producer.epoch.0.into(),
        last_sequence: producer.last_sequence,
        last_timestamp: producer.last_timestamp,
        coordinator_epoch: producer.coordinator_epoch,
        current_txn_start_offset: producer.transaction_start.map_or(-1, |start| start.0),
    }
}
