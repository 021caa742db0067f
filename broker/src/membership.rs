//! This node as a member of a cluster of several nodes.
//!
//! ```text
//! handlers ─▶ MemberMetadata ─▶ this node's controller, where it is the active one
//!                    └─ AskController ─▶ the active controller, wherever it is
//! quorum ◀─ QuorumMessage ─▶ quorums of the other members
//! ```
//! Controllers vote; other nodes follow the quorum as observers, which they ask for themselves. A broker then registers,
//! takes up its part when its image has the registration, and shows that it lives until it stops.
//!
//! Members are reached by their first listener of controllers, brokers that only follow by their listener for brokers.
//!
//! - `wire`, `message`: what nodes say to each other, as bounded bytes.
//! - `transport`: messages of the quorum; `controllers`: who is the active controller.
//! - `backend`: the metadata as handlers see it; `lifecycle`: the broker's registration.
//! - `changes`: members that come and go; `auto_join`: controllers that get themselves a vote;
//!   `addresses`: where they are reached.
//! - `describe`: the quorum as DescribeQuorum shows it.

mod addresses;
mod auto_join;
mod backend;
mod changes;
mod controllers;
pub(crate) mod describe;
mod lifecycle;
pub(crate) mod message;
mod transport;
mod wire;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::Uuid;
use aqueduct_protocol::messages::DescribeQuorumResponse;
use aqueduct_quorum::{Directory, DirectoryId, MetadataQuorum, NodeId, Options, Peer, Quorum, Status};
use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::config::{ClusterSettings, LiveSettings, Settings};
use crate::controller::{ControllerSettings, Registration};
use crate::error::Error;
use crate::metadata::{LocalMetadata, MetadataBackend, MetadataError, MetadataImage, Rejection, first};
use crate::network::Door;
use crate::node::random_uuid;
use crate::replicated::{Decided, ImageCell, ImageMachine, QuorumMetadata};
use crate::tasks::Tasks;
use addresses::{configured, own_peer, timing, voters};
use backend::MemberMetadata;
use changes::Failed;
use controllers::Controllers;
use lifecycle::{Lifecycle, REPEAT};
use message::{Answer, Answered, Asked, Leader, Sender, Wish};
use transport::{Dialers, Wires};

/// How long the controller of this node is given to decide on what another node asks.
const DECIDE: Duration = Duration::from_secs(9);
/// Between two attempts to join.
const RETRY: Duration = Duration::from_millis(250);
/// Between two looks whether this node is still a member.
const LOOK: Duration = Duration::from_secs(2);

/// The node's side of the quorum and of the controller.
pub(crate) struct Member {
    settings: ClusterSettings,
    cluster_id: String,
    quorum: Quorum,
    status: watch::Receiver<Status>,
    cell: Arc<ImageCell>,
    metadata: Arc<MemberMetadata>,
    /// Where other members reach this node.
    own: Peer,
    lifecycle: OnceLock<Arc<Lifecycle>>,
    tasks: Tasks,
}

impl Member {
    /// Takes up what the disk holds of the quorum. Nothing is heard of others before this node's listener is served.
    pub async fn start(
        settings: &Settings,
        cluster: &ClusterSettings,
        cluster_id: &str,
        doors: &[&Door],
        live: &Arc<LiveSettings>,
        tasks: &Tasks,
    ) -> Result<Arc<Self>, Error> {
        if LocalMetadata::exists(&settings.metadata_dir) {
            return Err(Error::WasAlone { path: settings.metadata_dir.clone() });
        }
        let node = NodeId::try_from(settings.node_id.0).unwrap_or_default();
        let dialers = Dialers::new(live, cluster);
        dialers
            .check()
            .map_err(|error| Error::Config(crate::config::ConfigError::Conflict(error.to_string())))?;
        let dir = settings.metadata_dir.clone();
        let (disk, id, first) = aqueduct_quorum::blocking::spawn(move || {
            let id = aqueduct_storage::MetaProperties::read(&dir)?.map(|found| found.directory_id);
            Ok::<_, Error>((Directory::open(&dir)?, id, first::read(&dir)?))
        })
        .await
        .map_err(|_| Error::Interrupted)??;
        let id = id.filter(|id| *id != Uuid::ZERO).unwrap_or_else(random_uuid);
        let options = Options {
            cluster_id: cluster_id.to_owned(),
            node,
            voters: voters(cluster),
            new_directory: DirectoryId(id.0),
            timing: timing(cluster),
        };
        let (machine, cell) = ImageMachine::new(cluster_id);
        if cluster.is_broker {
            cell.close();
        }
        let transport = Arc::new(Wires(dialers));
        let quorum = Quorum::start(options, Arc::new(disk), transport, Box::new(machine)).await?;
        let status = quorum.watch();
        let decides = ControllerSettings {
            session_timeout_ms: i64::try_from(cluster.session_timeout.as_millis()).unwrap_or(i64::MAX),
            min_insync_replicas: cluster.min_insync_replicas,
            unclean_leader_election: cluster.unclean_leader_election,
            balance_interval_ms: cluster
                .balance_interval
                .map(|interval| i64::try_from(interval.as_millis()).unwrap_or(i64::MAX)),
            first,
            ..ControllerSettings::default()
        };
        let local = QuorumMetadata::start(cell.clone(), Arc::new(quorum.clone()), decides, tasks);
        let sender = Sender { cluster_id: cluster_id.to_owned(), node, directory: quorum.directory() };
        let dialers = Dialers::new(live, cluster);
        let controllers = Controllers::new(dialers, status.clone(), sender, configured(cluster));
        let metadata = Arc::new(MemberMetadata {
            local: Arc::new(local),
            controllers: Arc::new(controllers),
            status: status.clone(),
            tasks: tasks.clone(),
        });
        let (stopping, stopped) = (tasks.clone(), quorum.clone());
        tasks.spawn(async move {
            stopping.stopping().await;
            stopped.stop().await;
        });
        let own = own_peer(settings, cluster, doors, quorum.directory());
        Ok(Arc::new(Self {
            settings: cluster.clone(),
            cluster_id: cluster_id.to_owned(),
            quorum,
            status,
            cell,
            metadata,
            own,
            lifecycle: OnceLock::new(),
            tasks: tasks.clone(),
        }))
    }

    /// The metadata of the cluster, for everything on this node.
    pub fn metadata(&self) -> Arc<dyn MetadataBackend> {
        self.metadata.clone()
    }

    /// The node's part in the cluster.
    pub fn settings(&self) -> &ClusterSettings {
        &self.settings
    }

    /// The quorum as this node sees it.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// What this node has decided as the active controller.
    pub fn decided(&self) -> &Decided {
        self.metadata.local.decided()
    }

    /// Waits until this node is a member that hears of a leader, and asks to be one where it is not.
    ///
    /// # Errors
    /// A cluster that does not know this node, or knows it with another disk.
    pub async fn join(&self) -> Result<(), Error> {
        let mut status = self.status.clone();
        let (began, mut told) = (Instant::now(), Instant::now());
        let wish = Wish::Observe(self.own.clone());
        loop {
            let (joined, failure) = {
                let now = status.borrow_and_update();
                (self.is_member(&now) && now.leader.is_some(), now.failure.clone())
            };
            if let Some(failure) = failure {
                return Err(aqueduct_quorum::StartError::Raft(failure).into());
            }
            if joined {
                return Ok(());
            }
            let asked = tokio::select! {
                asked = self.metadata.controllers.ask(&wish) => asked,
                // Elected meanwhile, or heard of who was.
                _ = status.wait_for(|now| self.is_member(now) && now.leader.is_some()) => continue,
                () = self.tasks.stopping() => return Err(Error::Interrupted),
            };
            let why = match asked {
                Ok(Answered::Stranger(rejection))
                    if rejection.code == ErrorCode::InvalidVoterKey && self.joins_by_itself() =>
                {
                    let replaced = tokio::select! {
                        replaced = self.ask_for_vote() => replaced,
                        () = self.tasks.stopping() => return Err(Error::Interrupted),
                    };
                    replaced.err().unwrap_or(rejection).message
                }
                Ok(Answered::Stranger(rejection)) => return Err(Error::NotRegistered(rejection)),
                Ok(Answered::Refused(rejection))
                    if rejection.code == ErrorCode::DuplicateBrokerRegistration
                        && began.elapsed() >= self.settings.registration_timeout =>
                {
                    return Err(Error::NotRegistered(rejection));
                }
                Ok(Answered::Refused(rejection)) => rejection.message,
                Ok(_) => "the leader has not sent anything yet".to_owned(),
                Err(why) => why,
            };
            if told.elapsed() > REPEAT {
                told = Instant::now();
                tracing::warn!(why, "waiting for the metadata quorum");
            }
            tokio::select! {
                _ = timeout(RETRY, status.changed()) => {}
                () = self.tasks.stopping() => return Err(Error::Interrupted),
            }
        }
    }

    /// Goes on asking to be a member, where this node is none any more, until the node stops.
    pub async fn stay(self: Arc<Self>) {
        let wish = Wish::Observe(self.own.clone());
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = self.tasks.stopping() => return,
            }
            // Whoever was removed hears of no leader, and perhaps not of that.
            let is_in_touch = {
                let status = self.status.borrow();
                self.is_member(&status) && status.leader.is_some()
            };
            if is_in_touch {
                continue;
            }
            tokio::select! {
                asked = self.metadata.controllers.ask(&wish) => match asked {
                    Ok(Answered::Stranger(rejection)) => tracing::error!(why = rejection.message, "the quorum does not know this node"),
                    other => tracing::info!(answer = ?other.is_ok(), "asked to follow the metadata quorum"),
                },
                () = self.tasks.stopping() => return,
            }
        }
    }

    fn is_member(&self, status: &Status) -> bool {
        let own = status.members.iter().find(|member| member.id == status.id);
        own.is_some_and(|own| own.peer.directory == self.own.directory)
    }

    /// Registers this node's broker; returns when its image has the registration. Topics are hidden until [`Self::open`].
    pub async fn register(&self, registration: Registration) -> Result<(), Error> {
        let metadata = self.metadata.clone();
        let lifecycle = Lifecycle::register(metadata, registration, &self.settings, &self.tasks).await?;
        let _ = self.lifecycle.set(Arc::new(lifecycle));
        Ok(())
    }

    /// Everything that is agreed on, topics included.
    pub fn agreed(&self) -> Arc<MetadataImage> {
        self.cell.agreed()
    }

    /// Shows topics to the handlers.
    pub fn open(&self) {
        self.cell.open();
    }

    /// Begins to show that the broker lives, and waits until it takes part.
    pub async fn take_part(&self) -> Result<(), Error> {
        let Some(lifecycle) = self.lifecycle.get() else { return Ok(()) };
        self.tasks.spawn(lifecycle.clone().beat(self.tasks.clone()));
        lifecycle.unfenced(&self.tasks).await
    }

    /// Has others take over the partitions of this broker, within bounds.
    pub async fn leave(&self) {
        if let Some(lifecycle) = self.lifecycle.get() {
            lifecycle.leave().await;
        }
    }

    /// Resolves when this node's part of the quorum has failed, because its disk did or holds what it does not understand.
    pub async fn failed(&self) {
        let mut status = self.status.clone();
        let found = status.wait_for(|now| now.failure.is_some()).await.map(|now| now.failure.clone());
        let why = match found {
            Ok(why) if !self.tasks.is_stopping() => why.unwrap_or_default(),
            _ => std::future::pending().await,
        };
        tracing::error!(why, "this node's part of the metadata quorum has failed: the node stops");
    }

    /// Answers a message of another member's quorum.
    pub async fn serve(&self, request: Bytes) -> Bytes {
        self.quorum.serve(request).await
    }

    /// Answers what another node asks of the controller.
    pub async fn answer(&self, request: Bytes) -> Result<Bytes, ErrorCode> {
        let asked: Asked = message::decode(request).ok_or(ErrorCode::InvalidRequest)?;
        let is_open = auto_join::is_open_to_replaced(&asked);
        let refused = match self.foreigner(&asked.sender) {
            None if !is_open => self.replaced(&asked.sender),
            foreign => foreign,
        };
        let answered = match refused {
            Some(rejection) => Answered::Stranger(rejection),
            None => self.carry_out(asked).await,
        };
        Ok(message::encode(&answered))
    }

    /// Why a node is none of this cluster's.
    fn foreigner(&self, sender: &Sender) -> Option<Rejection> {
        if sender.cluster_id != self.cluster_id {
            let why = format!(
                "node {} belongs to cluster {}, this controller to cluster {}: check log.dirs of the one and controller.quorum.voters or controller.quorum.bootstrap.servers",
                sender.node, sender.cluster_id, self.cluster_id
            );
            return Some(Rejection::new(ErrorCode::InconsistentClusterId, why));
        }
        None
    }

    /// Why a node is not the voter that it says to be, which only the leader knows: its directory is another.
    fn replaced(&self, sender: &Sender) -> Option<Rejection> {
        let status = self.status.borrow();
        let known = status.members.iter().find(|member| member.id == sender.node && member.votes)?;
        if status.active_epoch.is_none() || known.peer.directory == sender.directory {
            return None;
        }
        let why = format!(
            "node {} votes in the metadata quorum with the directory {}, but its metadata.log.dir has {}: was it wiped or replaced? Bring the old one back, or remove the voter (aqueduct quorum remove, or kafka-metadata-quorum remove-controller) and start the node again; with controller.quorum.auto.join.enable=true it does that itself",
            sender.node,
            Uuid(known.peer.directory.0),
            Uuid(sender.directory.0)
        );
        Some(Rejection::new(ErrorCode::InvalidVoterKey, why))
    }

    async fn carry_out(&self, asked: Asked) -> Answered {
        if self.status.borrow().active_epoch.is_none() {
            return Answered::NotController(self.leader());
        }
        match asked.wish {
            Wish::Decide(requests) => self.decide(requests).await,
            Wish::Describe => self.described(),
            Wish::Observe(peer) => self.answered(self.observe(asked.sender.node, peer).await),
            change => self.change_here(change).await,
        }
    }

    /// Changes who votes.
    async fn change_here(&self, wish: Wish) -> Answered {
        let changed = match wish {
            Wish::AddVoter { node, directory } => self.add_voter(node, directory).await,
            Wish::RemoveVoter { node, directory } => self.remove_voter(node, directory).await,
            _ => Err(Failed::NotLeader),
        };
        self.answered(changed)
    }

    fn answered(&self, changed: Result<(), Failed>) -> Answered {
        match changed {
            Ok(()) => Answered::Done,
            Err(Failed::NotLeader) => Answered::NotController(self.leader()),
            Err(Failed::Refused(rejection)) => Answered::Refused(rejection),
        }
    }

    fn leader(&self) -> Option<Leader> {
        let status = self.status.borrow();
        let leader = status.members.iter().find(|member| Some(member.id) == status.leader)?;
        (leader.id != status.id).then(|| Leader { node: leader.id, peer: leader.peer.clone() })
    }

    async fn decide(&self, requests: Vec<crate::controller::Request>) -> Answered {
        let decided = tokio::select! {
            decided = timeout(DECIDE, self.metadata.local.ask(requests)) => decided,
            () = self.tasks.stopping() => return Answered::NotController(None),
        };
        let Ok(replies) = decided else { return Answered::NotController(None) };
        let mut answers = Vec::with_capacity(replies.len());
        for reply in replies {
            answers.push(match reply {
                Ok(reply) => Answer::Granted(reply),
                Err(MetadataError::Rejected(rejection)) => Answer::Refused(rejection),
                Err(_) => return Answered::NotController(self.leader()),
            });
        }
        Answered::Decided { version: self.cell.agreed().version, replies: answers }
    }

    fn described(&self) -> Answered {
        match describe::encode(&self.describe_here()) {
            Some(bytes) => Answered::Described(bytes),
            None => Answered::Refused(Rejection::new(
                ErrorCode::UnknownServerError,
                "the quorum cannot be described",
            )),
        }
    }

    fn describe_here(&self) -> DescribeQuorumResponse {
        describe::response(&self.status.borrow(), crate::clock::Clock::system().now_ms())
    }

    /// The quorum as its leader sees it, in the form of version 2.
    pub async fn describe(&self) -> Result<DescribeQuorumResponse, Rejection> {
        if self.status.borrow().active_epoch.is_some() {
            return Ok(self.describe_here());
        }
        let none = |why: String| Rejection::new(ErrorCode::NotLeaderOrFollower, why);
        match timeout(DECIDE, self.metadata.controllers.ask(&Wish::Describe)).await {
            Ok(Ok(Answered::Described(bytes))) => {
                describe::decode(bytes).ok_or_else(|| none("the answer of the leader cannot be read".into()))
            }
            Ok(Ok(Answered::Refused(rejection) | Answered::Stranger(rejection))) => Err(rejection),
            Ok(Ok(_)) => Err(none("the answer of the leader does not fit".into())),
            Ok(Err(why)) => Err(none(why)),
            Err(_) => Err(none("the leader has not answered in time".into())),
        }
    }

    /// Has the leader change who votes.
    pub async fn change_voters(&self, wish: Wish, limit: Duration) -> Result<(), Rejection> {
        let none = |why: String| Rejection::new(ErrorCode::RequestTimedOut, why);
        let asked = async {
            loop {
                let is_here = self.status.borrow().active_epoch.is_some();
                let answered = match is_here {
                    true => Ok(self.change_here(wish.clone()).await),
                    false => self.metadata.controllers.ask(&wish).await,
                };
                match answered {
                    Ok(Answered::Done) => return Ok(()),
                    Ok(Answered::Refused(rejection) | Answered::Stranger(rejection)) => {
                        return Err(rejection);
                    }
                    _ => tokio::time::sleep(RETRY).await,
                }
            }
        };
        timeout(limit, asked)
            .await
            .unwrap_or_else(|_| Err(none("no leader has changed the voters in time".into())))
    }
}
