//! What the controller counts of its own decisions.

use crate::metadata::{ClusterRecord, MetadataImage, Record};

use super::change::NO_LEADER;

/// Counts since they were taken last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Partitions that got another leader.
    pub elections: u64,
    /// Of those: leaders that may lack records.
    pub unclean: u64,
    /// Of those: leaders that were not in sync, but hold all that was acknowledged (KIP-966).
    pub eligible: u64,
    /// Brokers that were fenced because they were not heard of.
    pub timed_out: u64,
}

impl Tally {
    /// Takes note of a record that is about to change `image`.
    pub(super) fn note(&mut self, image: &MetadataImage, record: &Record) {
        let Record::Cluster(ClusterRecord::Partition { topic, index, partition, state }) = record else {
            return;
        };
        let Some(before) = image.topic_by_id(*topic).and_then(|topic| topic.partition(*index)) else {
            return;
        };
        if partition.leader == before.leader || partition.leader == NO_LEADER {
            return;
        }
        self.elections += 1;
        let was_eligible = image.partition_state(*topic, *index).elr.contains(&partition.leader);
        if was_eligible && !before.isr.contains(&partition.leader) {
            self.eligible += 1;
        } else if state.recovering {
            self.unclean += 1;
        }
    }
}
