//! The member itself: join, sync, leave.

use std::sync::Arc;
use std::time::Duration;

use aqueduct_protocol::error_code::ErrorCode;
use bytes::Bytes;
use bytestring::ByteString;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::calls::{self, Identity};
use super::{GroupMemberOptions, Heartbeats, JoinOutcome, MemberSignal, SyncOutcome, heartbeat};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::metadata::Broker;
use crate::net::Lane;

/// Coordinators answer a join or sync that timed out; the client waits that much longer.
const MARGIN: Duration = Duration::from_secs(5);

/// Membership in a group, driven by its owner: `join`, `sync`, then wait for a signal and join again.
///
/// ```text
/// join ──► JoinOutcome ──► (leader computes assignments) ──► sync ──► Assigned ──► changed() ─┐
///   ▲                                                         │ Rejoin                        │ RebalanceNeeded, Lost
///   └─────────────────────────────────────────────────────────┴───────────────────────────────┘
/// ```
/// Heartbeats are sent in the background from a successful join on until the next join, `leave` or drop. Clones are the
/// same member; one of them drives it.
#[derive(Debug, Clone)]
pub struct GroupMember {
    shared: Arc<Shared>,
    heartbeat: Arc<Mutex<Option<Heartbeat>>>,
}

/// A heartbeat task, which ends with this.
#[derive(Debug)]
struct Heartbeat(JoinHandle<()>);

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What the member's calls and its heartbeats share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) options: GroupMemberOptions,
    /// For heartbeats and commits, which must not wait behind a join.
    pub(super) lane: Lane,
    pub(super) signal: watch::Sender<MemberSignal>,
    pub(super) heartbeats: Heartbeats,
    pub(super) state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) identity: Identity,
    pub(super) coordinator: Option<Broker>,
    pub(super) touched: Instant,
    /// When the coordinator last answered as one does to a member.
    heard: Instant,
    /// Since when calls to the coordinator fail.
    failing: Option<Instant>,
    protocol: Option<ByteString>,
    /// For joins and syncs; another one after a join that was given up, which the old connection still waits for.
    join_lane: Lane,
    joining: bool,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.client.drop_lane(self.lane);
        self.client.drop_lane(self.state.get_mut().join_lane);
    }
}

impl Shared {
    /// The coordinator; asks for it where it is not known. One attempt.
    pub(super) async fn coordinator(&self) -> Result<Broker> {
        let known = self.state.lock().coordinator.clone();
        if let Some(known) = known {
            return Ok(known);
        }
        let found = self.client.find_group_coordinator(&self.options.group_id).await?;
        self.state.lock().coordinator = Some(found.clone());
        Ok(found)
    }

    /// The coordinator has answered.
    pub(super) fn hear(&self) {
        let mut state = self.state.lock();
        state.heard = Instant::now();
        state.failing = None;
    }

    /// Forgets the coordinator where `error` says that it is another or gone.
    pub(super) fn doubt_coordinator(&self, error: &Error) {
        self.state.lock().failing.get_or_insert_with(Instant::now);
        let moved =
            matches!(error.code(), Some(ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable));
        if moved || error.asks_for_metadata() {
            self.state.lock().coordinator = None;
        }
    }

    pub(super) fn identity(&self) -> Identity {
        self.state.lock().identity.clone()
    }

    pub(super) fn not_a_member(&self, who: &Identity, code: ErrorCode) -> Error {
        let (group, member) = (self.options.group_id.to_string(), who.member_id.to_string());
        Error::NotAMember { group, member, code }
    }

    /// The membership that `of` had is over, unless another has begun since.
    pub(super) fn lose(&self, of: &Identity, code: ErrorCode) -> Error {
        let error = self.not_a_member(of, code);
        let mut state = self.state.lock();
        if state.identity.member_id == of.member_id && state.identity.generation == of.generation {
            state.identity.generation = -1;
            if code == ErrorCode::UnknownMemberId {
                state.identity.member_id = ByteString::new();
            }
            let signal = match code {
                ErrorCode::FencedInstanceId => MemberSignal::Fatal(error.clone()),
                _ => MemberSignal::Lost(error.clone()),
            };
            self.signal.send_replace(signal);
        }
        error
    }
}

impl GroupMember {
    /// A member-to-be; nothing is sent yet.
    pub fn new(client: Client, options: GroupMemberOptions) -> Self {
        let identity = Identity {
            group_id: options.group_id.clone(),
            member_id: ByteString::new(),
            instance_id: options.instance_id.clone(),
            generation: -1,
        };
        let state = State {
            identity,
            coordinator: None,
            touched: Instant::now(),
            heard: Instant::now(),
            failing: None,
            protocol: None,
            join_lane: client.new_lane(),
            joining: false,
        };
        let lane = client.new_lane();
        let (signal, state) = (watch::Sender::new(MemberSignal::Unjoined), Mutex::new(state));
        let heartbeats = Heartbeats::default();
        let shared = Arc::new(Shared { client, options, lane, signal, heartbeats, state });
        Self { shared, heartbeat: Arc::default() }
    }

    /// Joins, or joins again, offering `protocols` (name, metadata) in order of preference. Returns when the coordinator
    /// ends the round. Coordinator changes and retriable errors are handled inside, without a limit in time: drop the
    /// future to give up; joining again afterwards is safe.
    ///
    /// # Errors
    /// Fatal ones only: fenced instance, not authorised, inconsistent protocol, invalid session timeout, group full.
    pub async fn join(&self, protocols: Vec<(ByteString, Bytes)>) -> Result<JoinOutcome> {
        let shared = &self.shared;
        self.heartbeat.lock().take();
        {
            let mut state = shared.state.lock();
            if std::mem::replace(&mut state.joining, true) {
                shared.client.drop_lane(state.join_lane);
                state.join_lane = shared.client.new_lane();
            }
        }
        let (mut failures, mut was_lost) = (0, false);
        loop {
            match self.join_once(&protocols).await {
                Ok(mut outcome) => {
                    outcome.was_lost = was_lost;
                    self.joined(&outcome);
                    return Ok(outcome);
                }
                Err(error) => match error.code() {
                    // The id that it is to use came with the answer.
                    Some(ErrorCode::MemberIdRequired) => continue,
                    Some(ErrorCode::UnknownMemberId) => {
                        was_lost |= !shared.identity().member_id.is_empty();
                        shared.state.lock().identity.member_id = ByteString::new();
                    }
                    Some(ErrorCode::RebalanceInProgress) => self.pause(&mut failures).await,
                    _ if error.is_retriable() => {
                        tracing::debug!(%error, "join failed, will retry");
                        shared.doubt_coordinator(&error);
                        self.pause(&mut failures).await;
                    }
                    code => {
                        shared.state.lock().joining = false;
                        if code == Some(ErrorCode::FencedInstanceId) {
                            return Err(shared.lose(&shared.identity(), ErrorCode::FencedInstanceId));
                        }
                        return Err(error);
                    }
                },
            }
        }
    }

    /// Hands in the leader's assignments (member id, bytes; empty for followers) and gets this member's own.
    ///
    /// # Errors
    /// Fatal ones only, as for [`GroupMember::join`].
    pub async fn sync(&self, assignments: Vec<(ByteString, Bytes)>) -> Result<SyncOutcome> {
        let shared = &self.shared;
        let identity = shared.identity();
        let error = match self.sync_once(&identity, assignments).await {
            Ok(assignment) => {
                let stable = |signal: &mut MemberSignal| {
                    let joined = matches!(signal, MemberSignal::Joined);
                    if joined {
                        *signal = MemberSignal::Stable;
                    }
                    joined
                };
                shared.signal.send_if_modified(stable);
                return Ok(SyncOutcome::Assigned(assignment));
            }
            Err(error) => error,
        };
        match error.code() {
            Some(ErrorCode::RebalanceInProgress) => Ok(SyncOutcome::Rejoin),
            Some(code @ (ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration)) => {
                shared.lose(&identity, code);
                Ok(SyncOutcome::Rejoin)
            }
            Some(ErrorCode::FencedInstanceId) => Err(shared.lose(&identity, ErrorCode::FencedInstanceId)),
            _ if error.is_retriable() => {
                tracing::debug!(%error, "sync failed, will rejoin");
                shared.doubt_coordinator(&error);
                self.pause(&mut 0).await;
                Ok(SyncOutcome::Rejoin)
            }
            _ => Err(error),
        }
    }

    /// The latest signal.
    pub fn signal(&self) -> MemberSignal {
        self.shared.signal.borrow().clone()
    }

    /// Waits until the signal is neither `Joined` nor `Stable`, and returns it. Cancel-safe.
    pub async fn changed(&self) -> MemberSignal {
        let mut signals = self.shared.signal.subscribe();
        let told = |signal: &MemberSignal| !matches!(signal, MemberSignal::Joined | MemberSignal::Stable);
        match signals.wait_for(told).await {
            Ok(signal) => signal.clone(),
            // The sender is as old as this member.
            Err(_) => MemberSignal::Unjoined,
        }
    }

    /// Tells that the owner is alive, for `max_poll_interval`.
    pub fn touch(&self) {
        self.shared.state.lock().touched = Instant::now();
    }

    /// For how long nothing was heard of the coordinator: beyond the session timeout it will have given this member's part
    /// to others. Nothing is to be heard while a join is under way, unless it fails.
    pub fn silence(&self) -> Duration {
        let state = self.shared.state.lock();
        let since = match (state.joining, state.failing) {
            (true, None) => return Duration::ZERO,
            (true, Some(since)) => since,
            (false, _) => state.heard,
        };
        since.elapsed()
    }

    /// A view of its heartbeats.
    pub fn heartbeats(&self) -> Heartbeats {
        self.shared.heartbeats.clone()
    }

    /// Generation and member id of the current membership.
    pub fn generation(&self) -> Option<(i32, ByteString)> {
        let identity = self.shared.identity();
        (identity.generation >= 0).then_some((identity.generation, identity.member_id))
    }

    /// The coordinator that is known now.
    pub fn coordinator(&self) -> Option<Broker> {
        self.shared.state.lock().coordinator.clone()
    }

    /// Leaves the group, so that others need not wait for the session to expire; the next join is that of a new member.
    /// Static members stay. `reason` appears in the coordinator's log.
    pub async fn leave(&self, reason: &str) -> Result<()> {
        self.heartbeat.lock().take();
        self.shared.signal.send_replace(MemberSignal::Unjoined);
        let left = {
            let mut state = self.shared.state.lock();
            let left = state.identity.clone();
            state.identity.generation = -1;
            if left.instance_id.is_none() {
                state.identity.member_id = ByteString::new();
            }
            left
        };
        if left.member_id.is_empty() || left.instance_id.is_some() {
            return Ok(());
        }
        calls::leave(&self.shared, &left, reason).await
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    async fn join_once(&self, protocols: &[(ByteString, Bytes)]) -> Result<JoinOutcome> {
        let shared = &self.shared;
        let coordinator = shared.coordinator().await?;
        let (identity, lane) = {
            let state = shared.state.lock();
            (state.identity.clone(), state.join_lane)
        };
        let answer = calls::join(shared, lane, &coordinator, &identity, protocols, self.patience()).await;
        let (error, member_id) = match answer {
            Ok(outcome) => return Ok(outcome),
            Err(failed) => failed,
        };
        if error.code() == Some(ErrorCode::MemberIdRequired) {
            shared.state.lock().identity.member_id = member_id;
        }
        Err(error)
    }

    async fn sync_once(&self, identity: &Identity, assignments: Vec<(ByteString, Bytes)>) -> Result<Bytes> {
        let shared = &self.shared;
        let coordinator = shared.coordinator().await?;
        let (lane, protocol) = {
            let state = shared.state.lock();
            (state.join_lane, state.protocol.clone())
        };
        calls::sync(shared, lane, &coordinator, identity, protocol, assignments, self.patience()).await
    }

    /// How long the coordinator may take to end a round.
    fn patience(&self) -> Duration {
        let options = &self.shared.options;
        self.shared.client.config().request_timeout.max(options.rebalance_timeout.saturating_add(MARGIN))
    }

    fn joined(&self, outcome: &JoinOutcome) {
        let shared = &self.shared;
        {
            let mut state = shared.state.lock();
            state.joining = false;
            state.identity.member_id = outcome.member_id.clone();
            state.identity.generation = outcome.generation;
            state.protocol = Some(outcome.protocol.clone());
            state.touched = Instant::now();
        }
        shared.hear();
        shared.signal.send_replace(MemberSignal::Joined);
        let beats = tokio::spawn(heartbeat::run(shared.clone()));
        self.heartbeat.lock().replace(Heartbeat(beats));
    }

    async fn pause(&self, failures: &mut u32) {
        *failures += 1;
        tokio::time::sleep(self.shared.client.config().retry_backoff.jittered(*failures)).await;
    }
}
