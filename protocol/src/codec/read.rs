//! Readers. Each takes one value from the front of the buffer and names `field` in its errors.

use bytes::{Buf as _, Bytes};
use bytestring::ByteString;

use super::varint;
use crate::ids::Uuid;
use crate::message::{Decode, DecodeError};

/// Memory that is reserved for an array before its first element has been read; more comes as elements do.
const FIRST_RESERVATION: usize = 64 * 1024;

/// Refuses a version that the message does not have.
pub fn check_version(message: &'static str, version: i16, min: i16, max: i16) -> Result<(), DecodeError> {
    if version < min || version > max {
        return Err(DecodeError::UnsupportedVersion { message, version });
    }
    Ok(())
}

fn need(buf: &Bytes, needed: usize, field: &'static str) -> Result<(), DecodeError> {
    if buf.len() < needed {
        return Err(DecodeError::Truncated { field, needed, left: buf.len() });
    }
    Ok(())
}

macro_rules! fixed {
    ($($name:ident: $ty:ty = $get:ident;)*) => {$(
        /// Takes a big-endian number.
        pub fn $name(buf: &mut Bytes, field: &'static str) -> Result<$ty, DecodeError> {
            need(buf, size_of::<$ty>(), field)?;
            Ok(buf.$get())
        }
    )*};
}

fixed! {
    i8: i8 = get_i8;
    i16: i16 = get_i16;
    i32: i32 = get_i32;
    i64: i64 = get_i64;
    u16: u16 = get_u16;
    u32: u32 = get_u32;
    f64: f64 = get_f64;
}

/// Takes one byte; all but 0 are true.
pub fn bool(buf: &mut Bytes, field: &'static str) -> Result<bool, DecodeError> {
    i8(buf, field).map(|b| b != 0)
}

/// Takes 16 bytes.
pub fn uuid(buf: &mut Bytes, field: &'static str) -> Result<Uuid, DecodeError> {
    need(buf, 16, field)?;
    let mut id = [0; 16];
    buf.copy_to_slice(&mut id);
    Ok(Uuid(id))
}

/// Takes a length or count: compact where `flexible`, otherwise 16 bits for a string and 32 for the rest.
fn length(
    buf: &mut Bytes,
    flexible: bool,
    short: bool,
    field: &'static str,
) -> Result<Option<usize>, DecodeError> {
    let length = if flexible {
        i64::from(varint::get_u32(buf, field)?) - 1
    } else if short {
        i64::from(i16(buf, field)?)
    } else {
        i64::from(i32(buf, field)?)
    };
    match length {
        -1 => Ok(None),
        0.. => usize::try_from(length).map(Some).map_err(|_| DecodeError::BadLength {
            field,
            length,
            left: buf.len(),
        }),
        _ => Err(DecodeError::BadLength { field, length, left: buf.len() }),
    }
}

fn slice(buf: &mut Bytes, length: usize, field: &'static str) -> Result<Bytes, DecodeError> {
    if length > buf.len() {
        return Err(DecodeError::BadLength { field, length: length as i64, left: buf.len() });
    }
    Ok(buf.split_to(length))
}

/// Takes a string that may be null.
pub fn nullable_string(
    buf: &mut Bytes,
    flexible: bool,
    field: &'static str,
) -> Result<Option<ByteString>, DecodeError> {
    let Some(length) = length(buf, flexible, true, field)? else { return Ok(None) };
    let bytes = slice(buf, length, field)?;
    ByteString::try_from(bytes).map(Some).map_err(|_| DecodeError::NotUtf8 { field })
}

/// Takes a string that may not be null.
pub fn string(
    buf: &mut Bytes,
    flexible: bool,
    version: i16,
    field: &'static str,
) -> Result<ByteString, DecodeError> {
    nullable_string(buf, flexible, field)?.ok_or(DecodeError::UnexpectedNull { field, version })
}

/// Takes bytes or records that may be null.
pub fn nullable_bytes(
    buf: &mut Bytes,
    flexible: bool,
    field: &'static str,
) -> Result<Option<Bytes>, DecodeError> {
    match length(buf, flexible, false, field)? {
        Some(length) => slice(buf, length, field).map(Some),
        None => Ok(None),
    }
}

/// Takes bytes that may not be null.
pub fn bytes(
    buf: &mut Bytes,
    flexible: bool,
    version: i16,
    field: &'static str,
) -> Result<Bytes, DecodeError> {
    nullable_bytes(buf, flexible, field)?.ok_or(DecodeError::UnexpectedNull { field, version })
}

/// Takes an array that may be null. `least` is the size of the smallest element: a count that could not fit in what is
/// left of the buffer is refused before anything is reserved for it.
pub fn nullable_array<T>(
    buf: &mut Bytes,
    flexible: bool,
    least: usize,
    field: &'static str,
    mut element: impl FnMut(&mut Bytes) -> Result<T, DecodeError>,
) -> Result<Option<Vec<T>>, DecodeError> {
    let Some(count) = length(buf, flexible, false, field)? else { return Ok(None) };
    if count > buf.len() / least {
        return Err(DecodeError::BadLength { field, length: count as i64, left: buf.len() });
    }
    let mut items = Vec::with_capacity(count.min(FIRST_RESERVATION / size_of::<T>().max(1)));
    for _ in 0..count {
        items.push(element(buf)?);
    }
    Ok(Some(items))
}

/// Takes an array that may not be null; see [`nullable_array`].
pub fn array<T>(
    buf: &mut Bytes,
    flexible: bool,
    least: usize,
    version: i16,
    field: &'static str,
    element: impl FnMut(&mut Bytes) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    nullable_array(buf, flexible, least, field, element)?
        .ok_or(DecodeError::UnexpectedNull { field, version })
}

/// Takes a struct that may be null, which a byte before it tells.
pub fn nullable_struct<T: Decode>(
    buf: &mut Bytes,
    version: i16,
    field: &'static str,
) -> Result<Option<T>, DecodeError> {
    if i8(buf, field)? < 0 { Ok(None) } else { T::decode(buf, version).map(Some) }
}

/// A struct that may be null, in a tagged field: there a varint tells, and 0 stands for null.
pub fn tagged_nullable_struct<T: Decode>(
    buf: &mut Bytes,
    version: i16,
    field: &'static str,
) -> Result<Option<T>, DecodeError> {
    if varint::get_u32(buf, field)? == 0 { Ok(None) } else { T::decode(buf, version).map(Some) }
}

/// Passes a value that is there, or may be missing in this version.
pub fn not_null<T>(
    may_be_null: bool,
    value: Option<T>,
    version: i16,
    field: &'static str,
) -> Result<Option<T>, DecodeError> {
    if value.is_none() && !may_be_null {
        return Err(DecodeError::UnexpectedNull { field, version });
    }
    Ok(value)
}

/// Takes the block of tagged fields. `known` is given each tag and its bytes, and answers whether it read them; what it
/// does not know is skipped. A known field must use up its bytes.
pub fn tags(
    buf: &mut Bytes,
    field: &'static str,
    mut known: impl FnMut(u32, &mut Bytes) -> Result<bool, DecodeError>,
) -> Result<(), DecodeError> {
    let count = varint::get_u32(buf, field)?;
    for _ in 0..count {
        let tag = varint::get_u32(buf, field)?;
        let size = varint::get_u32(buf, field)? as usize;
        let mut value = slice(buf, size, field)?;
        if known(tag, &mut value)? && !value.is_empty() {
            let why = format!("{} bytes left over in tag {tag}", value.len());
            return Err(DecodeError::Invalid { field, why });
        }
    }
    Ok(())
}

/// Skips a block of tagged fields, none of which is known.
pub fn skip_tags(buf: &mut Bytes, field: &'static str) -> Result<(), DecodeError> {
    tags(buf, field, |_, _| Ok(false))
}
