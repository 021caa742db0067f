//! The one task that decides: it has a controller while its node leads the quorum.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aqueduct_quorum::{MetadataQuorum, ProposeError, Status};
use bytes::BytesMut;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

use super::image_machine::encode;
use super::{Decided as Counts, ImageCell};
use crate::controller::{Controller, ControllerSettings, Reply, Request};
use crate::metadata::{MetadataError, Record};
use crate::tasks::Tasks;

/// An entry that has grown to this is proposed before more is decided.
const ENTRY_BYTES: usize = 1 << 20;

/// Requests, and where the answers go.
#[derive(Debug)]
pub(super) struct Ask {
    pub requests: Vec<Request>,
    pub answer: oneshot::Sender<Vec<Result<Reply, MetadataError>>>,
}

/// Decided, but not agreed on yet.
struct Decided {
    replies: Vec<Result<Reply, MetadataError>>,
    answer: oneshot::Sender<Vec<Result<Reply, MetadataError>>>,
}

/// An entry on its way.
type Proposed = BoxFuture<'static, Result<u64, ProposeError>>;

/// The controller of an epoch.
struct Active {
    epoch: u64,
    controller: Controller,
    /// Decided before all else, and still to be agreed on.
    first: Vec<Record>,
}

pub(super) struct Service {
    asks: mpsc::Receiver<Ask>,
    quorum: Arc<dyn MetadataQuorum>,
    status: watch::Receiver<Status>,
    cell: Arc<ImageCell>,
    settings: ControllerSettings,
    started: Instant,
    active: Option<Active>,
    /// What became of it is not known yet: the majority was lost meanwhile.
    undecided: Option<Proposed>,
    counts: Arc<Counts>,
}

impl Service {
    pub(super) fn new(
        asks: mpsc::Receiver<Ask>,
        quorum: Arc<dyn MetadataQuorum>,
        cell: Arc<ImageCell>,
        settings: ControllerSettings,
        counts: Arc<Counts>,
    ) -> Self {
        let status = quorum.watch();
        let started = Instant::now();
        Self { asks, quorum, status, cell, settings, started, active: None, undecided: None, counts }
    }

    pub(super) async fn run(mut self, tasks: &Tasks) {
        let period = (self.settings.session_timeout_ms / 10).clamp(10, 50);
        let mut ticks = tokio::time::interval(Duration::from_millis(period.unsigned_abs()));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                first = self.asks.recv() => match first {
                    Some(first) => self.serve(first, tasks).await,
                    None => return,
                },
                _ = ticks.tick() => self.tick(tasks).await,
                () = settled(&mut self.undecided) => self.undecided = None,
                () = tasks.stopping() => return,
            }
        }
    }

    /// The controller, if this node is to have one now.
    fn activate(&mut self) -> Option<&mut Active> {
        let now_ms = self.now_ms();
        // On top of an entry that may be agreed on or not nothing can be decided.
        let epoch = self.status.borrow().active_epoch.filter(|_| self.undecided.is_none());
        if self.active.as_ref().map(|active| active.epoch) != epoch {
            // All that earlier epochs agreed on is in the image when the status says that this one is active.
            self.active = epoch.map(|epoch| {
                tracing::info!(epoch, "this node is the active controller");
                self.counts.became_active();
                let mut image = (*self.cell.agreed()).clone();
                let first = if image.version == 0 { self.settings.first.clone() } else { Vec::new() };
                first.iter().for_each(|record| image.apply(record));
                Active { epoch, controller: Controller::new(image, self.settings.clone(), now_ms), first }
            });
        }
        self.active.as_mut()
    }

    fn another_leader(&self) -> Option<u64> {
        let status = self.status.borrow();
        status.leader.filter(|leader| *leader != status.id)
    }

    fn now_ms(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// Decides on what is asked, and on what else is waiting, and has it agreed on as one entry.
    async fn serve(&mut self, first: Ask, tasks: &Tasks) {
        let (mut entry, mut decided) = (BytesMut::new(), Vec::new());
        let mut next = Some(first);
        while let Some(ask) = next {
            let Some(one) = self.decide(ask, &mut entry) else { break };
            decided.push(one);
            next = if entry.len() < ENTRY_BYTES { self.asks.try_recv().ok() } else { None };
        }
        let agreed = self.propose(entry, tasks).await;
        for Decided { replies, answer } in decided {
            // A refusal, too, rests on what was decided before it.
            let replies = match &agreed {
                Ok(()) => replies,
                Err(leader) => not_controller(replies.len(), *leader),
            };
            let _ = answer.send(replies);
        }
    }

    /// `None` where this node does not decide; the asker has been told.
    fn decide(&mut self, ask: Ask, entry: &mut BytesMut) -> Option<Decided> {
        let now_ms = self.now_ms();
        let leader = self.another_leader();
        let Some(active) = self.activate() else {
            let _ = ask.answer.send(not_controller(ask.requests.len(), leader));
            return None;
        };
        encode(&std::mem::take(&mut active.first), entry);
        let mut replies = Vec::with_capacity(ask.requests.len());
        for request in ask.requests {
            let (records, reply) = active.controller.handle(now_ms, request);
            encode(&records, entry);
            replies.push(reply.map_err(MetadataError::from));
        }
        let tally = active.controller.take_tally();
        self.counts.add(tally);
        Some(Decided { replies, answer: ask.answer })
    }

    async fn tick(&mut self, tasks: &Tasks) {
        let now_ms = self.now_ms();
        let Some(active) = self.activate() else { return };
        let mut entry = BytesMut::new();
        encode(&std::mem::take(&mut active.first), &mut entry);
        encode(&active.controller.tick(now_ms), &mut entry);
        let tally = active.controller.take_tally();
        self.counts.add(tally);
        let _ = self.propose(entry, tasks).await;
    }

    /// Waits until an entry is agreed on; else with who leads, and without a controller from then on.
    ///
    /// There is no time limit but that of the majority: who has lost it turns down whoever asks, until it is known what
    /// became of the entry.
    async fn propose(&mut self, entry: BytesMut, tasks: &Tasks) -> Result<(), Option<u64>> {
        let Some(active) = self.active.as_ref().filter(|_| !entry.is_empty()) else { return Ok(()) };
        let (quorum, epoch) = (self.quorum.clone(), active.epoch);
        let mut proposed: Proposed = Box::pin(async move { quorum.propose(epoch, entry.freeze()).await });
        let mut status = self.status.clone();
        let outcome = tokio::select! {
            biased;
            outcome = &mut proposed => Some(outcome),
            () = tasks.stopping() => Some(Err(ProposeError::Stopped("the node is shutting down".into()))),
            _ = status.wait_for(|now| now.active_epoch != Some(epoch)) => None,
        };
        let leader = match outcome {
            Some(Ok(_)) => return Ok(()),
            Some(Err(error)) => {
                tracing::warn!(%error, epoch, "a change of the metadata was not agreed on");
                match error {
                    ProposeError::NotLeader { leader } => leader,
                    _ => None,
                }
            }
            None => {
                tracing::warn!(epoch, "no majority of the controllers answers; this node decides on nothing");
                self.undecided = Some(proposed);
                self.another_leader()
            }
        };
        self.active = None;
        Err(leader)
    }
}

/// Resolves when it is known what became of an entry.
async fn settled(undecided: &mut Option<Proposed>) {
    match undecided {
        Some(proposed) => drop(proposed.await),
        None => std::future::pending().await,
    }
}

fn not_controller(count: usize, leader: Option<u64>) -> Vec<Result<Reply, MetadataError>> {
    (0..count).map(|_| Err(MetadataError::NotController { leader })).collect()
}
