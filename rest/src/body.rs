//! Request bodies: JSON, read by hand, because the reference answers malformed ones in a way of its own.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use axum::body::Bytes;
use axum::http::StatusCode;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::{ApiError, ApiResult};

/// What the reference calls a body that is all settings.
const MAP: &str = "java.util.LinkedHashMap<java.lang.String,java.lang.String>";

/// Malformed JSON is a server error in the reference.
pub fn malformed(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message)
}

/// The members of a JSON object, in order and as they were written.
#[derive(Debug)]
pub struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut all = Vec::new();
                while let Some(member) = map.next_entry()? {
                    all.push(member);
                }
                Ok(Members(all))
            }
        }
        from.deserialize_map(Object)
    }
}

impl Members {
    /// The object in a body; `class` is the reference's name for such a request.
    ///
    /// # Errors
    /// Status 500 with the parser's words.
    pub fn of_any(body: &Bytes, class: &str) -> ApiResult<Self> {
        Self::read(&text(body)?, class)
    }

    /// The same, with no members but `known`.
    ///
    /// # Errors
    /// Status 500.
    pub fn of(body: &Bytes, class: &str, known: &[&str]) -> ApiResult<Self> {
        Self::of_any(body, class)?.only(class, known)
    }

    /// The object in a part of a body, with no members but `known`.
    ///
    /// # Errors
    /// Status 500.
    pub fn within(json: &str, class: &str, known: &[&str]) -> ApiResult<Self> {
        Self::read(json, class)?.only(class, known)
    }

    fn read(json: &str, class: &str) -> ApiResult<Self> {
        let other = |kind| malformed(format!("Cannot deserialize value of type `{class}` from {kind} value"));
        match kind(json) {
            "Object" => serde_json::from_str(json).map_err(invalid),
            // It is wrong already, whatever follows.
            "Array" => Err(other("Array")),
            kind => Err(serde_json::from_str::<Value>(json).map_or_else(invalid, |_| other(kind))),
        }
    }

    fn only(self, class: &str, known: &[&str]) -> ApiResult<Self> {
        if let Some((unknown, _)) = self.0.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            let names: Vec<String> = known.iter().map(|name| format!("\"{name}\"")).collect();
            let count = match known.len() {
                1 => "one known property".to_owned(),
                count => format!("{count} known properties"),
            };
            return Err(malformed(format!(
                "Unrecognized field \"{unknown}\" (class {class}), not marked as ignorable ({count}: {})",
                names.join(", ")
            )));
        }
        Ok(self)
    }

    /// The JSON of a member that is there and not null; of two with the same name the last.
    pub fn json(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| value.get()).filter(|json| *json != "null")
    }

    /// An optional member that has to be text.
    ///
    /// # Errors
    /// Status 500.
    pub fn text(&self, name: &str) -> ApiResult<Option<String>> {
        self.json(name).map_or(Ok(None), |json| scalar(json, &format!("member \"{name}\"")))
    }

    /// Settings of a connector: all members as text. Numbers and booleans count as the text that was written, null is kept.
    ///
    /// # Errors
    /// Status 500 for nested values.
    pub fn settings(self) -> ApiResult<BTreeMap<String, Option<String>>> {
        let read = |(key, value): (String, Box<RawValue>)| {
            let text = scalar(value.get(), &format!("setting \"{key}\""))?;
            Ok((key, text))
        };
        self.0.into_iter().map(read).collect()
    }
}

/// A body that is all settings.
///
/// # Errors
/// Status 500.
pub fn settings(body: &Bytes) -> ApiResult<BTreeMap<String, Option<String>>> {
    members(body)?.settings()
}

/// The members of a body that may have any.
///
/// # Errors
/// Status 500.
pub fn members(body: &Bytes) -> ApiResult<Members> {
    Members::of_any(body, MAP)
}

/// Settings that are a part of a body.
///
/// # Errors
/// Status 500.
pub fn settings_within(json: &str) -> ApiResult<BTreeMap<String, Option<String>>> {
    Members::read(json, MAP)?.settings()
}

/// A value as text; `None` is null.
fn scalar(json: &str, what: &str) -> ApiResult<Option<String>> {
    match kind(json) {
        "Null" => Ok(None),
        "String" => serde_json::from_str(json).map(Some).map_err(invalid),
        nested @ ("Array" | "Object") => Err(malformed(format!(
            "Cannot deserialize value of type `java.lang.String` from {nested} value ({what})"
        ))),
        _ => Ok(Some(json.to_owned())),
    }
}

/// What a JSON text is, by its first character.
fn kind(json: &str) -> &'static str {
    match json.trim_ascii_start().bytes().next() {
        Some(b'{') => "Object",
        Some(b'[') => "Array",
        Some(b'"') => "String",
        Some(b't' | b'f') => "Boolean",
        Some(b'n') => "Null",
        _ => "Number",
    }
}

fn invalid(error: impl fmt::Display) -> ApiError {
    malformed(format!("The request body is not valid JSON: {error}"))
}

/// The text of a body. JSON is UTF-8, UTF-16 or UTF-32: a byte order mark says which, or the zeros among the first four
/// bytes do, since the first two characters are ASCII.
fn text(body: &Bytes) -> ApiResult<Cow<'_, str>> {
    let sixteen = |skip: usize, read: fn([u8; 2]) -> u16| {
        let units = body[skip..].chunks(2).map(|pair| pair.try_into().map_or(0xDC00, read));
        char::decode_utf16(units).collect::<Result<String, _>>().map(Cow::Owned).map_err(|_| "UTF-16")
    };
    let thirty_two = |skip: usize, read: fn([u8; 4]) -> u32| {
        let units = body[skip..]
            .chunks(4)
            .map(|four| four.try_into().ok().and_then(|four| char::from_u32(read(four))));
        units.collect::<Option<String>>().map(Cow::Owned).ok_or("UTF-32")
    };
    let eight = |skip: usize| std::str::from_utf8(&body[skip..]).map(Cow::Borrowed).map_err(|_| "UTF-8");
    let read = match **body {
        [0xEF, 0xBB, 0xBF, ..] => eight(3),
        [0, 0, 0xFE, 0xFF, ..] => thirty_two(4, u32::from_be_bytes),
        [0xFF, 0xFE, 0, 0, ..] => thirty_two(4, u32::from_le_bytes),
        [0xFE, 0xFF, ..] => sixteen(2, u16::from_be_bytes),
        [0xFF, 0xFE, ..] => sixteen(2, u16::from_le_bytes),
        [0, 0, 0, _, ..] => thirty_two(0, u32::from_be_bytes),
        [_, 0, 0, 0, ..] => thirty_two(0, u32::from_le_bytes),
        [0, _, ..] => sixteen(0, u16::from_be_bytes),
        [_, 0, ..] => sixteen(0, u16::from_le_bytes),
        _ => eight(0),
    };
    let text = read.map_err(|encoding| invalid(format!("it is not {encoding}")))?;
    if text.trim_ascii().is_empty() {
        return Err(malformed("The request has no body, but needs a JSON document"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_bodies_are_500_as_in_the_reference() {
        for (body, part) in [
            ("", "no body"),
            (" \n", "no body"),
            ("{", "not valid JSON"),
            ("[]", "from Array value"),
            ("[[[", "from Array value"),
            ("\"a", "not valid JSON"),
            ("5", "from Number value"),
            ("null", "from Null value"),
            ("nonsense", "not valid JSON"),
            ("{} {}", "not valid JSON"),
            (r#"{"a":1}"#, "Unrecognized field \"a\""),
            (r#"{"name":1,}"#, "not valid JSON"),
        ] {
            let error = Members::of(&Bytes::from(body), "C", &["name"]).expect_err(body);
            assert_eq!(error.status, StatusCode::INTERNAL_SERVER_ERROR);
            assert!(error.message.contains(part), "{body}: {}", error.message);
        }
    }

    #[test]
    fn numbers_are_the_text_that_was_written() {
        let body =
            r#"{"a":1,"b":true,"c":null,"d":"x","e":0.10,"f":1e999,"g":123456789012345678901,"a":"2"}"#;
        let read = settings(&Bytes::from(body)).expect("valid");
        let shown: Vec<_> = read.iter().map(|(key, value)| (&**key, value.as_deref())).collect();
        let wanted = [
            ("a", Some("2")),
            ("b", Some("true")),
            ("c", None),
            ("d", Some("x")),
            ("e", Some("0.10")),
            ("f", Some("1e999")),
            ("g", Some("123456789012345678901")),
        ];
        assert_eq!(shown, wanted);
        let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(5000), "]".repeat(5000));
        for body in [r#"{"a":{}}"#, &deep] {
            let error = settings(&Bytes::from(body.to_owned())).expect_err("nested");
            assert!(error.message.starts_with("Cannot deserialize value of type `java.lang.String`"));
        }
    }

    #[test]
    fn every_encoding_of_json_is_read() {
        let json = r#"{"a":"\u00fc\u00fc\ud83d\ude00 \u4e2d"}"#.replace("\\u4e2d", "\u{4e2d}");
        let wide = |big: bool| -> Vec<u8> {
            let units = json.encode_utf16();
            units.flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
        };
        let widest = |big: bool| -> Vec<u8> {
            let units = json.chars().map(u32::from);
            units.flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
        };
        let marked = |mark: &[u8], rest: &[u8]| [mark, rest].concat();
        for body in [
            json.clone().into_bytes(),
            marked(&[0xEF, 0xBB, 0xBF], json.as_bytes()),
            wide(true),
            wide(false),
            marked(&[0xFE, 0xFF], &wide(true)),
            marked(&[0xFF, 0xFE], &wide(false)),
            widest(true),
            widest(false),
            marked(&[0, 0, 0xFE, 0xFF], &widest(true)),
            marked(&[0xFF, 0xFE, 0, 0], &widest(false)),
        ] {
            let read =
                settings(&Bytes::from(body.clone())).unwrap_or_else(|e| panic!("{body:?}: {}", e.message));
            assert_eq!(read["a"].as_deref(), Some("\u{fc}\u{fc}\u{1f600} \u{4e2d}"));
        }
        for body in [
            &[b'{', 0xFF, b'}', b' '][..],
            &[b'{', 0, 0, 0xD8],
            &[0, b'{', 0],
            &[0, 0, 0, b'{', 0, 0x11, 0, 0],
        ] {
            let error = settings(&Bytes::from(body.to_vec())).expect_err("not text");
            assert!(error.message.contains("it is not UTF-"), "{}", error.message);
        }
    }
}
