//! The table of APIs: keys, names and versions that the schemas describe.

use crate::messages;

/// The keys of the APIs as constants, such as [`ApiKey::PRODUCE`].
#[derive(Clone, Copy, Debug)]
pub struct ApiKey;

impl ApiKey {
    /// AddRaftVoter (KIP-853).
    pub const ADD_RAFT_VOTER: i16 = 80;
    /// RemoveRaftVoter (KIP-853).
    pub const REMOVE_RAFT_VOTER: i16 = 81;
    /// From here on keys are ours, spoken between our nodes only; they have one version, and nobody advertises them.
    pub const FIRST_PRIVATE: i16 = 20_000;
    /// A message of the metadata quorum.
    pub const QUORUM_MESSAGE: i16 = 20_000;
    /// A request for the active controller.
    pub const ASK_CONTROLLER: i16 = 20_001;
}

/// APIs whose messages are not generated.
const BY_HAND: &[Api] = &[
    by_hand(ApiKey::ADD_RAFT_VOTER, "AddRaftVoter", 1, 0),
    by_hand(ApiKey::REMOVE_RAFT_VOTER, "RemoveRaftVoter", 0, 0),
    by_hand(ApiKey::QUORUM_MESSAGE, "QuorumMessage", 0, i16::MAX),
    by_hand(ApiKey::ASK_CONTROLLER, "AskController", 0, i16::MAX),
];

const fn by_hand(key: i16, name: &'static str, max: i16, first_flexible: i16) -> Api {
    Api { key, name, min: 0, max, max_stable: max, first_flexible }
}

/// One API as the schemas describe it. What a node serves is for the node to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Api {
    /// The number on the wire.
    pub key: i16,
    /// Kafka's name, such as `Produce`.
    pub name: &'static str,
    /// The oldest version.
    pub min: i16,
    /// The newest version.
    pub max: i16,
    /// The newest version that Kafka calls stable: one less than `max` where that may still change.
    pub max_stable: i16,
    /// The first version with compact lengths and tagged fields; `i16::MAX` where there is none.
    pub first_flexible: i16,
}

impl Api {
    /// Every API whose messages are generated, by key.
    pub fn all() -> &'static [Self] {
        messages::APIS
    }

    /// The API with this key, if the schemas that we were generated from have it, or we wrote it by hand.
    pub fn find(key: i16) -> Option<&'static Self> {
        match messages::APIS.binary_search_by_key(&key, |api| api.key) {
            Ok(at) => messages::APIS.get(at),
            Err(_) => BY_HAND.iter().find(|api| api.key == key),
        }
    }

    /// Whether `version` has compact lengths and tagged fields.
    pub fn is_flexible(&self, version: i16) -> bool {
        version >= self.first_flexible
    }

    /// The version of the request header that goes with `version` of the request.
    pub fn request_header_version(&self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// The version of the response header that goes with `version` of the response. An ApiVersions response always has
    /// the oldest: a client must be able to read it before it knows what the broker speaks.
    pub fn response_header_version(&self, version: i16) -> i16 {
        i16::from(self.is_flexible(version) && self.key != ApiKey::API_VERSIONS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_and_found() {
        assert!(Api::all().is_sorted_by_key(|api| api.key));
        for api in Api::all() {
            assert_eq!(Api::find(api.key), Some(api));
            assert!(api.min <= api.max_stable && api.max_stable <= api.max, "{}", api.name);
        }
        assert_eq!(Api::find(4), None);
        assert_eq!(Api::find(-1), None);
        assert_eq!(Api::find(i16::MAX), None);
    }

    #[test]
    fn header_versions_follow_the_body() {
        let fetch = Api::find(ApiKey::FETCH).expect("Fetch is known");
        assert_eq!((fetch.request_header_version(11), fetch.response_header_version(11)), (1, 0));
        assert_eq!((fetch.request_header_version(12), fetch.response_header_version(12)), (2, 1));
        let versions = Api::find(ApiKey::API_VERSIONS).expect("ApiVersions is known");
        assert_eq!((versions.request_header_version(2), versions.response_header_version(2)), (1, 0));
        assert_eq!((versions.request_header_version(3), versions.response_header_version(3)), (2, 0));
        let handshake = Api::find(ApiKey::SASL_HANDSHAKE).expect("SaslHandshake is known");
        assert_eq!((handshake.request_header_version(1), handshake.response_header_version(1)), (1, 0));
    }
}
