//! Membership in the group of workers: joins, leads where it has to, and tells the herder what to run.
//!
//! A worker that is alone goes through the same rounds with itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_client::{
    Client, GroupMember, GroupMemberOptions, JoinOutcome, JoinedMember, MemberSignal, SyncOutcome,
};
use bytes::Bytes;
use bytestring::ByteString;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::config::WorkerConfig;
use crate::herder::GroupEvent;
use crate::membership::blob::{Assignment, AssignmentError, Metadata};
use crate::membership::incremental::{Assignor, Round};
use crate::membership::{Load, Protocol, eager};
use crate::store::ConfigStore;

/// What the herder tells the membership.
#[derive(Default)]
pub struct GroupShared {
    /// What this worker holds.
    load: Mutex<Load>,
    rejoin: Notify,
}

impl GroupShared {
    pub fn set_load(&self, load: Load) {
        *self.load.lock() = load;
    }

    /// Asks for another round.
    pub fn request_rejoin(&self) {
        self.rejoin.notify_one();
    }
}

/// The membership of this worker.
pub struct Group {
    member: Option<GroupMember>,
    protocol: Protocol,
    url: String,
    config: ConfigStore,
    shared: Arc<GroupShared>,
    events: mpsc::Sender<GroupEvent>,
    assignor: Assignor,
    last_completed: Option<i32>,
    stop: CancellationToken,
}

/// A round that has ended.
struct Outcome {
    protocol: Protocol,
    generation: i32,
    leads: bool,
    assignment: Assignment,
}

const RETRY: Duration = Duration::from_secs(1);

impl Group {
    /// `client` is `None` for a worker that is alone; `url` is the advertised REST address with a slash at the end.
    pub fn new(
        worker: &WorkerConfig,
        client: Option<Client>,
        url: String,
        config: ConfigStore,
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
        let max_delay = if member.is_some() { worker.number("scheduled.rebalance.max.delay.ms") } else { 0 };
        Self {
            member,
            protocol: worker.protocol(),
            url,
            config,
            shared,
            events,
            assignor: Assignor::new(max_delay),
            last_completed: None,
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
            let round = match &self.member {
                Some(member) => self.cluster_round(member.clone()).await,
                None => Ok(Some(self.solo_round())),
            };
            let round = match round {
                Ok(Some(round)) => round,
                Ok(None) => continue,
                Err(error) => {
                    tracing::error!(%error, "joining the group of workers failed, trying again");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            };
            let (delay, protocol) = (round.assignment.delay, round.protocol);
            if !self.tell(round).await {
                return;
            }
            self.wait(delay).await;
            if protocol == Protocol::Eager && !self.prepare().await {
                return;
            }
        }
    }

    /// Waits until there is a reason to join again.
    async fn wait(&self, delay: i32) {
        let due = async {
            match u64::try_from(delay) {
                Ok(delay) if delay > 0 => tokio::time::sleep(Duration::from_millis(delay)).await,
                _ => std::future::pending().await,
            }
        };
        let changed = async {
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
        };
        tokio::select! {
            () = due => {}
            () = changed => {}
            () = self.shared.rejoin.notified() => {}
        }
    }

    async fn tell(&mut self, round: Outcome) -> bool {
        let (done, handled) = oneshot::channel();
        if round.leads {
            self.last_completed = Some(round.generation);
        }
        let event = GroupEvent::Assigned {
            assignment: round.assignment,
            eager: round.protocol == Protocol::Eager,
            leads: round.leads,
            generation: round.generation,
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
        };
        let share = self.assignor.assign(&round).remove(ME).unwrap_or_default();
        let mut assignment = Assignment::empty(ME, self.url.clone(), offset);
        assignment.assigned = share.assigned;
        assignment.revoked = share.revoked;
        Outcome { protocol: Protocol::Compatible, generation, leads: true, assignment }
    }

    /// One round with the cluster; `None` where it has to be begun again.
    async fn cluster_round(&mut self, member: GroupMember) -> Result<Option<Outcome>, String> {
        let offered: Vec<(ByteString, Bytes)> =
            self.protocol.offered().iter().map(|p| (p.name().into(), self.metadata(*p))).collect();
        let joined = member.join(offered).await.map_err(|e| e.to_string())?;
        let protocol = Protocol::from_name(&joined.protocol).ok_or_else(|| {
            format!("the coordinator chose protocol {}, which was not offered", joined.protocol)
        })?;
        let assignments = if joined.is_leader() { self.lead(protocol, &joined).await } else { Vec::new() };
        match member.sync(assignments).await.map_err(|e| e.to_string())? {
            SyncOutcome::Rejoin => Ok(None),
            SyncOutcome::Assigned(bytes) => {
                let assignment = Assignment::decode(&bytes).map_err(|e| e.to_string())?;
                let leads = joined.is_leader();
                Ok(Some(Outcome { protocol, generation: joined.generation, leads, assignment }))
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
    async fn lead(&mut self, protocol: Protocol, joined: &JoinOutcome) -> Vec<(ByteString, Bytes)> {
        let members = read_members(&joined.members);
        let newest = members.values().map(|(_, m)| m.offset).max().unwrap_or(0);
        if self.config.read(crate::config_state::ConfigState::offset) < newest
            && let Err(error) = self.config.read_to_end().await
        {
            tracing::warn!(%error, "the config topic could not be read to its end");
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
            let round = Round {
                now: crate::clock::now_millis(),
                generation: joined.generation,
                last_completed: self.last_completed,
                members: &loads,
                configured: &all,
            };
            for (id, share) in self.assignor.assign(&round) {
                if let Some(assignment) = assignments.get_mut(id.as_str()) {
                    assignment.assigned = share.assigned;
                    assignment.revoked = share.revoked;
                    assignment.delay = share.delay;
                }
            }
        }
        assignments.into_iter().map(|(id, a)| (id.into(), a.encode(protocol.version()))).collect()
    }
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
