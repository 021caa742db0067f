//! Values into JSON text.

use std::io::Write as _;

use aqueduct_connect_api::data::{DATE, DECIMAL, TIME, TIMESTAMP};
use aqueduct_connect_api::{Error, Result, Schema, Struct, Type, Value};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::schema::write_schema;

/// Writes JSON text of a string.
pub fn write_text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a vector takes all that is written");
}

fn number(out: &mut Vec<u8>, number: impl std::fmt::Display) {
    write!(out, "{number}").expect("a vector takes all that is written");
}

/// The shortest digits that read back as the same float; names for what JSON has no number for.
fn float(out: &mut Vec<u8>, value: f64, digits: &str) {
    match value {
        v if v.is_nan() => write_text(out, "NaN"),
        v if v == f64::INFINITY => write_text(out, "Infinity"),
        v if v == f64::NEG_INFINITY => write_text(out, "-Infinity"),
        _ => out.extend_from_slice(digits.as_bytes()),
    }
}

fn base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
    out.push(b'"');
}

/// Writes `each` of `items` between commas.
fn list<T>(
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut each: impl FnMut(&mut Vec<u8>, T) -> Result<()>,
) -> Result<()> {
    out.push(b'[');
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        each(out, item)?;
    }
    out.push(b']');
    Ok(())
}

/// Writes a value whose schema goes with it.
///
/// # Errors
/// `Error::Data` where the value is not one of the schema's.
pub fn write_typed(out: &mut Vec<u8>, schema: &Schema, value: &Value) -> Result<()> {
    let wrong = || {
        let name = schema.name().map(|name| format!(" ({name})")).unwrap_or_default();
        let (kind, class) = (schema.kind().name(), value.class_name());
        Error::data(format!("a value of schema type {kind}{name} was expected, a {class} was found"))
    };
    match (schema.kind(), schema.name(), value) {
        (_, _, Value::Null) => out.extend_from_slice(b"null"),
        (Type::Boolean, _, Value::Boolean(v)) => number(out, v),
        (Type::Int8, _, Value::Int8(v)) => number(out, v),
        (Type::Int16, _, Value::Int16(v)) => number(out, v),
        (Type::Int32, Some(DATE), Value::Date(v)) | (Type::Int32, Some(TIME), Value::Time(v)) => {
            number(out, v);
        }
        (Type::Int32, name, Value::Int32(v)) if !matches!(name, Some(DATE | TIME)) => number(out, v),
        (Type::Int64, Some(TIMESTAMP), Value::Timestamp(v)) => number(out, v),
        (Type::Int64, name, Value::Int64(v)) if name != Some(TIMESTAMP) => number(out, v),
        (Type::Float32, _, Value::Float32(v)) => float(out, f64::from(*v), &format!("{v:?}")),
        (Type::Float64, _, Value::Float64(v)) => float(out, *v, &format!("{v:?}")),
        (Type::String, _, Value::String(v)) => write_text(out, v),
        (Type::Bytes, Some(DECIMAL), Value::Decimal(v)) => write_text(out, &v.to_string()),
        (Type::Bytes, name, Value::Bytes(v)) if name != Some(DECIMAL) => base64(out, v),
        (Type::Array, _, Value::Array(values)) => {
            let of = schema.value_schema().ok_or_else(wrong)?;
            list(out, values, |out, item| write_typed(out, of, item))?;
        }
        (Type::Map, _, Value::Map(entries)) => {
            let (keys, values) = schema.key_schema().zip(schema.value_schema()).ok_or_else(wrong)?;
            list(out, entries, |out, (key, value)| {
                out.push(b'[');
                write_typed(out, keys, key)?;
                out.push(b',');
                write_typed(out, values, value)?;
                out.push(b']');
                Ok(())
            })?;
        }
        (Type::Struct, _, Value::Struct(v)) => write_struct(out, schema, v)?,
        _ => return Err(wrong()),
    }
    Ok(())
}

fn write_struct(out: &mut Vec<u8>, schema: &Schema, value: &Struct) -> Result<()> {
    let own = value.schema();
    let same_names = || own.fields().iter().map(|f| &f.name).eq(schema.fields().iter().map(|f| &f.name));
    if !std::ptr::eq(&**own, schema) && !same_names() {
        return Err(Error::data(format!(
            "a struct of schema {} was expected, one of schema {} was found",
            schema.name().unwrap_or("without a name"),
            own.name().unwrap_or("without a name")
        )));
    }
    out.push(b'{');
    for (index, (field, member)) in schema.fields().iter().zip(value.values()).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_text(out, &field.name);
        out.push(b':');
        write_typed(out, &field.schema, member).map_err(|e| in_field(&field.name, e))?;
    }
    out.push(b'}');
    Ok(())
}

fn in_field(name: &str, error: Error) -> Error {
    Error::data(format!("field {name}: {error}"))
}

/// Writes a value that has no schema: what JSON cannot tell apart is an object of one member, which names the type.
///
/// # Errors
/// `Error::Data` where a struct inside does not fit its own schema.
pub fn write_tagged(out: &mut Vec<u8>, value: &Value) -> Result<()> {
    let tag = match value {
        Value::Null => {
            out.extend_from_slice(b"null");
            return Ok(());
        }
        Value::Boolean(v) => {
            number(out, v);
            return Ok(());
        }
        Value::Int64(v) => {
            number(out, v);
            return Ok(());
        }
        Value::String(v) => {
            write_text(out, v);
            return Ok(());
        }
        Value::Array(items) => return list(out, items, write_tagged),
        Value::Int8(_) => "int8",
        Value::Int16(_) => "int16",
        Value::Int32(_) => "int32",
        Value::Float32(_) => "float32",
        Value::Float64(_) => "float64",
        Value::Bytes(_) => "bytes",
        Value::Decimal(_) => "decimal",
        Value::Date(_) => "date",
        Value::Time(_) => "time",
        Value::Timestamp(_) => "timestamp",
        Value::Map(_) => "map",
        Value::Struct(_) => "struct",
    };
    out.push(b'{');
    write_text(out, tag);
    out.push(b':');
    match value {
        Value::Int8(v) => number(out, v),
        Value::Int16(v) => number(out, v),
        Value::Int32(v) | Value::Date(v) | Value::Time(v) => number(out, v),
        Value::Timestamp(v) => number(out, v),
        Value::Float32(v) => float(out, f64::from(*v), &format!("{v:?}")),
        Value::Float64(v) => float(out, *v, &format!("{v:?}")),
        Value::Bytes(v) => base64(out, v),
        Value::Decimal(v) => write_text(out, &v.to_string()),
        Value::Map(entries) => list(out, entries, |out, (key, value)| {
            out.push(b'[');
            write_tagged(out, key)?;
            out.push(b',');
            write_tagged(out, value)?;
            out.push(b']');
            Ok(())
        })?,
        Value::Struct(v) => {
            out.extend_from_slice(b"{\"schema\":");
            write_schema(out, v.schema())?;
            out.extend_from_slice(b",\"value\":");
            write_struct(out, v.schema(), v)?;
            out.push(b'}');
        }
        Value::Null | Value::Boolean(_) | Value::Int64(_) | Value::String(_) | Value::Array(_) => {
            unreachable!("written above")
        }
    }
    out.push(b'}');
    Ok(())
}
