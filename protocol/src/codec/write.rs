//! Writers. Each appends one value; the fallible ones name `field` in their errors.

use bytes::{BufMut as _, BytesMut};

use super::varint;
use crate::message::{Encode, EncodeError};

/// Refuses a version that the message does not have.
pub fn check_version(message: &'static str, version: i16, min: i16, max: i16) -> Result<(), EncodeError> {
    if version < min || version > max {
        return Err(EncodeError::UnsupportedVersion { message, version });
    }
    Ok(())
}

/// The error for a value that the version cannot carry.
pub fn not_in_version(field: &'static str, version: i16) -> EncodeError {
    EncodeError::FieldNotInVersion { field, version }
}

/// Refuses a null where the version allows none.
pub fn not_null(fine: bool, field: &'static str, version: i16) -> Result<(), EncodeError> {
    if fine { Ok(()) } else { Err(EncodeError::UnexpectedNull { field, version }) }
}

/// Writes a length or count, `None` for null: compact where `flexible`, otherwise 16 bits for a string and 32 for the
/// rest.
fn length(
    buf: &mut BytesMut,
    flexible: bool,
    short: bool,
    length: Option<usize>,
    field: &'static str,
) -> Result<(), EncodeError> {
    let most = if short { i16::MAX as usize } else { i32::MAX as usize };
    match length {
        Some(length) if length > most => return Err(EncodeError::TooLong { field, length }),
        Some(length) if flexible => varint::put_u32(buf, length as u32 + 1),
        Some(length) if short => buf.put_i16(length as i16),
        Some(length) => buf.put_i32(length as i32),
        None if flexible => buf.put_u8(0),
        None if short => buf.put_i16(-1),
        None => buf.put_i32(-1),
    }
    Ok(())
}

/// Writes a string.
pub fn string(
    buf: &mut BytesMut,
    flexible: bool,
    value: &str,
    field: &'static str,
) -> Result<(), EncodeError> {
    nullable_string(buf, flexible, Some(value), field)
}

/// Writes a string or null.
pub fn nullable_string(
    buf: &mut BytesMut,
    flexible: bool,
    value: Option<&str>,
    field: &'static str,
) -> Result<(), EncodeError> {
    length(buf, flexible, true, value.map(str::len), field)?;
    buf.put_slice(value.unwrap_or_default().as_bytes());
    Ok(())
}

/// Writes bytes or records.
pub fn bytes(
    buf: &mut BytesMut,
    flexible: bool,
    value: &[u8],
    field: &'static str,
) -> Result<(), EncodeError> {
    nullable_bytes(buf, flexible, Some(value), field)
}

/// Writes bytes, records or null.
pub fn nullable_bytes(
    buf: &mut BytesMut,
    flexible: bool,
    value: Option<&[u8]>,
    field: &'static str,
) -> Result<(), EncodeError> {
    bytes_length(buf, flexible, value.map(<[u8]>::len), field)?;
    buf.put_slice(value.unwrap_or_default());
    Ok(())
}

/// Writes the length of bytes or records that the caller writes next; `None` for null.
pub fn bytes_length(
    buf: &mut BytesMut,
    flexible: bool,
    value: Option<usize>,
    field: &'static str,
) -> Result<(), EncodeError> {
    length(buf, flexible, false, value, field)
}

/// Writes an array.
pub fn array<T>(
    buf: &mut BytesMut,
    flexible: bool,
    items: &[T],
    field: &'static str,
    element: impl FnMut(&mut BytesMut, &T) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    nullable_array(buf, flexible, Some(items), field, element)
}

/// Writes an array or null.
pub fn nullable_array<T>(
    buf: &mut BytesMut,
    flexible: bool,
    items: Option<&[T]>,
    field: &'static str,
    mut element: impl FnMut(&mut BytesMut, &T) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    array_length(buf, flexible, items.map(<[T]>::len), field)?;
    items.unwrap_or_default().iter().try_for_each(|item| element(buf, item))
}

/// Writes the count of an array whose elements the caller writes next; `None` for null.
pub fn array_length(
    buf: &mut BytesMut,
    flexible: bool,
    count: Option<usize>,
    field: &'static str,
) -> Result<(), EncodeError> {
    length(buf, flexible, false, count, field)
}

/// Writes a struct or null, which a byte before it tells.
pub fn nullable_struct<T: Encode>(
    buf: &mut BytesMut,
    value: Option<&T>,
    version: i16,
) -> Result<(), EncodeError> {
    match value {
        Some(value) => {
            buf.put_i8(1);
            value.encode(buf, version)
        }
        None => {
            buf.put_i8(-1);
            Ok(())
        }
    }
}

/// A struct that may be null, in a tagged field: there a varint tells, and 0 stands for null.
pub fn tagged_nullable_struct<T: Encode>(
    buf: &mut BytesMut,
    value: Option<&T>,
    version: i16,
) -> Result<(), EncodeError> {
    buf.put_u8(value.is_some().into());
    value.map_or(Ok(()), |value| value.encode(buf, version))
}

/// The block of tagged fields of one struct, gathered in the order of tags. Empty, it costs no memory.
#[derive(Default)]
pub struct Tags {
    count: u32,
    block: BytesMut,
    value: BytesMut,
}

impl Tags {
    /// Where the next tagged field's value goes.
    pub fn start(&mut self) -> &mut BytesMut {
        self.value.clear();
        &mut self.value
    }

    /// Takes what was written since [`Tags::start`] as the value of `tag`.
    pub fn end(&mut self, tag: u32, field: &'static str) -> Result<(), EncodeError> {
        let length = self.value.len();
        let size = u32::try_from(length).map_err(|_| EncodeError::TooLong { field, length })?;
        self.count += 1;
        varint::put_u32(&mut self.block, tag);
        varint::put_u32(&mut self.block, size);
        self.block.put_slice(&self.value);
        Ok(())
    }

    /// Appends the block.
    pub fn finish(self, buf: &mut BytesMut) {
        varint::put_u32(buf, self.count);
        buf.put_slice(&self.block);
    }
}
