//! The task behind a producer: takes batches that are due, sends them to their leaders, and deals with the answers.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{BrokerId, ProducerId};
use aqueduct_protocol::messages::InitProducerIdRequest;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::accumulator::Accumulator;
use super::batch::Batch;
use super::flight::{self, Landed, Mark};
use super::memory::Memory;
use super::queue::Numbering;
use super::transaction::Transaction;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::metadata::{Broker, Metadata};
use crate::net::{Connection, Lane};
use crate::transactions::Coordinator;
use crate::types::TopicPartition;

/// The connection's queue holds more than this.
const MAX_IN_FLIGHT: usize = 100;

/// What producer handles and the sender share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) accumulator: Mutex<Accumulator>,
    pub(super) memory: Arc<Memory>,
    /// Of the transactional id, if there is one.
    pub(super) coordinator: Option<Coordinator>,
    /// Something may be due.
    pub(super) wake: Notify,
    pub(super) closing: AtomicBool,
}

/// What the sender waits for besides answers.
enum Errand {
    Connected(BrokerId, Result<Connection>),
    Refreshed(Result<Arc<Metadata>>),
    Identified(Result<ProducerId>),
    /// Partitions are part of the transaction.
    Joined(Result<Vec<TopicPartition>>),
}

/// The task's own state.
pub(super) struct Sender {
    shared: Arc<Shared>,
    client: Client,
    lane: Lane,
    idempotent: bool,
    producer: Option<ProducerId>,
    identifying: bool,
    joining: bool,
    refreshing: bool,
    /// No refresh for want of a leader before this.
    refresh_after: Instant,
    /// A refresh in any case at this time, so that the topics in use stay known.
    refresh_due: Instant,
    failures: u32,
    connecting: HashSet<BrokerId>,
    /// Brokers that the last attempt to connect to failed.
    unreachable: HashSet<BrokerId>,
    in_flight: HashMap<BrokerId, usize>,
    flights: FuturesUnordered<BoxFuture<'static, Landed>>,
    errands: FuturesUnordered<BoxFuture<'static, Errand>>,
    generations: watch::Receiver<u64>,
}

impl Sender {
    pub(super) fn new(shared: Arc<Shared>, client: Client) -> Self {
        let now = Instant::now();
        Self {
            lane: client.new_lane(),
            idempotent: client.config().idempotent(),
            producer: None,
            identifying: false,
            joining: false,
            refreshing: false,
            refresh_after: now,
            refresh_due: now + client.config().metadata_max_age,
            failures: 0,
            connecting: HashSet::new(),
            unreachable: HashSet::new(),
            in_flight: HashMap::new(),
            flights: FuturesUnordered::new(),
            errands: FuturesUnordered::new(),
            generations: client.generations(),
            shared,
            client,
        }
    }

    /// Runs until the producer is closed and nothing is left to send.
    pub(super) async fn run(mut self) {
        loop {
            let next = self.pump();
            if self.shared.closing.load(Ordering::Acquire) && self.shared.accumulator.lock().is_idle() {
                return;
            }
            tokio::select! {
                () = self.shared.wake.notified() => {}
                Some(landed) = self.flights.next() => self.land(landed),
                Some(errand) = self.errands.next() => self.done(errand),
                Ok(()) = self.generations.changed() => {
                    let image = self.client.cached();
                    self.shared.accumulator.lock().learn_all(&image);
                }
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }

    /// Sends all that can be sent now; gives the time of the next look.
    fn pump(&mut self) -> Instant {
        let now = Instant::now();
        let image = self.client.cached();
        let (expired, doomed, mut due) = {
            let mut accumulator = self.shared.accumulator.lock();
            (accumulator.expire(now), accumulator.doomed(), accumulator.due(now, &image))
        };
        for (batch, error) in expired.into_iter().chain(doomed) {
            batch.fail(error);
        }
        // Others may lead what a broker led that is gone, long before it is tried again.
        let waits = due.leaderless || due.brokers.iter().any(|broker| self.unreachable.contains(broker));
        if now >= self.refresh_due || waits && now >= self.refresh_after {
            self.refresh(now);
        } else if waits {
            due.next = due.next.into_iter().chain([self.refresh_after]).min();
        }
        if due.joins && !self.joining {
            self.joining = true;
            self.errands.push(join(self.shared.clone(), self.client.config().max_block).boxed());
        }
        if !due.brokers.is_empty() && self.identified() {
            for broker in &due.brokers {
                self.send_to(now, &image, *broker);
            }
        }
        due.next.map_or(self.refresh_due, |next| next.min(self.refresh_due))
    }

    /// Whether batches can be numbered; otherwise sees to it.
    fn identified(&mut self) -> bool {
        if !self.idempotent || self.shared.coordinator.is_some() {
            return true;
        }
        if self.producer.is_some_and(|id| self.shared.accumulator.lock().used_up(id)) {
            self.producer = None;
        }
        if self.producer.is_none() && !self.identifying {
            self.identifying = true;
            self.errands.push(identify(self.client.clone()).map(Errand::Identified).boxed());
        }
        self.producer.is_some()
    }

    fn send_to(&mut self, now: Instant, image: &Metadata, broker: BrokerId) {
        let Some(address) = image.brokers.get(&broker) else { return };
        let Some(connection) = self.client.live(self.lane, broker) else {
            self.connect(address.clone());
            return;
        };
        let config = self.client.config();
        let most = config.max_in_flight_requests_per_connection.min(MAX_IN_FLIGHT);
        let limit = config.max_request_size;
        while self.in_flight.get(&broker).is_none_or(|count| *count < most) {
            let (taken, mark) = {
                let mut accumulator = self.shared.accumulator.lock();
                let (numbering, mark) = match &accumulator.transaction {
                    Some(transaction) => {
                        let mark = Mark {
                            transactional_id: transaction.transactional_id().clone(),
                            implicit: transaction.implicit(),
                        };
                        (transaction.identity().map(Numbering::Transactional), Some(mark))
                    }
                    None => (self.producer.map(Numbering::Own), None),
                };
                (accumulator.take(now, image, broker, limit, numbering), mark)
            };
            if taken.is_empty() {
                return;
            }
            let flight = flight::launch(&connection, broker, taken, mark, self.client.config());
            *self.in_flight.entry(broker).or_default() += 1;
            self.flights.push(flight);
        }
    }

    fn connect(&mut self, broker: Broker) {
        if !self.connecting.insert(broker.id) {
            return;
        }
        let (client, lane) = (self.client.clone(), self.lane);
        let errand = async move {
            let connected = client.connect(lane, &broker).await;
            Errand::Connected(broker.id, connected)
        };
        self.errands.push(errand.boxed());
    }

    fn refresh(&mut self, now: Instant) {
        if self.refreshing {
            return;
        }
        self.refreshing = true;
        self.refresh_due = now + self.client.config().metadata_max_age;
        let client = self.client.clone();
        let topics = self.shared.accumulator.lock().topics();
        self.errands.push(async move { Errand::Refreshed(client.refresh(Some(topics)).await) }.boxed());
    }

    fn done(&mut self, errand: Errand) {
        let now = Instant::now();
        let failed = match errand {
            Errand::Connected(broker, result) => {
                self.connecting.remove(&broker);
                match result {
                    Ok(_) => self.unreachable.remove(&broker),
                    Err(_) => self.unreachable.insert(broker),
                };
                // The broker may have moved, or others may lead by now.
                result.err().inspect(|_| self.refresh(now))
            }
            Errand::Refreshed(result) => {
                self.refreshing = false;
                self.failures = if result.is_ok() { 0 } else { self.failures.saturating_add(1) };
                self.refresh_after = now + self.client.config().retry_backoff.jittered(self.failures.max(1));
                result.err()
            }
            Errand::Identified(result) => {
                self.identifying = false;
                result.map(|id| self.producer = Some(id)).err()
            }
            Errand::Joined(result) => {
                self.joining = false;
                let mut accumulator = self.shared.accumulator.lock();
                let transaction = accumulator.transaction.as_mut();
                match (result, transaction) {
                    (Ok(partitions), Some(transaction)) => {
                        transaction.joined(partitions);
                        None
                    }
                    (Err(error), Some(transaction)) => {
                        transaction.refused(&error);
                        Some(error)
                    }
                    (_, None) => None,
                }
            }
        };
        if let Some(error) = failed {
            tracing::debug!(%error, "producer will try again");
        }
    }

    fn land(&mut self, landed: Landed) {
        let now = Instant::now();
        if let Some(count) = self.in_flight.get_mut(&landed.broker) {
            *count -= 1;
        }
        let mut settled: Vec<(Batch, Result<_>)> = Vec::with_capacity(landed.batches.len());
        let mut stale = false;
        {
            let mut accumulator = self.shared.accumulator.lock();
            for (taken, result) in landed.batches {
                let (queue, batch) = (accumulator.queue(taken.queue), taken.batch);
                match result {
                    Ok(written) => {
                        queue.succeeded(batch.order);
                        settled.push((batch, Ok(written)));
                    }
                    Err(error) => {
                        stale |= error.asks_for_metadata();
                        if let Some((batch, error)) = queue.failed(now, batch, error) {
                            if let Some(transaction) = &mut accumulator.transaction {
                                transaction.failed(&error, true);
                            }
                            settled.push((batch, Err(error)));
                        }
                    }
                }
            }
        }
        // Wakes those who wait, which need not happen under the lock.
        for (batch, result) in settled {
            match result {
                Ok(written) => batch.succeed(written),
                Err(error) => batch.fail(error),
            }
        }
        if stale && now >= self.refresh_after {
            self.refresh(now);
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.client.drop_lane(self.lane);
    }
}

/// Tells the coordinator of partitions that are to be sent to.
async fn join(shared: Arc<Shared>, limit: Duration) -> Errand {
    let Some(coordinator) = &shared.coordinator else { return Errand::Joined(Ok(Vec::new())) };
    let _turn = coordinator.turn().await;
    let wanted = shared.accumulator.lock().transaction.as_mut().and_then(Transaction::take_wanted);
    let Some((identity, partitions)) = wanted else { return Errand::Joined(Ok(Vec::new())) };
    let added = coordinator.add_partitions(identity, &partitions, limit).await;
    Errand::Joined(added.map(|()| partitions))
}

/// Asks for a producer id until there is one: without it nothing can be sent, and batches expire by themselves.
async fn identify(client: Client) -> Result<ProducerId> {
    let mut failures = 0;
    loop {
        match ask_for_id(&client).await {
            Ok(id) => return Ok(id),
            Err(error @ Error::Closed(_)) => return Err(error),
            Err(error) => {
                tracing::debug!(%error, "no producer id yet");
                if error.asks_for_metadata() {
                    let _ = client.refresh(Some(Vec::new())).await;
                }
                failures += 1;
                tokio::time::sleep(client.config().retry_backoff.jittered(failures)).await;
            }
        }
    }
}

async fn ask_for_id(client: &Client) -> Result<ProducerId> {
    let request = |_| InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: i32::MAX,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    let (broker, answer) = client.call_any(i16::MAX, request).await?;
    let what = || "this producer".to_owned();
    match Error::of_code(&broker.address(), "InitProducerId", what, answer.error_code, None) {
        Some(error) => Err(error),
        None if answer.producer_id < 0 => {
            let code = ErrorCode::UnknownServerError.code();
            let message = Some("an answer without a producer id");
            Err(Error::of_code(&broker.address(), "InitProducerId", what, code, message)
                .unwrap_or(Error::Closed("producer")))
        }
        None => Ok(ProducerId(answer.producer_id)),
    }
}
