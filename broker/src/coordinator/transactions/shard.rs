//! The task around one partition's [`Transactions`]: it carries requests in and effects out, and keeps time.
//!
//! Requests come through a bounded mailbox and are handled one after another. While one append is on its way, the
//! records of later requests gather and form the next batch. Markers are written beside it.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::ids::ProducerId;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, info_span, warn};

use super::effect::{Effect, Marked, Reply};
use super::markers::MarkerWriter;
use super::producer_ids::ProducerIds;
use super::record::{Record, value_version};
use super::transaction::Place;
use super::{Now, Token, TransactionalId, Transactions, WriteId, journal};
use crate::coordinator::journal::LoadError;
use crate::coordinator::shard::{Backoff, Left, OpenLog, displaces};
use crate::metadata::features::TRANSACTION_VERSION;
use crate::state_log::StateLog;
use crate::tasks::Tasks;

/// Requests that may wait for a shard; further ones wait on their connections.
const MAILBOX: usize = 1024;

/// Requests that are handled before their records are handed over.
const BURST: usize = 256;

type Act = Box<dyn FnOnce(&mut Transactions, Now, Token) -> Vec<Effect> + Send>;
type Look = Box<dyn FnOnce(&Transactions) + Send>;

enum Message {
    Ask(Act, oneshot::Sender<Reply>),
    Look(Look),
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
    pub markers: MarkerWriter,
    pub ids: ProducerIds,
    pub tasks: Tasks,
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
        begin: impl Fn() -> Transactions + Send + 'static,
        end: CancellationToken,
        around: Surroundings,
    ) -> Self {
        let (mailbox, messages) = mpsc::channel(MAILBOX);
        let loaded = Arc::new(AtomicBool::new(quick));
        let span = info_span!("transaction_coordinator", partition);
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

    /// Hands a request over and waits for its answer.
    ///
    /// # Errors
    /// `COORDINATOR_LOAD_IN_PROGRESS`, or `NOT_COORDINATOR` where the shard is gone.
    pub(super) async fn ask(
        &self,
        act: impl FnOnce(&mut Transactions, Now, Token) -> Vec<Effect> + Send + 'static,
    ) -> Result<Reply, ErrorCode> {
        let (answer, answered) = oneshot::channel();
        self.send(Message::Ask(Box::new(act), answer)).await?;
        answered.await.or(Err(ErrorCode::NotCoordinator))
    }

    /// Looks at the transactions as they are.
    ///
    /// # Errors
    /// As [`Shard::ask`].
    pub(super) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Transactions) -> T + Send + 'static,
    ) -> Result<T, ErrorCode> {
        let (answer, answered) = oneshot::channel();
        let look = Box::new(move |transactions: &Transactions| {
            // Nobody listens any more: fine.
            let _ = answer.send(look(transactions));
        });
        self.send(Message::Look(look)).await?;
        answered.await.or(Err(ErrorCode::NotCoordinator))
    }

    async fn send(&self, message: Message) -> Result<(), ErrorCode> {
        if !self.loaded.load(Ordering::Acquire) && !self.mailbox.is_closed() {
            return Err(ErrorCode::CoordinatorLoadInProgress);
        }
        self.mailbox.send(message).await.or(Err(ErrorCode::NotCoordinator))
    }
}

type Appended = Vec<(WriteId, Result<(), ErrorCode>)>;

/// What is done beside the requests.
enum Errand {
    Marked(TransactionalId, Vec<(Place, Marked)>),
    FreshId(Option<ProducerId>),
}

struct Task {
    transactions: Transactions,
    log: Arc<dyn StateLog>,
    around: Surroundings,
    started: Instant,
    waiting: HashMap<Token, oneshot::Sender<Reply>>,
    last_token: u64,
    /// Appends that wait for the one that is under way.
    queue: Vec<(WriteId, Record)>,
    appending: Option<Pin<Box<dyn Future<Output = Appended> + Send>>>,
    errands: FuturesUnordered<Pin<Box<dyn Future<Output = Errand> + Send>>>,
}

async fn serve(
    open: OpenLog,
    begin: impl Fn() -> Transactions,
    around: Surroundings,
    mut messages: mpsc::Receiver<Message>,
    loaded: Arc<AtomicBool>,
) {
    let mut backoff = Backoff::default();
    loop {
        let mut transactions = begin();
        match load(&open, around.load_buffer, &mut transactions).await {
            Ok(log) => {
                let task = Task {
                    transactions,
                    log,
                    around: around.clone(),
                    started: Instant::now(),
                    waiting: HashMap::new(),
                    last_token: 0,
                    queue: Vec::new(),
                    appending: None,
                    errands: FuturesUnordered::new(),
                };
                backoff = Backoff::default();
                match task.run(&mut messages, &loaded).await {
                    Left::Closed => return,
                    Left::Displaced(code) => {
                        warn!(
                            ?code,
                            "records may be lost or not; the transactions of the partition are loaded anew"
                        );
                    }
                }
            }
            // A log that was lost while it was read may have been cut under the reader.
            Err(why) if why.is_passing() || open().await.is_err() => backoff.tell(&why),
            Err(why) => {
                error!(
                    %why,
                    "transactions cannot be loaded and are not served; restore the partition from a backup, or delete its directory to start without them"
                );
                return;
            }
        }
        loaded.store(false, Ordering::Release);
        // Who asked does not wait for another attempt.
        while messages.try_recv().is_ok() {}
        backoff.pause().await;
    }
}

async fn load(
    open: &OpenLog,
    buffer: usize,
    transactions: &mut Transactions,
) -> Result<Arc<dyn StateLog>, LoadError> {
    let log = open().await.map_err(LoadError::Open)?;
    journal::load(&*log, buffer, transactions).await?;
    Ok(log)
}

impl Task {
    async fn run(mut self, messages: &mut mpsc::Receiver<Message>, loaded: &AtomicBool) -> Left {
        let effects = self.transactions.on_loaded(self.now());
        self.carry_out(effects);
        loaded.store(true, Ordering::Release);
        loop {
            self.append();
            let deadline = self.transactions.next_deadline();
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
                    for (write, result) in appended {
                        displaced = displaced.or(result.err().filter(|code| displaces(*code)));
                        let effects = self.transactions.on_appended(self.now(), write, result);
                        self.carry_out(effects);
                    }
                    if let Some(code) = displaced {
                        return Left::Displaced(code);
                    }
                }
                Some(done) = self.errands.next() => self.done(done),
                () = until(self.started, deadline) => {
                    let effects = self.transactions.on_tick(self.now());
                    self.carry_out(effects);
                }
            }
        }
    }

    fn now(&self) -> Now {
        let wall_ms = self.around.markers.clock.now_ms();
        Now { tick_ms: self.started.elapsed().as_millis() as i64, wall_ms }
    }

    fn receive(&mut self, message: Message) {
        match message {
            Message::Ask(act, answer) => {
                self.last_token += 1;
                let token = Token(self.last_token);
                self.waiting.insert(token, answer);
                let now = self.now();
                let effects = act(&mut self.transactions, now, token);
                self.carry_out(effects);
            }
            Message::Look(look) => look(&self.transactions),
        }
    }

    fn done(&mut self, errand: Errand) {
        match errand {
            Errand::Marked(id, results) => {
                let effects = self.transactions.on_marked(self.now(), &id, &results);
                self.carry_out(effects);
            }
            Errand::FreshId(Some(id)) => self.transactions.on_fresh_id(id),
            Errand::FreshId(None) => {}
        }
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
                Effect::Append(write, record) => self.queue.push((write, record)),
                Effect::Mark(markers) => {
                    let writer = self.around.markers.clone();
                    self.errands.push(Box::pin(async move {
                        let results = writer.write_all(&markers).await;
                        Errand::Marked(markers.id, results)
                    }));
                }
                Effect::WantId => {
                    let ids = self.around.ids.clone();
                    self.errands.push(Box::pin(async move { Errand::FreshId(ids.next().await.ok()) }));
                }
            }
        }
    }

    /// Hands over what has gathered, unless an append is under way.
    fn append(&mut self) {
        if self.appending.is_none() && !self.queue.is_empty() {
            let writes = std::mem::take(&mut self.queue);
            let markers = &self.around.markers;
            let version = value_version(markers.metadata.image().level(&TRANSACTION_VERSION));
            let append = journal::append(self.log.clone(), writes, version, markers.clock.now_ms());
            self.appending = Some(Box::pin(append));
        }
    }
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
