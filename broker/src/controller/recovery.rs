//! Partitions of which nobody is known to have everything: every replica that could have led has ended without order, so
//! each may have lost the end of its log. Their replicas tell where their logs end, and the one with the most leads.
//!
//! Logs are compared by the epoch of their last record, then by their ends: of two logs in one epoch the longer has all
//! of the shorter, and a leader of a later epoch began with all that was acknowledged before. So replicas that never were
//! candidates count as well, such as one that stopped in order while the others had crashed and nobody knew yet.
//!
//! Nothing of it is in the log of the quorum: brokers tell again for as long as nobody leads.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use aqueduct_protocol::ids::{BrokerId, LeaderEpoch, Offset, PartitionIndex, Uuid};

use super::{Controller, LogEnds, Reply};
use crate::metadata::{BrokerEpoch, PartitionImage, PartitionState, Rejection};

/// Who has told, of all partitions that wait for it.
#[derive(Debug)]
pub(super) struct Recoveries {
    partitions: BTreeMap<(Uuid, i32), Recovery>,
    now_ms: i64,
    /// Time in which this process ran, in milliseconds.
    ran_ms: i64,
}

/// What is known of one partition.
#[derive(Debug)]
struct Recovery {
    /// That of the partition; what was told before it counts no more.
    leader_epoch: LeaderEpoch,
    /// When the leader before told.
    since_ms: Option<i64>,
    told: BTreeMap<BrokerId, Told>,
}

/// What one replica told.
#[derive(Debug, Clone, Copy)]
struct Told {
    /// The registration in which it did.
    registration: BrokerEpoch,
    last: (LeaderEpoch, Offset),
}

/// Who could lead a partition, by what was told.
#[derive(Debug, Default)]
pub(super) struct Finding {
    /// The live replicas that have told, the one with the most first.
    pub ranked: Vec<BrokerId>,
    /// Whether enough of them have.
    pub is_sure: bool,
}

impl Recoveries {
    pub(super) fn new(now_ms: i64) -> Self {
        Self { partitions: BTreeMap::new(), now_ms, ran_ms: 0 }
    }

    /// Moves the time on, by `most_ms` at a time: in a leap nobody could be heard.
    pub(super) fn advance(&mut self, now_ms: i64, most_ms: i64) {
        self.ran_ms += (now_ms - self.now_ms).clamp(0, most_ms);
        self.now_ms = self.now_ms.max(now_ms);
    }
}

impl Controller {
    /// Takes note of where logs of a broker end, and has partitions led of which that was the last to know. Partitions
    /// that do not wait for it (any more) are passed over.
    pub(super) fn log_ends(&mut self, wanted: &LogEnds) -> Result<Reply, Rejection> {
        let registration = self.check_epoch(wanted.broker, wanted.epoch)?.epoch;
        for end in &wanted.ends {
            let found = self.image.topic_by_id(end.topic).and_then(|topic| topic.partition(end.index));
            let Some(partition) = found else { continue };
            let state = self.image.partition_state(end.topic, end.index);
            let is_asked = state.awaits_log_ends(partition)
                && partition.leader_epoch == end.leader_epoch
                && partition.replicas.contains(&wanted.broker);
            if !is_asked {
                continue;
            }
            let is_last_leader = state.last_known_leader == Some(wanted.broker);
            let ran_ms = self.recoveries.ran_ms;
            let epoch = end.leader_epoch;
            let fresh = || Recovery { leader_epoch: epoch, since_ms: None, told: BTreeMap::new() };
            let recovery = self.recoveries.partitions.entry((end.topic, end.index.0)).or_insert_with(fresh);
            if recovery.leader_epoch != epoch {
                *recovery = fresh();
            }
            if is_last_leader {
                recovery.since_ms.get_or_insert(ran_ms);
            }
            recovery.told.insert(wanted.broker, Told { registration, last: (end.last_epoch, end.end) });
            self.change_partition(end.topic, end.index);
        }
        Ok(Reply::Noted)
    }

    /// Who could lead a partition, by what was told.
    pub(super) fn finding(
        &self,
        (topic, index): (Uuid, PartitionIndex),
        partition: &PartitionImage,
        state: &PartitionState,
    ) -> Finding {
        let Some(recovery) = self.recoveries.partitions.get(&(topic, index.0)) else {
            return Finding::default();
        };
        if recovery.leader_epoch != partition.leader_epoch {
            return Finding::default();
        }
        let told = |id: BrokerId| {
            let told = recovery.told.get(&id)?;
            let is_same = self.image.broker_state(id).is_some_and(|state| state.epoch == told.registration);
            let is_able = self.image.is_live(id) && !self.image.directories.is_offline(topic, index, id);
            (is_same && is_able).then_some(told.last)
        };
        let mut ranked: Vec<_> = partition.replicas.iter().filter_map(|id| Some((*id, told(*id)?))).collect();
        ranked.sort_by_key(|(id, last)| (Reverse(*last), state.last_known_leader != Some(*id)));
        let waited_ms = recovery.since_ms.map_or(0, |since_ms| self.recoveries.ran_ms - since_ms);
        let has_last_leader = ranked.iter().any(|(id, _)| state.last_known_leader == Some(*id));
        let is_sure = has_last_leader
            && (ranked.len() == partition.replicas.len() || waited_ms >= self.settings.recovery_wait_ms);
        Finding { ranked: ranked.into_iter().map(|(id, _)| id).collect(), is_sure }
    }

    /// Has partitions led that have waited for long enough.
    pub(super) fn recover(&mut self) {
        let waiting: Vec<_> = self.recoveries.partitions.keys().copied().collect();
        for (topic, index) in waiting {
            let index = PartitionIndex(index);
            let found = self.image.topic_by_id(topic).and_then(|topic| topic.partition(index));
            let state = self.image.partition_state(topic, index);
            match found.is_some_and(|partition| state.awaits_log_ends(partition)) {
                true => self.change_partition(topic, index),
                false => drop(self.recoveries.partitions.remove(&(topic, index.0))),
            }
        }
    }
}
