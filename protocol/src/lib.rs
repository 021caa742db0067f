//! The Kafka wire protocol.
//!
//! - [`messages`]: every request and response that we serve or call, generated from the facts in `protocol/schema/`
//!   by `cargo xtask protocol`. One struct per message holds the fields of all versions; [`Encode`] and [`Decode`] take
//!   the version.
//! - [`records`]: views over record batches (magic 2) that borrow the request's bytes, a builder, and compression.
//! - [`api`], [`header`], [`frame`], [`error_code`]: the table of APIs, headers, whole frames, and Kafka's error codes.
//! - [`fetch_plan`]: the Fetch response as bytes to write and file slices to send.
//! - [`ids`]: newtypes for the wire's numbers.
//!
//! Strings and bytes that are decoded are slices of the buffer they came from ([`bytestring::ByteString`],
//! [`bytes::Bytes`]): nothing is copied, and nothing is allocated from a length that the input only claims.

pub mod api;
pub mod codec;
pub mod error_code;
pub mod fetch_plan;
pub mod frame;
pub mod header;
pub mod ids;
pub mod message;
pub mod raft_voters;
pub mod records;

#[path = "generated/mod.rs"]
pub mod messages;

pub use api::{Api, ApiKey};
pub use error_code::ErrorCode;
pub use message::{Decode, DecodeError, Encode, EncodeError, Request};
