//! What the worker can fail with, towards its callers: each kind has its REST code.

use aqueduct_client::Error as ClientError;

/// What this crate's calls return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a request to the worker, or its start, failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was asked for is wrong (REST 400; at start: exit code 2).
    #[error("{0}")]
    BadRequest(String),
    /// There is no such thing (404).
    #[error("{0}")]
    NotFound(String),
    /// It is not permitted by the worker's settings (403).
    #[error("{0}")]
    Forbidden(String),
    /// It exists already, or the group is being rebalanced (409).
    #[error("{0}")]
    Conflict(String),
    /// Another worker has to do it, the one at `url`; `None` where that is not known at this moment (409).
    #[error("{why}")]
    Elsewhere { why: String, url: Option<String> },
    /// The worker is not that far yet (503).
    #[error("{0}")]
    Unavailable(String),
    /// It took longer than a request may take (500).
    #[error("Request timed out. {0}")]
    Timeout(String),
    /// The cluster does not answer or refuses (500).
    #[error("{what}: {cause}")]
    Kafka { what: String, cause: ClientError },
    /// Anything else (500).
    #[error("{0}")]
    Internal(String),
    /// The worker has been shut down (500).
    #[error("the worker is shutting down")]
    ShutDown,
}

impl Error {
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::BadRequest(message.into())
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::NotFound(message.into())
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::Internal(message.into())
    }

    /// A client's failure, with what the worker was about to do.
    pub fn kafka(what: impl Into<String>) -> impl FnOnce(ClientError) -> Self {
        let what = what.into();
        move |cause| Self::Kafka { what, cause }
    }

    /// The same for what the cluster has done, with the reference's words for it before our own.
    pub fn within(self, words: &str) -> Self {
        match self {
            Self::Kafka { what, cause } => Self::Kafka { what: format!("{words}: {what}"), cause },
            other => other,
        }
    }

    /// The HTTP status that stands for it.
    pub fn status_code(&self) -> u16 {
        match self {
            Self::BadRequest(_) => 400,
            Self::Forbidden(_) => 403,
            Self::NotFound(_) => 404,
            Self::Conflict(_) | Self::Elsewhere { .. } => 409,
            Self::Unavailable(_) => 503,
            Self::Timeout(_) | Self::Kafka { .. } | Self::Internal(_) | Self::ShutDown => 500,
        }
    }
}
