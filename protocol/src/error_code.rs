//! Kafka's error codes.

use std::fmt;

macro_rules! error_codes {
    ($($(#[$attr:meta])? $code:literal $variant:ident $name:literal $retriable:ident $message:literal;)*) => {
        /// An error code of the protocol, from -1 to 136.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[repr(i16)]
        pub enum ErrorCode {
            $(#[doc = $message] $(#[$attr])? $variant = $code,)*
        }

        const ALL: &[ErrorCode] = &[$(ErrorCode::$variant,)*];

        impl ErrorCode {
            /// Kafka's name, such as `UNKNOWN_TOPIC_OR_PARTITION`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Whether the same request may succeed when it is sent again, as Kafka's clients have it.
            pub fn is_retriable(self) -> bool {
                match self { $(Self::$variant => error_codes!(@$retriable),)* }
            }

            /// What happened, in lower case and without a full stop.
            pub fn message(self) -> &'static str {
                match self { $(Self::$variant => $message,)* }
            }
        }
    };
    (@retriable) => { true };
    (@fatal) => { false };
}

error_codes! {
    -1 UnknownServerError "UNKNOWN_SERVER_ERROR" fatal "an unexpected failure inside the server; its log says more";
    #[default] 0 None "NONE" fatal "no error";
    1 OffsetOutOfRange "OFFSET_OUT_OF_RANGE" fatal "the offset lies outside of what the partition holds";
    2 CorruptMessage "CORRUPT_MESSAGE" retriable "a record batch is damaged or malformed, or a record of a compacted topic has no key";
    3 UnknownTopicOrPartition "UNKNOWN_TOPIC_OR_PARTITION" retriable "the topic or partition does not exist here";
    4 InvalidFetchSize "INVALID_FETCH_SIZE" fatal "the fetch size is not valid";
    5 LeaderNotAvailable "LEADER_NOT_AVAILABLE" retriable "the partition has no leader at the moment";
    6 NotLeaderOrFollower "NOT_LEADER_OR_FOLLOWER" retriable "this broker neither leads nor replicates the partition any more";
    7 RequestTimedOut "REQUEST_TIMED_OUT" retriable "the request was not completed within its timeout";
    8 BrokerNotAvailable "BROKER_NOT_AVAILABLE" fatal "the broker cannot be reached";
    9 ReplicaNotAvailable "REPLICA_NOT_AVAILABLE" retriable "the replica is not available here";
    10 MessageTooLarge "MESSAGE_TOO_LARGE" fatal "a record batch is larger than max.message.bytes allows";
    11 StaleControllerEpoch "STALE_CONTROLLER_EPOCH" fatal "the controller epoch is out of date";
    12 OffsetMetadataTooLarge "OFFSET_METADATA_TOO_LARGE" fatal "the metadata of a committed offset is longer than offset.metadata.max.bytes allows";
    13 NetworkException "NETWORK_EXCEPTION" retriable "the connection closed before the answer arrived";
    14 CoordinatorLoadInProgress "COORDINATOR_LOAD_IN_PROGRESS" retriable "the coordinator is still loading its state";
    15 CoordinatorNotAvailable "COORDINATOR_NOT_AVAILABLE" retriable "the coordinator is not available yet";
    16 NotCoordinator "NOT_COORDINATOR" retriable "this broker is not the coordinator any more";
    17 InvalidTopicException "INVALID_TOPIC_EXCEPTION" fatal "the topic name is not valid, or the topic may not be used in this way";
    18 RecordListTooLarge "RECORD_LIST_TOO_LARGE" fatal "the record batch is larger than a segment may be";
    19 NotEnoughReplicas "NOT_ENOUGH_REPLICAS" retriable "fewer replicas are in sync than min.insync.replicas asks for";
    20 NotEnoughReplicasAfterAppend "NOT_ENOUGH_REPLICAS_AFTER_APPEND" retriable "written, but to fewer in-sync replicas than min.insync.replicas asks for";
    21 InvalidRequiredAcks "INVALID_REQUIRED_ACKS" fatal "acks must be -1, 0 or 1";
    22 IllegalGeneration "ILLEGAL_GENERATION" fatal "the generation of the group is not the current one";
    23 InconsistentGroupProtocol "INCONSISTENT_GROUP_PROTOCOL" fatal "the member shares no protocol with the group, or named none";
    24 InvalidGroupId "INVALID_GROUP_ID" fatal "the group id is not valid";
    25 UnknownMemberId "UNKNOWN_MEMBER_ID" fatal "the coordinator does not know this member";
    26 InvalidSessionTimeout "INVALID_SESSION_TIMEOUT" fatal "the session timeout is outside of the range that the broker allows";
    27 RebalanceInProgress "REBALANCE_IN_PROGRESS" fatal "the group is rebalancing; the member must join again";
    28 InvalidCommitOffsetSize "INVALID_COMMIT_OFFSET_SIZE" fatal "the committed offsets are too large for one batch";
    29 TopicAuthorizationFailed "TOPIC_AUTHORIZATION_FAILED" fatal "not authorized for the topic";
    30 GroupAuthorizationFailed "GROUP_AUTHORIZATION_FAILED" fatal "not authorized for the group";
    31 ClusterAuthorizationFailed "CLUSTER_AUTHORIZATION_FAILED" fatal "not authorized for the cluster";
    32 InvalidTimestamp "INVALID_TIMESTAMP" fatal "a record's timestamp is outside of the accepted range";
    33 UnsupportedSaslMechanism "UNSUPPORTED_SASL_MECHANISM" fatal "the SASL mechanism is not enabled";
    34 IllegalSaslState "ILLEGAL_SASL_STATE" fatal "this request does not fit the state of the SASL exchange";
    35 UnsupportedVersion "UNSUPPORTED_VERSION" fatal "the API has no such version here";
    36 TopicAlreadyExists "TOPIC_ALREADY_EXISTS" fatal "the topic exists already";
    37 InvalidPartitions "INVALID_PARTITIONS" fatal "the number of partitions is not valid";
    38 InvalidReplicationFactor "INVALID_REPLICATION_FACTOR" fatal "the replication factor is below 1 or above the number of brokers";
    39 InvalidReplicaAssignment "INVALID_REPLICA_ASSIGNMENT" fatal "the replica assignment is not valid";
    40 InvalidConfig "INVALID_CONFIG" fatal "a configuration value is not valid";
    41 NotController "NOT_CONTROLLER" retriable "this node is not the active controller";
    42 InvalidRequest "INVALID_REQUEST" fatal "the request contradicts itself or is not valid in this place";
    43 UnsupportedForMessageFormat "UNSUPPORTED_FOR_MESSAGE_FORMAT" fatal "the message format of the partition does not support the request";
    44 PolicyViolation "POLICY_VIOLATION" fatal "a policy of the broker forbids the request";
    45 OutOfOrderSequenceNumber "OUT_OF_ORDER_SEQUENCE_NUMBER" fatal "the batch does not follow the last sequence number of its producer";
    46 DuplicateSequenceNumber "DUPLICATE_SEQUENCE_NUMBER" fatal "the batch repeats a sequence number that was written before";
    47 InvalidProducerEpoch "INVALID_PRODUCER_EPOCH" fatal "the producer epoch is older than the current one";
    48 InvalidTxnState "INVALID_TXN_STATE" fatal "the transaction is not in a state that allows this operation";
    49 InvalidProducerIdMapping "INVALID_PRODUCER_ID_MAPPING" fatal "the producer id does not belong to this transactional id";
    50 InvalidTransactionTimeout "INVALID_TRANSACTION_TIMEOUT" fatal "the transaction timeout is above transaction.max.timeout.ms";
    51 ConcurrentTransactions "CONCURRENT_TRANSACTIONS" retriable "another operation on the same transaction is under way";
    52 TransactionCoordinatorFenced "TRANSACTION_COORDINATOR_FENCED" fatal "a newer transaction coordinator has taken over";
    53 TransactionalIdAuthorizationFailed "TRANSACTIONAL_ID_AUTHORIZATION_FAILED" fatal "not authorized for the transactional id";
    54 SecurityDisabled "SECURITY_DISABLED" fatal "the broker runs without authorization";
    55 OperationNotAttempted "OPERATION_NOT_ATTEMPTED" fatal "the broker did not get to this operation";
    56 KafkaStorageError "KAFKA_STORAGE_ERROR" retriable "the log directory failed";
    57 LogDirNotFound "LOG_DIR_NOT_FOUND" fatal "the broker has no such log directory";
    58 SaslAuthenticationFailed "SASL_AUTHENTICATION_FAILED" fatal "authentication failed";
    59 UnknownProducerId "UNKNOWN_PRODUCER_ID" fatal "the broker has no state of this producer id any more";
    60 ReassignmentInProgress "REASSIGNMENT_IN_PROGRESS" fatal "a reassignment of the partition is under way";
    61 DelegationTokenAuthDisabled "DELEGATION_TOKEN_AUTH_DISABLED" fatal "delegation tokens are not enabled";
    62 DelegationTokenNotFound "DELEGATION_TOKEN_NOT_FOUND" fatal "the delegation token does not exist";
    63 DelegationTokenOwnerMismatch "DELEGATION_TOKEN_OWNER_MISMATCH" fatal "the principal neither owns the delegation token nor may renew it";
    64 DelegationTokenRequestNotAllowed "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED" fatal "delegation tokens may not be requested over this connection";
    65 DelegationTokenAuthorizationFailed "DELEGATION_TOKEN_AUTHORIZATION_FAILED" fatal "not authorized for the delegation token";
    66 DelegationTokenExpired "DELEGATION_TOKEN_EXPIRED" fatal "the delegation token has expired";
    67 InvalidPrincipalType "INVALID_PRINCIPAL_TYPE" fatal "the type of the principal is not supported";
    68 NonEmptyGroup "NON_EMPTY_GROUP" fatal "the group still has members";
    69 GroupIdNotFound "GROUP_ID_NOT_FOUND" fatal "the group does not exist";
    70 FetchSessionIdNotFound "FETCH_SESSION_ID_NOT_FOUND" retriable "the fetch session does not exist any more";
    71 InvalidFetchSessionEpoch "INVALID_FETCH_SESSION_EPOCH" retriable "the epoch of the fetch session is not the expected one";
    72 ListenerNotFound "LISTENER_NOT_FOUND" retriable "the leader does not have the listener that the request came in by";
    73 TopicDeletionDisabled "TOPIC_DELETION_DISABLED" fatal "deletion of topics is disabled";
    74 FencedLeaderEpoch "FENCED_LEADER_EPOCH" retriable "the leader epoch of the request is older than the broker's";
    75 UnknownLeaderEpoch "UNKNOWN_LEADER_EPOCH" retriable "the leader epoch of the request is newer than the broker's";
    76 UnsupportedCompressionType "UNSUPPORTED_COMPRESSION_TYPE" fatal "the client does not support the compression of the partition";
    77 StaleBrokerEpoch "STALE_BROKER_EPOCH" fatal "the broker epoch is out of date";
    78 OffsetNotAvailable "OFFSET_NOT_AVAILABLE" retriable "the new leader does not know yet up to where records are committed";
    79 MemberIdRequired "MEMBER_ID_REQUIRED" fatal "the member must join again with the id that it was given";
    80 PreferredLeaderNotAvailable "PREFERRED_LEADER_NOT_AVAILABLE" retriable "the preferred leader is not available";
    81 GroupMaxSizeReached "GROUP_MAX_SIZE_REACHED" fatal "the group has as many members as it may have";
    82 FencedInstanceId "FENCED_INSTANCE_ID" fatal "another consumer has taken over this group.instance.id";
    83 EligibleLeadersNotAvailable "ELIGIBLE_LEADERS_NOT_AVAILABLE" retriable "none of the eligible leaders is available";
    84 ElectionNotNeeded "ELECTION_NOT_NEEDED" retriable "the partition has the wanted leader already";
    85 NoReassignmentInProgress "NO_REASSIGNMENT_IN_PROGRESS" fatal "no reassignment of the partition is under way";
    86 GroupSubscribedToTopic "GROUP_SUBSCRIBED_TO_TOPIC" fatal "the group is subscribed to the topic";
    87 InvalidRecord "INVALID_RECORD" fatal "a record failed validation";
    88 UnstableOffsetCommit "UNSTABLE_OFFSET_COMMIT" retriable "offsets of a transaction are pending and not final yet";
    89 ThrottlingQuotaExceeded "THROTTLING_QUOTA_EXCEEDED" retriable "the quota is used up for now";
    90 ProducerFenced "PRODUCER_FENCED" fatal "a newer producer has taken over this transactional id";
    91 ResourceNotFound "RESOURCE_NOT_FOUND" fatal "the resource does not exist";
    92 DuplicateResource "DUPLICATE_RESOURCE" fatal "the request names the same resource twice";
    93 UnacceptableCredential "UNACCEPTABLE_CREDENTIAL" fatal "the credential is not strong enough or not well formed";
    94 InconsistentVoterSet "INCONSISTENT_VOTER_SET" fatal "sender and receiver disagree on the set of voters";
    95 InvalidUpdateVersion "INVALID_UPDATE_VERSION" fatal "the update version is not valid";
    96 FeatureUpdateFailed "FEATURE_UPDATE_FAILED" fatal "the finalized features could not be updated";
    97 PrincipalDeserializationFailure "PRINCIPAL_DESERIALIZATION_FAILURE" fatal "the principal of a forwarded request could not be read";
    98 SnapshotNotFound "SNAPSHOT_NOT_FOUND" fatal "the snapshot does not exist";
    99 PositionOutOfRange "POSITION_OUT_OF_RANGE" fatal "the position lies outside of the snapshot";
    100 UnknownTopicId "UNKNOWN_TOPIC_ID" retriable "no topic has this id here";
    101 DuplicateBrokerRegistration "DUPLICATE_BROKER_REGISTRATION" fatal "the broker id is in use already";
    102 BrokerIdNotRegistered "BROKER_ID_NOT_REGISTERED" fatal "the broker id is not registered";
    103 InconsistentTopicId "INCONSISTENT_TOPIC_ID" retriable "the topic id of the request is not that of the log";
    104 InconsistentClusterId "INCONSISTENT_CLUSTER_ID" fatal "the request is meant for another cluster";
    105 TransactionalIdNotFound "TRANSACTIONAL_ID_NOT_FOUND" fatal "the transactional id does not exist";
    106 FetchSessionTopicIdError "FETCH_SESSION_TOPIC_ID_ERROR" retriable "names and ids of topics disagree within the fetch session";
    107 IneligibleReplica "INELIGIBLE_REPLICA" fatal "a replica may not join the in-sync set";
    108 NewLeaderElected "NEW_LEADER_ELECTED" fatal "the change was made, but the partition has another leader now";
    109 OffsetMovedToTieredStorage "OFFSET_MOVED_TO_TIERED_STORAGE" fatal "the offset has moved to tiered storage";
    110 FencedMemberEpoch "FENCED_MEMBER_EPOCH" fatal "the coordinator fenced the member, which must give up its partitions and join again";
    111 UnreleasedInstanceId "UNRELEASED_INSTANCE_ID" fatal "another member still holds this group.instance.id";
    112 UnsupportedAssignor "UNSUPPORTED_ASSIGNOR" fatal "the group does not support the assignor";
    113 StaleMemberEpoch "STALE_MEMBER_EPOCH" fatal "the member epoch is out of date; the next heartbeat brings the current one";
    114 MismatchedEndpointType "MISMATCHED_ENDPOINT_TYPE" fatal "the request went to the wrong kind of endpoint";
    115 UnsupportedEndpointType "UNSUPPORTED_ENDPOINT_TYPE" fatal "this kind of endpoint is not supported";
    116 UnknownControllerId "UNKNOWN_CONTROLLER_ID" fatal "the controller id is not known";
    117 UnknownSubscriptionId "UNKNOWN_SUBSCRIPTION_ID" fatal "the telemetry subscription id is not valid any more";
    118 TelemetryTooLarge "TELEMETRY_TOO_LARGE" fatal "the telemetry is larger than the broker accepts";
    119 InvalidRegistration "INVALID_REGISTRATION" fatal "the controller refused the registration of the broker";
    120 TransactionAbortable "TRANSACTION_ABORTABLE" fatal "the transaction failed and must be aborted; the transactional id stays usable";
    121 InvalidRecordState "INVALID_RECORD_STATE" fatal "the record is not in a state that allows the acknowledgement";
    122 ShareSessionNotFound "SHARE_SESSION_NOT_FOUND" retriable "the share session does not exist";
    123 InvalidShareSessionEpoch "INVALID_SHARE_SESSION_EPOCH" retriable "the epoch of the share session is not the expected one";
    124 FencedStateEpoch "FENCED_STATE_EPOCH" fatal "the state epoch is not the coordinator's";
    125 InvalidVoterKey "INVALID_VOTER_KEY" fatal "the voter key is not that of the replica";
    126 DuplicateVoter "DUPLICATE_VOTER" fatal "the node is a voter already";
    127 VoterNotFound "VOTER_NOT_FOUND" fatal "the node is not a voter";
    128 InvalidRegularExpression "INVALID_REGULAR_EXPRESSION" fatal "the regular expression is not valid";
    129 RebootstrapRequired "REBOOTSTRAP_REQUIRED" fatal "the client's metadata leads to the wrong cluster; it must start again from its bootstrap servers";
    130 StreamsInvalidTopology "STREAMS_INVALID_TOPOLOGY" fatal "the topology is not valid";
    131 StreamsInvalidTopologyEpoch "STREAMS_INVALID_TOPOLOGY_EPOCH" fatal "the topology epoch is not valid";
    132 StreamsTopologyFenced "STREAMS_TOPOLOGY_FENCED" fatal "the topology epoch is out of date";
    133 ShareSessionLimitReached "SHARE_SESSION_LIMIT_REACHED" retriable "the broker holds as many share sessions as it may";
    134 GroupDeletionFailed "GROUP_DELETION_FAILED" fatal "the group could not be deleted; the group's own message says why";
    135 StreamsTopologyDescriptionUpdateFailed "STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED" fatal "the description of the topology could not be stored; the message says why";
    136 ControllerIdNotRegistered "CONTROLLER_ID_NOT_REGISTERED" fatal "the controller id is not registered";
}

impl ErrorCode {
    /// Every code, from -1 on without a gap.
    pub fn all() -> &'static [Self] {
        ALL
    }

    /// The number on the wire.
    pub fn code(self) -> i16 {
        self as i16
    }

    /// The error with this number; [`ErrorCode::UnknownServerError`] for one that we do not know, as Kafka's clients
    /// take it.
    pub fn from_code(code: i16) -> Self {
        Self::known(code).unwrap_or(Self::UnknownServerError)
    }

    /// The error with this number, if we know it.
    pub fn known(code: i16) -> Option<Self> {
        let at = usize::try_from(i32::from(code) + 1).ok()?;
        ALL.get(at).copied()
    }

    /// Whether this is [`ErrorCode::None`].
    pub fn is_none(self) -> bool {
        self == Self::None
    }

    /// `Ok` for [`ErrorCode::None`], the error otherwise.
    pub fn ok(self) -> Result<(), Self> {
        if self.is_none() { Ok(()) } else { Err(self) }
    }
}

impl From<ErrorCode> for i16 {
    fn from(error: ErrorCode) -> Self {
        error.code()
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.name(), self.code(), self.message())
    }
}

impl std::error::Error for ErrorCode {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_run_from_minus_one_without_a_gap() {
        for (at, error) in ErrorCode::all().iter().enumerate() {
            assert_eq!(error.code(), at as i16 - 1);
            assert_eq!(ErrorCode::known(error.code()), Some(*error));
        }
    }

    #[test]
    fn a_code_of_a_newer_broker_is_an_unknown_server_error() {
        for code in [-2, 137, i16::MAX, i16::MIN] {
            assert_eq!(ErrorCode::known(code), None);
            assert_eq!(ErrorCode::from_code(code), ErrorCode::UnknownServerError);
        }
    }

    #[test]
    fn names_and_retries_are_kafkas() {
        assert_eq!(ErrorCode::NotLeaderOrFollower.name(), "NOT_LEADER_OR_FOLLOWER");
        assert!(ErrorCode::NotLeaderOrFollower.is_retriable());
        assert!(!ErrorCode::InvalidRequest.is_retriable());
        assert_eq!(ErrorCode::None.ok(), Ok(()));
        assert_eq!(
            ErrorCode::UnknownTopicId.to_string(),
            "UNKNOWN_TOPIC_ID (100): no topic has this id here"
        );
    }
}
