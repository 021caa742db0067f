//! What can go wrong, and where: every error names the broker, the API and the topic-partition or group it is about.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::ids::Offset;
use aqueduct_protocol::{DecodeError, EncodeError};

use crate::types::TopicPartition;

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A property has a value that it cannot have.
    #[error("{key}={value}: {why}")]
    Config { key: String, value: String, why: String },
    /// A setting of TLS or SASL, or a file that it names, cannot be used.
    #[error(transparent)]
    Security(#[from] aqueduct_security::Error),
    /// The TLS handshake with a broker failed.
    #[error("{broker}: TLS handshake failed: {why}")]
    Tls { broker: String, why: String },
    /// A broker does not take this client for whom it says it is.
    #[error("{broker}: authentication by {mechanism} failed: {why}")]
    Authentication { broker: String, mechanism: &'static str, why: String },
    /// No connection could be made.
    #[error(
        "{broker}: cannot connect: {source}; check that a broker listens there and that the address is right"
    )]
    Connect { broker: String, source: Arc<io::Error> },
    /// None of the bootstrap servers and known brokers answered.
    #[error("no broker answers at bootstrap.servers={servers}: {last}")]
    NoBroker { servers: String, last: Box<Error> },
    /// The connection ended before the answer came.
    #[error("{broker}: {api}: connection lost: {why}")]
    Disconnected { broker: String, api: &'static str, why: String },
    /// The broker did not answer in time (`request.timeout.ms`).
    #[error("{broker}: {api}: no answer within {after:?}")]
    RequestTimeout { broker: String, api: &'static str, after: Duration },
    /// The broker speaks no version of the API that this client does.
    #[error(
        "{broker}: {api} is not served in a version that this client speaks ({ours}); brokers from 2.1 on are supported"
    )]
    UnsupportedVersion { broker: String, api: &'static str, ours: String },
    /// The answer is not what the protocol says.
    #[error("{broker}: {api}: bad answer: {source}")]
    Decode { broker: String, api: &'static str, source: DecodeError },
    /// A request cannot be written in the version that was agreed on.
    #[error("{broker}: {api}: cannot write the request: {source}")]
    Encode { broker: String, api: &'static str, source: EncodeError },
    /// The broker answered with an error code. `what` names the topic-partition, group or resource.
    #[error("{broker}: {api} of {what}: {code}{message}")]
    Api { broker: String, api: &'static str, what: String, code: ErrorCode, message: Detail },
    /// A time limit for a whole operation passed; `last` is the last thing that went wrong, if any.
    #[error("{what}: not done within {after:?}{}", .last.as_ref().map(|last| format!(": {last}")).unwrap_or_default())]
    Timeout { what: String, after: Duration, last: Option<Box<Error>> },
    /// A topic that does not exist, and was not created in time.
    #[error("topic {topic} does not exist (or is not created yet); create it or allow auto-creation")]
    UnknownTopic { topic: String },
    /// A partition that the topic does not have.
    #[error("{partition} does not exist: the topic has {count} partitions")]
    UnknownPartition { partition: TopicPartition, count: usize },
    /// A partition that nobody leads at the moment.
    #[error("{partition} has no leader at the moment")]
    NoLeader { partition: TopicPartition },
    /// A record that no request may carry.
    #[error(
        "record of {size} bytes for topic {topic} is larger than {setting}={limit}; raise it (and the topic's max.message.bytes) or split the record"
    )]
    RecordTooLarge { topic: String, size: usize, setting: &'static str, limit: usize },
    /// A record batch from a broker that is damaged.
    #[error("{partition}@{offset}: bad record batch: {why}")]
    BadBatch { partition: TopicPartition, offset: Offset, why: String },
    /// There is no committed offset, and `auto.offset.reset` is `none`.
    #[error("{partition}: no committed offset, and auto.offset.reset=none")]
    NoOffset { partition: TopicPartition },
    /// The position is outside of the log, and `auto.offset.reset` is `none`.
    #[error("{partition}@{offset}: out of range, and auto.offset.reset=none")]
    OffsetOutOfRange { partition: TopicPartition, offset: Offset },
    /// The member is no longer part of the group's current generation; it has to join again.
    #[error("group {group}: member {member} is not part of the current generation: {code}")]
    NotAMember { group: String, member: String, code: ErrorCode },
    /// A transaction that cannot be committed: it has to be aborted, or its producer given up where it is fenced.
    #[error("transaction of transactional id {transactional_id} failed: {cause}")]
    Transaction { transactional_id: String, cause: Box<Error> },
    /// The transaction was aborted before the record was sent.
    #[error("transactional id {transactional_id}: the transaction was aborted before the record was sent")]
    TransactionAborted { transactional_id: String },
    /// The caller asked for what cannot be.
    #[error("{0}")]
    Invalid(String),
    /// The client, producer or consumer was closed.
    #[error("{0} is closed")]
    Closed(&'static str),
}

/// The text that a broker adds to an error code; shown after a colon, or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Detail(pub Option<String>);

impl std::fmt::Display for Detail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(text) if !text.is_empty() => write!(f, ": {text}"),
            _ => Ok(()),
        }
    }
}

impl Error {
    /// An error code in an answer; `None` where the code says that there is no error.
    pub(crate) fn of_code(
        broker: &str,
        api: &'static str,
        what: impl FnOnce() -> String,
        code: i16,
        message: Option<&str>,
    ) -> Option<Self> {
        match ErrorCode::from_code(code) {
            ErrorCode::None => None,
            code => Some(Self::Api {
                broker: broker.to_owned(),
                api,
                what: what(),
                code,
                message: Detail(message.map(str::to_owned)),
            }),
        }
    }

    /// [`Error::of_code`] as a result.
    pub(crate) fn check(
        broker: &str,
        api: &'static str,
        what: impl FnOnce() -> String,
        code: i16,
        message: Option<&str>,
    ) -> Result<()> {
        Self::of_code(broker, api, what, code, message).map_or(Ok(()), Err)
    }

    /// An answer that says nothing of a thing that was asked about; the next one may.
    pub(crate) fn left_out(broker: &str, api: &'static str, what: &dyn std::fmt::Display) -> Self {
        let why = format!("the answer leaves out {what}");
        Self::Disconnected { broker: broker.to_owned(), api, why }
    }

    /// The error code in the answer that this is about, if it is about one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Api { code, .. } | Self::NotAMember { code, .. } => Some(*code),
            Self::Timeout { last: Some(last), .. } | Self::NoBroker { last, .. } => last.code(),
            Self::Transaction { cause, .. } => cause.code(),
            _ => None,
        }
    }

    /// Whether the same call may succeed later, with nothing changed on this side.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::Disconnected { .. }
            | Self::RequestTimeout { .. }
            | Self::Timeout { .. }
            | Self::UnknownTopic { .. }
            | Self::NoLeader { .. } => true,
            Self::NoBroker { last, .. } => !last.is_refusal(),
            Self::Api { code, .. } => code.is_retriable(),
            _ => false,
        }
    }

    /// Whether another producer has taken over the transactional id.
    pub fn is_fenced(&self) -> bool {
        matches!(self.code(), Some(ErrorCode::ProducerFenced | ErrorCode::InvalidProducerEpoch))
    }

    /// Whether this client and the broker do not agree on who is who: another attempt changes nothing.
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Security(_) | Self::Tls { .. } | Self::Authentication { .. })
    }

    /// Whether the cluster refuses what was asked, and will until rights or names are others.
    pub fn is_refused(&self) -> bool {
        let codes = [
            ErrorCode::InvalidTopicException,
            ErrorCode::TopicAuthorizationFailed,
            ErrorCode::GroupAuthorizationFailed,
            ErrorCode::ClusterAuthorizationFailed,
        ];
        self.code().is_some_and(|code| codes.contains(&code))
    }

    /// Whether metadata is out of date: a leader or coordinator is not where it was thought to be.
    pub(crate) fn asks_for_metadata(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::Disconnected { .. }
            | Self::RequestTimeout { .. }
            | Self::NoLeader { .. } => true,
            Self::Api { code, .. } => matches!(
                code,
                ErrorCode::UnknownTopicOrPartition
                    | ErrorCode::LeaderNotAvailable
                    | ErrorCode::NotLeaderOrFollower
                    | ErrorCode::ReplicaNotAvailable
                    | ErrorCode::KafkaStorageError
                    | ErrorCode::ListenerNotFound
                    | ErrorCode::FencedLeaderEpoch
                    | ErrorCode::UnknownLeaderEpoch
                    | ErrorCode::UnknownTopicId
                    | ErrorCode::InconsistentTopicId
                    | ErrorCode::FetchSessionTopicIdError
            ),
            _ => false,
        }
    }
}
