//! The converters that every worker has.

mod bytes;
pub mod explain;
mod header;
mod json;
mod primitive;
mod string;

pub use self::bytes::ByteArrayConverter;
pub use self::header::SimpleHeaderConverter;
pub use self::json::JsonConverter;
pub use self::string::StringConverter;
