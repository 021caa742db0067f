//! Keeps fetches under way for the assigned partitions and hands out what they bring.
//!
//! There is no task behind it: requests are started and answers taken while somebody waits in
//! [`Fetcher::next_chunk`]; in between, answers wait in memory. One request a broker is under way at a time, a partition is
//! fetched at most two chunks ahead, and all that waits is bounded by `fetch.max.bytes`.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use aqueduct_protocol::ids::{BrokerId, Offset};
use bytestring::ByteString;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::Instant;

use super::fetch::{self, Brought, Chunk, Fetched, Wanted};
use super::positions::{Position, Positions};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::metadata::{Broker, Metadata};
use crate::net::Lane;
use crate::offsets::{self, Found};
use crate::types::{OffsetSpec, TopicPartition};

/// What was asked for and when ([`super::positions::Assigned::epoch`]), and what was found.
type LookedUp = (HashMap<TopicPartition, (OffsetSpec, u64)>, Found);

/// Fetches for one consumer.
pub(super) struct Fetcher {
    pub(super) client: Client,
    pub(super) positions: Positions,
    lane: Lane,
    in_flight: FuturesUnordered<BoxFuture<'static, Fetched>>,
    busy: HashSet<BrokerId>,
    lookups: FuturesUnordered<BoxFuture<'static, LookedUp>>,
    refresh: Option<BoxFuture<'static, Result<Arc<Metadata>>>>,
    refresh_after: Instant,
    refresh_due: Instant,
    refresh_failures: u32,
    stale: bool,
    /// Fetched and not handed out, with the epoch of when it was asked.
    ready: VecDeque<(u64, Chunk)>,
    /// Errors for the application.
    errors: VecDeque<Error>,
}

impl Fetcher {
    pub(super) fn new(client: Client) -> Self {
        let now = Instant::now();
        Self {
            positions: Positions::new(client.config().auto_offset_reset),
            lane: client.new_lane(),
            in_flight: FuturesUnordered::new(),
            busy: HashSet::new(),
            lookups: FuturesUnordered::new(),
            refresh: None,
            refresh_after: now,
            refresh_due: now + client.config().metadata_max_age,
            refresh_failures: 0,
            stale: false,
            ready: VecDeque::new(),
            errors: VecDeque::new(),
            client,
        }
    }

    /// The next chunk of a partition that is not paused; `None` at `deadline`. Cancel-safe.
    pub(super) async fn next_chunk(&mut self, deadline: Instant) -> Result<Option<Chunk>> {
        loop {
            if let Some(chunk) = self.take_ready() {
                // Ask for more before this one is worked on.
                self.pump();
                return Ok(Some(chunk));
            }
            if let Some(error) = self.errors.pop_front() {
                return Err(error);
            }
            let next = self.pump();
            tokio::select! {
                biased;
                Some(fetched) = self.in_flight.next() => self.fetched(fetched),
                Some(looked_up) = self.lookups.next() => self.looked_up(looked_up),
                result = maybe(&mut self.refresh) => self.refreshed(result),
                () = tokio::time::sleep_until(next.unwrap_or(deadline).min(deadline)) => {
                    if Instant::now() >= deadline {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// The next chunk, if it is there already.
    pub(super) fn chunk_at_hand(&mut self) -> Option<Chunk> {
        while let Some(Some(fetched)) = self.in_flight.next().now_or_never() {
            self.fetched(fetched);
        }
        let chunk = self.take_ready();
        self.pump();
        chunk
    }

    /// Waits until all assigned partitions have a position.
    pub(super) async fn find_positions(&mut self, deadline: Instant) -> Result<()> {
        while !self.positions.all_known() {
            if let Some(error) = self.errors.pop_front() {
                return Err(error);
            }
            self.pump();
            tokio::select! {
                Some(looked_up) = self.lookups.next() => self.looked_up(looked_up),
                Some(fetched) = self.in_flight.next() => self.fetched(fetched),
                result = maybe(&mut self.refresh) => self.refreshed(result),
                () = tokio::time::sleep_until(deadline) => return Err(self.no_positions()),
            }
        }
        Ok(())
    }

    /// A chunk was read to its end, or given up.
    pub(super) fn finished(&mut self, partition: &TopicPartition) {
        if let Some(assigned) = self.positions.get_mut(partition) {
            assigned.buffered = assigned.buffered.saturating_sub(1);
        }
    }

    /// Sets the position of what has been returned so far.
    pub(super) fn returned_up_to(&mut self, partition: &TopicPartition, offset: Offset) {
        if let Some(assigned) = self.positions.get_mut(partition) {
            assigned.position = Position::At(offset);
        }
    }

    /// Keeps an error for the next call of [`Fetcher::next_chunk`] that has nothing else to return.
    pub(super) fn tell_later(&mut self, error: Error) {
        self.errors.push_back(error);
    }

    fn no_positions(&self) -> Error {
        let missing =
            self.positions.partitions().next().map_or(String::new(), |partition| partition.to_string());
        Error::Timeout {
            what: format!("offset lookup for {missing} and others"),
            after: self.client.config().default_api_timeout,
            last: None,
        }
    }

    fn take_ready(&mut self) -> Option<Chunk> {
        let positions = &self.positions;
        self.ready.retain(|(epoch, chunk)| {
            positions.get(&chunk.fetched.partition).is_some_and(|assigned| assigned.epoch == *epoch)
        });
        let paused =
            |chunk: &Chunk| positions.get(&chunk.fetched.partition).is_some_and(|assigned| assigned.paused);
        let at = self.ready.iter().position(|(_, chunk)| !paused(chunk))?;
        self.ready.remove(at).map(|(_, chunk)| chunk)
    }

    /// Starts what can be started; gives the time at which more can be.
    fn pump(&mut self) -> Option<Instant> {
        let now = Instant::now();
        self.look_up();
        let image = self.client.cached();
        let later = self.start_fetches(now, &image);
        if self.refresh.is_none() && (now >= self.refresh_due || self.stale && now >= self.refresh_after) {
            self.stale = false;
            self.refresh_due = now + self.client.config().metadata_max_age;
            let client = self.client.clone();
            let topics = self.topics();
            self.refresh = Some(async move { client.refresh(Some(topics)).await }.boxed());
        }
        let refresh = if self.stale { self.refresh_after } else { self.refresh_due };
        later.into_iter().chain(self.refresh.is_none().then_some(refresh)).min()
    }

    fn topics(&self) -> Vec<ByteString> {
        let mut topics: Vec<ByteString> = self.positions.partitions().map(|p| p.topic.clone()).collect();
        topics.sort();
        topics.dedup();
        topics
    }

    fn look_up(&mut self) {
        let wanted = self.positions.take_wanted();
        if wanted.is_empty() {
            return;
        }
        let client = self.client.clone();
        let lookup = async move {
            let config = client.config();
            let specs = wanted.iter().map(|(partition, (spec, _))| (partition.clone(), *spec)).collect();
            let (isolation, limit) = (config.isolation_level, config.default_api_timeout);
            let found = offsets::list(&client, specs, isolation, limit).await;
            (wanted, found)
        };
        self.lookups.push(lookup.boxed());
    }

    fn start_fetches(&mut self, now: Instant, image: &Metadata) -> Option<Instant> {
        let limit = self.client.config().fetch_max_bytes;
        let waiting: usize = self.ready.iter().map(|(_, chunk)| chunk.fetched.batches.len()).sum();
        if waiting >= limit {
            return None;
        }
        let (fetchable, later) = self.positions.fetchable(now);
        let mut requests: HashMap<BrokerId, (Broker, Vec<Wanted>)> = HashMap::new();
        for partition in fetchable {
            let Some(assigned) = self.positions.get(partition) else { continue };
            let Some(leader) = image.leader(&partition.topic, partition.partition) else {
                self.stale = true;
                continue;
            };
            if self.busy.contains(&leader.id) {
                continue;
            }
            let wanted =
                Wanted { partition: partition.clone(), at: assigned.fetch_at, epoch: assigned.epoch };
            requests.entry(leader.id).or_insert_with(|| (leader.clone(), Vec::new())).1.push(wanted);
        }
        for (broker, (leader, wanted)) in requests {
            for one in &wanted {
                if let Some(assigned) = self.positions.get_mut(&one.partition) {
                    assigned.fetching = true;
                }
            }
            self.busy.insert(broker);
            let most = limit - waiting;
            self.in_flight.push(fetch::start(&self.client, self.lane, image, leader, wanted, most));
        }
        later
    }

    fn fetched(&mut self, fetched: Fetched) {
        self.busy.remove(&fetched.broker);
        for (wanted, result) in fetched.parts {
            let current =
                self.positions.get(&wanted.partition).is_some_and(|assigned| assigned.epoch == wanted.epoch);
            if !current {
                continue;
            }
            match result {
                Ok(Brought { chunk, end }) => {
                    self.positions.note_end(&wanted.partition, end);
                    let next = chunk.as_ref().map(|chunk| chunk.fetched.next_offset);
                    self.positions.fetched(&wanted.partition, next);
                    self.ready.extend(chunk.map(|chunk| (wanted.epoch, chunk)));
                }
                Err(error) => {
                    self.stale |= error.asks_for_metadata();
                    tracing::debug!(%error, "fetch failed");
                    let backoff = self.client.config().retry_backoff;
                    let told = self.positions.failed(&wanted.partition, error, |n| backoff.jittered(n));
                    self.errors.extend(told);
                }
            }
        }
    }

    fn looked_up(&mut self, (wanted, mut found): LookedUp) {
        for (partition, (spec, epoch)) in wanted {
            let current = self.positions.get(&partition).is_some_and(|assigned| assigned.epoch == epoch);
            if !current {
                continue;
            }
            let position = match found.remove(&partition) {
                Some(Ok(listed)) if listed.offset.0 >= 0 => Position::At(listed.offset),
                // No record is that young: what comes next is.
                Some(Ok(_)) => Position::Wanted(OffsetSpec::Latest),
                Some(Err(error)) => {
                    self.errors.push_back(error);
                    Position::Wanted(spec)
                }
                None => Position::Wanted(spec),
            };
            // It is assigned, as was seen just now.
            let _ = self.positions.seek(&partition, position);
        }
    }

    fn refreshed(&mut self, result: Result<Arc<Metadata>>) {
        self.refresh = None;
        match result {
            Ok(_) => self.refresh_failures = 0,
            Err(error) => {
                tracing::debug!(%error, "metadata not refreshed");
                self.refresh_failures = self.refresh_failures.saturating_add(1);
                self.stale = true;
            }
        }
        let wait = self.client.config().retry_backoff.jittered(self.refresh_failures.max(1));
        self.refresh_after = Instant::now() + wait;
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        self.client.drop_lane(self.lane);
    }
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").field("positions", &self.positions).finish_non_exhaustive()
    }
}

/// Waits for a future that may not be there; for ever where it is not.
async fn maybe<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
