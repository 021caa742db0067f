//! A bounds-checked reader.

use std::fmt;

/// Bytes that are not what their format promises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(pub String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Malformed {}

pub type Result<T> = std::result::Result<T, Malformed>;

/// Reads front to back; every read checks the length first.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8]> {
        let Some((head, tail)) = self.0.split_at_checked(count) else {
            return Err(Malformed(format!("{count} bytes wanted, {} left", self.0.len())));
        };
        self.0 = tail;
        Ok(head)
    }

    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.bytes(1)?[0])
    }

    /// An unsigned little-endian number of `width` bytes, at most 8.
    pub fn uint(&mut self, width: usize) -> Result<u64> {
        Ok(self.bytes(width)?.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)))
    }

    /// A signed little-endian number of `width` bytes, at most 8.
    pub fn int(&mut self, width: usize) -> Result<i64> {
        let shift = 64 - 8 * width as u32;
        Ok((self.uint(width)? << shift) as i64 >> shift)
    }

    /// An unsigned big-endian number of `width` bytes, at most 8.
    pub fn uint_be(&mut self, width: usize) -> Result<u64> {
        Ok(self.bytes(width)?.iter().fold(0, |n, b| n << 8 | u64::from(*b)))
    }

    /// MySQL's packed integer.
    pub fn packed(&mut self) -> Result<u64> {
        match self.u8()? {
            n @ 0..=250 => Ok(n.into()),
            252 => self.uint(2),
            253 => self.uint(3),
            254 => self.uint(8),
            n => Err(Malformed(format!("{n} does not start a packed integer"))),
        }
    }

    /// A packed integer that counts bytes or items that follow, so that it cannot exceed what is left.
    pub fn packed_len(&mut self) -> Result<usize> {
        let len = self.packed()?;
        usize::try_from(len)
            .ok()
            .filter(|n| *n <= self.0.len())
            .ok_or_else(|| Malformed(format!("length {len} exceeds the {} bytes left", self.0.len())))
    }

    pub fn packed_bytes(&mut self) -> Result<&'a [u8]> {
        let len = self.packed_len()?;
        self.bytes(len)
    }

    /// Text with its length in one byte before and a zero byte behind.
    pub fn short_text(&mut self) -> Result<String> {
        let len = self.u8()?.into();
        let text = String::from_utf8_lossy(self.bytes(len)?).into_owned();
        self.u8()?;
        Ok(text)
    }
}

/// Bit `index` of a bitmap whose first bit is the lowest of the first byte; unset where the bitmap is too short.
pub fn bit(bitmap: &[u8], index: usize) -> bool {
    bitmap.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_and_never_past_the_end() {
        let mut r = Reader(&[0xff, 0xff, 0x7f, 0x01, 0x02, 252, 1, 1]);
        assert_eq!(r.int(2).unwrap(), -1);
        assert_eq!(r.int(1).unwrap(), 127);
        assert_eq!(r.uint_be(2).unwrap(), 258);
        assert_eq!(r.packed().unwrap(), 257);
        assert!(r.u8().is_err());
        assert!(Reader(&[10, 1]).packed_bytes().is_err());
    }
}
