//! Up to where each partition is safe.

use std::collections::{HashMap, VecDeque};

use aqueduct_connect_api::TopicPartition;

/// Records that were taken and what has become of them. Requests end in any order; an offset is safe once every record
/// before it is done.
#[derive(Debug, Default)]
pub struct Tracker {
    partitions: HashMap<TopicPartition, VecDeque<Pending>>,
}

#[derive(Debug)]
struct Pending {
    offset: i64,
    done: bool,
}

impl Tracker {
    /// A record was taken. Offsets of a partition grow; one that does not starts the partition anew.
    pub fn take(&mut self, partition: &TopicPartition, offset: i64) {
        let pending = match self.partitions.get_mut(partition) {
            Some(pending) => pending,
            None => self.partitions.entry(partition.clone()).or_default(),
        };
        if pending.back().is_some_and(|last| last.offset >= offset) {
            pending.clear();
        }
        pending.push_back(Pending { offset, done: false });
    }

    /// The record is in the index, or needs nothing. Unknown records are those of partitions that were taken away.
    pub fn done(&mut self, partition: &TopicPartition, offset: i64) {
        let Some(pending) = self.partitions.get_mut(partition) else { return };
        if let Ok(at) = pending.binary_search_by_key(&offset, |p| p.offset) {
            pending[at].done = true;
        }
        while pending.front().is_some_and(|first| first.done) {
            pending.pop_front();
        }
    }

    /// The next offset to read after a crash, given what was taken: `taken` where all of it is done.
    pub fn safe(&self, partition: &TopicPartition, taken: i64) -> i64 {
        let first = self.partitions.get(partition).and_then(|pending| pending.front());
        first.map_or(taken, |first| first.offset.min(taken))
    }

    /// Forgets a partition.
    pub fn forget(&mut self, partition: &TopicPartition) {
        self.partitions.remove(partition);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(number: i32) -> TopicPartition {
        TopicPartition { topic: "t".into(), partition: number }
    }

    #[test]
    fn only_a_row_of_done_records_is_safe() {
        let mut tracker = Tracker::default();
        let p = partition(0);
        for offset in [3, 4, 7] {
            tracker.take(&p, offset);
        }
        assert_eq!(tracker.safe(&p, 8), 3);
        tracker.done(&p, 4);
        assert_eq!(tracker.safe(&p, 8), 3);
        tracker.done(&p, 3);
        assert_eq!(tracker.safe(&p, 8), 7);
        tracker.done(&p, 7);
        assert_eq!(tracker.safe(&p, 8), 8);
        assert_eq!(tracker.safe(&partition(1), 5), 5);
    }

    #[test]
    fn a_partition_that_comes_again_starts_anew() {
        let mut tracker = Tracker::default();
        let p = partition(0);
        tracker.take(&p, 5);
        tracker.take(&p, 2);
        assert_eq!(tracker.safe(&p, 3), 2);
        tracker.done(&p, 5);
        assert_eq!(tracker.safe(&p, 3), 2);
        tracker.forget(&p);
        tracker.done(&p, 2);
        assert_eq!(tracker.safe(&p, 3), 3);
    }
}
