//! Transactions in a Produce request: before their first records are written, their coordinator is asked or told of the
//! partitions.

use std::collections::HashMap;
use std::sync::Arc;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{PartitionIndex, ProducerEpoch, ProducerId, Uuid};
use aqueduct_protocol::messages::ProduceRequest;
use aqueduct_protocol::records::BatchHeader;
use aqueduct_storage::{Newcomer, Origin, Terms, VerificationGuard};

use super::{find, is_transactional};
use crate::api::Context;
use crate::coordinator::{Place, Speaker, Support};
use crate::metadata::MetadataImage;

/// On what terms the batches of one request are appended.
#[derive(Debug, Default)]
pub(super) struct Guards {
    /// Guards of partitions whose transactions were not open here.
    verified: HashMap<(Uuid, i32), Result<VerificationGuard, ErrorCode>>,
    is_off: bool,
}

/// A batch that begins a transaction in its partition.
struct Beginning {
    topic_id: Uuid,
    place: Place,
    newcomer: Newcomer,
    guard: VerificationGuard,
}

impl Guards {
    /// Asks for all batches of transactions in the request that begin one in their partition. `allowed` says for each
    /// topic whether it may be written to.
    ///
    /// # Errors
    /// `INVALID_PRODUCER_ID_MAPPING`: records of several producers in one transaction.
    pub async fn obtain(
        context: &Context,
        image: &MetadataImage,
        request: &ProduceRequest,
        allowed: &[bool],
    ) -> Result<Self, ErrorCode> {
        let coordinator = &context.node.transactions;
        let Some(id) = request.transactional_id.as_deref() else { return Ok(Self::default()) };
        if !coordinator.verifies() {
            return Ok(Self { is_off: true, ..Self::default() });
        }
        let support = Support::of_produce(context.version);
        let beginnings = beginnings(context, image, request, allowed, support).await?;
        let Some(first) = beginnings.first() else { return Ok(Self::default()) };
        let who = Speaker { id: id.into(), producer: first.newcomer.id, epoch: first.newcomer.epoch };
        let places: Vec<Place> = beginnings.iter().map(|beginning| beginning.place.clone()).collect();
        let codes = coordinator.admit(&who, &places, support).await;
        let verified = beginnings.into_iter().zip(codes).map(|(beginning, code)| {
            let verified = match code {
                ErrorCode::None => Ok(beginning.guard),
                code => Err(as_told(code, support)),
            };
            ((beginning.topic_id, beginning.place.1), verified)
        });
        Ok(Self { verified: verified.collect(), is_off: false })
    }

    /// On what terms a batch for that partition is appended, or why it is not.
    pub fn terms(&self, topic: Uuid, index: i32) -> Result<Terms, ErrorCode> {
        if self.is_off {
            return Ok(Origin::Client.into());
        }
        match self.verified.get(&(topic, index)) {
            Some(Ok(guard)) => Ok(Terms::guarded(Origin::Client, Some(*guard))),
            Some(Err(code)) => Err(*code),
            None => Ok(Terms::guarded(Origin::Client, None)),
        }
    }
}

async fn beginnings(
    context: &Context,
    image: &MetadataImage,
    request: &ProduceRequest,
    allowed: &[bool],
    support: Support,
) -> Result<Vec<Beginning>, ErrorCode> {
    let mut beginnings = Vec::new();
    let mut producer: Option<(ProducerId, ProducerEpoch)> = None;
    for (data, allowed) in request.topic_data.iter().zip(allowed) {
        let Some(topic) = find(image, context, data).filter(|_| *allowed) else { continue };
        let name: Arc<str> = (&*topic.name).into();
        for partition in &data.partition_data {
            let Some(header) = header(partition.records.as_deref().unwrap_or_default()) else { continue };
            let this = (header.producer_id, header.producer_epoch);
            if *producer.get_or_insert(this) != this {
                return Err(ErrorCode::InvalidProducerIdMapping);
            }
            let Ok(open) = context.node.partitions.get(topic, PartitionIndex(partition.index)).await else {
                continue;
            };
            let newcomer = Newcomer {
                id: header.producer_id,
                epoch: header.producer_epoch,
                sequence: header.base_sequence,
                raises_epoch: support == Support::Add,
            };
            let now_ms = context.node.clock.now_ms();
            if let Some(guard) = open.on_log(|log| log.begin_verification(newcomer, now_ms)) {
                let place = (name.clone(), partition.index);
                beginnings.push(Beginning { topic_id: topic.id, place, newcomer, guard });
            }
        }
    }
    Ok(beginnings)
}

/// The header of a batch that is part of a transaction.
fn header(records: &[u8]) -> Option<BatchHeader> {
    let header = is_transactional(records).then(|| BatchHeader::parse(records))?.ok()?;
    header.has_producer().then_some(header)
}

/// What a producer hears of a coordinator that has no answer now: an error that makes it come again without looking for
/// another leader. A producer that adds its partitions by writing to them expects to come too early.
fn as_told(code: ErrorCode, support: Support) -> ErrorCode {
    match code {
        ErrorCode::NetworkException
        | ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::CoordinatorNotAvailable
        | ErrorCode::NotCoordinator => ErrorCode::NotEnoughReplicas,
        ErrorCode::ConcurrentTransactions if support != Support::Add => ErrorCode::NotEnoughReplicas,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_told_as_such() {
        let told = |code| as_told(code, Support::Abortable);
        assert_eq!(told(ErrorCode::NotCoordinator), ErrorCode::NotEnoughReplicas);
        assert_eq!(told(ErrorCode::ConcurrentTransactions), ErrorCode::NotEnoughReplicas);
        assert_eq!(told(ErrorCode::InvalidTxnState), ErrorCode::InvalidTxnState);
        let busy = as_told(ErrorCode::ConcurrentTransactions, Support::Add);
        assert_eq!(busy, ErrorCode::ConcurrentTransactions);
    }
}
