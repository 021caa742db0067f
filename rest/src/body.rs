//! Request bodies: JSON, read by hand, because the reference answers malformed ones in a way of its own.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::http::StatusCode;
use serde_json::{Map, Value};

use crate::error::{ApiError, ApiResult};

/// Malformed JSON is a server error in the reference.
fn malformed(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message)
}

/// The JSON in a body.
///
/// # Errors
/// Status 500 with the parser's words.
pub fn json(body: &Bytes) -> ApiResult<Value> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(malformed("The request has no body, but needs a JSON document"));
    }
    serde_json::from_slice(body).map_err(|e| malformed(format!("The request body is not valid JSON: {e}")))
}

/// The JSON object in a body, with no members but `known`; `class` is the reference's name for such a request.
///
/// # Errors
/// Status 500.
pub fn object(body: &Bytes, class: &str, known: &[&str]) -> ApiResult<Map<String, Value>> {
    let members = any_object(body, class)?;
    if let Some(unknown) = members.keys().find(|name| !known.contains(&name.as_str())) {
        let names: Vec<String> = known.iter().map(|name| format!("\"{name}\"")).collect();
        let count = if known.len() == 1 {
            "one known property".to_owned()
        } else {
            format!("{} known properties", known.len())
        };
        return Err(malformed(format!(
            "Unrecognized field \"{unknown}\" (class {class}), not marked as ignorable ({count}: {})",
            names.join(", ")
        )));
    }
    Ok(members)
}

fn any_object(body: &Bytes, class: &str) -> ApiResult<Map<String, Value>> {
    match json(body)? {
        Value::Object(members) => Ok(members),
        other => {
            Err(malformed(format!("Cannot deserialize value of type `{class}` from {} value", kind(&other))))
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "Null",
        Value::Bool(_) => "Boolean",
        Value::Number(_) => "Number",
        Value::String(_) => "String",
        Value::Array(_) => "Array",
        Value::Object(_) => "Object",
    }
}

/// Settings of a connector: a JSON object of texts; numbers and booleans count as text, null is kept.
///
/// # Errors
/// Status 500 for nested values.
pub fn settings(members: Map<String, Value>) -> ApiResult<BTreeMap<String, Option<String>>> {
    members
        .into_iter()
        .map(|(key, value)| {
            let text = match value {
                Value::Null => None,
                Value::String(text) => Some(text),
                Value::Bool(b) => Some(b.to_string()),
                Value::Number(n) => Some(n.to_string()),
                nested => {
                    return Err(malformed(format!(
                        "Cannot deserialize value of type `java.lang.String` from {} value (setting \"{key}\")",
                        kind(&nested)
                    )));
                }
            };
            Ok((key, text))
        })
        .collect()
}

/// The members of a body that may have any.
///
/// # Errors
/// Status 500.
pub fn members(body: &Bytes) -> ApiResult<Map<String, Value>> {
    any_object(body, "java.util.LinkedHashMap<java.lang.String,java.lang.String>")
}

/// A body that is all settings.
///
/// # Errors
/// Status 500.
pub fn settings_body(body: &Bytes) -> ApiResult<BTreeMap<String, Option<String>>> {
    settings(any_object(body, "java.util.LinkedHashMap<java.lang.String,java.lang.String>")?)
}

/// An optional member that has to be text.
///
/// # Errors
/// Status 500.
pub fn text(members: &Map<String, Value>, name: &str) -> ApiResult<Option<String>> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Number(n)) => Ok(Some(n.to_string())),
        Some(Value::Bool(b)) => Ok(Some(b.to_string())),
        Some(other) => Err(malformed(format!(
            "Cannot deserialize value of type `java.lang.String` from {} value (member \"{name}\")",
            kind(other)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_bodies_are_500_as_in_the_reference() {
        for (body, part) in [
            ("", "no body"),
            ("{", "not valid JSON"),
            ("[]", "from Array value"),
            (r#"{"a":1}"#, "Unrecognized field \"a\""),
        ] {
            let error = object(&Bytes::from(body), "C", &["name"]).expect_err(body);
            assert_eq!(error.status, StatusCode::INTERNAL_SERVER_ERROR);
            assert!(error.message.contains(part), "{}", error.message);
        }
        let read = settings_body(&Bytes::from(r#"{"a":1,"b":true,"c":null,"d":"x"}"#)).expect("valid");
        assert_eq!(read["a"].as_deref(), Some("1"));
        assert_eq!(read["c"], None);
        assert!(settings_body(&Bytes::from(r#"{"a":{}}"#)).is_err());
    }
}
