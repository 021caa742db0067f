//! Which version of each API a broker and this client have in common.

use std::collections::HashMap;

use aqueduct_protocol::Request;
use aqueduct_protocol::api::{Api, ApiKey};
use aqueduct_protocol::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey};

/// The versions that a broker serves, as its ApiVersions answer lists them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Versions {
    ranges: HashMap<i16, (i16, i16)>,
    /// Level of the feature `transaction.version`.
    transactions: i16,
}

impl Versions {
    pub(crate) fn new(listed: &[ApiVersion]) -> Self {
        let ranges = listed.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect();
        Self { ranges, transactions: 0 }
    }

    /// The same, with the features that are in force in the cluster.
    pub(crate) fn with_features(mut self, finalized: &[FinalizedFeatureKey]) -> Self {
        let feature = finalized.iter().find(|feature| feature.name == "transaction.version");
        self.transactions = feature.map_or(0, |feature| feature.max_version_level);
        self
    }

    /// Level of the feature `transaction.version`; 0 where the broker does not tell.
    pub(crate) fn transaction_version(&self) -> i16 {
        self.transactions
    }

    /// The newest version of `R` that both sides speak and that is not above `cap`; `None` where there is none.
    /// APIs of our own are not listed: who has them has the one version.
    pub(crate) fn choose<R: Request>(&self, cap: i16) -> Option<i16> {
        if R::API_KEY >= ApiKey::FIRST_PRIVATE {
            return Some(R::MAX_VERSION);
        }
        let (min, max) = *self.ranges.get(&R::API_KEY)?;
        let ours = Api::find(R::API_KEY).map_or(R::MAX_VERSION, |api| api.max_stable);
        let version = max.min(ours).min(cap);
        (version >= min && version >= R::MIN_VERSION).then_some(version)
    }
}

#[cfg(test)]
mod tests {
    use aqueduct_protocol::messages::{FetchRequest, ProduceRequest};

    use super::*;

    #[test]
    fn takes_the_newest_common_version_under_the_cap() {
        let versions = Versions::new(&[
            ApiVersion { api_key: 0, min_version: 0, max_version: 99 },
            ApiVersion { api_key: 1, min_version: 0, max_version: 3 },
        ]);
        assert_eq!(versions.choose::<ProduceRequest>(i16::MAX), Some(ProduceRequest::MAX_VERSION));
        assert_eq!(versions.choose::<ProduceRequest>(9), Some(9));
        assert_eq!(versions.choose::<ProduceRequest>(2), None);
        assert_eq!(versions.choose::<FetchRequest>(i16::MAX), None, "the broker is too old");
        assert_eq!(Versions::default().choose::<FetchRequest>(i16::MAX), None);
    }
}
