//! Character sets of columns.

use std::collections::HashMap;

use bytestring::ByteString;

/// How text of a column is encoded in the binlog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Charset {
    Utf8,
    Latin1,
    Ascii,
    Binary,
    /// Two bytes a character, big-endian; surrogate pairs where the charset has them.
    Utf16,
    Utf16Le,
    Utf32,
    /// One that this connector cannot decode.
    Other(String),
}

impl Charset {
    /// The charset that MySQL calls `name`.
    pub fn named(name: &str) -> Self {
        match name {
            "utf8mb4" | "utf8mb3" | "utf8" => Self::Utf8,
            "latin1" => Self::Latin1,
            "ascii" => Self::Ascii,
            "binary" => Self::Binary,
            "ucs2" | "utf16" => Self::Utf16,
            "utf16le" => Self::Utf16Le,
            "utf32" => Self::Utf32,
            other => Self::Other(other.to_owned()),
        }
    }

    /// Text of this charset as UTF-8; what is not valid becomes U+FFFD. The error names the charset.
    pub fn decode(&self, bytes: &[u8]) -> Result<ByteString, String> {
        if bytes.is_ascii() && matches!(self, Self::Utf8 | Self::Latin1 | Self::Ascii | Self::Other(_)) {
            return Ok(utf8(bytes));
        }
        Ok(match self {
            Self::Utf8 | Self::Ascii | Self::Binary => utf8(bytes),
            Self::Latin1 => bytes.iter().map(|b| latin1(*b)).collect::<String>().into(),
            Self::Utf16 => utf16(bytes, u16::from_be_bytes),
            Self::Utf16Le => utf16(bytes, u16::from_le_bytes),
            Self::Utf32 => bytes
                .chunks(4)
                .map(|c| {
                    let code = c.iter().fold(0u32, |n, b| n << 8 | u32::from(*b));
                    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
                })
                .collect::<String>()
                .into(),
            Self::Other(name) => return Err(name.clone()),
        })
    }
}

fn utf8(bytes: &[u8]) -> ByteString {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => String::from_utf8_lossy(bytes).into_owned().into(),
    }
}

fn utf16(bytes: &[u8], order: fn([u8; 2]) -> u16) -> ByteString {
    let units = bytes.chunks_exact(2).map(|pair| order([pair[0], pair[1]]));
    char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect::<String>().into()
}

/// MySQL's latin1 is Windows-1252 with the five holes filled by the control characters of ISO 8859-1.
fn latin1(byte: u8) -> char {
    const HIGH: [u16; 32] = [
        0x20ac, 0x81, 0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160, 0x2039, 0x0152,
        0x8d, 0x017d, 0x8f, 0x90, 0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014, 0x02dc, 0x2122,
        0x0161, 0x203a, 0x0153, 0x9d, 0x017e, 0x0178,
    ];
    match byte {
        0x80..=0x9f => {
            char::from_u32(HIGH[usize::from(byte - 0x80)].into()).unwrap_or(char::REPLACEMENT_CHARACTER)
        }
        _ => char::from(byte),
    }
}

/// Which charset each collation id of the server stands for.
#[derive(Clone, Debug, Default)]
pub struct Collations(HashMap<u16, String>);

impl Collations {
    pub fn new(pairs: impl IntoIterator<Item = (u16, String)>) -> Self {
        Self(pairs.into_iter().collect())
    }

    /// Name of the charset; binary is the one of id 63 on every server.
    pub fn charset_name(&self, collation: u16) -> Option<&str> {
        match collation {
            63 => Some("binary"),
            id => self.0.get(&id).map(String::as_str),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes() {
        for (charset, bytes, text) in [
            ("utf8mb4", "h€😀".as_bytes(), "h€😀"),
            ("latin1", &[0xe4, 0x80, b'a'], "ä€a"),
            ("ucs2", &[0, b'a', 0x20, 0xac], "a€"),
            ("utf16", &[0xd8, 0x3d, 0xde, 0x00], "😀"),
            ("utf16le", &[b'a', 0], "a"),
            ("utf32", &[0, 1, 0xf6, 0], "😀"),
            ("cp1250", b"plain", "plain"),
        ] {
            assert_eq!(Charset::named(charset).decode(bytes).unwrap(), text, "{charset}");
        }
        assert_eq!(Charset::named("sjis").decode(&[0x83, 0x65]), Err("sjis".to_owned()));
    }
}
