//! The primitives of the wire: fixed numbers, variable-length integers, and lengths in their plain and compact forms.
//!
//! Readers take from the front of a [`bytes::Bytes`] and hand out slices of it. They check every length against the
//! bytes that are left before anything is reserved. Writers append to a [`bytes::BytesMut`].

pub mod read;
pub mod varint;
pub mod write;
