//! Zigzag variable-length integers, as records use them.

use super::RecordError;

/// A position in a slice that only moves forward.
pub(super) struct Cursor<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(super) fn byte(&mut self, field: &'static str) -> Result<u8, RecordError> {
        let byte = *self.bytes.get(self.at).ok_or(RecordError::Truncated { field, needed: 1, left: 0 })?;
        self.at += 1;
        Ok(byte)
    }

    /// Takes `length` bytes and returns where they begin.
    pub(super) fn take(&mut self, field: &'static str, length: usize) -> Result<usize, RecordError> {
        if length > self.left() {
            return Err(RecordError::Truncated { field, needed: length, left: self.left() });
        }
        let start = self.at;
        self.at += length;
        Ok(start)
    }

    pub(super) fn varint(&mut self, field: &'static str) -> Result<i32, RecordError> {
        // Nearly every length and delta fits one byte.
        if let Some(&byte) = self.bytes.get(self.at)
            && byte < 0x80
        {
            self.at += 1;
            return Ok(((byte >> 1) as i32) ^ -((byte & 1) as i32));
        }
        let mut raw: u32 = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.byte(field)?;
            raw |= ((byte & 0x7f) as u32).wrapping_shl(shift);
            if byte < 0x80 {
                return Ok(((raw >> 1) as i32) ^ -((raw & 1) as i32));
            }
        }
        Err(RecordError::BadVarint { field })
    }

    pub(super) fn varlong(&mut self, field: &'static str) -> Result<i64, RecordError> {
        let mut raw: u64 = 0;
        for shift in (0..70).step_by(7) {
            let byte = self.byte(field)?;
            raw |= ((byte & 0x7f) as u64).wrapping_shl(shift);
            if byte < 0x80 {
                return Ok(((raw >> 1) as i64) ^ -((raw & 1) as i64));
            }
        }
        Err(RecordError::BadVarint { field })
    }
}

pub(super) fn put_varint(out: &mut Vec<u8>, value: i32) {
    put_raw(out, ((value << 1) ^ (value >> 31)) as u32 as u64);
}

pub(super) fn put_varlong(out: &mut Vec<u8>, value: i64) {
    put_raw(out, ((value << 1) ^ (value >> 63)) as u64);
}

fn put_raw(out: &mut Vec<u8>, mut raw: u64) {
    while raw >= 0x80 {
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

/// Bytes that [`put_varint`] writes for `value`.
pub(super) fn varint_len(value: i32) -> usize {
    raw_len(((value << 1) ^ (value >> 31)) as u32 as u64)
}

/// Bytes that [`put_varlong`] writes for `value`.
pub(super) fn varlong_len(value: i64) -> usize {
    raw_len(((value << 1) ^ (value >> 63)) as u64)
}

fn raw_len(raw: u64) -> usize {
    (64 - (raw | 1).leading_zeros() as usize).div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_round_trip_with_the_length_promised() {
        for value in
            [0i64, 1, -1, 63, 64, -64, -65, 8191, 8192, i32::MAX as i64, i32::MIN as i64, i64::MAX, i64::MIN]
        {
            let mut out = Vec::new();
            put_varlong(&mut out, value);
            assert_eq!(out.len(), varlong_len(value));
            assert_eq!(Cursor { bytes: &out, at: 0 }.varlong("v").unwrap(), value);
            if let Ok(small) = i32::try_from(value) {
                out.clear();
                put_varint(&mut out, small);
                assert_eq!(out.len(), varint_len(small));
                assert_eq!(Cursor { bytes: &out, at: 0 }.varint("v").unwrap(), small);
            }
        }
    }

    #[test]
    fn an_endless_integer_is_refused() {
        let bytes = [0xffu8; 11];
        assert!(matches!(Cursor { bytes: &bytes, at: 0 }.varint("v"), Err(RecordError::BadVarint { .. })));
        assert!(matches!(Cursor { bytes: &bytes, at: 0 }.varlong("v"), Err(RecordError::BadVarint { .. })));
        assert!(matches!(
            Cursor { bytes: &bytes[..3], at: 0 }.varint("v"),
            Err(RecordError::Truncated { .. })
        ));
    }
}
