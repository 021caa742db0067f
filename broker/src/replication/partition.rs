//! A partition as a replica: how its role changes, and what a leader and a follower do with its log.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::time::Duration;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{BrokerId, LeaderEpoch, Offset};
use aqueduct_storage::Log;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::leading::{Acknowledged, Answer, Leading, Proposal, Rules, Then};
use super::role::{Follower, Leader, Role, RoleChange, RoleObserver, live};
use super::throttle::Sides;
use crate::config::TopicConfig;
use crate::metadata::PartitionImage;
use crate::partition::Partition;

impl Partition {
    /// Takes the role that `wanted` has for this node, unless it has heard of something newer, and tells who wants to know.
    /// Appends of the role before have ended when this returns. Blocks.
    pub fn assume(self: &Arc<Self>, wanted: &PartitionImage) {
        let around = &self.around;
        let mut known = self.assumed.lock();
        let version = (wanted.leader_epoch, wanted.partition_epoch);
        if version <= *known {
            return;
        }
        let before = self.role.load_full();
        let epoch = wanted.leader_epoch;
        if before.epoch() < epoch {
            self.on_log(|log| log.fence(epoch));
        }
        let leads = wanted.leader == around.me;
        match &*before {
            Role::Leader(leader) if leads && leader.epoch == epoch && wanted.replicas.len() > 1 => {
                *known = version;
                if let Some(state) = &mut *leader.state.lock() {
                    state.update(wanted, around.now_ms());
                }
                drop(known);
                self.advance(leader);
                leader.progress.notify_waiters();
                return;
            }
            Role::Alone(now) if leads && *now == epoch && wanted.replicas.len() == 1 => {
                *known = version;
                return;
            }
            Role::Follower(follower) if follower.epoch == epoch && follower.leader == wanted.leader => {
                *known = version;
                return;
            }
            _ => {}
        }
        let change = self.change_role(&before, wanted);
        *known = version;
        around.tell(self, change);
    }

    /// Tells an observer that came late of the role in force.
    pub(super) fn tell_role(self: &Arc<Self>, observer: &dyn RoleObserver) {
        let _unchanged = self.assumed.lock();
        let change = match &**self.role.load() {
            Role::Alone(epoch) => RoleChange::Leads(*epoch),
            Role::Leader(leader) => RoleChange::Leads(leader.epoch),
            Role::Follower(follower) => RoleChange::Follows(follower.leader, follower.epoch),
            Role::Idle(epoch) => RoleChange::Idle(*epoch),
        };
        observer.role_changed(self, change);
    }

    fn change_role(&self, before: &Role, wanted: &PartitionImage) -> RoleChange {
        let (around, epoch) = (&self.around, wanted.leader_epoch);
        // Whoever changes the log in the role before has finished, or will find that it is over.
        match before {
            Role::Leader(leader) => *leader.state.lock() = None,
            Role::Follower(follower) => *follower.over.lock() = true,
            Role::Alone(_) | Role::Idle(_) => {}
        }
        let (next, change) = if wanted.leader != around.me {
            self.stints.fetch_add(1, AcqRel);
            match wanted.replicas.contains(&around.me) && wanted.leader.0 >= 0 {
                true => {
                    let over = Mutex::new(false);
                    let follower = Follower { leader: wanted.leader, epoch, over, lag: AtomicI64::new(0) };
                    (Role::Follower(Arc::new(follower)), RoleChange::Follows(wanted.leader, epoch))
                }
                false => (Role::Idle(epoch), RoleChange::Idle(epoch)),
            }
        } else if wanted.replicas.len() == 1 {
            self.on_log(|log| log.raise_high_watermark(log.log_end_offset()));
            (Role::Alone(epoch), RoleChange::Leads(epoch))
        } else {
            let start = self.on_log(|log| {
                if let Err(error) = log.begin_epoch(epoch) {
                    tracing::warn!(partition = %self.name(), %error, "the beginning of a leader epoch is not written down");
                }
                match log.epoch_end_offset(LeaderEpoch(epoch.0 - 1)) {
                    // Where this epoch began, be it a while ago with fewer replicas.
                    Some((_, end)) => end,
                    None => log.log_end_offset(),
                }
            });
            let leading = Leading::new(around.me, wanted.clone(), start, around.now_ms());
            let leader = Leader {
                epoch,
                epoch_start: start,
                state: Mutex::new(Some(leading)),
                progress: Notify::new(),
            };
            (Role::Leader(Arc::new(leader)), RoleChange::Leads(epoch))
        };
        let next = Arc::new(next);
        tracing::debug!(partition = %self.name(), ?change, "role in the partition");
        self.role.store(next.clone());
        match (before, &*next) {
            (Role::Leader(leader), _) => leader.progress.notify_waiters(),
            (_, Role::Leader(leader)) => self.advance(leader),
            _ => {}
        }
        self.wake_all();
        change
    }

    fn rules(&self) -> Rules {
        self.around.rules(self.min_isr.load(Acquire))
    }

    /// Raises the high watermark as far as the followers allow.
    pub(crate) fn advance(&self, leader: &Leader) {
        let image = self.around.metadata.image();
        let state = leader.state.lock();
        let Some(leading) = &*state else { return };
        let raised = self.raise(leading, &|id| live(&image, id));
        drop(state);
        if raised {
            self.wake_all();
            leader.progress.notify_waiters();
        }
    }

    fn raise(&self, leading: &Leading, live: super::leading::Live<'_>) -> bool {
        let (end, before) = self.on_log(|log| (log.log_end_offset(), log.high_watermark()));
        let mark = leading.high_watermark(end, self.rules(), live, self.around.now_ms());
        mark.is_some_and(|mark| mark > before && self.on_log(|log| log.raise_high_watermark(mark)) > before)
    }

    /// Says which replicas are throttled.
    pub fn set_throttled(&self, topic: &TopicConfig) {
        let (index, me) = (self.name().partition.0, self.around.me.0);
        *self.throttled.write() = Sides {
            as_leader: topic.leader_throttled.names(index, me),
            as_follower: topic.follower_throttled.names(index, me),
        };
    }

    /// For how long followers that are throttled get nothing.
    pub fn throttled_for(&self) -> Option<Duration> {
        self.around.sent.pause(self.around.now_ms())
    }

    /// Whether a follower copies under a throttle: it is not in sync.
    pub fn is_throttled_for(&self, follower: BrokerId) -> bool {
        if !self.throttled.read().as_leader {
            return false;
        }
        let role = self.role.load();
        let Role::Leader(leader) = &**role else { return false };
        leader.state.lock().as_ref().is_some_and(|leading| !leading.is_in_sync(follower))
    }

    /// Takes note of what a follower was sent.
    pub fn sent(&self, bytes: usize) {
        self.around.bytes_out.fetch_add(bytes as u64, Relaxed);
        if self.throttled.read().as_leader {
            self.around.sent.record(self.around.now_ms(), bytes);
        }
    }

    /// Whether this follower is not to fetch now.
    pub(super) fn is_held_back(&self) -> bool {
        let is_throttled = self.throttled.read().as_follower;
        is_throttled && self.around.fetched.is_exceeded(self.around.now_ms()) && !self.is_in_sync()
    }

    /// Whether this replica is in the in-sync set; so is one of a partition that is not there any more.
    pub(super) fn is_in_sync(&self) -> bool {
        let image = self.around.metadata.image();
        let topic = image.topic_by_id(self.topic_id);
        let partition = topic.and_then(|topic| topic.partition(self.name().partition));
        partition.is_none_or(|partition| partition.isr.contains(&self.around.me))
    }

    /// Whether this follower is not in sync and has more to copy.
    pub(super) fn is_behind(&self) -> bool {
        let role = self.role.load();
        let Role::Follower(follower) = &**role else { return false };
        follower.lag.load(Relaxed) > 0 && !self.is_in_sync()
    }

    /// Whether there are other replicas of what this node leads.
    pub fn has_followers(&self) -> bool {
        !matches!(&**self.role.load(), Role::Alone(_))
    }

    /// A follower in `rack` that a consumer at `offset` may read from instead (KIP-392), where this node leads in another
    /// one.
    pub fn preferred_replica(&self, rack: &str, offset: Offset) -> Option<BrokerId> {
        let role = self.role.load();
        let Role::Leader(leader) = &**role else { return None };
        let image = self.around.metadata.image();
        let rack_of = |id: BrokerId| image.brokers.get(&id).and_then(|broker| broker.rack.as_deref());
        if rack_of(self.around.me) == Some(rack) || offset > self.log().high_watermark() {
            return None;
        }
        let state = leader.state.lock();
        let mut holders = state.as_ref()?.holders(offset);
        holders.find(|id| rack_of(*id) == Some(rack) && image.is_live(*id))
    }

    /// Whether a broker has another replica of what this node leads.
    pub fn has_follower(&self, id: BrokerId) -> bool {
        let role = self.role.load();
        let Role::Leader(leader) = &**role else { return false };
        leader.state.lock().as_ref().is_some_and(|leading| leading.has_follower(id))
    }

    /// Takes note of what a follower has, by its fetch in this node's epoch.
    ///
    /// # Errors
    /// `NOT_LEADER_OR_FOLLOWER` or `UNKNOWN_LEADER_EPOCH` where it is no replica as far as this node knows.
    pub fn acknowledged(self: &Arc<Self>, ack: &Acknowledged) -> Result<(), ErrorCode> {
        let role = self.role.load_full();
        let Role::Leader(leader) = &*role else { return Err(ErrorCode::UnknownLeaderEpoch) };
        let image = self.around.metadata.image();
        let live = |id| live(&image, id);
        let mut state = leader.state.lock();
        let Some(leading) = &mut *state else { return Err(ErrorCode::NotLeaderOrFollower) };
        let (end, mark) = self.on_log(|log| (log.log_end_offset(), log.high_watermark()));
        if !leading.acknowledged(ack, end, self.around.now_ms()) {
            return Err(ErrorCode::UnknownLeaderEpoch);
        }
        let own = self.around.metadata.broker_epoch();
        let wish = leading.expand(ack.follower, mark, own, &live);
        let raised = self.raise(leading, &live);
        drop(state);
        if raised {
            self.wake_all();
        }
        leader.progress.notify_waiters();
        if let Some(wish) = wish {
            self.around.expands.fetch_add(1, AcqRel);
            tracing::info!(partition = %self.name(), follower = %ack.follower, "follower has caught up and is to be in sync");
            self.around.alters.push(self, wish);
        }
        Ok(())
    }

    /// Asks for who lags behind to be taken out of the in-sync set; to be called from time to time.
    pub fn check_in_sync(self: &Arc<Self>) {
        let role = self.role.load_full();
        let Role::Leader(leader) = &*role else { return };
        let end = self.log().log_end_offset();
        let own = self.around.metadata.broker_epoch();
        let wish = match &mut *leader.state.lock() {
            Some(leading) => leading.shrink(end, self.rules(), own, self.around.now_ms()),
            None => return,
        };
        if let Some(wish) = wish {
            self.around.shrinks.fetch_add(1, AcqRel);
            tracing::info!(partition = %self.name(), isr = ?wish.isr, "followers lag behind and are not to be in sync");
            self.around.alters.push(self, wish);
        }
        self.advance(leader);
    }

    /// Draws the consequences of the controller's answer.
    pub(super) fn answered(&self, proposal: &Proposal, answer: &Answer) -> Then {
        let role = self.role.load_full();
        let Role::Leader(leader) = &*role else { return Then::Nothing };
        let then = match &mut *leader.state.lock() {
            Some(leading) if !self.is_deleted() => leading.answered(proposal, answer, self.around.now_ms()),
            _ => return Then::Nothing,
        };
        self.advance(leader);
        leader.progress.notify_waiters();
        then
    }

    /// Whether a record may be taken that all in-sync replicas are to have.
    pub fn has_enough_in_sync(&self) -> bool {
        let role = self.role.load();
        let Role::Leader(leader) = &**role else { return true };
        let state = leader.state.lock();
        state.as_ref().is_none_or(|leading| leading.may_append(self.rules()))
    }

    /// Whether the high watermark is known to be no lower than that of the leader before.
    pub fn knows_what_is_committed(&self) -> bool {
        match &**self.role.load() {
            Role::Leader(leader) => self.log().high_watermark() >= leader.epoch_start,
            _ => true,
        }
    }

    /// Counts how often this node has ceased to lead: what was appended before is not waited for afterwards.
    pub fn stint(&self) -> u64 {
        self.stints.load(Acquire)
    }

    /// Waits until all in-sync replicas have what lies below `end`, which was appended in `stint`.
    ///
    /// # Errors
    /// `NOT_LEADER_OR_FOLLOWER`: the partition was lost, and the records perhaps with it. `REQUEST_TIMED_OUT`.
    /// `NOT_ENOUGH_REPLICAS_AFTER_APPEND`: fewer than `min.insync.replicas` have it.
    pub async fn committed(&self, stint: u64, end: Offset, deadline: Instant) -> Result<(), ErrorCode> {
        self.until(stint, deadline, |leader, log| {
            let state = leader.state.lock();
            let leading = state.as_ref()?;
            (log.high_watermark() >= end).then(|| match leading.has_enough(self.rules()) {
                true => Ok(()),
                false => Err(ErrorCode::NotEnoughReplicasAfterAppend),
            })
        })
        .await
    }

    /// Waits until no live replica has records below `start`.
    ///
    /// # Errors
    /// As [`Partition::committed`].
    pub async fn deleted_everywhere(
        &self,
        stint: u64,
        start: Offset,
        deadline: Instant,
    ) -> Result<(), ErrorCode> {
        self.until(stint, deadline, |leader, log| {
            let image = self.around.metadata.image();
            let state = leader.state.lock();
            let low = state.as_ref()?.low_watermark(log.log_start_offset(), &|id| live(&image, id));
            (low >= start).then_some(Ok(()))
        })
        .await
    }

    async fn until(
        &self,
        stint: u64,
        deadline: Instant,
        done: impl Fn(&Leader, &Log) -> Option<Result<(), ErrorCode>>,
    ) -> Result<(), ErrorCode> {
        loop {
            let role = self.role.load_full();
            if self.is_deleted() {
                return Err(ErrorCode::UnknownTopicOrPartition);
            }
            if self.stint() != stint {
                return Err(ErrorCode::NotLeaderOrFollower);
            }
            let leader = match &*role {
                Role::Alone(_) => return Ok(()),
                Role::Leader(leader) => leader,
                Role::Follower(_) | Role::Idle(_) => return Err(ErrorCode::NotLeaderOrFollower),
            };
            let mut told = std::pin::pin!(leader.progress.notified());
            told.as_mut().enable();
            if let Some(outcome) = self.on_log(|log| done(leader, log)) {
                return outcome;
            }
            // The role may have changed before the notification was asked for.
            if !Arc::ptr_eq(&role, &self.role.load()) {
                continue;
            }
            if timeout_at(deadline, told).await.is_err() {
                return Err(ErrorCode::RequestTimedOut);
            }
        }
    }
}
