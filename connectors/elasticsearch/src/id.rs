//! Ids of documents, and their versions.

use aqueduct_connect_api::{Error, Result, SinkRecord, Value};

/// The document's id out of the record's key: whole numbers and text.
///
/// # Errors
/// `Error::Data` for other keys, and for none.
pub fn of_key(key: &Value) -> Result<String> {
    match key {
        Value::String(text) => Ok(text.to_string()),
        Value::Int8(_) | Value::Int16(_) | Value::Int32(_) | Value::Int64(_) => Ok(key.to_string()),
        Value::Null => Err(Error::data(
            "the key is the document's id and must not be null; give the records keys, or set key.ignore=true",
        )),
        other => Err(Error::data(format!(
            "a key of type {} cannot be a document's id: it must be a whole number or text; pick a field of it with the \
             transform ExtractField$Key, or set key.ignore=true",
            other.class_name()
        ))),
    }
}

/// The id of a record whose key is ignored: where it came from, so that a replay writes the same document.
pub fn of_place(record: &SinkRecord) -> String {
    format!("{}+{}+{}", record.record.topic, record.original_partition, record.offset)
}

/// The version out of the header `name`.
///
/// # Errors
/// `Error::Data` where it is missing or no whole number.
pub fn version_in_header(record: &SinkRecord, name: &str) -> Result<i64> {
    let header = record.record.headers.iter().rev().find(|h| h.key == name).ok_or_else(|| {
        Error::data(format!(
            "the record has no header {name}, which external.version.header says holds its version"
        ))
    })?;
    let value = &header.value.value;
    value.as_i64().or_else(|| value.as_str()?.trim().parse().ok()).ok_or_else(|| {
        Error::data(format!(
            "the header {name} holds {value}, which is no version: it must be a whole number"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_numbers_or_text() {
        assert_eq!(of_key(&"a".into()).expect("text"), "a");
        assert_eq!(of_key(&Value::Int16(-5)).expect("a number"), "-5");
        for key in [Value::Null, Value::Boolean(true), Value::Map(vec![])] {
            assert!(matches!(of_key(&key), Err(Error::Data { .. })), "{key:?}");
        }
    }
}
