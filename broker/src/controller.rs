//! The controller of a cluster: what brokers and administrators ask goes in with the time, records come out.
//!
//! ```text
//! Request, now ──Controller::handle──▶ records + reply      records ──quorum──▶ image of every node
//!     time     ──Controller::tick────▶ records
//! ```
//! It decides on its own copy of the image, which is ahead of what the quorum has agreed on; a reply may be given only when
//! its records are. Who loses the lead of the quorum drops its controller, and the next one begins with [`Controller::new`]
//! on the image that the log gives. No clock, no disk and no network are in here.
//!
//! - `brokers`: registration, heartbeats, fencing, controlled shutdown.
//! - `balance`: leaders that go back to the first of their replicas.
//! - `change`: the one place where a partition gets another leader, in-sync set or replicas.
//! - `partitions`: what is asked of single partitions: in-sync sets, elections, reassignments.
//! - `recovery`: partitions of which nobody is known to have everything.
//! - `topics`: where partitions of new topics go.
//! - `tally`: counts of what was decided.

mod balance;
mod brokers;
mod change;
mod partitions;
mod placer;
mod recovery;
mod request;
mod sessions;
mod tally;
#[cfg(test)]
mod tests;
mod topics;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{BrokerId, PartitionIndex, Uuid};

use crate::metadata::{Command, MetadataImage, Outcome, Record, Rejection, decide};

use balance::Balance;
pub(crate) use brokers::{another_runs, still_running};
pub use change::Election;
use recovery::Recoveries;
pub use request::{AlterPartition, Heartbeat, LogEnd, LogEnds, Registration, Reply, Request};
use sessions::Sessions;
pub use tally::Tally;

/// What a controller is told by its node's configuration.
#[derive(Debug, Clone)]
pub struct ControllerSettings {
    /// `broker.session.timeout.ms`: a broker that was not heard of for so long is fenced.
    pub session_timeout_ms: i64,
    /// `min.insync.replicas` and `unclean.leader.election.enable` where nothing is set in the metadata.
    pub min_insync_replicas: usize,
    pub unclean_leader_election: bool,
    /// `leader.imbalance.check.interval.seconds` in milliseconds; `None` without `auto.leader.rebalance.enable`.
    pub balance_interval_ms: Option<i64>,
    /// Partitions that a broker which stops in order is relieved of at a time. None of them takes records until all that
    /// change with it have: a thousand at once would stand still for longer than a few dozen do.
    pub relieved_at_once: usize,
    /// For how long all replicas of a partition are waited for when each candidate may have lost the end of its log, from when
    /// the leader before is back.
    pub recovery_wait_ms: i64,
    /// What the metadata of a new cluster begins with.
    pub first: Vec<Record>,
}

impl Default for ControllerSettings {
    fn default() -> Self {
        Self {
            session_timeout_ms: 9_000,
            min_insync_replicas: 1,
            unclean_leader_election: false,
            balance_interval_ms: None,
            relieved_at_once: 64,
            recovery_wait_ms: 60_000,
            first: Vec::new(),
        }
    }
}

/// Decides for the cluster while its node leads the quorum.
#[derive(Debug)]
pub struct Controller {
    image: MetadataImage,
    sessions: Sessions,
    settings: ControllerSettings,
    /// What was decided in this call.
    records: Vec<Record>,
    balance: Balance,
    recoveries: Recoveries,
    tally: Tally,
}

impl Controller {
    /// Takes over: `image` is everything that the log says. Brokers have a whole session timeout to be heard of.
    pub fn new(image: MetadataImage, settings: ControllerSettings, now_ms: i64) -> Self {
        let mut sessions = Sessions::new(settings.session_timeout_ms, now_ms);
        let live =
            image.brokers.keys().filter(|id| image.broker_state(**id).is_some_and(|state| !state.fenced));
        live.for_each(|id| sessions.take_over(*id, now_ms));
        Self {
            image,
            sessions,
            settings,
            records: Vec::new(),
            balance: Balance::default(),
            recoveries: Recoveries::new(now_ms),
            tally: Tally::default(),
        }
    }

    /// The image with all that was decided.
    pub fn image(&self) -> &MetadataImage {
        &self.image
    }

    /// Decides on one request. What is turned down leaves no record.
    ///
    /// `now_ms` is monotonic, and never below that of an earlier call.
    pub fn handle(&mut self, now_ms: i64, request: Request) -> (Vec<Record>, Result<Reply, Rejection>) {
        self.advance(now_ms);
        let reply = match request {
            Request::Register(registration) => self.register(now_ms, &registration),
            Request::Heartbeat(heartbeat) => self.heartbeat(now_ms, &heartbeat),
            Request::AlterPartition(alter) => self.alter_partition(&alter),
            Request::Command(command) => self.command(&command).map(Reply::Command),
            Request::LogEnds(ends) => self.log_ends(&ends),
        };
        let records = std::mem::take(&mut self.records);
        debug_assert!(reply.is_ok() || records.is_empty(), "a refusal changes nothing");
        (records, reply)
    }

    /// What was counted since this was asked last.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// Fences brokers that were not heard of, has partitions led that have waited for their replicas, and gives leaders back
    /// when it is time to. Call it a few times within a session timeout; time in which it was not
    /// called, because this process stood still, does not count against the brokers.
    pub fn tick(&mut self, now_ms: i64) -> Vec<Record> {
        self.advance(now_ms);
        let expired = self.sessions.expired(now_ms);
        self.tally.timed_out += expired.len() as u64;
        self.fence_all(&expired);
        self.recover();
        self.balance(now_ms);
        std::mem::take(&mut self.records)
    }

    fn advance(&mut self, now_ms: i64) {
        self.sessions.advance(now_ms);
        self.recoveries.advance(now_ms, self.settings.session_timeout_ms / 2);
    }

    /// Decides on what an administrator asks for.
    fn command(&mut self, command: &Command) -> Result<Outcome, Rejection> {
        match command {
            Command::CreateTopic { name, id, partitions, configs } => {
                self.create_topic(name, *id, partitions, configs)
            }
            Command::CreatePartitions { topic, partitions } => self.create_partitions(topic, partitions),
            Command::ElectLeader { topic, index, kind } => self.elect_leader(topic, *index, *kind),
            Command::ReassignPartition { topic, index, replicas } => {
                self.reassign(topic, *index, replicas.as_deref())
            }
            Command::UpdateFeature { name, level, .. } => {
                self.check_feature(name, *level)?;
                self.decide(command)
            }
            Command::UnregisterBroker { id } => self.unregister(*id, command),
            Command::AlterConfig { .. } | Command::ReplaceConfig { .. } => {
                let outcome = self.decide(command)?;
                self.after_config_change();
                Ok(outcome)
            }
            Command::OnlineDirectories { broker, directories } => {
                self.online_directories(*broker, directories)
            }
            // Without an epoch nothing would keep a stale broker out.
            Command::RegisterBroker(broker) => Err(Rejection::new(
                ErrorCode::InvalidRequest,
                format!("broker {} is to be registered with its cluster and its epoch", broker.id),
            )),
            _ => self.decide(command),
        }
    }

    /// Has the decisions that do not depend on other brokers made, and takes over what they say.
    fn decide(&mut self, command: &Command) -> Result<Outcome, Rejection> {
        let (records, outcome) = decide(&self.image, command)?;
        records.into_iter().for_each(|record| self.push(record));
        Ok(outcome)
    }

    fn push(&mut self, record: Record) {
        self.tally.note(&self.image, &record);
        self.image.apply(&record);
        self.records.push(record);
    }

    /// Every partition that `wanted` says.
    fn find_partitions(
        &self,
        wanted: impl Fn(&crate::metadata::PartitionImage, &crate::metadata::PartitionState) -> bool,
    ) -> Vec<(Uuid, PartitionIndex)> {
        let mut found = Vec::new();
        for topic in self.image.topics() {
            for (index, partition) in topic.partitions.iter().enumerate() {
                let index = PartitionIndex(index as i32);
                if wanted(partition, self.image.partition_state(topic.id, index)) {
                    found.push((topic.id, index));
                }
            }
        }
        found
    }

    fn is_registered(&self, id: BrokerId) -> bool {
        self.image.brokers.contains_key(&id)
    }
}
