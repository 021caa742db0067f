//! The task around one partition's [`Groups`]: it carries requests in and effects out, and keeps time.
//!
//! Requests come through a bounded mailbox and are handled one after another. While one append is on its way, the
//! records of later requests gather and form the next batch. A request that is parked waits on a channel of its own and
//! holds up nobody.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::records::Compression;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, info_span, warn};

use super::consumer::entry::Entry as Part;
use super::effect::{Effect, Reply, Token, WriteId};
use super::groups::Groups;
use super::journal::{self, Appended, Entry, LoadError};
use super::record::Record;
use super::request::Now;
use crate::clock::Clock;
use crate::metrics::GroupMetrics;
use crate::state_log::StateLog;
use crate::tasks::Tasks;

/// Requests that may wait for a shard; further ones wait on their connections.
const MAILBOX: usize = 1024;

/// Requests that are handled before their records are handed over.
const BURST: usize = 256;

type Act = Box<dyn FnOnce(&mut Groups, Now, Token) -> Vec<Effect> + Send>;
type Look = Box<dyn FnOnce(&Groups) + Send>;
type Tell = Box<dyn FnOnce(&mut Groups, Now) -> Vec<Effect> + Send>;

/// Opens the partition's log.
pub(super) type OpenLog = Box<dyn Fn() -> Opening + Send + Sync>;
pub(super) type Opening = Pin<Box<dyn Future<Output = Result<Arc<dyn StateLog>, ErrorCode>> + Send>>;

enum Message {
    Ask(Act, oneshot::Sender<Reply>),
    Look(Look),
    Tell(Tell),
}

/// Reaches the task of one partition.
#[derive(Clone)]
pub(crate) struct Shard {
    mailbox: mpsc::Sender<Message>,
    loaded: Arc<AtomicBool>,
}

/// What a shard needs besides its log.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub clock: Clock,
    pub tasks: Tasks,
    pub metrics: GroupMetrics,
    pub compression: Compression,
    pub load_buffer: usize,
}

impl Shard {
    /// Starts the task; it feeds what `begin` makes with the log that `open` gives, and ends with its reign, which `end`
    /// tells, or when the node stops. Until it has loaded requests are refused, or wait where it is said to be `quick`:
    /// there is nothing to load.
    pub(super) fn start(
        partition: i32,
        open: OpenLog,
        quick: bool,
        begin: impl Fn() -> Groups + Send + 'static,
        end: CancellationToken,
        around: Surroundings,
    ) -> Self {
        let (mailbox, messages) = mpsc::channel(MAILBOX);
        let loaded = Arc::new(AtomicBool::new(quick));
        let span = info_span!("group_coordinator", partition);
        let (tasks, work) = (around.tasks.clone(), serve(open, begin, around, messages, loaded.clone()));
        let stopping = tasks.clone();
        let work = async move {
            tokio::select! {
                () = work => {}
                () = end.cancelled() => tracing::debug!("the reign is over"),
                () = stopping.stopping() => {}
            }
        };
        tasks.spawn(work.instrument(span));
        Self { mailbox, loaded }
    }

    /// Hands a request over and waits for its answer, which may take as long as a rebalance.
    ///
    /// # Errors
    /// `COORDINATOR_LOAD_IN_PROGRESS`, or `NOT_COORDINATOR` where the shard is gone.
    pub async fn ask(
        &self,
        act: impl FnOnce(&mut Groups, Now, Token) -> Vec<Effect> + Send + 'static,
    ) -> Result<Reply, ErrorCode> {
        let (answer, answered) = oneshot::channel();
        self.send(Message::Ask(Box::new(act), answer)).await?;
        answered.await.or(Err(ErrorCode::NotCoordinator))
    }

    /// Looks at the groups as they are.
    ///
    /// # Errors
    /// As [`Shard::ask`].
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Groups) -> T + Send + 'static,
    ) -> Result<T, ErrorCode> {
        let (answer, answered) = oneshot::channel();
        let look = Box::new(move |groups: &Groups| {
            // Nobody listens any more: fine.
            let _ = answer.send(look(groups));
        });
        self.send(Message::Look(look)).await?;
        answered.await.or(Err(ErrorCode::NotCoordinator))
    }

    /// Tells of an event that nobody waits for. It is heeded even while the shard loads.
    pub(super) async fn tell(&self, tell: impl FnOnce(&mut Groups, Now) -> Vec<Effect> + Send + 'static) {
        // A shard that is gone needs no news.
        let _ = self.mailbox.send(Message::Tell(Box::new(tell))).await;
    }

    async fn send(&self, message: Message) -> Result<(), ErrorCode> {
        if !self.loaded.load(Ordering::Acquire) && !self.mailbox.is_closed() {
            return Err(ErrorCode::CoordinatorLoadInProgress);
        }
        self.mailbox.send(message).await.or(Err(ErrorCode::NotCoordinator))
    }
}

struct Task {
    groups: Groups,
    log: Arc<dyn StateLog>,
    around: Surroundings,
    started: Instant,
    waiting: HashMap<Token, oneshot::Sender<Reply>>,
    last_token: u64,
    /// Appends that wait for the one that is under way.
    queue: Vec<(WriteId, Entry)>,
    appending: Option<Pin<Box<dyn Future<Output = Appended> + Send>>>,
    /// Groups of this shard that the metric includes.
    counted: i64,
}

async fn serve(
    open: OpenLog,
    begin: impl Fn() -> Groups,
    around: Surroundings,
    mut messages: mpsc::Receiver<Message>,
    loaded: Arc<AtomicBool>,
) {
    let mut news = Vec::new();
    let mut backoff = Backoff::default();
    loop {
        let mut groups = begin();
        match load(&open, around.load_buffer, &mut groups).await {
            Ok(log) => {
                let mut task = Task {
                    groups,
                    log,
                    around: around.clone(),
                    started: Instant::now(),
                    waiting: HashMap::new(),
                    last_token: 0,
                    queue: Vec::new(),
                    appending: None,
                    counted: 0,
                };
                news.drain(..).for_each(|tell| task.receive(Message::Tell(tell)));
                backoff = Backoff::default();
                match task.run(&mut messages, &loaded).await {
                    Left::Closed => return,
                    Left::Displaced(code) => {
                        warn!(
                            ?code,
                            "records may be lost or not; the groups of the partition are loaded anew"
                        );
                    }
                }
            }
            // A log that was lost while it was read may have been cut under the reader.
            Err(why) if why.is_passing() || open().await.is_err() => backoff.tell(&why),
            Err(why) => {
                error!(
                    %why,
                    "groups cannot be loaded and are not served; restore the partition from a backup, or delete its directory to start without them"
                );
                return;
            }
        }
        loaded.store(false, Ordering::Release);
        // Who asked does not wait for another attempt.
        while let Ok(message) = messages.try_recv() {
            if let Message::Tell(tell) = message {
                news.push(tell);
            }
        }
        backoff.pause().await;
    }
}

async fn load(open: &OpenLog, buffer: usize, groups: &mut Groups) -> Result<Arc<dyn StateLog>, LoadError> {
    let log = open().await.map_err(LoadError::Open)?;
    journal::load(&*log, buffer, groups).await?;
    Ok(log)
}

/// Pauses between attempts to load, each longer than the one before.
#[derive(Debug, Default)]
pub(super) struct Backoff(u32);

impl Backoff {
    /// Tells of a failure, if it is not one of the first: a partition is led a moment after the metadata says so.
    pub fn tell(&self, why: &LoadError) {
        match self.0 {
            0..4 => tracing::debug!(%why, "the partition cannot be loaded yet"),
            _ => warn!(%why, "the partition cannot be loaded yet"),
        }
    }

    pub async fn pause(&mut self) {
        let pause = Duration::from_millis(20 << self.0);
        self.0 = (self.0 + 1).min(6);
        tokio::time::sleep(pause).await;
    }
}

/// Why a task stopped serving.
pub(super) enum Left {
    /// Nobody can ask any more.
    Closed,
    /// What is in memory may not be what is in the log: see [`displaces`].
    Displaced(ErrorCode),
}

impl Task {
    async fn run(mut self, messages: &mut mpsc::Receiver<Message>, loaded: &AtomicBool) -> Left {
        let effects = self.groups.on_loaded(self.now());
        self.carry_out(effects);
        loaded.store(true, Ordering::Release);
        loop {
            self.append();
            self.count_groups();
            let deadline = self.groups.next_deadline();
            tokio::select! {
                message = messages.recv() => {
                    let Some(message) = message else { return Left::Closed };
                    self.receive(message);
                    for _ in 1..BURST {
                        let Ok(message) = messages.try_recv() else { break };
                        self.receive(message);
                    }
                }
                appended = pending_or(&mut self.appending) => {
                    self.appending = None;
                    let mut displaced = None;
                    for (write, result) in self.fail_behind(appended) {
                        displaced = displaced.or(result.err().filter(|code| displaces(*code)));
                        let effects = self.groups.on_appended(self.now(), write, result);
                        self.carry_out(effects);
                    }
                    if let Some(code) = displaced {
                        return Left::Displaced(code);
                    }
                }
                () = until(self.started, deadline) => {
                    let effects = self.groups.on_tick(self.now());
                    self.carry_out(effects);
                }
            }
        }
    }

    fn now(&self) -> Now {
        Now { tick_ms: self.started.elapsed().as_millis() as i64, wall_ms: self.around.clock.now_ms() }
    }

    fn receive(&mut self, message: Message) {
        let now = self.now();
        let effects = match message {
            Message::Ask(act, answer) => {
                self.last_token += 1;
                let token = Token(self.last_token);
                self.waiting.insert(token, answer);
                act(&mut self.groups, now, token)
            }
            Message::Look(look) => {
                look(&self.groups);
                return;
            }
            Message::Tell(tell) => tell(&mut self.groups, now),
        };
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Reply(token, reply) => {
                    if let Some(answer) = self.waiting.remove(&token) {
                        // The client may have gone away.
                        let _ = answer.send(reply);
                    }
                }
                Effect::Append(write, records) => {
                    self.count_records(&records);
                    self.queue.push((write, Entry::Records(records)));
                }
                Effect::AppendTransactional(write, producer, records) => {
                    self.count_records(&records);
                    self.queue.push((write, Entry::Transactional(producer, records)));
                }
                Effect::AppendMarker(write, marker) => self.queue.push((write, Entry::Marker(marker))),
            }
        }
    }

    fn count_records(&self, records: &[Record]) {
        let metrics = &self.around.metrics;
        for record in records {
            match record {
                Record::Offset { value: Some(_), .. } => metrics.offset_commits.inc(),
                Record::Group { value: Some(_), .. }
                | Record::Consumer { entry: Part::Epoch(Some(_)), .. } => metrics.rebalances.inc(),
                Record::Offset { value: None, .. }
                | Record::Group { value: None, .. }
                | Record::Consumer { .. } => 0,
            };
        }
    }

    fn count_groups(&mut self) {
        let groups = self.groups.len() as i64;
        self.around.metrics.groups.inc_by(groups - self.counted);
        self.counted = groups;
    }

    /// After records that could not be appended, what waits fails as well: it may have been decided on the ground of them.
    fn fail_behind(&mut self, appended: Appended) -> Vec<(WriteId, Result<(), ErrorCode>)> {
        let mut results = appended.results;
        if let Some(error) = appended.broken {
            results.extend(self.queue.drain(..).map(|(write, _)| (write, Err(error))));
        }
        results
    }

    /// Hands over what has gathered, unless an append is under way.
    fn append(&mut self) {
        if self.appending.is_none() && !self.queue.is_empty() {
            let writes = std::mem::take(&mut self.queue);
            let wall_ms = self.around.clock.now_ms();
            let append = journal::append(self.log.clone(), writes, self.around.compression, wall_ms);
            self.appending = Some(Box::pin(append));
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.around.metrics.groups.dec_by(self.counted);
    }
}

/// Whether what is in memory may not be what is in the log after a failed append: the partition is not this node's to write
/// to, or was closed, or the records are there and may be committed yet.
pub(super) fn displaces(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NotLeaderOrFollower
            | ErrorCode::FencedLeaderEpoch
            | ErrorCode::KafkaStorageError
            | ErrorCode::RequestTimedOut
            | ErrorCode::NotEnoughReplicasAfterAppend
    )
}

async fn pending_or(appending: &mut Option<Pin<Box<dyn Future<Output = Appended> + Send>>>) -> Appended {
    match appending {
        Some(append) => append.await,
        None => std::future::pending().await,
    }
}

async fn until(started: Instant, deadline: Option<i64>) {
    match deadline {
        Some(at_ms) => tokio::time::sleep_until(started + Duration::from_millis(at_ms.max(0) as u64)).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
