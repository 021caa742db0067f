//! Variable-length integers: seven bits a byte, least significant first, the top bit set on all but the last.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::message::DecodeError;

/// Appends an unsigned 32-bit integer, one to five bytes.
pub fn put_u32(buf: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        buf.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    buf.put_u8(value as u8);
}

/// Appends an unsigned 64-bit integer, one to ten bytes.
pub fn put_u64(buf: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        buf.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    buf.put_u8(value as u8);
}

/// Appends a signed 32-bit integer in zigzag form.
pub fn put_i32(buf: &mut BytesMut, value: i32) {
    put_u32(buf, ((value << 1) ^ (value >> 31)) as u32);
}

/// Appends a signed 64-bit integer in zigzag form.
pub fn put_i64(buf: &mut BytesMut, value: i64) {
    put_u64(buf, ((value << 1) ^ (value >> 63)) as u64);
}

/// How many bytes [`put_u32`] takes.
pub fn len_u32(value: u32) -> usize {
    (38 - value.leading_zeros() as usize).max(7) / 7
}

/// How many bytes [`put_u64`] takes.
pub fn len_u64(value: u64) -> usize {
    (70 - value.leading_zeros() as usize).max(7) / 7
}

/// Takes an unsigned 32-bit integer.
pub fn get_u32(buf: &mut Bytes, field: &'static str) -> Result<u32, DecodeError> {
    let (value, used) = peek(buf, 5, field)?;
    // The fifth byte has room for four bits only.
    let value = u32::try_from(value).map_err(|_| DecodeError::BadVarint { field })?;
    buf.advance(used);
    Ok(value)
}

/// Takes an unsigned 64-bit integer.
pub fn get_u64(buf: &mut Bytes, field: &'static str) -> Result<u64, DecodeError> {
    let (value, used) = peek(buf, 10, field)?;
    buf.advance(used);
    Ok(value)
}

/// Takes a signed 32-bit integer in zigzag form.
pub fn get_i32(buf: &mut Bytes, field: &'static str) -> Result<i32, DecodeError> {
    get_u32(buf, field).map(|v| (v >> 1) as i32 ^ -((v & 1) as i32))
}

/// Takes a signed 64-bit integer in zigzag form.
pub fn get_i64(buf: &mut Bytes, field: &'static str) -> Result<i64, DecodeError> {
    get_u64(buf, field).map(|v| (v >> 1) as i64 ^ -((v & 1) as i64))
}

fn peek(buf: &[u8], most: usize, field: &'static str) -> Result<(u64, usize), DecodeError> {
    let mut value = 0u64;
    for (i, byte) in buf.iter().take(most).enumerate() {
        if i == 9 && *byte > 1 {
            break;
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Ok((value, i + 1));
        }
    }
    if buf.len() < most {
        return Err(DecodeError::Truncated { field, needed: buf.len() + 1, left: buf.len() });
    }
    Err(DecodeError::BadVarint { field })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_round_trip_at_every_length() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1u64 << shift) - 1, u64::MAX >> shift] {
                let mut buf = BytesMut::new();
                put_u64(&mut buf, value);
                assert_eq!(buf.len(), len_u64(value));
                put_i64(&mut buf, value as i64);
                put_i32(&mut buf, value as i32);
                let before = buf.len();
                put_u32(&mut buf, value as u32);
                assert_eq!(buf.len() - before, len_u32(value as u32));
                let mut read = buf.freeze();
                assert_eq!(get_u64(&mut read, "f"), Ok(value));
                assert_eq!(get_i64(&mut read, "f"), Ok(value as i64));
                assert_eq!(get_i32(&mut read, "f"), Ok(value as i32));
                assert_eq!(get_u32(&mut read, "f"), Ok(value as u32));
                assert!(read.is_empty());
            }
        }
    }

    #[test]
    fn an_endless_or_cut_integer_is_an_error() {
        let endless = Bytes::from_static(&[0xff; 20]);
        assert_eq!(get_u32(&mut endless.clone(), "f"), Err(DecodeError::BadVarint { field: "f" }));
        assert_eq!(get_u64(&mut endless.clone(), "f"), Err(DecodeError::BadVarint { field: "f" }));
        let wide = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x1f]);
        assert_eq!(get_u32(&mut wide.clone(), "f"), Err(DecodeError::BadVarint { field: "f" }));
        let cut = Bytes::from_static(&[0x80]);
        assert_eq!(
            get_u32(&mut cut.clone(), "f"),
            Err(DecodeError::Truncated { field: "f", needed: 2, left: 1 })
        );
    }
}
