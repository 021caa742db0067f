//! Transactions in a Produce request: before their first records are written, their coordinator is asked or told of the
//! partitions.

use std::collections::HashMap;
use std::sync::Arc;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{PartitionIndex, ProducerEpoch, ProducerId, Uuid};
use aqueduct_protocol::messages::ProduceRequest;
use aqueduct_protocol::records::BatchHeader;
use aqueduct_storage::{Newcomer, Origin, Terms};

use super::{find, is_transactional};
use crate::api::Context;
use crate::coordinator::{Admission, Entrance, Support};
use crate::metadata::MetadataImage;

/// On what terms the batches of one request are appended.
#[derive(Debug, Default)]
pub(super) struct Guards {
    /// What the coordinators say of the partitions that transactions write to.
    admitted: HashMap<(Uuid, i32), Admission>,
    is_off: bool,
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
        let (entrances, barred) = entrances(context, image, request, allowed, support).await?;
        let keys = entrances.iter().map(|entrance| (entrance.partition.topic_id, entrance.place.1));
        let keys: Vec<(Uuid, i32)> = keys.collect();
        let admitted = coordinator.admit(&id.into(), &entrances, support, &context.node.clock).await;
        let told = admitted.into_iter().map(|admission| admission.map_err(|code| as_told(code, support)));
        let admitted =
            barred.into_iter().map(|(key, code)| (key, Err(code))).chain(keys.into_iter().zip(told));
        Ok(Self { admitted: admitted.collect(), is_off: false })
    }

    /// On what terms a batch for that partition is appended, or why it is not.
    pub fn terms(&self, topic: Uuid, index: i32) -> Result<Terms, ErrorCode> {
        if self.is_off {
            return Ok(Origin::Client.into());
        }
        match self.admitted.get(&(topic, index)) {
            Some(Ok(guard)) => Ok(Terms::guarded(Origin::Client, *guard)),
            Some(Err(code)) => Err(*code),
            None => Ok(Terms::guarded(Origin::Client, None)),
        }
    }
}

/// A partition that cannot be written to now, and why.
///
/// It may be open or led from here a moment later, and nobody was asked about the transaction then: the producer would hear
/// that its transaction is not known, which is the end of it, in the place of an error that it gets over.
type Barred = ((Uuid, i32), ErrorCode);

/// The partitions that batches of a transaction are for.
async fn entrances(
    context: &Context,
    image: &MetadataImage,
    request: &ProduceRequest,
    allowed: &[bool],
    support: Support,
) -> Result<(Vec<Entrance>, Vec<Barred>), ErrorCode> {
    let (mut entrances, mut barred) = (Vec::new(), Vec::new());
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
            let opened = match context.node.partitions.get(topic, PartitionIndex(partition.index)).await {
                Ok(opened) => opened,
                Err(code) => {
                    barred.push(((topic.id, partition.index), code));
                    continue;
                }
            };
            let newcomer = Newcomer {
                id: header.producer_id,
                epoch: header.producer_epoch,
                sequence: header.base_sequence,
                raises_epoch: support == Support::Add,
            };
            let place = (name.clone(), partition.index);
            entrances.push(Entrance { partition: opened, place, newcomer });
        }
    }
    Ok((entrances, barred))
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
    fn who_was_not_asked_about_is_refused_for_what_stood_in_the_way() {
        let (topic, code) = (Uuid([7; 16]), ErrorCode::NotLeaderOrFollower);
        let guards = Guards { admitted: HashMap::from([((topic, 1), Err(code))]), is_off: false };
        assert_eq!(guards.terms(topic, 1).unwrap_err(), code);
        assert_eq!(guards.terms(topic, 2).unwrap(), Terms::guarded(Origin::Client, None));
    }

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
