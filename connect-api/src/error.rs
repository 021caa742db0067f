//! What a connector, converter or transform can fail with.

use std::error::Error as StdError;

/// The cause under an [`Error`].
pub type Source = Box<dyn StdError + Send + Sync + 'static>;

/// What a plugin's call returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A plugin's failure. The kind decides what the worker does next: only [`Error::Retriable`] is tried again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// May succeed when tried again: a server that is away, a lock, a time-out.
    #[error("{message}")]
    Retriable { message: String, source: Option<Source> },
    /// The record's data or schema does not fit.
    #[error("{message}")]
    Data { message: String, source: Option<Source> },
    /// A setting is missing or wrong; `name` is its key.
    #[error("Invalid value {value} for configuration {name}: {message}")]
    Config { name: String, value: String, message: String },
    /// Anything else; trying again will not help.
    #[error("{message}")]
    Connect { message: String, source: Option<Source> },
}

impl Error {
    /// A failure that may pass.
    pub fn retriable(message: impl Into<String>) -> Self {
        Self::Retriable { message: message.into(), source: None }
    }

    /// A record that does not fit.
    pub fn data(message: impl Into<String>) -> Self {
        Self::Data { message: message.into(), source: None }
    }

    /// A wrong setting.
    pub fn config(name: impl Into<String>, value: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Config { name: name.into(), value: value.into(), message: message.into() }
    }

    /// A failure for good.
    pub fn connect(message: impl Into<String>) -> Self {
        Self::Connect { message: message.into(), source: None }
    }

    /// This error with its cause.
    pub fn caused_by(mut self, cause: impl Into<Source>) -> Self {
        match &mut self {
            Self::Retriable { source, .. } | Self::Data { source, .. } | Self::Connect { source, .. } => {
                *source = Some(cause.into());
            }
            Self::Config { message, .. } => {
                message.push_str(": ");
                message.push_str(&cause.into().to_string());
            }
        }
        self
    }

    /// Whether the same call may succeed later.
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::Retriable { .. })
    }

    /// The class that the reference throws for this kind; it stands in traces and dead-letter headers.
    pub fn class_name(&self) -> &'static str {
        match self {
            Self::Retriable { .. } => "org.apache.kafka.connect.errors.RetriableException",
            Self::Data { .. } => "org.apache.kafka.connect.errors.DataException",
            Self::Config { .. } => "org.apache.kafka.common.config.ConfigException",
            Self::Connect { .. } => "org.apache.kafka.connect.errors.ConnectException",
        }
    }

    /// Class, message and every cause, one a line, as the `trace` of a status and `exception.stacktrace` carry it.
    pub fn trace(&self) -> String {
        let mut text = format!("{}: {self}", self.class_name());
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str("\nCaused by: ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}
