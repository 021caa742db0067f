//! Brokers that come, show that they live, and go.

use std::collections::BTreeSet;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::{BrokerId, Uuid};

use super::{Controller, Heartbeat, Registration, Reply};
use crate::metadata::features::{self, Feature};
use crate::metadata::{
    BrokerEpoch, BrokerState, ClusterRecord, Command, Outcome, Record, Rejection, decide, without,
};

/// Why a broker is not forgotten.
pub(crate) fn still_running(id: BrokerId) -> Rejection {
    let why = format!(
        "Broker {id} is running, or was until a moment ago: stop it, and wait for broker.session.timeout.ms if it was killed"
    );
    Rejection::new(ErrorCode::InvalidRequest, why)
}

/// Why a process does not get a broker's id.
pub(crate) fn another_runs(id: BrokerId) -> Rejection {
    let why = format!(
        "Another broker is registered with the ID {id}. If the broker was restarted, this ends with its session"
    );
    Rejection::new(ErrorCode::DuplicateBrokerRegistration, why)
}

impl Controller {
    pub(super) fn register(&mut self, now_ms: i64, wanted: &Registration) -> Result<Reply, Rejection> {
        self.check_registration(now_ms, wanted)?;
        let id = wanted.broker.id;
        let known = self.image.broker_state(id).cloned();
        let same =
            self.image.brokers.get(&id).is_some_and(|old| old.incarnation == wanted.broker.incarnation);
        if let Some(state) = known.as_ref().filter(|_| same) {
            // The answer to its first request was lost.
            self.sessions.touch(id, now_ms, 0);
            return Ok(Reply::Registered(state.epoch));
        }
        if known.as_ref().is_some_and(|state| !state.fenced) {
            self.set_state(id, |state| state.fenced = true);
        }
        let clean = known.is_some_and(|state| state.epoch == wanted.previous_epoch);
        self.relieve(&[id], !clean);
        self.push(Record::BrokerRegistered(wanted.broker.clone()));
        let epoch = BrokerEpoch(i64::try_from(self.image.version).unwrap_or(i64::MAX).saturating_add(1));
        let state =
            BrokerState { epoch, fenced: true, shutting_down: false, features: wanted.features.clone() };
        self.push(Record::Cluster(ClusterRecord::Broker { id, state }));
        self.online_directories(id, &wanted.directories)?;
        self.sessions.begin(id, now_ms);
        Ok(Reply::Registered(epoch))
    }

    /// Takes over which directories a broker can use: replicas in others are in no in-sync set, and not known to have
    /// anything when they come back.
    pub(super) fn online_directories(
        &mut self,
        id: BrokerId,
        directories: &BTreeSet<Uuid>,
    ) -> Result<Outcome, Rejection> {
        let command = Command::OnlineDirectories { broker: id, directories: directories.clone() };
        let (records, outcome) = decide(&self.image, &command)?;
        // Leaders are a matter of this controller, which knows who is fenced.
        let told = records.into_iter().filter(|record| matches!(record, Record::Directory(_)));
        told.for_each(|record| self.push(record));
        self.change_partitions(
            |partition, state| {
                let holds = partition.isr.contains(&id) || state.elr.contains(&id);
                partition.leader == super::change::NO_LEADER || holds
            },
            |change| {
                if change.is_offline(id) {
                    change.isr = Some(without(&change.partition.isr, &[id]));
                    change.unclean = vec![id];
                }
                true
            },
        );
        Ok(outcome)
    }

    fn check_registration(&self, now_ms: i64, wanted: &Registration) -> Result<(), Rejection> {
        let id = wanted.broker.id;
        if wanted.cluster_id != self.image.cluster_id {
            let why = format!(
                "Expected cluster ID {}, but broker {id} is of cluster {}; check its log.dirs and controller.quorum.bootstrap.servers",
                self.image.cluster_id, wanted.cluster_id
            );
            return Err(Rejection::new(ErrorCode::InconsistentClusterId, why));
        }
        let serves = |feature: &&Feature| {
            let level = self.image.level(feature);
            let range = wanted.features.get(feature.name);
            level == 0 || range.is_some_and(|(min, max)| (*min..=*max).contains(&level))
        };
        if let Some(feature) = features::FEATURES.iter().find(|feature| !serves(feature)) {
            let why = format!(
                "Unable to register because the broker does not support finalized version {} of {}",
                self.image.level(feature),
                feature.name
            );
            return Err(Rejection::new(ErrorCode::UnsupportedVersion, why));
        }
        let (old, state) = (self.image.brokers.get(&id), self.image.broker_state(id));
        if let (Some(old), Some(state)) = (old, state)
            && old.incarnation != wanted.broker.incarnation
            && !state.shutting_down
            && self.sessions.is_valid(id, now_ms)
            && !self.is_restart(wanted)
        {
            return Err(another_runs(id));
        }
        Ok(())
    }

    /// Whether a process holds the directories of one that this controller has never heard: as they are locked, that one has
    /// ended. Had all nodes ended, they would wait for sessions of nobody.
    fn is_restart(&self, wanted: &Registration) -> bool {
        let id = wanted.broker.id;
        let known = self.image.directories.online(id);
        !self.sessions.was_heard(id) && known.is_some_and(|known| !known.is_disjoint(&wanted.directories))
    }

    /// Checks that a request is of the broker's present registration.
    pub(super) fn check_epoch(&self, id: BrokerId, epoch: BrokerEpoch) -> Result<&BrokerState, Rejection> {
        let Some(state) = self.image.broker_state(id).filter(|_| self.is_registered(id)) else {
            let why = format!("Broker ID {id} is not currently registered");
            return Err(Rejection::new(ErrorCode::BrokerIdNotRegistered, why));
        };
        if state.epoch != epoch {
            let why = format!("Expected broker epoch {}, but got broker epoch {epoch}", state.epoch);
            return Err(Rejection::new(ErrorCode::StaleBrokerEpoch, why));
        }
        Ok(state)
    }

    pub(super) fn heartbeat(&mut self, now_ms: i64, beat: &Heartbeat) -> Result<Reply, Rejection> {
        let id = beat.broker;
        let state = self.check_epoch(id, beat.epoch)?.clone();
        self.sessions.touch(id, now_ms, beat.applied);
        let caught_up = i64::try_from(beat.applied).is_ok_and(|applied| applied >= state.epoch.0);
        let mut should_shut_down = false;
        if state.fenced {
            if beat.want_shut_down {
                should_shut_down = true;
            } else if !beat.want_fence && caught_up {
                self.unfence(id);
            }
        } else if beat.want_fence {
            self.fence(id);
            should_shut_down = beat.want_shut_down;
        } else if beat.want_shut_down {
            should_shut_down = self.shut_down(id, state.shutting_down);
        } else if state.shutting_down {
            // It thought better of it, which only a broker of ours would: it may lead again.
            self.set_state(id, |state| state.shutting_down = false);
            self.elect_for(id);
        }
        if should_shut_down {
            // It may be started again at once.
            self.sessions.end(id);
        }
        let fenced = self.image.broker_state(id).is_some_and(|state| state.fenced);
        Ok(Reply::Heartbeat { caught_up, fenced, should_shut_down })
    }

    /// Relieves a broker of its partitions; true when it may stop.
    fn shut_down(&mut self, id: BrokerId, began: bool) -> bool {
        if !began {
            self.set_state(id, |state| state.shutting_down = true);
        }
        let most = self.settings.relieved_at_once;
        if self.relieve_some(&[id], false, most) == most {
            return false;
        }
        // Anew where another controller has taken over meanwhile.
        self.sessions.leave_at(id, self.image.version);
        let live: Vec<_> =
            self.image.brokers.keys().copied().filter(|other| self.image.is_live(*other)).collect();
        if !self.sessions.may_leave(id, live.into_iter()) {
            return false;
        }
        self.fence(id);
        true
    }

    /// From now on the broker leads nothing and is in no in-sync set.
    fn fence(&mut self, id: BrokerId) {
        self.fence_all(&[id]);
    }

    /// Fences brokers at once: none of them may be elected in the place of another.
    pub(super) fn fence_all(&mut self, ids: &[BrokerId]) {
        let mut fenced = Vec::new();
        for id in ids.iter().copied() {
            if self.image.broker_state(id).is_some_and(|state| !state.fenced) {
                self.set_state(id, |state| {
                    state.fenced = true;
                    state.shutting_down = false;
                });
                fenced.push(id);
            }
        }
        if !fenced.is_empty() {
            self.relieve(&fenced, false);
        }
    }

    fn unfence(&mut self, id: BrokerId) {
        self.set_state(id, |state| state.fenced = false);
        self.elect_for(id);
    }

    /// Has partitions without a leader look whether this broker can be it.
    fn elect_for(&mut self, id: BrokerId) {
        self.change_partitions(
            |partition, _| partition.leader == super::change::NO_LEADER && partition.replicas.contains(&id),
            |_| true,
        );
    }

    /// Takes brokers out of in-sync sets and leaderships. `unclean`: they may have lost what they had.
    fn relieve(&mut self, ids: &[BrokerId], unclean: bool) {
        self.relieve_some(ids, unclean, usize::MAX);
    }

    /// The same for no more than `most` partitions; says how many there were.
    fn relieve_some(&mut self, ids: &[BrokerId], unclean: bool, most: usize) -> usize {
        let has = |list: &[BrokerId]| list.iter().any(|id| ids.contains(id));
        self.change_some(
            most,
            |partition, state| has(&[partition.leader]) || has(&partition.isr) || unclean && has(&state.elr),
            |change| {
                change.isr = Some(without(&change.partition.isr, ids));
                if unclean {
                    change.unclean = ids.to_vec();
                }
                true
            },
        )
    }

    fn set_state(&mut self, id: BrokerId, set: impl FnOnce(&mut BrokerState)) {
        let mut state = self.image.broker_state(id).cloned().unwrap_or_default();
        set(&mut state);
        self.push(Record::Cluster(ClusterRecord::Broker { id, state }));
    }

    pub(super) fn unregister(&mut self, id: BrokerId, command: &Command) -> Result<Outcome, Rejection> {
        if self.image.is_unfenced(id) {
            return Err(still_running(id));
        }
        let outcome = self.decide(command)?;
        self.sessions.end(id);
        Ok(outcome)
    }

    /// Whether all brokers can work at a level.
    pub(super) fn check_feature(&self, name: &str, level: i16) -> Result<(), Rejection> {
        for id in self.image.brokers.keys() {
            let range = self.image.broker_state(*id).and_then(|state| state.features.get(name));
            if let Some((min, max)) = range
                && level != 0
                && !(*min..=*max).contains(&level)
            {
                let why = format!(
                    "Invalid update version {level} for feature {name}. Broker {id} only supports versions {min}-{max}"
                );
                return Err(Rejection::new(ErrorCode::InvalidUpdateVersion, why));
            }
        }
        Ok(())
    }
}
