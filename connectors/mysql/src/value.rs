//! Values on their way from the server's forms to Connect's.

pub mod charset;
pub mod convert;
pub mod time;

use aqueduct_connect_api::Decimal;

/// A date as the server stores it: zeros and impossible days included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CivilDate {
    pub year: u32,
    pub month: u8,
    pub day: u8,
}

/// A time of day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CivilTime {
    pub hour: u8,
    pub minute: u8,
    pub second: u8,
    pub micros: u32,
}

/// A value out of a row event or a result set, before it is known what the topic shall show.
#[derive(Clone, Debug, PartialEq)]
pub enum Raw<'a> {
    Null,
    Int(i64),
    UInt(u64),
    Float(f32),
    Double(f64),
    Decimal(Decimal),
    /// Bytes, or text in the column's charset.
    Bytes(&'a [u8]),
    /// Text that the server has converted to UTF-8.
    Utf8(&'a [u8]),
    /// Binary JSON.
    Json(&'a [u8]),
    Date(CivilDate),
    /// Microseconds, possibly negative or longer than a day.
    Time(i64),
    DateTime(CivilDate, CivilTime),
    /// Since 1970 in UTC; all zero is the server's zero timestamp.
    Timestamp {
        seconds: i64,
        micros: u32,
    },
}

/// Base 64 with padding; with the letters for URLs on demand.
pub fn base64(bytes: &[u8], for_urls: bool) -> String {
    const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let letters = if for_urls { URL } else { STANDARD };
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            text.push(if at <= chunk.len() {
                char::from(letters[(word >> (18 - 6 * at) & 63) as usize])
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn base64_pads() {
        for (bytes, text) in
            [(&b""[..], ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (b"\xff\xfe", "//4=")]
        {
            assert_eq!(super::base64(bytes, false), text);
        }
        assert_eq!(super::base64(b"\xff\xfe", true), "__4=");
    }
}
