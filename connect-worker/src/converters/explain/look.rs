//! What bytes seem to be.

use std::fmt;

use serde::Deserialize;
use serde::de::IgnoredAny;

/// JSON is checked to its end up to this size.
const CHECKED: usize = 1 << 20;

/// Formats whose bytes name a schema in a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    Avro,
    Protobuf,
    JsonSchema,
}

/// A guess, the best one that the bytes allow.
#[derive(Clone, Debug, PartialEq)]
pub enum Look {
    /// A zero byte, four bytes of a schema's id, and data.
    Registered {
        format: Registered,
        id: u32,
    },
    /// JSON with exactly the members `schema` and `payload`.
    Envelope,
    /// Other JSON, and what kind of value it is.
    Json(&'static str),
    /// What begins like JSON and is not; the parser's complaint.
    BrokenJson(String),
    /// Readable text.
    Text,
    /// As many bytes as a number has, not text: its value as an integer.
    Number {
        size: usize,
        value: i64,
    },
    Boolean,
    /// A format that begins with a mark of its own.
    Known(&'static str),
    /// Fields as Protobuf writes them, with no id in front.
    Protobuf,
    Binary,
}

impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registered { format, id } => {
                let format = match format {
                    Registered::Avro => "Avro",
                    Registered::Protobuf => "Protobuf",
                    Registered::JsonSchema => "JSON Schema",
                };
                write!(f, "{format} in the wire format of a schema registry, with schema id {id}")
            }
            Self::Envelope => {
                f.write_str("JSON with its schema beside it (members \"schema\" and \"payload\")")
            }
            Self::Json(kind) => write!(f, "JSON without a schema, {kind}"),
            Self::BrokenJson(why) => write!(f, "JSON that is broken: {why}"),
            Self::Text => f.write_str("UTF-8 text"),
            Self::Number { size, value } => match size {
                8 => {
                    let double = f64::from_bits(*value as u64);
                    write!(f, "an int64 ({value}) or a float64 ({double:e})")
                }
                4 => {
                    let float = f32::from_bits(*value as u32);
                    write!(f, "an int32 ({value}) or a float32 ({float:e})")
                }
                _ => write!(f, "an int16 ({value})"),
            },
            Self::Boolean => f.write_str("a boolean of one byte"),
            Self::Known(what) => f.write_str(what),
            Self::Protobuf => f.write_str("Protobuf without a schema registry's id in front"),
            Self::Binary => f.write_str("binary data of no format that is known here"),
        }
    }
}

impl Look {
    /// The guess for `bytes`, which are not empty.
    pub fn of(bytes: &[u8]) -> Self {
        const MARKS: [(&[u8], &str); 9] = [
            (b"\xac\xed\x00\x05", "an object that Java serialised"),
            (b"\x1f\x8b", "gzip data"),
            (b"\x28\xb5\x2f\xfd", "zstd data"),
            (b"Obj\x01", "an Avro container file"),
            (b"PAR1", "a Parquet file"),
            (b"\xef\xbb\xbf", "UTF-8 text behind a byte order mark"),
            (b"\xff\xfe", "UTF-16 text"),
            (b"\xfe\xff", "UTF-16 text"),
            (b"<?xml", "XML"),
        ];
        if let Some((_, what)) = MARKS.iter().find(|(mark, _)| bytes.starts_with(mark)) {
            return Self::Known(what);
        }
        let number = number(bytes);
        if let Some(registered) = registered(bytes)
            && !matches!(number, Some(Self::Number { size: 8, value }) if is_recent(value))
        {
            return registered;
        }
        if let Some(text) = readable(bytes) {
            return of_text(text);
        }
        match number {
            Some(number) => number,
            None if is_protobuf(bytes) => Self::Protobuf,
            None => Self::Binary,
        }
    }
}

/// Whether a number is the time of a record, in milliseconds since 1970: the most common int64 that there is.
fn is_recent(value: i64) -> bool {
    (500_000_000_000..5_000_000_000_000).contains(&value)
}

fn registered(bytes: &[u8]) -> Option<Look> {
    const LARGEST_ID: u32 = 50_000_000;
    let (head, rest) = bytes.split_first_chunk::<5>()?;
    let [0, id @ ..] = *head else { return None };
    let id = u32::from_be_bytes(id);
    if id == 0 || id > LARGEST_ID || rest.is_empty() {
        return None;
    }
    let format = match rest {
        [b'{' | b'[' | b'"', ..] if serde_json::from_slice::<IgnoredAny>(rest).is_ok() => {
            Registered::JsonSchema
        }
        // The first message of the schema is one zero byte, then its fields.
        [0, fields @ ..] if is_protobuf(fields) => Registered::Protobuf,
        _ => Registered::Avro,
    };
    Some(Look::Registered { format, id })
}

fn number(bytes: &[u8]) -> Option<Look> {
    let (size, value) = match *bytes {
        [0 | 1] => return Some(Look::Boolean),
        [a, b] => (2, i16::from_be_bytes([a, b]).into()),
        [a, b, c, d] => (4, i32::from_be_bytes([a, b, c, d]).into()),
        [a, b, c, d, e, f, g, h] => (8, i64::from_be_bytes([a, b, c, d, e, f, g, h])),
        _ => return None,
    };
    Some(Look::Number { size, value })
}

fn readable(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let odd = |c: char| c.is_control() && !matches!(c, '\t' | '\r' | '\n');
    (!text.contains(odd)).then_some(text)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    #[serde(rename = "schema")]
    _schema: IgnoredAny,
    #[serde(rename = "payload")]
    _payload: IgnoredAny,
}

fn of_text(text: &str) -> Look {
    let kind = match text.trim_start().bytes().next() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string in quotes",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        Some(b'-' | b'0'..=b'9') => "a number",
        _ => return Look::Text,
    };
    if text.len() > CHECKED {
        return Look::Json(kind);
    }
    if kind == "an object" && serde_json::from_str::<Envelope>(text).is_ok() {
        return Look::Envelope;
    }
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Look::Json(kind),
        Err(error) if matches!(kind, "an object" | "an array") => Look::BrokenJson(error.to_string()),
        Err(_) => Look::Text,
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Whether the bytes are fields of Protobuf to their end.
fn is_protobuf(mut bytes: &[u8]) -> bool {
    if bytes.is_empty() {
        return false;
    }
    while !bytes.is_empty() {
        let Some(tag) = varint(&mut bytes) else { return false };
        if !(1..1 << 29).contains(&(tag >> 3)) {
            return false;
        }
        let size = match tag & 7 {
            0 => varint(&mut bytes).map(|_| 0),
            1 => Some(8),
            2 => varint(&mut bytes),
            5 => Some(4),
            _ => None,
        };
        let rest = size.and_then(|size| bytes.get(usize::try_from(size).ok()?..));
        let Some(rest) = rest else { return false };
        bytes = rest;
    }
    true
}

/// Whether a word of secrets stands in the first bytes.
pub fn may_be_secret(bytes: &[u8]) -> bool {
    const LOOKED_AT: usize = 4096;
    const WORDS: [&str; 10] = [
        "password",
        "passwd",
        "secret",
        "token",
        "credential",
        "api_key",
        "apikey",
        "api-key",
        "authorization",
        "private key",
    ];
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LOOKED_AT)]).to_ascii_lowercase();
    WORDS.iter().any(|word| text.contains(word))
}
