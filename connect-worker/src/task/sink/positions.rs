//! How far a sink task has got in each partition: read, taken by the sink, committed.

use std::collections::BTreeMap;

use aqueduct_connect_api::TopicPartition;
use bytestring::ByteString;

#[derive(Debug, Default)]
struct Position {
    /// Offset after the last record that was converted.
    read: Option<i64>,
    /// Offset after the last record that `put` has accepted.
    taken: Option<i64>,
    committed: Option<i64>,
}

/// Positions of the partitions that the task owns. All offsets are those of the next record.
#[derive(Debug, Default)]
pub struct Positions(BTreeMap<TopicPartition, Position>);

impl Positions {
    pub fn new() -> Self {
        Self::default()
    }

    /// A partition is the task's; `at` is where it will read, where that is known.
    pub fn open(&mut self, partition: TopicPartition, at: Option<i64>) {
        self.0.insert(partition, Position { read: at, taken: at, committed: at });
    }

    pub fn close(&mut self, partitions: &[TopicPartition]) {
        self.0.retain(|partition, _| !partitions.contains(partition));
    }

    /// The partitions that the task owns.
    pub fn partitions(&self) -> Vec<TopicPartition> {
        self.0.keys().cloned().collect()
    }

    /// Records from `first` to `last` were read.
    pub fn read(&mut self, topic: &ByteString, partition: i32, first: i64, last: i64) {
        let partition = TopicPartition { topic: topic.clone(), partition };
        if let Some(position) = self.0.get_mut(&partition) {
            // Where nothing was known before, this is where the partition began.
            position.committed.get_or_insert(first);
            position.taken.get_or_insert(first);
            position.read = Some(last + 1);
        }
    }

    /// The sink has accepted everything read.
    pub fn taken(&mut self) {
        self.0.values_mut().for_each(|position| position.taken = position.read);
    }

    /// What the sink has accepted of these partitions and is not committed.
    pub fn of(&self, partitions: &[TopicPartition]) -> Vec<(TopicPartition, i64)> {
        let changed = |p: &TopicPartition| {
            let position = self.0.get(p)?;
            let taken = position.taken?;
            (position.committed != Some(taken)).then(|| (p.clone(), taken))
        };
        partitions.iter().filter_map(changed).collect()
    }

    /// The part of what the sink confirms that may be committed: of these partitions, and not ahead of what it has taken.
    pub fn to_commit(
        &self,
        partitions: &[TopicPartition],
        confirmed: &[(TopicPartition, i64)],
    ) -> Vec<(TopicPartition, i64)> {
        confirmed
            .iter()
            .filter(|(partition, offset)| {
                partitions.contains(partition)
                    && self.0.get(partition).is_some_and(|position| {
                        position.taken.is_some_and(|taken| *offset <= taken)
                            && position.committed != Some(*offset)
                    })
            })
            .cloned()
            .collect()
    }

    /// These offsets are committed.
    pub fn committed(&mut self, offsets: &[(TopicPartition, i64)]) {
        for (partition, offset) in offsets {
            if let Some(position) = self.0.get_mut(partition)
                && position.taken.is_some_and(|taken| *offset <= taken)
            {
                position.committed = Some(*offset);
            }
        }
    }

    /// Goes back to the last commit; returns where to read again.
    pub fn rewind(&mut self, partitions: &[TopicPartition]) -> Vec<(TopicPartition, i64)> {
        let mut back = Vec::new();
        for partition in partitions {
            if let Some(position) = self.0.get_mut(partition)
                && let Some(committed) = position.committed
                && position.read != Some(committed)
            {
                position.read = Some(committed);
                position.taken = Some(committed);
                back.push((partition.clone(), committed));
            }
        }
        back
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tp(partition: i32) -> TopicPartition {
        TopicPartition { topic: "t".into(), partition }
    }

    #[test]
    fn only_what_was_taken_and_confirmed_is_committed() {
        let mut positions = Positions::new();
        positions.open(tp(0), Some(5));
        positions.open(tp(1), None);
        positions.read(&"t".into(), 0, 5, 5);
        positions.read(&"t".into(), 1, 9, 9);
        assert!(positions.of(&[tp(0), tp(1)]).is_empty(), "nothing was taken");
        positions.taken();
        assert_eq!(positions.of(&[tp(0), tp(1)]), [(tp(0), 6), (tp(1), 10)]);
        let confirmed = [(tp(0), 6), (tp(1), 11), (tp(2), 1)];
        assert_eq!(positions.to_commit(&[tp(0), tp(1)], &confirmed), [(tp(0), 6)], "not ahead, not foreign");
        positions.committed(&confirmed);
        assert_eq!(positions.of(&[tp(0), tp(1)]), [(tp(1), 10)]);
        assert_eq!(positions.rewind(&[tp(0), tp(1)]), [(tp(1), 9)]);
        assert!(positions.of(&[tp(1)]).is_empty());
    }
}
