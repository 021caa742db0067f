//! Features of the cluster (KIP-584): which levels this broker can work at, and which level is in force.

use super::MetadataImage;

/// One feature that this broker knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    pub name: &'static str,
    /// Lowest and highest level that this broker can work at.
    pub min: i16,
    pub max: i16,
    /// The level of a cluster in which nobody has set one.
    pub default: i16,
}

/// The format of the metadata. 7 (3.3-IV3) is the first of KRaft, 30 (4.3-IV0) what this broker's metadata can express.
pub const METADATA_VERSION: Feature = feature("metadata.version", 7, 30, 30);
/// The protocol of the quorum; 1 knows changes of its voters.
pub const KRAFT_VERSION: Feature = feature("kraft.version", 0, 1, 1);
/// The protocol of transactions: 1 writes flexible records, 2 raises the producer epoch with every transaction (KIP-890).
pub const TRANSACTION_VERSION: Feature = feature("transaction.version", 0, 2, 2);
/// Groups: 1 has the consumer protocol (KIP-848).
pub const GROUP_VERSION: Feature = feature("group.version", 0, 1, 1);
/// Eligible leader replicas (KIP-966).
pub const ELIGIBLE_LEADER_REPLICAS_VERSION: Feature = feature("eligible.leader.replicas.version", 0, 1, 1);

/// Every feature, by name.
pub const FEATURES: &[Feature] =
    &[ELIGIBLE_LEADER_REPLICAS_VERSION, GROUP_VERSION, KRAFT_VERSION, METADATA_VERSION, TRANSACTION_VERSION];

const fn feature(name: &'static str, min: i16, max: i16, default: i16) -> Feature {
    Feature { name, min, max, default }
}

/// A feature by name.
pub fn find(name: &str) -> Option<&'static Feature> {
    FEATURES.iter().find(|feature| feature.name == name)
}

impl MetadataImage {
    /// The level that is in force; 0 is off.
    pub fn level(&self, feature: &Feature) -> i16 {
        self.features.get(feature.name).copied().unwrap_or(feature.default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Record;

    #[test]
    fn a_level_that_was_set_counts_before_the_default() {
        assert!(FEATURES.is_sorted_by_key(|feature| feature.name));
        let mut image = MetadataImage::default();
        assert_eq!(image.level(&TRANSACTION_VERSION), 2);
        image.apply(&Record::Feature { name: "transaction.version".into(), level: 0 });
        assert_eq!(image.level(&TRANSACTION_VERSION), 0);
        assert_eq!(find("transaction.version"), Some(&TRANSACTION_VERSION));
        assert_eq!(find("nope"), None);
    }
}
