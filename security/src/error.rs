//! What can be wrong with settings and stores.

/// Why something cannot be used. The text names the setting and what to change, and never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting, or the file that it names.
    #[error("{key}: {why}")]
    Setting { key: String, why: String },
}

impl Error {
    /// An error about the setting `key`.
    pub fn setting(key: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Setting { key: key.into(), why: why.into() }
    }
}
