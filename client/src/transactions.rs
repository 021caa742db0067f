//! Calls to the coordinator of a transactional id, each repeated until it is answered for good.

use std::time::Duration;

use aqueduct_protocol::Request;
use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{ProducerEpoch, ProducerId};
use aqueduct_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use aqueduct_protocol::messages::{AddPartitionsToTxnRequest, EndTxnRequest, InitProducerIdRequest};
use bytestring::ByteString;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::client::Client;
use crate::coordinator;
use crate::error::{Error, Result};
use crate::metadata::Broker;
use crate::net::Lane;
use crate::producer::{Ending, Identity};
use crate::types::TopicPartition;

/// From the next version on only brokers may add partitions.
const ADD_PARTITIONS: i16 = 3;
/// From the next version on EndTxn gives the producer a new epoch.
const END_SAME_EPOCH: i16 = 4;
const END_NEW_EPOCH: i16 = 5;
/// The last version without two-phase commit.
const INIT: i16 = 5;
/// Brokers with this `transaction.version` take partitions with their first batch (KIP-890).
const IMPLICIT: i16 = 2;
/// The end of the transaction before is on its way to the partitions, which is a matter of milliseconds.
const SOON: Duration = Duration::from_millis(20);

/// The coordinator of one transactional id.
#[derive(Debug)]
pub(crate) struct Coordinator {
    client: Client,
    id: ByteString,
    /// After this long without a sign of the producer the coordinator aborts its transaction.
    transaction_timeout: Duration,
    found: Mutex<Option<Broker>>,
    /// Calls about one transaction go out one after the other.
    turn: tokio::sync::Mutex<()>,
}

impl Coordinator {
    pub(crate) fn new(client: Client, id: ByteString, transaction_timeout: Duration) -> Self {
        Self { client, id, transaction_timeout, found: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    /// Waits for the calls before to be done.
    pub(crate) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Takes over the transactional id: whoever had it is fenced, and its open transaction is aborted. With `known` the
    /// producer only asks for its own next epoch. Says whether partitions join with their first batch.
    pub(crate) async fn init(&self, known: Option<Identity>, limit: Duration) -> Result<(Identity, bool)> {
        let request = |_| InitProducerIdRequest {
            transactional_id: Some(self.id.clone()),
            transaction_timeout_ms: i32::try_from(self.transaction_timeout.as_millis()).unwrap_or(i32::MAX),
            producer_id: known.map_or(-1, |known| known.id.0),
            producer_epoch: known.map_or(-1, |known| known.epoch.0),
            ..Default::default()
        };
        let (answer, implicit) = self.call(limit, INIT, request, |answer| answer.error_code).await?;
        let identity =
            Identity { id: ProducerId(answer.producer_id), epoch: ProducerEpoch(answer.producer_epoch) };
        Ok((identity, implicit))
    }

    /// Makes partitions part of the transaction.
    pub(crate) async fn add_partitions(
        &self,
        identity: Identity,
        partitions: &[TopicPartition],
        limit: Duration,
    ) -> Result<()> {
        let mut topics: Vec<AddPartitionsToTxnTopic> = Vec::new();
        for partition in partitions {
            match topics.iter_mut().find(|topic| topic.name == partition.topic) {
                Some(topic) => topic.partitions.push(partition.partition.0),
                None => topics.push(AddPartitionsToTxnTopic {
                    name: partition.topic.clone(),
                    partitions: vec![partition.partition.0],
                }),
            }
        }
        let request = |_| AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: self.id.clone(),
            v3_and_below_producer_id: identity.id.0,
            v3_and_below_producer_epoch: identity.epoch.0,
            v3_and_below_topics: topics.clone(),
            ..Default::default()
        };
        // All partitions are added or none; those without a fault of their own are "not attempted".
        let worst = |answer: &<AddPartitionsToTxnRequest as Request>::Response| {
            let topics = answer.results_by_topic_v3_and_below.iter();
            let codes = topics.flat_map(|t| t.results_by_partition.iter().map(|p| p.partition_error_code));
            let of_its_own = |code: &i16| {
                *code != ErrorCode::None.code() && *code != ErrorCode::OperationNotAttempted.code()
            };
            codes.into_iter().find(of_its_own).unwrap_or(0)
        };
        self.call(limit, ADD_PARTITIONS, request, worst).await.map(drop)
    }

    /// Commits or aborts; gives the identity of the next transaction where it is another one.
    pub(crate) async fn end(
        &self,
        ending: Ending,
        committed: bool,
        limit: Duration,
    ) -> Result<Option<Identity>> {
        let request = |_| EndTxnRequest {
            transactional_id: self.id.clone(),
            producer_id: ending.identity.id.0,
            producer_epoch: ending.identity.epoch.0,
            committed,
        };
        let cap = if ending.implicit { END_NEW_EPOCH } else { END_SAME_EPOCH };
        let (answer, _) = self.call(limit, cap, request, |answer| answer.error_code).await?;
        if ending.implicit && answer.producer_id >= 0 {
            let (id, epoch) = (ProducerId(answer.producer_id), ProducerEpoch(answer.producer_epoch));
            return Ok(Some(Identity { id, epoch }));
        }
        if ending.raise_epoch && !committed {
            return self.init(Some(ending.identity), limit).await.map(|(identity, _)| Some(identity));
        }
        Ok(None)
    }

    async fn call<R: Request>(
        &self,
        limit: Duration,
        cap: i16,
        make: impl Fn(i16) -> R,
        code: impl Fn(&R::Response) -> i16,
    ) -> Result<(R::Response, bool)> {
        let mut retry = self.client.retry(format!("{} of transactional id {}", R::NAME, self.id), limit);
        let deadline = Instant::now() + limit.min(Duration::from_secs(100 * 365 * 24 * 3600));
        loop {
            let error = match self.attempt(cap, &make, &code).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            match error.code() {
                Some(ErrorCode::ConcurrentTransactions) if Instant::now() < deadline => {
                    tokio::time::sleep(SOON).await;
                    continue;
                }
                Some(ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable) => {
                    *self.found.lock() = None;
                }
                _ if error.asks_for_metadata() => {
                    *self.found.lock() = None;
                    // If it fails, the next attempt does as well.
                    let _ = self.client.refresh(Some(Vec::new())).await;
                }
                _ => {}
            }
            retry.after(error).await?;
        }
    }

    async fn attempt<R: Request>(
        &self,
        cap: i16,
        make: impl Fn(i16) -> R,
        code: impl Fn(&R::Response) -> i16,
    ) -> Result<(R::Response, bool)> {
        let known = self.found.lock().clone();
        let broker = match known {
            Some(broker) => broker,
            None => {
                let found = coordinator::find_transactional(&self.client, &self.id).await?;
                self.found.lock().insert(found).clone()
            }
        };
        let connection = self.client.connect(Lane::SHARED, &broker).await?;
        let answer = connection.call(cap, make, self.client.config().request_timeout).await?;
        let what = || format!("transactional id {}", self.id);
        Error::check(&broker.address(), R::NAME, what, code(&answer), None)?;
        Ok((answer, connection.transaction_version() >= IMPLICIT))
    }
}
