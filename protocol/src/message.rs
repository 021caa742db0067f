//! What every generated message can do.

use bytes::{Bytes, BytesMut};

/// Why bytes are not a message of the version that they claim to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end before the value does.
    #[error("{field}: {needed} bytes needed, {left} left")]
    Truncated { field: &'static str, needed: usize, left: usize },
    /// A length or count is negative where it may not be, or larger than the bytes that are left.
    #[error("{field}: length {length} is out of range, {left} bytes left")]
    BadLength { field: &'static str, length: i64, left: usize },
    /// A string is not UTF-8.
    #[error("{field}: not UTF-8")]
    NotUtf8 { field: &'static str },
    /// A value that may not be null in this version is.
    #[error("{field}: null, which version {version} does not allow")]
    UnexpectedNull { field: &'static str, version: i16 },
    /// A variable-length integer runs on for too many bytes.
    #[error("{field}: variable-length integer too long")]
    BadVarint { field: &'static str },
    /// The message has no such version.
    #[error("{message} has no version {version}")]
    UnsupportedVersion { message: &'static str, version: i16 },
    /// Bytes are left over after the message.
    #[error("{left} bytes left over after {message} version {version}")]
    TrailingBytes { message: &'static str, version: i16, left: usize },
    /// Anything else that is wrong with a value.
    #[error("{field}: {why}")]
    Invalid { field: &'static str, why: String },
}

/// Why a message cannot be written in a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A field is set that this version cannot carry and that may not be dropped.
    #[error("{field} is set, which version {version} cannot carry")]
    FieldNotInVersion { field: &'static str, version: i16 },
    /// A null stands where the version allows none.
    #[error("{field} is null, which version {version} does not allow")]
    UnexpectedNull { field: &'static str, version: i16 },
    /// A string or array is longer than its length field can say.
    #[error("{field}: {length} is too long")]
    TooLong { field: &'static str, length: usize },
    /// The message has no such version.
    #[error("{message} has no version {version}")]
    UnsupportedVersion { message: &'static str, version: i16 },
}

/// A value that can be written in a version of the protocol.
pub trait Encode {
    /// Appends this value to `buf` as `version` writes it.
    fn encode(&self, buf: &mut BytesMut, version: i16) -> Result<(), EncodeError>;
}

/// A value that can be read in a version of the protocol.
pub trait Decode: Sized {
    /// Takes one value from the front of `buf`; strings and bytes of the result are slices of it. Unknown tagged fields
    /// are skipped. `buf` is left after the value, or anywhere within it on error.
    fn decode(buf: &mut Bytes, version: i16) -> Result<Self, DecodeError>;
}

/// A request message and what belongs to it.
pub trait Request: Encode + Decode {
    /// Its answer.
    type Response: Encode + Decode;
    /// The number that names it on the wire.
    const API_KEY: i16;
    /// Kafka's name for it, such as `Produce`.
    const NAME: &'static str;
    /// The oldest version that the schemas still describe.
    const MIN_VERSION: i16;
    /// The newest version that the schemas describe.
    const MAX_VERSION: i16;
    /// The first version with compact lengths and tagged fields; `i16::MAX` where there is none.
    const FIRST_FLEXIBLE: i16;

    /// Whether `version` has compact lengths and tagged fields.
    fn is_flexible(version: i16) -> bool {
        version >= Self::FIRST_FLEXIBLE
    }
}
