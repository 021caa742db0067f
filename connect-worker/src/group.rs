//! Membership in the group of workers: joins, leads where it has to, and tells the herder what to run.
//!
//! A worker that is alone goes through the same rounds with itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aqueduct_client::{
    Client, GroupMember, GroupMemberOptions, JoinOutcome, JoinedMember, MemberSignal, SyncOutcome,
};
use bytes::Bytes;
use bytestring::ByteString;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::config::WorkerConfig;
use crate::herder::{GroupEvent, Owners};
use crate::ids::RunState;
use crate::membership::blob::{Assignment, AssignmentError, Metadata};
use crate::membership::incremental::{Assignor, Round};
use crate::membership::{Load, Protocol, eager};
use crate::metrics::WorkerMetrics;
use crate::status::Status;
use crate::store::{ConfigStore, StatusStore};

/// What the herder tells the membership.
#[derive(Default)]
pub struct GroupShared {
    /// What this worker holds.
    load: Mutex<Load>,
    asks: Mutex<Asks>,
    asked: Notify,
    metrics: WorkerMetrics,
}

/// Why the herder wants another round.
#[derive(Default)]
struct Asks {
    at_once: bool,
    /// There is something to share out since this config offset.
    since: Option<i64>,
    /// The config topic could not be read as far as the group is.
    lagging: bool,
}

impl GroupShared {
    pub fn new(metrics: WorkerMetrics) -> Self {
        Self { metrics, ..Self::default() }
    }

    pub fn set_load(&self, load: Load) {
        let assigned = [load.connectors.len(), load.tasks.len()];
        self.metrics.coordinated(|known, _| known.assigned = assigned);
        *self.load.lock() = load;
    }

    /// Asks for another round.
    pub fn request_rejoin(&self) {
        self.asks.lock().at_once = true;
        self.asked.notify_one();
    }

    /// Asks for another round, unless the one under way has seen the config topic up to `offset`.
    pub fn request_rejoin_for(&self, offset: i64) {
        let mut asks = self.asks.lock();
        asks.since = asks.since.max(Some(offset));
        drop(asks);
        self.asked.notify_one();
    }

    /// Tells that this worker cannot follow the group.
    pub fn report_lag(&self) {
        self.asks.lock().lagging = true;
        self.asked.notify_one();
    }
}

/// The membership of this worker.
pub struct Group {
    member: Option<GroupMember>,
    protocol: Protocol,
    url: String,
    config: ConfigStore,
    status: StatusStore,
    shared: Arc<GroupShared>,
    events: mpsc::Sender<GroupEvent>,
    assignor: Assignor,
    last_completed: Option<i32>,
    session: Duration,
    /// How long others may be kept waiting for the config topic.
    sync_timeout: Duration,
    unsync_backoff: Duration,
    stop: CancellationToken,
}

/// A round that has ended.
struct Outcome {
    protocol: Protocol,
    generation: i32,
    leads: bool,
    assignment: Assignment,
    /// What each member runs now, by its URL; known to the leader alone.
    owners: Owners,
}

/// Why the next round begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wake {
    Rejoin,
    /// The config topic has to be read first, outside the group.
    Lagging,
    /// The herder is gone.
    End,
}

const RETRY: Duration = Duration::from_secs(1);
/// Rounds of large groups take long; a script that creates many connectors is not to wait for one each.
const MOST_GATHERING: Duration = Duration::from_millis(100);

impl Group {
    /// `client` is `None` for a worker that is alone; `url` is the advertised REST address with a slash at the end.
    pub fn new(
        worker: &WorkerConfig,
        client: Option<Client>,
        url: String,
        (config, status): (ConfigStore, StatusStore),
        shared: Arc<GroupShared>,
        events: mpsc::Sender<GroupEvent>,
        stop: CancellationToken,
    ) -> Self {
        let member = client.map(|client| {
            let options = GroupMemberOptions {
                group_id: worker.group_id().into(),
                protocol_type: "connect".into(),
                instance_id: None,
                session_timeout: worker.session_timeout(),
                rebalance_timeout: worker.rebalance_timeout(),
                heartbeat_interval: worker.heartbeat_interval(),
                max_poll_interval: None,
            };
            GroupMember::new(client, options)
        });
        if let Some(member) = &member {
            let heartbeats = member.heartbeats();
            shared.metrics.coordinated(|known, _| known.heartbeats = heartbeats);
        }
        let distributed = member.is_some();
        let max_delay = if distributed { worker.number("scheduled.rebalance.max.delay.ms") } else { 0 };
        let unsync_backoff =
            if distributed { worker.millis("worker.unsync.backoff.ms") } else { Duration::ZERO };
        Self {
            member,
            protocol: worker.protocol(),
            url,
            config,
            status,
            shared,
            events,
            assignor: Assignor::new(max_delay),
            last_completed: None,
            session: worker.session_timeout(),
            sync_timeout: worker.sync_timeout(),
            unsync_backoff,
            stop,
        }
    }

    /// Stays a member until told to stop, then leaves.
    pub async fn run(mut self) {
        let stop = self.stop.clone();
        let member = self.member.clone();
        let stopped = tokio::select! {
            biased;
            () = stop.cancelled() => true,
            () = self.rounds() => false,
        };
        if let (true, Some(member)) = (stopped, member)
            && let Err(error) = member.leave("the worker shuts down").await
        {
            tracing::debug!(%error, "leaving the group failed");
        }
    }

    async fn rounds(&mut self) {
        loop {
            self.shared.metrics.rebalance_begins();
            let from = Instant::now();
            let round = match self.member.clone() {
                Some(member) => self.guarded_round(member).await,
                None => Ok(Some(self.solo_round())),
            };
            let round = match round {
                Ok(Some(round)) => round,
                Ok(None) => {
                    self.shared.metrics.coordinated(|known, _| known.failed_rounds += 1);
                    continue;
                }
                Err(error) => {
                    self.shared.metrics.coordinated(|known, _| known.failed_rounds += 1);
                    tracing::error!(%error, "joining the group of workers failed, trying again");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            };
            let (delay, protocol, offset) = (round.assignment.delay, round.protocol, round.assignment.offset);
            let generation = round.generation;
            if !self.tell(round).await {
                return;
            }
            self.shared.metrics.rebalanced(generation);
            let wake = self.wait(delay, offset, from.elapsed().min(MOST_GATHERING)).await;
            if wake == Wake::End
                || wake == Wake::Lagging && !self.catch_up_outside().await
                || protocol == Protocol::Eager && !self.prepare().await
            {
                return;
            }
        }
    }

    /// A round; where the coordinator cannot be reached for a session timeout meanwhile, what runs here is suspended.
    async fn guarded_round(&mut self, member: GroupMember) -> Result<Option<Outcome>, String> {
        let (events, session, watched) = (self.events.clone(), self.session, member.clone());
        let mut round = std::pin::pin!(self.cluster_round(member));
        tokio::select! {
            done = &mut round => return done,
            () = silence(&watched, session) => suspend(&events).await,
        };
        round.await
    }

    /// Waits until there is a reason to join again; `offset` is how far the last round has read the config topic, and
    /// `gather` for how long changes of it are gathered before they are worth a round.
    async fn wait(&self, delay: i32, offset: i64, gather: Duration) -> Wake {
        let due = async {
            match u64::try_from(delay) {
                Ok(delay) if delay > 0 => tokio::time::sleep(Duration::from_millis(delay)).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => Wake::Rejoin,
            () = self.changed() => Wake::Rejoin,
            wake = self.asked(offset, gather) => wake,
            back = self.unheard() => if back { Wake::Rejoin } else { Wake::End },
        }
    }

    /// The herder asks for a round that the last one has not made needless.
    async fn asked(&self, offset: i64, gather: Duration) -> Wake {
        loop {
            self.shared.asked.notified().await;
            let asks = std::mem::take(&mut *self.shared.asks.lock());
            if asks.lagging {
                return Wake::Lagging;
            }
            if asks.at_once {
                return Wake::Rejoin;
            }
            if asks.since.is_some_and(|since| since > offset) {
                tokio::time::sleep(gather).await;
                return Wake::Rejoin;
            }
        }
    }

    /// The coordinator wants another round, or has forgotten this member.
    async fn changed(&self) {
        match &self.member {
            Some(member) => match member.changed().await {
                MemberSignal::Lost(error) => tracing::warn!(%error, "membership was lost, joining again"),
                MemberSignal::Fatal(error) => {
                    tracing::error!(%error, "the group cannot be used");
                    tokio::time::sleep(RETRY).await;
                }
                _ => {}
            },
            None => std::future::pending().await,
        }
    }

    /// Suspends what runs here when the coordinator has not been heard for a session timeout: it has given the work to
    /// others. Returns when it is heard again; false where the herder is gone.
    async fn unheard(&self) -> bool {
        let Some(member) = &self.member else { return std::future::pending().await };
        silence(member, self.session).await;
        if !suspend(&self.events).await {
            return false;
        }
        while member.silence() >= self.session {
            tokio::time::sleep(LISTEN).await;
        }
        true
    }

    /// Leaves the group, so that others can go on, until the config topic can be read.
    async fn catch_up_outside(&self) -> bool {
        tracing::warn!("this worker leaves the group until it can read the config topic to its end");
        if !self.prepare().await {
            return false;
        }
        if let Some(member) = &self.member
            && let Err(error) = member.leave("taking too long to read the config topic").await
        {
            tracing::debug!(%error, "leaving the group failed");
        }
        let read = async {
            while let Err(error) = self.config.read_to_end().await {
                tracing::warn!(%error, "reading the config topic to its end failed, trying again");
                tokio::time::sleep(RETRY).await;
            }
        };
        if tokio::time::timeout(self.unsync_backoff, read).await.is_err() {
            tracing::warn!("the config topic could not be read within worker.unsync.backoff.ms");
        }
        true
    }

    async fn tell(&mut self, round: Outcome) -> bool {
        let (done, handled) = oneshot::channel();
        if round.leads {
            self.last_completed = Some(round.generation);
        }
        let event = GroupEvent::Assigned {
            assignment: round.assignment,
            protocol: round.protocol,
            leads: round.leads,
            generation: round.generation,
            owners: round.owners,
            done,
        };
        self.events.send(event).await.is_ok() && handled.await.is_ok()
    }

    async fn prepare(&self) -> bool {
        let (done, handled) = oneshot::channel();
        self.events.send(GroupEvent::Prepare { done }).await.is_ok() && handled.await.is_ok()
    }

    fn solo_round(&mut self) -> Outcome {
        const ME: &str = "standalone";
        let generation = self.last_completed.unwrap_or(0) + 1;
        let members = BTreeMap::from([(ME.to_owned(), self.shared.load.lock().clone())]);
        let (configured, offset) = configured(&self.config);
        let round = Round {
            now: crate::clock::now_millis(),
            generation,
            last_completed: self.last_completed,
            members: &members,
            configured: &configured,
            released: &Load::default(),
        };
        let share = self.assignor.assign(&round).remove(ME).unwrap_or_default();
        let mut assignment = Assignment::empty(ME, self.url.clone(), offset);
        assignment.assigned = share.assigned;
        assignment.revoked = share.revoked;
        Outcome {
            protocol: Protocol::Compatible,
            generation,
            leads: true,
            assignment,
            owners: Owners::default(),
        }
    }

    /// One round with the cluster; `None` where it has to be begun again.
    async fn cluster_round(&mut self, member: GroupMember) -> Result<Option<Outcome>, String> {
        let offered: Vec<(ByteString, Bytes)> =
            self.protocol.offered().iter().map(|p| (p.name().into(), self.metadata(*p))).collect();
        let metrics = self.shared.metrics.clone();
        let began = Instant::now();
        let joined = member.join(offered).await.map_err(|e| e.to_string())?;
        metrics.coordinated(|known, now| known.joins.note(now, began.elapsed()));
        let protocol = Protocol::from_name(&joined.protocol).ok_or_else(|| {
            format!("the coordinator chose protocol {}, which was not offered", joined.protocol)
        })?;
        let (assignments, owners) =
            if joined.is_leader() { self.lead(protocol, &joined).await } else { Default::default() };
        let began = Instant::now();
        let synced = member.sync(assignments).await.map_err(|e| e.to_string())?;
        metrics.coordinated(|known, now| known.syncs.note(now, began.elapsed()));
        match synced {
            SyncOutcome::Rejoin => Ok(None),
            SyncOutcome::Assigned(bytes) => {
                let assignment = Assignment::decode(&bytes).map_err(|e| e.to_string())?;
                let leads = joined.is_leader();
                Ok(Some(Outcome { protocol, generation: joined.generation, leads, assignment, owners }))
            }
        }
    }

    fn metadata(&self, protocol: Protocol) -> Bytes {
        let offset = self.config.read(crate::config_state::ConfigState::offset);
        let load = self.shared.load.lock().clone();
        let current = (!load.is_empty()).then(|| {
            let mut current = Assignment::empty("", self.url.clone(), offset);
            current.assigned = load;
            current
        });
        Metadata { url: self.url.clone(), offset, current }.encode(protocol.version())
    }

    /// Shares out among the members.
    async fn lead(&mut self, protocol: Protocol, joined: &JoinOutcome) -> (Vec<(ByteString, Bytes)>, Owners) {
        let members = read_members(&joined.members);
        let newest = members.values().map(|(_, m)| m.offset).max().unwrap_or(0);
        if self.config.read(crate::config_state::ConfigState::offset) < newest {
            // All others wait for this: a leader that cannot read has to say so, and to make way.
            match tokio::time::timeout(self.sync_timeout, self.config.read_to_end()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the config topic could not be read to its end"),
                Err(_) => tracing::warn!(
                    limit = ?self.sync_timeout,
                    "reading the config topic to its end took longer than worker.sync.timeout.ms"
                ),
            }
        }
        let (all, offset) = configured(&self.config);
        let url = members.get(&*joined.leader_id).map_or_else(|| self.url.clone(), |(_, m)| m.url.clone());
        let empty = Assignment::empty(joined.leader_id.to_string(), url, offset);
        let mut assignments: BTreeMap<&str, Assignment> =
            members.keys().map(|id| (id.as_str(), empty.clone())).collect();
        if offset < newest {
            tracing::warn!(offset, newest, "a member has read more of the config topic than this leader can");
            assignments.values_mut().for_each(|a| {
                a.error = AssignmentError::ConfigMismatch;
                a.offset = newest;
            });
        } else if protocol == Protocol::Eager {
            let ids: Vec<String> = members.keys().cloned().collect();
            for (id, load) in eager::assign(&ids, &all) {
                if let Some(assignment) = assignments.get_mut(id.as_str()) {
                    assignment.assigned = load;
                }
            }
        } else {
            let loads: BTreeMap<String, Load> =
                members.iter().map(|(id, (load, _))| (id.clone(), load.clone())).collect();
            let released = self.released(&all, &loads).await;
            let round = Round {
                now: crate::clock::now_millis(),
                generation: joined.generation,
                last_completed: self.last_completed,
                members: &loads,
                configured: &all,
                released: &released,
            };
            for (id, share) in self.assignor.assign(&round) {
                if let Some(assignment) = assignments.get_mut(id.as_str()) {
                    assignment.assigned = share.assigned;
                    assignment.revoked = share.revoked;
                    assignment.delay = share.delay;
                }
            }
        }
        let mut owners = Vec::with_capacity(members.len());
        for (id, (held, metadata)) in &members {
            let mut load = if protocol == Protocol::Eager { Load::default() } else { held.clone() };
            if let Some(assignment) = assignments.get(id.as_str()) {
                load.remove(&assignment.revoked);
                load.add(&assignment.assigned);
            }
            owners.push((metadata.url.clone(), load));
        }
        let encoded = assignments.into_iter().map(|(id, a)| (id.into(), a.encode(protocol.version())));
        (encoded.collect(), Owners::new(owners))
    }

    /// What nobody holds because its worker has stopped it and said so: it need not wait for that worker's return.
    async fn released(&self, all: &Load, members: &BTreeMap<String, Load>) -> Load {
        const PATIENCE: Duration = Duration::from_secs(1);
        let mut idle = all.clone();
        members.values().for_each(|load| idle.remove(load));
        if idle.is_empty() || !self.assignor.waits() {
            return Load::default();
        }
        if !matches!(tokio::time::timeout(PATIENCE, self.status.read_to_end()).await, Ok(Ok(()))) {
            tracing::debug!("the status topic could not be read to its end in time");
        }
        self.status.read(|state| {
            let stopped = |status: Option<&Status>| status.is_some_and(|s| s.state == RunState::Unassigned);
            idle.connectors.retain(|name| stopped(state.connector(name)));
            idle.tasks.retain(|id| stopped(state.task(id)));
        });
        idle
    }
}

const LISTEN: Duration = Duration::from_millis(200);

/// Returns when the coordinator has not been heard for `limit`.
async fn silence(member: &GroupMember, limit: Duration) {
    loop {
        let left = limit.saturating_sub(member.silence());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.max(LISTEN)).await;
    }
}

async fn suspend(events: &mpsc::Sender<GroupEvent>) -> bool {
    tracing::warn!(
        "the coordinator of the group has not answered for session.timeout.ms: what runs here stops until it does"
    );
    let (done, handled) = oneshot::channel();
    events.send(GroupEvent::Suspend { done }).await.is_ok() && handled.await.is_ok()
}

fn configured(config: &ConfigStore) -> (Load, i64) {
    config.read(|state| {
        let load = Load {
            connectors: state.connectors().into_iter().collect(),
            tasks: state.all_tasks().into_iter().collect(),
        };
        (load, state.offset())
    })
}

/// What each member tells; one that cannot be understood gets nothing.
fn read_members(joined: &[JoinedMember]) -> BTreeMap<String, (Load, Metadata)> {
    let mut members = BTreeMap::new();
    for member in joined {
        let metadata = Metadata::decode(&member.metadata).unwrap_or_else(|error| {
            tracing::warn!(member = &*member.member_id, %error, "a member's metadata cannot be read");
            Metadata { url: String::new(), offset: 0, current: None }
        });
        let load = metadata.current.as_ref().map(|c| c.assigned.clone()).unwrap_or_default();
        members.insert(member.member_id.to_string(), (load, metadata));
    }
    members
}
