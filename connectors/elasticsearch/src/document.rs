//! Values as JSON, written straight into a request's body, byte for byte as the reference writes them.

use std::fmt::Write as _;

use aqueduct_connect_api::data::DECIMAL;
use aqueduct_connect_api::{Error, Result, Schema, Type, Value};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What the settings say about the form.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// `schema.ignore`: data as the JSON converter has it, with decimals as base64 of their bytes.
    pub ignore_schema: bool,
    /// `compact.map.entries`: maps with text keys are objects, not lists of `{"key":…,"value":…}`.
    pub compact_maps: bool,
}

/// Adds `value` to `out`.
///
/// # Errors
/// `Error::Data` where a required member is null.
pub fn write(out: &mut Vec<u8>, schema: Option<&Schema>, value: &Value, form: Form) -> Result<()> {
    match value {
        Value::Null => match schema {
            Some(schema) => match schema.default_value() {
                Some(default) if !default.is_null() => write(out, None, default, form)?,
                _ if schema.is_optional() => out.extend_from_slice(b"null"),
                _ => {
                    return Err(Error::data(format!(
                        "null in a required field of type {}",
                        schema.kind().name()
                    )));
                }
            },
            None => out.extend_from_slice(b"null"),
        },
        Value::Boolean(v) => out.extend_from_slice(if *v { b"true" } else { b"false" }),
        Value::Int8(_) | Value::Int16(_) | Value::Int32(_) | Value::Int64(_) => {
            number(out, value.as_i64().unwrap_or_default());
        }
        Value::Date(v) | Value::Time(v) => number(out, i64::from(*v)),
        Value::Timestamp(v) => number(out, *v),
        Value::Float32(v) => float(out, value, v.is_finite()),
        Value::Float64(v) => float(out, value, v.is_finite()),
        Value::String(text) => string(out, text),
        Value::Bytes(bytes) => base64(out, bytes),
        Value::Decimal(decimal) => {
            let as_bytes =
                form.ignore_schema && schema.and_then(Schema::name).is_none_or(|name| name == DECIMAL);
            if as_bytes {
                base64(out, &decimal.to_bytes());
            } else {
                let double = decimal.to_f64();
                float(out, &Value::Float64(double), double.is_finite());
            }
        }
        Value::Array(items) => {
            let of = schema.and_then(Schema::value_schema);
            separated(out, b'[', b']', items, |out, item| write(out, of.map(|s| &**s), item, form))?;
        }
        Value::Map(entries) => map(out, schema, entries, form)?,
        Value::Struct(row) => {
            let members = row.schema().fields().iter().zip(row.values());
            separated(out, b'{', b'}', members, |out, (field, value)| {
                string(out, &field.name);
                out.push(b':');
                write(out, Some(&*field.schema), value, form).map_err(|e| match e {
                    Error::Data { message, .. } => Error::data(format!("field {}: {message}", field.name)),
                    other => other,
                })
            })?;
        }
    }
    Ok(())
}

fn map(out: &mut Vec<u8>, schema: Option<&Schema>, entries: &[(Value, Value)], form: Form) -> Result<()> {
    let (keys, values) = (schema.and_then(Schema::key_schema), schema.and_then(Schema::value_schema));
    let text_keys = match keys {
        Some(keys) => keys.kind() == Type::String && !keys.is_optional(),
        None => entries.iter().all(|(key, _)| key.as_str().is_some()),
    };
    let with_schema = schema.is_some() && !form.ignore_schema;
    if text_keys && (form.compact_maps || !with_schema) {
        return separated(out, b'{', b'}', entries, |out, (key, value)| {
            string(out, key.as_str().unwrap_or_default());
            out.push(b':');
            write(out, values.map(|s| &**s), value, form)
        });
    }
    separated(out, b'[', b']', entries, |out, (key, value)| {
        out.extend_from_slice(if with_schema { b"{\"key\":" } else { b"[" });
        write(out, keys.map(|s| &**s), key, form)?;
        out.extend_from_slice(if with_schema { b",\"value\":" } else { b"," });
        write(out, values.map(|s| &**s), value, form)?;
        out.push(if with_schema { b'}' } else { b']' });
        Ok(())
    })
}

fn separated<T>(
    out: &mut Vec<u8>,
    open: u8,
    close: u8,
    items: impl IntoIterator<Item = T>,
    mut each: impl FnMut(&mut Vec<u8>, T) -> Result<()>,
) -> Result<()> {
    out.push(open);
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        each(out, item)?;
    }
    out.push(close);
    Ok(())
}

/// Adds a whole number.
pub fn number(out: &mut Vec<u8>, value: i64) {
    let mut text = Digits::default();
    write!(text, "{value}").expect("20 bytes hold any number");
    out.extend_from_slice(&text.bytes[..text.length]);
}

/// Numbers without an allocation.
#[derive(Default)]
struct Digits {
    bytes: [u8; 20],
    length: usize,
}

impl std::fmt::Write for Digits {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.length + text.len();
        self.bytes.get_mut(self.length..end).ok_or(std::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

/// Java's form of a float; what is no number is text.
fn float(out: &mut Vec<u8>, value: &Value, finite: bool) {
    if finite {
        out.extend_from_slice(value.to_string().as_bytes());
    } else {
        string(out, &value.to_string());
    }
}

fn base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
    out.push(b'"');
}

/// Adds text in quotes.
pub fn string(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut plain = 0;
    for (i, byte) in bytes.iter().enumerate() {
        let short = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            8 => b'b',
            12 => b'f',
            0..=31 => b'u',
            _ => continue,
        };
        out.extend_from_slice(&bytes[plain..i]);
        out.extend_from_slice(&[b'\\', short]);
        if short == b'u' {
            out.extend_from_slice(&[b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        plain = i + 1;
    }
    out.extend_from_slice(&bytes[plain..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use aqueduct_connect_api::{Decimal, Struct};
    use bytes::Bytes;

    const FORM: Form = Form { ignore_schema: false, compact_maps: true };

    fn json(schema: Option<&Schema>, value: &Value, form: Form) -> String {
        let mut out = Vec::new();
        write(&mut out, schema, value, form).expect("fits");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn values_are_written_as_the_reference_does() {
        for (value, expected) in [
            (Value::Null, "null"),
            (Value::Int64(i64::MIN), "-9223372036854775808"),
            (Value::Float64(1e7), "1.0E7"),
            (Value::Float32(0.1), "0.1"),
            (Value::Float64(f64::NAN), "\"NaN\""),
            ("a\"\\\n\u{1f}ü/".into(), "\"a\\\"\\\\\\n\\u001Fü/\""),
            (Value::Bytes(Bytes::from_static(&[0, 255])), "\"AP8=\""),
            (Value::Timestamp(-1), "-1"),
            (Value::Array(vec![1.into(), Value::Null]), "[1,null]"),
            (Value::Map(vec![("k".into(), 1.into())]), "{\"k\":1}"),
            (Value::Map(vec![(1.into(), 2.into())]), "[[1,2]]"),
        ] {
            assert_eq!(json(None, &value, FORM), expected);
        }
    }

    #[test]
    fn decimals_and_maps_follow_the_settings() {
        let decimal = Value::Decimal(Decimal::new(1250, 2));
        let schema = Schema::decimal_builder(2).build();
        assert_eq!(json(Some(&schema), &decimal, FORM), "12.5");
        assert_eq!(json(Some(&schema), &decimal, Form { ignore_schema: true, ..FORM }), "\"BOI=\"");
        let text_map = Schema::map_builder(Schema::of(Type::String), Schema::of(Type::Int32)).build();
        let value = Value::Map(vec![("k".into(), 1.into())]);
        assert_eq!(json(Some(&text_map), &value, FORM), "{\"k\":1}");
        assert_eq!(
            json(Some(&text_map), &value, Form { compact_maps: false, ..FORM }),
            "[{\"key\":\"k\",\"value\":1}]"
        );
        let number_map = Schema::map_builder(Schema::of(Type::Int32), Schema::of(Type::Int32)).build();
        let value = Value::Map(vec![(7.into(), 1.into())]);
        assert_eq!(json(Some(&number_map), &value, FORM), "[{\"key\":7,\"value\":1}]");
    }

    #[test]
    fn nulls_become_defaults_where_there_are_any() {
        let schema = Schema::struct_builder("s")
            .field("a", Schema::optional_of(Type::Int32))
            .field("b", Schema::builder(Type::Int32).default_value(5.into()).build())
            .field("c", Schema::of(Type::Int32))
            .build();
        let mut row = Struct::new(schema.clone());
        let mut out = Vec::new();
        let error = write(&mut out, Some(&schema), &row.clone().into(), FORM).expect_err("c is required");
        assert!(error.to_string().contains("field c"), "{error}");
        row.put("c", 1).expect("fits");
        assert_eq!(json(Some(&schema), &row.into(), FORM), "{\"a\":null,\"b\":5,\"c\":1}");
    }
}
