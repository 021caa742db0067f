//! Schemas and payloads as JSON text.

use aqueduct_connect_api::{Error, Result, Schema, SchemaRef, Type, Value};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{DecimalFormat, Options, write};

/// Name of a type in a schema's JSON.
pub(super) fn type_name(kind: Type) -> &'static str {
    match kind {
        Type::Int8 => "int8",
        Type::Int16 => "int16",
        Type::Int32 => "int32",
        Type::Int64 => "int64",
        Type::Float32 => "float",
        Type::Float64 => "double",
        Type::Boolean => "boolean",
        Type::String => "string",
        Type::Bytes => "bytes",
        Type::Array => "array",
        Type::Map => "map",
        Type::Struct => "struct",
    }
}

/// Appends `schema`; `field` is its name where it is a struct's member.
pub(super) fn schema(
    out: &mut Vec<u8>,
    schema: &SchemaRef,
    field: Option<&str>,
    options: Options,
) -> Result<()> {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(type_name(schema.kind()).as_bytes());
    out.push(b'"');
    match schema.kind() {
        Type::Array => nested(out, "items", schema.value_schema(), options)?,
        Type::Map => {
            nested(out, "keys", schema.key_schema(), options)?;
            nested(out, "values", schema.value_schema(), options)?;
        }
        Type::Struct => {
            out.extend_from_slice(b",\"fields\":[");
            for (i, member) in schema.fields().iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                self::schema(out, &member.schema, Some(&member.name), options)?;
            }
            out.push(b']');
        }
        _ => {}
    }
    out.extend_from_slice(if schema.is_optional() { b",\"optional\":true" } else { b",\"optional\":false" });
    if let Some(name) = schema.name() {
        out.extend_from_slice(b",\"name\":");
        write::string(out, name);
    }
    if let Some(version) = schema.version() {
        out.extend_from_slice(b",\"version\":");
        write::integer(out, version.into());
    }
    if let Some(doc) = schema.doc() {
        out.extend_from_slice(b",\"doc\":");
        write::string(out, doc);
    }
    if !schema.parameters().is_empty() {
        out.extend_from_slice(b",\"parameters\":{");
        for (i, (name, value)) in schema.parameters().iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            write::string(out, name);
            out.push(b':');
            write::string(out, value);
        }
        out.push(b'}');
    }
    if let Some(default) = schema.default_value() {
        out.extend_from_slice(b",\"default\":");
        payload(out, Some(schema), default, options)?;
    }
    if let Some(field) = field {
        out.extend_from_slice(b",\"field\":");
        write::string(out, field);
    }
    out.push(b'}');
    Ok(())
}

fn nested(out: &mut Vec<u8>, member: &str, of: Option<&SchemaRef>, options: Options) -> Result<()> {
    out.push(b',');
    write::string(out, member);
    out.push(b':');
    match of {
        Some(of) => schema(out, of, None, options),
        None => {
            out.extend_from_slice(b"null");
            Ok(())
        }
    }
}

/// Appends `value`.
///
/// # Errors
/// `Error::Data` where the value is not one of the schema's.
pub(super) fn payload(
    out: &mut Vec<u8>,
    of: Option<&SchemaRef>,
    value: &Value,
    options: Options,
) -> Result<()> {
    if value.is_null() {
        return null(out, of, options);
    }
    match value {
        Value::Null => {}
        Value::Boolean(v) => out.extend_from_slice(if *v { b"true" } else { b"false" }),
        Value::Int8(v) => write::integer(out, (*v).into()),
        Value::Int16(v) => write::integer(out, (*v).into()),
        Value::Int32(v) => write::integer(out, (*v).into()),
        Value::Int64(v) => write::integer(out, *v),
        Value::Date(v) | Value::Time(v) if of.is_some() => write::integer(out, (*v).into()),
        Value::Timestamp(v) if of.is_some() => write::integer(out, *v),
        Value::Float32(v) => float(out, v.is_finite(), value),
        Value::Float64(v) => float(out, v.is_finite(), value),
        Value::String(text) => write::string(out, text),
        Value::Bytes(bytes) => base64(out, bytes),
        Value::Decimal(decimal) if of.is_some() => match options.decimals {
            DecimalFormat::Numeric => write::display(out, decimal),
            DecimalFormat::Base64 => base64(out, &decimal.to_bytes()),
        },
        Value::Array(items) => {
            let of = of.and_then(|s| s.value_schema());
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                payload(out, of, item, options)?;
            }
            out.push(b']');
        }
        Value::Map(entries) => map(out, of, entries, options)?,
        Value::Struct(members) => {
            if of.is_none_or(|s| !std::sync::Arc::ptr_eq(s, members.schema()) && **s != **members.schema()) {
                return Err(Error::data("Mismatching schema."));
            }
            out.push(b'{');
            for (i, (field, member)) in members.schema().fields().iter().zip(members.values()).enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write::string(out, &field.name);
                out.push(b':');
                payload(out, Some(&field.schema), member, options).map_err(|e| in_field(&field.name, e))?;
            }
            out.push(b'}');
        }
        Value::Date(_) | Value::Time(_) | Value::Timestamp(_) | Value::Decimal(_) => {
            return Err(Error::data(format!(
                "Java class {} does not have corresponding schema type.",
                value.class_name()
            )));
        }
    }
    if let Some(schema) = of {
        check_kind(schema, value)?;
    }
    Ok(())
}

fn in_field(name: &str, error: Error) -> Error {
    Error::data(format!("field \"{name}\": {error}"))
}

/// A scalar must be of its schema's type; containers have checked their members.
fn check_kind(schema: &Schema, value: &Value) -> Result<()> {
    let fits = matches!(
        (value, schema.kind()),
        (Value::Boolean(_), Type::Boolean)
            | (Value::Int8(_), Type::Int8)
            | (Value::Int16(_), Type::Int16)
            | (Value::Int32(_) | Value::Date(_) | Value::Time(_), Type::Int32)
            | (Value::Int64(_) | Value::Timestamp(_), Type::Int64)
            | (Value::Float32(_), Type::Float32)
            | (Value::Float64(_), Type::Float64)
            | (Value::String(_), Type::String)
            | (Value::Bytes(_) | Value::Decimal(_), Type::Bytes)
            | (Value::Array(_), Type::Array)
            | (Value::Map(_), Type::Map)
            | (Value::Struct(_), Type::Struct)
    );
    if fits {
        return Ok(());
    }
    Err(Error::data(format!("Invalid type for {}: class {}", schema.kind().name(), value.class_name())))
}

fn null(out: &mut Vec<u8>, of: Option<&SchemaRef>, options: Options) -> Result<()> {
    let Some(schema) = of else {
        out.extend_from_slice(b"null");
        return Ok(());
    };
    if let Some(default) =
        schema.default_value().filter(|d| options.replace_null_with_default && !d.is_null())
    {
        return payload(out, of, default, options);
    }
    if !schema.is_optional() {
        return Err(Error::data(
            "Conversion error: null value for field that is required and has no default value",
        ));
    }
    out.extend_from_slice(b"null");
    Ok(())
}

/// Numbers as Java prints them; what is no number is quoted.
fn float(out: &mut Vec<u8>, is_finite: bool, value: &Value) {
    if is_finite {
        write::display(out, value);
    } else {
        write::string(out, &value.to_string());
    }
}

fn base64(out: &mut Vec<u8>, bytes: &[u8]) {
    write::string(out, &STANDARD.encode(bytes));
}

/// A map is an object where all keys are strings, else an array of pairs.
fn map(
    out: &mut Vec<u8>,
    of: Option<&SchemaRef>,
    entries: &[(Value, Value)],
    options: Options,
) -> Result<()> {
    let (keys, values) = (of.and_then(|s| s.key_schema()), of.and_then(|s| s.value_schema()));
    let as_object = match keys {
        Some(keys) => keys.kind() == Type::String,
        None => entries.iter().all(|(k, _)| matches!(k, Value::String(_))),
    };
    out.push(if as_object { b'{' } else { b'[' });
    for (i, (key, value)) in entries.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        if as_object {
            let Some(key) = key.as_str() else {
                return Err(Error::data(format!(
                    "Invalid type for STRING map key: class {}",
                    key.class_name()
                )));
            };
            write::string(out, key);
            out.push(b':');
            payload(out, values, value, options)?;
        } else {
            out.push(b'[');
            payload(out, keys, key, options)?;
            out.push(b',');
            payload(out, values, value, options)?;
            out.push(b']');
        }
    }
    out.push(if as_object { b'}' } else { b']' });
    Ok(())
}
