//! Leaders go back to the first of their replicas after a while (`auto.leader.rebalance.enable`).

use super::Controller;
use super::change::Election;
use crate::metadata::Record;

/// Elections at a time; what is left follows with the next tick, so that no entry of the log grows without bounds.
const AT_ONCE: usize = 1_000;

/// When leaders are given back.
#[derive(Debug, Default)]
pub(super) struct Balance {
    /// When what was found to be imbalanced is mended.
    due_ms: Option<i64>,
}

impl Balance {
    /// Whether it is time to elect; an imbalance lasts for an interval first, so that brokers that restart one after
    /// another are not handed partitions in between.
    fn is_due(&mut self, now_ms: i64, interval_ms: i64, is_imbalanced: impl FnOnce() -> bool) -> bool {
        match self.due_ms {
            None => {
                if is_imbalanced() {
                    self.due_ms = Some(now_ms.saturating_add(interval_ms));
                }
                false
            }
            Some(due_ms) => due_ms <= now_ms,
        }
    }
}

impl Controller {
    /// Gives leaders back, where it is time to.
    pub(super) fn balance(&mut self, now_ms: i64) {
        let Some(interval_ms) = self.settings.balance_interval_ms else { return };
        let image = &self.image;
        let is_imbalanced = || {
            let mut partitions = image.topics().flat_map(|topic| topic.partitions.iter());
            partitions.any(|partition| partition.replicas.first() != Some(&partition.leader))
        };
        if !self.balance.is_due(now_ms, interval_ms, is_imbalanced) {
            return;
        }
        let elected = self.elect_preferred(AT_ONCE);
        self.balance.due_ms = (elected == AT_ONCE).then_some(now_ms);
    }

    /// Gives partitions back to the first of their replicas, where that is able to lead; at most `limit` of them.
    pub fn balance_leaders(&mut self, limit: usize) -> Vec<Record> {
        self.elect_preferred(limit);
        std::mem::take(&mut self.records)
    }

    fn elect_preferred(&mut self, limit: usize) -> usize {
        self.change_some(
            limit,
            |partition, _| partition.replicas.first() != Some(&partition.leader),
            |change| {
                change.election = Election::Preferred;
                change.build().is_some_and(|(next, _)| Some(&next.leader) == next.replicas.first())
            },
        )
    }
}
