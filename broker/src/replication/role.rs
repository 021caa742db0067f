//! What this node is to a partition, and who wants to hear of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Instant;

use aqueduct_protocol::ids::{BrokerId, LeaderEpoch, Offset};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use super::alter::Alters;
use super::leading::{Leading, Rules};
use super::throttle::Throttle;
use crate::metadata::{BrokerEpoch, MetadataBackend, MetadataImage};
use crate::partition::Partition;

/// What this node is to a partition.
#[derive(Debug)]
pub(crate) enum Role {
    /// It has the only replica: what is in the log is committed.
    Alone(LeaderEpoch),
    Leader(Arc<Leader>),
    Follower(Arc<Follower>),
    /// Nobody leads, or it is not known yet who does.
    Idle(LeaderEpoch),
}

impl Role {
    /// The epoch in which this node leads.
    pub fn leads(&self) -> Option<LeaderEpoch> {
        match self {
            Self::Alone(epoch) => Some(*epoch),
            Self::Leader(leader) => Some(leader.epoch),
            Self::Follower(_) | Self::Idle(_) => None,
        }
    }

    /// The newest leader epoch that this node has heard of.
    pub fn epoch(&self) -> LeaderEpoch {
        match self {
            Self::Alone(epoch) | Self::Idle(epoch) => *epoch,
            Self::Leader(leader) => leader.epoch,
            Self::Follower(follower) => follower.epoch,
        }
    }
}

/// One reign of this node over a partition with several replicas.
#[derive(Debug)]
pub(crate) struct Leader {
    pub epoch: LeaderEpoch,
    /// Where the log ended when the reign began.
    pub epoch_start: Offset,
    /// `None` once the reign is over.
    pub(super) state: Mutex<Option<Leading>>,
    /// Told when more is committed, when followers come on, and when the reign ends.
    pub(super) progress: Notify,
}

impl Leader {
    /// Has who waits for its followers look again.
    pub fn tell(&self) {
        self.progress.notify_waiters();
    }
}

/// This node follows a leader.
#[derive(Debug)]
pub(crate) struct Follower {
    pub leader: BrokerId,
    pub epoch: LeaderEpoch,
    /// Held while the log is changed; true once the node follows somebody else, or leads.
    pub(super) over: Mutex<bool>,
    /// Committed records that it did not have yet when it heard of the leader last.
    pub lag: AtomicI64,
}

/// A change of what this node is to a partition. The partition is ready for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RoleChange {
    /// This node leads from now on, or goes on to lead in a newer epoch.
    Leads(LeaderEpoch),
    /// It does not lead (any more); the epoch is that of the leader.
    Follows(BrokerId, LeaderEpoch),
    /// It does not lead (any more), and has nobody to follow.
    Idle(LeaderEpoch),
}

/// Hears of changes of roles: for each partition in order, once for each, on a thread that must not be kept: it may spawn
/// tasks, and must not ask for partitions itself.
pub(crate) trait RoleObserver: Send + Sync {
    fn role_changed(&self, partition: &Arc<Partition>, change: RoleChange);
}

/// What partitions need of the node around them.
pub(crate) struct Around {
    pub me: BrokerId,
    pub metadata: Arc<dyn MetadataBackend>,
    /// `replica.lag.time.max.ms`.
    pub lag_max_ms: i64,
    pub alters: Alters,
    /// What throttled replicas are sent by the leaders here, and what the followers here fetch.
    pub sent: Throttle,
    pub fetched: Throttle,
    /// How often leaders here have asked for smaller and for larger in-sync sets.
    pub shrinks: AtomicU64,
    pub expands: AtomicU64,
    /// Bytes that followers were sent by the leaders here, and that the followers here have appended.
    pub bytes_out: AtomicU64,
    pub bytes_in: AtomicU64,
    started: Instant,
    observers: RwLock<Vec<Arc<dyn RoleObserver>>>,
}

impl std::fmt::Debug for Around {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Around").field("me", &self.me).finish_non_exhaustive()
    }
}

impl Around {
    pub fn new(me: BrokerId, metadata: Arc<dyn MetadataBackend>, lag_max_ms: i64) -> Arc<Self> {
        Arc::new(Self {
            me,
            metadata,
            lag_max_ms,
            alters: Alters::default(),
            sent: Throttle::default(),
            fetched: Throttle::default(),
            shrinks: AtomicU64::new(0),
            expands: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            started: Instant::now(),
            observers: RwLock::default(),
        })
    }

    /// Milliseconds of a clock that is never set.
    pub fn now_ms(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// Has `observer` told of all changes from now on.
    pub fn observe(&self, observer: Arc<dyn RoleObserver>) {
        self.observers.write().push(observer);
    }

    pub(super) fn tell(&self, partition: &Arc<Partition>, change: RoleChange) {
        let observers = self.observers.read().clone();
        observers.iter().for_each(|observer| observer.role_changed(partition, change));
    }

    /// Whether this node may act on an image: one from before its registration may give it partitions that others lead by
    /// now.
    pub fn may_act(&self, image: &MetadataImage) -> bool {
        image.broker_state(self.me).is_none_or(|state| state.epoch == self.metadata.broker_epoch())
    }

    pub(super) fn rules(&self, min_isr: usize) -> Rules {
        Rules { lag_max_ms: self.lag_max_ms, min_isr }
    }
}

/// The registration of a broker that may be in sync.
pub(crate) fn live(image: &MetadataImage, id: BrokerId) -> Option<BrokerEpoch> {
    let epoch = image.broker_state(id).map_or(BrokerEpoch::NONE, |state| state.epoch);
    image.is_live(id).then_some(epoch)
}
