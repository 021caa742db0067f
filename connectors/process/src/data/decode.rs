//! Values out of JSON text. Numbers are read from their own digits, so that none is rounded on the way.

use std::fmt::Display;
use std::str::FromStr;

use aqueduct_connect_api::data::{DATE, DECIMAL, TIME, TIMESTAMP};
use aqueduct_connect_api::{Decimal, Error, Result, Schema, SchemaRef, Struct, Type, Value};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

use super::json::{items, members};
use super::schema::read_schema;

/// Arrays, maps and structs inside each other.
const MAX_DEPTH: usize = 64;
/// Digits of a decimal, and places before or after its point.
const MAX_DIGITS: usize = 10_000;

/// Reads a value of `schema`.
///
/// # Errors
/// `Error::Data` that names the field and what was found.
pub fn typed(schema: &SchemaRef, text: &str) -> Result<Value> {
    read_typed(schema, text, 0)
}

/// Reads a value that has no schema.
///
/// # Errors
/// `Error::Data` that says what was found.
pub fn tagged(text: &str) -> Result<Value> {
    read_tagged(text, 0)
}

/// The beginning of a text, for messages.
fn start(text: &str) -> String {
    const SHOWN: usize = 40;
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

fn wrong(expected: &str, text: &str) -> Error {
    Error::data(format!("{expected} was expected, {} was found", start(text)))
}

fn string(text: &str) -> Result<String> {
    serde_json::from_str(text).map_err(|_| wrong("a string", text))
}

/// The digits of a number, which may also stand in a string.
fn integer<T: FromStr<Err: Display>>(text: &str, kind: &str) -> Result<T> {
    let digits = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
    digits.parse().map_err(|_| wrong(&format!("a number of type {kind}"), text))
}

fn float<T: FromStr + From<f32>>(text: &str, kind: &str) -> Result<T> {
    match text {
        "\"NaN\"" => Ok(f32::NAN.into()),
        "\"Infinity\"" => Ok(f32::INFINITY.into()),
        "\"-Infinity\"" => Ok(f32::NEG_INFINITY.into()),
        _ if text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => {
            text.parse().map_err(|_| wrong(&format!("a number of type {kind}"), text))
        }
        _ => Err(wrong(&format!("a number of type {kind}, \"NaN\", \"Infinity\" or \"-Infinity\""), text)),
    }
}

fn bytes(text: &str) -> Result<Value> {
    let decoded = STANDARD.decode(string(text)?).map_err(|_| wrong("base64 text of bytes", text))?;
    Ok(Value::Bytes(decoded.into()))
}

fn decimal(text: &str) -> Result<Decimal> {
    let expected = "a decimal number in a string";
    let digits = if text.starts_with('"') { string(text)? } else { text.to_owned() };
    if digits.len() > MAX_DIGITS {
        return Err(wrong(&format!("{expected} of up to {MAX_DIGITS} digits"), text));
    }
    let decimal: Decimal = digits.parse().map_err(|_| wrong(expected, text))?;
    if decimal.scale.unsigned_abs() as usize > MAX_DIGITS {
        return Err(wrong(&format!("{expected} of up to {MAX_DIGITS} places"), text));
    }
    Ok(decimal)
}

fn deeper(depth: usize) -> Result<usize> {
    if depth >= MAX_DEPTH {
        return Err(Error::data(format!("a value is nested deeper than {MAX_DEPTH}")));
    }
    Ok(depth + 1)
}

/// Key and value of a map's entry.
fn pair(text: &RawValue) -> Result<(&RawValue, &RawValue)> {
    match items(text.get()).as_deref() {
        Ok([key, value]) => Ok((key, value)),
        _ => Err(wrong("[key, value] in a map", text.get())),
    }
}

fn read_typed(schema: &SchemaRef, text: &str, depth: usize) -> Result<Value> {
    if text == "null" {
        if schema.is_optional() || schema.default_value().is_some() {
            return Ok(Value::Null);
        }
        return Err(Error::data(format!("null was found for a required {}", schema.kind().name())));
    }
    Ok(match schema.kind() {
        Type::Boolean => match text {
            "true" => Value::Boolean(true),
            "false" => Value::Boolean(false),
            _ => return Err(wrong("true or false", text)),
        },
        Type::Int8 => Value::Int8(integer(text, "INT8")?),
        Type::Int16 => Value::Int16(integer(text, "INT16")?),
        Type::Int32 => {
            let number = integer(text, "INT32")?;
            match schema.name() {
                Some(DATE) => Value::Date(number),
                Some(TIME) => Value::Time(number),
                _ => Value::Int32(number),
            }
        }
        Type::Int64 => {
            let number = integer(text, "INT64")?;
            if schema.name() == Some(TIMESTAMP) { Value::Timestamp(number) } else { Value::Int64(number) }
        }
        Type::Float32 => Value::Float32(float(text, "FLOAT32")?),
        Type::Float64 => Value::Float64(float(text, "FLOAT64")?),
        Type::String => Value::String(string(text)?.into()),
        Type::Bytes if schema.name() == Some(DECIMAL) => Value::Decimal(scaled(schema, text)?),
        Type::Bytes => bytes(text)?,
        Type::Array => {
            let depth = deeper(depth)?;
            let of = schema.value_schema().ok_or_else(|| Error::data("an array schema without items"))?;
            let all = items(text).map_err(|_| wrong("an array", text))?;
            Value::Array(
                all.into_iter().map(|item| read_typed(of, item.get(), depth)).collect::<Result<_>>()?,
            )
        }
        Type::Map => {
            let depth = deeper(depth)?;
            let of = schema.key_schema().zip(schema.value_schema());
            let (keys, values) = of.ok_or_else(|| Error::data("a map schema without keys and values"))?;
            let all = items(text).map_err(|_| wrong("an array of [key, value]", text))?;
            let entry = |item| {
                let (key, value) = pair(item)?;
                Ok((read_typed(keys, key.get(), depth)?, read_typed(values, value.get(), depth)?))
            };
            Value::Map(all.into_iter().map(entry).collect::<Result<_>>()?)
        }
        Type::Struct => read_struct(schema, text, deeper(depth)?)?,
    })
}

/// A decimal with as many places as its schema says.
fn scaled(schema: &Schema, text: &str) -> Result<Decimal> {
    let decimal = decimal(text)?;
    let Some(scale) = schema.parameter("scale").and_then(|scale| scale.parse().ok()) else {
        return Err(Error::data("a decimal schema needs its parameter \"scale\""));
    };
    decimal
        .with_scale(scale)
        .ok_or_else(|| wrong(&format!("a decimal of at most {scale} digits after the point"), text))
}

fn read_struct(schema: &SchemaRef, text: &str, depth: usize) -> Result<Value> {
    let given = members(text).map_err(|_| wrong("an object of a struct's fields", text))?;
    let mut values = vec![None; schema.fields().len()];
    for (at, (name, member)) in given.iter().enumerate() {
        // Members mostly come in the order of the fields.
        let index = match schema.fields().get(at) {
            Some(field) if *field.name == **name => at,
            _ => schema.field(name).map(|(index, _)| index).ok_or_else(|| {
                let known: Vec<&str> = schema.fields().iter().map(|f| &*f.name).take(20).collect();
                Error::data(format!(
                    "the struct has no field \"{name}\", its fields are {}",
                    known.join(", ")
                ))
            })?,
        };
        let field = &schema.fields()[index];
        let value = read_typed(&field.schema, member.get(), depth);
        values[index] = Some(value.map_err(|e| Error::data(format!("field {name}: {e}")))?);
    }
    let mut all = Vec::with_capacity(values.len());
    for (field, value) in schema.fields().iter().zip(values) {
        let may_lack = field.schema.is_optional() || field.schema.default_value().is_some();
        match value {
            Some(value) => all.push(value),
            None if may_lack => all.push(Value::Null),
            None => return Err(Error::data(format!("the required field {} is missing", field.name))),
        }
    }
    Ok(Struct::from_values(schema.clone(), all).into())
}

fn read_tagged(text: &str, depth: usize) -> Result<Value> {
    Ok(match text.as_bytes().first() {
        Some(b'n') => Value::Null,
        Some(b't') => Value::Boolean(true),
        Some(b'f') => Value::Boolean(false),
        Some(b'"') => Value::String(string(text)?.into()),
        Some(b'[') => {
            let depth = deeper(depth)?;
            let all = items(text).map_err(|_| wrong("an array", text))?;
            Value::Array(all.into_iter().map(|item| read_tagged(item.get(), depth)).collect::<Result<_>>()?)
        }
        Some(b'{') => {
            let given = members(text).map_err(|_| wrong("an object", text))?;
            let [(tag, value)] = given.as_slice() else {
                return Err(wrong(
                    "without a schema an object of one member that names the type, such as {\"map\": [[key, value]]}",
                    text,
                ));
            };
            of_tag(tag, value.get(), depth)?
        }
        _ if text.contains(['.', 'e', 'E']) => Value::Float64(float(text, "FLOAT64")?),
        _ => Value::Int64(integer(text, "INT64")?),
    })
}

fn of_tag(tag: &str, text: &str, depth: usize) -> Result<Value> {
    Ok(match tag {
        "int8" => Value::Int8(integer(text, "INT8")?),
        "int16" => Value::Int16(integer(text, "INT16")?),
        "int32" => Value::Int32(integer(text, "INT32")?),
        "int64" => Value::Int64(integer(text, "INT64")?),
        "float32" => Value::Float32(float(text, "FLOAT32")?),
        "float64" => Value::Float64(float(text, "FLOAT64")?),
        "bytes" => bytes(text)?,
        "decimal" => Value::Decimal(decimal(text)?),
        "date" => Value::Date(integer(text, "INT32")?),
        "time" => Value::Time(integer(text, "INT32")?),
        "timestamp" => Value::Timestamp(integer(text, "INT64")?),
        "map" => {
            let depth = deeper(depth)?;
            let all = items(text).map_err(|_| wrong("an array of [key, value]", text))?;
            let entry = |item| {
                let (key, value) = pair(item)?;
                Ok((read_tagged(key.get(), depth)?, read_tagged(value.get(), depth)?))
            };
            Value::Map(all.into_iter().map(entry).collect::<Result<_>>()?)
        }
        "struct" => {
            let given = members(text).map_err(|_| wrong("an object of schema and value", text))?;
            let member = |name: &str| {
                let found = given.iter().find(|(n, _)| n == name).map(|(_, member)| member.get());
                found.ok_or_else(|| Error::data(format!("a struct without a schema needs \"{name}\"")))
            };
            let schema = read_schema(member("schema")?)?;
            if schema.kind() != Type::Struct {
                return Err(Error::data(format!("a struct has a schema of type {}", schema.kind().name())));
            }
            read_struct(&schema, member("value")?, deeper(depth)?)?
        }
        other => return Err(Error::data(format!("\"{other}\" is not a type of a value"))),
    })
}
