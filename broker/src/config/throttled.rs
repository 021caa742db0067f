/// Which replicas of a topic are throttled, as `leader.replication.throttled.replicas` and its like name them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Throttled {
    #[default]
    None,
    All,
    /// Partitions, each with a broker.
    Replicas(Vec<(i32, i32)>),
}

impl Throttled {
    /// Reads `*`, or a list of `PARTITION:BROKER`; what does not read as one names nothing.
    pub fn parse(text: &str) -> Self {
        let pair = |entry: &str| {
            let (partition, broker) = entry.trim().split_once(':')?;
            Some((partition.trim().parse().ok()?, broker.trim().parse().ok()?))
        };
        match text.trim() {
            "" | "none" => Self::None,
            "*" => Self::All,
            list => Self::Replicas(list.split(',').filter_map(pair).collect()),
        }
    }

    /// Whether the replica of a partition on a broker is among them.
    pub fn names(&self, partition: i32, broker: i32) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Replicas(list) => list.contains(&(partition, broker)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_named_one_by_one_or_all_at_once() {
        let some = Throttled::parse("0:1, 2:3,odd");
        assert!(some.names(0, 1) && some.names(2, 3) && !some.names(0, 3));
        assert!(Throttled::parse("*").names(7, 7));
        assert!(!Throttled::parse("").names(0, 0));
        assert_eq!(Throttled::parse("none"), Throttled::None);
    }
}
