//! Carries out what the core decides: one task that owns all connectors and tasks of this worker.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use aqueduct_connect_api::ConfigMap;
use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::commands::{Reply, Request};
use super::core::Command;
use super::handle::Shared;
use super::leadership::{Leadership, Owners};
use super::restart::RestartPlan;
use super::task_configs::Forwards;
use super::{Core, leftovers, session_keys, validate};
use crate::config_state::{ConfigRecord, ConfigState, RestartRequest};
use crate::connector_runner::{ConnectorHandle, Started, TaskConfigs};
use crate::error::{Error, Result};
use crate::group::GroupShared;
use crate::ids::{ConnectorName, RunState, TargetState, TaskId};
use crate::membership::Protocol;
use crate::membership::blob::{Assignment, AssignmentError};
use crate::status::Subject;
use crate::task::TaskHandle;

/// What the membership tells the herder.
pub enum GroupEvent {
    /// Everything has to stop before the next round.
    Prepare { done: oneshot::Sender<()> },
    /// The group may have given this worker's part to others: everything stops, until the next round tells.
    Suspend { done: oneshot::Sender<()> },
    /// A round has ended.
    Assigned {
        assignment: Assignment,
        protocol: Protocol,
        leads: bool,
        generation: i32,
        /// Who runs what, where this worker leads.
        owners: Owners,
        done: oneshot::Sender<()>,
    },
}

/// Rounds of the group that are to come, as far as the herder knows.
#[derive(Default)]
struct Rounds {
    /// How far the last one had read the config topic.
    seen: i64,
    /// What the next one has to have seen.
    wanted: Option<i64>,
}

/// The herder's task.
pub struct Driver {
    pub(super) shared: Arc<Shared>,
    core: Core,
    group: Arc<GroupShared>,
    connectors: HashMap<ConnectorName, ConnectorHandle>,
    tasks: HashMap<TaskId, TaskHandle>,
    requests: mpsc::Receiver<Request>,
    group_events: mpsc::Receiver<GroupEvent>,
    task_configs: mpsc::Receiver<TaskConfigs>,
    task_configs_to: mpsc::Sender<TaskConfigs>,
    pub(super) forwards: Forwards,
    joined: bool,
    rounds: Rounds,
    /// Restarts that wait for a round: until then it is not known who runs what.
    parked: Vec<Request>,
    stop: CancellationToken,
}

/// Most restarts that wait for a round.
const MOST_PARKED: usize = 256;

impl Driver {
    pub fn new(
        shared: Arc<Shared>,
        group: Arc<GroupShared>,
        requests: mpsc::Receiver<Request>,
        group_events: mpsc::Receiver<GroupEvent>,
        stop: CancellationToken,
    ) -> Self {
        let (task_configs_to, task_configs) = mpsc::channel(256);
        let mut core = shared.config.read(Core::new);
        if shared.environment.config.text("exactly.once.source.support").eq_ignore_ascii_case("enabled") {
            core.restart_all_tasks();
        }
        Self {
            shared,
            core,
            group,
            connectors: HashMap::new(),
            tasks: HashMap::new(),
            requests,
            group_events,
            task_configs,
            task_configs_to,
            forwards: Forwards::default(),
            joined: false,
            rounds: Rounds::default(),
            parked: Vec::new(),
            stop,
        }
    }

    /// Runs until told to stop, then stops everything.
    pub async fn run(mut self) {
        let config = self.shared.config.clone();
        let environment = self.shared.environment.clone();
        let mut key_check = tokio::time::interval(session_keys::check_interval(&environment.config));
        let mut look = tokio::time::interval(leftovers::LOOK);
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                Some(event) = self.group_events.recv() => self.on_group_event(event).await,
                () = config.changed() => {}
                Some(configs) = self.task_configs.recv() => self.publish_tasks(configs).await,
                (name, taken) = self.forwards.done() => self.forwarded(&name, taken),
                Some(request) = self.requests.recv(), if self.joined => self.on_request(request).await,
                () = environment.restart_due() => self.restart_failed().await,
                _ = key_check.tick(), if self.joined => self.renew_session_key().await,
                _ = look.tick(), if self.joined => self.forget_leftovers().await,
            }
            self.follow_changes().await;
        }
        let commands = self.core.on_shutdown();
        self.carry_out(commands).await;
        self.settle_statuses().await;
        self.shared.ready.store(false, Ordering::Release);
    }

    async fn follow_changes(&mut self) {
        let changes = self.shared.config.take_changes();
        if !changes.is_empty() {
            let commands = self.shared.config.read(|state| self.core.on_changes(state, changes));
            self.carry_out(commands).await;
        }
    }

    async fn on_group_event(&mut self, event: GroupEvent) {
        match event {
            GroupEvent::Prepare { done } => {
                self.not_a_member().await;
                let commands = self.core.on_prepare();
                self.carry_out(commands).await;
                self.settle_statuses().await;
                let _ = done.send(());
            }
            GroupEvent::Suspend { done } => {
                self.not_a_member().await;
                let commands = self.core.on_suspend();
                self.carry_out(commands).await;
                let _ = done.send(());
            }
            GroupEvent::Assigned { assignment, protocol, leads, generation, owners, done } => {
                tracing::info!(
                    generation,
                    leads,
                    connectors = assignment.assigned.connectors.len(),
                    tasks = assignment.assigned.tasks.len(),
                    revoked = assignment.revoked.connectors.len() + assignment.revoked.tasks.len(),
                    delay_ms = assignment.delay,
                    "work was shared out"
                );
                self.shared.environment.generation.store(generation, Ordering::Relaxed);
                *self.shared.leadership.lock() = Leadership {
                    leads,
                    url: Some(assignment.leader_url.clone()).filter(|url| !url.is_empty()),
                    protocol: Some(protocol),
                    owners,
                };
                self.shared.config.lead(leads).await;
                if self.follow(&assignment).await {
                    self.on_assignment(&assignment, protocol == Protocol::Eager, leads).await;
                }
                let _ = done.send(());
            }
        }
    }

    /// Reads the config topic as far as the assignment goes. Where that is not possible, or the leader was behind, nothing is
    /// started or stopped, and another round is asked for.
    async fn follow(&mut self, assignment: &Assignment) -> bool {
        let mismatch = assignment.error == AssignmentError::ConfigMismatch;
        let behind = assignment.offset > self.shared.config.read(ConfigState::offset);
        if (mismatch || behind) && !self.catch_up().await {
            self.group.report_lag();
            return false;
        }
        // Offsets of markers and of what compaction has removed are never read, so that the topic's end counts as enough.
        if mismatch {
            self.group.request_rejoin();
        }
        !mismatch
    }

    async fn on_assignment(&mut self, assignment: &Assignment, eager: bool, leads: bool) {
        self.rounds.seen = assignment.offset;
        if self.rounds.wanted.is_some_and(|wanted| wanted <= assignment.offset) {
            self.rounds.wanted = None;
        }
        let commands =
            self.shared.config.read(|state| self.core.on_assignment(state, assignment, eager, leads));
        self.carry_out(commands).await;
        if !assignment.revoked.is_empty() {
            self.settle_statuses().await;
        }
        if !std::mem::replace(&mut self.joined, true) {
            self.shared.ready.store(true, Ordering::Release);
        }
        self.renew_session_key().await;
        if self.rounds.wanted.is_none() {
            for request in std::mem::take(&mut self.parked) {
                self.on_request(request).await;
            }
        }
    }

    /// Nothing that only a member may do is done from now on.
    async fn not_a_member(&mut self) {
        // Requests wait for the next round.
        self.joined = false;
        *self.shared.leadership.lock() = Leadership::default();
        self.shared.config.lead(false).await;
    }

    /// Returns when what was stopped here is said to be: its next owner must have the last word.
    async fn settle_statuses(&self) {
        const LIMIT: Duration = Duration::from_secs(5);
        if tokio::time::timeout(LIMIT, self.shared.status.flush()).await.is_err() {
            tracing::warn!("statuses could not be written in time");
        }
    }

    async fn carry_out(&mut self, commands: Vec<Command>) {
        let mut commands = commands.into_iter().peekable();
        while let Some(command) = commands.next() {
            match command {
                Command::StopConnector(name) => {
                    let mut names = vec![name];
                    while let Some(Command::StopConnector(name)) =
                        commands.next_if(|next| matches!(next, Command::StopConnector(_)))
                    {
                        names.push(name);
                    }
                    self.stop_connectors(&names).await;
                }
                Command::StopTasks(ids) => self.stop_tasks(&ids).await,
                Command::StartConnector(name) => self.start_connector(&name, None),
                Command::StartTask(id) => self.start_task(&id),
                Command::ApplyTarget(name) => self.apply_target(&name),
                Command::Restart(request) => self.restart(&request).await,
                Command::ForgetTasks(ids) => self.forget_tasks(ids).await,
                Command::ForgetConnector(name) => self.forget_connector(&name).await,
                Command::Rejoin => self.group.request_rejoin(),
                Command::ShareOut => self.share_out(),
            }
        }
        self.group.set_load(self.core.assigned().clone());
    }

    fn graceful_timeout(&self) -> Duration {
        self.shared.environment.config.graceful_timeout()
    }

    fn start_connector(&mut self, name: &ConnectorName, started: Option<Started>) {
        if self.connectors.contains_key(name) {
            return;
        }
        let found = self.shared.config.read(|state| {
            Some((state.connector_config(name)?.clone(), state.target_state(name).unwrap_or_default()))
        });
        let Some((settings, target)) = found else { return };
        let handle = ConnectorHandle::start(
            self.shared.environment.clone(),
            name.clone(),
            &settings,
            target,
            self.task_configs_to.clone(),
            started,
        );
        self.connectors.insert(name.clone(), handle);
        self.core.connector_started(name);
    }

    async fn stop_connector(&mut self, name: &ConnectorName) {
        self.stop_connectors(std::slice::from_ref(name)).await;
    }

    /// Stops connectors, all at the same time.
    async fn stop_connectors(&mut self, names: &[ConnectorName]) {
        let timeout = self.graceful_timeout();
        let handles: Vec<ConnectorHandle> = names.iter().filter_map(|n| self.connectors.remove(n)).collect();
        join_all(handles.into_iter().map(|handle| handle.stop(timeout))).await;
        for name in names {
            self.core.connector_stopped(name);
            if !self.shared.config.read(|state| state.contains(name)) {
                self.forget_connector(name).await;
            }
        }
    }

    fn start_task(&mut self, id: &TaskId) {
        if self.tasks.contains_key(id) {
            return;
        }
        let found = self.shared.config.read(|state| {
            let connector = state.connector_config(&id.connector)?.clone();
            let task = state.task_config(id)?.clone();
            Some((connector, task, state.target_state(&id.connector).unwrap_or_default()))
        });
        let Some((connector, task, target)) = found else { return };
        let handle = self.shared.environment.start_task(id.clone(), &connector, &task, target);
        self.tasks.insert(id.clone(), handle);
        self.core.task_started(id);
    }

    async fn stop_tasks(&mut self, ids: &[TaskId]) {
        self.end_tasks(ids).await;
        let mut restarts = self.shared.environment.restarts.lock();
        ids.iter().for_each(|id| restarts.forget(id));
    }

    async fn end_tasks(&mut self, ids: &[TaskId]) {
        let timeout = self.graceful_timeout();
        let handles: Vec<TaskHandle> = ids.iter().filter_map(|id| self.tasks.remove(id)).collect();
        handles.iter().for_each(TaskHandle::begin_stop);
        join_all(handles.into_iter().map(|handle| handle.stop(timeout))).await;
        self.core.tasks_stopped(ids);
        let gone: Vec<TaskId> = self
            .shared
            .config
            .read(|state| ids.iter().filter(|id| state.task_config(id).is_none()).cloned().collect());
        self.forget_tasks(gone).await;
    }

    async fn forget_tasks(&self, ids: Vec<TaskId>) {
        for id in ids {
            let status = self.shared.environment.status_of(RunState::Destroyed, None, None);
            self.shared.status.put(Subject::Task(id), status).await;
        }
    }

    async fn forget_connector(&self, name: &ConnectorName) {
        let tasks: Vec<u32> = self.shared.status.read(|s| s.tasks(name).iter().map(|(t, _)| *t).collect());
        self.forget_tasks(tasks.into_iter().map(|task| TaskId { connector: name.clone(), task }).collect())
            .await;
        let status = self.shared.environment.status_of(RunState::Destroyed, None, None);
        self.shared.status.put(Subject::Connector(name.clone()), status).await;
        self.shared.status.forget_topics(name).await;
    }

    /// Asks for a round that has seen what the config topic says now.
    fn share_out(&mut self) {
        let offset = self.shared.config.read(ConfigState::offset);
        if offset > self.rounds.seen {
            self.rounds.wanted = self.rounds.wanted.max(Some(offset));
            self.group.request_rejoin_for(offset);
        }
    }

    async fn catch_up(&mut self) -> bool {
        let limit = self.shared.environment.config.sync_timeout();
        match tokio::time::timeout(limit, self.shared.config.read_to_end()).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => tracing::warn!(%error, "reading the config topic to its end failed"),
            Err(_) => tracing::warn!(
                ?limit,
                "reading the config topic to its end took longer than worker.sync.timeout.ms"
            ),
        }
        false
    }

    /// Asks a connector once more what tasks it needs.
    pub(super) fn try_again(&self, name: &ConnectorName) {
        if let Some(connector) = self.connectors.get(name) {
            connector.reconfigure();
        }
    }

    fn apply_target(&mut self, name: &ConnectorName) {
        let Some(target) = self.shared.config.read(|state| state.target_state(name)) else { return };
        if let Some(connector) = self.connectors.get(name) {
            connector.set_target(target);
        }
        // Tasks of a stopped connector go away with their configurations.
        if target != TargetState::Stopped {
            let tasks = self.tasks.iter().filter(|(id, _)| id.connector == *name);
            tasks.for_each(|(_, task)| task.set_target(target));
        }
    }

    async fn report_restarting(&self, subject: Subject) {
        let status = self.shared.environment.status_of(RunState::Restarting, None, None);
        self.shared.status.put(subject, status).await;
    }

    async fn restart(&mut self, request: &RestartRequest) {
        let Some(plan) = self.shared.status.read(|state| RestartPlan::new(request, state)) else { return };
        let name = &request.connector;
        let connector = plan.connector && self.connectors.contains_key(name);
        let tasks: Vec<TaskId> = plan.tasks.into_iter().filter(|id| self.tasks.contains_key(id)).collect();
        if connector {
            self.stop_connector(name).await;
            self.report_restarting(Subject::Connector(name.clone())).await;
        }
        if !tasks.is_empty() {
            self.stop_tasks(&tasks).await;
            for id in &tasks {
                self.report_restarting(Subject::Task(id.clone())).await;
            }
        }
        if connector {
            self.start_connector(name, None);
        }
        tasks.iter().for_each(|id| self.start_task(id));
    }

    /// Starts tasks again whose pause after a failure is over.
    async fn restart_failed(&mut self) {
        let now = Instant::now();
        let due = self.shared.environment.restarts.lock().take_due(now);
        let (mut ready, mut waiting) = (Vec::new(), Vec::new());
        for id in due.into_iter().filter(|id| self.tasks.contains_key(id)) {
            let target = self.shared.config.read(|state| state.target_state(&id.connector));
            if target == Some(TargetState::Started) { ready.push(id) } else { waiting.push(id) }
        }
        {
            let mut restarts = self.shared.environment.restarts.lock();
            waiting.iter().for_each(|id| restarts.later(id, now));
        }
        if ready.is_empty() {
            return;
        }
        self.end_tasks(&ready).await;
        for id in &ready {
            tracing::info!(task = %id, "failed task is started again");
            self.report_restarting(Subject::Task(id.clone())).await;
            self.start_task(id);
        }
    }

    async fn on_request(&mut self, request: Request) {
        if self.rounds.wanted.is_some() && request.needs_owner() && self.parked.len() < MOST_PARKED {
            self.parked.push(request);
            return;
        }
        match request {
            Request::PutConnector { name, config, initial, may_replace, reply } => {
                let done = self.put_connector(name, config, initial, may_replace).await;
                let _ = reply.send(done);
            }
            Request::DeleteConnector { name, reply } => answer(reply, self.delete_connector(name).await),
            Request::SetTarget { name, target, reply } => {
                let done = self.set_target(name, target).await;
                answer(reply, done);
            }
            Request::RestartConnector { name, started, reply } => {
                let done = self.restart_connector(&name, started).await;
                answer(reply, done);
            }
            Request::RestartTask { id, reply } => answer(reply, self.restart_task(&id).await),
            Request::Restart { request, reply } => {
                let done = match self.check_leads("Only the leader can process restart requests.") {
                    Ok(()) => self.shared.config.write(&[ConfigRecord::Restart(request)]).await,
                    Err(error) => Err(error),
                };
                answer(reply, done);
            }
            Request::CheckLeads { why, reply } => answer(reply, self.check_leads(why)),
            Request::PutTasks { name, tasks, reply } => self.put_tasks(&name, tasks, reply).await,
            Request::StoreOffsets { name, offsets, reply } => {
                let done = self.store_offsets(&name, &offsets).await;
                answer(reply, done);
            }
        }
    }

    async fn put_connector(
        &mut self,
        name: ConnectorName,
        config: ConfigMap,
        initial: Option<TargetState>,
        may_replace: bool,
    ) -> Result<bool> {
        self.check_leads("Only the leader can set connector configs.")?;
        let exists = self.shared.config.read(|state| state.contains(&name));
        if exists && !may_replace {
            return Err(Error::Conflict(format!("Connector {name} already exists")));
        }
        let target = initial.map(|target| ConfigRecord::TargetState(name.clone(), Some(target)));
        let connector = ConfigRecord::Connector(name, Some(config));
        let records: Vec<ConfigRecord> = target.into_iter().chain([connector]).collect();
        let written = self.shared.config.write(&records).await;
        written.map_err(|error| error.within("Error writing connector configuration to Kafka"))?;
        Ok(!exists)
    }

    async fn delete_connector(&mut self, name: ConnectorName) -> Result<()> {
        self.check_leads("Only the leader can delete connector configs.")?;
        if !self.shared.config.read(|state| state.contains(&name)) {
            return Err(validate::connector_not_found(&name));
        }
        let records = [ConfigRecord::Connector(name.clone(), None), ConfigRecord::TargetState(name, None)];
        self.shared.config.write(&records).await
    }

    async fn set_target(&mut self, name: ConnectorName, target: TargetState) -> Result<()> {
        if !self.shared.config.read(|state| state.contains(&name)) {
            // Another worker may have created it a moment ago.
            self.catch_up().await;
        }
        let Some(known) = self.shared.config.read(|state| state.target_state(&name)) else {
            return Err(Error::not_found(format!("Unknown connector {name}")));
        };
        let state = ConfigRecord::TargetState(name.clone(), Some(target));
        if target == TargetState::Stopped {
            self.check_leads("Only the leader can transition connectors to the STOPPED state.")?;
            return self.shared.config.write(&[ConfigRecord::Commit(name, 0), state]).await;
        }
        if known == target {
            return Ok(());
        }
        self.shared.config.write(&[state]).await
    }

    async fn restart_connector(&mut self, name: &ConnectorName, started: Started) -> Result<()> {
        if !self.shared.config.read(|state| state.contains(name)) {
            return Err(Error::not_found(format!("Unknown connector: {name}")));
        }
        if !self.connectors.contains_key(name) {
            return Err(self.shared.leadership.lock().of_connector(name));
        }
        self.stop_connector(name).await;
        self.start_connector(name, Some(started));
        Ok(())
    }

    async fn restart_task(&mut self, id: &TaskId) -> Result<()> {
        let known =
            self.shared.config.read(|state| (state.contains(&id.connector), state.task_config(id).is_some()));
        match known {
            (false, _) => return Err(Error::not_found(format!("Unknown connector: {}", id.connector))),
            (true, false) => return Err(Error::not_found(format!("Unknown task: {id}"))),
            (true, true) => {}
        }
        if !self.tasks.contains_key(id) {
            return Err(self.shared.leadership.lock().of_task(id));
        }
        self.stop_tasks(std::slice::from_ref(id)).await;
        self.start_task(id);
        Ok(())
    }

    fn check_leads(&self, why: &str) -> Result<()> {
        self.shared.leadership.lock().check(why)
    }

    async fn store_offsets(
        &mut self,
        name: &ConnectorName,
        offsets: &[(aqueduct_connect_api::OffsetMap, Option<aqueduct_connect_api::OffsetMap>)],
    ) -> Result<()> {
        self.shared.write_offsets(name, offsets).await
    }
}

fn answer(reply: Reply<()>, done: Result<()>) {
    let _ = reply.send(done);
}
