use std::fmt;
use std::sync::Arc;

use aqueduct_protocol::ids::PartitionIndex;

/// A partition by name; shown, and named on disk, as `<topic>-<partition>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    pub topic: Arc<str>,
    pub partition: PartitionIndex,
}

impl TopicPartition {
    /// Partition `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition: PartitionIndex(partition) }
    }

    /// Reads the name of a directory; `None` where it is not `<topic>-<partition>`.
    pub fn parse(name: &str) -> Option<Self> {
        let (topic, partition) = name.rsplit_once('-')?;
        let digits = !partition.is_empty() && partition.bytes().all(|b| b.is_ascii_digit());
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if topic.is_empty() || !digits || !topic.bytes().all(legal) {
            return None;
        }
        Some(Self::new(topic, partition.parse().ok()?))
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_names_are_read_back() {
        for (topic, partition) in [("a", 0), ("with-dash", 12), ("__consumer_offsets", 49), ("a-1", 2)] {
            let name = TopicPartition::new(topic, partition);
            assert_eq!(TopicPartition::parse(&name.to_string()), Some(name));
        }
        for bad in
            ["", "a", "-1", "a-", "a-x", "a-1-delete", "a-0.5d41-delete", "a/b-0", "a-+1", "a-99999999999"]
        {
            assert_eq!(TopicPartition::parse(bad), None, "{bad}");
        }
    }
}
