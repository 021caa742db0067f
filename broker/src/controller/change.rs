//! How a partition changes: one builder, so that every way to another leader follows the same rules.
//!
//! The order is that of Kafka's controller: a reassignment that is done is completed, the eligible leader replicas are
//! settled, then the leader is chosen among the in-sync replicas, or, where these are none, among the eligible ones. Where these
//! have all ended without order it is the one with the longest log, whoever led last.

use aqueduct_protocol::ids::{BrokerId, PartitionIndex, Uuid};

use super::recovery::Finding;
use crate::metadata::{MetadataImage, PartitionImage, PartitionState, without};

/// How a leader is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Election {
    /// One that has everything up to the high watermark, the present one first.
    Online,
    /// As `Online`, but the first replica comes before the present leader.
    Preferred,
    /// As `Online`, and where there is none, any live replica: records may be lost.
    Unclean,
}

/// No leader.
pub(super) const NO_LEADER: BrokerId = BrokerId(-1);

/// A change of one partition that is being made up.
#[derive(Debug)]
pub(super) struct Change<'a> {
    pub image: &'a MetadataImage,
    pub topic: Uuid,
    pub index: PartitionIndex,
    pub partition: &'a PartitionImage,
    pub state: &'a PartitionState,
    /// Who has told where its log ends, while nobody is known to have everything.
    pub finding: Finding,
    pub min_isr: usize,
    /// Whether eligible leader replicas are kept (KIP-966).
    pub keeps_elr: bool,
    pub election: Election,
    /// The in-sync set from now on, where it changes.
    pub isr: Option<Vec<BrokerId>>,
    /// Brokers that may have lost what they had.
    pub unclean: Vec<BrokerId>,
    /// Replicas, adding and removing from now on, where they change.
    pub replicas: Option<[Vec<BrokerId>; 3]>,
    /// Whether the leader recovers, where it has told.
    pub recovering: Option<bool>,
}

impl Change<'_> {
    /// Whether a broker has its replica in a log directory that it cannot use.
    pub(super) fn is_offline(&self, id: BrokerId) -> bool {
        self.image.directories.is_offline(self.topic, self.index, id)
    }

    /// The partition afterwards, with raised epochs; `None` where it stays as it is.
    pub(super) fn build(&self) -> Option<(PartitionImage, PartitionState)> {
        let (mut next, mut state) = (self.partition.clone(), self.state.clone());
        if let Some([replicas, adding, removing]) = &self.replicas {
            next.replicas.clone_from(replicas);
            state.adding.clone_from(adding);
            state.removing.clone_from(removing);
        }
        if let Some(isr) = &self.isr {
            next.isr.clone_from(isr);
        }
        // One that is about to stop leaves with any change.
        next.isr.retain(|id| self.image.is_live(*id));
        if let Some(recovering) = self.recovering {
            state.recovering = recovering;
        }
        complete_reassignment(&mut next, &mut state);
        self.settle_elr(&next, &mut state);
        self.elect(&mut next, &mut state);
        if next.isr.is_empty() && !self.keeps_elr {
            // Without eligible replicas the last of the set stay in it: they are those that can lead again.
            next.isr = self.partition.isr.iter().filter(|id| next.replicas.contains(id)).copied().collect();
        }
        if next == *self.partition && state == *self.state {
            return None;
        }
        let left = self.partition.replicas.iter().any(|id| !next.replicas.contains(id));
        if next.leader != self.partition.leader || left {
            // A replica that was taken away must not go on fetching in the same epoch.
            next.leader_epoch.0 += 1;
        }
        next.partition_epoch += 1;
        Some((next, state))
    }

    /// Who leaves the in-sync set when that falls below its minimum has everything that was acknowledged, as the high
    /// watermark stands still from then on.
    fn settle_elr(&self, next: &PartitionImage, state: &mut PartitionState) {
        let enough = self.min_isr.min(next.replicas.len());
        if !self.keeps_elr || next.isr.len() >= enough {
            state.elr.clear();
            state.last_known_leader = None;
            return;
        }
        let mut candidates = state.elr.clone();
        candidates.extend(without(&self.partition.isr, &state.elr));
        candidates.retain(|id| next.replicas.contains(id) && !next.isr.contains(id));
        state.elr = without(&candidates, &self.unclean);
        if next.isr.is_empty() && state.last_known_leader.is_none() && self.partition.leader != NO_LEADER {
            state.last_known_leader = Some(self.partition.leader);
        }
    }

    fn elect(&self, next: &mut PartitionImage, state: &mut PartitionState) {
        let is_live =
            |id: &BrokerId| self.image.is_live(*id) && next.replicas.contains(id) && !self.is_offline(*id);
        let from_elr = self.keeps_elr && next.isr.is_empty();
        let able =
            |id: &BrokerId| is_live(id) && (next.isr.contains(id) || from_elr && state.elr.contains(id));
        let preferred = next.replicas.first().filter(|id| self.election == Election::Preferred && able(id));
        let clean = preferred
            .or(Some(&next.leader).filter(|id| able(id)))
            .or(next.replicas.iter().find(|id| able(id)));
        if let Some(leader) = clean.copied() {
            if from_elr {
                next.isr = vec![leader];
                state.elr.retain(|id| *id != leader);
                if next.isr.len() >= self.min_isr.min(next.replicas.len()) {
                    state.elr.clear();
                }
            }
            next.leader = leader;
            state.last_known_leader = None;
            return;
        }
        let last = state.last_known_leader.filter(|_| from_elr && state.elr.is_empty());
        let longest = self.finding.ranked.iter().copied().find(is_live);
        let found = match &*next.replicas {
            [only] => last.filter(|last| last == only && is_live(last)),
            _ => last.and(longest).filter(|_| self.finding.is_sure),
        };
        let any = longest.or_else(|| next.replicas.iter().copied().find(is_live));
        let any = any.filter(|_| self.election == Election::Unclean);
        next.leader = found.or(any).unwrap_or(NO_LEADER);
        if next.leader != NO_LEADER {
            next.isr = vec![next.leader];
            *state = PartitionState {
                recovering: true,
                elr: Vec::new(),
                last_known_leader: None,
                ..state.clone()
            };
        }
    }
}

/// Ends a reassignment when all added replicas are in sync.
fn complete_reassignment(next: &mut PartitionImage, state: &mut PartitionState) {
    if !state.is_reassigning() {
        return;
    }
    let (targets, isr) = (without(&next.replicas, &state.removing), without(&next.isr, &state.removing));
    let had = next.replicas.len() - state.adding.len();
    // Where there will be fewer replicas than there were, all that stay must be in sync.
    let needed = if targets.len() < had { &targets } else { &state.adding };
    if isr.is_empty() || !needed.iter().all(|id| isr.contains(id)) {
        return;
    }
    (next.replicas, next.isr) = (targets, isr);
    state.adding.clear();
    state.removing.clear();
}
