//! All groups of one `__consumer_offsets` partition: events in, effects out.
//!
//! Nothing here waits, reads a clock or draws random numbers. What is asked of a group arrives with a [`Token`]; the answer
//! leaves as [`Effect::Reply`], at once or after later events. What must be durable before it is told leaves as
//! [`Effect::Append`], and [`Groups::on_appended`] brings the news. Committed offsets take effect when they are
//! appended, in the order of the log, so that a reload gives the same state.

mod admin;
mod commit;
mod consumer;
mod expiry;
mod fetch;
mod heartbeat;
mod join;
mod leave;
mod rebalance;
mod reload;
mod replace;
mod sync;
mod transactional;

use std::collections::HashMap;
use std::sync::Arc;

use aqueduct_protocol::ErrorCode;

#[cfg(test)]
pub use admin::GroupKind;
pub use admin::{DescribedGroup, DescribedMember, ListedGroup};
pub(super) use consumer::Undo;
pub use consumer::{DescribedConsumerGroup, DescribedConsumerMember};
pub use fetch::FetchedTopic;

use super::consumer::entry::Entry;
use super::context::{Context, Then, Writes};
use super::effect::{Effect, Reply, Token, WriteId};
use super::group::Group;
use super::ids::GroupId;
use super::options::GroupOptions;
use super::pending::OpenTransactions;
use super::record::Record;
use super::request::Now;
use super::timers::{TimerKey, Timers};
use crate::metadata::MetadataImage;

/// The groups that hash to one partition.
#[derive(Debug)]
pub struct Groups {
    options: GroupOptions,
    /// The topics that there are, for groups whose partitions are assigned here.
    image: Arc<MetadataImage>,
    groups: HashMap<GroupId, Group>,
    timers: Timers,
    writes: Writes,
    /// Offsets of transactions that have not ended.
    open: OpenTransactions,
}

impl Groups {
    /// No groups; fed by [`Groups::replay`] and then [`Groups::on_loaded`].
    pub fn new(options: GroupOptions) -> Self {
        Self {
            options,
            image: Arc::default(),
            groups: HashMap::new(),
            timers: Timers::default(),
            writes: Writes::default(),
            open: OpenTransactions::default(),
        }
    }

    /// Takes the metadata as they are now. Groups that read one of the topics that have changed look again when they
    /// are next heard of.
    pub fn on_metadata(&mut self, image: &Arc<MetadataImage>, changed: &[Arc<str>]) {
        if image.version >= self.image.version {
            self.image = image.clone();
        }
        for group in self.groups.values_mut() {
            let Some(consumer) = group.consumer.as_deref_mut() else { continue };
            consumer.patterns_stale = true;
            consumer.stale |= changed.iter().any(|topic| consumer.state.is_subscribed(topic));
        }
    }

    /// How many groups there are.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there are none.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// When [`Groups::on_tick`] is due, on the clock of [`Now::tick_ms`].
    pub fn next_deadline(&self) -> Option<i64> {
        self.timers.next_deadline()
    }

    /// Lets everything happen that is due by now.
    pub fn on_tick(&mut self, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        while let Some(key) = self.timers.pop(now.tick_ms) {
            match key {
                TimerKey::Expiry => self.expire(now, &mut effects),
                TimerKey::Join(id) => self.with(now, &mut effects, &id, Group::on_join_deadline),
                TimerKey::Sync(id) => self.with(now, &mut effects, &id, Group::on_sync_deadline),
                TimerKey::Session(id, member) => {
                    self.with(now, &mut effects, &id, |group, cx| match group.consumer {
                        None => group.on_session_deadline(cx, &member),
                        Some(_) => group.on_consumer_session_deadline(cx, &member),
                    })
                }
                TimerKey::Rebalance(id, member) => {
                    self.with(now, &mut effects, &id, |group, cx| group.on_rebalance_deadline(cx, &member))
                }
                TimerKey::ClassicJoin(id, member) | TimerKey::ClassicSync(id, member) => {
                    self.with(now, &mut effects, &id, |group, cx| group.on_classic_deadline(cx, &member))
                }
            }
        }
        effects
    }

    /// Takes the outcome of an append; appends end in the order in which they were asked for.
    pub fn on_appended(&mut self, now: Now, write: WriteId, result: Result<(), ErrorCode>) -> Vec<Effect> {
        let mut effects = Vec::new();
        let Some((records, then)) = self.writes.take(write) else { return effects };
        let result = result.map_err(append_error);
        match then {
            Then::Nothing => {}
            Then::Apply => {
                if result.is_ok() {
                    self.apply(write, &records);
                }
            }
            Then::Answer { token, codes } => {
                if result.is_ok() {
                    self.apply(write, &records);
                }
                effects.push(Effect::Reply(token, Reply::Partitions(result.map(|()| codes))));
            }
            Then::Pending { group, token, codes, producer } => {
                if result.is_ok() {
                    records.iter().for_each(|record| self.replay_transactional(producer, record.clone()));
                } else if self.groups.get(&group).is_some_and(Group::is_forgettable) {
                    self.forget(&group);
                }
                effects.push(Effect::Reply(token, Reply::Partitions(result.map(|()| codes))));
            }
            Then::Marker { token, marker } => {
                if result.is_ok() {
                    self.replay_marker(marker.producer, marker.committed);
                }
                let code = result.err().unwrap_or(ErrorCode::None);
                effects.push(Effect::Reply(token, Reply::Marker(code)));
            }
            Then::Delete { group, token } => {
                if result.is_ok() {
                    self.apply(write, &records);
                    if self.groups.get(&group).is_some_and(|g| g.has_no_members() && !g.offsets.is_empty()) {
                        // Offsets that were being committed when the deletion was asked for.
                        return self.on_delete(now, token, &group);
                    }
                }
                let code = result.err().unwrap_or(ErrorCode::None);
                effects.push(Effect::Reply(token, Reply::Delete(code)));
            }
            Then::Assign { group, generation, assignments } => {
                self.with(now, &mut effects, &group, |group, cx| {
                    group.on_assigned(cx, generation, assignments, result);
                });
            }
            Then::Consumer { group, reply } => {
                self.with(now, &mut effects, &group, |group, cx| group.on_written(cx, write, result));
                if let Some((token, reply)) = reply {
                    let reply = match result {
                        Ok(()) => reply,
                        Err(error) => reply.failed(error),
                    };
                    effects.push(Effect::Reply(token, reply));
                }
            }
            Then::Replace(replacement) => {
                let id = replacement.group.clone();
                self.with(now, &mut effects, &id, |group, cx| group.on_replaced(cx, *replacement, result));
            }
        }
        effects
    }

    /// Lets appended records take effect, as a reload would. The state of a group is kept by its transitions: only its
    /// end is taken from here, and not when someone has come or more was written meanwhile.
    fn apply(&mut self, write: WriteId, records: &[Record]) {
        for record in records {
            match record {
                Record::Offset { .. } => self.apply_offset(record.clone()),
                Record::Group { group, value: None }
                | Record::Consumer { group, entry: Entry::Epoch(None) } => {
                    let gone = |g: &Group| {
                        g.last_write == Some(write)
                            && g.has_no_members()
                            && g.pending_join.is_empty()
                            && g.offsets.is_empty()
                            && !self.open.holds_any(group.as_str())
                    };
                    if self.groups.get(group).is_some_and(gone) {
                        self.forget(group);
                    }
                }
                Record::Group { .. } | Record::Consumer { .. } => {}
            }
        }
    }

    fn forget(&mut self, id: &GroupId) {
        self.groups.remove(id);
        self.timers.cancel(&TimerKey::Join(id.clone()));
        self.timers.cancel(&TimerKey::Sync(id.clone()));
    }

    /// Runs a transition on a group that there is, and forgets the group if nothing is left of it.
    fn with(
        &mut self,
        now: Now,
        effects: &mut Vec<Effect>,
        id: &GroupId,
        act: impl FnOnce(&mut Group, &mut Context<'_>),
    ) {
        let Some(group) = self.groups.get_mut(id) else { return };
        let mut cx = Context {
            now,
            options: &self.options,
            image: &self.image,
            timers: &mut self.timers,
            writes: &mut self.writes,
            open: &self.open,
            effects,
        };
        act(group, &mut cx);
        if group.is_forgettable() {
            self.forget(id);
        }
    }

    /// The same for requests: they are answered by `missing` where there is no such group.
    fn ask(
        &mut self,
        now: Now,
        id: &GroupId,
        token: Token,
        missing: impl FnOnce() -> Reply,
        act: impl FnOnce(&mut Group, &mut Context<'_>),
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.groups.contains_key(id) {
            self.with(now, &mut effects, id, act);
        } else {
            effects.push(Effect::Reply(token, missing()));
        }
        effects
    }

    #[cfg(test)]
    pub(super) fn group(&self, id: &str) -> Option<&Group> {
        self.groups.get(id)
    }

    #[cfg(test)]
    pub(super) fn timers(&self) -> &Timers {
        &self.timers
    }
}

/// What a client is told when the partition could not take a record.
fn append_error(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::RequestTimedOut => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch | ErrorCode::KafkaStorageError => {
            ErrorCode::NotCoordinator
        }
        ErrorCode::RecordListTooLarge | ErrorCode::MessageTooLarge => ErrorCode::UnknownServerError,
        other => other,
    }
}

#[cfg(test)]
mod tests;
