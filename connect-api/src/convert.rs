//! Converters between values and bytes, and transforms between records.

use bytes::Bytes;

use crate::config::Config;
use crate::data::{Schema, SchemaAndValue, SchemaRef, Value};
use crate::error::Result;
use crate::record::{Header, Record};

/// Turns keys or values into bytes and back. One instance serves one task, so it may keep caches.
pub trait Converter: Send {
    /// Reads its settings; `is_key` says which side it serves.
    fn configure(&mut self, config: &Config, is_key: bool) -> Result<()>;

    /// Bytes for a topic; `None` is a null key or a tombstone.
    ///
    /// # Errors
    /// `Error::Data` where the value is not one that this format can hold.
    fn encode(
        &mut self,
        topic: &str,
        headers: &[Header],
        schema: Option<&SchemaRef>,
        value: &Value,
    ) -> Result<Option<Bytes>>;

    /// The value in `bytes`. Slices of `bytes` may stay in it.
    ///
    /// # Errors
    /// `Error::Data` where the bytes are not of this format.
    fn decode(&mut self, topic: &str, headers: &[RawHeader], bytes: Option<&Bytes>)
    -> Result<SchemaAndValue>;
}

/// A header as it stands in a topic.
#[derive(Clone, Debug, PartialEq)]
pub struct RawHeader {
    pub key: bytestring::ByteString,
    pub value: Option<Bytes>,
}

/// Turns header values into bytes and back.
pub trait HeaderConverter: Send {
    fn configure(&mut self, config: &Config) -> Result<()>;

    fn encode(
        &mut self,
        topic: &str,
        key: &str,
        schema: Option<&Schema>,
        value: &Value,
    ) -> Result<Option<Bytes>>;

    fn decode(&mut self, topic: &str, key: &str, bytes: Option<&Bytes>) -> Result<SchemaAndValue>;
}

/// Changes one record at a time.
pub trait Transformation: Send {
    fn configure(&mut self, config: &Config) -> Result<()>;

    /// The changed record, or `None` to drop it.
    fn apply(&mut self, record: Record) -> Result<Option<Record>>;
}

/// Decides for which records a transform runs.
pub trait Predicate: Send {
    fn configure(&mut self, config: &Config) -> Result<()>;

    fn test(&self, record: &Record) -> bool;
}
