//! One node of the quorum: started, asked, stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use openraft::error::{ChangeMembershipError, ClientWriteError, InstallSnapshotError, RaftError};
use openraft::raft::AppendEntriesResponse;
use openraft::{ChangeMembers, Config, SnapshotPolicy};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::disk::Disk;
use crate::elections::Patience;
use crate::error::{ChangeError, ProposeError, StartError};
use crate::first_voters;
use crate::formation;
use crate::identity::Identity;
use crate::link::{Network, Transport};
use crate::log_file::LogFile;
use crate::machine::{Machine, StateMachine};
use crate::message::{Envelope, Request, Response};
use crate::status::Status;
use crate::store::Store;
use crate::types::{DirectoryId, MAX_ENTRY_BYTES, NodeId, Peer, Proposal, Raft};

/// An observer that lags by more entries is given no vote.
const MAX_LAG: u64 = 100;

/// How patient a node is, and how much of the log it keeps.
#[derive(Debug, Clone)]
pub struct Timing {
    /// Between two signs of life of the leader.
    pub heartbeat: Duration,
    /// For so long after they heard of a leader, voters elect no other; between nothing and the difference to
    /// `election_min` later they stand themselves.
    pub election_max: Duration,
    pub election_min: Duration,
    /// A snapshot is taken after so many entries, and so many of these stay in the log for members that lag a little.
    pub snapshot_every: u64,
    pub keep: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(400),
            election_max: Duration::from_millis(800),
            snapshot_every: 5_000,
            keep: 1_000,
        }
    }
}

/// Who a node is, and who the first voters are.
#[derive(Debug, Clone)]
pub struct Options {
    pub cluster_id: String,
    pub node: NodeId,
    /// The first voters, with unknown directories; used only while there is no quorum, and the directory was not formatted
    /// with them ([`crate::format`]). Without this node in it, this node
    /// waits to be added.
    pub voters: BTreeMap<NodeId, Peer>,
    /// The identity that an empty disk is formatted with: random.
    pub new_directory: DirectoryId,
    pub timing: Timing,
}

/// What the rest of the project sees of the quorum.
#[async_trait]
pub trait MetadataQuorum: Send + Sync {
    /// The quorum as this node sees it, now and after each change.
    fn watch(&self) -> watch::Receiver<Status>;

    /// Has an entry agreed on, and returns its index when this node has applied it. Only the leader can, and `epoch` must
    /// be the one that it was decided in ([`Status::active_epoch`]). Entries of one epoch are applied in the order in which
    /// they were proposed. A leader that lost its majority waits: the caller sets a time limit, after which, as after
    /// [`ProposeError::NotLeader`], the entry may still be agreed on.
    async fn propose(&self, epoch: u64, entry: Bytes) -> Result<u64, ProposeError>;

    /// Answers what another node sent through its transport.
    async fn serve(&self, request: Bytes) -> Bytes;

    /// Lets a node follow, without a vote. Only the leader can change members, one change at a time.
    async fn add_observer(&self, id: NodeId, peer: Peer) -> Result<(), ChangeError>;

    /// Gives an observer a vote. Refused while it lags: the quorum would have to wait for it.
    async fn add_voter(&self, id: NodeId) -> Result<(), ChangeError>;

    /// Takes a voter's vote away; it goes on following.
    async fn demote(&self, id: NodeId) -> Result<(), ChangeError>;

    /// Removes a member, voter or not.
    async fn remove(&self, id: NodeId) -> Result<(), ChangeError>;

    /// Stops this node; everything that it acknowledged is on disk.
    async fn stop(&self);
}

/// A running node. Clones are handles to it.
#[derive(Clone)]
pub struct Quorum {
    inner: Arc<Inner>,
}

struct Inner {
    raft: Raft,
    store: Store,
    machine: Machine,
    identity: Identity,
    status: watch::Receiver<Status>,
    patience: Arc<Patience>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Quorum {
    /// Starts a node with what its disk holds. Blocks on the disk for a moment.
    pub async fn start(
        options: Options,
        disk: Arc<dyn Disk>,
        transport: Arc<dyn Transport>,
        machine: Box<dyn StateMachine>,
    ) -> Result<Self, StartError> {
        let new = Identity {
            cluster_id: options.cluster_id.clone(),
            node: options.node,
            directory: options.new_directory,
        };
        let identity = Identity::open(&*disk, new)?;
        let formatted = first_voters::read(&*disk)?;
        let own = formatted.as_ref().and_then(|voters| voters.get(&options.node));
        if let Some(own) = own.filter(|own| own.directory != identity.directory) {
            let (found, expected) = (own.directory, identity.directory);
            return Err(StartError::OtherDirectory { found, expected });
        }
        let store = Store::new(LogFile::open(disk.clone())?);
        let machine = Machine::open(disk, machine)?;
        let is_new = store.is_empty();
        let network = Network { identity: identity.clone(), transport };
        let config = Arc::new(config(&options)?);
        let raft = Raft::new(options.node, config, network.clone(), store.clone(), machine.clone());
        let raft = raft.await.map_err(|error| StartError::Raft(error.to_string()))?;
        let mut metrics = raft.metrics();
        let first = Status::of(&metrics.borrow());
        let (is_alone, epoch) = (first.voters() == [options.node], first.epoch);
        let (sender, status) = watch::channel(first);
        let mut tasks = vec![tokio::spawn(async move {
            while metrics.changed().await.is_ok() {
                let now = Status::of(&metrics.borrow_and_update());
                sender.send_if_modified(|status| {
                    let changed = *status != now;
                    *status = now;
                    changed
                });
            }
        })];
        if let Some(voters) = formatted.filter(|voters| is_new && voters.contains_key(&options.node)) {
            tasks.push(tokio::spawn(formation::begin(raft.clone(), voters)));
        } else if is_new && options.voters.contains_key(&options.node) {
            tasks.push(tokio::spawn(formation::run(raft.clone(), network, options.voters)));
        }
        if is_alone {
            // Nobody else can be leader: there is nothing to wait for.
            let _ = raft.trigger().elect().await;
        }
        let Timing { election_min, election_max, .. } = options.timing;
        let seed = (options.node, identity.directory, epoch);
        let patience = Arc::new(Patience::new(election_max, election_max - election_min, seed));
        let (stands, candidate) = (patience.clone(), raft.clone());
        tasks.push(tokio::spawn(async move { stands.watch(options.node, &candidate).await }));
        let tasks = Mutex::new(tasks);
        Ok(Self { inner: Arc::new(Inner { raft, store, machine, identity, status, patience, tasks }) })
    }

    /// The identity of this node's directory.
    pub fn directory(&self) -> DirectoryId {
        self.inner.identity.directory
    }

    /// Why this node does not talk to a sender.
    fn refusal(&self, who: &Envelope, request: &Request) -> Option<String> {
        let me = &self.inner.identity;
        if who.cluster_id != me.cluster_id {
            return Some(format!(
                "it belongs to cluster {}, this node to cluster {}",
                who.cluster_id, me.cluster_id
            ));
        }
        if who.to != me.node {
            return Some(format!("it looks for node {}, this is node {}", who.to, me.node));
        }
        if who.to_directory != DirectoryId::UNKNOWN && who.to_directory != me.directory {
            return Some(format!(
                "it looks for the directory {}, this node's is {}: was it wiped? Remove node {} from the quorum and add it again",
                who.to_directory, me.directory, me.node
            ));
        }
        if matches!(request, Request::Hello) {
            return None;
        }
        let membership = self.inner.machine.membership();
        let known = membership.membership().get_node(&who.from);
        known.filter(|known| known.directory != who.from_directory).map(|known| {
            format!(
                "node {} is known with the directory {}, not {}",
                who.from, known.directory, who.from_directory
            )
        })
    }

    async fn answer(&self, request: Request) -> Response {
        let raft = &self.inner.raft;
        match request {
            Request::Append(append) => {
                // Writing it down may take longer than the node has patience.
                self.inner.patience.heard();
                let done = raft.append_entries(append).await;
                if done.as_ref().is_ok_and(|done| !matches!(done, AppendEntriesResponse::HigherVote(_))) {
                    self.inner.patience.heard();
                }
                done.map_or_else(fatal, Response::Append)
            }
            Request::Vote(vote) => {
                let done = raft.vote(vote).await;
                if done.as_ref().is_ok_and(|done| done.vote_granted) {
                    self.inner.patience.heard();
                }
                done.map_or_else(fatal, Response::Vote)
            }
            Request::Snapshot(piece) => match raft.install_snapshot(piece).await {
                Ok(done) => {
                    self.inner.patience.heard();
                    Response::Snapshot(done.vote)
                }
                Err(RaftError::APIError(InstallSnapshotError::SnapshotMismatch(mismatch))) => {
                    Response::SnapshotMismatch {
                        expected: (mismatch.expect.id, mismatch.expect.offset),
                        got: (mismatch.got.id, mismatch.got.offset),
                    }
                }
                Err(RaftError::Fatal(error)) => Response::Failed(error.to_string()),
            },
            Request::Hello => {
                let is_new = self.inner.store.is_empty();
                Response::Hello { directory: self.inner.identity.directory, is_new }
            }
        }
    }

    async fn change(&self, change: ChangeMembers<NodeId, Peer>, retain: bool) -> Result<(), ChangeError> {
        match self.inner.raft.change_membership(change, retain).await {
            Ok(_) => Ok(()),
            Err(RaftError::Fatal(error)) => Err(ChangeError::Stopped(error.to_string())),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => {
                Err(ChangeError::NotLeader { leader: to.leader_id })
            }
            Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error))) => Err(match error {
                ChangeMembershipError::InProgress(_) => ChangeError::InProgress,
                other => ChangeError::Refused(other.to_string()),
            }),
        }
    }
}

fn fatal<E: std::error::Error>(error: RaftError<NodeId, E>) -> Response {
    Response::Failed(error.to_string())
}

fn config(options: &Options) -> Result<Config, StartError> {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let timing = &options.timing;
    let config = Config {
        cluster_name: options.cluster_id.clone(),
        heartbeat_interval: ms(timing.heartbeat),
        election_timeout_min: ms(timing.election_min),
        election_timeout_max: ms(timing.election_max),
        enable_elect: false,
        install_snapshot_timeout: 10_000,
        snapshot_max_chunk_size: 1 << 20,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(timing.snapshot_every),
        max_in_snapshot_log_to_keep: timing.keep,
        replication_lag_threshold: timing.snapshot_every.max(timing.keep),
        ..Config::default()
    };
    config.validate().map_err(|error| StartError::Raft(error.to_string()))
}

#[async_trait]
impl MetadataQuorum for Quorum {
    fn watch(&self) -> watch::Receiver<Status> {
        self.inner.status.clone()
    }

    async fn propose(&self, epoch: u64, entry: Bytes) -> Result<u64, ProposeError> {
        if entry.len() > MAX_ENTRY_BYTES {
            return Err(ProposeError::TooLarge(entry.len()));
        }
        match self.inner.raft.client_write(Proposal { epoch, data: entry }).await {
            Ok(done) if done.data.accepted => Ok(done.log_id.index),
            Ok(_) => Err(ProposeError::Superseded),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => {
                Err(ProposeError::NotLeader { leader: to.leader_id })
            }
            Err(RaftError::APIError(other)) => Err(ProposeError::Stopped(other.to_string())),
            Err(RaftError::Fatal(error)) => Err(ProposeError::Stopped(error.to_string())),
        }
    }

    async fn serve(&self, request: Bytes) -> Bytes {
        let response = match Envelope::decode(request) {
            None => Response::Refused("the request cannot be read, perhaps it is of another version".into()),
            Some((who, request)) => match self.refusal(&who, &request) {
                Some(why) => Response::Refused(why),
                None => self.answer(request).await,
            },
        };
        response.encode()
    }

    async fn add_observer(&self, id: NodeId, peer: Peer) -> Result<(), ChangeError> {
        let known = self.inner.status.borrow().members.iter().find(|member| member.id == id).cloned();
        if let Some(known) = known.filter(|known| known.peer.directory != peer.directory) {
            let why =
                format!("node {id} is a member with the directory {}: remove it first", known.peer.directory);
            return Err(ChangeError::Refused(why));
        }
        self.change(ChangeMembers::AddNodes(BTreeMap::from([(id, peer)])), true).await
    }

    async fn add_voter(&self, id: NodeId) -> Result<(), ChangeError> {
        let lag = {
            let status = self.inner.status.borrow();
            let member = status.members.iter().find(|member| member.id == id);
            member.filter(|_| status.leader == Some(status.id)).map(|member| match member.replicated {
                Some(at) => status.last.saturating_sub(at),
                None => status.last,
            })
        };
        if let Some(lag) = lag.filter(|lag| *lag > MAX_LAG) {
            return Err(ChangeError::Refused(format!(
                "node {id} is {lag} entries behind: add it when it has caught up"
            )));
        }
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([id])), true).await
    }

    async fn demote(&self, id: NodeId) -> Result<(), ChangeError> {
        self.change(ChangeMembers::RemoveVoters(BTreeSet::from([id])), true).await
    }

    async fn remove(&self, id: NodeId) -> Result<(), ChangeError> {
        let member = self.inner.status.borrow().members.iter().find(|member| member.id == id).cloned();
        match member {
            None => Err(ChangeError::Refused(format!("node {id} is no member"))),
            Some(member) if member.votes => {
                self.change(ChangeMembers::RemoveVoters(BTreeSet::from([id])), false).await
            }
            Some(_) => self.change(ChangeMembers::RemoveNodes(BTreeSet::from([id])), false).await,
        }
    }

    async fn stop(&self) {
        let tasks = std::mem::take(&mut *self.inner.tasks.lock());
        tasks.iter().for_each(JoinHandle::abort);
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::warn!(%error, "the quorum's node did not stop cleanly");
        }
        for task in tasks {
            let _ = task.await;
        }
    }
}
